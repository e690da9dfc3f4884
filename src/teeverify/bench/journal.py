"""Blocks on disk, one JSON line each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from teeverify.errors import ConfigurationError

__all__ = ["BUDGET", "NARROW", "TIME", "Block", "Journal"]

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


class Journal:
    """The file of a run's blocks.

    Attributes:
        blocks: What was measured.
        ended: Why each cell ended.
        seed: Of the run's prompts and orders: drawn when the file is made, kept with it.

    Args:
        path: The file; made where there is none.
        digest: The plan's; a file of another plan is refused.

    Raises:
        ConfigurationError: The file is of another plan, or none of ours.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self.blocks: list[Block] = []
        self.ended: dict[str, str] = {}
        self.seed = secrets.token_hex(8)
        if path.exists():
            self._load(digest)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append({"plan": digest, "seed": self.seed})

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

    def _append(self, record: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _load(self, digest: str) -> None:
        # A run that was killed while it wrote leaves a last line without an end: it is dropped.
        text = self._path.read_text(encoding="utf-8")
        whole, _, rest = text.rpartition("\n")
        try:
            first, *others = [json.loads(line) for line in whole.split("\n")]
            ends = [record for record in others if "ended" in record]
            self.ended = {record["cell"]: record["ended"] for record in ends}
            self.blocks = [Block(**record) for record in others if "ended" not in record]
            known, self.seed = first["plan"], first.get("seed", self.seed)
        except (ValueError, TypeError, KeyError):
            raise ConfigurationError(
                f"{self._path.name} is no journal of a benchmark", id="usage.bench"
            ) from None
        if known != digest:
            raise ConfigurationError(
                f"{self._path.name} belongs to another plan",
                id="usage.bench",
                hint="Give another --out, or the flags that it was started with.",
            )
        if rest:
            self._path.write_text(whole + "\n", encoding="utf-8")
