"""Response-signing keys of simulated enclaves."""

from __future__ import annotations

from typing import Literal

import ecdsa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from teeverify.binding import SigningKey
from teeverify.crypto.ethereum import address_of, eip191_digest, recover_public_key
from teeverify.errors import TeeVerifyError

__all__ = ["SimulatedKey"]

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_ID = "simulator.key"


class SimulatedKey:
    """A random key that signs texts as the field's proxies do.

    Args:
        algorithm: ``ecdsa`` (secp256k1, EIP-191) or ``ed25519``.

    Attributes:
        repeats: Whether it signs everything with one secret number, as broken generators do.
    """

    def __init__(self, algorithm: Literal["ecdsa", "ed25519"] = "ecdsa") -> None:
        self.algorithm = algorithm
        self.repeats = False
        self._ecdsa = ec.generate_private_key(ec.SECP256K1())
        self._ed25519 = ed25519.Ed25519PrivateKey.generate()
        if algorithm == "ecdsa":
            self.key = SigningKey("ecdsa", address_of(self.public_bytes))
        else:
            self.key = SigningKey("ed25519", self.public_bytes)

    @property
    def public_bytes(self) -> bytes:
        """64 bytes ``x || y`` of secp256k1, or the 32 bytes of Ed25519."""
        if self.algorithm == "ecdsa":
            point = self._ecdsa.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            )
            return point[1:]
        return self._ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def secret_bytes(self) -> bytes:
        """The 32 bytes of the secret, for whoever opens what was encrypted to this key."""
        if self.algorithm == "ecdsa":
            return self._ecdsa.private_numbers().private_value.to_bytes(32, "big")
        return self._ed25519.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def sign(self, text: str, *, high_s: bool = False) -> str:
        """Sign a text; the signature in hex, as the signature route returns it.

        Args:
            text: What is signed.
            high_s: Give the other, malleated ``s`` (ecdsa).
        """
        message = text.encode("utf-8")
        if self.algorithm == "ed25519":
            return self._ed25519.sign(message).hex()
        signature = self.sign_digest(eip191_digest(message))
        if high_s:
            other = _ORDER - int.from_bytes(signature[32:64], "big")
            signature = signature[:32] + other.to_bytes(32, "big") + bytes([55 - signature[64]])
        return "0x" + signature.hex()

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes with the secp256k1 key: ``r || s || v``, with the lower ``s``."""
        if self.repeats:
            r, s = self._sign_as_ever(digest)
        else:
            der = self._ecdsa.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
            r, s = decode_dss_signature(der)
        low = min(s, _ORDER - s)
        for v in (27, 28):
            signature = r.to_bytes(32, "big") + low.to_bytes(32, "big") + bytes([v])
            if self._recovers(digest, signature):
                return signature
        raise TeeVerifyError("no recovery id gives this key", id=_ID)

    def _sign_as_ever(self, digest: bytes) -> tuple[int, int]:
        key = ecdsa.SigningKey.from_string(self.secret_bytes, ecdsa.SECP256k1)
        pair: tuple[int, int] = key.sign_digest(digest, k=2, sigencode=lambda r, s, _: (r, s))
        return pair

    def _recovers(self, digest: bytes, signature: bytes) -> bool:
        try:
            return recover_public_key(digest, signature, id=_ID) == self.public_bytes
        except TeeVerifyError:
            return False
