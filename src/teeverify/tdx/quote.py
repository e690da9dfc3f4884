"""Intel quotes as bytes: SGX version 3; versions 4 and 5 with SGX, TD 1.0, 1.5 and 1.5ex bodies.

Layouts: Intel SGX ECDSA QuoteLibReference, appendix A (version 3), and Intel TDX DCAP Quoting
Library API, appendix A.3 (versions 4 and 5). Nothing here is verified: a :class:`Quote` is what the
bytes say.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from teeverify.encoding.reader import Reader
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["BodyType", "EnclaveReport", "Quote", "TdReport", "parse_quote"]

CHECK = "tdx.quote"
TEE_SGX = 0
TEE_TDX = 0x81
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_ECDSA_P256 = 2
_MAX_QUOTE = 1024 * 1024
_QE_REPORT_CERTIFICATION = 6
_CERTIFICATION_TYPES = (1, 2, 3, 4, 5)


class BodyType(IntEnum):
    """What a quote is about; the numbers are those of version 5."""

    SGX = 1
    TD_1_0 = 2
    TD_1_5 = 3
    TD_1_5_EX = 4


class TdReport(NamedTuple):
    """A TD report: what the TDX module measured about one trust domain.

    Bodies of type 1.5 add ``tee_tcb_svn_2`` and ``mr_service_td``; 1.5ex adds the rest. A field
    that the body does not have is ``None``.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn_2: bytes | None = None
    mr_service_td: bytes | None = None
    vm_id: bytes | None = None
    td_id: bytes | None = None
    dev_info: bytes | None = None
    init_service_td_hash: bytes | None = None
    init_service_td_attributes: bytes | None = None
    init_cpu_svn: bytes | None = None
    init_tee_tcb_svn: bytes | None = None
    init_tee_fmspc: bytes | None = None
    cur_service_td_hash: bytes | None = None
    cur_service_td_attributes: bytes | None = None

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four runtime measurement registers, in order."""
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3

    def to_bytes(self) -> bytes:
        """The report in its binary form."""
        return b"".join(part for part in self if part is not None)


class EnclaveReport(NamedTuple):
    """An SGX report body: of an enclave, or of Intel's quoting enclave that signed a quote."""

    cpu_svn: bytes
    misc_select: bytes
    reserved1: bytes
    attributes: bytes
    mr_enclave: bytes
    reserved2: bytes
    mr_signer: bytes
    reserved3: bytes
    isv_prod_id: int
    isv_svn: int
    reserved4: bytes
    report_data: bytes

    def to_bytes(self) -> bytes:
        """The report in its binary form (384 bytes)."""
        return _ENCLAVE_REPORT.struct.pack(*self)


class Quote(NamedTuple):
    """A quote as its bytes say it: untrusted.

    Attributes:
        version: 3, 4 or 5.
        tee_type: 0 for SGX, 0x81 for TDX.
        qe_svn: Version 3 only; reserved (0) in later ones. Signed, not appraised.
        pce_svn: Version 3 only; reserved (0) in later ones. Signed, not appraised.
        user_data: 20 bytes of the quoting enclave's.
        body_type: Kind of the body.
        body: The report that is quoted.
        signed_bytes: Exactly what ``signature`` covers: header and body.
        signature: By the attestation key, ``r || s``.
        attestation_key: P-256 point, ``x || y``.
        qe_report: The quoting enclave's own report, which vouches for the attestation key.
        qe_report_bytes: Exactly what ``qe_report_signature`` covers.
        qe_report_signature: By the platform's PCK key, ``r || s``.
        qe_auth_data: Hashed into the QE report together with the attestation key.
        certification_type: 1 to 5: how the quote names its PCK certificate.
        certification_data: The PCK chain in PEM when the type is 5.
        trailing_bytes: How many bytes followed the signature section. Nothing covers them, so
            they are counted and not kept.
    """

    version: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    user_data: bytes
    body_type: BodyType
    body: TdReport | EnclaveReport
    signed_bytes: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: EnclaveReport
    qe_report_bytes: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_type: int
    certification_data: bytes
    trailing_bytes: int

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the quoted TD or enclave chose."""
        return self.body.report_data

    @property
    def td(self) -> TdReport:
        """The TD report.

        Raises:
            ConfigurationError: This quotes an SGX enclave, which is no VM.
        """
        if isinstance(self.body, TdReport):
            return self.body
        raise ConfigurationError("this is a quote of an SGX enclave, not of a VM", id="usage.tdx")

    def to_bytes(self) -> bytes:
        """The quote in its binary form, without what trailed it."""
        header = _HEADER.struct.pack(
            self.version,
            _ECDSA_P256,
            self.tee_type,
            self.qe_svn,
            self.pce_svn,
            INTEL_QE_VENDOR,
            self.user_data,
        )
        body = self.body.to_bytes()
        if self.version == 5:  # noqa: PLR2004 -- only version 5 names the body
            header += struct.pack("<HI", self.body_type, len(body))
        inner = (
            self.qe_report.to_bytes()
            + self.qe_report_signature
            + struct.pack("<H", len(self.qe_auth_data))
            + self.qe_auth_data
            + struct.pack("<HI", self.certification_type, len(self.certification_data))
            + self.certification_data
        )
        section = self.signature + self.attestation_key
        if self.version == 3:  # noqa: PLR2004 -- version 3 has no outer certification data
            section += inner
        else:
            section += struct.pack("<HI", _QE_REPORT_CERTIFICATION, len(inner)) + inner
        return header + body + struct.pack("<I", len(section)) + section


class _Layout:
    """Fields in a row.

    Args:
        names: What they are called.
        formats: One word each, as :mod:`struct` writes it.
    """

    def __init__(self, names: Sequence[str], formats: str) -> None:
        words = formats.split()
        self.struct = struct.Struct("<" + "".join(words))
        self.sizes = [
            (name, struct.calcsize(word)) for name, word in zip(names, words, strict=False)
        ]

    def take(self, reader: Reader) -> tuple[Any, ...]:
        """Take all fields; the error names the one that is cut off."""
        if reader.remaining < self.struct.size:
            for name, size in self.sizes:
                reader.take(size, name)
        return self.struct.unpack(reader.take(self.struct.size, "fields"))


_HEADER_FIELDS = (
    *("version", "att_key_type", "tee_type", "qe_svn", "pce_svn"),
    *("qe_vendor_id", "user_data"),
)
_HEADER = _Layout(_HEADER_FIELDS, "H H I H H 16s 20s")
_ENCLAVE_REPORT = _Layout(EnclaveReport._fields, "16s 4s 28s 16s 32s 32s 32s 96s H H 60s 64s")
_TD_1_0 = "16s 48s 48s 8s 8s 8s 48s 48s 48s 48s 48s 48s 48s 48s 64s"
_TD_1_5 = f"{_TD_1_0} 16s 48s"
_TD_1_5_EX = f"{_TD_1_5} 1s 32s 48s 48s 8s 16s 16s 12s 48s 8s"
_BODIES = {
    BodyType.SGX: _ENCLAVE_REPORT,
    BodyType.TD_1_0: _Layout(TdReport._fields, _TD_1_0),
    BodyType.TD_1_5: _Layout(TdReport._fields, _TD_1_5),
    BodyType.TD_1_5_EX: _Layout(TdReport._fields, _TD_1_5_EX),
}
BODY_SIZES = {kind: layout.struct.size for kind, layout in _BODIES.items()}


def parse_quote(raw: bytes) -> Quote:
    """Read a quote; nothing is verified.

    Args:
        raw: The quote, with or without what its buffer had left over behind it.

    Raises:
        MalformedEvidence: Truncated, or not of a form that Intel's quoting enclaves make.
        ConfigurationError: ``raw`` is not bytes.
    """
    if not isinstance(raw, (bytes, bytearray, memoryview)):
        raise ConfigurationError(
            "a quote is bytes", id="usage.tdx", got=type(raw).__name__, want="bytes"
        )
    data = bytes(raw)
    reader = Reader(data, name="tdx.quote", id=CHECK)
    if len(data) > _MAX_QUOTE:
        raise reader.error("too large", "size", need=f"at most {_MAX_QUOTE}", have=len(data))
    version, key_type, tee_type, qe_svn, pce_svn, vendor, user_data = _HEADER.take(reader)
    _require("version", 0, version, (3, 4, 5))
    _require("att_key_type", 2, key_type, (_ECDSA_P256,))
    _require("tee_type", 4, tee_type, (TEE_SGX,) if version == 3 else (TEE_SGX, TEE_TDX))  # noqa: PLR2004
    _require("qe_vendor_id", 12, vendor.hex(), (INTEL_QE_VENDOR.hex(),))
    body_type = _body_type(reader, version, tee_type)
    body = _body(reader, body_type)
    signed_bytes = data[: reader.offset]
    section = reader.sub(reader.u32("signature_section_size"), "signature_section")
    signature = section.take(64, "signature")
    attestation_key = section.take(64, "attestation_key")
    inner = section if version == 3 else _outer_certification(section)  # noqa: PLR2004
    qe_report_bytes = inner.take(BODY_SIZES[BodyType.SGX], "qe_report")
    qe_report_signature = inner.take(64, "qe_report_signature")
    qe_auth_data = inner.take(inner.u16("qe_auth_data_size"), "qe_auth_data")
    certification_type = _one_of(inner, 2, "certification_type", _CERTIFICATION_TYPES)
    certification_data = inner.take(inner.u32("certification_data_size"), "certification_data")
    inner.finish()
    section.finish()
    return Quote(
        version=version,
        tee_type=tee_type,
        qe_svn=qe_svn,
        pce_svn=pce_svn,
        user_data=user_data,
        body_type=body_type,
        body=body,
        signed_bytes=signed_bytes,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=EnclaveReport._make(_ENCLAVE_REPORT.struct.unpack(qe_report_bytes)),
        qe_report_bytes=qe_report_bytes,
        qe_report_signature=qe_report_signature,
        qe_auth_data=qe_auth_data,
        certification_type=certification_type,
        certification_data=certification_data,
        trailing_bytes=reader.remaining,
    )


def _one_of(reader: Reader, size: int, field: str, allowed: tuple[int, ...]) -> int:
    """Take an integer that has few allowed values."""
    start = reader.offset
    value = reader.integer(size, field)
    _require(field, start, value, allowed)
    return value


def _require(field: str, offset: int, value: int | str, allowed: tuple[int | str, ...]) -> None:
    if value not in allowed:
        raise MalformedEvidence(
            f"tdx.quote.{field}: not a value that is known here",
            id=CHECK,
            field=f"tdx.quote.{field}",
            offset=offset,
            got=str(value),
            want=" or ".join(map(str, allowed)),
        )


def _body_type(reader: Reader, version: int, tee_type: int) -> BodyType:
    """Which body follows: by the TEE type up to version 4, named in version 5."""
    if version < 5:  # noqa: PLR2004 -- only version 5 names the body
        return BodyType.TD_1_0 if tee_type == TEE_TDX else BodyType.SGX
    kinds = (2, 3, 4) if tee_type == TEE_TDX else (1,)
    kind = BodyType(_one_of(reader, 2, "body_type", kinds))
    _one_of(reader, 4, "body_size", (BODY_SIZES[kind],))
    return kind


def _body(reader: Reader, kind: BodyType) -> TdReport | EnclaveReport:
    values = _BODIES[kind].take(reader)
    return EnclaveReport._make(values) if kind is BodyType.SGX else TdReport(*values)


def _outer_certification(section: Reader) -> Reader:
    """Enter certification data type 6, in which versions 4 and 5 wrap the QE report."""
    _one_of(section, 2, "outer_certification_type", (_QE_REPORT_CERTIFICATION,))
    return section.sub(section.u32("outer_certification_size"), "qe_report_certification")
