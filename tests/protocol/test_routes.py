"""Every signed route, from an engine behind the server to its SDK: whole and streamed, verified.

The engine's bytes are those of vLLM's own routes; nothing on their way may change one of them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import teeverify
from teeverify.responses.statement import parse_signed
from teeverify.testing.server import running

pytestmark = pytest.mark.network
openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")

TEXT = "Four."
ASKED = [{"role": "user", "content": "What is two and two?"}]
USAGE = {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "default", "stop_reason": None,
    "content": [], "stop_sequence": None, "usage": USAGE,
}  # fmt: skip
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1.0, "model": "default", "output": [],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "in_progress",
}  # fmt: skip
OUTPUT = {
    "id": "msg_2", "type": "message", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
}  # fmt: skip
COMPLETION = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "default"}


def event(value, *, named=True):
    name = f"event: {value['type']}\n" if named else ""
    return f"{name}data: {json.dumps(value)}\n\n"


def messages_stream():
    block = {"type": "text", "text": ""}
    events = [
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
        {"type": "message_stop"},
    ]
    return "".join(map(event, events)) + "data: [DONE]\n\n"  # which vLLM writes here too


def responses_stream():
    at = {"item_id": "msg_2", "output_index": 0, "content_index": 0, "logprobs": []}
    events = [
        {"type": "response.created", "sequence_number": 0, "response": RESPONSE},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": TEXT, **at},
        {"type": "response.completed", "sequence_number": 2,
         "response": {**RESPONSE, "status": "completed", "output": [OUTPUT]}},
    ]  # fmt: skip
    return "".join(map(event, events))


def completions_stream():
    choice = {"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}
    return event({**COMPLETION, "choices": [choice]}, named=False) + "data: [DONE]\n\n"


STREAMS = {
    "/v1/messages": messages_stream(),
    "/v1/responses": responses_stream(),
    "/v1/completions": completions_stream(),
}
PLAIN = {
    "/v1/messages": {
        **MESSAGE, "content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn",
    },
    "/v1/responses": {**RESPONSE, "status": "completed", "output": [OUTPUT]},
    "/v1/completions": {
        **COMPLETION, "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}],
    },
    "/v1/embeddings": {
        "object": "list", "model": "default", "usage": {"prompt_tokens": 1, "total_tokens": 1},
        "data": [{"index": 0, "object": "embedding", "embedding": [0.5, -0.25]}],
    },
}  # fmt: skip


class Engine(BaseHTTPRequestHandler):
    """Says the same on each route, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    seen = []  # noqa: RUF012 -- of the module's one engine
    cut = False

    def do_GET(self):
        self.reply(b'{"object":"list","data":[{"id":"default"}]}', "application/json")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append((self.path, asked))
        if not asked.get("stream"):
            self.reply(json.dumps(PLAIN[self.path]).encode(), "application/json")
            return
        body = STREAMS[self.path].encode()
        self.reply(body[:-60] if self.cut else body, "text/event-stream; charset=utf-8")

    def reply(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    for package in ("aiohttp", "uvicorn"):
        pytest.importorskip(package, reason="the extra 'server' is not installed")
    engine = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=engine.serve_forever, daemon=True)
    thread.start()
    try:
        upstream = f"http://127.0.0.1:{engine.server_port}/v1"
        with running(gpus=1, arguments=("--upstream", upstream)) as started:
            yield started
    finally:
        engine.shutdown()
        engine.server_close()
        thread.join()


@pytest.fixture
def cut():
    Engine.cut = True
    yield
    Engine.cut = False


@pytest.fixture
def pair(server):
    made = teeverify.http_clients(server.url, roots=server.roots)
    yield made
    made["http_client"].close()


def statement_of(receipts, path, *, stream):
    """The receipt's own account is the engine's bytes on that route."""
    receipt = receipts.last
    sent = STREAMS[path].encode() if stream else json.dumps(PLAIN[path]).encode()
    assert receipt.parts.response.raw == sent
    found = {one.id: one.outcome.value for one in receipt.result.findings}
    for name in ("answer.signature", "request.bound", "http.semantics", "answer.fresh"):
        assert found[name] == "proven", name
    statement = parse_signed(receipt.parts.signature).statement
    assert (statement.target, statement.status, statement.end) == (path, 200, "complete")
    assert statement.response_hash == "sha256:" + hashlib.sha256(sent).hexdigest()
    assert (statement.events is not None) == stream
    return statement


def text_of_message(client, *, stream):
    asked = {"model": "default", "messages": ASKED, "max_tokens": 8}
    if not stream:
        return client.messages.create(**asked).content[0].text
    with client.messages.stream(**asked) as events:
        return "".join(events.text_stream)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_messages_with_anthropics_sdk(server, pair, need, stream):
    if importlib.util.find_spec("anthropic") is None:
        need("sdks", "anthropic is not installed (dependency group sdks)")
    import anthropic

    base = server.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key="x", http_client=pair["http_client"]) as client:
        assert text_of_message(client, stream=stream) == TEXT
        statement = statement_of(pair["http_client"].receipts, "/v1/messages", stream=stream)
        assert statement.upstream_id == "msg_1"


def test_a_message_that_breaks_off_with_anthropics_sdk(server, pair, need, cut):
    if importlib.util.find_spec("anthropic") is None:
        need("sdks", "anthropic is not installed (dependency group sdks)")
    import anthropic

    base = server.url.removesuffix("/v1")
    given = {"api_key": "x", "http_client": pair["http_client"], "max_retries": 0}
    with anthropic.Anthropic(base_url=base, **given) as client:
        with pytest.raises(anthropic.APIConnectionError):  # the server breaks the connection off
            text_of_message(client, stream=True)
        assert len(pair["http_client"].receipts) == 0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_messages_by_hand(server, pair, stream):
    client = pair["http_client"]
    asked = {"model": "default", "messages": ASKED, "max_tokens": 8, "stream": stream}
    answer = client.post(f"{server.url}/messages", json=asked)
    assert answer.content == client.receipts.last.parts.response.raw
    statement_of(client.receipts, "/v1/messages", stream=stream)
    assert Engine.seen[-1] == ("/v1/messages", asked)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_responses(server, stream):
    with server.openai() as client:
        made = client.responses.create(model="default", input="Hi", stream=stream)
        if stream:
            found = "".join(one.delta for one in made if one.type == "response.output_text.delta")
        else:
            found = made.output_text
        assert found == TEXT
        statement_of(client.receipts, "/v1/responses", stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_completions(server, stream):
    with server.openai() as client:
        made = client.completions.create(model="default", prompt="Hi", stream=stream)
        chunks = list(made) if stream else [made]
        assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
        statement_of(client.receipts, "/v1/completions", stream=stream)


def test_embeddings(server):
    """They have no id and are the same each time: two answers, and none is a repeated one."""
    with server.openai() as client:
        for _ in range(2):
            made = client.embeddings.create(model="default", input="Hi", encoding_format="float")
            assert made.data[0].embedding == [0.5, -0.25]
            statement_of(client.receipts, "/v1/embeddings", stream=False)
        assert len(client.receipts) == 2


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/embeddings"])
def test_what_the_embedded_engine_has_not_is_a_signed_error(path):
    from .conftest import Server
    from .test_server import carried

    server = Server(gpus=1, flat=False)
    try:
        reply = server.request("POST", path, b"{}", headers={"teeverify-challenge": "cd" * 32})
        assert reply.status == 404
        assert b"/v1/chat/completions" in reply.body
        assert carried(reply).statement.status == 404
    finally:
        server.close()
