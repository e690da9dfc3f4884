"""A run's result: one JSON file that holds everything that its report says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from teeverify.bench.journal import Block
from teeverify.bench.metrics import METRICS
from teeverify.bench.overhead import compare_cell, say_comparison, summarize
from teeverify.bench.statistics import Interval
from teeverify.errors import ConfigurationError

__all__ = ["SCHEMA", "Result", "load_result", "write_result"]

SCHEMA = "teeverify.bench/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run, as it was measured.

    Attributes:
        title: What was run, in the operator's words.
        plan: What was to be measured.
        host: Where the benchmark ran (``environment``).
        model: The model's shape and weights, as far as was said.
        targets: Of each target: engine's version, attestation, notes.
        blocks: What was measured.
        ended: Why each cell ended (``journal``); one that is not there was not finished. ``None``
            in results of the first releases, which do not say.
        ceiling: What the benchmark itself can do, against an endpoint without an engine.
    """

    title: str
    plan: Mapping[str, object]
    host: Mapping[str, object]
    model: Mapping[str, object]
    targets: Mapping[str, Mapping[str, object]]
    blocks: Sequence[Block]
    ceiling: Mapping[str, float]
    ended: Mapping[str, str] | None = None

    @property
    def names(self) -> list[str]:
        """The targets, the baseline first."""
        return list(self.targets)

    @property
    def cells(self) -> list[str]:
        """The cells that hold a block, in the order of the plan."""
        return list(dict.fromkeys(block.cell for block in self.blocks))

    @property
    def planned(self) -> dict[str, str]:
        """Every cell of the plan, with the metric that its overhead is about."""
        cells = self.plan["cells"]
        if not isinstance(cells, list):
            raise TypeError
        return {each["id"]: each["headline"] for each in cells}

    def headline(self, cell: str) -> str:
        """The metric that a cell's overhead is about."""
        return self.planned[cell]

    def of(self, cell: str) -> list[Block]:
        """The blocks of one cell."""
        return [block for block in self.blocks if block.cell == cell]

    @property
    def tee(self) -> str:
        """Whether confidential computing was on: of each target only its own evidence may say."""
        proven = [name for name in self.names if self._is_proven(name)]
        others = [name for name in self.names if name not in proven]
        said = [f"{name}: TEE on, by verified evidence ({self._parts(name)})" for name in proven]
        if others:
            state = self.host.get("confidential_computing", "not known")
            said.append(
                f"{' and '.join(others)}: TEE not verified (NVML on the host of the benchmark: "
                f"confidential computing {state})"
            )
        return "; ".join(said)

    def _is_proven(self, name: str) -> bool:
        attestation = self.targets[name].get("attestation")
        answers = [block.verified for block in self.blocks if block.target == name]
        return (
            isinstance(attestation, Mapping)
            and attestation.get("roots") == "embedded"
            and bool(attestation.get("cpu"))
            and bool(answers)
            and all(cost is not None and cost.get("refused") == 0 for cost in answers)
            and self._all_proven(name, "cpu")
        )

    def _all_proven(self, name: str, part: str) -> bool:
        """Whether each block's answers were verified under evidence that proves this part.

        A run that goes on attests anew: no part's evidence speaks for another part's blocks.
        """
        costs = [block.verified or {} for block in self.blocks if block.target == name]
        return all(cost.get(part) == 1 for cost in costs)

    def _parts(self, name: str) -> str:
        """What the evidence of a target that is proven is about."""
        attestation = self.targets[name]["attestation"]
        if not isinstance(attestation, Mapping):
            raise TypeError
        gpu = attestation.get("gpu") if self._all_proven(name, "gpu") else None
        return f"{attestation['cpu']}; {gpu or 'no GPU is proven'}"


def write_result(result: Result, path: Path) -> None:
    """Write a result, with its intervals computed, for machines."""
    document = {
        "schema": SCHEMA,
        "title": result.title,
        "tee": result.tee,
        "plan": dict(result.plan),
        "host": dict(result.host),
        "model": dict(result.model),
        "targets": {name: dict(each) for name, each in result.targets.items()},
        "ceiling": dict(result.ceiling),
        "metrics": [asdict(metric) for metric in METRICS],
        "cells": {cell: _cell(result, cell) for cell in result.cells},
        "ended": None if result.ended is None else dict(result.ended),
        "blocks": [asdict(block) for block in result.blocks],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_result(path: Path) -> Result:
    """Read a result; its intervals are computed anew.

    Raises:
        ConfigurationError: No result of ours.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError
        return Result(
            title=document["title"],
            plan=document["plan"],
            host=document["host"],
            model=document["model"],
            targets=document["targets"],
            blocks=[Block(**block) for block in document["blocks"]],
            ceiling=document["ceiling"],
            ended=document.get("ended"),
        )
    except OSError as error:
        raise ConfigurationError(
            f"{path.name} cannot be read", id="usage.bench", got=error.strerror
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigurationError(
            f"{path.name} is no result of 'teeverify bench run'", id="usage.bench", want=SCHEMA
        ) from None


def _cell(result: Result, cell: str) -> dict[str, object]:
    blocks, (base, *others) = result.of(cell), result.names
    return {
        "figures": {
            name: {row.metric.id: _bounds(row.value) for row in summarize(blocks, name)}
            for name in result.names
        },
        "overhead": {
            name: {
                each.metric.id: {
                    **_bounds(each.overhead),
                    "says": say_comparison(each),
                    "toll_ms": None if each.toll is None else _bounds(each.toll),
                    "pairs": each.blocks,
                }
                for each in compare_cell(blocks, base, name)
            }
            for name in others
        },
    }


def _bounds(interval: Interval) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in asdict(interval).items()}
