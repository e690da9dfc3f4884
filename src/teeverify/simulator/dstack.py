"""A fake dstack guest: its configuration, its event log, and the registers that they give.

The hashes are computed here on their own, not with the verifier's code::

    guest = Dstack(images=["registry.example/engine@sha256:..."])
    raw = intel.quote(rtmrs=guest.rtmrs, mr_config_id=guest.mr_config_id())
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from teeverify.crypto.ethereum import keccak256

__all__ = ["Dstack"]

_RUNTIME = 0x08000001
_SEPARATOR = hashlib.sha384(bytes(4)).digest()
_KINDS = {"none": 0, "local": 1, "kms": 2, "tpm": 3}
_NONE: Mapping[str, bytes | None] = {}
_KEY_SERVICE = hashlib.sha256(b"teeverify simulator key service").digest()


class Dstack:
    """One boot of a dstack guest.

    Args:
        app_compose: The exact configuration text; by default one that names ``images``.
        images: Container images of the default configuration.
        version: Version of the runtime events (1, or 2: digests over JSON).
        events: Overrides of the boot's runtime events by name; ``None`` leaves one out, and a new
            name is added before ``system-ready``.
        app_events: What the application itself writes, after ``system-ready``.
        ready: Whether the image writes ``system-ready``.
        key_provider: ``kms``, ``local``, ``tpm`` or ``none``.
        key_provider_id: Its id; of one operator's key service unless given.
    """

    def __init__(  # noqa: PLR0913 -- one override a field
        self,
        *,
        app_compose: str | None = None,
        images: Sequence[str] = (f"registry.example/engine@sha256:{'ab' * 32}",),
        version: Literal[1, 2] = 1,
        events: Mapping[str, bytes | None] = _NONE,
        app_events: Sequence[tuple[str, bytes]] = (),
        ready: bool = True,
        key_provider: Literal["kms", "local", "tpm", "none"] = "kms",
        key_provider_id: bytes | None = None,
    ) -> None:
        self.app_compose = _compose(images) if app_compose is None else app_compose
        self.compose_hash = hashlib.sha256(self.app_compose.encode()).digest()
        self.app_id = self.compose_hash[:20]
        self.key_provider = key_provider
        self.key_provider_id = key_provider_id or _KEY_SERVICE
        name = "local-sgx" if key_provider == "local" else key_provider
        boot: dict[str, bytes | None] = {
            "system-preparing": b"",
            "app-id": self.app_id,
            "compose-hash": self.compose_hash,
            "instance-id": secrets.token_bytes(20),
            "boot-mr-done": b"",
            "mr-kms": secrets.token_bytes(32),
            "os-image-hash": hashlib.sha256(b"teeverify simulator OS image").digest(),
            "key-provider": json.dumps({"name": name, "id": self.key_provider_id.hex()}).encode(),
            "storage-fs": b"zfs",
            **events,
        }
        runtime = [(event, payload) for event, payload in boot.items() if payload is not None]
        if ready:
            runtime.append(("system-ready", b""))
        runtime += app_events
        self.event_log: list[dict[str, Any]] = [
            *_firmware(),
            *(_runtime_event(event, payload, version) for event, payload in runtime),
        ]

    @property
    def event_log_text(self) -> str:
        """The event log as JSON text."""
        return json.dumps(self.event_log)

    @property
    def rtmrs(self) -> tuple[bytes, ...]:
        """The four registers that the log gives."""
        registers = [bytes(48)] * 4
        for event in self.event_log:
            index = event["imr"]
            extended = registers[index] + bytes.fromhex(event["digest"])
            registers[index] = hashlib.sha384(extended).digest()
        return tuple(registers)

    def stripped_log(self) -> list[dict[str, Any]]:
        """The log as newer guests serve it: no digests of runtime events, no firmware payloads."""
        return [
            {**event, "digest": ""}
            if event["event_type"] == _RUNTIME
            else {**event, "event_payload": ""}
            for event in self.event_log
        ]

    @property
    def mr_config(self) -> str:
        """The version 3 document."""
        document = {
            "app_id": self.app_id.hex(),
            "compose_hash": self.compose_hash.hex(),
            "key_provider": self.key_provider,
            "key_provider_id": self.key_provider_id.hex(),
            "version": 3,
        }
        return json.dumps(document, separators=(",", ":"))

    def mr_config_id(self, version: Literal[0, 1, 2, 3] = 1) -> bytes:
        """MRCONFIGID of one of dstack's versions; 0 leaves it unset."""
        if version == 0:
            return bytes(48)
        kind = bytes([_KINDS[self.key_provider]])
        value = {
            1: self.compose_hash,
            2: keccak256(self.compose_hash + self.app_id + kind + self.key_provider_id),
            3: hashlib.sha256(b"dstack-mr-config-v3:\0" + self.mr_config.encode()).digest(),
        }[version]
        return bytes([version]) + value + bytes(15)


def _compose(images: Sequence[str]) -> str:
    services = "".join(f"  s{n}:\n    image: {image}\n" for n, image in enumerate(images))
    compose = {
        "docker_compose_file": f"services:\n{services}",
        "kms_enabled": True,
        "manifest_version": 2,
        "name": "simulated",
        "runner": "docker-compose",
    }
    return json.dumps(compose, separators=(",", ":"), sort_keys=True)


def _firmware() -> list[dict[str, Any]]:
    """Boot events of registers 0 to 2, with digests that do not depend on their payloads."""
    found = []
    for imr, event_type, text in (
        (0, 0x8000000B, "TdxTable"),
        (0, 0x80000001, "SecureBoot"),
        (0, 4, ""),
        (1, 0x80000003, "bootloader"),
        (1, 4, ""),
        (2, 6, "LOADED_IMAGE::LoadOptions"),
        (2, 6, "Linux initrd"),
    ):
        measured = hashlib.sha384(b"teeverify simulator " + text.encode()).digest()
        digest = measured if text else _SEPARATOR
        payload = text.encode() or bytes(4)
        found.append(_event(imr, event_type, digest, "", payload))
    return found


def _runtime_event(name: str, payload: bytes, version: int) -> dict[str, Any]:
    if version == 1:
        preimage = _RUNTIME.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    else:
        preimage = (
            f'{{"name":{json.dumps(name, ensure_ascii=False)},'
            f'"payload":"{payload.hex()}","type":{_RUNTIME}}}'
        ).encode()
    event = _event(3, _RUNTIME, hashlib.sha384(preimage).digest(), name, payload)
    if version != 1:
        event |= {"version": version, "preimage": preimage.hex()}
    return event


def _event(imr: int, event_type: int, digest: bytes, name: str, payload: bytes) -> dict[str, Any]:
    return {
        "imr": imr,
        "event_type": event_type,
        "digest": digest.hex(),
        "event": name,
        "event_payload": payload.hex(),
    }
