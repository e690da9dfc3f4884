"""Ed25519 signatures (RFC 8032 section 5.1) under keys that can belong to somebody."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = ["verify_ed25519"]

_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_FIELD = 2**255 - 19
# y of the points of order 1, 2, 4 and 8: under these keys anybody can sign.
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})


def verify_ed25519(
    public_key: bytes,
    signature: bytes,
    message: bytes,
    *,
    id: str,
    what: str,
) -> None:
    """Verify an Ed25519 signature.

    Args:
        public_key: 32 bytes, canonical, and not of small order.
        signature: ``R || S``, 64 bytes.
        message: What was signed.
        id: Check id for the errors.
        what: What is signed, for the errors.

    Raises:
        MalformedEvidence: Another length, or not a key that can belong to somebody.
        SignatureInvalid: The signature does not verify.
    """
    if len(public_key) != _KEY_BYTES:
        raise MalformedEvidence(
            f"{what}: the Ed25519 key has a wrong length",
            id=id,
            field=what,
            need=_KEY_BYTES,
            have=len(public_key),
        )
    if len(signature) != _SIGNATURE_BYTES:
        raise MalformedEvidence(
            f"{what}: the Ed25519 signature has a wrong length",
            id=id,
            field=what,
            need=_SIGNATURE_BYTES,
            have=len(signature),
        )
    y = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    if y >= _FIELD or y in _SMALL_ORDER:
        raise MalformedEvidence(
            f"{what}: not an Ed25519 key that can belong to somebody",
            id=id,
            field=what,
            got=public_key.hex(),
        )
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except FOREIGN_ERRORS:
        raise SignatureInvalid(
            f"{what}: the Ed25519 signature is not valid",
            id=id,
            got="a signature that this key did not make over these bytes",
            want=f"a signature of the key {public_key.hex()}",
        ) from None
