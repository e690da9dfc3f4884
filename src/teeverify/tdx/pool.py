"""Everything Intel signed that one load brought, and how the piece that a quote needs is chosen.

What is chosen here is untrusted. A wrong piece is never passed over in favour of a right one: where
an answer was recorded for exactly what is needed, that answer is the one that gets verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from teeverify.crypto.crl import Crl
from teeverify.errors import EndorsementUnavailable
from teeverify.tdx.documents import EvaluationNumbers, QeIdentity, TcbInfo

__all__ = ["Entry", "Pool", "Wanted", "choose"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One piece, and what it was recorded as the answer to.

    Attributes:
        item: The piece.
        address: What was asked, for example ``TDX:90c06f000000``; ``None`` where nobody recorded
            the question.
    """

    item: T
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pieces, by kind.

    Attributes:
        tcb_infos: Addressed ``TEE:fmspc``.
        qe_identities: Addressed ``TEE``.
        root_crls: Addressed ``root``.
        pck_crls: Addressed ``platform`` or ``processor``.
        pck_chains: PCK chains in PEM, supplied aside from the quote.
        evaluation_numbers: Lists of Intel's data sets, addressed ``TEE``.
    """

    tcb_infos: tuple[Entry[TcbInfo], ...] = ()
    qe_identities: tuple[Entry[QeIdentity], ...] = ()
    root_crls: tuple[Entry[Crl], ...] = ()
    pck_crls: tuple[Entry[Crl], ...] = ()
    pck_chains: tuple[bytes, ...] = field(default=(), repr=False)
    evaluation_numbers: tuple[Entry[EvaluationNumbers], ...] = ()

    @classmethod
    def union(cls, pools: Iterable[Pool]) -> Pool:
        """All pieces of several pools."""
        found = tuple(pools)
        return cls(
            tcb_infos=tuple(entry for pool in found for entry in pool.tcb_infos),
            qe_identities=tuple(entry for pool in found for entry in pool.qe_identities),
            root_crls=tuple(entry for pool in found for entry in pool.root_crls),
            pck_crls=tuple(entry for pool in found for entry in pool.pck_crls),
            pck_chains=tuple(chain for pool in found for chain in pool.pck_chains),
            evaluation_numbers=tuple(e for pool in found for e in pool.evaluation_numbers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted(Generic[T]):
    """What a quote needs of one kind.

    Attributes:
        id: The check that needs it.
        what: Its name, for the error where there is none.
        address: What it would have been recorded as the answer to.
        matches: Whether an item says of itself that it is this.
        dates: From when until when an item says it is valid, and its number among equals.
    """

    id: str
    what: str
    address: str
    matches: Callable[[T], bool]
    dates: Callable[[T], tuple[datetime, datetime, int]]


def choose(entries: tuple[Entry[T], ...], wanted: Wanted[T], at: datetime) -> T:
    """Choose one piece; whether it is right is for the verification to say.

    A piece recorded as the answer to this very question is taken, even where it describes something
    else, and so is one that is alone and whose question nobody recorded: the verification then
    refuses it. Otherwise those that describe what is wanted are candidates. Among several the one
    valid at ``at`` is preferred, then the newest.

    Raises:
        EndorsementUnavailable: There is none.
    """
    if len(entries) == 1 and entries[0].address is None:
        return entries[0].item
    answers = [entry.item for entry in entries if entry.address == wanted.address]
    candidates = [item for item in answers if not wanted.matches(item)] or answers
    if not candidates:
        unaddressed = [entry.item for entry in entries if entry.address is None]
        candidates = [item for item in unaddressed if wanted.matches(item)]
    if not candidates:
        raise EndorsementUnavailable(
            f"{wanted.what} is not among the endorsements",
            id=wanted.id,
            hint="Supply it, or let it be fetched; without it this is undecided.",
        )

    def preference(item: T) -> tuple[bool, datetime, int]:
        start, end, number = wanted.dates(item)
        return start <= at <= end, start, number

    return max(candidates, key=preference)
