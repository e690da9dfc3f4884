"""Signed texts of the field: ``request:response`` and ``model:request:response``.

Wire form: the answer of ``GET /v1/signature/{id}`` of the Phala and NEAR proxies (docs/providers).
The hashes are SHA-256 in 64 lower-case hex digits. A model's name may hold colons, so the text is
split from the right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from teeverify.binding import SigningKey
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.crypto.ethereum import (
    address_of,
    checksum_address,
    eip191_digest,
    recover_address,
    verify_recoverable,
)
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence, SignatureInvalid, SignatureUnavailable

__all__ = [
    "NO_KEYS",
    "KnownKeys",
    "SignedText",
    "known_keys",
    "parse_signature",
    "recover_signature",
    "verify_signed_text",
]

KnownKeys: TypeAlias = Mapping[SigningKey, tuple[SigningKey, bytes]]
NO_KEYS: KnownKeys = MappingProxyType({})

_ID = "answer.signature"
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_TEXT = 4096
_POINT_BYTES = 64
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
    algorithm = answer.text("signing_algo") if "signing_algo" in answer else "ecdsa"
    address = answer.text("signing_address")
    key = SigningKey.parse(algorithm, address, id=_ID, field="signature.signing_address")
    return _signed(answer, answer.text("text"), key)


def _signed(answer: JsonObject, text: str, key: SigningKey) -> SignedText:
    model, request, response = _split(text)
    return SignedText(
        text=text,
        model=model,
        request_sha256=request,
        response_sha256=response,
        signature=_signature(answer, key.algorithm),
        key=key,
        kind=_kind(answer),
    )


def _signature(answer: JsonObject, algorithm: str) -> bytes:
    return hex_bytes(
        answer.text("signature"),
        field="signature.signature",
        id=_ID,
        length=65 if algorithm == "ecdsa" else 64,
        prefix=algorithm == "ecdsa",
    )


def recover_signature(raw: bytes | str) -> SignedText:
    """Read the answer of 0G's signature route, which may name no signer.

    The key is then the one that the signature itself gives: it proves nothing until it is compared
    with an attested one.

    Raises:
        SignatureInvalid: No key can have made the signature.
        MalformedEvidence: Anything that does not have the exact form; so a proof of routing, by
            which a broker passes on the answer of a provider that is no enclave at all.
    """
    answer = JsonObject.parse(raw, path="signature", id=_ID)
    if "provider_type" in answer or "provider_identity" in answer:
        raise MalformedEvidence(
            "unsupported evidence format: a broker's proof that it passed on the answer of a "
            "provider outside any enclave",
            id=_ID,
            field="signature.provider_type",
            want="the signature of a confidential machine",
        )
    if "signing_address" in answer:
        return parse_signature(raw)
    text = answer.text("text")
    digest = eip191_digest(text.encode("utf-8"))
    address = recover_address(digest, _signature(answer, "ecdsa"), id=_ID)
    return _signed(answer, text, SigningKey("ecdsa", address))


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


def known_keys(keys: Iterable[bytes]) -> KnownKeys:
    """Public keys (``x || y``) by the address that each has; the addresses are made here."""
    points = (xy for xy in keys if len(xy) == _POINT_BYTES)
    return {key: (key, xy) for xy in points for key in [SigningKey("ecdsa", address_of(xy))]}


def verify_signed_text(signed: SignedText, keys: KnownKeys = NO_KEYS) -> SigningKey:
    """Verify the signature over the exact text, by the stated key.

    ``ecdsa``: EIP-191 ``personal_sign``, low-S, recovered and compared; under a public key that
    is known, nothing is recovered. ``ed25519``: over the UTF-8 text itself (RFC 8032).

    Args:
        signed: The text.
        keys: What :func:`known_keys` gives.

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
    if signed.key in keys:
        key, public = keys[signed.key]
        verify_recoverable(public, eip191_digest(message), signed.signature, id=_ID)
        return key
    address = recover_address(eip191_digest(message), signed.signature, id=_ID)
    if address != signed.key.identifier:
        raise SignatureInvalid(
            "the signature was not made by the key that is said to have made it",
            id=_ID,
            got=checksum_address(address),
            want=str(signed.key),
        )
    return signed.key
