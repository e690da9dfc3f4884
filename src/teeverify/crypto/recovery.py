"""The recovery id of an ECDSA signature, for a library that does not give it (SEC 1 4.1.6).

Only public values come in: the key, the digest and the signature. Both scalar multiplications are
OpenSSL's, so this costs less than a millisecond.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

__all__ = ["ORDER", "has_parity", "recovery_parity"]

# SEC 2 section 2.4.1.
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_FIELD = 2**256 - 2**32 - 977
_CURVE = ec.SECP256K1()


def recovery_parity(
    public_key: ec.EllipticCurvePublicKey, digest: bytes, r: int, s: int
) -> int | None:
    """Whether the point R of a signature has an odd ``y``: 0 or 1, for ``v`` 27 or 28.

    Args:
        public_key: The signer's.
        digest: The 32 bytes that were signed.
        r: The signature's ``r``.
        s: The signature's ``s``, in the lower half.

    Returns:
        The parity; ``None`` in the cases, as rare as guessing the key, in which no ``v`` of 27 or
        28 exists or a step hits the point at infinity: whoever signs signs again, and whoever
        verifies refuses.
    """
    inverse = pow(s, -1, ORDER)
    u1 = int.from_bytes(digest, "big") * inverse % ORDER
    u2 = r * inverse % ORDER
    if not u1:
        return None
    # R = u1 G + u2 Q. Diffie-Hellman gives only the x of u2 Q, so both of its y are tried.
    first = ec.derive_private_key(u1, _CURVE).public_key().public_numbers()
    second_x = int.from_bytes(
        ec.derive_private_key(u2, _CURVE).exchange(ec.ECDH(), public_key), "big"
    )
    if first.x == second_x:
        return None
    second_y = pow(second_x**3 + 7, (_FIELD + 1) // 4, _FIELD)
    run = pow(second_x - first.x, -1, _FIELD)
    for candidate in (second_y, _FIELD - second_y):
        slope = (candidate - first.y) * run % _FIELD
        x = (slope * slope - first.x - second_x) % _FIELD
        if x == r:
            return (slope * (first.x - x) - first.y) % _FIELD & 1
    return None


def has_parity(
    public_key: ec.EllipticCurvePublicKey, digest: bytes, r: int, s: int, parity: int
) -> bool:
    """Whether a signature that this key verifies has this parity: whether ``v`` is right.

    Recovery gives ``Q = (s R - z G) / r``. That is the equation that ECDSA itself checks, with R in
    the place of the key, ``-z / r`` and ``s / r`` in those of its two factors, and the ``x`` of Q
    in that of ``r``: so one more verification answers it, at a third of what
    :func:`recovery_parity` takes. It tells Q from the point that the other R gives, and not from
    -Q: so it is no verification by itself.

    Args:
        public_key: The signer's.
        digest: The 32 bytes that were signed.
        r: The signature's ``r``.
        s: The signature's ``s``.
        parity: 0 or 1, for ``v`` 27 or 28.
    """
    square = (r**3 + 7) % _FIELD
    y = pow(square, (_FIELD + 1) // 4, _FIELD)
    if y * y % _FIELD != square:
        return False  # no point has this x: R is one of those that no `v` of 27 or 28 names
    point = ec.EllipticCurvePublicNumbers(r, y if y & 1 == parity else _FIELD - y, _CURVE)
    x = public_key.public_numbers().x % ORDER
    ratio = x * pow(s, -1, ORDER) % ORDER
    first = -int.from_bytes(digest, "big") * ratio % ORDER
    try:
        point.public_key().verify(
            encode_dss_signature(x, ratio * r % ORDER),
            first.to_bytes(32, "big"),
            ec.ECDSA(Prehashed(hashes.SHA256())),
        )
    except (InvalidSignature, ValueError):
        return False
    return True
