"""What an audit of many receipts found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from teeverify.errors import EXIT_UNDECIDED, EXIT_WRONG, WORST_FIRST

__all__ = ["Report", "Row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one receipt: plain data, asserted by the worker that verified it.

    Attributes:
        name: Where it stood.
        exit_code: 0 satisfied, 1 the policy says no, 2 wrong, 3 undecided.
        tier: As in a result.
        summary: The first sentence.
        cause: Id of the finding or error that decided, where it is refused.
        receipt_id: The receipt's id, if it could be read.
        signer: The attested key, if it was verified.
        answer_id: The answer's own id, if its bytes are there.
        challenge: The challenge that the signed statement must name, where there is one.
        request: SHA-256 of the request, in hex.
        response: SHA-256 of the answer, in hex.
        once: What its signature shows of a secret number, and what it signs, both in hex.
        simulated: Whether it rests on test roots.
    """

    name: str
    exit_code: int
    tier: str
    summary: str
    cause: str | None = None
    receipt_id: str | None = None
    signer: str | None = None
    answer_id: str | None = None
    challenge: str | None = None
    request: str | None = None
    response: str | None = None
    once: tuple[str, str] | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All rows, in the order of the receipts, and what shows only in many.

    Attributes:
        rows: One a receipt.
        duplicates: Names of receipts of one and the same signed answer.
        equivocations: Names of receipts in which one signer gave one id or challenge to different
            answers: one of them cannot be the answer.
        leaked: Names of receipts in which one signer used one secret number for different texts:
            its key can be computed from any two, so none of what it signed is proven.
    """

    rows: tuple[Row, ...]
    duplicates: tuple[tuple[str, ...], ...]
    equivocations: tuple[tuple[str, ...], ...]
    leaked: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Report:
        """Hold rows against each other. Only what was verified can contradict itself."""
        kept = tuple(rows)
        known = [row for row in kept if row.signer is not None]
        same: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
        answers, numbers = _Contradictions(), _Contradictions()
        for row in known:
            same[row.signer, row.request, row.response].append(row.name)
            for key in (row.answer_id, row.challenge):
                if key is not None:
                    answers.add((row.signer, key), row.response, row.name)
            if row.once is not None:
                numbers.add((row.signer, row.once[0]), row.once[1], row.name)
        return cls(
            rows=kept,
            duplicates=tuple(tuple(names) for names in same.values() if len(names) > 1),
            equivocations=answers.found(),
            leaked=numbers.found(),
        )

    @property
    def exit_code(self) -> int:
        """The worst of all; an equivocation or a leaked key is wrong, however good each receipt.

        Of no receipt at all: undecided.
        """
        codes = {row.exit_code for row in self.rows}
        if self.equivocations or self.leaked:
            codes.add(EXIT_WRONG)
        return next((code for code in WORST_FIRST if code in codes), EXIT_UNDECIDED)

    @property
    def counts(self) -> dict[int, int]:
        """How many receipts have each exit code, the worst first."""
        found = Counter(row.exit_code for row in self.rows)
        return {code: found[code] for code in WORST_FIRST if found[code]}

    def causes(self) -> Sequence[tuple[str, int]]:
        """Why receipts were refused, the most frequent first."""
        return Counter(row.cause for row in self.rows if row.cause is not None).most_common()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON shows it."""
        simulated = any(row.simulated for row in self.rows)
        return {
            "schema": "teeverify.audit/1-simulated" if simulated else "teeverify.audit/1",
            "exit_code": self.exit_code,
            "receipts": len(self.rows),
            "counts": {str(code): number for code, number in self.counts.items()},
            "duplicates": [list(names) for names in self.duplicates],
            "equivocations": [list(names) for names in self.equivocations],
            "leaked": [list(names) for names in self.leaked],
            "results": [asdict(row) for row in self.rows],
        }


class _Contradictions:
    """What must have one value, and the names of those in which it has several."""

    def __init__(self) -> None:
        self._values: dict[Hashable, dict[str | None, list[str]]] = defaultdict(dict)

    def add(self, key: Hashable, value: str | None, name: str) -> None:
        self._values[key].setdefault(value, []).append(name)

    def found(self) -> tuple[tuple[str, ...], ...]:
        several = {
            tuple(sorted(name for names in values.values() for name in names))
            for values in self._values.values()
            if len(values) > 1
        }
        return tuple(sorted(several))
