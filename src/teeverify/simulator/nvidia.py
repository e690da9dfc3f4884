"""A fake NVIDIA: device certificates, GPUs and NVSwitches that sign reports, and an NRAS.

What it makes has the form of the real thing, signed under random roots. Each field of a report and
of a certificate can be overridden alone, so that a test breaks exactly one thing.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.clock import UTC
from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import Authority
from teeverify.simulator.nras import FakeNras
from teeverify.simulator.spdm import ABSENT, ReportContent, ReportForm

__all__ = ["ABSENT", "Nvidia", "ReportForm", "SimulatedDevice"]

Chip: TypeAlias = Literal["GH100", "GB100", "GB20X", "LS_10"]
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_BORN = datetime(2020, 10, 17, tzinfo=UTC)
_DEVICE_INFO = "1.3.6.1.4.1.412.274.1"  # DMTF DSP0274 1.1 table 33
_COMPOSITE_ID = "2.23.133.5.4.1"
_TCB_INFO = "2.23.133.5.4.1.1"
_SHA384 = bytes.fromhex("0609608648016503040202")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What differs from chip to chip."""

    arch: str
    engine: str
    provisioner: str
    identity: str
    blocks: int
    opaque: Mapping[int, bytes]


def _gpu_opaque(project: bytes, sku: bytes, chip_sku: bytes, vbios: str) -> dict[int, bytes]:
    """The opaque items that a GPU's report carries, in the order of the real ones."""
    return {
        6: bytes.fromhex(vbios) + bytes(3),
        14: bytes.fromhex("74298001"),
        15: chip_sku.ljust(4, b"\0"),
        16: b"0\0",
        17: project + b"\0",
        18: sku + b"\0",
        19: b"0\0",
        3: b"570.172.08\0",
        4: bytes.fromhex("8001000002000000"),
        12: bytes(256),
        13: bytes(4),
        11: b"\x55",
        21: b"\x55",
        34: b"\x01\x00",
        36: b"\x00\x00",
    }


_MODELS: Mapping[str, _Model] = {
    "GH100": _Model(
        arch="HOPPER",
        engine="GSP",
        provisioner="NVIDIA GH100 Provisioner ICA 1",
        identity="NVIDIA GH100 Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G520", b"0280", b"895", "00cf009602"),
    ),
    "GB100": _Model(
        arch="BLACKWELL",
        engine="GSP",
        provisioner="NVIDIA GB100 Provisioner ICA 00000",
        identity="NVIDIA GB100 Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G525", b"0220", b"886", "008800970f"),
    ),
    "GB20X": _Model(
        arch="BLACKWELL",
        engine="GSP",
        provisioner="NVIDIA GB202 Provisioner ICA 00000",
        identity="NVIDIA GB20X Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G153", b"0210", b"895", "0081029801") | {35: b"GB202\0"},
    ),
    "LS_10": _Model(
        arch="LS10",
        engine="FSP",
        provisioner="NVIDIA LS_10 Provisioner ICA 1",
        identity="NVIDIA GH100 Identity",
        blocks=31,
        opaque={6: b"96.10.55.00.01", 12: bytes(104), 22: bytes(8), 25: b"\x01\x00"},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _CertificateForm:
    """What can be set wrong in a device's certificates.

    ``leaf``, ``brom``, ``provisioner`` and ``identity`` are arguments of
    :meth:`~teeverify.simulator.authority.Authority.issue`; ``root`` is another root; ``fwids`` and
    ``fwid_extension`` replace the firmware identity of the leaf (or its whole extension);
    ``chain`` replaces the PEM bundle.
    """

    leaf: Mapping[str, Any] = field(default_factory=dict)
    brom: Mapping[str, Any] = field(default_factory=dict)
    provisioner: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    root: Authority | None = None
    san: str | None = None
    san_extension: bytes | None = None
    fwids: Sequence[bytes] | None = None
    fwid_extension: bytes | None = None
    chain: bytes | None = None


class SimulatedDevice:
    """One fake GPU or NVSwitch with keys and measurements of its own.

    Args:
        vendor: Who certifies it.
        chip: Which chip it is.
        index: Which of these chips it is; the same index is the same device.
    """

    def __init__(self, vendor: Nvidia, chip: Chip, index: int) -> None:
        self.vendor = vendor
        self.chip = chip
        self.index = index
        self.model = _MODELS[chip]
        self.fwid = secrets.token_bytes(48)
        self.measurements = tuple(secrets.token_bytes(48) for _ in range(self.model.blocks))
        self.authorities = self.certify(_CertificateForm())

    @property
    def leaf(self) -> Authority:
        """The attestation key and its certificate."""
        return self.authorities[0]

    @property
    def ueid(self) -> str:
        """The serial number of the leaf, in decimal."""
        return str(self.leaf.certificate.serial_number)

    def evidence(self, nonce: bytes | str, /, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401
        """Make evidence as NVIDIA's tools write it.

        Args:
            nonce: The requester's 32 bytes, or their hex.
            **overrides: Fields of :class:`ReportForm`, fields of the certificates (``leaf``,
                ``san``, ``fwids``...), or members of the entry itself (``arch``, ``evidence``...);
                ``None`` leaves such a member out.

        Raises:
            ConfigurationError: An override that does not exist.
        """
        entry = {"arch": self.model.arch, "certificate": "", "evidence": ""}
        report = {k: overrides.pop(k) for k in _names(ReportForm) & overrides.keys()}
        chain = {k: overrides.pop(k) for k in _names(_CertificateForm) & overrides.keys()}
        unknown = overrides.keys() - entry.keys() - {"nonce", "driver_version", "vbios_version"}
        if unknown:
            raise ConfigurationError("no such override", id="usage.simulator", got=str(unknown))
        raw_nonce = bytes.fromhex(nonce) if isinstance(nonce, str) else nonce
        form = _CertificateForm(**chain)
        raw = ReportForm(**report).build(self._content(), raw_nonce)
        pem = self.pem(form) if form.chain is None else form.chain
        entry["evidence"] = base64.b64encode(raw).decode("ascii")
        entry["certificate"] = base64.b64encode(pem).decode("ascii")
        return {k: v for k, v in (entry | overrides).items() if v is not None}

    def _content(self) -> ReportContent:
        opaque = dict(self.model.opaque)
        if self.model.engine == "GSP":
            opaque[20] = self.fwid
        return ReportContent(measurements=self.measurements, opaque=opaque, key=self.leaf.key)

    def pem(self, form: _CertificateForm | None = None) -> bytes:
        """The five certificates, leaf first."""
        changed = form is not None and form != _CertificateForm()
        authorities = self.certify(form) if form and changed else self.authorities
        return b"".join(authority.pem for authority in authorities)

    def certify(self, form: _CertificateForm) -> tuple[Authority, ...]:
        """Issue the chain; the device keeps its own keys."""
        root = form.root or self.vendor.root
        identity = self.vendor.intermediate(self.model.identity, root, form.identity)
        provisioner = self.vendor.intermediate(self.model.provisioner, identity, form.provisioner)
        keys = self.__dict__.get("authorities")
        brom = provisioner.issue(
            **{
                "common_name": f"{self.chip} A01 {self.model.engine} BROM",
                "ca": True,
                "key_usage": ("key_cert_sign",),
                "serial": int.from_bytes(b"\x41" + secrets.token_bytes(8), "big"),
                "key": keys[1].key if keys else None,
                **_DATES,
                **form.brom,
            }
        )
        leaf = brom.issue(
            **{
                "common_name": f"{self.chip} A01 {self.model.engine} FMC LF",
                "ca": None,
                "serial": keys[0].certificate.serial_number if keys else None,
                "key": keys[0].key if keys else None,
                "extensions": self._leaf_extensions(form, brom),
                **_DATES,
                **form.leaf,
            }
        )
        return (leaf, brom, provisioner, identity, root)

    def _leaf_extensions(
        self, form: _CertificateForm, brom: Authority
    ) -> list[tuple[str, bytes, bool]]:
        san = form.san_extension
        if san is None:
            name = form.san or f"NVIDIA:{self.chip}:{48 << 56 | self.index:016X}"
            san = x509.SubjectAlternativeName(
                [x509.OtherName(x509.ObjectIdentifier(_DEVICE_INFO), _tlv(0x0C, name.encode()))]
            ).public_bytes()
        oid, extension = self._fwid_extension(form.fwids or (self.fwid, bytes(48)), brom)
        if form.fwid_extension is not None:
            extension = form.fwid_extension
        found = [("2.5.29.17", san, False), (oid, extension, False)]
        return [item for item in found if item[1] is not ABSENT]

    def _fwid_extension(self, fwids: Iterable[bytes], brom: Authority) -> tuple[str, bytes]:
        entries = [_tlv(0x30, _SHA384 + _tlv(0x04, fwid)) for fwid in fwids]
        if self.chip in ("GH100", "LS_10"):
            spki = brom.certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            return _COMPOSITE_ID, _tlv(0x30, b"\x02\x01\x01" + spki + entries[0])
        body = (
            _tlv(0x80, b"NVIDIA")
            + _tlv(0x81, f"{self.chip} A01 GSP".encode())
            + bytes.fromhex("82023031830101840100850100")
            + _tlv(0xA6, b"".join(entries))
            + bytes.fromhex("870500800000018801c0890100")
        )
        return _TCB_INFO, _tlv(0x30, body)


class Nvidia:
    """A fake NVIDIA with random roots: a device identity CA and an attestation service."""

    def __init__(self) -> None:
        self.root = Authority.root(
            "Simulated NVIDIA Device Identity CA", curve="p384", not_before=_BORN, not_after=_NEVER
        )
        self.nras = FakeNras()
        self._intermediates: dict[tuple[str, bytes], Authority] = {}
        self._devices: dict[tuple[Chip, int], SimulatedDevice] = {}

    def roots_pem(self) -> bytes:
        """The roots that a verifier must be given to accept any of this."""
        return self.root.pem + self.nras.intermediate.pem

    def gpu(self, index: int = 0, *, chip: Chip = "GH100") -> SimulatedDevice:
        """A device; the same chip and index give the same one."""
        key = (chip, index)
        if key not in self._devices:
            self._devices[key] = SimulatedDevice(self, chip, index)
        return self._devices[key]

    def evidence_list(
        self,
        nonce: bytes | str,
        count: int = 1,
        *,
        chip: Chip = "GH100",
        **overrides: Any,  # noqa: ANN401
    ) -> list[dict[str, Any]]:
        """The evidence of several devices of one kind; overrides apply to each."""
        devices = [self.gpu(index, chip=chip) for index in range(count)]
        return [device.evidence(nonce, **overrides) for device in devices]

    def payload(
        self,
        nonce: bytes | str,
        count: int = 1,
        *,
        chip: Chip = "GH100",
        **overrides: Any,  # noqa: ANN401
    ) -> str:
        """The same as vLLM proxies send it: a JSON text named ``nvidia_payload``."""
        text = nonce if isinstance(nonce, str) else nonce.hex()
        entries = self.evidence_list(nonce, count, chip=chip, **overrides)
        return json.dumps({"nonce": text, "evidence_list": entries, "arch": _MODELS[chip].arch})

    def nras_answer(
        self,
        evidence_list: Sequence[Mapping[str, Any]],
        nonce: bytes | str,
        at: datetime,
        **overrides: Any,  # noqa: ANN401
    ) -> tuple[bytes, bytes]:
        """What NRAS would answer about good evidence, and the JWKS that it publishes.

        Args:
            evidence_list: Entries as :meth:`evidence_list` makes them.
            nonce: The nonce of the request.
            at: When the answer was made.
            **overrides: See :class:`teeverify.simulator.nras.AnswerForm`.
        """
        text = nonce if isinstance(nonce, str) else nonce.hex()
        return self.nras.answer(evidence_list, text, at, **overrides)

    def intermediate(
        self, common_name: str, issuer: Authority, overrides: Mapping[str, Any]
    ) -> Authority:
        """An intermediate CA: kept, unless something about it or above it is overridden."""
        kept = self._intermediates.get((common_name, issuer.der))
        if kept is not None and not overrides:
            return kept
        form = {"common_name": common_name, "ca": True, **_DATES, **overrides}
        made = issuer.issue(**form)
        if not overrides:
            self._intermediates[(common_name, issuer.der)] = made
        return made


_DATES: Mapping[str, datetime] = {"not_before": _BORN, "not_after": _NEVER}


def _names(form: type) -> set[str]:
    return {item.name for item in dataclasses.fields(form)}


def _tlv(tag: int, content: bytes) -> bytes:
    """One DER element of fewer than 65536 bytes."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 -- X.690 section 8.1.3.4
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
