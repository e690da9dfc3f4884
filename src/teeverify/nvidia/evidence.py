"""GPU evidence in every container that producers use: bytes to an untrusted structure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes, hex_bytes, json_value
from teeverify.errors import MalformedEvidence
from teeverify.nvidia.cmw import is_collection, read_collection
from teeverify.nvidia.spdm import ID, MAX_REPORT_BYTES, SpdmReport, parse_report

__all__ = ["DeviceEvidence", "Evidence", "Hints", "RawEvidence", "parse_evidence"]

MAX_DEVICES = 32
MAX_CHAIN_BYTES = 64 * 1024
# The widest spelling: four characters ("\x11") a byte.
_MAX_REPORT_TEXT = 4 * (MAX_REPORT_BYTES + 1)
_MAX_CHAIN_TEXT = 4 * ((MAX_CHAIN_BYTES + 2) // 3)
_ESCAPED = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")
_HEX = re.compile(r"[0-9a-fA-F]+")
# What the list is called: in NVIDIA's and vLLM's, in Confidential Containers', in Tinfoil's form.
_LISTS = ("evidence_list", "device_evidence_list", "evidences")
_HINTS = ("arch", "nonce", "driver_version", "vbios_version")

RawEvidence: TypeAlias = bytes | str | Mapping[str, object] | Sequence[object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What a container says beside the signed report: never trusted, only contradicted.

    Each member holds the texts found in the entry and in the wrapper around the list.
    """

    arch: tuple[str, ...] = ()
    nonce: tuple[str, ...] = ()
    driver_version: tuple[str, ...] = ()
    vbios_version: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvidence:
    """The evidence of one GPU or NVSwitch. Nothing in it was verified.

    Attributes:
        index: Position in the list, from 0.
        report: The measurement report, taken apart.
        certificate_chain: The PEM bundle, leaf first, as received.
        hints: What the container says beside them.
    """

    index: int
    report: SpdmReport
    certificate_chain: bytes
    hints: Hints

    @property
    def name(self) -> str:
        """How messages call the device, for example ``gpu[3]``."""
        return f"gpu[{self.index}]"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Evidence:
    """The evidence of all devices of one machine. Nothing in it was verified.

    Attributes:
        devices: One entry a device, in the order of the list.
    """

    devices: tuple[DeviceEvidence, ...]

    def __repr__(self) -> str:
        """Say how much there is, and that it is only claimed."""
        return f"nvidia.Evidence({len(self.devices)} devices; nothing was verified)"


def parse_evidence(raw: RawEvidence, *, tolerate_trailing_nul: bool = False) -> Evidence:
    r"""Read a list of device evidence.

    Taken are NVIDIA's JSON list of ``{evidence, certificate, arch...}``; an object that holds such
    a list as ``evidence_list`` (vLLM's ``nvidia_payload``), ``device_evidence_list`` or
    ``evidences``; NVIDIA's collection of Conceptual Message Wrappers; each of them as JSON text,
    and that text once more inside a JSON string. The report may be base64, hex, base64 of hex, or
    hex with ``\x`` before each byte; the certificates PEM or base64 of PEM.

    Args:
        raw: JSON as bytes or text, or what a strict JSON decoder made of it.
        tolerate_trailing_nul: Skip exactly one zero byte after a report; one producer appends it.

    Raises:
        MalformedEvidence: Another form, more than 32 devices, or a field of the wrong size.
    """
    wrapper, entries = _entries(raw)
    if not 0 < len(entries) <= MAX_DEVICES:
        raise MalformedEvidence(
            "GPU evidence: number of devices",
            id=ID,
            field="gpu",
            need=f"1 to {MAX_DEVICES}",
            have=len(entries),
        )
    return Evidence(
        devices=tuple(
            _device(entry, wrapper, index, tolerate_trailing_nul=tolerate_trailing_nul)
            for index, entry in enumerate(entries)
        )
    )


def _entries(raw: object) -> tuple[JsonObject | None, Sequence[object]]:
    """Open the container: the wrapper, if there is one, and the list."""
    value = _decoded(raw)
    if isinstance(value, list | tuple):
        return None, value
    wrapper = JsonObject(value, path="gpu", id=ID)
    if is_collection(value):
        return None, read_collection(wrapper)
    found = [name for name in _LISTS if name in wrapper]
    if len(found) != 1:
        raise MalformedEvidence(
            "GPU evidence: not one list of devices",
            id=ID,
            field="gpu",
            got=", ".join(found) or "none",
            want=" or ".join(_LISTS),
        )
    return wrapper, wrapper.array_or_text(found[0])


def _decoded(raw: object) -> object:
    """Decode JSON text, and once more where the text was a string that holds JSON."""
    if isinstance(raw, bytearray | memoryview):
        raw = bytes(raw)
    if not isinstance(raw, bytes | str):
        return raw
    value = json_value(raw, field="gpu", id=ID)
    return json_value(value, field="gpu", id=ID) if isinstance(value, str) else value


def _device(
    value: object, wrapper: JsonObject | None, index: int, *, tolerate_trailing_nul: bool
) -> DeviceEvidence:
    name = f"gpu[{index}]"
    entry = JsonObject(value, path=name, id=ID)
    report = parse_report(
        _report_bytes(entry.text("evidence"), f"{name}.evidence"),
        name=f"{name}.report",
        tolerate_trailing_nul=tolerate_trailing_nul,
    )
    return DeviceEvidence(
        index=index,
        report=report,
        certificate_chain=_chain_bytes(entry.text("certificate"), f"{name}.certificate"),
        hints=_hints([entry] if wrapper is None else [entry, wrapper]),
    )


def _report_bytes(text: str, field: str) -> bytes:
    """Decode a report; the spellings are told apart by their first characters."""
    _cap(text, field, _MAX_REPORT_TEXT)
    if text.startswith("\\x"):
        if not _ESCAPED.fullmatch(text):
            raise MalformedEvidence(f"{field}: not escaped hexadecimal", id=ID, field=field)
        return hex_bytes(text.replace("\\x", ""), field=field, id=ID)
    if _HEX.fullmatch(text):
        return hex_bytes(text, field=field, id=ID)
    data = base64_bytes(text, field=field, id=ID)
    # A report starts with the bytes 11 E0, so these four letters can only be the hex of one.
    if data.startswith(b"11e0"):
        return hex_bytes(data.decode("latin-1"), field=field, id=ID)
    return data


def _chain_bytes(text: str, field: str) -> bytes:
    """Decode a certificate bundle: PEM as it is, or base64 of it."""
    _cap(text, field, _MAX_CHAIN_TEXT)
    pem = text.startswith("-----BEGIN")
    data = text.encode("utf-8", "replace") if pem else base64_bytes(text, field=field, id=ID)
    # NVML gives a buffer of fixed size, and some producers send the zero bytes at its end too.
    return data.rstrip(b"\0")


def _cap(text: str, field: str, limit: int) -> None:
    if len(text) > limit:
        raise MalformedEvidence(
            f"{field}: too long", id=ID, field=field, need=f"at most {limit}", have=len(text)
        )


def _hints(sources: Sequence[JsonObject]) -> Hints:
    """Collect the hints; an architecture given as a number follows no one table, so it is none."""
    found: dict[str, tuple[str, ...]] = {}
    for name in _HINTS:
        holders = [source for source in sources if name in source]
        if name == "arch":
            holders = [source for source in holders if not isinstance(source.raw(name), int)]
        found[name] = tuple(source.text(name) for source in holders)
    return Hints(**found)
