"""What an ECDSA signer must use once only: two texts signed with one value give its key away.

``r`` of a signature is made of a secret random number. Whoever sees one ``r`` in signatures of two
different texts computes the private key, and may have signed anything else. Ed25519 makes no such
number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from teeverify.errors import TeeVerifyError
from teeverify.responses.signed_text import recover_signature
from teeverify.responses.statement import parse_signed
from teeverify.responses.statement_form import STATEMENT

__all__ = ["UsedOnce", "used_once"]

_R_BYTES = 32


@dataclass(frozen=True, slots=True)
class UsedOnce:
    """One signature, as far as another one of the same key may give the key away.

    Attributes:
        r: Its first half.
        signed: Hash of the text that it is over.
    """

    r: bytes
    signed: bytes


def used_once(signature: bytes, form: str) -> UsedOnce | None:
    """The value of a signature that verified; ``None`` where its algorithm has none.

    Args:
        signature: What a signature's route served, or a receipt kept.
        form: Id of the form of signed answers.
    """
    try:
        if form == STATEMENT.id:
            statement = parse_signed(signature)
            pair, text = statement.signatures.get("secp256k1"), statement.statement.to_bytes()
        else:
            signed = recover_signature(signature)
            ecdsa = signed.key.algorithm == "ecdsa"
            pair, text = signed.signature if ecdsa else None, signed.text.encode("utf-8")
    except TeeVerifyError:
        return None  # of a form whose signature stands elsewhere
    return None if pair is None else UsedOnce(pair[:_R_BYTES], hashlib.sha256(text).digest())
