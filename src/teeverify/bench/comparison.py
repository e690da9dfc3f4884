"""What is said of two runs that could not be interleaved."""

from __future__ import annotations

from teeverify.bench.conditions import differences
from teeverify.bench.document import Section, Table
from teeverify.bench.overhead import compare_runs, say_comparison, say_difference
from teeverify.bench.report import render_markdown
from teeverify.bench.results import Result
from teeverify.errors import ConfigurationError

__all__ = ["render_comparison"]

_METRICS = ("tps", "qps", "ttft", "e2e", "tpot")
_NOT_INTERLEAVED = (
    "The two were measured one after the other, not in turn: what differs between two starts of a "
    "machine (clocks, memory, temperature) is in the difference and not in the interval. The "
    "interval is of the blocks' spread within each run (Welch, 99 %), and promises nothing of "
    "another pair of runs. Repeat each side after a reboot to learn how much they differ."
)
_UNLIKE = (
    "**Two {what}.** The table says how much worse or better the second is than the first, all "
    "things together. What confidential computing or a server costs cannot be read from it."
)
_NO_SHAPE = ("weights", "engine")


def render_comparison(base: Result, other: Result, target: str | None) -> str:
    """Two runs that could not be interleaved, in Markdown; its title says so.

    Of two GPUs, or two models, it is a difference between them, and is called nothing else.

    Raises:
        ConfigurationError: Which target is not clear, or no cell is in both.
    """
    name = _common_target(base, other, target)
    cells = [cell for cell in base.cells if cell in other.cells]
    if not cells:
        raise ConfigurationError("the two runs have no cell in common", id="usage.bench")
    what = _unlike(base, other, name)
    rows = []
    for cell in cells:
        ours = [block for block in base.of(cell) if block.target == name]
        theirs = [block for block in other.of(cell) if block.target == name]
        rows += [
            [cell, each.metric.name, say_difference(each) if what else say_comparison(each)]
            for each in compare_runs(ours, theirs)
            if each.metric.id in _METRICS
        ]
    text = [f"Baseline: {base.title} ({base.tee}). Against it: {other.title} ({other.tee})."]
    text += [_UNLIKE.format(what=what)] if what else []
    tables = [Table(header=["cell", "metric", "difference" if what else "overhead"], rows=rows)]
    if (differ := differences(base, other)) is not None:
        tables.append(differ)
    title = f"the difference between two {what}, {name}" if what else f"{name} of two runs"
    section = Section(
        title=f"Not interleaved: {title}", text=[*text, _NOT_INTERLEAVED], tables=tables
    )
    return render_markdown([section])


def _unlike(base: Result, other: Result, target: str) -> str:
    """What is another in the second run, and makes a difference of its own."""
    (kind, ours), (_, theirs) = _machine(base), _machine(other)
    machines = [] if ours == theirs else [kind]
    models = [] if _model(base, target) == _model(other, target) else ["models"]
    return " and ".join([*machines, *models])


def _machine(result: Result) -> tuple[str, object]:
    gpus = result.host.get("gpus")
    return ("GPUs", gpus) if gpus else ("CPUs", result.host.get("cpu"))


def _model(result: Result, target: str) -> object:
    """Its shape; where nobody said that, the name that it was asked for by."""
    shape = {key: value for key, value in result.model.items() if key not in _NO_SHAPE}
    return shape or result.targets[target].get("model")


def _common_target(base: Result, other: Result, target: str | None) -> str:
    names = [name for name in base.names if name in other.names]
    if target is not None and target in names:
        return target
    if target is not None or len(names) != 1:
        raise ConfigurationError(
            "say which target is compared",
            id="usage.bench",
            got=target,
            want=", ".join(names) or "a target that both runs have",
        )
    return names[0]
