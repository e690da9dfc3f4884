"""Ethereum's signatures: secp256k1 over Keccak-256, from which the signer's key is recovered.

Recovery makes some key for nearly every signature, so a recovered address proves something only
when it is compared with an attested one.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.crypto.keccak import keccak256
from teeverify.crypto.recovery import has_parity
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = [
    "address_of",
    "checksum_address",
    "eip191_digest",
    "keccak256",
    "recover_address",
    "recover_public_key",
    "verify_digest",
    "verify_recoverable",
]

# SEC 2 section 2.4.1.
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_FIELD = 2**256 - 2**32 - 977
_DIGEST_BYTES = 32
_SIGNATURE_BYTES = 65
_POINT_BYTES = 64
_ADDRESS_BYTES = 20
_V = (27, 28)


def address_of(public_key_xy: bytes) -> bytes:
    """The 20-byte address of a public key: the end of the Keccak-256 of its two coordinates.

    Args:
        public_key_xy: ``x || y``, big-endian, 64 bytes.

    Raises:
        MalformedEvidence: Another length.
    """
    if len(public_key_xy) != _POINT_BYTES:
        _wrong_length("ethereum.public-key", "public key", _POINT_BYTES, len(public_key_xy))
    return keccak256(public_key_xy)[-_ADDRESS_BYTES:]


def checksum_address(address: bytes) -> str:
    """An address as people read it, with the mixed case of EIP-55.

    Raises:
        MalformedEvidence: Not 20 bytes.
    """
    if len(address) != _ADDRESS_BYTES:
        _wrong_length("ethereum.address", "address", _ADDRESS_BYTES, len(address))
    digits = address.hex()
    nibbles = keccak256(digits.encode("ascii")).hex()
    shown = (
        digit.upper() if nibble >= "8" else digit
        for digit, nibble in zip(digits, nibbles, strict=False)
    )
    return "0x" + "".join(shown)


def eip191_digest(text: bytes) -> bytes:
    """What ``personal_sign`` signs (EIP-191 version 0x45): prefix, length in decimal, text."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(text), text))


def recover_address(digest: bytes, signature: bytes, *, id: str) -> bytes:
    """Recover the address whose key made a signature.

    Args:
        digest: The 32 bytes that were signed.
        signature: ``r || s || v``, 65 bytes, ``v`` 27 or 28, ``s`` in the lower half (EIP-2).
        id: Check id for the errors.

    Returns:
        The 20-byte address; compare it with the attested one.

    Raises:
        MalformedEvidence: Another length, or another ``v``.
        SignatureInvalid: ``r`` or ``s`` out of range, or no key made this signature.
    """
    return address_of(recover_public_key(digest, signature, id=id))


def recover_public_key(digest: bytes, signature: bytes, *, id: str) -> bytes:
    """Recover the public key that made a signature (SEC 1 section 4.1.6).

    The signature is verified again under the recovered key by another library.

    Args:
        digest: The 32 bytes that were signed.
        signature: ``r || s || v``, as for :func:`recover_address`.
        id: Check id for the errors.

    Returns:
        ``x || y`` of the key, 64 bytes.

    Raises:
        MalformedEvidence: Another length, or another ``v``.
        SignatureInvalid: ``r`` or ``s`` out of range, or no key made this signature.
    """
    if len(digest) != _DIGEST_BYTES:
        _wrong_length(id, "digest", _DIGEST_BYTES, len(digest))
    _require_form(signature, id)
    pair = signature[:-1]
    r, _ = _scalars(pair, id)
    # No point of the curve has such an x, so no key made this signature.
    if pow(r**3 + 7, (_FIELD - 1) // 2, _FIELD) != 1:
        _refuse(id, "r is not a coordinate of a point")
    key = _recover(digest, pair, signature[-1] - _V[0], id)
    verify_digest(key, digest, pair, id=id)
    return key


def verify_recoverable(public_key_xy: bytes, digest: bytes, signature: bytes, *, id: str) -> None:
    """Verify ``r || s || v`` under a key that is known, so that none need be recovered slowly.

    ``v`` counts too: a signature with the other one would give another key to who recovers it.

    Raises:
        MalformedEvidence: Another length, another ``v``, or not a point of the curve.
        SignatureInvalid: ``r`` or ``s`` out of range, or the signature does not verify.
    """
    _require_form(signature, id)
    pair, parity = signature[:-1], signature[-1] - _V[0]
    try:
        import coincurve  # noqa: F401, PLC0415 -- optional; with it, to recover is the fast way
    except ImportError:
        verify_digest(public_key_xy, digest, pair, id=id)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), b"\x04" + public_key_xy)
        good = has_parity(key, digest, *_scalars(pair, id), parity)
    else:
        _scalars(pair, id)
        good = _recover(digest, pair, parity, id) == public_key_xy
    if not good:
        _refuse(id, "this key did not make it over these bytes")


def _require_form(signature: bytes, id: str) -> None:
    if len(signature) != _SIGNATURE_BYTES:
        _wrong_length(id, "signature", _SIGNATURE_BYTES, len(signature))
    if signature[-1] not in _V:
        raise MalformedEvidence(
            "signature.v: not a recovery id",
            id=id,
            field="signature.v",
            offset=_SIGNATURE_BYTES - 1,
            got=str(signature[-1]),
            want="27 or 28",
        )


def verify_digest(
    public_key_xy: bytes,
    digest: bytes,
    signature: bytes,
    *,
    id: str,
) -> None:
    """Verify a secp256k1 signature over a digest under a known key.

    Args:
        public_key_xy: ``x || y``, 64 bytes.
        digest: The 32 bytes that were signed.
        signature: ``r || s``, 64 bytes, ``s`` in the lower half.
        id: Check id for the errors.

    Raises:
        MalformedEvidence: Another length, or not a point of the curve.
        SignatureInvalid: ``r`` or ``s`` out of range, or the signature does not verify.
    """
    if len(digest) != _DIGEST_BYTES:
        _wrong_length(id, "digest", _DIGEST_BYTES, len(digest))
    if len(signature) != _POINT_BYTES:
        _wrong_length(id, "signature", _POINT_BYTES, len(signature))
    r, s = _scalars(signature, id)
    if len(public_key_xy) != _POINT_BYTES:
        _wrong_length(id, "public key", _POINT_BYTES, len(public_key_xy))
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), b"\x04" + public_key_xy)
    except FOREIGN_ERRORS:
        raise MalformedEvidence(
            "public key: not a point of secp256k1", id=id, field="public key"
        ) from None
    try:
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        _refuse(id, "this key did not make it over these bytes")
    except FOREIGN_ERRORS:
        _refuse(id, "it cannot be verified")


def _scalars(pair: bytes, id: str) -> tuple[int, int]:
    r, s = int.from_bytes(pair[:32], "big"), int.from_bytes(pair[32:], "big")
    if not 0 < r < _ORDER or s == 0:
        _refuse(id, "r or s outside 1 to n - 1")
    # EIP-2: of the two valid values of s only the lower, or a signature has two forms.
    if s > _ORDER // 2:
        _refuse(id, "s in the upper half (EIP-2)")
    return r, s


def _recover(digest: bytes, pair: bytes, parity: int, id: str) -> bytes:
    """Recover with libsecp256k1 where it is installed (the extra ``fast``), else with ``ecdsa``."""
    try:
        import coincurve  # noqa: PLC0415 -- optional, and imported on use
    except ImportError:
        return _recover_slowly(digest, pair, parity, id)
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            pair + bytes([parity]), digest, hasher=None
        )
        return bytes(key.format(compressed=False)[1:])
    except Exception:  # noqa: BLE001 -- it raises the bare class where recovery fails
        _refuse(id, "no key made it")


def _recover_slowly(digest: bytes, pair: bytes, parity: int, id: str) -> bytes:
    import ecdsa  # noqa: PLC0415 -- slow to import, and rarely needed
    from ecdsa.util import sigdecode_string  # noqa: PLC0415 -- the same

    try:
        # The first candidate is the one whose R has an even y, as v = 27 says.
        candidates = ecdsa.VerifyingKey.from_public_key_recovery_with_digest(
            pair, digest, ecdsa.SECP256k1, sigdecode=sigdecode_string
        )
        return bytes(candidates[parity].to_string())
    except Exception:  # noqa: BLE001 -- it raises TypeError and others on hostile numbers
        _refuse(id, "no key made it")


def _refuse(id: str, got: str) -> NoReturn:
    raise SignatureInvalid("the secp256k1 signature is not valid", id=id, got=got)


def _wrong_length(id: str, field: str, need: int, have: int) -> NoReturn:
    raise MalformedEvidence(f"{field}: wrong length", id=id, field=field, need=need, have=have)
