"""What a stream says, however it is cut, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from teeverify.bench.sample import read_stream

DONE = b"data: [DONE]\n\n"


def event(**members):
    return b"data: " + json.dumps({"id": "a", **members}).encode() + b"\n\n"


def token(text=" word", **delta):
    return event(choices=[{"index": 0, "delta": {"content": text, **delta}}])


def usage(prompt=3, output=2):
    return event(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": output})


def read(*pieces):
    timed = [(float(at), piece) for at, piece in enumerate(pieces, start=1)]
    return read_stream(timed, sent=0.0, ended=float(len(pieces)), wanted=2)


def test_tokens_have_the_time_of_their_last_byte():
    first, second = token(), token()
    sample = read(first[:10], first[10:] + second[:5], second[5:], usage() + DONE)
    assert sample.tokens == (2.0, 3.0)
    assert (sample.prompt_tokens, sample.output_tokens, sample.count) == (3, 2, 2)
    assert sample.error is None
    assert sample.id == "a"


def test_the_role_alone_is_no_token():
    assert read(token("", role="assistant"), token(), DONE).tokens == (2.0,)


def test_a_token_may_decode_to_nothing():
    assert read(token(""), token(""), DONE).tokens == (1.0, 2.0)


def test_the_end_without_text_is_no_token():
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
    sample = read(token(), end, DONE)
    assert sample.tokens == (1.0,)
    assert sample.finish == "length"


def test_without_usage_events_are_counted():
    sample = read(token(), token(), DONE)
    assert sample.output_tokens is None
    assert sample.count == 2


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([token()], "the stream broke off"),
        ([DONE], "the answer is empty"),
        ([b"data: {\n\n", DONE], "an event is no JSON object"),
        ([b"data: []\n\n", DONE], "an event is no JSON object"),
        ([token(), event(error={"message": "no"}), DONE], "an error in mid-stream"),
    ],
)
def test_what_is_no_whole_answer_says_why(pieces, why):
    assert read(*pieces).error == why


@pytest.mark.parametrize("count", [True, -1, "2", None, 1.5])
def test_a_count_is_a_whole_number(count):
    odd = event(choices=[], usage={"prompt_tokens": count, "completion_tokens": count})
    sample = read(token(), token(), odd, DONE)
    assert sample.prompt_tokens is None
    assert sample.output_tokens is None
