"""A run's result: one JSON file that holds everything that its report says."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from teeverify.bench.journal import Block, read_block, read_numbers
from teeverify.bench.metrics import METRICS
from teeverify.bench.overhead import compare_cell, say_comparison, summarize
from teeverify.bench.statistics import Interval
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_value
from teeverify.encoding.text import printable
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["REPORT_SCHEMA", "SCHEMA", "Result", "load_result", "write_result", "write_results"]

SCHEMA = "teeverify.bench/1"
REPORT_SCHEMA = "teeverify.bench-report/1"

_ID = "usage.bench"
_LONGEST = 64 * 2**20
_NVML_SAYS = ("on", "off", "on, in developer mode")


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
        measured_here: Whether this process measured and verified all of it. What was read from a
            file is the file's word, evidence included.

    Raises:
        ConfigurationError: No target, or a block of another target or cell, or one twice.
    """

    title: str
    plan: Mapping[str, object]
    host: Mapping[str, object]
    model: Mapping[str, object]
    targets: Mapping[str, Mapping[str, object]]
    blocks: Sequence[Block]
    ceiling: Mapping[str, float]
    ended: Mapping[str, str] | None = None
    measured_here: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not hold together."""
        places = Counter((block.cell, block.target, block.pair) for block in self.blocks)
        planned = self.planned
        for (cell, target, pair), count in places.items():
            place = f"{target}, {cell}, block {pair}"
            if cell not in planned or target not in self.targets:
                raise ConfigurationError("no such target or cell in the plan", id=_ID, got=place)
            if count > 1:
                raise ConfigurationError("the same block twice", id=_ID, got=place)
        if not self.targets:
            raise ConfigurationError("no target", id=_ID)

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
        said = [
            f"{name}: TEE on, by verified evidence ({self._parts(name)})"
            if self.measured_here
            else f"{name}: TEE on according to its file; not verified anew here"
            for name in proven
        ]
        if others:
            state = self.host.get("confidential_computing")
            if state is None or not (self.measured_here or state in _NVML_SAYS):
                state = "not known"
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
    blocks = [asdict(block) for block in result.blocks]
    _write({"schema": SCHEMA, **_describe(result), "blocks": blocks}, path)


def write_results(results: Sequence[Result], path: Path) -> None:
    """Write what a report says of results, in today's words, for machines; blocks stay behind."""
    _write({"schema": REPORT_SCHEMA, "results": [_describe(result) for result in results]}, path)


def _describe(result: Result) -> dict[str, object]:
    return {
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
    }


def _write(document: Mapping[str, object], path: Path) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_result(path: Path) -> Result:
    """Read a result; its intervals are computed anew.

    Raises:
        ConfigurationError: No result of ours.
    """
    try:
        value = json_value(path.read_bytes(), field="result", id=_ID, max_bytes=_LONGEST)
        return _read(JsonObject(value, path="result", id=_ID))
    except OSError as error:
        raise ConfigurationError(
            f"{path.name} cannot be read", id=_ID, got=error.strerror
        ) from None
    except (MalformedEvidence, ConfigurationError) as problem:
        got = f" ({problem.got})" if problem.got else ""
        raise ConfigurationError(
            f"{path.name} is no result of 'teeverify bench run'",
            id=_ID,
            got=printable(problem.message + problem.where + got),
            want=SCHEMA,
        ) from None


def _read(document: JsonObject) -> Result:
    """Every member that a report uses is of its type."""
    if document.text("schema") != SCHEMA:
        raise MalformedEvidence("another schema", id=_ID, field="result.schema")
    plan, host, targets = (document.object(name) for name in ("plan", "host", "targets"))
    document.object("model")
    for cell in plan.objects("cells"):
        cell.text("id")
        cell.text("headline")
    for record, name in ((host, "gpus"), (host, "tee_by_cpu_flags")):
        if name in record:
            record.texts(name)
    for name in targets.names():
        target = targets.object(name)
        if "attestation" in target:
            target.object("attestation")
    ceiling = document.object("ceiling")
    if "events_per_s" in ceiling:
        ceiling.number("batch")
    ended = document.object("ended") if "ended" in document else None
    blocks = [read_block(block) for block in document.objects("blocks")]
    if not blocks:
        raise MalformedEvidence("no block", id=_ID, field="result.blocks")
    return Result(
        title=document.text("title"),
        plan=document.raw("plan"),
        host=document.raw("host"),
        model=document.raw("model"),
        targets=document.raw("targets"),
        blocks=blocks,
        ceiling=read_numbers(ceiling),
        ended=None if ended is None else {cell: ended.text(cell) for cell in sorted(ended.names())},
    )


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
