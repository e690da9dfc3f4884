"""The keys that sign answers: made in this process, never written down, gone with it.

secp256k1 by libsecp256k1 (the package ``coincurve``) where it is installed, else by OpenSSL; both
sign in constant time. Ed25519 by OpenSSL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.binding import SigningKey
from teeverify.binding.keys import KeyAlgorithm
from teeverify.crypto.ethereum import address_of, eip191_digest
from teeverify.crypto.recovery import ORDER, recovery_parity

__all__ = ["OpenSslSecp256k1", "Secp256k1", "Signature", "SigningKeys", "new_secp256k1"]

_FIRST_V = 27


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature over a text.

    Attributes:
        key: Who signed.
        text: The signature as the field spells it: ``0x`` and ``r || s || v``, or 64 bytes in hex.
    """

    key: SigningKey
    text: str


class Secp256k1(Protocol):
    """A secp256k1 key that can sign."""

    @property
    def public_key(self) -> bytes:
        """``x || y``, 64 bytes."""

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes: ``r || s || v``, ``s`` in the lower half (EIP-2), ``v`` 27 or 28."""


class _LibSecp256k1:
    """A random key in libsecp256k1."""

    def __init__(self) -> None:
        import coincurve  # noqa: PLC0415 -- optional, and imported on use

        self._key = coincurve.PrivateKey()
        self.public_key: bytes = self._key.public_key.format(compressed=False)[1:]

    def sign(self, digest: bytes) -> bytes:
        signature: bytes = self._key.sign_recoverable(digest, hasher=None)
        return signature[:-1] + bytes([_FIRST_V + signature[-1]])


class OpenSslSecp256k1:
    """A random key in OpenSSL, which gives no recovery id: public values give it here."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256K1())
        public = self._key.public_key()
        self.public_key = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes; see :class:`Secp256k1`."""
        while True:
            der = self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
            r, s = decode_dss_signature(der)
            s = min(s, ORDER - s)
            parity = recovery_parity(self._key.public_key(), digest, r, s)
            if parity is not None:
                return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([_FIRST_V + parity])


def new_secp256k1() -> Secp256k1:
    """Make a random secp256k1 key in the best library that is there."""
    try:
        return _LibSecp256k1()
    except ImportError:
        return OpenSslSecp256k1()


class SigningKeys:
    """The two keys of one process. A new process has new ones, and so new attestations."""

    def __init__(self) -> None:
        self._secp256k1 = new_secp256k1()
        self._ed25519 = ed25519.Ed25519PrivateKey.generate()
        raw = self._ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        ethereum = self._secp256k1.public_key
        self.public_keys: Mapping[KeyAlgorithm, bytes] = {"ecdsa": ethereum, "ed25519": raw}
        self.identities: Mapping[KeyAlgorithm, SigningKey] = {
            "ecdsa": SigningKey("ecdsa", address_of(ethereum)),
            "ed25519": SigningKey("ed25519", raw),
        }

    def sign(self, text: str) -> tuple[Signature, Signature]:
        """Sign a text with both keys: EIP-191 ``personal_sign``, and Ed25519 over the text."""
        message = text.encode("ascii")
        ecdsa = self._secp256k1.sign(eip191_digest(message))
        return (
            Signature(self.identities["ecdsa"], f"0x{ecdsa.hex()}"),
            Signature(self.identities["ed25519"], self._ed25519.sign(message).hex()),
        )

    def sign_statement(self, digest: bytes, message: bytes) -> Mapping[str, bytes]:
        """Sign a statement of ``teeverify/1``: its EIP-712 digest, and the message for Ed25519."""
        return {
            "secp256k1": self._secp256k1.sign(digest),
            "ed25519": self._ed25519.sign(message),
        }

    def __repr__(self) -> str:
        """The public identities."""
        return f"SigningKeys({', '.join(map(str, self.identities.values()))})"
