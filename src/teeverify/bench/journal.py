"""Blocks on disk, one JSON line each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from teeverify.encoding.fields import JsonObject
from teeverify.encoding.text import printable
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["BUDGET", "NARROW", "TIME", "Block", "Journal", "read_block", "read_numbers"]

_ID = "usage.bench"

# Why a cell ended: its interval is narrow enough; its budget is spent; the run's time was up.
NARROW, BUDGET, TIME = "narrow", "budget", "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one target did in one block.

    Attributes:
        cell: The cell's id.
        target: The target's name.
        pair: Number of the block within its cell; one block of each target has it.
        order: Which of the targets it was in this block, from 0; ``None`` where they took turns,
            request by request.
        started_at: Time of day (ISO 8601).
        answers: Whole answers.
        failed: Reasons of the others, with how many.
        figures: By metric.
        turns: Where targets took turns, and of all but the baseline: how its requests differ from
            the baseline's, pair by pair (``metrics.compare_turns``).
        tokens: Tokens of the answers.
        prompt_tokens: Tokens of the prompts; ``None`` where the endpoint does not count.
        counted: ``usage``: by the endpoint; ``events``: by us, a token an event.
        short: Answers of fewer tokens than were asked for.
        verified: How many were verified, and what that cost.
    """

    cell: str
    target: str
    pair: int
    order: int | None
    started_at: str
    answers: int
    failed: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    turns: dict[str, dict[str, float]] = field(default_factory=dict)
    tokens: int = 0
    prompt_tokens: int | None = None
    counted: str = "usage"
    short: int = 0
    verified: dict[str, float] | None = None


_LEAST, _MOST = 1e-9, 1e15
"""Of a figure that is not 0: what is beyond has no quotients and squares that are numbers."""

_WIDEST = math.log(_MOST / _LEAST)


def read_numbers(record: JsonObject) -> dict[str, float]:
    """Every member, each a number that may be computed with, and not below 0.

    Raises:
        MalformedEvidence: One is none.
    """
    numbers = {name: _number(record, name) for name in sorted(record.names())}
    for name, value in numbers.items():
        if 0 < value < _LEAST:
            raise _unfit(record, name, "is out of range")
    return numbers


def read_block(record: JsonObject) -> Block:
    """A block, as it was written.

    Raises:
        MalformedEvidence: It is none.
    """
    if strange := record.names() - {each.name for each in fields(Block)}:
        raise _unfit(record, min(strange), "is no member of a block")
    if (counted := record.text("counted")) not in {"usage", "events"}:
        raise _unfit(record, "counted", "is neither usage nor events")
    failed, turns = record.object("failed"), record.object("turns")
    return Block(
        cell=record.text("cell"),
        target=record.text("target"),
        pair=_count(record, "pair"),
        order=_count(record, "order") if "order" in record else None,
        started_at=record.text("started_at"),
        answers=_count(record, "answers"),
        failed={why: _count(failed, why) for why in sorted(failed.names())},
        figures=read_numbers(record.object("figures")),
        turns={metric: _turn(turns.object(metric)) for metric in sorted(turns.names())},
        tokens=_count(record, "tokens"),
        prompt_tokens=_count(record, "prompt_tokens") if "prompt_tokens" in record else None,
        counted=counted,
        short=_count(record, "short"),
        verified=_verified(record.object("verified")) if "verified" in record else None,
    )


def _turn(record: JsonObject) -> dict[str, float]:
    return {
        "ms": _number(record, "ms", least=-_MOST),
        "log": _number(record, "log", least=-_WIDEST, most=_WIDEST),
    }


def _verified(record: JsonObject) -> dict[str, float]:
    if record.names():
        record.number("verified")
    return read_numbers(record)


def _count(record: JsonObject, name: str) -> int:
    record.integer(name)
    return int(_number(record, name))


def _number(record: JsonObject, name: str, *, least: float = 0.0, most: float = _MOST) -> float:
    value = record.number(name)
    if not least <= value <= most:
        raise _unfit(record, name, "is out of range")
    return value


def _unfit(record: JsonObject, name: str, why: str) -> MalformedEvidence:
    path = f"{record.path}.{name}"
    return MalformedEvidence(f"{path} {why}", id=_ID, field=path)


class Journal:
    """The file of a run's blocks.

    Attributes:
        blocks: What was measured.
        ended: Why each cell ended.
        seed: Of the run's prompts and orders: drawn when the file is made, kept with it.

    Args:
        path: The file; made where there is none.
        digest: The plan's. A file that holds blocks of another plan is refused; one without
            blocks, of a run that found nobody, binds nobody.

    Raises:
        ConfigurationError: The file is of another plan, none of ours, or cannot be written.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self.blocks: list[Block] = []
        self.ended: dict[str, str] = {}
        self.seed = secrets.token_hex(8)
        try:
            if path.exists():
                self._load(digest)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._begin(digest)
        except OSError as error:
            raise ConfigurationError(
                f"{path.name} cannot be kept in {path.parent}", id=_ID, got=error.strerror
            ) from None

    def add(self, block: Block) -> None:
        """Keep one block, on disk before anything else is measured."""
        self._append(asdict(block))
        self.blocks.append(block)

    def end(self, cell: str, why: str) -> None:
        """Keep that a cell is measured, and why it ended: a run that goes on leaves it alone."""
        self._append({"cell": cell, "ended": why})
        self.ended[cell] = why

    def of(self, cell: str) -> list[Block]:
        """The blocks of one cell."""
        return [block for block in self.blocks if block.cell == cell]

    def _begin(self, digest: str) -> None:
        self._append({"plan": digest, "seed": self.seed})

    def _append(self, record: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _load(self, digest: str) -> None:
        # A run that was killed while it wrote leaves a last line without an end: it is dropped.
        whole, _, rest = self._path.read_bytes().rpartition(b"\n")
        try:
            first, *others = [
                JsonObject.parse(line, path=f"line {number}", id=_ID)
                for number, line in enumerate(whole.split(b"\n"), start=1)
            ]
            ends = [record for record in others if "ended" in record]
            self.ended = {record.text("cell"): record.text("ended") for record in ends}
            self.blocks = [read_block(record) for record in others if "ended" not in record]
            known = first.text("plan")
            self.seed = first.text("seed") if "seed" in first else self.seed
        except MalformedEvidence as problem:
            raise ConfigurationError(
                f"{self._path.name} is no journal of a benchmark",
                id=_ID,
                got=printable(problem.message + problem.where),
            ) from None
        if known != digest and self.blocks:
            raise ConfigurationError(
                f"{self._path.name} belongs to another plan",
                id=_ID,
                hint="Give another --out, or the flags that it was started with.",
            )
        if known != digest:
            self._path.unlink()
            self.ended = {}
            self._begin(digest)
        elif rest:
            self._path.write_bytes(whole + b"\n")
