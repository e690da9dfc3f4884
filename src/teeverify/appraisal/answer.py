"""What is known of a signed answer once its signature was checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from teeverify.appraisal.observation import Observation
from teeverify.binding import SigningKey

__all__ = ["SignedAnswer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAnswer:
    """One answer with its signature, after :mod:`teeverify.responses` examined both.

    Attributes:
        observations: What was seen of the answer and the request.
        signer: The key under which the signature verified; ``None`` if it did not.
        signed_model: The model named in the signed text.
        response_model: The model named in the signed bytes of the answer.
        requested_model: The model named in the request.
        by_gateway: Whether the signature is of a gateway, if the dialect says so.
        created: The time that the answer itself names: the enclave's clock, which its host sets.
        size: Bytes of the answer; ``None`` if only a signature was given.
        sha256: Hash of the answer's exact bytes, in hex.
        salted: Whether a random value of the verifier's own is among the request's bytes.
        signed_form: The bytes that were signed, where a dialect signs another serialisation than
            it sends: only they may be handed over and kept.
        statement: Hash of a signed statement, where the dialect has them.
        sequence: Whose statement it is, and which one.
    """

    observations: tuple[Observation, ...]
    signer: SigningKey | None
    signed_model: str | None = None
    response_model: str | None = None
    requested_model: str | None = None
    by_gateway: bool | None = None
    created: datetime | None = None
    size: int | None = None
    sha256: str | None = None
    salted: bool = False
    signed_form: bytes | None = field(default=None, repr=False)
    statement: bytes | None = None
    sequence: tuple[bytes, int] | None = None

    def says(self, check_id: str) -> bool:
        """Whether the examination itself said something of a check."""
        return any(seen.id == check_id for seen in self.observations)
