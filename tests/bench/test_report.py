"""What reports say, and what they must not say."""

from __future__ import annotations

import json
import re

import pytest

from teeverify.bench.html import write_html
from teeverify.bench.paper import LENGTHS, THROUGHPUT
from teeverify.bench.report import render_comparison, render_report
from teeverify.bench.results import load_result, write_result
from teeverify.errors import ConfigurationError


def test_an_overhead_has_its_interval_and_its_toll(result):
    text = render_report([result()])
    row = next(line for line in text.splitlines() if line.startswith("| short, batch 1 | ours"))
    assert re.search(r"\| TPS \| 1\.00% \[\d", row)
    assert "0 ± 0 ms" in row  # both take 7 ms a token


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


@pytest.mark.parametrize(
    ("attestation", "said"),
    [
        (None, "TEE not verified"),
        ({"tier": "warning", "simulated": True}, "TEE not verified"),
        ({"tier": "warning", "simulated": False}, "TEE not verified; NVML"),
    ],
)
def test_only_evidence_of_every_target_says_tee_on(result, attestation, said):
    targets = {"raw": {}, "ours": {} if attestation is None else {"attestation": attestation}}
    assert said.split(";")[0] in result(targets=targets).tee
    assert "confidential computing off" in result(targets=targets).tee
    both = {name: {"attestation": {"tier": "warning", "simulated": False}} for name in targets}
    assert result(targets=both).tee.startswith("TEE on")


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
    assert "ours counts 200 tokens in prompts in which raw counts 100" in text
    assert "**only 3 of 4 answers verified" in text
    assert "**It may have limited the load.**" in text


def test_a_result_is_read_as_it_was_written(result, tmp_path):
    given = result()
    write_result(given, tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == given
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["cells"]["short, batch 1"]["overhead"]["ours"]["tps"]["pairs"] == 6


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
