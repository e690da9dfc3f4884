"""The byte rules of ``teeverify/1``'s binding (docs/protocol.md).

All widths are fixed, so that no boundary can move, and every hash begins with a tag of its own.
Integers are big-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from teeverify.binding.keys import SigningKey
from teeverify.encoding.reader import Reader
from teeverify.errors import BindingMismatch, MalformedEvidence

__all__ = ["BINDING_BYTES", "TAG", "Device", "Process", "challenge_of", "nonce_of", "read_binding"]

ID = "binding.report-data"
TAG = b"teeverify/1"
BINDING_BYTES = 262
_BIND, _DEVICES, _EVIDENCE = b"teeverify/1 bind", b"teeverify/1 devs", b"teeverify/1 gpue"
_GPU_NONCE, _INSTANCE = b"teeverify/1 gpun", b"teeverify/1 inst"
_NONCE, _CHALLENGE = b"teeverify/1 nonc", b"teeverify/1 chal"
_SECP256K1, _ED25519, _TLS, _HPKE, _GPUS = (1 << bit for bit in range(5))
_ALL_FLAGS = 0b11111
_KINDS = (1, 2)
_HASH, _ADDRESS = 32, 20
_NO_BEACON = bytes(_HASH)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Device:
    """One GPU or NVSwitch.

    Attributes:
        kind: 1 for a GPU, 2 for a switch.
        certificate_sha256: Hash of its leaf certificate's DER.
        evidence_sha256: Hash of SPDM request and response, as bytes in a row; empty before it was
            asked.
    """

    kind: int
    certificate_sha256: bytes
    evidence_sha256: bytes = b""

    @property
    def name(self) -> bytes:
        """Kind and certificate, 33 bytes: by these devices are ordered."""
        return self.kind.to_bytes(1, "big") + self.certificate_sha256


@dataclass(frozen=True, kw_only=True)
class Process:
    """What one process of the server binds, beside the nonce: its keys, configuration, devices.

    Attributes:
        address: The 20-byte address of its secp256k1 key.
        ed25519: Its Ed25519 key, 32 bytes.
        tls_spki_sha256: Hash of its TLS key's SubjectPublicKeyInfo.
        hpke_key: Its X25519 key.
        config: The exact bytes of its configuration.
        devices: Its devices, strictly ascending by :attr:`Device.name`.

    Raises:
        BindingMismatch: No signing key, a field of zeros or of another size, or devices that are
            not in order: the rules have no bytes for these.
    """

    address: bytes | None = None
    ed25519: bytes | None = None
    tls_spki_sha256: bytes | None = None
    hpke_key: bytes | None = None
    config: bytes
    devices: tuple[Device, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be written down in one way only."""
        sizes = (_ADDRESS, _HASH, _HASH, _HASH)
        for value, size in zip(self._optional, sizes, strict=True):
            if value is not None and (len(value) != size or not any(value)):
                _refuse("a key has another size, or is all zeros", value.hex(), f"{size} bytes")
        if self.address is None and self.ed25519 is None:
            _refuse("it binds no signing key", "none", "secp256k1 or Ed25519")
        names = [device.name for device in self.devices]
        if len(set(names)) < len(names):
            raise BindingMismatch(
                "one device is presented as two",
                id="gpu.distinct",
                got=f"{len(names)} devices, {len(set(names))} different certificates",
            )
        if names != sorted(names):
            _refuse("the devices are not in ascending order", "", "an order")
        if any(
            device.kind not in _KINDS or len(device.certificate_sha256) != _HASH
            for device in self.devices
        ):
            _refuse("a device of an unknown kind", "", "1 or 2")

    @property
    def _optional(self) -> tuple[bytes | None, ...]:
        return self.address, self.ed25519, self.tls_spki_sha256, self.hpke_key

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The keys that sign answers: each of them signs each statement."""
        found = []
        if self.address is not None:
            found.append(SigningKey("ecdsa", self.address))
        if self.ed25519 is not None:
            found.append(SigningKey("ed25519", self.ed25519))
        return tuple(found)

    @property
    def flags(self) -> int:
        """Which fields are there."""
        bits = (_SECP256K1, _ED25519, _TLS, _HPKE)
        there = sum(
            bit for bit, value in zip(bits, self._optional, strict=True) if value is not None
        )
        return there | (_GPUS if self.devices else 0)

    @property
    def device_set(self) -> bytes:
        """The hash of all devices; zeros where there is none."""
        if not self.devices:
            return bytes(_HASH)
        return _hash(
            _DEVICES, _count(self.devices), b"".join(device.name for device in self.devices)
        )

    @property
    def gpu_evidence(self) -> bytes:
        """The hash of all devices' evidence; zeros where there is no device."""
        if not self.devices:
            return bytes(_HASH)
        if any(len(device.evidence_sha256) != _HASH for device in self.devices):
            _refuse("a device has shown no evidence", "none", "evidence of each")
        parts = b"".join(device.name + device.evidence_sha256 for device in self.devices)
        return _hash(_EVIDENCE, _count(self.devices), parts)

    @cached_property
    def mid(self) -> bytes:
        """The 182 bytes that stay the same in every attestation of this process."""
        sizes = (_ADDRESS, _HASH, _HASH, _HASH)
        fields = [value or bytes(size) for value, size in zip(self._optional, sizes, strict=True)]
        config = hashlib.sha256(self.config).digest()
        return b"".join([self.flags.to_bytes(2, "big"), *fields, config, self.device_set])

    @cached_property
    def instance(self) -> bytes:
        """The name of this process: of its keys, configuration and devices, and of no nonce."""
        return _hash(_INSTANCE, self.mid)

    def gpu_nonce(self, nonce: bytes) -> bytes:
        """The nonce that all its devices answer.

        It follows from this process's keys, so that no other machine asks its devices for it.
        """
        return _hash(_GPU_NONCE, _sized(nonce), self.mid)

    def binding(self, nonce: bytes) -> bytes:
        """The 262 bytes whose hash is in the quote."""
        return _BIND + _sized(nonce) + self.mid + self.gpu_evidence

    def report_data(self, nonce: bytes) -> bytes:
        """All 64 bytes of ``report_data``."""
        hashed = hashlib.sha256(self.binding(nonce)).digest()
        return hashed + TAG.ljust(_HASH, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The fields of a served binding. Nothing in it is believed: it is rebuilt, and compared.

    Attributes:
        nonce: The nonce that it says it answers.
        address: Address of the secp256k1 key; ``None`` where the flag is clear.
        ed25519: The Ed25519 key; ``None`` where the flag is clear.
        tls_spki_sha256: Hash of the TLS key; ``None`` where the flag is clear.
        hpke_key: The X25519 key; ``None`` where the flag is clear.
    """

    nonce: bytes
    address: bytes | None
    ed25519: bytes | None
    tls_spki_sha256: bytes | None
    hpke_key: bytes | None


def read_binding(raw: bytes, *, id: str) -> Binding:
    """Take a served binding apart.

    Raises:
        MalformedEvidence: Another size, tag or version, unknown flags, or a field that contradicts
            its flag.
    """
    reader = Reader(raw, name="binding", id=id)
    tag = reader.take(len(_BIND), "tag")
    nonce = reader.take(_HASH, "nonce")
    flags = int.from_bytes(reader.take(2, "flags"), "big")
    if tag != _BIND or flags & ~_ALL_FLAGS:
        raise MalformedEvidence(
            "binding: another version, or unknown flags",
            id=id,
            field="binding.tag" if tag != _BIND else "binding.flags",
            got=f"{tag!r} {flags:#06x}"[:80],
            want=repr(_BIND),
        )
    fields = []
    names = (
        ("secp256k1", _ADDRESS, _SECP256K1),
        ("ed25519", _HASH, _ED25519),
        ("tls", _HASH, _TLS),
        ("hpke", _HASH, _HPKE),
    )
    for name, size, flag in names:
        value = reader.take(size, name)
        if any(value) != bool(flags & flag):
            raise MalformedEvidence(
                f"binding.{name}: it contradicts its flag", id=id, field=f"binding.{name}"
            )
        fields.append(value if flags & flag else None)
    reader.take(_HASH, "config")
    devices, evidence = reader.take(_HASH, "devices"), reader.take(_HASH, "evidence")
    reader.finish()
    if {any(devices), any(evidence)} != {bool(flags & _GPUS)}:
        raise MalformedEvidence(
            "binding.devices: it contradicts its flag", id=id, field="binding.devices"
        )
    address, ed25519, tls, hpke = fields
    return Binding(
        nonce=nonce, address=address, ed25519=ed25519, tls_spki_sha256=tls, hpke_key=hpke
    )


def nonce_of(random: bytes, beacon: bytes = _NO_BEACON) -> bytes:
    """The nonce of a question, which shows that it was not made before the beacon was known."""
    return _hash(_NONCE, _sized(random), _sized(beacon))


def challenge_of(random: bytes, attestation_sha256: bytes, beacon: bytes = _NO_BEACON) -> bytes:
    """The challenge of a request, which follows from the attestation under which it is sent."""
    return _hash(_CHALLENGE, _sized(random), _sized(attestation_sha256), _sized(beacon))


def _sized(value: bytes) -> bytes:
    if len(value) != _HASH:
        _refuse("a value that must have 32 bytes has not", f"{len(value)} bytes", "32 bytes")
    return value


def _count(devices: Sequence[Device]) -> bytes:
    return len(devices).to_bytes(2, "big")


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _refuse(what: str, got: str, want: str) -> NoReturn:
    raise BindingMismatch(f"teeverify/1: {what}", id=ID, got=got, want=want)
