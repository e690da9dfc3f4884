"""HPKE (RFC 9180) in the one form that is needed: base mode, DHKEM(X25519, HKDF-SHA256).

With export (section 5.3), which the libraries in use do not offer.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.errors import MalformedEvidence, ResponseNotVerified

__all__ = ["AES_128_GCM", "AES_256_GCM", "Context", "expand", "extract", "sender"]

_VERSION = b"HPKE-v1"
_KEM, _KDF = 0x0020, 0x0001
_SIZE = 32
AES_128_GCM, AES_256_GCM = 0x0001, 0x0002
_KEY_SIZES = {AES_128_GCM: 16, AES_256_GCM: 32}
_NONCE = 12


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869, 2.2)."""
    return hmac.digest(salt or bytes(_SIZE), secret, hashlib.sha256)


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, 2.3)."""
    block, out = b"", b""
    for counter in range(1, -(-length // _SIZE) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        out += block
    return out[:length]


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return extract(salt, _VERSION + suite + label + secret)


def _labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(key, length.to_bytes(2, "big") + _VERSION + suite + label + info, length)


@dataclass(slots=True)
class Context:
    """An encryption context (5.2): seals in order, and exports.

    Attributes:
        encapsulated: The sender's public key of this context.
    """

    encapsulated: bytes
    _key: bytes
    _base_nonce: bytes
    _exporter: bytes
    _suite: bytes
    _sequence: int = 0

    def seal(self, text: bytes, aad: bytes = b"") -> bytes:
        """Seal the next text."""
        return AESGCM(self._key).encrypt(self._next(), text, aad)

    def open(self, sealed: bytes, aad: bytes = b"") -> bytes:
        """Open the next text.

        Raises:
            ResponseNotVerified: It was changed, or is not the next one.
        """
        try:
            return AESGCM(self._key).decrypt(self._next(), sealed, aad)
        except InvalidTag:
            raise ResponseNotVerified("a sealed part was changed", id="e2ee.open") from None

    def export(self, context: bytes, length: int) -> bytes:
        """A secret that both sides know (5.3)."""
        return _labeled_expand(self._suite, self._exporter, b"sec", context, length)

    def _next(self) -> bytes:
        number = self._sequence.to_bytes(_NONCE, "big")
        self._sequence += 1
        return bytes(a ^ b for a, b in zip(self._base_nonce, number, strict=True))


def sender(
    public: bytes,
    info: bytes,
    *,
    aead: int = AES_256_GCM,
    ephemeral: x25519.X25519PrivateKey | None = None,
) -> Context:
    """SetupBaseS (5.1.1): a context for one recipient.

    Args:
        public: The recipient's X25519 key.
        info: The application's.
        aead: ``AES_128_GCM`` or ``AES_256_GCM``.
        ephemeral: For known answers only; a fresh one by default.

    Raises:
        MalformedEvidence: The key is none, or one of the few that give everybody the same secret.
    """
    own = ephemeral or x25519.X25519PrivateKey.generate()
    try:
        shared = own.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise MalformedEvidence(
            "the key to encrypt to is no X25519 key", id="e2ee.key", field="e2ee.key"
        ) from None
    encapsulated = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _schedule(_shared(shared, encapsulated + public), encapsulated, info, aead)


def receiver(private: x25519.X25519PrivateKey, encapsulated: bytes, info: bytes) -> Context:
    """SetupBaseR (5.1.1), with AES-256-GCM.

    Raises:
        MalformedEvidence: The sender's key is none.
    """
    try:
        shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(encapsulated))
    except ValueError:
        raise MalformedEvidence(
            "the sender's key is no X25519 key", id="e2ee.key", field="e2ee.encapsulated"
        ) from None
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _schedule(_shared(shared, encapsulated + public), encapsulated, info, AES_256_GCM)


def _shared(dh: bytes, kem_context: bytes) -> bytes:
    """ExtractAndExpand (4.1)."""
    suite = b"KEM" + _KEM.to_bytes(2, "big")
    key = _labeled_extract(suite, b"", b"eae_prk", dh)
    return _labeled_expand(suite, key, b"shared_secret", kem_context, _SIZE)


def _schedule(shared: bytes, encapsulated: bytes, info: bytes, aead: int) -> Context:
    """KeySchedule (5.1) in base mode."""
    suite = b"HPKE" + b"".join(part.to_bytes(2, "big") for part in (_KEM, _KDF, aead))
    context = (
        b"\x00"
        + _labeled_extract(suite, b"", b"psk_id_hash", b"")
        + _labeled_extract(suite, b"", b"info_hash", info)
    )
    secret = _labeled_extract(suite, shared, b"secret", b"")
    return Context(
        encapsulated=encapsulated,
        _key=_labeled_expand(suite, secret, b"key", context, _KEY_SIZES[aead]),
        _base_nonce=_labeled_expand(suite, secret, b"base_nonce", context, _NONCE),
        _exporter=_labeled_expand(suite, secret, b"exp", context, _SIZE),
        _suite=suite,
    )
