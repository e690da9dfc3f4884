"""The end of a stream is found wherever the bytes are cut, and only where a line begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.enclave.framing import ANSWERS, StreamEnd

OPENAI = ANSWERS["/v1/chat/completions"]
PIECES = [
    b"data: ",
    b"[DONE]",
    b"\n",
    b"\r\n",
    b"x",
    b"data: [DONE]",
    b'data: {"error"',
    b"event: e",
]


def feed(framing, parts):
    end = StreamEnd(framing)
    return end, b"".join(end.pass_on(part) for part in parts)


def place_of_the_end(data, framing):
    """Where the end must be found: the first line that begins as one, looked for line by line."""
    place = 0
    for line in data.split(b"\n"):
        if line.startswith(framing.marks):
            return place
        place += len(line) + 1
    return None


@given(st.lists(st.sampled_from(PIECES), max_size=20), st.data())
def test_it_is_found_however_the_bytes_are_cut(pieces, data):
    whole = b"".join(pieces)
    parts, rest = [], whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        parts.append(rest[:size])
        rest = rest[size:]
    end, passed = feed(OPENAI, parts)
    place = place_of_the_end(whole, OPENAI)
    assert passed + end.held == whole, "nothing is lost"
    assert end.reached is (place is not None)
    if place is not None:
        assert len(passed) == place
        assert end.failed is end.held.startswith((b'data: {"error"', b"event: error"))


@pytest.mark.parametrize(
    ("parts", "held"),
    [
        ([b"data: x\n\n"], b""),
        ([b"data: x\n\nda"], b"da"),
        ([b"data: x\n\nda", b"ta: y\n\n"], b""),
        ([b"xdata: [DONE]\n\n"], b""),
        ([b"x", b"data: [DONE]\n\n"], b""),
        ([b"data: [DONE]"], b"data: [DONE]"),
        ([b"data:[DONE]\n\n"], b"data:[DONE]\n\n"),
        ([b"a\n", b"data: [DONE]\n", b"\nz"], b"data: [DONE]\n\nz"),
    ],
)
def test_only_what_may_be_the_end_waits(parts, held):
    assert feed(OPENAI, parts)[0].held == held


@pytest.mark.parametrize("path", [path for path in ANSWERS if ANSWERS[path].streams])
def test_other_routes_ends_are_none(path):
    own = set(ANSWERS[path].marks)
    for other in ANSWERS.values():
        for mark in set(other.marks) - own:
            assert not feed(ANSWERS[path], [mark + b"\n\n"])[0].reached
