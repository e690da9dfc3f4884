"""Blocks on disk: an interrupted run goes on, another plan's file is refused."""

from __future__ import annotations

import pytest

from teeverify.bench.journal import NARROW, TIME, Journal
from teeverify.errors import ConfigurationError


def test_what_was_measured_is_there_again(tmp_path, block):
    path = tmp_path / "deep" / "blocks.jsonl"
    blocks = [block(pair=0, figures={"tps": 1.5}), block(pair=1, failed={"HTTP 500": 2})]
    journal = Journal(path, "plan")
    for each in blocks:
        journal.add(each)
    assert Journal(path, "plan").blocks == blocks
    assert Journal(path, "plan").of("another cell") == []


def test_a_line_that_was_cut_is_dropped(tmp_path, block):
    path = tmp_path / "blocks.jsonl"
    Journal(path, "plan").add(block())
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"cell": "sho')
    journal = Journal(path, "plan")
    assert journal.blocks == [block()]
    assert path.read_bytes() == whole
    journal.add(block(pair=1))
    assert len(Journal(path, "plan").blocks) == 2


def test_why_a_cell_ended_is_there_again(tmp_path, block):
    path = tmp_path / "blocks.jsonl"
    journal = Journal(path, "plan")
    journal.end("short, batch 1", TIME)
    journal.add(block())
    journal.end("short, batch 1", NARROW)
    again = Journal(path, "plan")
    assert again.ended == journal.ended == {"short, batch 1": NARROW}
    assert again.blocks == [block()]


def test_each_run_has_a_seed_of_its_own_and_keeps_it(tmp_path):
    """Equal prompts in a second run would be found in the engine's prefix cache."""
    seeds = [Journal(tmp_path / f"{n}.jsonl", "plan").seed for n in range(2)]
    assert seeds[0] != seeds[1]
    assert Journal(tmp_path / "0.jsonl", "plan").seed == seeds[0]


def test_another_plans_journal_is_refused(tmp_path, block):
    Journal(tmp_path / "blocks.jsonl", "plan").add(block())
    with pytest.raises(ConfigurationError, match="another plan"):
        Journal(tmp_path / "blocks.jsonl", "other")


def test_a_journal_without_blocks_binds_nobody(tmp_path, block):
    """Left by a run whose endpoint was mistyped."""
    path = tmp_path / "blocks.jsonl"
    Journal(path, "mistyped").end("short, batch 1", TIME)
    journal = Journal(path, "plan")
    assert (journal.blocks, journal.ended) == ([], {})
    journal.add(block())
    assert Journal(path, "plan").blocks == [block()]
    with pytest.raises(ConfigurationError, match="another plan"):
        Journal(path, "mistyped")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"{}\n",
        b"[]\n",
        b"\xff\n",
        b'{"plan": 1}\n',
        b'{"plan": "plan", "seed": 1}\n',
        b'{"plan": "plan"}\n{"x": 1}\n',
        b'{"plan": "plan"}\n{"cell": null, "ended": "time"}\n',
        b'{"plan": "plan"}\n[]\n',
    ],
)
def test_a_file_that_is_no_journal(tmp_path, content):
    path = tmp_path / "blocks.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no journal"):
        Journal(path, "plan")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "blocks.jsonl").mkdir()
    for place in (tmp_path / "file" / "blocks.jsonl", tmp_path / "blocks.jsonl"):
        with pytest.raises(ConfigurationError, match="cannot be kept"):
            Journal(place, "plan")
