"""What reports say, and what they must not say."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from teeverify.bench.html import write_html
from teeverify.bench.journal import Block
from teeverify.bench.paper import LENGTHS, THROUGHPUT
from teeverify.bench.report import render_comparison, render_report
from teeverify.bench.results import load_result, write_result
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
        return result(blocks, targets=targets).tee

    return make


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


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "teeverify.bench/2"}'])
def test_what_is_no_result(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ConfigurationError, match="no result"):
        load_result(tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_result(tmp_path / "absent.json")


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


def test_the_page_stands_alone_and_escapes(result, tmp_path):
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    hostile = "<script>alert(1)</script>"
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
