"""The identity of a response-signing key, as binding layouts and signed answers name it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from teeverify.crypto.ethereum import checksum_address
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence

__all__ = ["KeyAlgorithm", "SigningKey"]

KeyAlgorithm: TypeAlias = Literal["ecdsa", "ed25519", "rsa-pss"]
_IDENTIFIER_BYTES = {"ecdsa": 20, "ed25519": 32}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A response-signing key by its algorithm and identifier.

    Attributes:
        algorithm: ``ecdsa`` (secp256k1), ``ed25519``, or ``rsa-pss``, which no report can claim.
        identifier: The 20-byte Ethereum address, the 32-byte raw public key, or the Keccak-256 of
            an RSA key's SubjectPublicKeyInfo.
    """

    algorithm: KeyAlgorithm
    identifier: bytes
    _spelt: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, algorithm: str, address: str, *, id: str, field: str) -> SigningKey:
        """Read a key as providers spell it: ``0x`` and 40 hex digits, or 64 hex digits.

        Letter case carries nothing: addresses are compared as bytes.

        Raises:
            MalformedEvidence: Unknown algorithm, or an identifier of the wrong form.
        """
        if algorithm == "ecdsa":
            data = hex_bytes(address, field=field, id=id, length=20, prefix=True)
            return cls("ecdsa", data)
        if algorithm == "ed25519":
            return cls("ed25519", hex_bytes(address, field=field, id=id, length=32))
        raise MalformedEvidence(
            f"{field}: unknown signing algorithm",
            id=id,
            field=field,
            got=repr(algorithm)[:40],
            want=" or ".join(_IDENTIFIER_BYTES),
        )

    def __str__(self) -> str:
        """The spelling of the field: EIP-55 address, or hex of the public key."""
        if not self._spelt:  # a hash of its own, and asked for often
            address = self.algorithm == "ecdsa"
            self._spelt.append(
                checksum_address(self.identifier) if address else self.identifier.hex()
            )
        return self._spelt[0]

    @property
    def short(self) -> str:
        """A spelling for sentences: the first and last four digits."""
        text = str(self)
        return f"{text[:6]}…{text[-4:]}"
