"""What a report says of one or more results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from teeverify.bench.document import Figure, Section, Table
from teeverify.bench.journal import BUDGET, NARROW, TIME, Block
from teeverify.bench.metrics import METRICS
from teeverify.bench.notes import notes_on
from teeverify.bench.overhead import (
    Comparison,
    compare_cell,
    compare_runs,
    say_comparison,
    summarize,
)
from teeverify.bench.paper import LENGTHS, THROUGHPUT, Published
from teeverify.bench.results import Result
from teeverify.bench.statistics import Interval
from teeverify.errors import ConfigurationError

__all__ = ["compose", "render_comparison", "render_markdown", "render_report"]

_INTERVALS = (
    "Intervals hold the true value in at least 95 of 100 repetitions; they are computed at 99 %, "
    "because a run stops when its interval is narrow enough."
)
_OVERHEAD = (
    "Against the first target, in paired blocks. Of rates: how much less; of times: how much more. "
    "The last three columns are the toll in milliseconds: TPOT, TTFT, latency."
)
_TURNS = (
    "At batch 1 the targets took turns, request by request: TTFT and latency are compared within "
    "each pair of requests, and the median of a block's pairs counts."
)
_ENDED = {NARROW: "narrow enough", BUDGET: "budget spent", TIME: "time was up"}
_NOT_INTERLEAVED = (
    "The two were measured one after the other, not in turn: what differs between two starts of a "
    "machine (clocks, memory, temperature) is in the difference and not in the interval. Repeat "
    "each side after a reboot to learn how much that is."
)
_PAPER = (
    "arXiv 2409.03992 v4, vLLM 0.5.4, Llama-3.1-70B in 4 bits, real weights, ShareGPT prompts, one "
    "run a cell and no intervals. Its column “ITL (s)” is the decode time of a whole answer (it "
    "times TPS gives 206 to 251 tokens), and is called so here."
)
_HEADLINES = ("tps", "qps", "ttft", "e2e")
_NAMES = {metric.id: metric.name for metric in METRICS}


def render_report(results: Sequence[Result]) -> str:
    """The report in Markdown."""
    return render_markdown(compose(results))


def compose(results: Sequence[Result]) -> list[Section]:
    """The report's sections."""
    many = len(results) > 1
    title = "What verification costs" if many else results[0].title
    sections = [Section(title=title, text=[_opening(result) for result in results])]
    sections.append(_overheads(results))
    for result in results:
        of = f", {result.title}" if many else ""
        sections.append(_figures(result, f"Figures{of}"))
        sections.append(_conditions(result, f"What it ran on{of}"))
    sections.append(_published())
    sections.append(
        Section(
            title="Formulas",
            text=[f"**{m.name}** ({m.unit}): {m.formula}." for m in METRICS] + [_INTERVALS],
        )
    )
    return sections


def render_comparison(base: Result, other: Result, target: str | None) -> str:
    """Two runs that could not be interleaved, in Markdown; its title says so.

    Raises:
        ConfigurationError: Which target is not clear, or no cell is in both.
    """
    name = _common_target(base, other, target)
    cells = [cell for cell in base.cells if cell in other.cells]
    if not cells:
        raise ConfigurationError("the two runs have no cell in common", id="usage.bench")
    rows = []
    for cell in cells:
        ours = [block for block in base.of(cell) if block.target == name]
        theirs = [block for block in other.of(cell) if block.target == name]
        rows += [
            [cell, each.metric.name, say_comparison(each)]
            for each in compare_runs(ours, theirs)
            if each.metric.id in (*_HEADLINES, "tpot")
        ]
    text = [
        f"Baseline: {base.title} ({base.tee}). Against it: {other.title} ({other.tee}).",
        _NOT_INTERLEAVED,
        _INTERVALS,
    ]
    tables = [Table(header=["cell", "metric", "overhead"], rows=rows)]
    title = f"Not interleaved: {name} of two runs"
    return render_markdown([Section(title=title, text=text, tables=tables)])


def render_markdown(sections: Sequence[Section]) -> str:
    """Sections as Markdown; figures are left to HTML."""
    lines: list[str] = []
    for level, section in enumerate(sections):
        lines += [f"{'#' if level == 0 else '##'} {section.title}", ""]
        for paragraph in section.text:
            lines += [paragraph, ""]
        for table in section.tables:
            lines += ["| " + " | ".join(table.header) + " |", "| --- " * len(table.header) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in table.rows]
            lines.append("")
    return "\n".join(lines)


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


def _opening(result: Result) -> str:
    base, *others = result.names
    about = f"{' and '.join(others)} against {base}" if others else base
    weights = result.model.get("weights", "unknown")
    return f"**{result.title}**: {about}; {result.tee}; weights: {weights}."


def _overheads(results: Sequence[Result]) -> Section:
    rows, figures = [], []
    for metric in _HEADLINES:
        groups: list[str] = []
        series: dict[str, list[tuple[float, float, float] | None]] = {}
        for result, cell, name, each in _headlines(results, metric):
            label = f"{result.title}, {cell}" if len(results) > 1 else cell
            if label not in groups:
                groups.append(label)
            column = series.setdefault(name, [])
            column += [None] * (len(groups) - 1 - len(column))
            column.append(_percent(each.overhead))
        if groups:
            title = f"Overhead in {_NAMES[metric]}"
            unit = "% (left of 0: none, it is better)"
            figures.append(Figure(title=title, unit=unit, groups=groups, series=dict(series)))
    for result in results:
        rows += list(_overhead_rows(result, with_title=len(results) > 1))
    in_turns = any(block.turns for result in results for block in result.blocks)
    header = ["cell", "target", "metric", "overhead", "blocks"]
    header += ["a token", "first token", "a request"]
    return Section(
        title="Overhead",
        text=[_OVERHEAD, *([_TURNS] if in_turns else []), _INTERVALS],
        tables=[Table(header=header, rows=rows)] if rows else [],
        figures=figures,
    )


def _headlines(
    results: Sequence[Result], metric: str
) -> Iterator[tuple[Result, str, str, Comparison]]:
    for result in results:
        base, *others = result.names
        for cell in result.cells:
            if result.headline(cell) != metric:
                continue
            for name in others:
                for each in compare_cell(result.of(cell), base, name):
                    if each.metric.id == metric and not each.unlike:
                        yield result, cell, name, each


def _overhead_rows(result: Result, *, with_title: bool) -> Iterator[list[str]]:
    base, *others = result.names
    for cell in result.cells:
        for name in others:
            found = {each.metric.id: each for each in compare_cell(result.of(cell), base, name)}
            headline = found.get(result.headline(cell))
            if headline is None:
                continue
            tolls = [_toll(found.get(metric)) for metric in ("tpot", "ttft", "e2e")]
            label = f"{result.title}, {cell}" if with_title else cell
            blocks = f"{headline.blocks}"
            if result.ended is not None:
                blocks += f", {_ENDED.get(result.ended.get(cell, ''), 'not finished')}"
            said = say_comparison(headline)
            yield [label, name, headline.metric.name, said, blocks, *tolls]


def _toll(each: Comparison | None) -> str:
    if each is None or each.unlike or each.toll is None or not math.isfinite(each.toll.half):
        return "-"
    if not each.toll.clear:
        return f"0 ± {max(abs(each.toll.low), abs(each.toll.high)):.3g} ms"
    if each.toll.high < 0:
        low, middle, high = -each.toll.high, -each.toll.middle, -each.toll.low
        return f"none: {middle:.3g} [{low:.3g} to {high:.3g}] ms less"
    return f"{each.toll.middle:.3g} [{each.toll.low:.3g} to {each.toll.high:.3g}] ms"


def _figures(result: Result, title: str) -> Section:
    rows, series = [], {}
    for name in result.names:
        series[name] = [_value(result.of(cell), name, "ttft") for cell in result.cells]
    for cell in result.cells:
        for name in result.names:
            known = {row.metric.id: row.value for row in summarize(result.of(cell), name)}
            rows.append([cell, name, *(_plain(known.get(metric.id)) for metric in METRICS)])
    names = [f"{metric.name} ({metric.unit})" for metric in METRICS]
    figure = Figure(title="Time to first token", unit="ms", groups=result.cells, series=series)
    return Section(
        title=title,
        tables=[Table(header=["cell", "target", *names], rows=rows)],
        figures=[figure],
    )


def _value(blocks: Sequence[Block], name: str, metric: str) -> tuple[float, float, float] | None:
    for row in summarize(blocks, name):
        if row.metric.id == metric:
            return row.value.middle, max(0.0, row.value.low), row.value.high  # no time is less
    return None


def _plain(value: Interval | None) -> str:
    if value is None:
        return "-"
    if not math.isfinite(value.half):
        return f"{value.middle:.4g}"
    places = max(0, 1 - math.floor(math.log10(value.half))) if value.half else 3
    return f"{value.middle:,.{places}f} ± {value.half:,.{places}f}"


def _percent(interval: Interval) -> tuple[float, float, float] | None:
    if not interval.half <= 1:  # a wider one says nothing, and nothing else could be seen beside it
        return None
    return 100 * interval.middle, 100 * interval.low, 100 * interval.high


def _conditions(result: Result, title: str) -> Section:
    host = [[key, _show(value)] for key, value in result.host.items()]
    model = [[key, _show(value)] for key, value in result.model.items()]
    targets = [
        [name, key, _show(value)]
        for name, about in result.targets.items()
        for key, value in about.items()
        if key != "attestation"  # is in the text
    ]
    return Section(
        title=title,
        text=[*notes_on(result)],
        tables=[
            Table(header=["host", ""], rows=host),
            Table(header=["model", ""], rows=model),
            Table(header=["target", "", ""], rows=targets),
        ],
    )


def _show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_show(each) for each in value) or "none"
    if value is None:
        return "not said"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _published() -> Section:
    header = ["GPU", "model", "", "TEE on", "TEE off", "overhead"]
    rows = [_published_row(each) for each in (*THROUGHPUT, *LENGTHS)]
    return Section(
        title="Published: the same models with confidential computing on and off",
        text=[_PAPER],
        tables=[Table(header=header, rows=rows)],
    )


def _published_row(each: Published) -> list[str]:
    shown = f"{each.overhead:.2%}" if each.overhead > 0 else "none measured"
    return [each.gpu, each.model, each.what, f"{each.on:.4g}", f"{each.off:.4g}", shown]
