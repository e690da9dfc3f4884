"""One text, sealed to one public key: the forms that the field's dialects use.

=================  ===========  ==================================================================
box                key          sealed text (hex)
=================  ===========  ==================================================================
``EciesSecp256k1``  secp256k1    ephemeral key 65, nonce 12, AES-256-GCM
``X25519AesGcm``    Ed25519      ephemeral X25519 key 32, nonce 12, AES-256-GCM (Phala)
``X25519XChaCha``   Ed25519      ephemeral X25519 key 32, nonce 24, XChaCha20-Poly1305 (NEAR v2)
``NaclXChaCha``     Ed25519      ephemeral X25519 key 32, nonce 24, NaCl box on XChaCha20 (NEAR v1)
=================  ===========  ==================================================================

The key of the first three is HKDF-SHA256 of the shared secret without salt, its info
``ecdsa_encryption`` or ``ed25519_encryption``. Sources: the vendors' proxies, and a known answer of
NEAR's client (docs/providers).
"""

from __future__ import annotations

import os
import struct
from types import ModuleType
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, poly1305
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import ConfigurationError, MalformedEvidence, ResponseNotVerified

__all__ = [
    "Box",
    "EciesSecp256k1",
    "NaclXChaCha",
    "PrivateKey",
    "X25519AesGcm",
    "X25519XChaCha",
]

OPEN = "e2ee.open"
_KEY = "e2ee.key"
_GCM_NONCE, _XCHACHA_NONCE, _TAG = 12, 24, 16
_POINT, _SEED = 65, 32


class PrivateKey(Protocol):
    """The asker's key of one request."""

    @property
    def public(self) -> bytes:
        """The public half, as the headers carry it."""

    def open(self, blob: bytes, aad: bytes) -> bytes:
        """Open a text that was sealed to it.

        Raises:
            ResponseNotVerified: It was not sealed to this key, or was changed.
        """


class Box(Protocol):
    """A way to seal texts."""

    algorithm: str

    def seal(self, public: bytes, text: bytes, aad: bytes) -> bytes:
        """Seal a text to an attested public key.

        Raises:
            MalformedEvidence: The key is no point of its curve.
            ConfigurationError: The packages of ``[e2ee]`` are missing.
        """

    def new_key(self, secret: bytes | None = None) -> PrivateKey:
        """A fresh key pair for one answer; or the one of a secret, on the enclave's side."""


class EciesSecp256k1:
    """ECDH on secp256k1, and AES-256-GCM."""

    algorithm = "ecdsa"

    def seal(self, public: bytes, text: bytes, aad: bytes) -> bytes:
        """See :class:`Box`; the key is ``x || y``, or that with 04 before it."""
        ephemeral = ec.generate_private_key(ec.SECP256K1())
        shared = ephemeral.exchange(ec.ECDH(), _point(public))
        nonce = os.urandom(_GCM_NONCE)
        sealed = AESGCM(_derive(shared, b"ecdsa_encryption")).encrypt(nonce, text, aad)
        return _uncompressed(ephemeral.public_key()) + nonce + sealed

    def new_key(self, secret: bytes | None = None) -> PrivateKey:
        """See :class:`Box`."""
        return _Secp256k1Key(secret)


class _Secp256k1Key:
    def __init__(self, secret: bytes | None) -> None:
        self._key = (
            ec.generate_private_key(ec.SECP256K1())
            if secret is None
            else ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256K1())
        )

    @property
    def public(self) -> bytes:
        return _uncompressed(self._key.public_key())[1:]

    def open(self, blob: bytes, aad: bytes) -> bytes:
        point, nonce, sealed = _split(blob, _POINT, _GCM_NONCE)
        try:
            shared = self._key.exchange(ec.ECDH(), _point(point))
            return AESGCM(_derive(shared, b"ecdsa_encryption")).decrypt(nonce, sealed, aad)
        except (InvalidTag, MalformedEvidence):
            raise _not_ours() from None


class X25519AesGcm:
    """ECDH on X25519 between keys that are written as Ed25519 keys, and AES-256-GCM."""

    algorithm = "ed25519"
    nonce = _GCM_NONCE

    def seal(self, public: bytes, text: bytes, aad: bytes) -> bytes:
        """See :class:`Box`."""
        ephemeral = x25519.X25519PrivateKey.generate()
        shared = _exchange(ephemeral, _to_x25519(public))
        nonce = os.urandom(self.nonce)
        return _raw(ephemeral.public_key()) + nonce + self.encrypt(shared, nonce, text, aad)

    def new_key(self, secret: bytes | None = None) -> PrivateKey:
        """See :class:`Box`."""
        return _Ed25519Key(self, secret)

    def encrypt(self, shared: bytes, nonce: bytes, text: bytes, aad: bytes) -> bytes:
        """Encrypt under the shared secret."""
        return AESGCM(_derive(shared, b"ed25519_encryption")).encrypt(nonce, text, aad)

    def decrypt(self, shared: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        """Decrypt; raises cryptography's ``InvalidTag``."""
        return AESGCM(_derive(shared, b"ed25519_encryption")).decrypt(nonce, sealed, aad)


class X25519XChaCha(X25519AesGcm):
    """The same with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha)."""

    nonce = _XCHACHA_NONCE

    def encrypt(self, shared: bytes, nonce: bytes, text: bytes, aad: bytes) -> bytes:
        """See :class:`X25519AesGcm`."""
        key, rest = _xchacha(_derive(shared, b"ed25519_encryption"), nonce)
        return ChaCha20Poly1305(key).encrypt(rest, text, aad)

    def decrypt(self, shared: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        """See :class:`X25519AesGcm`."""
        key, rest = _xchacha(_derive(shared, b"ed25519_encryption"), nonce)
        return ChaCha20Poly1305(key).decrypt(rest, sealed, aad)


class NaclXChaCha(X25519AesGcm):
    """NaCl's box with XChaCha20 in place of XSalsa20: the tag before the text, no other data."""

    nonce = _XCHACHA_NONCE

    def encrypt(self, shared: bytes, nonce: bytes, text: bytes, aad: bytes) -> bytes:
        """See :class:`X25519AesGcm`."""
        _without(aad)
        one_time, sealed = _secretbox_stream(hchacha20(shared, bytes(16)), nonce, text)
        return poly1305.Poly1305.generate_tag(one_time, sealed) + sealed

    def decrypt(self, shared: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        """See :class:`X25519AesGcm`."""
        _without(aad)
        tag, body = sealed[:_TAG], sealed[_TAG:]
        one_time, text = _secretbox_stream(hchacha20(shared, bytes(16)), nonce, body)
        expected = poly1305.Poly1305(one_time)
        expected.update(body)
        try:
            expected.verify(tag)
        except InvalidSignature:
            raise InvalidTag from None
        return text


class _Ed25519Key:
    """An Ed25519 seed whose scalar does the key exchange."""

    def __init__(self, box: X25519AesGcm, secret: bytes | None) -> None:
        sodium = _sodium()
        seed = os.urandom(_SEED) if secret is None else secret
        self.public, expanded = sodium.crypto_sign_seed_keypair(seed)
        self._key = x25519.X25519PrivateKey.from_private_bytes(
            sodium.crypto_sign_ed25519_sk_to_curve25519(expanded)
        )
        self._box = box

    def open(self, blob: bytes, aad: bytes) -> bytes:
        point, nonce, sealed = _split(blob, 32, self._box.nonce)
        try:
            shared = _exchange(self._key, point)
            return self._box.decrypt(shared, nonce, sealed, aad)
        except (InvalidTag, MalformedEvidence):
            raise _not_ours() from None


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20 (draft-irtf-cfrg-xchacha, 2.2): a 32-byte subkey from 32 and 16 bytes.

    ChaCha20's first block is the core's output plus its input; HChaCha20 is the output alone.
    """
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    words = struct.unpack("<16I", block)
    start = struct.unpack("<16I", b"expand 32-byte k" + key + nonce)
    core = [(word - first) & 0xFFFFFFFF for word, first in zip(words, start, strict=True)]
    return struct.pack("<8I", *core[:4], *core[12:])


def _xchacha(key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    return hchacha20(key, nonce[:16]), bytes(4) + nonce[16:]


def _secretbox_stream(key: bytes, nonce: bytes, text: bytes) -> tuple[bytes, bytes]:
    """The one-time key, and the text encrypted from the stream's 33rd byte on (NaCl)."""
    subkey, rest = _xchacha(key, nonce)
    stream = Cipher(ChaCha20(subkey, bytes(4) + rest), mode=None).encryptor()
    return stream.update(bytes(32)), stream.update(text)


def _split(blob: bytes, point: int, nonce: int) -> tuple[bytes, bytes, bytes]:
    if len(blob) < point + nonce + _TAG:
        raise _not_ours()
    return blob[:point], blob[point : point + nonce], blob[point + nonce :]


def _not_ours() -> ResponseNotVerified:
    return ResponseNotVerified(
        "a part of the answer cannot be opened with this request's key: it was sealed for somebody "
        "else, or was changed",
        id=OPEN,
    )


def _derive(shared: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def _point(public: bytes) -> ec.EllipticCurvePublicKey:
    point = b"\x04" + public if len(public) == _POINT - 1 else public
    try:
        if len(point) != _POINT:
            raise ValueError
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), point)
    except ValueError:
        raise _no_key("secp256k1", public) from None


def _to_x25519(public: bytes) -> bytes:
    sodium = _sodium()
    try:
        # Refuses points of small order and those outside the main subgroup.
        point: bytes = sodium.crypto_sign_ed25519_pk_to_curve25519(public)
    except FOREIGN_ERRORS:  # libsodium's are ValueErrors, TypeErrors and RuntimeErrors
        raise _no_key("Ed25519", public) from None
    return point


def _exchange(private: x25519.X25519PrivateKey, public: bytes) -> bytes:
    try:
        # Refuses the points that give the same secret to everybody.
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise _no_key("X25519", public) from None


def _no_key(curve: str, public: bytes) -> MalformedEvidence:
    return MalformedEvidence(
        f"the key to encrypt to is no {curve} key", id=_KEY, field="e2ee.key", got=public.hex()[:20]
    )


def _without(aad: bytes) -> None:
    if aad:
        raise ConfigurationError("this box authenticates no other data", id="usage.e2ee")


def _uncompressed(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _raw(public: x25519.X25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _sodium() -> ModuleType:
    try:
        from nacl import bindings  # noqa: PLC0415 -- an extra
    except ImportError:
        raise ConfigurationError(
            "the packages for encryption to Ed25519 keys are not installed",
            id="usage.extra",
            hint="pip install 'teeverify[e2ee]'",
        ) from None
    return bindings
