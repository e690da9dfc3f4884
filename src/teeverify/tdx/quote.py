"""Intel quotes as bytes: SGX version 3; versions 4 and 5 with SGX, TD 1.0, 1.5 and 1.5ex bodies.

Layouts: Intel SGX ECDSA QuoteLibReference, appendix A (version 3), and Intel TDX DCAP Quoting
Library API, appendix A.3 (versions 4 and 5). Nothing here is verified: a :class:`Quote` is what the
bytes say.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter

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


_TD_1_0: tuple[tuple[str, int], ...] = (
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mr_signer_seam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
_TD_1_5 = (*_TD_1_0, ("tee_tcb_svn_2", 16), ("mr_service_td", 48))
_TD_1_5_EX = (
    *_TD_1_5,
    ("vm_id", 1),
    ("td_id", 32),
    ("dev_info", 48),
    ("init_service_td_hash", 48),
    ("init_service_td_attributes", 8),
    ("init_cpu_svn", 16),
    ("init_tee_tcb_svn", 16),
    ("init_tee_fmspc", 12),
    ("cur_service_td_hash", 48),
    ("cur_service_td_attributes", 8),
)
_TD_LAYOUTS = {
    BodyType.TD_1_0: _TD_1_0,
    BodyType.TD_1_5: _TD_1_5,
    BodyType.TD_1_5_EX: _TD_1_5_EX,
}
_TD_STRUCTS = {
    kind: (
        tuple(name for name, _ in layout),
        struct.Struct("".join(f"{size}s" for _, size in layout)),
    )
    for kind, layout in _TD_LAYOUTS.items()
}
_ENCLAVE = struct.Struct("<16s4s28s16s32s32s32s96sHH60s64s")
_ENCLAVE_SIZE = 384
BODY_SIZES = {
    BodyType.SGX: _ENCLAVE_SIZE,
    **{kind: sum(size for _, size in layout) for kind, layout in _TD_LAYOUTS.items()},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
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
        layout = _TD_1_0
        if self.tee_tcb_svn_2 is not None:
            layout = _TD_1_5 if self.vm_id is None else _TD_1_5_EX
        return b"".join(attrgetter(*(name for name, _ in layout))(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
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
        return b"".join(
            (
                self.cpu_svn,
                self.misc_select,
                self.reserved1,
                self.attributes,
                self.mr_enclave,
                self.reserved2,
                self.mr_signer,
                self.reserved3,
                struct.pack("<HH", self.isv_prod_id, self.isv_svn),
                self.reserved4,
                self.report_data,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
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
        header = (
            struct.pack(
                "<HHIHH", self.version, _ECDSA_P256, self.tee_type, self.qe_svn, self.pce_svn
            )
            + INTEL_QE_VENDOR
            + self.user_data
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
    version = _one_of(reader, 2, "version", (3, 4, 5))
    _one_of(reader, 2, "att_key_type", (_ECDSA_P256,))
    tee_type = _one_of(reader, 4, "tee_type", (TEE_SGX,) if version == 3 else (TEE_SGX, TEE_TDX))  # noqa: PLR2004
    qe_svn = reader.u16("qe_svn")
    pce_svn = reader.u16("pce_svn")
    _vendor(reader)
    user_data = reader.take(20, "user_data")
    body_type = _body_type(reader, version, tee_type)
    body = _body(reader, body_type)
    signed_bytes = data[: reader.offset]
    section = reader.sub(reader.u32("signature_section_size"), "signature_section")
    signature = section.take(64, "signature")
    attestation_key = section.take(64, "attestation_key")
    inner = section if version == 3 else _outer_certification(section)  # noqa: PLR2004
    qe_report_bytes, qe_report = _qe_report(inner)
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
        qe_report=qe_report,
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
    if value not in allowed:
        raise _unexpected(start, field, str(value), " or ".join(map(str, allowed)))
    return value


def _vendor(reader: Reader) -> None:
    """Take the QE vendor id, which must be Intel's."""
    start = reader.offset
    vendor = reader.take(16, "qe_vendor_id")
    if vendor != INTEL_QE_VENDOR:
        raise _unexpected(start, "qe_vendor_id", vendor.hex(), INTEL_QE_VENDOR.hex())


def _unexpected(offset: int, field: str, got: str, want: str) -> MalformedEvidence:
    return MalformedEvidence(
        f"tdx.quote.{field}: not a value that is known here",
        id=CHECK,
        field=f"tdx.quote.{field}",
        offset=offset,
        got=got,
        want=want,
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
    if kind is BodyType.SGX:
        return _enclave_report(reader)
    if reader.remaining < BODY_SIZES[kind]:
        for name, size in _TD_LAYOUTS[kind]:
            reader.take(size, name)  # it raises at the field that is cut off
    names, layout = _TD_STRUCTS[kind]
    values = layout.unpack(reader.take(BODY_SIZES[kind], "body"))
    return TdReport(**dict(zip(names, values, strict=True)))


def _outer_certification(section: Reader) -> Reader:
    """Enter certification data type 6, in which versions 4 and 5 wrap the QE report."""
    _one_of(section, 2, "outer_certification_type", (_QE_REPORT_CERTIFICATION,))
    return section.sub(section.u32("outer_certification_size"), "qe_report_certification")


def _qe_report(inner: Reader) -> tuple[bytes, EnclaveReport]:
    """Take the QE report: the bytes that are signed, and its fields."""
    start = inner.offset
    raw = inner.take(_ENCLAVE_SIZE, "qe_report")
    return raw, _enclave_report(Reader(raw, name="tdx.quote.qe_report", id=CHECK, base=start))


def _enclave_report(reader: Reader) -> EnclaveReport:
    names = EnclaveReport.__dataclass_fields__
    values = _ENCLAVE.unpack(reader.take(_ENCLAVE_SIZE, "enclave_report"))
    return EnclaveReport(**dict(zip(names, values, strict=True)))
