"""The vendors' services as one verifier asks them: for what is missing, where it may be had."""

from __future__ import annotations

from datetime import datetime, timedelta

from teeverify.appraisal import Evidence, Policy, Question
from teeverify.client.vendors.amd import AmdEndorsements, reports_in_need
from teeverify.client.vendors.intel import IntelEndorsements, quotes_in_need
from teeverify.client.vendors.nvidia import NvidiaEndorsements
from teeverify.endorsements.store import Store, default_folder
from teeverify.roots import EMBEDDED

__all__ = ["Services"]

_NOW = timedelta(minutes=10)


class Services:
    """Where what is missing comes from, and whether it is asked for at all.

    Nothing is fetched offline, for another time than now, or under test roots, unless the caller
    named the service.

    Args:
        policy: The policy.
        offline: Open no socket.
        intel: Where Intel's endorsements come from; Intel's own service unless given.
        amd: The same for AMD's.
        nvidia: The same for NVIDIA's.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        offline: bool,
        intel: IntelEndorsements | None,
        amd: AmdEndorsements | None,
        nvidia: NvidiaEndorsements | None,
    ) -> None:
        self._policy = policy
        self._offline = offline
        self._intel = intel
        self._amd = amd
        self._nvidia = nvidia

    def complete(self, evidence: Evidence, question: Question, moment: datetime) -> Evidence:
        """The evidence with what the vendors' services add, where something is missing.

        Args:
            evidence: The evidence.
            question: What it must answer.
            moment: Now.

        Raises:
            ConfigurationError: A cache that cannot be used.
        """
        if reports_in_need(evidence) and self._may_ask(self._amd, question, moment):
            self._amd = self._amd or AmdEndorsements()
            evidence = self._amd.complete_evidence(evidence, at=question.at)
        gpus = any(machine.gpus is not None for machine in evidence.machines)
        if gpus and self._may_ask(self._nvidia, question, moment):
            self._nvidia = self._nvidia or NvidiaEndorsements()
            evidence = self._nvidia.complete_evidence(evidence, question, self._policy)
        compares = self._policy["tdx.newest_standard"]
        quoted = any(machine.quote is not None for machine in evidence.machines)
        needed = quotes_in_need(evidence) or (compares and quoted)
        if needed and self._may_ask(self._intel, question, moment):
            self._intel = self._intel or IntelEndorsements()
            evidence = self._intel.complete_evidence(evidence, at=question.at, data_sets=compares)
        return evidence

    def asks_intel(self, question: Question, moment: datetime) -> bool:
        """Whether Intel's service is asked already, and may be asked about this too."""
        return self._intel is not None and self._may_ask(self._intel, question, moment)

    def store(self, evidence: Evidence, question: Question, moment: datetime) -> Store | None:
        """Where the numbers of Intel's endorsements are kept, whoever hands them over now."""
        if self._intel is not None and self._may_ask(self._intel, question, moment):
            return self._intel.store
        return Store(default_folder()) if evidence.live and not self._offline else None

    def _may_ask(self, service: object | None, question: Question, moment: datetime) -> bool:
        """Whether what is missing may be fetched: now, for the vendors' roots or by a named one."""
        if self._offline or abs(question.at - moment) > _NOW:
            return False
        return service is not None or question.roots is EMBEDDED
