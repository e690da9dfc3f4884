"""AMD's endorsements of a chip, from the cache where they are current, else fetched."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from teeverify import snp
from teeverify.appraisal import Evidence
from teeverify.endorsements.fetch import Fetcher, require_https
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import EvidenceError, MalformedEvidence, Unavailable
from teeverify.snp.kds import AMD_KDS, Question, current, questions

__all__ = ["AmdEndorsements", "reports_in_need"]

# AMD's service turns away whoever asks often, mostly without saying for how long.
_BACKOFF = (2.0, 5.0, 10.0)
_TIMEOUT = 30.0


class AmdEndorsements:
    """Where AMD's endorsements come from.

    Args:
        host: ``https://HOST[:PORT]`` of a cache of AMD's service; AMD's own unless named. It is
            the caller's choice, never the evidence's.
        with_chain: Whether to fetch the CAs too, for other roots than AMD's.
        fetcher: Fetches; with time-out and authorities of its own.
        cache: Folder of kept answers; the user's cache unless named.

    Raises:
        ConfigurationError: A wrong host, or a cache that cannot be used.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        with_chain: bool = False,
        fetcher: Fetcher | None = None,
        cache: str | Path | Store | None = None,
    ) -> None:
        self.base = AMD_KDS if host is None else host
        require_https(self.base)
        self._with_chain = with_chain
        self.fetcher = Fetcher(timeout=_TIMEOUT, backoff=_BACKOFF) if fetcher is None else fetcher
        folder = default_folder() if cache is None else cache
        self.store = folder if isinstance(folder, Store) else Store(folder)
        self._turn = threading.Lock()

    def complete_evidence(self, evidence: Evidence, *, at: datetime) -> Evidence:
        """Add what is missing for all machines of evidence.

        Args:
            evidence: The evidence.
            at: The time at which all must be current.

        Raises:
            ConfigurationError: The cache cannot be used.
        """
        reports, with_leaf = reports_in_need(evidence), not _has_leaves(evidence)
        try:
            fetched = self.for_reports(reports, at=at, with_leaf=with_leaf)
        except (EvidenceError, Unavailable) as error:
            return replace(evidence, notes=(*evidence.notes, f"not fetched: {error.message}"))
        known = evidence.snp_endorsements
        several = (fetched,) if known is None else (known, fetched)
        return replace(evidence, snp_endorsements=snp.Endorsements.union(*several))

    def for_reports(
        self, reports: Iterable[bytes], *, at: datetime, with_leaf: bool = True
    ) -> snp.Endorsements:
        """Everything that these reports need; what is kept and still current is not fetched again.

        One thing is asked for at a time, so that threads with reports of one chip ask once.

        Args:
            reports: The reports.
            at: The time at which all must be current.
            with_leaf: Whether the certificates of the reports' keys are needed too.

        Raises:
            MalformedEvidence: A report, or an answer, cannot be read.
            EndorsementUnavailable: A report that does not say what to ask for, or an answer that
                could not be had.
            ConfigurationError: The cache cannot be used.
        """
        asked: list[Question] = []
        for report in reports:
            asked += questions(
                snp.parse_report(report),
                base=self.base,
                with_chain=self._with_chain,
                with_leaf=with_leaf,
            )
        return snp.Endorsements(snp.Found.union(self.ask(asked, at=at)))

    def ask(
        self, asked: Iterable[Question], *, at: datetime, refresh: bool = False
    ) -> list[snp.Found]:
        """What was asked for, piece by piece.

        Args:
            asked: What to ask for.
            at: The time at which all must be current.
            refresh: Whether to fetch what is kept and current too.

        Raises:
            MalformedEvidence: An answer that cannot be read.
            EndorsementUnavailable: An answer that could not be had.
            ConfigurationError: The cache cannot be used.
        """
        found = []
        for question in asked:
            with self._turn:
                found.append(self._one(question, at, refresh=refresh))
        return found

    def _one(self, question: Question, at: datetime, *, refresh: bool) -> snp.Found:
        kept = None if refresh else self._kept(question.url, at)
        if kept is not None:
            return kept
        answer = self.fetcher.get(question.url, what=question.what, id=question.id)
        # What cannot be read is not kept; whether it is genuine, each verification says.
        fetched = snp.Endorsements.load(answer.body).found
        self.store.save(answer)
        return fetched

    def _kept(self, url: str, at: datetime) -> snp.Found | None:
        answer = self.store.load(url)
        if answer is None:
            return None
        try:
            return current(answer, at)
        except MalformedEvidence:
            return None


def reports_in_need(evidence: Evidence) -> tuple[bytes, ...]:
    """The AMD reports of evidence beside which a chip's certificate or a list is missing."""
    found = snp.Found() if evidence.snp_endorsements is None else evidence.snp_endorsements.found
    if _has_leaves(evidence) and found.crls:
        return ()
    return tuple(
        machine.snp_report for machine in evidence.machines if machine.snp_report is not None
    )


def _has_leaves(evidence: Evidence) -> bool:
    """Whether certificates of the reports' keys were given, or came with every report."""
    given = evidence.snp_endorsements
    return (given is not None and bool(given.found.leaves)) or all(
        machine.snp_certificates is not None
        for machine in evidence.machines
        if machine.snp_report is not None
    )
