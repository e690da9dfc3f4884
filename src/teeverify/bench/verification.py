"""Verifies every answer of a block after the block, so that the block is not slowed by it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from teeverify.appraisal import Policy
from teeverify.appraisal.observation import Outcome
from teeverify.appraisal.result import Claim
from teeverify.bench.load import Target
from teeverify.bench.metrics import quantile
from teeverify.bench.sample import Sample
from teeverify.client.connect import connect
from teeverify.client.session import AttestedSession
from teeverify.errors import TeeVerifyError
from teeverify.roots import UnsafeTestRoots

__all__ = ["AnswerVerifier"]

_THREADS = 4


def _proven(claim: Claim) -> str | None:
    return claim.text if claim.outcome is Outcome.PROVEN else None


class AnswerVerifier:
    """Attests each target once, and verifies its answers.

    Args:
        policy: As of :func:`teeverify.connect`.
        roots: Test roots, for simulated targets.
    """

    def __init__(
        self, policy: str | Path | Policy = "genuine", roots: UnsafeTestRoots | None = None
    ) -> None:
        self._policy = policy
        self._roots = roots
        self._sessions: dict[str, AttestedSession] = {}
        self.refused: list[str] = []

    def attest(self, target: Target) -> dict[str, object]:
        """Attest a target, and say what is proven of it.

        Raises:
            TeeVerifyError: It does not satisfy the policy.
        """
        started = time.perf_counter()
        session = connect(
            target.url,
            model=target.model,
            policy=self._policy,
            roots=self._roots,
            api_key=target.api_key,
        )
        self._sessions[target.name] = session
        result = session.result
        return {
            "summary": result.summary,
            "tier": result.tier,
            "roots": result.roots_kind,
            "simulated": result.simulated,
            **{part: _proven(result.claims[part]) for part in ("cpu", "gpu")},
            "connect_ms": 1e3 * (time.perf_counter() - started),
        }

    def __call__(self, target: Target, samples: Sequence[Sample]) -> dict[str, float]:
        """Verify every answer; what is refused is counted, and kept in ``refused``.

        ``cpu`` and ``gpu`` are 1 where the evidence behind it proves one by the vendors' roots.
        """
        session = self._sessions[target.name]

        def one(sample: Sample) -> float | None:
            started = time.perf_counter()
            try:
                session.verify_response(
                    response=sample.response, request=sample.request, id=sample.id
                )
            except TeeVerifyError as error:
                self.refused.append(f"{target.name}: {error.message}")
                return None
            return 1e3 * (time.perf_counter() - started)

        started = time.perf_counter()
        with ThreadPoolExecutor(_THREADS) as threads:
            costs = [cost for cost in threads.map(one, samples) if cost is not None]
        wall = time.perf_counter() - started
        found = {"verified": float(len(costs)), "refused": float(len(samples) - len(costs))}
        genuine = session.result.roots_kind == "embedded"
        for part in ("cpu", "gpu"):
            proven = genuine and _proven(session.result.claims[part]) is not None
            found[part] = float(proven)
        if costs:
            found |= {"wall_ms_each": 1e3 * wall / len(samples), "p50_ms": quantile(costs, 0.5)}
        return found
