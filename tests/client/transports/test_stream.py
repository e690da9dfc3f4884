"""The end of a stream: nobody who stops at it is left without a verdict."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.client.transports.stream import Capture
from teeverify.errors import ResponseNotVerified

END = b"data: [DONE]\n\n"
BODY = b'data: {"a":1}\n\ndata: {"b":"data: [DONE]"}\n\n' + END


def cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[start:end] for start, end in itertools.pairwise(ends)]


def handed_out(capture: Capture) -> list[bytes]:
    pieces = []
    while (piece := capture.take()) is not None:
        pieces.append(piece)
    return pieces


def read(chunks: list[bytes]) -> tuple[Capture, list[tuple[bytes, bool]]]:
    capture, seen = Capture(), []
    for chunk in chunks:
        capture.feed(chunk)
        while (piece := capture.take()) is not None:
            seen.append((piece, capture.end_was_read))
    return capture, seen


@given(st.lists(st.integers(0, 10_000), max_size=20), st.binary(max_size=80))
def test_bytes_come_out_as_they_went_in(places, more):
    body = BODY + more
    capture, seen = read(cut(body, places))
    assert b"".join(piece for piece, _ in seen) == capture.body == body


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_the_end_is_seen_however_the_bytes_are_cut(places):
    capture, seen = read(cut(BODY, places))
    assert capture.end_was_read
    before = b"".join(piece for piece, ended in seen if not ended)
    assert BODY.startswith(before)
    assert not before.endswith(END)


def test_cut_at_every_byte():
    for place in range(len(BODY) + 1):
        capture, _ = read([BODY[:place], BODY[place:]])
        assert capture.end_was_read
        begun, _ = read([BODY[:place]])
        assert begun.end_was_read == (place >= len(BODY) - 2)  # all but the line breaks


def test_the_end_is_handed_out_alone():
    """So whoever leaves a loop earlier has not been given it, even if all came at once."""
    capture = Capture()
    capture.feed(BODY)
    first, last = handed_out(capture)
    assert last == END
    assert first + last == BODY
    capture = Capture()
    capture.feed(BODY)
    capture.take()
    assert not capture.end_was_read


@pytest.mark.parametrize(
    "line_break",
    [b"\n", b"\r", b"\r\n", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\xc2\x85",
     b"\xe2\x80\xa8", b"\xe2\x80\xa9"],
)  # fmt: skip
@pytest.mark.parametrize(
    "end",
    [b"data: [DONE]", b"data:[DONE]", b"data: [DONE]x", b"data:\t[DONE]", b"data:  [DONE] {}",
     b"\xef\xbb\xbfdata: [DONE]"],
)  # fmt: skip
def test_whatever_a_reader_may_take_for_the_end(line_break, end):
    """A reader that stops where no end is seen would get no verdict: so all readers count."""
    for body in (b"data: {}" + line_break + end, end):
        for place in range(len(body) + 1):
            capture, _ = read([chunk for chunk in (body[:place], body[place:]) if chunk])
            assert capture.end_was_read


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_what_pythons_lines_call_an_end(before, after):
    """Against the widest of all line readers, ``str.splitlines``."""
    body = before + b"data: [DONE]" + after
    text = body.decode("utf-8", "ignore")
    ends = any(line.lstrip("\ufeff").startswith("data: [DONE]") for line in text.splitlines())
    clean = body.decode("utf-8", "ignore").encode() == body
    if ends and clean:
        assert read([body])[0].end_was_read


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"text":"data: [DONE]"}\n\n',
        b'data: {"text":"\\ndata: [DONE]\\n\\n"}\n\n',
        b"data: [DON]\n\n",
        b"data: DONE\n\n",
        b": data: [DONE]\n\n",
        b"xdata: [DONE]\n\n",
    ],
)
def test_what_is_no_end(body):
    """A model may talk about streams without ending one."""
    assert not read([body])[0].end_was_read


def test_an_end_in_the_words_of_a_model_splits_nothing():
    capture = Capture()
    capture.feed(b'data: {"text":"data: [DONE]"}\n\n')
    assert len(handed_out(capture)) == 1


def test_an_answer_that_is_too_large(monkeypatch):
    from teeverify.client.transports import stream as module

    monkeypatch.setattr(module, "MAX_ANSWER", 10)
    capture = Capture()
    capture.feed(b"x" * 10)
    with pytest.raises(ResponseNotVerified) as refused:
        capture.feed(b"x")
    assert refused.value.id == "answer.size"
