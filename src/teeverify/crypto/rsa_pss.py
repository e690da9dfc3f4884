"""RSA-PSS with SHA-256 for both hashes and a salt of 32 bytes (RFC 8017 section 8.1), no other."""

from __future__ import annotations

from typing import NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = ["rsa_spki", "verify_pss_sha256"]

_SMALLEST, _LARGEST = 2048, 8192
_SALT = 32


def rsa_spki(key: bytes, *, id: str, what: str) -> bytes:
    """The SubjectPublicKeyInfo of an RSA key, in its one DER form, from DER or PEM.

    Raises:
        MalformedEvidence: No such key, or one that is too small or too large.
    """
    try:
        load = (
            load_pem_public_key if key.lstrip().startswith(b"-----BEGIN") else load_der_public_key
        )
        found = load(key)
    except FOREIGN_ERRORS:
        found = None
    if not isinstance(found, rsa.RSAPublicKey) or not _SMALLEST <= found.key_size <= _LARGEST:
        raise MalformedEvidence(
            f"{what}: not an RSA key",
            id=id,
            field=what,
            got=f"{len(key)} bytes",
            want=f"{_SMALLEST} to {_LARGEST} bits, as DER or PEM",
        )
    return found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verify_pss_sha256(spki: bytes, signature: bytes, message: bytes, *, id: str, what: str) -> None:
    """Verify a signature under a key.

    Args:
        spki: As :func:`rsa_spki` gives it.
        signature: The signature.
        message: What was signed; hashed here.
        id: Check id for the error.
        what: What is signed, for the error.

    Raises:
        SignatureInvalid: It does not verify.
    """
    key = load_der_public_key(spki)
    if not isinstance(key, rsa.RSAPublicKey):
        _refuse(signature, id, what)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=_SALT)
    try:
        key.verify(signature, message, pss, hashes.SHA256())
    except FOREIGN_ERRORS:
        _refuse(signature, id, what)


def _refuse(signature: bytes, id: str, what: str) -> NoReturn:
    raise SignatureInvalid(
        f"{what}: the signature is not valid", id=id, got=f"a signature of {len(signature)} bytes"
    ) from None
