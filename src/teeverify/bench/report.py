"""What a report says of one or more results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from teeverify.bench.document import Figure, Section, Table
from teeverify.bench.journal import Block
from teeverify.bench.metrics import METRICS
from teeverify.bench.overhead import (
    Comparison,
    compare_cell,
    compare_runs,
    say_overhead,
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
_HEADLINES = ("tps", "qps", "e2e")
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
        prefix = f"{result.title}: " if many else ""
        sections.append(_figures(result, f"{prefix}figures"))
        sections.append(_conditions(result, f"{prefix}what it ran on"))
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
            [cell, each.metric.name, say_overhead(each.overhead)]
            for each in compare_runs(ours, theirs)
            if each.metric.id in (*_HEADLINES, "ttft", "tpot")
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
            title = f"Overhead in {_NAMES[metric]} (0 is no overhead)"
            figures.append(Figure(title=title, unit="%", groups=groups, series=dict(series)))
    for result in results:
        rows += list(_overhead_rows(result, with_title=len(results) > 1))
    header = ["cell", "target", "metric", "overhead", "a token", "first token", "a request"]
    return Section(
        title="Overhead",
        text=[
            _OVERHEAD,
            _INTERVALS,
        ],
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
                    if each.metric.id == metric:
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
            yield [label, name, headline.metric.name, say_overhead(headline.overhead), *tolls]


def _toll(each: Comparison | None) -> str:
    if each is None or each.toll is None or not math.isfinite(each.toll.half):
        return "-"
    if not each.toll.clear:
        return f"0 ± {max(abs(each.toll.low), abs(each.toll.high)):.3g} ms"
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
            return row.value.middle, row.value.low, row.value.high
    return None


def _plain(value: Interval | None) -> str:
    if value is None:
        return "-"
    if not math.isfinite(value.half):
        return f"{value.middle:.4g}"
    return f"{value.middle:.4g} ± {value.half:.2g}"


def _percent(interval: Interval) -> tuple[float, float, float] | None:
    if not math.isfinite(interval.half):
        return None
    return 100 * interval.middle, 100 * interval.low, 100 * interval.high


def _conditions(result: Result, title: str) -> Section:
    host = [[key, _show(value)] for key, value in result.host.items()]
    model = [[key, _show(value)] for key, value in result.model.items()]
    targets = [
        [name, key, _show(value)]
        for name, about in result.targets.items()
        for key, value in about.items()
    ]
    return Section(
        title=title,
        text=[*_notes(result)],
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
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _notes(result: Result) -> Iterator[str]:
    """What a reader must know before the figures are believed."""
    yield from _ceiling_notes(result)
    for name in result.names:
        blocks = [block for block in result.blocks if block.target == name]
        answers = sum(block.answers for block in blocks)
        if verified := [block.verified for block in blocks if block.verified]:
            yield f"{name}: {_verified(verified, answers)}"
        if failed := sum(sum(block.failed.values()) for block in blocks):
            why = sorted({reason for block in blocks for reason in block.failed})
            yield f"{name}: {failed} requests failed ({', '.join(why)}); they are in no figure."
        if short := sum(block.short for block in blocks):
            yield (
                f"{name}: {short} of {answers} answers have fewer tokens than were asked for; "
                "QPS and latency of such cells are not those of the named lengths."
            )
        if any(block.counted == "events" for block in blocks):
            yield f"{name} does not count tokens: an event is taken for one, which may be several."
    yield from _count_notes(result)


def _verified(costs: Sequence[Mapping[str, float]], answers: int) -> str:
    good = sum(each["verified"] for each in costs)
    said = f"{good:.0f} of {answers} answers verified"
    if good < answers:
        said = f"**only {said}: do not use these figures**"
    each = [cost["p50_ms"] for cost in costs if "p50_ms" in cost]
    if each:
        said += f", {statistics.median(each):.2f} ms each (median, with the signature's fetch)"
    return f"{said}."


def _ceiling_notes(result: Result) -> Iterator[str]:
    events = result.ceiling.get("events_per_s")
    most = max((b.figures.get("throughput", 0.0) for b in result.blocks), default=0.0)
    if events:
        used = most / events
        line = (
            f"The benchmark itself reads {events:,.0f} events/s at {result.ceiling['batch']:.0f} "
            f"streams from an endpoint without an engine; at most {used:.0%} of that was used."
        )
        yield line if used < 0.5 else f"{line} **It may have limited the load.**"  # noqa: PLR2004


def _count_notes(result: Result) -> Iterator[str]:
    """Two endpoints that count the same lengths differently are not compared by tokens."""
    base, *others = result.names
    for name in others:
        for cell in result.cells:
            means = [_mean_prompt(result.of(cell), each) for each in (base, name)]
            if None in means or not means[0] or not means[1]:
                continue
            if abs(means[1] / means[0] - 1) > 0.05:  # noqa: PLR2004 -- words vary by less
                yield (
                    f"{cell}: {name} counts {means[1]:.0f} tokens in prompts in which {base} "
                    f"counts {means[0]:.0f}: compare answers, not tokens."
                )


def _mean_prompt(blocks: Sequence[Block], name: str) -> float | None:
    known = [b for b in blocks if b.target == name and b.prompt_tokens is not None and b.answers]
    answers = sum(block.answers for block in known)
    return sum(block.prompt_tokens or 0 for block in known) / answers if answers else None


def _published() -> Section:
    header = ["GPU", "model", "", "TEE on", "TEE off", "overhead"]
    rows = [_published_row(each) for each in (*THROUGHPUT, *LENGTHS)]
    return Section(
        title="Published: the same models with confidential computing on and off",
        text=[
            _PAPER,
        ],
        tables=[Table(header=header, rows=rows)],
    )


def _published_row(each: Published) -> list[str]:
    shown = f"{each.overhead:.2%}" if each.overhead > 0 else "none measured"
    return [each.gpu, each.model, each.what, f"{each.on:.4g}", f"{each.off:.4g}", shown]
