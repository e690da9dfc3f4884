"""Intel's endorsements of a platform, from the cache where they are current, else fetched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from teeverify import tdx
from teeverify.appraisal import Evidence
from teeverify.endorsements import Answer
from teeverify.endorsements.fetch import Fetcher, require_https
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import EvidenceError, MalformedEvidence, Unavailable
from teeverify.tdx.documents import Tee
from teeverify.tdx.pcs import Channel, Platform, Service, current, platform_of
from teeverify.tdx.pcs import Question as PcsQuestion
from teeverify.tdx.pool import Pool

__all__ = ["IntelEndorsements", "quotes_in_need"]


class IntelEndorsements:
    """Where Intel's endorsements come from.

    Args:
        host: ``https://HOST[:PORT]`` of a caching service (PCCS); Intel's own unless named. It
            is the caller's choice, never the evidence's.
        channel: ``standard`` or ``early``; see Intel's option ``update``.
        evaluation_number: One of Intel's data sets by number, instead.
        fetcher: Fetches; with time-out and authorities of its own.
        cache: Folder of kept answers; the user's cache unless named.

    Raises:
        ConfigurationError: A wrong host or option, or a cache that cannot be used.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        channel: Channel | None = None,
        evaluation_number: int | None = None,
        fetcher: Fetcher | None = None,
        cache: str | Path | Store | None = None,
    ) -> None:
        options = {} if host is None else {"base": host}
        self.service = Service(channel=channel, evaluation_number=evaluation_number, **options)
        require_https(self.service.base)
        self.fetcher = Fetcher() if fetcher is None else fetcher
        folder = default_folder() if cache is None else cache
        self.store = folder if isinstance(folder, Store) else Store(folder)

    def for_quotes(self, quotes: Iterable[bytes], *, at: datetime) -> tdx.Endorsements:
        """Everything that these quotes need; what is kept and still current is not fetched again.

        Raises:
            MalformedEvidence: A quote, or an answer, cannot be read.
            EndorsementUnavailable: A quote without its PCK chain, or an answer that could not be
                had.
            ConfigurationError: The cache cannot be used.
        """
        platforms = dict.fromkeys(platform_of(tdx.parse_quote(quote)) for quote in quotes)
        pools = [pool for platform in platforms for pool in self.pools(platform, at=at)]
        return tdx.Endorsements(Pool.union(pools))

    def complete_evidence(self, evidence: Evidence, *, at: datetime, data_sets: bool) -> Evidence:
        """Evidence with what is missing beside its quotes; what could not be had is noted.

        It is then missing, which each check that needs it says; the note says why.

        Args:
            evidence: The evidence.
            at: The time of the appraisal.
            data_sets: Whether Intel's list of data sets is needed too.

        Raises:
            ConfigurationError: The cache cannot be used.
        """
        known = [] if evidence.tdx_endorsements is None else [evidence.tdx_endorsements]
        notes = list(evidence.notes)
        try:
            if quotes := quotes_in_need(evidence):
                known.append(self.for_quotes(quotes, at=at))
            if data_sets:
                known.append(self.data_sets(at=at))
        except (EvidenceError, Unavailable) as error:
            notes.append(f"not fetched: {error.message}")
        found = known[0] if len(known) == 1 else tdx.Endorsements.union(*known) if known else None
        return replace(evidence, tdx_endorsements=found, notes=tuple(notes))

    def data_sets(self, *, at: datetime) -> tdx.Endorsements:
        """Intel's list of TDX data sets, and the root's revocation list that its signer needs.

        Raises:
            TeeVerifyError: See :meth:`for_quotes`.
        """
        listed = self.list_of_data_sets("TDX", at=at)
        root_crl = self._ask(self.service.root_crl_question(), at)
        return tdx.Endorsements(Pool.union((listed, root_crl)))

    def list_of_data_sets(self, tee: Tee, *, at: datetime, refresh: bool = False) -> Pool:
        """Intel's list of the data sets of one kind of TEE; with ``refresh`` it is fetched.

        Raises:
            TeeVerifyError: See :meth:`for_quotes`.
        """
        return self._ask(self.service.numbers_question(tee), at, refresh=refresh)

    def pools(self, platform: Platform, *, at: datetime, refresh: bool = False) -> list[Pool]:
        """The same for one platform, answer by answer; with ``refresh`` all are fetched.

        Raises:
            TeeVerifyError: See :meth:`for_quotes`.
        """
        questions = self.service.questions(platform)
        return [self._ask(question, at, refresh=refresh) for question in questions]

    def _ask(self, question: PcsQuestion, at: datetime, *, refresh: bool = False) -> Pool:
        pool = None if refresh else self._kept(question.url, at)
        if pool is None:
            answer = self.fetcher.get(
                question.url, what=question.what, id=question.id, keep=question.keep
            )
            # What cannot be read is not kept; whether it is genuine, each verification says.
            pool = tdx.Endorsements.of(answer).pool
            self.store.save(answer)
        return pool

    def _kept(self, url: str, at: datetime) -> Pool | None:
        answer: Answer | None = self.store.load(url)
        if answer is None:
            return None
        try:
            return current(answer, at)
        except MalformedEvidence:
            return None


def quotes_in_need(evidence: Evidence) -> tuple[bytes, ...]:
    """The quotes of evidence beside which some kind of Intel's endorsements is missing."""
    pool = Pool() if evidence.tdx_endorsements is None else evidence.tdx_endorsements.pool
    if pool.tcb_infos and pool.qe_identities and pool.root_crls and pool.pck_crls:
        return ()
    return tuple(machine.quote for machine in evidence.machines if machine.quote is not None)
