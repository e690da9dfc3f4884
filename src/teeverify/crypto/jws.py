"""JSON web signatures (RFC 7515): the compact form, signed with ES384, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from teeverify.crypto.ecdsa import verify_raw
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = ["Jws", "parse_compact", "verify_es384"]

MAX_TOKEN_CHARACTERS = 512 * 1024
_ALGORITHM = "ES384"
_PARTS = 3
# Each brings a key, changes what is signed, or says that others must be understood.
_REFUSED = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u", "zip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Jws:
    """One token, taken apart and not verified.

    Attributes:
        compact: The token as sent.
        header: The protected header.
        payload: The claims.
        signing_input: The bytes that are signed: the first two parts and the dot, as sent.
        signature: ``r || s``.
    """

    compact: str
    header: JsonObject = field(compare=False, repr=False)
    payload: JsonObject = field(compare=False, repr=False)
    signing_input: bytes = field(compare=False, repr=False)
    signature: bytes = field(compare=False, repr=False)


def parse_compact(token: str, *, id: str, what: str) -> Jws:
    """Take a compact token apart (RFC 7515 section 7.1).

    Args:
        token: Three base64url parts with dots between them.
        id: Check id for the errors.
        what: What the token is, for the errors.

    Raises:
        MalformedEvidence: Not text, too large, not three parts, not strict base64url or JSON, an
            algorithm other than ES384, or a header that brings a key or changes the meaning.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS:
        raise MalformedEvidence(
            f"{what}: not text of at most {MAX_TOKEN_CHARACTERS} characters", id=id, field=what
        )
    parts = token.split(".", _PARTS)
    if len(parts) != _PARTS:
        raise MalformedEvidence(
            f"{what}: not a compact token", id=id, field=what, need="3 parts", have=len(parts)
        )
    header = _object(parts[0], f"{what}.header", id)
    algorithm = header.text("alg")
    if algorithm != _ALGORITHM:
        raise MalformedEvidence(
            f"{what}.header.alg: not {_ALGORITHM}",
            id=id,
            field=f"{what}.header.alg",
            got=ascii(algorithm)[:80],
            want=_ALGORITHM,
        )
    refused = sorted(header.names() & _REFUSED)
    if refused:
        raise MalformedEvidence(
            f"{what}.header: a member that is not accepted",
            id=id,
            field=f"{what}.header",
            got=", ".join(refused),
        )
    payload = _object(parts[1], f"{what}.payload", id)
    signature = base64_bytes(parts[2], field=f"{what}.signature", id=id, url=True)
    signing_input = f"{parts[0]}.{parts[1]}".encode("ascii")
    return Jws(
        compact=token,
        header=header,
        payload=payload,
        signing_input=signing_input,
        signature=signature,
    )


def _object(part: str, path: str, id: str) -> JsonObject:
    return JsonObject.parse(base64_bytes(part, field=path, id=id, url=True), path=path, id=id)


def verify_es384(jws: Jws, key: PublicKeyTypes, *, id: str, what: str) -> None:
    """Verify a token's signature with ECDSA on P-384 and SHA-384 (RFC 7518 section 3.4).

    Args:
        jws: The token.
        key: A P-384 public key; any other is refused.
        id: Check id for the error.
        what: What the token is, for the error.

    Raises:
        SignatureInvalid: Another kind of key, or the signature does not verify.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise SignatureInvalid(
            f"{what}: the key is of a kind that must not sign this", id=id, want="a key on P-384"
        )
    verify_raw(key, jws.signature, jws.signing_input, id=id, what=what)
