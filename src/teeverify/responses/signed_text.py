"""Signed texts of the field: ``request:response`` and ``model:request:response``.

Wire form: the answer of ``GET /v1/signature/{id}`` of the Phala and NEAR proxies (docs/providers).
The hashes are SHA-256 in 64 lower-case hex digits. A model's name may hold colons, so the text is
split from the right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from teeverify.binding import SigningKey
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.crypto.ethereum import checksum_address, eip191_digest, recover_address
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence, SignatureInvalid, SignatureUnavailable

__all__ = ["SignedText", "parse_signature", "verify_signed_text"]

_ID = "answer.signature"
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_TEXT = 4096
_UNAVAILABLE = ("STREAM_DISCONNECTED", "SIGNATURE_UNSUPPORTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedText:
    """One signed text as an endpoint gives it. Nothing here is verified.

    Attributes:
        text: The exact text that was signed.
        model: The model's name, in the three-part form.
        request_sha256: Hash of the request's bytes, lower-case hex.
        response_sha256: Hash of the response's bytes, lower-case hex.
        signature: 65 bytes ``r || s || v`` (ecdsa) or 64 bytes (ed25519).
        key: The key that is said to have signed.
        kind: ``provider_tee`` or ``gateway`` where the endpoint says so.
    """

    text: str
    model: str | None
    request_sha256: str
    response_sha256: str
    signature: bytes
    key: SigningKey
    kind: Literal["provider_tee", "gateway"] | None


def parse_signature(raw: bytes | str) -> SignedText:
    """Read the answer of a signature endpoint.

    Raises:
        SignatureUnavailable: The endpoint says that it has none.
        MalformedEvidence: Anything that does not have the exact form.
    """
    answer = JsonObject.parse(raw, path="signature", id=_ID)
    if "error_code" in answer:
        code = answer.text("error_code")
        raise SignatureUnavailable(
            "the endpoint has no signature for this answer",
            id=_ID,
            got=code if code in _UNAVAILABLE else "an unknown error code",
        )
    text = answer.text("text")
    algorithm = answer.text("signing_algo") if "signing_algo" in answer else "ecdsa"
    address = answer.text("signing_address")
    key = SigningKey.parse(algorithm, address, id=_ID, field="signature.signing_address")
    length = 65 if key.algorithm == "ecdsa" else 64
    model, request, response = _split(text)
    return SignedText(
        text=text,
        model=model,
        request_sha256=request,
        response_sha256=response,
        signature=hex_bytes(
            answer.text("signature"),
            field="signature.signature",
            id=_ID,
            length=length,
            prefix=key.algorithm == "ecdsa",
        ),
        key=key,
        kind=_kind(answer),
    )


def _kind(answer: JsonObject) -> Literal["provider_tee", "gateway"] | None:
    if "signature_kind" not in answer:
        return None
    kind = answer.text("signature_kind")
    if kind == "provider_tee":
        return "provider_tee"
    if kind == "gateway":
        return "gateway"
    raise MalformedEvidence(
        "signature.signature_kind: unknown",
        id=_ID,
        field="signature.signature_kind",
        got=repr(kind)[:40],
        want="provider_tee or gateway",
    )


def _split(text: str) -> tuple[str | None, str, str]:
    parts = text.rsplit(":", 2) if len(text) <= _MAX_TEXT else []
    hashes = parts[-2:]
    good = len(hashes) == 2 and all(_HASH.fullmatch(part) for part in hashes)  # noqa: PLR2004
    if not good or (len(parts) == 3 and not parts[0]):  # noqa: PLR2004
        raise MalformedEvidence(
            "signature.text: neither request:response nor model:request:response",
            id=_ID,
            field="signature.text",
            got=repr(text)[:80],
            want="hashes of 64 lower-case hex digits",
        )
    return (parts[0] if len(parts) == 3 else None), hashes[0], hashes[1]  # noqa: PLR2004


def verify_signed_text(signed: SignedText) -> SigningKey:
    """Verify the signature over the exact text, by the stated key.

    ``ecdsa``: EIP-191 ``personal_sign``, low-S, recovered and compared. ``ed25519``: over the
    UTF-8 text itself (RFC 8032).

    Returns:
        The key that signed.

    Raises:
        SignatureInvalid: It was not that key.
    """
    message = signed.text.encode("utf-8")
    if signed.key.algorithm == "ed25519":
        verify_ed25519(
            signed.key.identifier, signed.signature, message, id=_ID, what="the answer's signature"
        )
        return signed.key
    address = recover_address(eip191_digest(message), signed.signature, id=_ID)
    if address != signed.key.identifier:
        raise SignatureInvalid(
            "the signature was not made by the key that is said to have made it",
            id=_ID,
            got=checksum_address(address),
            want=str(signed.key),
        )
    return signed.key
