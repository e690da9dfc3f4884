"""An answer: its exact bytes, its end, its request (T45 to T48)."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from teeverify.appraisal import Outcome
from teeverify.errors import MalformedEvidence, ResponseNotVerified, SignatureInvalid
from teeverify.responses import examine_answer
from teeverify.responses.body import read_body, requested_model

STREAM = b'data: {"id":"1","created":1780404899,"model":"m"}\n\ndata: [DONE]\n\n'
WHEN = datetime(2026, 6, 2, 12, 54, 59, tzinfo=timezone.utc)


def examine(stage, signed=None, **changes):
    return examine_answer(**{**stage.signed(), **(signed or {}), **changes})


def seen(examined, check):
    (found,) = [o for o in examined.observations if o.id == check]
    return found


def refused(examined, check, error=ResponseNotVerified):
    found = seen(examined, check)
    assert (found.outcome, type(found.error)) == (Outcome.FAILED, error)
    return found


# --- the bytes -----------------------------------------------------------------------------------


def test_a_stream_cut_at_each_byte(stage):
    for size in range(len(stage.answer)):
        refused(examine(stage, answer=stage.answer[:size]), "response.hash-equal")


def test_each_byte_of_an_answer_counts(stage):
    for index in range(len(stage.answer)):
        changed = bytearray(stage.answer)
        changed[index] ^= 32
        refused(examine(stage, answer=bytes(changed)), "response.hash-equal")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:-1], "line breaks at the end"),
        (lambda raw: raw + b"\n", "line breaks at the end"),
        (lambda raw: raw.rstrip(b"\n"), "line breaks at the end"),
        (lambda raw: raw.rstrip(b"\n") + b"\r\n", "line breaks at the end"),
        (lambda raw: raw.replace(b"\n", b"\r\n"), "line breaks (CRLF, LF)"),
        (lambda raw: b"\xef\xbb\xbf" + raw, "byte order mark"),
        (lambda raw: raw + b"data: {}\n\n", None),
        (lambda raw: b": ping\n\n" + raw, None),
        (lambda raw: raw.replace(b"Fo", b"fo"), None),
        (lambda raw: b"", None),
    ],
)
def test_a_stream_changed_on_the_way(stage, change, words):
    found = refused(examine(stage, answer=change(stage.answer)), "response.hash-equal")
    assert words is None or words in found.hint
    assert words is not None or "They differ" not in found.hint


def _shuffled(value):
    return dict(reversed(value.items()))


PLAIN = {"id": "1", "created": 1780404899, "model": "m", "text": "Grüße \u2028", "n": [1, 2.5]}
LAYOUTS = {
    f"ascii={ascii_only} separators={separators} sort={sort} indent={indent}": {
        "ensure_ascii": ascii_only,
        "separators": separators,
        "sort_keys": sort,
        "indent": indent,
    }
    for ascii_only in (True, False)
    for separators, indent in (((",", ":"), None), ((", ", ": "), None), (None, 2), (None, 4))
    for sort in (True, False)
    if not (sort and indent)
}


def _encode(layout: str, value: object) -> bytes:
    return json.dumps(value, **LAYOUTS[layout]).encode("utf-8")


@pytest.mark.parametrize("sent", LAYOUTS)
def test_json_encoded_again_is_never_accepted(stage, sent):
    """T46: 132 pairs; none passes, and each is diagnosed unless the order of keys is lost."""
    raw = _encode(sent, PLAIN)
    signature = stage.endpoint.sign(stage.request, raw)
    accepted = []
    for layout in LAYOUTS:
        received = _encode(layout, PLAIN)
        examined = examine(stage, answer=received, signature=signature)
        if received == raw:
            accepted.append(layout)
            continue
        found = refused(examined, "response.hash-equal")
        lost = LAYOUTS[layout]["sort_keys"] and not LAYOUTS[sent]["sort_keys"]
        assert ("only in JSON layout" in found.hint) is not lost
    assert accepted == [sent]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"2.5", b"2.50"),
        lambda raw: raw.replace(b"2.5", b"25e-1"),
        lambda raw: raw.replace(b"\\u2028", b"\\u2028 "),
        lambda raw: raw.replace(b'"id"', b'"\\u0069d"'),
        lambda raw: raw.replace(b"/", b"\\/") + b" ",
        lambda raw: json.dumps(_shuffled(json.loads(raw))).encode(),
        lambda raw: b" " + raw,
        lambda raw: raw + b"\0",
        lambda raw: raw.decode().encode("utf-16"),
    ],
)
def test_json_changed_in_other_ways(stage, change):
    raw = json.dumps(PLAIN).encode()
    signature = stage.endpoint.sign(stage.request, raw)
    assert change(raw) != raw
    refused(examine(stage, answer=change(raw), signature=signature), "response.hash-equal")


# --- request and answer --------------------------------------------------------------------------


def test_request_and_answer_in_each_others_place(stage):
    swapped = {"request": stage.answer, "answer": stage.request}
    examined = examine(stage, **swapped)
    for check in ("response.hash-equal", "request.bound"):
        assert "each other's place" in refused(examined, check).hint
    examined = examine(stage, stage.signed(**swapped))
    assert seen(examined, "response.hash-equal").outcome is Outcome.PROVEN


def test_the_answers_of_two_users_swapped(stage):
    one = stage.signed()
    other = stage.signed(request=b'{"model":"m","n":2}', answer=STREAM)
    for check, mixed in (
        ("request.bound", {**one, "request": other["request"]}),
        ("response.hash-equal", {**one, "answer": other["answer"]}),
        ("request.bound", {**one, **{k: other[k] for k in ("answer", "signature")}}),
    ):
        refused(examine_answer(**mixed), check)


def test_the_request_is_never_proven(stage):
    """W1: in these dialects whoever calls the enclave may choose the request hash."""
    found = seen(examine(stage), "request.bound")
    assert found.outcome is Outcome.ASSERTED
    assert "whoever calls" in found.by


@pytest.mark.parametrize("request_bytes", [None, b""])
def test_a_request_that_is_absent_or_empty(stage, request_bytes):
    found = seen(examine(stage, request=request_bytes), "request.bound")
    assert found.outcome is (Outcome.ABSENT if request_bytes is None else Outcome.FAILED)


def test_an_answer_without_a_signature(stage):
    examined = examine(stage, signature=None)
    refused(examined, "answer.signature")
    assert examined.signer is None


@pytest.mark.parametrize("signature", [b"", b"{}", b"\xff", b"null"])
def test_a_signature_that_cannot_be_read(stage, signature):
    examined = examine(stage, signature=signature)
    assert refused(examined, "answer.signature", MalformedEvidence).error.field
    assert examined.signer is None
    assert examined.signed_model is None


def test_nothing_of_a_bad_signature_is_believed(stage):
    """A text under a signature that does not verify names no model, no signer and no hash."""
    signature = stage.endpoint.sign(stage.request, stage.answer, signature="0x" + "11" * 64 + "1b")
    examined = examine(stage, signature=signature)
    refused(examined, "answer.signature", SignatureInvalid)
    assert (examined.signer, examined.signed_model, examined.sha256) == (None, None, None)
    assert "response.hash-equal" not in {o.id for o in examined.observations}


# --- the end of the stream -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"data: [DONE]",
        b"data: [DONE]\n",
        b"data: {}\n\n",
        b"data: {}\n\ndata: [DONE]",
        b"data: {}\n\ndata: [DONE]\n",
        b"data: {}\n\ndata: [DONE]\n\ndata: {}\n\n",
        b"data: {}\n\ndata: [DONE]\n\ndata: {}\n\ndata: [DONE]\n\n",
        b"data: {}\ndata: [DONE]\n\n",
        b"data: {}\n\n: data: [DONE]\n\n",
        b"data: {}\n\ndata:[DONE]\n\n",
        b"data: {}\n\ndata:  [DONE]\n\n",
        b"data: {}\n\ndata: [done]\n\n",
        b"data: {}\n\ndata: [DONE] \n\n",
        b'data: {}\n\ndata: "[DONE]"\n\n',
        b"data: {}\n\nid: data: [DONE]\n\n",
        b"data: {}\n\n\xef\xbb\xbfdata: [DONE]\n\n",
        b"\xef\xbb\xbfdata: {}\n\ndata: [DONE]\n\n",
        b"\ndata: {}\n\ndata: [DONE]\n\n",
        b"Four.",
        b"[]",
        b"null",
        b'"text"',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"{}{}",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b"\x00" * 1000,
    ],
)  # fmt: skip
def test_no_whole_answer(raw):
    assert not read_body(raw).complete


@pytest.mark.parametrize(
    "raw",
    [
        STREAM,
        STREAM.replace(b"\n", b"\r\n"),
        STREAM.replace(b"\n", b"\r"),
        STREAM + b"\n",
        b": ping\n\n" + STREAM,
        b"event: x\n" + STREAM,
        b"data: [DONE]\n\n",
        b"{}",
        b' {"a": 1}\n',
    ],
)
def test_a_whole_answer(raw):
    assert read_body(raw).complete


@pytest.mark.parametrize(("stream", "words"), [(True, "stream"), (False, "JSON")])
def test_how_it_is_known_to_be_whole(stage, stream, words):
    answer = stage.endpoint.answer(stream=stream)
    assert words in seen(examine(stage, stage.signed(answer=answer)), "answer.complete").message


def test_done_inside_a_text_is_no_end():
    raw = b'data: {"content":"data: [DONE]\\n\\n"}\n\n'
    assert not read_body(raw).complete
    assert read_body(raw + b"data: [DONE]\n\n").complete


# --- what an answer says of itself ---------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "1780404899", 1780404899.0, True, -1, 0, [], {}, "now"])
def test_no_time(value):
    for raw in (json.dumps({"created": value}), f"data: {json.dumps({'created': value})}\n\n"):
        assert read_body(raw.encode()).created is None


@pytest.mark.parametrize("field", ["created", "created_at"])
def test_a_time(field):
    raw = json.dumps({field: 1780404899}).encode()
    assert read_body(raw).created == read_body(b"data: " + raw + b"\n\n").created == WHEN


def test_a_time_far_away_is_clamped():
    assert read_body(b'{"created": %d}' % 10**39).created.year == 9999


@pytest.mark.parametrize("value", [None, 1, "", True, ["m"], {"m": 1}, "m" * 5000])
def test_no_model(value):
    raw = json.dumps({"model": value}).encode()
    assert read_body(raw).model is None
    assert requested_model(raw) is None


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"model=m", b'{"model":"a","model":"b"}'])
def test_no_request_in_json(raw):
    assert requested_model(raw) is None


def test_a_model():
    assert read_body(STREAM).model == requested_model(b'{"model": "m"}') == "m"
