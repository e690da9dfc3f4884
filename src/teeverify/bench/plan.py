"""What is measured: cells, each a workload under a load, and how long."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from teeverify.bench.load import Load, Target
from teeverify.bench.workload import Workload
from teeverify.errors import ConfigurationError

__all__ = ["Cell", "Plan", "cells_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A workload under a load: a row of the report."""

    workload: Workload
    load: Load

    @property
    def id(self) -> str:
        """Its name in results."""
        return f"{self.workload.name}, {self.load.name}"

    @property
    def headline(self) -> str:
        """The metric that its overhead is about.

        One stream: how fast it decodes. Several: answers a second. At a given rate: the latency,
        for the answers a second are given.
        """
        if self.workload.headline is not None:
            return self.workload.headline
        if self.load.rate is not None:
            return "e2e"
        return "tps" if self.load.batch == 1 else "qps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole experiment.

    Attributes:
        targets: The endpoints; the first is the baseline.
        cells: What is measured of each.
        block_seconds: About how long a block takes.
        budget_seconds: After so long a cell ends, narrow interval or not.
        total_seconds: After so long the run ends; what is left is divided among the cells that
            are left, and a cell for which nothing is left is not measured.
        narrow: A cell ends when half its interval is at most this share of the baseline.
        min_blocks: Blocks of each target that a cell has at least.
        timeout: Seconds for one answer.
        verify: Names of the targets whose every answer is verified.
        seed: Settles prompts and order. Equal prompts in two runs would find an engine's prefix
            cache full of them.
    """

    targets: tuple[Target, ...]
    cells: tuple[Cell, ...]
    block_seconds: float = 3.0
    budget_seconds: float = 60.0
    total_seconds: float = math.inf
    narrow: float = 0.005
    min_blocks: int = 5
    timeout: float = 600.0
    verify: frozenset[str] = frozenset()
    seed: str = "teeverify"

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ConfigurationError: No target, or two of one name, or a name that none has; a cell
                twice.
        """
        names = [target.name for target in self.targets]
        if not names or len(set(names)) != len(names):
            raise ConfigurationError(
                "each target needs a name of its own", id="usage.bench", got=", ".join(names)
            )
        unknown = sorted(self.verify - set(names))
        if unknown:
            raise ConfigurationError(
                "no target has this name",
                id="usage.bench",
                got=", ".join(unknown),
                want=", ".join(names),
            )

        cells = [cell.id for cell in self.cells]
        if len(set(cells)) != len(cells):
            raise ConfigurationError(
                "the same workload under the same load twice",
                id="usage.bench",
                got="; ".join(cells),
            )

    def in_turns(self, cell: Cell) -> bool:
        """Whether the targets take turns in a cell, request by request."""
        return cell.load.in_turns and len(self.targets) > 1

    @property
    def digest(self) -> str:
        """What makes two runs the same experiment: an interrupted one goes on only with itself.

        The seed is not of it: each run has its own, which its journal keeps.
        """
        known = {key: value for key, value in self.describe().items() if key != "seed"}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, object]:
        """The plan in a result's JSON; without keys of anybody's.

        How long the whole run may take is not of it: one that ran out of time may go on.
        """
        return {
            "targets": [{"name": t.name, "url": t.url, "model": t.model} for t in self.targets],
            "cells": [
                {
                    "id": cell.id,
                    "about": cell.workload.about,
                    "load": cell.load.name,
                    "headline": cell.headline,
                    "in_turns": self.in_turns(cell),
                }
                for cell in self.cells
            ],
            "block_seconds": self.block_seconds,
            "budget_seconds": self.budget_seconds,
            "narrow": self.narrow,
            "min_blocks": self.min_blocks,
            "verify": sorted(self.verify),
            "seed": self.seed,
        }


def cells_of(workloads: Sequence[Workload], loads: Sequence[Load]) -> tuple[Cell, ...]:
    """Every workload under every load."""
    return tuple(Cell(workload=w, load=load) for w in workloads for load in loads)
