"""What contracts on an Ethereum chain check of a receipt (docs/protocol.md, examples/dapp)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from teeverify.binding import SigningKey
from teeverify.crypto.ethereum import recover_address
from teeverify.encoding.fields import JsonObject
from teeverify.errors import ConfigurationError
from teeverify.responses.receipt import ReceiptFile
from teeverify.responses.statement import parse_signed
from teeverify.responses.statement_form import STATEMENT

__all__ = ["EvmAnswer", "evm_answer", "statement_signer"]

_ID = "usage.receipt"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EvmAnswer:
    """The arguments of ``register`` and ``use``. Nothing in it is verified.

    Attributes:
        quote: The CPU's quote, for a contract that verifies quotes.
        binding: The 262 bytes whose hash is in it.
        answer: The members of EIP-712's ``Answer``, in order.
        signature: ``r || s || v``, 65 bytes.
        digest: What it signs.
        challenge_random: The random part of the challenge.
        attestation_sha256: The hash of the attestation's answer, which is in the challenge.
        beacon: What the contract asked to be in the challenge; zeros where it asked for nothing.
    """

    quote: bytes
    binding: bytes
    answer: tuple[bytes | int, ...]
    signature: bytes
    digest: bytes
    challenge_random: bytes
    attestation_sha256: bytes
    beacon: bytes

    def __repr__(self) -> str:
        """What it is; the quote alone is kilobytes."""
        return f"<EvmAnswer: digest {self.digest.hex()}, quote of {len(self.quote)} bytes>"


def evm_answer(parts: ReceiptFile) -> EvmAnswer:
    """Take a receipt apart for a contract.

    Raises:
        ConfigurationError: It is of another dialect, has no challenge, or no secp256k1 signature.
        MalformedEvidence: A part cannot be read.
    """
    challenge = parts.challenge
    if parts.dialect != STATEMENT.id or parts.signature is None or challenge is None:
        raise _unfit("a receipt of teeverify/1")
    signed = parse_signed(parts.signature)
    if "secp256k1" not in signed.signatures:
        raise _unfit("a secp256k1 signature")
    if challenge.challenge_random is None:
        raise _unfit("a challenge of its own")
    report = JsonObject.parse(parts.report, path="report", id="report")
    return EvmAnswer(
        quote=report.base64("evidence"),
        binding=report.base64("binding", url=True),
        answer=signed.statement.typed,
        signature=signed.signatures["secp256k1"],
        digest=signed.statement.digest,
        challenge_random=challenge.challenge_random,
        attestation_sha256=hashlib.sha256(parts.report).digest(),
        beacon=challenge.beacon or bytes(32),
    )


def statement_signer(parts: ReceiptFile) -> SigningKey:
    """The secp256k1 key that is said to have signed a statement.

    Raises:
        ConfigurationError: It has no such signature.
        MalformedEvidence: The statement cannot be read.
        SignatureInvalid: No key made the signature.
    """
    signed = parse_signed(parts.signature or b"")
    if "secp256k1" not in signed.signatures:
        raise _unfit("a secp256k1 signature")
    address = recover_address(
        signed.statement.digest, signed.signatures["secp256k1"], id="answer.signature"
    )
    return SigningKey("ecdsa", address)


def _unfit(want: str) -> ConfigurationError:
    return ConfigurationError("the receipt is no such receipt", id=_ID, want=want)
