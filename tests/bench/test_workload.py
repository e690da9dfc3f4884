"""What is asked: lengths, words, and the user's own requests."""

from __future__ import annotations

import itertools
import json
import statistics

import pytest

from teeverify.bench.workload import CLASSES, MIXTURES, parse_workload, words_of
from teeverify.errors import ConfigurationError


def asks(workload, seed, count=50):
    return list(itertools.islice(workload.asks(seed), count))


def words(ask):
    return len(ask.messages[0]["content"].split())


@pytest.mark.parametrize(("name", "total"), [("short", 100), ("medium", 500), ("long", 1000)])
def test_the_classes_are_within_the_papers(name, total):
    for ask in asks(CLASSES[name], "s/a", 3):
        assert words(ask) + ask.output_tokens == total


def test_two_targets_get_the_same_words_in_another_order():
    ours, theirs = (asks(MIXTURES["sharegpt"], f"seed/{name}") for name in ("a", "b"))
    bags = [[sorted(ask.messages[0]["content"].split()) for ask in each] for each in (ours, theirs)]
    assert bags[0] == bags[1]
    assert [ask.output_tokens for ask in ours] == [ask.output_tokens for ask in theirs]
    long = [(x, y) for x, y in zip(ours, theirs, strict=True) if words(x) > 16]
    assert long
    for x, y in long:  # an engine's prefix cache holds whole blocks of 16 tokens
        heads = [ask.messages[0]["content"].split()[:16] for ask in (x, y)]
        assert heads[0] != heads[1]
    assert ours == asks(MIXTURES["sharegpt"], "seed/a")
    assert ours != asks(MIXTURES["sharegpt"], "other/a")


def test_a_mixture_has_the_published_mean():
    drawn = [ask.output_tokens for ask in asks(MIXTURES["alpaca"], "s/a", 4000)]
    assert statistics.fmean(drawn) == pytest.approx(58.45, rel=0.08)


def test_prompts_are_made_as_long_as_the_vocabulary_wants():
    # Five tokens of template, two tokens a word.
    fitted = CLASSES["medium"].calibrated(words=(32, 256), tokens=(69, 517))
    assert words(asks(fitted, "s/a", 1)[0]) == pytest.approx((300 - 5) / 2, abs=1)


def test_an_endpoint_that_counts_nonsense_changes_nothing():
    assert CLASSES["short"].calibrated(words=(32, 256), tokens=(9, 9)) is CLASSES["short"]


def test_a_request_asks_for_a_stream_with_its_usage():
    body = json.loads(words_of(3, 1).body("m"))
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["model"] == "m"


def test_lengths_of_ones_own():
    assert words(asks(parse_workload("128+32"), "s/a", 1)[0]) == 128


def test_requests_of_ones_own(tmp_path):
    file = tmp_path / "mine.jsonl"
    own = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    file.write_text(f'{json.dumps(own)}\n\n{{"prompt": "ho", "max_tokens": 6}}\n')
    given = asks(parse_workload(str(file)), "s/a", 4)
    assert {ask.messages[0]["content"] for ask in given} == {"hi", "ho"}
    assert [ask.output_tokens for ask in given] in ([5, 6, 5, 6], [6, 5, 6, 5])


@pytest.mark.parametrize("text", ["tall", "0+5", "5+", "-1+3", "1e3+2", "/nowhere.jsonl"])
def test_no_workload(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_workload(text)
    assert caught.value.id == "usage.bench"


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b'{"prompt": "x"}', b'{"messages": [], "max_tokens": 1}', b'{"max_tokens": 1}',
     b'{"messages": [1], "max_tokens": 1}', b"\xff"],
)  # fmt: skip
def test_a_line_that_is_no_request_is_named(tmp_path, line):
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b'{"prompt": "x", "max_tokens": 1}\n' + line + b"\n")
    with pytest.raises(ConfigurationError, match="line 2 of mine"):
        parse_workload(str(file))


def test_a_file_without_requests(tmp_path):
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(ConfigurationError, match="holds no request"):
        parse_workload(str(tmp_path / "none.jsonl"))
