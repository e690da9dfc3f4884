"""Requests and answers sealed text by text; the enclave's side is played here."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from teeverify.e2ee import SCHEMES, seal_request
from teeverify.e2ee.dialects import SCHEMES as ALL
from teeverify.errors import ConfigurationError, MalformedEvidence, ResponseNotVerified

AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
PAIRS = [(name, algorithm) for name, scheme in ALL.items() for algorithm in scheme.boxes]
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "what I ask"}], "stream": True}


def raw(document):
    return json.dumps(document).encode()


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request):
    """A scheme, the enclave's key, and its box."""
    name, algorithm = request.param
    if algorithm == "ed25519":
        pytest.importorskip("nacl", reason="needs teeverify[e2ee]")
    box = ALL[name].boxes[algorithm]
    return name, algorithm, box, box.new_key()


def seal(pair, request=REQUEST):
    name, algorithm, _, enclave = pair
    return seal_request(name, algorithm, enclave.public, raw(request), at=AT)


def asker_key(pair, envelope):
    text = next(value for name, value in envelope.headers.items() if "Client-Pub-Key" in name)
    public = bytes.fromhex(text)
    return public[1:] if len(public) == 65 else public


def place(pair, envelope, direction, rest):
    if pair[0] != "phala-v2":
        return b""
    nonce, time = envelope.headers["X-E2EE-Nonce"], envelope.headers["X-E2EE-Timestamp"]
    return f"v2|{direction}|algo={pair[1]}|model=m|{rest}|n={nonce}|ts={time}".encode()


def sealed_text(pair, envelope, text, *, choice=0, field="content", answer_id="a"):
    aad = place(pair, envelope, "resp", f"id={answer_id}|choice={choice}|field={field}")
    return pair[2].seal(asker_key(pair, envelope), text.encode(), aad).hex()


def answer(pair, envelope, text="what I hear", **members):
    message = {"role": "assistant", "content": sealed_text(pair, envelope, text), **members}
    return {"id": "a", "model": "m", "choices": [{"index": 0, "message": message}]}


def test_only_the_enclave_reads_the_request(pair):
    envelope = seal(pair)
    assert b"what I ask" not in envelope.body
    assert "what I ask" not in repr(envelope)
    document = json.loads(envelope.body)
    blob = bytes.fromhex(document["messages"][0]["content"])
    aad = place(pair, envelope, "req", "m=0|c=-")
    assert pair[3].open(blob, aad) == b"what I ask"
    assert {**document, "messages": None} == {**REQUEST, "messages": None}


def test_each_request_has_a_key_of_its_own(pair):
    assert seal(pair).key.public != seal(pair).key.public


def test_the_headers_that_switch_encryption_on(pair):
    name, algorithm, _, enclave = pair
    headers = seal(pair).headers
    assert any(enclave.public.hex() in value for value in headers.values())
    if name == "venice":
        assert len(headers) == 3  # without any one of them the answer is plain
        assert all(key.startswith("X-Venice-TEE-") for key in headers)
        return
    assert headers["X-Signing-Algo"] == algorithm
    versions = {"near-v1": "1", "near-v2": "2", "phala-v1": None, "phala-v2": "2"}
    found = headers.get("X-Encryption-Version", headers.get("X-E2EE-Version"))
    assert found == versions[name]
    assert len(headers.get("X-E2EE-Nonce", "x" * 16)) >= 16


def test_an_answer_opens(pair):
    envelope = seal(pair)
    thought = sealed_text(pair, envelope, "hm", field="reasoning_content")
    document = answer(pair, envelope, reasoning_content=thought, tool_calls=[], refusal=None)
    opened = json.loads(envelope.open(raw(document)))
    assert opened["choices"][0]["message"]["content"] == "what I hear"
    assert opened["choices"][0]["message"]["reasoning_content"] == "hm"


def events(pair, envelope):
    parts = [
        {"role": "assistant", "content": ""},
        {"content": sealed_text(pair, envelope, "Hel")},
        {"content": sealed_text(pair, envelope, "lo 🌍")},
        {},
    ]
    chunks = [{"id": "a", "model": "m", "choices": [{"index": 0, "delta": d}]} for d in parts]
    chunks.append({"id": "a", "model": "m", "choices": [], "usage": {"total_tokens": 3}})
    body = b"".join(b"data: " + raw(chunk) + b"\n\n" for chunk in chunks)
    return b": keep-alive\n\n" + body + b"data: [DONE]\n\n"


def test_a_stream_opens_however_it_is_cut(pair):
    envelope = seal(pair)
    body = events(pair, envelope)
    for size in (1, 10, 1000, len(body)):
        opener = envelope.opener()
        out = b"".join(opener.feed(body[at : at + size]) for at in range(0, len(body), size))
        opener.finish()
        assert out.endswith(b"data: [DONE]\n\n")
        chunks = [json.loads(e[6:]) for e in out.split(b"\n\n") if e.startswith(b"data: {")]
        texts = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
        assert "".join(texts) == "Hello 🌍"


@pytest.mark.parametrize("between", [b"\n\n\n", b"\n\n\n\n", b"\n\n\n\n\n"])
def test_further_blank_lines_between_events(pair, between):
    """Phala's proxy sends more of them than it must."""
    envelope = seal(pair)
    body = events(pair, envelope).replace(b"\n\n", between)
    for size in (1, 7, len(body)):
        opener = envelope.opener()
        out = b"".join(opener.feed(body[at : at + size]) for at in range(0, len(body), size))
        opener.finish()
        assert b"Hel" in out
        assert out.rstrip(b"\n").endswith(b"data: [DONE]")


def test_a_stream_that_is_cut_inside_an_event(pair):
    envelope = seal(pair)
    opener = envelope.opener()
    opener.feed(events(pair, envelope)[:-1])
    with pytest.raises(ResponseNotVerified):
        opener.finish()


def test_a_plain_answer_to_a_sealed_request_is_refused(pair):
    envelope = seal(pair)
    plain = {"id": "a", "model": "m", "choices": [{"message": {"content": "plain words"}}]}
    with pytest.raises(ResponseNotVerified) as caught:
        envelope.open(raw(plain))
    assert caught.value.id == "e2ee.plaintext"
    event = b'data: {"choices": [{"delta": {"content": "plain words"}}]}\n\n'
    with pytest.raises(ResponseNotVerified) as caught:
        envelope.opener().feed(event)
    assert caught.value.id == "e2ee.plaintext"
    assert "plain words" not in str(caught.value)


@pytest.mark.parametrize("name", ["tool_calls", "refusal", "audio", "anything"])
def test_what_the_scheme_leaves_plain_is_refused(pair, name):
    envelope = seal(pair)
    with pytest.raises(ResponseNotVerified) as caught:
        envelope.open(raw(answer(pair, envelope, **{name: ["x"]})))
    assert caught.value.id == "e2ee.plaintext"


def test_an_answer_to_somebody_else_is_refused(pair):
    ours, theirs = seal(pair), seal(pair)
    with pytest.raises(ResponseNotVerified) as caught:
        ours.open(raw(answer(pair, theirs)))
    assert caught.value.id == "e2ee.open"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"choices": 1}', b'{"choices": [1]}', b'{"choices": [{}]}',
     b'{"choices": [{"message": 1}]}', b'{"choices": [{"index": "0", "message": {}}]}',
     b'{"choices": [{"message": {"content": 1}}]}',
     b'{"choices": [{"message": {"content": ["a"]}}]}'],
)  # fmt: skip
def test_answers_of_another_form(body):
    box = ALL["venice"].boxes["ecdsa"]
    envelope = seal_request("venice", "ecdsa", box.new_key().public, raw(REQUEST), at=AT)
    with pytest.raises(ResponseNotVerified):
        envelope.open(body)


@pytest.mark.parametrize("event", [b"event: x\n\n", b"data: {\n\n", b"data: {}\ndata: {}\n\n"])
def test_events_of_another_form(event):
    box = ALL["venice"].boxes["ecdsa"]
    envelope = seal_request("venice", "ecdsa", box.new_key().public, raw(REQUEST), at=AT)
    with pytest.raises(ResponseNotVerified):
        envelope.opener().feed(event)


@pytest.mark.parametrize(
    ("scheme", "headers", "good"),
    [
        ("phala-v2", {"X-E2EE-Applied": "true", "X-E2EE-Version": "2"}, True),
        ("phala-v2", {"x-e2ee-applied": "True", "x-e2ee-version": "2"}, True),
        ("phala-v2", {"X-E2EE-Applied": "false", "X-E2EE-Version": "2"}, False),
        ("phala-v2", {"X-E2EE-Applied": "true", "X-E2EE-Version": "1"}, False),
        ("phala-v2", {}, False),
        ("phala-v1", {"X-E2EE-Applied": "true"}, True),
        ("phala-v1", {}, False),
        ("venice", {"x-venice-tee": "true"}, True),
        ("venice", {}, False),
        ("near-v2", {}, True),
    ],
)
def test_the_headers_that_an_answer_must_have(scheme, headers, good):
    public = ALL[scheme].boxes["ecdsa"].new_key().public
    envelope = seal_request(scheme, "ecdsa", public, raw(REQUEST), at=AT)
    if good:
        envelope.require_applied(headers)
        return
    with pytest.raises(ResponseNotVerified) as caught:
        envelope.require_applied(headers)
    assert caught.value.id == "e2ee.plaintext"


@pytest.mark.parametrize("pair", [p for p in PAIRS if ALL[p[0]].bound], indirect=True)
def test_phala_ties_a_text_to_its_place(pair):
    envelope = seal(pair)
    good = answer(pair, envelope)
    moved = {"reasoning_content": good["choices"][0]["message"]["content"]}
    for spoiled in (
        {**good, "id": "b"},
        {**good, "model": "n"},
        {**good, "choices": [{**good["choices"][0], "index": 1}]},
        {**good, "choices": [{"message": moved}]},
    ):
        with pytest.raises(ResponseNotVerified):
            envelope.open(raw(spoiled))


PARTS = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
IMAGE = [{"type": "image_url", "image_url": {"url": "data:,x"}}]


def test_a_message_in_parts(pair):
    request = {**REQUEST, "messages": [{"role": "user", "content": PARTS}]}
    envelope = seal(pair, request)
    content = json.loads(envelope.body)["messages"][0]["content"]
    if ALL[pair[0]].parts_together:
        opened = pair[3].open(bytes.fromhex(content), b"")
        assert json.loads(opened) == PARTS
        return
    for number, part in enumerate(content):
        aad = place(pair, envelope, "req", f"m=0|c={number}")
        assert pair[3].open(bytes.fromhex(part["text"]), aad).decode() == PARTS[number]["text"]


def test_an_image_is_sealed_or_refused(pair):
    request = {**REQUEST, "messages": [{"role": "user", "content": IMAGE}]}
    if ALL[pair[0]].parts_together:
        assert b"image_url" not in seal(pair, request).body
        return
    with pytest.raises(ConfigurationError):
        seal(pair, request)


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"stop": ["secret"]},
        {"user": "me"},
        {"metadata": {}},
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": "x", "name": "me"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": ["x"]},
        {"model": None},
        {"model": "a|b"},
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_would_stay_readable_is_not_sent(scheme, changes):
    public = ALL[scheme].boxes["ecdsa"].new_key().public
    with pytest.raises(ConfigurationError) as caught:
        seal_request(scheme, "ecdsa", public, raw({**REQUEST, **changes}), at=AT)
    assert caught.value.id == "usage.e2ee"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("request_bytes", [b"", b"[]", b"{", b"\xff", b'{"prompt": "x"}'])
def test_what_is_no_chat_request(request_bytes):
    public = ALL["venice"].boxes["ecdsa"].new_key().public
    with pytest.raises(ConfigurationError):
        seal_request("venice", "ecdsa", public, request_bytes, at=AT)


def test_an_unknown_scheme_or_key():
    with pytest.raises(ConfigurationError):
        seal_request("rot13", "ecdsa", bytes(64), raw(REQUEST), at=AT)
    with pytest.raises(ConfigurationError):
        seal_request("venice", "ed25519", bytes(32), raw(REQUEST), at=AT)
    with pytest.raises(MalformedEvidence):
        seal_request("venice", "ecdsa", bytes(64), raw(REQUEST), at=AT)


def test_an_event_without_end():
    public = ALL["venice"].boxes["ecdsa"].new_key().public
    envelope = seal_request("venice", "ecdsa", public, raw(REQUEST), at=AT)
    opener = envelope.opener()
    opener.feed(bytes(16 * 2**20))
    with pytest.raises(ResponseNotVerified):
        opener.feed(b"x")
