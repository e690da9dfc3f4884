"""What a check is called and what it proves: data that messages, JSON and docs share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check"]


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
