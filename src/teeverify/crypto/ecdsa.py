"""ECDSA over P-256 with SHA-256 and over P-384 with SHA-384 (FIPS 186-5 section 6), and no other.

Both encodings have exactly one form each: ``r || s`` of fixed width (IEEE P1363), and DER
(RFC 3279 section 2.2.3) that encodes back to itself.
"""

from __future__ import annotations

import hashlib
from typing import NoReturn, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = ["p256_key", "verify_der", "verify_raw"]


# By curve: how many bytes r and s have, and the curve's own hash (FIPS 186-5 section 6.1.1).
_CURVES = {
    "secp256r1": (32, ec.ECDSA(hashes.SHA256())),
    "secp384r1": (48, ec.ECDSA(hashes.SHA384())),
}
_P256_BYTES = 64
# Beginning of the SubjectPublicKeyInfo (RFC 5480 section 2.1: named curve, uncompressed point).
P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def p256_key(
    xy: bytes,
    *,
    id: str,
    what: str,
) -> ec.EllipticCurvePublicKey:
    """Make a P-256 public key of its two coordinates (SEC 1 section 2.3.4).

    Args:
        xy: ``x || y``, big-endian, 64 bytes.
        id: Check id for the error.
        what: What the key is, for the error.

    Raises:
        MalformedEvidence: Another length, or not a point of the curve.
    """
    if len(xy) != _P256_BYTES:
        raise MalformedEvidence(
            f"{what}: wrong length", id=id, field=what, need=_P256_BYTES, have=len(xy)
        )
    try:
        return cast("ec.EllipticCurvePublicKey", load_der_public_key(P256_SPKI + xy))
    except FOREIGN_ERRORS:
        raise MalformedEvidence(
            f"{what}: not a point of P-256", id=id, field=what, got=xy.hex()[:32] + "..."
        ) from None


def verify_raw(
    key: PublicKeyTypes,
    signature: bytes,
    message: bytes,
    *,
    id: str,
    what: str,
) -> None:
    """Verify a signature given as fixed-width, big-endian ``r || s``.

    Args:
        key: A P-256 or P-384 public key; any other is refused.
        signature: 64 bytes for P-256, 96 for P-384.
        message: What was signed; it is hashed here, with the curve's own hash.
        id: Check id for the error.
        what: What is signed, for the error.

    Raises:
        SignatureInvalid: Another kind of key, another length, ``r`` or ``s`` out of range, or the
            signature does not verify.
    """
    curve, size, algorithm = _on_curve(key, id, what)
    if len(signature) != 2 * size:
        _refuse(curve, id, what, f"a signature of {len(signature)} bytes")
    r = int.from_bytes(signature[:size], "big")
    s = int.from_bytes(signature[size:], "big")
    _verify(curve, algorithm, encode_dss_signature(r, s), message, (id, what))


def verify_der(
    key: PublicKeyTypes,
    signature: bytes,
    message: bytes,
    *,
    id: str,
    what: str,
    with_sha256: bool = False,
) -> None:
    """Verify a signature given in DER, as certificates and revocation lists carry it.

    Args:
        key: A P-256 or P-384 public key; any other is refused.
        signature: DER of ``SEQUENCE { r INTEGER, s INTEGER }``, in its only valid form.
        message: What was signed; it is hashed here, with the curve's own hash.
        id: Check id for the error.
        what: What is signed, for the error.
        with_sha256: Hash with SHA-256 whatever the curve, for the one scheme that does so.

    Raises:
        SignatureInvalid: Another kind of key, not DER, ``r`` or ``s`` out of range, or the
            signature does not verify.
    """
    curve, _, algorithm = _on_curve(key, id, what)
    if with_sha256:
        algorithm = ec.ECDSA(hashes.SHA256())
    _verify(curve, algorithm, signature, message, (id, what))


def _on_curve(
    key: PublicKeyTypes, id: str, what: str
) -> tuple[ec.EllipticCurvePublicKey, int, ec.ECDSA]:
    """The key, with what belongs to its curve."""
    # Only keys on a curve have one. The library's classes are abstract ones, and asking those for
    # each signature takes longer than this.
    name = key.curve.name if hasattr(key, "curve") else type(key).__name__
    if name not in _CURVES:
        raise SignatureInvalid(
            f"{what}: the key is of a kind that must not sign this",
            id=id,
            got=name,
            want="an ECDSA key on P-256 or P-384",
        )
    return cast("ec.EllipticCurvePublicKey", key), *_CURVES[name]


def _verify(
    key: ec.EllipticCurvePublicKey,
    algorithm: ec.ECDSA,
    signature: bytes,
    message: bytes,
    names: tuple[str, str],
) -> None:
    # The library refuses what is not DER in its only form, and r or s outside of 1 to n - 1
    # (FIPS 186-5 section 6.4.2 step 1); the tests hold it to that. Both halves of s are allowed.
    try:
        key.verify(signature, message, algorithm)
    except FOREIGN_ERRORS:
        _refuse(key, *names, "a signature that this key did not make over these bytes")


def _refuse(key: ec.EllipticCurvePublicKey, id: str, what: str, got: str) -> NoReturn:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    raise SignatureInvalid(
        f"{what}: the signature is not valid",
        id=id,
        got=got,
        want=f"a signature of the {key.curve.name} key sha256:{hashlib.sha256(spki).hexdigest()}",
    )
