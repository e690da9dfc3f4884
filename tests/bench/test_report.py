"""What reports say, and what they must not say."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import pytest

from teeverify.bench.comparison import render_comparison
from teeverify.bench.html import write_html
from teeverify.bench.journal import Block
from teeverify.bench.paper import LENGTHS, THROUGHPUT
from teeverify.bench.report import compose, render_report
from teeverify.bench.results import load_result, write_result, write_results
from teeverify.errors import ConfigurationError


def test_an_overhead_has_its_interval_and_its_toll(result):
    text = render_report([result()])
    row = next(line for line in text.splitlines() if line.startswith("| short, batch 1 | ours"))
    assert re.search(r"\| TPS \| 1\.00% \[\d", row)
    assert "| at most 0 |" in row  # both take 7 ms a token


def test_no_overhead_is_negative(result, block):
    faster = [
        block(target=name, pair=pair, figures={"tps": tps + pair / 10})
        for pair in range(6)
        for name, tps in (("raw", 100.0), ("ours", 110.0))
    ]
    text = render_report([result(faster)])
    assert "none: 9." in text
    assert not re.search(r"-\d+(\.\d+)?%", text)


def test_the_paper_has_no_negative_overhead_either():
    assert any(each.overhead < 0 for each in THROUGHPUT)
    assert len(THROUGHPUT) == 24
    assert len(LENGTHS) == 18
    assert THROUGHPUT[0].overhead == pytest.approx(0.0685, abs=1e-4)


PROVEN = {
    "tier": "warning",
    "roots": "embedded",
    "simulated": False,
    "cpu": "Intel TDX",
    "gpu": None,
}


@pytest.fixture
def attested(result, block):
    """A result whose target "ours" showed this evidence, and of whose answers so many failed."""

    def make(attestation, *, refused=0.0, names=("ours",), parts=({"cpu": 1.0, "gpu": 1.0},)):
        blocks = [
            block(target=name, pair=pair, verified=verified)
            if name in names
            else block(target=name, pair=pair)
            for pair, proven in enumerate(parts)
            for verified in [{"verified": 4.0 - refused, "refused": refused, **proven}]
            for name in ("raw", "ours")
        ]
        targets = {n: {"attestation": attestation} if n in names else {} for n in ("raw", "ours")}
        return result(blocks, targets=targets, measured_here=True).tee

    return make


def test_a_file_that_says_tee_on_is_not_believed(result, tmp_path, block):
    """Whoever can write a file can write that into it: only the run that verified may say so."""
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    proven = {"verified": 4.0, "refused": 0.0, "cpu": 1.0, "gpu": 1.0}
    blocks = [
        block(target=name, pair=pair, figures={"tps": 100.0 + pair}, verified=proven)
        for pair in range(6)
        for name in ("raw", "ours")
    ]
    said = {**PROVEN, "gpu": "8 GPUs", "summary": "Genuine."}
    targets = {name: {"attestation": said} for name in ("raw", "ours")}
    host = {"confidential_computing": "on); raw: TEE on, by verified evidence ("}
    write_result(
        result(blocks, targets=targets, host=host, measured_here=True), tmp_path / "forged.json"
    )
    forged = load_result(tmp_path / "forged.json")
    phrase = "TEE on according to its file; not verified anew here"
    assert forged.tee == f"raw: {phrase}; ours: {phrase}"
    raw = replace(forged, targets={"raw": {}, "ours": {}})
    assert raw.tee.endswith("confidential computing not known)")
    write_html([forged], tmp_path / "report.html")
    write_results([forged], tmp_path / "report.json")
    shown = [
        render_report([forged]),
        render_comparison(forged, forged, "raw"),
        (tmp_path / "report.html").read_text(),
        (tmp_path / "report.json").read_text(),
    ]
    for text in shown:
        assert phrase in text
        assert "TEE on, by verified evidence" not in text.replace(
            host["confidential_computing"], ""
        )
    assert "ours was attested, according to its file. Genuine." in shown[0]
    assert "ours, according to its file: 24 of 24 answers verified" in shown[0]


@pytest.mark.parametrize(
    "changed",
    [{"roots": "simulated"}, {"roots": "custom"}, {"cpu": None}, {"roots": None}],
)
def test_evidence_that_proves_nothing_says_nothing(attested, changed):
    assert "TEE on" not in attested({**PROVEN, **changed})
    assert "TEE on" not in attested(None)
    assert "TEE on" not in attested({})


def test_an_answer_that_was_refused_takes_the_word_back(attested):
    assert "TEE on" in attested(PROVEN)
    assert "TEE on" not in attested(PROVEN, refused=1.0)


def test_a_run_that_went_on_on_a_real_tee_says_nothing_for_its_simulated_part(attested):
    """The evidence is the last part's; each block says under which it was verified."""
    both = {"cpu": 1.0, "gpu": 1.0}
    assert "TEE on" not in attested(PROVEN, parts=({"cpu": 0.0, "gpu": 0.0}, both))
    assert "TEE on" not in attested(PROVEN, parts=({}, both))  # of a release that did not say
    later = attested({**PROVEN, "gpu": "8 GPUs"}, parts=({"cpu": 1.0, "gpu": 0.0}, both))
    assert "TEE on, by verified evidence (Intel TDX; no GPU is proven)" in later


def test_only_the_target_whose_evidence_was_verified_is_said_to_be_a_tee(attested):
    assert attested(PROVEN) == (
        "ours: TEE on, by verified evidence (Intel TDX; no GPU is proven); raw: TEE not verified "
        "(NVML on the host of the benchmark: confidential computing off)"
    )
    both = attested({**PROVEN, "gpu": "8 GPUs"}, names=("raw", "ours"))
    assert both.count("TEE on, by verified evidence (Intel TDX; 8 GPUs)") == 2
    assert "NVML" not in both


def test_a_report_says_how_each_cell_ended_and_what_is_missing(result, block):
    cells = ["short, batch 1", "long, batch 1", "long, batch 16"]
    blocks = [
        block(cell=cell, target=name, pair=pair, figures={"tps": 100.0 + pair})
        for cell in cells[:2]
        for pair in range(3)
        for name in ("raw", "ours")
    ]
    plan = {"cells": [{"id": cell, "headline": "tps"} for cell in cells]}
    text = render_report([result(blocks, plan=plan, ended={cells[0]: "time"})])
    assert "| 3, time was up |" in text
    assert "| 3, not finished |" in text
    assert re.search(r"\*\*Not measured\*\*, .*: long, batch 16\.", text)
    assert re.search(r"\*\*Not finished\*\*, .*: long, batch 1\.", text)
    assert "Not measured" not in render_report([result(blocks, plan=plan)])  # an old result


def test_a_toll_is_never_negative_either(result, block):
    blocks = [
        block(target=name, pair=pair, figures={"tps": 100.0 + pair, "ttft": ttft + pair / 10})
        for pair in range(6)
        for name, ttft in (("raw", 30.0), ("ours", 20.0))
    ]
    assert "| none: 10 [10 to 10] less |" in render_report([result(blocks)])


@pytest.mark.parametrize("figure", [0.0, -1.0])
def test_a_figure_that_has_no_ratio_is_left_out(result, block, figure):
    blocks = [
        block(target=name, pair=pair, figures={"tps": 100.0, "ttft": figure if pair else 9.0})
        for pair in range(6)
        for name in ("raw", "ours")
    ]
    assert "| ours | TPS | not distinguishable from 0" in render_report([result(blocks)])
    assert "TTFT" in render_comparison(result(blocks), result(blocks), "raw")


def test_turns_are_compared_by_what_their_pairs_say(result, block):
    blocks = [
        block(
            target=name, pair=pair, figures={"tps": 100.0, "ttft": 10.0 + 20 * (pair % 2)}, **turns
        )
        for pair in range(6)
        for name, turns in (
            ("raw", {}),
            ("ours", {"turns": {"ttft": {"ms": 1.0 + pair / 100, "log": 0.1}}}),
        )
    ]
    assert "took turns" in render_report([result(blocks)])
    assert "took turns" not in render_report([result()])
    # 0.0 by the blocks' own figures; the pairs' mean is 1.025.
    assert re.search(r"\| 1\.0[23] \[\S+ to \S+\] \|", render_report([result(blocks)]))


def test_what_a_reader_must_know_first(result, block):
    blocks = [
        block(figures={"tps": 100.0, "throughput": 9e4}, prompt_tokens=400),
        block(
            target="ours",
            figures={"tps": 99.0},
            failed={"HTTP 500": 1},
            short=2,
            counted="events",
            prompt_tokens=800,
            verified={"verified": 3.0, "refused": 1.0, "p50_ms": 0.7},
        ),
    ]
    text = render_report([result(blocks)])
    assert "1 requests failed (HTTP 500)" in text
    assert "2 of 4 answers have fewer tokens" in text
    assert "does not count tokens" in text
    assert "**only 3 of 4 answers verified" in text
    assert "**It may have limited the load.**" in text


@pytest.mark.parametrize(
    ("lengths", "why"),
    [
        ({"tokens": 40}, "answers of 10 tokens against 20"),
        ({"prompt_tokens": 800}, "prompts of 200 tokens against 100"),
    ],
)
def test_what_is_not_alike_is_not_compared(result, block, lengths, why):
    """A model that stops early would answer faster; another vocabulary counts otherwise."""
    both = {"figures": {"tps": 100.0, "ttft": 9.0}, "tokens": 80, "prompt_tokens": 400}
    blocks = [
        block(target=name, pair=pair, **{**both, **(lengths if name == "ours" else {})})
        for pair in range(6)
        for name in ("raw", "ours")
    ]
    text = render_report([result(blocks)])
    assert f"| ours | TPS | not comparable: {why} | 6 | - | - | - |" in text
    alike = [replace(each, tokens=80, prompt_tokens=400) for each in blocks]
    assert "not comparable" not in render_report([result(alike)])
    names = [[replace(b, target="raw") for b in blocks if b.target == n] for n in ("raw", "ours")]
    two = render_comparison(*(result(each) for each in names), "raw")
    assert f"| TPS | not comparable: {why} |" in two


def test_a_result_is_read_as_it_was_written(result, tmp_path):
    given = result()
    write_result(given, tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == given
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["cells"]["short, batch 1"]["overhead"]["ours"]["tps"]["pairs"] == 6
    page = (Path(__file__).parents[2] / "docs/benchmark.md").read_text(encoding="utf-8")
    table = page.partition("## `result.json`")[2].partition("## Formulas")[0]
    rows = {line.split("|")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert re.findall(r"`(\w+)`", "".join(rows)) == list(document)
    assert all(f"`{field.name}`" in rows[" `blocks` "] for field in fields(Block))


def test_a_report_for_machines_has_todays_words(result, tmp_path):
    write_result(result(), tmp_path / "result.json")
    old = json.loads((tmp_path / "result.json").read_text())
    old["cells"]["short, batch 1"]["overhead"]["ours"]["tps"]["says"] = "±36 %"
    (tmp_path / "result.json").write_text(json.dumps(old))
    write_results([load_result(tmp_path / "result.json")] * 2, tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["schema"] == "teeverify.bench-report/1"
    assert len(report["results"]) == 2
    found = report["results"][0]["cells"]["short, batch 1"]["overhead"]["ours"]["tps"]
    assert re.fullmatch(r"1\.00% \[.*\]", found["says"])
    assert "blocks" not in report["results"][0]


def _places(value, path=()):
    """The path of every member of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in items if isinstance(value, dict | list) else ():
        yield (*path, name)
        if isinstance(each, dict | list):
            yield from _places(each, (*path, name))


_GONE = object()
_STRANGE = (
    _GONE, None, True, -5, 0, 5e-324, 1e300, 10**39, "x", "$\\frac$ | <b> \u202e\n# x", [], {},
    [1], [None], {"a": 1}, {"a": None}, [{"a": []}],
)  # fmt: skip


def _changed(document, path, value):
    document = deepcopy(document)
    *parents, name = path
    holder = document
    for parent in parents:
        holder = holder[parent]
    if value is _GONE:
        del holder[name]
    else:
        holder[name] = value
    return document


@pytest.fixture
def whole(block, result, tmp_path):
    """A result that has something in every member, as JSON."""
    turns = {"ttft": {"ms": 1.0, "log": 0.1}}
    blocks = [
        block(
            target=name, pair=pair, figures={"tps": 100.0 + pair, "ttft": 9.0, "throughput": 50.0},
            failed={"HTTP 500": 1}, turns=turns if name == "ours" else {}, prompt_tokens=400,
            tokens=80, verified={"verified": 4.0, "refused": 0.0, "cpu": 1.0, "p50_ms": 0.5},
        )
        for pair in range(3)
        for name in ("raw", "ours")
    ]  # fmt: skip
    host = {"cpu": "a CPU", "gpus": ["NVIDIA H100"], "load_average": [1.0], "packages": {"v": "1"}}
    about = {"url": "u", "model": "m", "attestation": {**PROVEN, "summary": "Genuine."}}
    whole = result(
        blocks,
        host=host,
        model={"weights": "real", "num_hidden_layers": 32, "hidden_size": 4096},
        targets={"raw": about, "ours": about},
        ended={"short, batch 1": "budget"},
    )
    write_result(whole, tmp_path / "whole.json")
    return json.loads((tmp_path / "whole.json").read_text())


def test_of_a_broken_result_only_our_errors_leave(whole, tmp_path):
    """Each member in turn is left out, or is something else."""
    path, refused = tmp_path / "broken.json", set()
    # What is computed anew is not read; of the blocks one is changed.
    kept = {**whole, "cells": {}, "metrics": []}
    for place in _places(kept):
        if place[0] == "blocks" and place[1:2] not in {(), (5,)}:
            continue
        for number, value in enumerate(_STRANGE):
            path.write_text(json.dumps(_changed(kept, place, value)))
            try:
                loaded = load_result(path)
                render_report([loaded])
                render_comparison(loaded, loaded, "raw")
                write_results([loaded], tmp_path / "report.json")
            except ConfigurationError:
                refused.add((place, number))
    needed = ("schema", "title", "plan", "host", "model", "targets", "ceiling", "blocks")
    assert all(((name,), number) in refused for name in needed for number in (0, 1, 2))
    members = [(("blocks", 5, each.name), 0) for each in fields(Block) if each.name not in _NULL]
    assert refused.issuperset(members)
    assert all((("blocks", 5, "figures", "ttft"), number) in refused for number in range(1, 4))


_NULL = ("order", "prompt_tokens", "verified")


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("blocks", 5, "figures"), None, r"blocks\[5\].figures: missing"),
        (("blocks", 5, "figures", "ttft"), None, r"blocks\[5\].figures.ttft: missing"),
        (("blocks", 5, "figures", "ttft"), "x", "not a number"),
        (("blocks", 5, "cell"), "nope", "no such target or cell"),
        (("blocks", 5, "target"), "ghost", "no such target or cell"),
        (("blocks", 5, "pair"), 1, "the same block twice"),
        (("blocks", 5, "answers"), -5, "answers is out of range"),
        (("blocks", 5, "tokens"), 10**39, "tokens is out of range"),
        (("blocks", 5, "figures", "ttft"), 1e300, "ttft is out of range"),
        (("blocks", 5, "figures", "ttft"), 5e-324, "ttft is out of range"),
        (("blocks", 5, "turns", "ttft", "log"), 1e4, "log is out of range"),
        (("blocks", 5, "counted"), "guessed", "neither usage nor events"),
        (("blocks", 5, "more"), 1, "more is no member of a block"),
        (("blocks", 5, "verified"), {"verified": "x"}, "not a number"),
        (("blocks",), [], "no block"),
        (("targets",), {}, "no such target or cell"),
        (("targets", "raw"), None, "targets.raw: missing"),
        (("host",), None, "host: missing"),
        (("host", "gpus"), {"a": 1}, "gpus: not a list"),
        (("plan",), {}, "plan.cells: missing"),
        (("title",), None, "title: missing"),
        (("ended",), [], "ended: not an object"),
        (("ceiling",), {"events_per_s": 1.0}, "ceiling.batch: missing"),
    ],
)
def test_a_broken_result_is_refused_with_where_it_is_broken(whole, tmp_path, place, value, why):
    (tmp_path / "broken.json").write_text(json.dumps(_changed(whole, place, value)))
    with pytest.raises(ConfigurationError, match=why) as caught:
        load_result(tmp_path / "broken.json")
    assert "\n" not in str(caught.value)
    assert caught.value.message == "broken.json is no result of 'teeverify bench run'"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": "teeverify.bench/2"}', "[" * 9999, '{"a": NaN}']
)
def test_what_is_no_result(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ConfigurationError, match="no result"):
        load_result(tmp_path / "r.json")
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            load_result(path)


def test_the_title_of_a_comparison_says_that_it_was_not_interleaved(result):
    text = render_comparison(result(title="off"), result(title="on"), "raw")
    assert text.startswith("# Not interleaved")
    assert "not distinguishable from 0" in text


def test_a_comparison_needs_a_target_and_a_cell(result, block):
    with pytest.raises(ConfigurationError, match="which target"):
        render_comparison(result(), result(), None)
    other = result([block(cell="long, batch 1", figures={"tps": 1.0})])
    with pytest.raises(ConfigurationError, match="no cell in common"):
        render_comparison(result(), other, "raw")


def test_two_runs_of_one_title_are_two_rows_of_a_plot(result, block):
    cells = ("short, batch 1", "long, batch 1")

    def of(*given):
        blocks = [
            block(cell=cell, target=name, pair=pair, figures={"tps": tps + pair / 10})
            for cell in given
            for pair in range(6)
            for name, tps in (("raw", 100.0), ("ours", 99.0 if cell == cells[0] else 90.0))
        ]
        return result(blocks)

    ((figure,), *_) = (s.figures for s in compose([of(cells[0]), of(*cells)]) if s.figures)
    assert list(figure.groups) == [
        f"Tiny, {cells[0]}", f"Tiny, {cells[0]}, again", f"Tiny, {cells[1]}",
    ]  # fmt: skip
    assert [round(middle) for middle, _, _ in figure.series["ours"]] == [1, 1, 10]


def test_the_page_stands_alone_and_escapes(result, tmp_path):
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    hostile = "<script>alert(1)</script> $\\nothing$ \x07 | a |\n# x"
    text = render_report([result(title=hostile), result(title="Other")])
    assert not re.search(r"<script|\x07|^# x", text, re.MULTILINE)
    assert text.count(r"$ \u0007 \| a \|\u000a# x | short, batch 1 | ours | TPS |") == 1
    write_html([result(title=hostile), result(title="Other")], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert hostile not in page
    assert "<svg" in page
    assert not re.search(r"<(script|link|img|iframe)", page)
    assert not re.search(r"(src|href)=[\"']https?:", page)


@pytest.fixture
def measured(result, block):
    """A result with so many layers on such a GPU, of one cell."""

    def make(title, gpu, cell="short, batch 1", layers=(32, 4096)):
        blocks = [
            block(cell=cell, target=name, pair=pair, figures={"tps": 150.0 + pair, "ttft": 30.0})
            for pair in range(3)
            for name in ("raw", "ours")
        ]
        host = {"gpus": [gpu] if gpu else [], "driver": "580", "time": f"of {title}"}
        shape = {"num_hidden_layers": layers[0], "hidden_size": layers[1]}
        return result(blocks, title=title, host=host, model=shape)

    return make


def test_several_results_have_a_table_for_each_gpu_and_say_once_what_they_share(measured):
    titles = ("A", "B", "C")
    text = render_report([measured(title, "NVIDIA H100 80GB HBM3") for title in titles])
    assert text.count("## Overhead") == text.count("## What it ran on") == 1
    assert text.count("| driver |") == text.count("| hidden_size |") == 1
    assert [f"| {title} | short, batch 1 | ours | TPS |" in text for title in titles] == [True] * 3
    assert all(f"### {title}\n" in text and f"of {title}" in text for title in titles)
    two = render_report([measured("A", "NVIDIA H100"), measured("B", "NVIDIA H200")])
    assert "## Overhead, NVIDIA H100\n" in two
    assert "## Overhead, NVIDIA H200\n" in two
    assert "| gpus | NVIDIA H100 | NVIDIA H200 |" in two
    assert two.count("At most") == 1


@pytest.mark.parametrize(
    ("changed", "figures"),
    [
        ({}, ["| raw | TPS | 151.0 ± 5.7 | 136.8 | 127 |"]),
        ({"layers": (40, 5120)}, ["| raw | TPS | 151.0 ± 5.7 | 74.76 | 70.98 |"]),
        ({"cell": "sharegpt, batch 1"}, [" | 132.4 | 123.3 |", "TTFT | 30.000 ± 0.000 | 24.2 |"]),
        ({"cell": "short, batch 16"}, []),
        ({"cell": "128+32, batch 1"}, []),
        ({"gpu": "NVIDIA B200"}, []),
        ({"gpu": ""}, []),
        ({"layers": (2, 256)}, []),
    ],
)
def test_a_result_stands_beside_what_of_the_paper_is_like_it(measured, changed, figures):
    text = render_report([measured(**{"title": "A", "gpu": "NVIDIA H100 80GB HBM3", **changed})])
    own = text.partition("## Beside the paper")[2].partition("## What it ran on")[0]
    assert bool(own) == bool(figures)
    assert all(figure in own for figure in figures)


def test_a_comparison_names_in_what_the_machines_differ_and_promises_nothing(measured):
    text = render_comparison(measured("off", "H100"), measured("on", "H200"), "raw")
    assert "| host: gpus | H100 | H200 |" in text
    assert "host: time" not in text
    assert "promises nothing of another pair of runs" in text
    assert "95 of 100" not in text
    assert "in what they differ" not in render_comparison(*[measured("a", "H100")] * 2, "raw")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"gpu": "H200"}, "GPUs"),
        ({"gpu": ""}, "CPUs"),
        ({"layers": (40, 5120)}, "models"),
        ({"gpu": "H200", "layers": (40, 5120)}, "GPUs and models"),
    ],
)
def test_the_difference_between_two_machines_or_models_is_no_overhead(
    measured, block, changed, what
):
    base, other = measured("A", "H100"), measured(**{"title": "B", "gpu": "H100", **changed})
    slower = [replace(each, figures={"tps": 50.0 + each.pair}) for each in other.blocks]
    for slow, word in ((replace(other, blocks=slower), "worse"), (base, "better")):
        first = base if word == "worse" else replace(other, blocks=slower)
        text = render_comparison(first, slow, "raw")
        title = text.splitlines()[0].replace("CPUs", "GPUs") if "CPUs" in what else text
        assert f"the difference between two {what.replace('CPUs', 'GPUs')}, raw" in title
        assert re.search(rf"\| TPS \| [0-9.]+% {word} \[", text)
        assert "overhead" not in text.lower()
    assert "| cell | metric | overhead |" in render_comparison(base, base, "raw")


def test_a_model_whose_shape_nobody_said_goes_by_its_name(result):
    def named(name):
        return result(targets={each: {"model": name} for each in ("raw", "ours")})

    assert "two models" in render_comparison(named("a"), named("b"), "raw")
    assert "two models" not in render_comparison(named("a"), named("a"), "raw")


def test_two_pairs_of_blocks_say_nothing_anywhere(result, block, tmp_path):
    """Their interval, 64 times what lies between them, would flatten every other in a plot."""

    def of(cell, pairs):
        return [
            block(
                cell=cell, target=name, pair=pair, figures={"tps": tps + pair, "ttft": 9.0 + pair}
            )
            for pair in range(pairs)
            for name, tps in (("raw", 100.0), ("ours", 99.0))
        ]

    given = result([*of("short, batch 1", 2), *of("long, batch 1", 3)])
    text = render_report([given])
    assert "| short, batch 1 | ours | TPS | not enough blocks to say | 2 | - | - | - |" in text
    assert "| short, batch 1 | ours | 99.5 |" in text  # a mean without bounds
    assert "| long, batch 1 | ours | TPS | not enough" not in text
    write_result(given, tmp_path / "result.json")
    cell = json.loads((tmp_path / "result.json").read_text())["cells"]["short, batch 1"]
    found = cell["overhead"]["ours"]["tps"]
    assert found["says"] == "not enough blocks to say"
    assert found["low"] is found["high"] is None
    for section in compose([given]):
        for figure in section.figures:
            assert list(figure.groups) == ["long, batch 1"]
    assert not any(section.figures for section in compose([result(of("short, batch 1", 2))]))
