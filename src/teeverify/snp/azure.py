"""Azure confidential VMs: the report in the paravisor's envelope, and the virtual TPM's quote.

The report is made at boot and binds the paravisor's claims, which name the TPM's attestation key
(AK). So the report says which machine, and the quote by that key says when, and what was booted.
Layouts: Microsoft's "HCL report"; TPM 2.0 Library Specification part 2, TPMS_ATTEST.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.encoding.checks import Check
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.reader import Reader
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import BindingMismatch, MalformedEvidence, SignatureInvalid, StaleEvidence
from teeverify.snp.claims import Claims
from teeverify.snp.report import REPORT_BYTES

__all__ = [
    "AZURE_CHECKS",
    "AzureEvidence",
    "HclReport",
    "TpmQuote",
    "VtpmClaims",
    "parse_azure_evidence",
    "parse_hcl_report",
    "parse_tpm_quote",
    "verify_vtpm",
]

SEAL = Seal("teeverify.snp.verify_vtpm")
_HCL = "azure.hcl"
_CLAIMS = "azure.claims"
_QUOTE = "azure.quote"
_NONCE = "azure.nonce"
_PCRS = "azure.pcrs"
_MAX_HCL = 16 * 1024
_HEADER_BYTES = 32
_RUNTIME_HEADER_BYTES = 20
_REQUEST_SNP = 2
_HCL_VERSIONS = (1, 2)
_RUNTIME_VERSION = 1
_HASHES: Mapping[int, str] = {1: "sha256", 2: "sha384", 3: "sha512"}
_TPM_MAGIC = bytes.fromhex("ff544347")
_TPM_QUOTE = bytes.fromhex("8018")
_SHA256_BANK = 0x000B
_AK_BITS = 2048
_MAX_NONCE = 64
_PCR_COUNT = 24
_PCR_BYTES = 32

AZURE_CHECKS: tuple[Check, ...] = (
    Check(
        id=_HCL,
        claim="cpu",
        proves="The paravisor's envelope has the form of Azure's HCL report.",
        fix="Read the NV index 0x01400001 again, whole.",
    ),
    Check(
        id=_CLAIMS,
        claim="key",
        proves="The report binds exactly the paravisor's claims, which name the TPM's key (AK).",
        fix="The claims were changed, or belong to another boot: get the envelope again.",
    ),
    Check(
        id=_QUOTE,
        claim="key",
        proves="The TPM of this very machine made the quote.",
        fix="The quote is of another TPM: get envelope and quote from one machine.",
    ),
    Check(
        id=_NONCE,
        claim="fresh",
        proves="The quote was made after you chose the nonce; the report alone is from boot.",
        fix="Ask for a quote with a new random nonce.",
    ),
    Check(
        id=_PCRS,
        claim="code",
        proves="The PCR values are exactly those that were quoted, all of the SHA-256 bank.",
        fix="Quote the same PCRs that are given, from the SHA-256 bank.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """The paravisor's envelope, taken apart and not verified.

    Attributes:
        report: The AMD report.
        claims: The exact bytes of the paravisor's claims.
        hash_name: The hash by which the report binds them.
        version: Version of the envelope.
    """

    report: bytes
    claims: bytes
    hash_name: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmQuote:
    """What a TPM signed (TPMS_ATTEST of a quote), taken apart and not verified.

    Attributes:
        message: The signed bytes.
        extra_data: The nonce.
        selections: PCR numbers by hash algorithm.
        pcr_digest: Digest over the selected PCRs.
    """

    message: bytes
    extra_data: bytes
    selections: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureEvidence:
    """An Azure VM's evidence, as agents send it: envelope, quote, PCRs, certificate.

    Attributes:
        hcl: The envelope.
        message: The TPM's signed message.
        signature: Its signature.
        pcrs: Values of PCR 0 and following.
        certificates: The VCEK and its chain, in PEM; ``None`` where they were not sent.
    """

    hcl: bytes
    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]
    certificates: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmClaims(Sealed):
    """What the virtual TPM of a genuine SEV-SNP VM proves.

    Attributes:
        nonce: The nonce that it answered.
        pcrs: Values of the quoted PCRs of the SHA-256 bank, by number.
        ak_sha256: SHA-256 of the attestation key's modulus, in hex.
        runtime_claims: The paravisor's claims, as decoded: the paravisor's word.
    """

    nonce: bytes
    pcrs: Mapping[int, bytes]
    ak_sha256: str
    runtime_claims: Mapping[str, Any]
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, SEAL)


def parse_hcl_report(raw: bytes) -> HclReport:
    """Read the envelope (NV index 0x01400001).

    Raises:
        MalformedEvidence: Another form, of another TEE, or sizes that do not fit.
    """
    if len(raw) > _MAX_HCL:
        raise _malformed(_HCL, "too large", f"{len(raw)} bytes")
    reader = Reader(bytes(raw), name="azure.hcl", id=_HCL)
    if reader.take(4, "signature") != b"HCLA":
        raise reader.error("not an HCL report", "signature", want="HCLA")
    version, size = reader.u32("version"), reader.u32("report_size")
    request, status = reader.u32("request_type"), reader.u32("status")
    reader.zeros(12, "reserved")
    report = reader.take(REPORT_BYTES, "report")
    data_size, runtime_version = reader.u32("data_size"), reader.u32("runtime_version")
    kind, hash_type = reader.u32("report_type"), reader.u32("hash_type")
    claims_size = reader.u32("claims_size")
    wrong = {
        "version": version not in _HCL_VERSIONS,
        "request_type": request != _REQUEST_SNP,
        "status": status != 0,
        "report_size": size != _HEADER_BYTES + REPORT_BYTES + data_size,
        "data_size": data_size != _RUNTIME_HEADER_BYTES + claims_size,
        "runtime_version": runtime_version != _RUNTIME_VERSION,
        "report_type": kind != _REQUEST_SNP,
        "hash_type": hash_type not in _HASHES,
    }
    if any(wrong.values()):
        names = ", ".join(name for name, bad in wrong.items() if bad)
        raise _malformed(_HCL, f"unknown or wrong {names}", raw[:32].hex())
    claims = reader.take(claims_size, "claims")
    reader.zeros(reader.remaining, "padding")
    return HclReport(report=report, claims=claims, hash_name=_HASHES[hash_type], version=version)


def parse_tpm_quote(message: bytes) -> TpmQuote:
    """Read what a TPM signed.

    Raises:
        MalformedEvidence: Not a quote, or something left over.
    """
    reader = Reader(bytes(message), name="azure.quote", id=_QUOTE)

    def number(size: int, field: str) -> int:
        return int.from_bytes(reader.take(size, field), "big")

    if reader.take(4, "magic") != _TPM_MAGIC or reader.take(2, "type") != _TPM_QUOTE:
        raise reader.error("not a TPM's quote", "magic")
    reader.take(number(2, "qualified_signer"), "qualified_signer")
    extra_data = reader.take(number(2, "extra_data"), "extra_data")
    reader.take(17, "clock_info")
    reader.take(8, "firmware_version")
    selections = []
    for _ in range(number(4, "selections")):
        bank = number(2, "hash")
        bits = int.from_bytes(reader.take(number(1, "select_size"), "select"), "little")
        selections.append((bank, tuple(n for n in range(bits.bit_length()) if bits >> n & 1)))
    digest = reader.take(number(2, "pcr_digest"), "pcr_digest")
    reader.finish()
    return TpmQuote(
        message=bytes(message),
        extra_data=extra_data,
        selections=tuple(selections),
        pcr_digest=digest,
    )


def parse_azure_evidence(form: JsonObject) -> AzureEvidence:
    """Read evidence as attestation agents send it: JSON whose bytes are lists of numbers.

    Raises:
        MalformedEvidence: A member is missing or of another form.
    """
    quote = form.object("quote")
    pcrs = quote.array("pcrs")
    if not 0 < len(pcrs) <= _PCR_COUNT:
        raise _malformed(_PCRS, "as many PCRs as no TPM has", str(len(pcrs)))
    return AzureEvidence(
        hcl=_bytes(form.array("report"), "report", _MAX_HCL),
        message=_bytes(quote.array("message"), "quote.message", 1024),
        signature=_bytes(quote.array("signature"), "quote.signature", 1024),
        pcrs=tuple(_bytes(pcr, f"quote.pcrs[{n}]", _PCR_BYTES) for n, pcr in enumerate(pcrs)),
        certificates=form.text("vcek").encode("utf-8") if "vcek" in form else None,
    )


def _bytes(value: object, field: str, most: int) -> bytes:
    good = isinstance(value, list) and len(value) <= most
    if not good or not all(type(n) is int and 0 <= n <= 255 for n in value):  # type: ignore[attr-defined]  # noqa: PLR2004
        raise _malformed(_HCL, f"{field} is no list of bytes", None)
    return bytes(value)  # type: ignore[call-overload,no-any-return]


def verify_vtpm(
    hcl: HclReport,
    claims: Claims,
    *,
    message: bytes,
    signature: bytes,
    pcrs: Sequence[bytes],
    nonce: bytes,
) -> VtpmClaims:
    """Verify that the TPM of a genuine VM quoted exactly these PCRs for this nonce.

    Args:
        hcl: The envelope in which the report came.
        claims: What :func:`teeverify.snp.verify_report` proved of its report.
        message: What the TPM signed.
        signature: Its signature (RSASSA-PKCS1-v1_5 with SHA-256).
        pcrs: Values of PCR 0 and following; all of them must be quoted, and no others.
        nonce: The nonce that you asked for; there is no verification without one.

    Raises:
        MalformedEvidence: The claims or the quote cannot be read.
        BindingMismatch: The report does not bind the claims, or the PCRs are not those quoted.
        SignatureInvalid: The quote is not signed by the key in the claims.
        StaleEvidence: The quote answers another nonce, or none.
    """
    _require_claims(hcl, claims)
    runtime = JsonObject.parse(hcl.claims, path="azure.claims", id=_CLAIMS)
    key, modulus = _attestation_key(runtime)
    quote = parse_tpm_quote(message)
    try:
        key.verify(bytes(signature), quote.message, padding.PKCS1v15(), hashes.SHA256())
    except FOREIGN_ERRORS:
        raise SignatureInvalid(
            "the TPM's quote is not signed by the key that the report binds",
            id=_QUOTE,
            want=f"a signature of the AK sha256:{hashlib.sha256(modulus).hexdigest()}",
        ) from None
    if not 0 < len(nonce) <= _MAX_NONCE or quote.extra_data != nonce:
        raise StaleEvidence(
            "the TPM's quote does not answer your question: it carries another nonce",
            id=_NONCE,
            got=quote.extra_data.hex() or "none",
            want=nonce.hex() or "a nonce",
            hint="It is cached or recorded, and does not show which machine answers you now.",
        )
    _require_pcrs(quote, pcrs)
    return VtpmClaims(
        nonce=nonce,
        pcrs=dict(enumerate(pcrs)),
        ak_sha256=hashlib.sha256(modulus).hexdigest(),
        runtime_claims={name: runtime.raw(name) for name in runtime.names()},
        seal=SEAL,
    )


def _require_claims(hcl: HclReport, claims: Claims) -> None:
    """Both halves of report_data: the hash of exactly the claims, and nothing behind it."""
    want = hashlib.new(hcl.hash_name, hcl.claims).digest().ljust(64, b"\0")
    if claims.report.raw != hcl.report or claims.report_data != want:
        raise BindingMismatch(
            "the report does not bind these claims of the paravisor",
            id=_CLAIMS,
            got=claims.report_data.hex(),
            want=want.hex(),
        )


def _attestation_key(runtime: JsonObject) -> tuple[rsa.RSAPublicKey, bytes]:
    """The AK among the claims' keys (RFC 7517)."""
    found = [key for key in runtime.objects("keys") if key.raw("kid") == "HCLAkPub"]
    if len(found) != 1 or found[0].text("kty") != "RSA":
        raise _malformed(_CLAIMS, "not exactly one RSA key HCLAkPub", str(len(found)))
    modulus = found[0].base64("n", url=True)
    exponent = int.from_bytes(found[0].base64("e", url=True), "big")
    number = int.from_bytes(modulus, "big")
    if number.bit_length() != _AK_BITS:
        raise _malformed(_CLAIMS, "the AK is not of 2048 bits", str(number.bit_length()))
    try:
        return rsa.RSAPublicNumbers(exponent, number).public_key(), modulus
    except FOREIGN_ERRORS:
        raise _malformed(_CLAIMS, "the AK is no RSA key", None) from None


def _require_pcrs(quote: TpmQuote, pcrs: Sequence[bytes]) -> None:
    """Bank and selection first: a digest says nothing about which PCRs it is over."""
    claimed = ((_SHA256_BANK, tuple(range(len(pcrs)))),)
    if not pcrs or quote.selections != claimed:
        raise BindingMismatch(
            "other PCRs were quoted than those that are given",
            id=_PCRS,
            got="; ".join(
                f"bank {bank:#06x}: {list(numbers)}" for bank, numbers in quote.selections
            )
            or "none",
            want=f"bank {_SHA256_BANK:#06x}: {list(range(len(pcrs)))}",
        )
    if any(len(pcr) != _PCR_BYTES for pcr in pcrs):
        raise _malformed(_PCRS, "a PCR of another length", None)
    digest = hashlib.sha256(b"".join(pcrs)).digest()
    if digest != quote.pcr_digest:
        raise BindingMismatch(
            "the PCR values are not those that were quoted",
            id=_PCRS,
            got=digest.hex(),
            want=quote.pcr_digest.hex(),
        )


def _malformed(id: str, problem: str, got: str | None) -> MalformedEvidence:
    return MalformedEvidence(f"{id}: {problem}", id=id, field=id, got=got)
