"""The paravisor's envelope: the CPU's report, and the claims that it binds.

Layout: Microsoft's "HCL report", NV index 0x01400001 of the virtual TPM. The claims name the TPM's
attestation key (AK). On Intel's CPUs the report is a TDREPORT, which nobody but that CPU can check;
Intel's quote of the same report data comes beside the envelope.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import Any, Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric import rsa

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.encoding.checks import Check
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.reader import Reader
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import BindingMismatch, MalformedEvidence, StaleEvidence

__all__ = [
    "AZURE_CHECKS",
    "HCL_CHECKS",
    "HclClaims",
    "HclReport",
    "Kind",
    "attestation_key",
    "bound_claims",
    "malformed",
    "parse_hcl_report",
    "prove_hcl",
]

Kind: TypeAlias = Literal["snp", "tdx"]
HCL_SEAL = Seal("the vendor's verify_hcl")
HCL = "azure.hcl"
CLAIMS = "azure.claims"
QUOTE = "azure.quote"
NONCE = "azure.nonce"
PCRS = "azure.pcrs"
MAX_HCL = 16 * 1024
MAX_NONCE = 64
_HEADER_BYTES = 32
_FIELD_BYTES = 1184
_REPORT_BYTES: Mapping[Kind, int] = {"snp": 1184, "tdx": 1024}
_REPORT_TYPES: Mapping[Kind, int] = {"snp": 2, "tdx": 4}
_RUNTIME_HEADER_BYTES = 20
_REQUEST = 2
_HCL_VERSIONS = (1, 2)
_RUNTIME_VERSION = 1
_HASHES: Mapping[int, str] = {1: "sha256", 2: "sha384", 3: "sha512"}
_AK_BITS = 2048
_USER_DATA_BYTES = 64

AZURE_CHECKS: tuple[Check, ...] = (
    Check(
        id=HCL,
        claim="cpu",
        proves="The paravisor's envelope has the form of Azure's HCL report.",
        fix="Read the NV index 0x01400001 again, whole.",
    ),
    Check(
        id=CLAIMS,
        claim="key",
        proves="The report binds exactly the paravisor's claims, which name the TPM's key (AK).",
        fix="The claims were changed, or belong to another boot: get the envelope again.",
    ),
    Check(
        id=QUOTE,
        claim="key",
        proves="The TPM of this very machine made the quote.",
        fix="The quote is of another TPM: get envelope and quote from one machine.",
    ),
    Check(
        id=NONCE,
        claim="fresh",
        proves="The quote, or the envelope's user data, was made after you chose the nonce; the "
        "report alone is from boot.",
        fix="Ask for a quote with a new random nonce, or write it to the NV index 0x01400002 and "
        "read the envelope again.",
    ),
    Check(
        id=PCRS,
        claim="code",
        proves="The PCR values are exactly those that were quoted, all of the SHA-256 bank.",
        fix="Quote the same PCRs that are given, from the SHA-256 bank.",
    ),
)


HCL_CHECKS: tuple[Check, ...] = tuple(
    check for check in AZURE_CHECKS if check.id in (HCL, CLAIMS, NONCE)
)
"""Those of an envelope alone, without a quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """The paravisor's envelope, taken apart and not verified.

    Attributes:
        report: The CPU's report: AMD's attestation report, or Intel's TDREPORT.
        claims: The exact bytes of the paravisor's claims.
        hash_name: The hash by which the report binds them.
        version: Version of the envelope.
    """

    report: bytes
    claims: bytes
    hash_name: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HclClaims(Sealed):
    """What the envelope of a genuine confidential VM proves, without a quote of its TPM.

    What was booted is not in it: only a quote has the PCRs.

    Attributes:
        nonce: The nonce that it answered; ``None`` where nobody asked for one.
        ak_sha256: SHA-256 of the attestation key's modulus, in hex.
        runtime_claims: The paravisor's claims, as decoded: the paravisor's word.
    """

    nonce: bytes | None
    ak_sha256: str
    runtime_claims: Mapping[str, Any]
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, HCL_SEAL)


def parse_hcl_report(raw: bytes, kind: Kind) -> HclReport:
    """Read the envelope (NV index 0x01400001).

    Args:
        raw: The envelope.
        kind: Of which kind of CPU the report in it must be.

    Raises:
        MalformedEvidence: Another form, of another TEE, or sizes that do not fit.
    """
    if len(raw) > MAX_HCL:
        raise malformed(HCL, "too large", f"{len(raw)} bytes")
    reader = Reader(bytes(raw), name="azure.hcl", id=HCL)
    if reader.take(4, "signature") != b"HCLA":
        raise reader.error("not an HCL report", "signature", want="HCLA")
    version, size = reader.u32("version"), reader.u32("report_size")
    request, status = reader.u32("request_type"), reader.u32("status")
    reader.zeros(12, "reserved")
    report = reader.take(_FIELD_BYTES, "report")
    data_size, runtime_version = reader.u32("data_size"), reader.u32("runtime_version")
    report_type, hash_type = reader.u32("report_type"), reader.u32("hash_type")
    claims_size = reader.u32("claims_size")
    wrong = {
        "version": version not in _HCL_VERSIONS,
        "request_type": request != _REQUEST,
        "status": status != 0,
        "report_size": size != _HEADER_BYTES + _FIELD_BYTES + data_size,
        "data_size": data_size != _RUNTIME_HEADER_BYTES + claims_size,
        "runtime_version": runtime_version != _RUNTIME_VERSION,
        "report_type": report_type != _REPORT_TYPES[kind],
        "hash_type": hash_type not in _HASHES,
    }
    if any(wrong.values()):
        names = ", ".join(name for name, bad in wrong.items() if bad)
        raise malformed(HCL, f"unknown or wrong {names}", raw[:32].hex())
    claims = reader.take(claims_size, "claims")
    reader.zeros(reader.remaining, "padding")
    return HclReport(
        report=report[: _REPORT_BYTES[kind]],
        claims=claims,
        hash_name=_HASHES[hash_type],
        version=version,
    )


def prove_hcl(hcl: HclReport, report_data: bytes, *, nonce: bytes | None) -> HclClaims:
    """What an envelope proves; for the vendors' rooms, which proved the report before.

    Args:
        hcl: The envelope.
        report_data: What the genuine report, or quote, binds.
        nonce: The nonce that was asked for, if any.

    Raises:
        MalformedEvidence: The claims cannot be read.
        BindingMismatch: The report does not bind the claims.
        StaleEvidence: They answer another nonce, or none.
    """
    runtime = bound_claims(hcl, report_data)
    _, modulus = attestation_key(runtime)
    if nonce is not None:
        _require_user_data(runtime, nonce)
    return HclClaims(
        nonce=nonce,
        ak_sha256=hashlib.sha256(modulus).hexdigest(),
        runtime_claims={name: runtime.raw(name) for name in runtime.names()},
        seal=HCL_SEAL,
    )


def _require_user_data(runtime: JsonObject, nonce: bytes) -> None:
    seen = b""
    if "user-data" in runtime:
        text = runtime.text("user-data").lower()  # Azure writes it in capitals
        seen = hex_bytes(text, field="azure.claims.user-data", id=CLAIMS, length=_USER_DATA_BYTES)
    good = any(nonce) and len(nonce) <= MAX_NONCE  # zeros are there where nobody wrote anything
    if not good or seen != nonce.ljust(_USER_DATA_BYTES, b"\0"):
        raise StaleEvidence(
            "the paravisor's claims do not answer your question: their user data is another one",
            id=NONCE,
            got=seen.hex() or "none",
            want=nonce.hex() or "a nonce",
            hint="Write your nonce to the NV index 0x01400002 and read the envelope again.",
        )


def bound_claims(hcl: HclReport, report_data: bytes) -> JsonObject:
    """The claims, once both halves of report_data hold: their hash, and nothing behind it.

    Raises:
        BindingMismatch: The report binds something else.
        MalformedEvidence: The claims cannot be read.
    """
    want = hashlib.new(hcl.hash_name, hcl.claims).digest().ljust(64, b"\0")
    if report_data != want:
        raise BindingMismatch(
            "the report does not bind these claims of the paravisor",
            id=CLAIMS,
            got=report_data.hex(),
            want=want.hex(),
        )
    return JsonObject.parse(hcl.claims, path="azure.claims", id=CLAIMS)


def attestation_key(runtime: JsonObject) -> tuple[rsa.RSAPublicKey, bytes]:
    """The AK among the claims' keys (RFC 7517)."""
    found = [key for key in runtime.objects("keys") if key.raw("kid") == "HCLAkPub"]
    if len(found) != 1 or found[0].text("kty") != "RSA":
        raise malformed(CLAIMS, "not exactly one RSA key HCLAkPub", str(len(found)))
    modulus = found[0].base64("n", url=True)
    exponent = int.from_bytes(found[0].base64("e", url=True), "big")
    number = int.from_bytes(modulus, "big")
    if number.bit_length() != _AK_BITS:
        raise malformed(CLAIMS, "the AK is not of 2048 bits", str(number.bit_length()))
    try:
        return rsa.RSAPublicNumbers(exponent, number).public_key(), modulus
    except FOREIGN_ERRORS:
        raise malformed(CLAIMS, "the AK is no RSA key", None) from None


def malformed(id: str, problem: str, got: str | None) -> MalformedEvidence:
    """The error (not raised) for a piece of this evidence."""
    return MalformedEvidence(f"{id}: {problem}", id=id, field=id, got=got)
