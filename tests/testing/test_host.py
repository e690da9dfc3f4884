"""The dishonest host changes one thing of what passes, and nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest

from teeverify.errors import ConfigurationError
from teeverify.simulator.host import HOST_FAULTS, DishonestHost

CHAT = "/v1/chat/completions"


class Enclave:
    """Answers with the same content and a new id each time; notes what it is asked."""

    def __init__(self, *, stream=False):
        self.stream = stream
        self.paths = []
        self.bodies = []

    async def __call__(self, scope, receive, send):
        self.paths.append(scope["path"])
        message = await receive()
        self.bodies.append(message.get("body"))
        parts = self.parts(len(self.paths))
        kind = b"text/event-stream; charset=utf-8" if self.stream else b"application/json"
        headers = [(b"content-type", kind), (b"x-kept", b"1")]
        if not self.stream:
            headers.append((b"content-length", b"%d" % len(b"".join(parts))))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(parts, 1):
            more = number < len(parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    def parts(self, number):
        texts = ["", "1 \\u00e9", "Abc", "def"] if self.stream else ["1 Abc"]
        bodies = [f'{{"id":"id-{number}","content":"{text}"}}'.encode() for text in texts]
        if not self.stream:
            return [bodies[0][:5], bodies[0][5:]]
        return [*(b"data: " + body + b"\n\n" for body in bodies), b"data: [DONE]\n\n"]


def ask(app, path=CHAT):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"question", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": path}, receive, send))
    return dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


def honest(*, stream):
    return ask(Enclave(stream=stream))[1]


@pytest.mark.parametrize("stream", [False, True])
def test_tampered_by_one_byte(stream):
    headers, body = ask(DishonestHost(Enclave(stream=stream), "tampered-answer"))
    before = honest(stream=stream)
    different = [n for n, (a, b) in enumerate(zip(body, before, strict=True)) if a != b]
    assert len(different) == 1
    assert before[different[0] :].startswith(b"Abc")
    assert headers[b"x-kept"] == b"1"


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_json_in_other_bytes(stream):
    headers, body = ask(DishonestHost(Enclave(stream=stream), "reserialised-json"))
    before = honest(stream=stream)
    assert body != before
    assert len(body) > len(before)
    if not stream:
        assert int(headers[b"content-length"]) == len(body)
        assert json.loads(body) == json.loads(before)
        return
    events = [
        [json.loads(event[6:]) for event in whole.split(b"\n\n") if event[6:7] == b"{"]
        for whole in (body, before)
    ]
    assert events[0] == events[1]
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_the_signature_of_another_answer_to_the_same_request(stream):
    enclave = Enclave(stream=stream)
    host = DishonestHost(enclave, "other-answer")
    _, body = ask(host)
    assert b'"id-2"' in body
    assert enclave.bodies == [b"question", b"question"]
    ask(host, "/v1/signature/id-2")
    assert enclave.paths[-1] == "/v1/signature/id-1"


def test_no_signature():
    enclave = Enclave()
    ask(DishonestHost(enclave, "no-signature"), "/v1/signature/id-1")
    assert enclave.paths == [f"/v1/signature/chatcmpl-{'0' * 32}"]


@pytest.mark.parametrize("fault", HOST_FAULTS)
def test_other_routes_pass_unchanged(fault):
    enclave = Enclave()
    assert ask(DishonestHost(enclave, fault), "/v1/models")[1] == honest(stream=False)
    assert enclave.paths == ["/v1/models"]


@pytest.mark.parametrize("fault", ["no-signature", "tampered-answer"])
def test_other_ids_pass_unchanged(fault):
    enclave = Enclave()
    ask(DishonestHost(enclave, fault))
    assert enclave.bodies == [b"question"]


def test_wrong_use():
    with pytest.raises(ConfigurationError):
        DishonestHost(Enclave(), "debug-td")
