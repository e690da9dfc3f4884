"""The virtual TPM's quote: when it was made, and what was booted.

Layout: TPM 2.0 Library Specification part 2, TPMS_ATTEST.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from teeverify.azure.envelope import (
    HCL,
    MAX_HCL,
    MAX_NONCE,
    NONCE,
    PCRS,
    QUOTE,
    HclReport,
    attestation_key,
    bound_claims,
    malformed,
)
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.reader import Reader
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import any_base64_bytes, hex_bytes
from teeverify.errors import BindingMismatch, SignatureInvalid, StaleEvidence

__all__ = [
    "AzureEvidence",
    "TpmQuote",
    "VtpmClaims",
    "parse_tpm_quote",
    "prove_vtpm",
    "read_bytes",
    "read_evidence",
]

SEAL = Seal("the vendor's verify_vtpm")
_TPM_MAGIC = bytes.fromhex("ff544347")
_TPM_QUOTE = bytes.fromhex("8018")
_SHA256_BANK = 0x000B
_PCR_COUNT = 24
_PCR_BYTES = 32
_BYTE = 255


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
        certificates: The VCEK, in DER, or with its chain in PEM; ``None`` where none was sent.
    """

    hcl: bytes
    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]
    certificates: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmClaims(Sealed):
    """What the virtual TPM of a genuine confidential VM proves.

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


def parse_tpm_quote(message: bytes) -> TpmQuote:
    """Read what a TPM signed.

    Raises:
        MalformedEvidence: Not a quote, or something left over.
    """
    reader = Reader(bytes(message), name="azure.quote", id=QUOTE)

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


def read_evidence(hcl: object, quote: JsonObject, certificates: bytes | None) -> AzureEvidence:
    """Read evidence as attestation agents send it.

    Args:
        hcl: The envelope, see :func:`read_bytes`.
        quote: The TPM's quote; where its bytes are text, it is hexadecimal.
        certificates: The certificate of the chip, where it came along.

    Raises:
        MalformedEvidence: A member is missing or of another form.
    """
    pcrs = quote.array("pcrs")
    if not 0 < len(pcrs) <= _PCR_COUNT:
        raise malformed(PCRS, "as many PCRs as no TPM has", str(len(pcrs)))
    return AzureEvidence(
        hcl=read_bytes(hcl, "report", MAX_HCL),
        message=read_bytes(quote.raw("message"), "quote.message", 1024, text="hex"),
        signature=read_bytes(quote.raw("signature"), "quote.signature", 1024, text="hex"),
        pcrs=tuple(
            read_bytes(pcr, f"quote.pcrs[{n}]", _PCR_BYTES, text="hex")
            for n, pcr in enumerate(pcrs)
        ),
        certificates=certificates,
    )


def read_bytes(
    value: object, field: str, most: int, *, text: Literal["base64", "hex"] = "base64"
) -> bytes:
    """Read bytes as agents write them: a list of numbers, or text since version 1 of their form.

    Args:
        value: What stands there.
        field: Its name, for errors.
        most: How many bytes there may be.
        text: What a text is.

    Raises:
        MalformedEvidence: Something else, or more of them.
    """
    data: bytes | None = None
    if isinstance(value, str):
        data = (
            hex_bytes(value, field=field, id=HCL)
            if text == "hex"
            else any_base64_bytes(value, field=field, id=HCL)
        )
    elif isinstance(value, list) and len(value) <= most:
        numbers = all(type(n) is int and 0 <= n <= _BYTE for n in value)
        data = bytes(value) if numbers else None
    if data is None or len(data) > most:
        raise malformed(HCL, f"{field} is neither a list of bytes nor {text}, or too long", None)
    return data


def prove_vtpm(
    hcl: HclReport,
    report_data: bytes,
    *,
    message: bytes,
    signature: bytes,
    pcrs: Sequence[bytes],
    nonce: bytes,
) -> VtpmClaims:
    """What a TPM's quote proves; for the vendors' rooms, which proved the report before.

    Args:
        hcl: The envelope.
        report_data: What the genuine report, or quote, binds.
        message: What the TPM signed.
        signature: Its signature (RSASSA-PKCS1-v1_5 with SHA-256).
        pcrs: Values of PCR 0 and following; all of them must be quoted, and no others.
        nonce: The nonce that was asked for; there is no verification without one.

    Raises:
        MalformedEvidence: The claims or the quote cannot be read.
        BindingMismatch: The report does not bind the claims, or the PCRs are not those quoted.
        SignatureInvalid: The quote is not signed by the key in the claims.
        StaleEvidence: The quote answers another nonce, or none.
    """
    runtime = bound_claims(hcl, report_data)
    key, modulus = attestation_key(runtime)
    quote = parse_tpm_quote(message)
    try:
        key.verify(bytes(signature), quote.message, padding.PKCS1v15(), hashes.SHA256())
    except FOREIGN_ERRORS:
        raise SignatureInvalid(
            "the TPM's quote is not signed by the key that the report binds",
            id=QUOTE,
            want=f"a signature of the AK sha256:{hashlib.sha256(modulus).hexdigest()}",
        ) from None
    if not 0 < len(nonce) <= MAX_NONCE or quote.extra_data != nonce:
        raise StaleEvidence(
            "the TPM's quote does not answer your question: it carries another nonce",
            id=NONCE,
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


def _require_pcrs(quote: TpmQuote, pcrs: Sequence[bytes]) -> None:
    """Bank and selection first: a digest says nothing about which PCRs it is over."""
    claimed = ((_SHA256_BANK, tuple(range(len(pcrs)))),)
    if not pcrs or quote.selections != claimed:
        raise BindingMismatch(
            "other PCRs were quoted than those that are given",
            id=PCRS,
            got="; ".join(
                f"bank {bank:#06x}: {list(numbers)}" for bank, numbers in quote.selections
            )
            or "none",
            want=f"bank {_SHA256_BANK:#06x}: {list(range(len(pcrs)))}",
        )
    if any(len(pcr) != _PCR_BYTES for pcr in pcrs):
        raise malformed(PCRS, "a PCR of another length", None)
    digest = hashlib.sha256(b"".join(pcrs)).digest()
    if digest != quote.pcr_digest:
        raise BindingMismatch(
            "the PCR values are not those that were quoted",
            id=PCRS,
            got=digest.hex(),
            want=quote.pcr_digest.hex(),
        )
