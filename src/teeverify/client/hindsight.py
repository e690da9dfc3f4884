"""Look at a receipt from today: who timestamped it, and what was revoked since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from teeverify.appraisal import Evidence, Examined, Question, examine
from teeverify.appraisal.evidence import Held
from teeverify.appraisal.hindsight import Hindsight
from teeverify.client.sources.receipt import Attestations
from teeverify.client.vendors.given import Given, in_addition
from teeverify.clock import show_time
from teeverify.crypto.timestamp import parse_timestamp, verify_timestamp
from teeverify.errors import ChainInvalid, TeeVerifyError
from teeverify.roots import TimestampRoots

__all__ = ["Retrospect"]

_Complete: TypeAlias = Callable[[Evidence, Question, datetime], Evidence]


class Retrospect:
    """What one verifier knows of receipts: attestations it met, and whose timestamps count.

    Args:
        given: The endorsements that the caller gave.
        timestamp_roots: The authorities' CAs; without any no timestamp counts.
    """

    def __init__(self, given: Given, timestamp_roots: TimestampRoots | None) -> None:
        self.attestations = Attestations()
        self._given = given
        self._roots = timestamp_roots

    def look_back(
        self,
        evidence: Evidence,
        held: Held,
        question: Question,
        moment: datetime,
        *,
        complete: _Complete,
    ) -> tuple[Examined, Hindsight]:
        """A receipt's evidence as of then, and in the light of today.

        Both are examined once for all receipts of one attestation; today's once an hour.

        Args:
            evidence: The receipt's evidence; nothing that it lacks is fetched.
            held: What the receipt says of itself.
            question: What the evidence must answer.
            moment: Now.
            complete: Fetches what is current today, where that is allowed.
        """
        asked = (held.attestation, question.nonce, question.nonce_by)
        then = self.attestations.get(
            ("then", *asked, question.at, question.at_by),
            lambda: examine(in_addition(evidence, self._given), question),
        )
        today = self.attestations.get(
            ("now", *asked, show_time(moment)[:13]),
            lambda: self._today(evidence, question, moment, complete),
        )
        return replace(then, evidence=evidence), self._known(held, today, moment)

    def _today(
        self, evidence: Evidence, question: Question, moment: datetime, complete: _Complete
    ) -> Examined | None:
        """The evidence, examined now with endorsements of today alone; ``None`` without any."""
        bare = replace(
            evidence,
            tdx_endorsements=self._given.tdx,
            snp_endorsements=self._given.snp,
            nvidia_endorsements=self._given.nvidia,
        )
        asked = replace(question, at=moment, at_by="now")
        full = complete(bare, asked, moment)
        if full.tdx_endorsements is None and full.snp_endorsements is None:
            return None
        return examine(full, asked)

    def _known(self, held: Held, now: Examined | None, at: datetime) -> Hindsight:
        """What is known of a receipt at this time."""
        seen = [self._timestamp(token, held.digest) for token in held.timestamps]
        trusted = sorted(one for one in seen if isinstance(one, tuple))
        not_after, by = trusted[0] if trusted else (None, None)
        return Hindsight(
            id=held.digest.hex(),
            stated=held.stated,
            not_after=not_after,
            by=by,
            unknown=seen.count(None),
            wrong=next((one for one in seen if isinstance(one, TeeVerifyError)), None),
            at=at,
            now=now,
        )

    def _timestamp(self, token: bytes, of: bytes) -> tuple[datetime, str] | TeeVerifyError | None:
        """Time and authority of a token; what is wrong; or ``None`` where nobody named that CA."""
        try:
            stamp = parse_timestamp(token, of=of)
            return (
                None
                if self._roots is None
                else (stamp.time, verify_timestamp(stamp, self._roots.anchors))
            )
        except ChainInvalid:
            return None
        except TeeVerifyError as error:
            return error
