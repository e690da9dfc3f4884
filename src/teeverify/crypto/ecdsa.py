"""ECDSA over P-256 with SHA-256 and over P-384 with SHA-384 (FIPS 186-5 section 6), and no other.

Both encodings have exactly one form each: ``r || s`` of fixed width (IEEE P1363), and DER
(RFC 3279 section 2.2.3) that encodes back to itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import NoReturn, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = ["p256_key", "verify_der", "verify_raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """What belongs to one curve: FIPS 186-5 and SP 800-186 section 3.2.1."""

    size: int
    order: int
    algorithm: ec.ECDSA


_P256 = _Profile(
    size=32,
    order=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    algorithm=ec.ECDSA(hashes.SHA256()),
)
_P384 = _Profile(
    size=48,
    order=int(
        "ffffffffffffffffffffffffffffffffffffffffffffffff"
        "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        16,
    ),
    algorithm=ec.ECDSA(hashes.SHA384()),
)
_PROFILES = {"secp256r1": _P256, "secp384r1": _P384}


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
    if len(xy) != 2 * _P256.size:
        raise MalformedEvidence(
            f"{what}: wrong length", id=id, field=what, need=2 * _P256.size, have=len(xy)
        )
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + xy)
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
    curve, profile = _profile(key, id, what)
    if len(signature) != 2 * profile.size:
        _refuse(curve, id, what, f"a signature of {len(signature)} bytes")
    r = int.from_bytes(signature[: profile.size], "big")
    s = int.from_bytes(signature[profile.size :], "big")
    _require_range(curve, profile, (r, s), (id, what))
    _verify(curve, profile, encode_dss_signature(r, s), message, (id, what))


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
    curve, profile = _profile(key, id, what)
    if with_sha256:
        profile = replace(profile, algorithm=ec.ECDSA(hashes.SHA256()))
    try:
        r, s = decode_dss_signature(signature)
        canonical = encode_dss_signature(r, s) == signature
    except FOREIGN_ERRORS:
        canonical, r, s = False, 0, 0
    if not canonical:
        _refuse(curve, id, what, "a signature that is not DER")
    _require_range(curve, profile, (r, s), (id, what))
    _verify(curve, profile, signature, message, (id, what))


def _profile(
    key: PublicKeyTypes,
    id: str,
    what: str,
) -> tuple[ec.EllipticCurvePublicKey, _Profile]:
    # Only public keys on a curve have both. The library's classes are abstract ones, and asking
    # those for each signature takes longer than this.
    name = type(key).__name__
    if hasattr(key, "curve") and hasattr(key, "verify"):
        name = key.curve.name
        profile = _PROFILES.get(name)
        if profile is not None:
            return cast("ec.EllipticCurvePublicKey", key), profile
    raise SignatureInvalid(
        f"{what}: the key is of a kind that must not sign this",
        id=id,
        got=name,
        want="an ECDSA key on P-256 or P-384",
    )


def _require_range(
    key: ec.EllipticCurvePublicKey,
    profile: _Profile,
    pair: tuple[int, int],
    names: tuple[str, str],
) -> None:
    """FIPS 186-5 section 6.4.2 step 1. Both halves of the range of s are allowed."""
    r, s = pair
    if not (0 < r < profile.order and 0 < s < profile.order):
        _refuse(key, *names, "r or s outside 1 to n - 1")


def _verify(
    key: ec.EllipticCurvePublicKey,
    profile: _Profile,
    signature: bytes,
    message: bytes,
    names: tuple[str, str],
) -> None:
    try:
        key.verify(signature, message, profile.algorithm)
    except InvalidSignature:
        _refuse(key, *names, "a signature that this key did not make over these bytes")
    except FOREIGN_ERRORS:
        _refuse(key, *names, "a signature that cannot be verified")


def _refuse(key: ec.EllipticCurvePublicKey, id: str, what: str, got: str) -> NoReturn:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    raise SignatureInvalid(
        f"{what}: the signature is not valid",
        id=id,
        got=got,
        want=f"a signature of the {key.curve.name} key sha256:{hashlib.sha256(spki).hexdigest()}",
    )
