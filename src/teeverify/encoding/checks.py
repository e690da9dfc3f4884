"""What a check is called and what it proves: data that messages, JSON and docs share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check", "Problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check that a verification makes.

    Attributes:
        id: Stable id, for example ``tdx.quote-signature``; also its anchor in the docs.
        claim: Which of the twelve claims (verdicts.md) it belongs to.
        proves: One sentence: what a pass proves.
        fix: One sentence: what to do when it fails.
    """

    id: str
    claim: str
    proves: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error that is not the failure of a check: wrong use, or an endpoint that misbehaves.

    Attributes:
        id: Stable id, for example ``usage.policy``; also its anchor in the docs.
        means: One sentence: what was the matter.
        fix: One sentence: what to do.
    """

    id: str
    means: str
    fix: str
