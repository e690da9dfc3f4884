"""What a report says of one or more results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from teeverify.bench.conditions import conditions, gpu_of
from teeverify.bench.document import Figure, Section, Table
from teeverify.bench.journal import BUDGET, NARROW, TIME, Block
from teeverify.bench.metrics import METRICS
from teeverify.bench.overhead import (
    Comparison,
    compare_cell,
    say_comparison,
    summarize,
)
from teeverify.bench.paper import LENGTHS, THROUGHPUT, Published, comparable
from teeverify.bench.results import Result
from teeverify.bench.statistics import Interval
from teeverify.encoding.text import printable

__all__ = ["compose", "render_markdown", "render_report"]

_Bounds: TypeAlias = tuple[float, float, float] | None

_INTERVALS = (
    "Intervals are to hold the true value in at least 95 of 100 repetitions, each for itself: of "
    "many rows some miss it. They are computed at 99 %, because a run stops when its interval is "
    "narrow enough."
)
_OVERHEAD = (
    "Overhead is against the first target, in paired blocks. Of rates: how much less; of times: "
    "how much more. Beside it is the toll: of TPOT, TTFT and latency. “At most” is said "
    "where the interval holds 0: this is not a finding of 0, but of no more than so much."
)
_TURNS = (
    "At batch 1 the targets took turns, request by request: TTFT and latency are compared within "
    "each pair of requests, and the median of a block's pairs counts."
)
_ENDED = {NARROW: "narrow enough", BUDGET: "budget spent", TIME: "time was up"}
_PAPER = (
    "arXiv 2409.03992 v4, vLLM 0.5.4, Llama-3.1-70B in 4 bits, real weights, ShareGPT prompts, one "
    "run a cell and no intervals. Its column “ITL (s)” is the decode time of a whole answer (it "
    "times TPS gives 206 to 251 tokens), and is called so here."
)
_BESIDE = (
    "The paper's figures for the same GPU family, model shape, length class and load; TTFT in "
    "milliseconds. Engine, driver, weights and lengths within a class differ, so this places a "
    "baseline and is no overhead. The paper's overheads are of confidential computing: only "
    "“bench compare” of a run with it off and one with it on is to be set beside them, never the "
    "overhead of a server."
)
_HEADLINES = ("tps", "qps", "ttft", "e2e")
_NAMES = {metric.id: metric.name for metric in METRICS}


def render_report(results: Sequence[Result]) -> str:
    """The report in Markdown."""
    return render_markdown(compose(results))


def compose(results: Sequence[Result]) -> list[Section]:
    """The report's sections."""
    by_gpu: dict[str, list[Result]] = {}
    for result in results:
        by_gpu.setdefault(gpu_of(result), []).append(result)
    title = "What verification costs" if len(results) > 1 else results[0].title
    in_turns = any(block.turns for result in results for block in result.blocks)
    how = [_OVERHEAD, *([_TURNS] if in_turns else []), _INTERVALS]
    formulas = [f"**{m.name}** ({m.unit}): {m.formula}." for m in METRICS]
    return [
        Section(title=title, text=[*_opening(results), *how]),
        *(_overheads(alike, gpu if len(by_gpu) > 1 else "") for gpu, alike in by_gpu.items()),
        _figures(results),
        *_beside(results),
        conditions(results),
        _published(),
        Section(title="Formulas", text=formulas),
    ]


def render_markdown(sections: Sequence[Section]) -> str:
    """Sections as Markdown; figures are left to HTML."""
    lines: list[str] = []
    for level, section in enumerate(sections):
        lines += [f"{'#' if level == 0 else '##'} {_text(section.title)}", ""]
        for paragraph in section.text:
            lines += [_text(paragraph), ""]
        for table in section.tables:
            every = [table.header, *table.rows]
            lines += [f"### {_text(table.title)}", ""] * bool(table.title)
            header, *rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in every]
            lines += [header, "| --- " * len(table.header) + "|", *rows]
            lines.append("")
    return "\n".join(lines)


def _text(text: str) -> str:
    """One line, in which nothing is HTML."""
    return printable(text, limit=len(text)).replace("<", "&lt;")


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _opening(results: Sequence[Result]) -> list[str]:
    """What each run is, runs of which the same is to be said together."""
    said: dict[str, list[str]] = {}
    for result in results:
        base, *others = result.names
        about = f"{' and '.join(others)} against {base}" if others else base
        weights = result.model.get("weights", "unknown")
        said.setdefault(f"{about}; {result.tee}; weights: {weights}.", []).append(result.title)
    return [f"**{'; '.join(titles)}**: {about}" for about, titles in said.items()]


def _overheads(results: Sequence[Result], gpu: str) -> Section:
    rows, figures = [], []
    for metric in _HEADLINES:
        series: dict[str, dict[str, _Bounds]] = {}
        for result, cell, name, each in _headlines(results, metric):
            label = f"{result.title}, {cell}" if len(results) > 1 else cell
            column = series.setdefault(name, {})
            while label in column:  # of another run of the same title
                label += ", again"
            column[label] = _percent(each.overhead)
        title, unit = f"Overhead in {_NAMES[metric]}", "% (left of 0: none, it is better)"
        figures += _figure(title, unit, series)
    for result in results:
        rows += list(_overhead_rows(result, with_title=len(results) > 1))
    header = ["run"] * (len(results) > 1) + ["cell", "target", "metric", "overhead", "blocks"]
    header += ["a token (ms)", "first token (ms)", "a request (ms)"]
    return Section(
        title=f"Overhead, {gpu}" if gpu else "Overhead",
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
            blocks = f"{headline.blocks}"
            if result.ended is not None:
                blocks += f", {_ENDED.get(result.ended.get(cell, ''), 'not finished')}"
            said = say_comparison(headline)
            run = [result.title] if with_title else []
            yield [*run, cell, name, headline.metric.name, said, blocks, *tolls]


def _toll(each: Comparison | None) -> str:
    if each is None or each.unlike or each.toll is None or not math.isfinite(each.toll.half):
        return "-"
    if not each.toll.clear:
        return f"at most {_ms(each.toll.most)}"
    middle, *bounds = map(_ms, map(abs, (each.toll.middle, each.toll.low, each.toll.high)))
    if each.toll.high < 0:
        return f"none: {middle} [{bounds[1]} to {bounds[0]}] less"
    return f"{middle} [{bounds[0]} to {bounds[1]}]"


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004 -- 1e+03


def _figures(results: Sequence[Result]) -> Section:
    tables, figures = [], []
    header = ["cell", "target", *(f"{metric.name} ({metric.unit})" for metric in METRICS)]
    for result in results:
        rows = []
        for cell in result.cells:
            for name in result.names:
                known = {row.metric.id: row.value for row in summarize(result.of(cell), name)}
                rows.append([cell, name, *(_plain(known.get(metric.id)) for metric in METRICS)])
        of = result.title if len(results) > 1 else ""
        tables.append(Table(header=header, rows=rows, title=of))
        title = f"Time to first token{', ' * bool(of)}{of}"
        series = {
            name: {cell: _value(result.of(cell), name, "ttft") for cell in result.cells}
            for name in result.names
        }
        figures += _figure(title, "ms", series)
    return Section(title="Figures", tables=tables, figures=figures)


def _figure(title: str, unit: str, series: Mapping[str, Mapping[str, _Bounds]]) -> list[Figure]:
    """A plot of the groups that have an interval; none where no group has."""
    every = [each for values in series.values() for each in values.items()]
    groups = list(dict.fromkeys(group for group, value in every if value is not None))
    shown = {name: [values.get(group) for group in groups] for name, values in series.items()}
    return [Figure(title=title, unit=unit, groups=groups, series=shown)] if groups else []


def _value(blocks: Sequence[Block], name: str, metric: str) -> _Bounds:
    for row in summarize(blocks, name):
        if row.metric.id == metric and math.isfinite(row.value.half):
            return row.value.middle, max(0.0, row.value.low), row.value.high  # no time is less
    return None


def _plain(value: Interval | None) -> str:
    if value is None:
        return "-"
    if not math.isfinite(value.half):
        return f"{value.middle:.4g}"
    places = max(0, 1 - math.floor(math.log10(value.half))) if value.half else 3
    return f"{value.middle:,.{places}f} ± {value.half:,.{places}f}"


def _percent(interval: Interval) -> _Bounds:
    if not interval.half <= 1:  # a wider one says nothing, and nothing else could be seen beside it
        return None
    return 100 * interval.middle, 100 * interval.low, 100 * interval.high


def _beside(results: Sequence[Result]) -> list[Section]:
    """The paper's figures that a run's own can be compared with, in one table."""
    rows = []
    for result in results:
        base = result.names[0]
        for cell in result.cells:
            known = {row.metric.id: row.value for row in summarize(result.of(cell), base)}
            for metric, each in comparable(result, cell):
                if metric not in known:
                    continue
                scale = 1e3 if each.what.endswith("(s)") else 1.0
                paper = [f"{scale * figure:.4g}" for figure in (each.off, each.on)]
                rows.append(
                    [result.title, cell, base, _NAMES[metric], _plain(known[metric]), *paper]
                )
    if not rows:
        return []
    header = ["run", "cell", "target", "metric", "measured", "paper, TEE off", "paper, TEE on"]
    text = [_BESIDE]
    return [Section(title="Beside the paper", text=text, tables=[Table(header=header, rows=rows)])]


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
