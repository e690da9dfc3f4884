"""The signed measurement report of a GPU or NVSwitch: bytes to an untrusted structure.

A report is an SPDM 1.1 GET_MEASUREMENTS request followed by its MEASUREMENTS response (DMTF
DSP0274 1.1, sections 10.11.1 and 10.11.2), with NVIDIA's opaque data at its end. Everything except
the signature is signed, the request with the verifier's nonce included.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, TypeVar

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence

__all__ = [
    "FeatureFlag",
    "Measurement",
    "OpaqueField",
    "ReportFields",
    "SpdmReport",
    "parse_report",
]

_T = TypeVar("_T")

ID = "gpu.evidence"
NONCE_BYTES = 32
SIGNATURE_BYTES = 96
FWID_BYTES = 48
MAX_REPORT_BYTES = 16 * 1024
GPU_VBIOS_BYTES = 8
_VALUE_BYTES = 48
# What follows the index of a block (DSP0274 1.1 tables 38 and 39): DMTF's specification, the size
# of what follows, a value of type 1 (mutable firmware), and its size.
_BLOCK_HEADER = bytes((1, 3 + _VALUE_BYTES, 0, 1, _VALUE_BYTES, 0))
_BLOCK = struct.Struct(f"<B{len(_BLOCK_HEADER)}s{_VALUE_BYTES}s")
_REQUEST_HEAD: Mapping[str, int] = {
    "request.version": 0x11,
    "request.code": 0xE0,
    "request.param1": 0x01,
    "request.param2": 0xFF,
}
_RESPONSE_HEAD: Mapping[str, int] = {
    "response.version": 0x11,
    "response.code": 0x60,
    "response.param1": 0x00,
    "response.param2": 0x00,
}
_ITEM = struct.Struct("<HH")
_MAX_OPAQUE_VERSION = 1
_TEXT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OTHER_ATTESTER = (
    "The second attester of newer GPUs (FSP) signs such measurements; its evidence is not read "
    "here: give that of the first (GSP)."
)
_TRAILING_NUL = (
    "The agent of Confidential Containers appends it: leave it away, or read the evidence in "
    "Python with tolerate_trailing_nul=True."
)

FeatureFlag: TypeAlias = Literal["SPT", "MPT", "PPCIE"]
_FEATURES: Mapping[int, FeatureFlag] = {0: "SPT", 1: "MPT", 2: "PPCIE"}
_ON_OFF = {0xAA: True, 0x55: False}

# NVIDIA's opaque data types, by the names of its attestation SDK.
DRIVER_VERSION = 3
VBIOS_VERSION = 6
NVDEC0_STATUS = 11
CHIP_SKU = 15
PROJECT = 17
PROJECT_SKU = 18
FWID = 20
PROTECTED_PCIE_STATUS = 21
PDI = 22
GPU_PDIS = 26
OPAQUE_DATA_VERSION = 34
CHIP_INFO = 35
FEATURE_FLAG = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measurement block.

    Attributes:
        index: SPDM block index, from 1; a RIM counts the same block from 0.
        value: The 48 measured bytes.
    """

    index: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueField:
    """One item of the opaque data, as signed.

    Attributes:
        type: NVIDIA's type number; unknown ones are kept.
        value: Its bytes.
    """

    type: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFields:
    """What the opaque data says, decoded.

    Attributes:
        version: Version of the opaque data; 0 where the report has none.
        driver_version: Driver version; switches have none.
        vbios_version: VBIOS (or NVSwitch BIOS) version, dotted, upper case.
        vbios_is_binary: The version was packed in 8 bytes, as GPUs do; switches write text.
        project: Board project, for example ``G520``.
        project_sku: Board SKU within the project.
        chip_sku: SKU of the chip.
        chip_info: Name of the chip, on newer Blackwell devices.
        fwid: Firmware identity that the device states; old drivers and switches have none.
        protected_pcie: Whether protected PCIe is on, where the report says it.
        nvdec0_enabled: Whether video decoder 0 is on, where the report says it.
        feature_flag: Single- or multi-GPU passthrough or protected PCIe, where it is said.
    """

    version: int
    driver_version: str | None
    vbios_version: str | None
    vbios_is_binary: bool
    project: str | None
    project_sku: str | None
    chip_sku: str | None
    chip_info: str | None
    fwid: bytes | None
    protected_pcie: bool | None
    nvdec0_enabled: bool | None
    feature_flag: FeatureFlag | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpdmReport:
    """One report, taken apart and not verified.

    Attributes:
        raw: Request and response, exactly as received.
        signed: The part that the signature covers: everything before it.
        requester_nonce: The nonce in the signed request: ours, if the report is fresh.
        responder_nonce: The device's own nonce.
        measurements: All blocks, in the order of the report.
        opaque: All opaque items, in the order of the report.
        fields: What the known opaque items say.
        signature: ``r || s``, 48 bytes each.
        read_here: Whether :func:`parse_report` made it, so that its fields are those of ``raw``.
    """

    raw: bytes
    signed: bytes
    requester_nonce: bytes
    responder_nonce: bytes
    measurements: tuple[Measurement, ...]
    opaque: tuple[OpaqueField, ...]
    fields: ReportFields
    signature: bytes
    read_here: bool = field(default=False, init=False, repr=False, compare=False)


def parse_report(
    raw: bytes,
    *,
    name: str,
    tolerate_trailing_nul: bool = False,
) -> SpdmReport:
    """Take a report apart.

    Args:
        raw: GET_MEASUREMENTS request and MEASUREMENTS response.
        name: What to call it in errors, for example ``gpu[0].report``.
        tolerate_trailing_nul: Skip exactly one zero byte after the signature, which the agent of
            Confidential Containers appends.

    Raises:
        MalformedEvidence: Any field is not what an SPDM 1.1 report of an NVIDIA device has there
            (DSP0274 1.1 tables 36 to 40), or bytes follow the signature.
    """
    if len(raw) > MAX_REPORT_BYTES:
        raise MalformedEvidence(
            f"{name}: larger than {MAX_REPORT_BYTES} bytes",
            id=ID,
            field=name,
            need=f"at most {MAX_REPORT_BYTES}",
            have=len(raw),
        )
    reader = Reader(raw, name=name, id=ID)
    nonce = _request(reader)
    measurements = _measurements(reader)
    responder_nonce = reader.take(NONCE_BYTES, "responder_nonce")
    opaque = _opaque(reader.sub(reader.u16("opaque_length"), "opaque"))
    fields = _fields({item.type: item.value for item in opaque}, reader)
    signed_bytes = reader.position
    signature = reader.take(SIGNATURE_BYTES, "signature")
    report_bytes = reader.position
    if tolerate_trailing_nul and reader.remaining == 1:
        reader.zeros(1, "trailing_nul")
    if reader.remaining == 1 and reader.peek() == 0:
        error = reader.error("trailing data, one zero byte", "end", need=0, have=1)
        error.hint = _TRAILING_NUL
        raise error
    reader.finish()
    whole = Reader(raw, name=name, id=ID)
    exact = whole.take(report_bytes, "report")
    report = SpdmReport(
        raw=exact,
        signed=Reader(exact, name=name, id=ID).take(signed_bytes, "signed"),
        requester_nonce=nonce,
        responder_nonce=responder_nonce,
        measurements=measurements,
        opaque=opaque,
        fields=fields,
        signature=signature,
    )
    object.__setattr__(report, "read_here", True)  # a copy with changes loses it
    return report


def _expect(reader: Reader, head: Mapping[str, int]) -> None:
    """Take bytes that have only one right value each."""
    for got, (part, want) in zip(reader.take(len(head), "head"), head.items(), strict=True):
        if got != want:
            raise reader.error("another value", part, got=f"{got:#04x}", want=f"{want:#04x}")


def _request(reader: Reader) -> bytes:
    """Take GET_MEASUREMENTS: a signature over all measurements, slot 0; returns the nonce."""
    _expect(reader, _REQUEST_HEAD)
    nonce = reader.take(NONCE_BYTES, "request.nonce")
    _expect(reader, {"request.slot_id": 0x00})
    return nonce


def _measurements(reader: Reader) -> tuple[Measurement, ...]:
    """Take the MEASUREMENTS header and its record."""
    _expect(reader, _RESPONSE_HEAD)
    count = reader.u8("number_of_blocks")
    if not count:
        raise reader.error("no measurements", "number_of_blocks")
    record = reader.sub(reader.integer(3, "record_length"), "record")
    blocks = _blocks(record, count)
    record.finish()
    if len({block.index for block in blocks}) != count:
        raise reader.error("the same measurement index twice", "record")
    return blocks


def _blocks(record: Reader, count: int) -> tuple[Measurement, ...]:
    """Take the DMTF measurement blocks: all are of one size, so they are taken at once."""
    whole = min(record.remaining // _BLOCK.size, count)
    found: list[Measurement] = []
    for index, header, value in _BLOCK.iter_unpack(record.take(whole * _BLOCK.size, "blocks")):
        if not index or header != _BLOCK_HEADER:
            error = record.error(
                "not a DMTF measurement of 48 bytes" if index else "index 0 is no block",
                f"block[{len(found)}]",
                got=header.hex(),
                want=_BLOCK_HEADER.hex(),
            )
            error.hint = _OTHER_ATTESTER if header[0] == _BLOCK_HEADER[0] else None
            raise error
        found.append(Measurement(index=index, value=value))
    if whole < count:
        record.take(_BLOCK.size, f"block[{whole}]")  # says what is missing
    return tuple(found)


def _opaque(reader: Reader) -> tuple[OpaqueField, ...]:
    """Take the opaque items: type, size, data, in any order, each type at most once."""
    seen: set[int] = set()
    items: list[OpaqueField] = []
    while reader.remaining:
        kind, size = _ITEM.unpack(reader.take(_ITEM.size, "type and size"))
        if kind in seen:
            raise reader.error("the same opaque type twice", f"type[{kind}]")
        seen.add(kind)
        items.append(OpaqueField(type=kind, value=reader.take(size, f"data[{kind}]")))
    return tuple(items)


def _fields(opaque: Mapping[int, bytes], reader: Reader) -> ReportFields:
    """Decode the known opaque items."""
    data = _Decoder(MappingProxyType(opaque), reader)
    version = data.integer(OPAQUE_DATA_VERSION, 2) or 0
    if version > _MAX_OPAQUE_VERSION:
        raise data.error(OPAQUE_DATA_VERSION, f"version {version} is not known")
    vbios = opaque.get(VBIOS_VERSION)
    binary = vbios is not None and len(vbios) == GPU_VBIOS_BYTES
    text = data.packed_version(VBIOS_VERSION) if binary else data.text(VBIOS_VERSION)
    return ReportFields(
        version=version,
        driver_version=data.text(DRIVER_VERSION),
        vbios_version=text.upper() if text is not None else None,
        vbios_is_binary=binary,
        project=data.text(PROJECT),
        project_sku=data.text(PROJECT_SKU),
        chip_sku=data.text(CHIP_SKU),
        chip_info=data.text(CHIP_INFO),
        fwid=data.exact(FWID, FWID_BYTES),
        protected_pcie=data.choice(PROTECTED_PCIE_STATUS, 1, _ON_OFF),
        nvdec0_enabled=data.choice(NVDEC0_STATUS, 1, _ON_OFF),
        feature_flag=data.choice(FEATURE_FLAG, 2, _FEATURES),
    )


class _Decoder:
    """Reads opaque items by type; an absent one is ``None``, a wrong one raises."""

    def __init__(self, opaque: Mapping[int, bytes], reader: Reader) -> None:
        self._opaque = opaque
        self._reader = reader

    def error(self, kind: int, problem: str) -> MalformedEvidence:
        value = self._opaque.get(kind, b"")
        return self._reader.error(problem, f"opaque[{kind}]", got=value[:32].hex())

    def exact(self, kind: int, size: int) -> bytes | None:
        value = self._opaque.get(kind)
        if value is not None and len(value) != size:
            raise self.error(kind, f"not {size} bytes")
        return value

    def integer(self, kind: int, size: int) -> int | None:
        value = self.exact(kind, size)
        return None if value is None else int.from_bytes(value, "little")

    def choice(self, kind: int, size: int, values: Mapping[int, _T]) -> _T | None:
        number = self.integer(kind, size)
        if number is None:
            return None
        if number not in values:
            raise self.error(kind, "not a known value")
        return values[number]

    def text(self, kind: int) -> str | None:
        """Short ASCII text, with or without zero bytes behind it."""
        value = self._opaque.get(kind)
        if value is None:
            return None
        text = value.rstrip(b"\0").decode("latin-1")
        if not _TEXT.fullmatch(text):
            raise self.error(kind, "not short ASCII text")
        return text

    def packed_version(self, kind: int) -> str | None:
        """A GPU's VBIOS version: the bytes 3, 2, 1, 0 and 4, in hex."""
        value = self._opaque.get(kind)
        if value is None:
            return None
        return ".".join(f"{value[position]:02X}" for position in (3, 2, 1, 0, 4))
