"""The proxy: bytes pass unchanged, and whatever the upstream does, nothing wrong is signed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import subprocess
import sys
import time

import pytest

from teeverify.enclave.errors import HttpError
from teeverify.errors import ConfigurationError, EndpointUnavailable
from teeverify.responses.signed_text import parse_signature, verify_signed_text

from . import scripted
from .scripted import (
    DONE,
    ScriptedUpstream,
    answers,
    close,
    event,
    hang,
    plain,
    raw,
    reset,
    streams,
)
from .wire import CHAT, BrokenOff, connected

pytestmark = pytest.mark.network

SILENCE = 1.0
ENDED = b"0\r\n\r\n"
BROKEN = (BrokenOff, ConnectionError, asyncio.IncompleteReadError)
numbers = iter(range(10**6))


@pytest.fixture(scope="module")
def upstream():
    started = ScriptedUpstream().start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def server(serve, upstream):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    arguments = ("--upstream", upstream.address, "--upstream-silence", str(SILENCE))
    with serve(gpus=1, arguments=arguments) as started:
        yield started


@pytest.fixture
def ask(server, upstream):
    """Ask for what a script does; gives status, headers, body, and whether it broke off."""

    def go(script, *, path=CHAT, body=None, **headers):
        name = f"script-{next(numbers)}"
        upstream.scripts[name] = script
        sent = body(name) if body else json.dumps({"model": "default", "script": name}).encode()

        async def once():
            async with connected(server.url) as wire:
                await wire.send(
                    "POST", path, sent, **{"content_type": "application/json"} | headers
                )
                status = await wire.head()
                if "content-length" in wire.headers:
                    return status, wire.headers, await wire.rest(), False
                content = b""
                try:
                    while part := await wire.part():
                        content += part
                except BROKEN:
                    return status, wire.headers, content, True
                return status, wire.headers, content, False

        status, found, content, broken = asyncio.run(once())
        return Got(server, sent, status, found, content, broken)

    return go


class Got:
    """What came of a request."""

    def __init__(self, server, sent, status, headers, body, broken):
        self.sent, self.status, self.headers = sent, status, headers
        self.body, self.broken, self._server = body, broken, server

    def signature(self, answer_id):
        async def fetch():
            async with connected(self._server.url) as wire:
                return await wire.fetch("GET", f"/v1/signature/{answer_id}")

        return asyncio.run(fetch())

    def assert_signed(self, answer_id):
        assert (self.status, self.broken) == (200, False), self.body
        status, found = self.signature(answer_id)
        assert status == 200
        signed = parse_signature(found)
        verify_signed_text(signed)
        assert signed.request_sha256 == hashlib.sha256(self.sent).hexdigest()
        assert signed.response_sha256 == hashlib.sha256(self.body).hexdigest()

    def assert_unsigned(self, answer_id):
        assert self.signature(answer_id)[0] == 404

    def assert_no_answer(self, status=502):
        assert self.status == status
        assert set(json.loads(self.body)) == {"error"}


def new_id():
    return f"chatcmpl-test-{next(numbers)}"


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        '{{"id":"{0}","choices":[]}}',
        ' {{\r\n "choices" : [ 1.0e0, "\\u00e9 é" ],\n "id" : "{0}" }}\n\n',
        '{{"object":"x","response":{{"id":"other"}},"id":"{0}"}}',
        '{{"message":{{"id":"{0}","x":1}}}}',
        '{{"response":{{"id":"{0}"}}}}',
    ],
)
def test_a_plain_answer_passes_byte_for_byte(ask, form):
    answer_id = new_id()
    body = form.format(answer_id).encode()
    got = ask(answers(body))
    assert got.body == body
    assert got.headers["content-type"] == "application/json"
    got.assert_signed(answer_id)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_stream_passes_byte_for_byte_however_it_is_cut(ask, size, newline):
    answer_id = new_id()
    parts = [
        event(answer_id, "data: [DONE]\n\nno"),
        b": a comment\n\n",
        event(answer_id, "ï"),
        DONE,
    ]
    body = b"".join(parts).replace(b"\n", newline)
    got = ask(streams(*(body[n : n + size] for n in range(0, len(body), size))))
    assert got.body == body
    got.assert_signed(answer_id)


def test_a_request_passes_byte_for_byte_and_no_header_with_it(ask, upstream):
    answer_id = new_id()
    got = ask(
        answers(plain(answer_id)),
        body=lambda name: f' {{"script" :"{name}" ,"x":"\\u00e9 é\\/"}}\r\n'.encode(),
        accept="text/event-stream",
        authorization="Bearer canary",
        cookie="canary",
        user_agent="canary",
        x_request_id="canary",
        x_request_hash="canary",
        x_forwarded_for="canary",
        traceparent="canary",
    )
    got.assert_signed(answer_id)
    line, headers, body = upstream.seen[-1]
    assert line == f"POST {CHAT} HTTP/1.1"
    assert body == got.sent
    assert "canary" not in str(headers)
    assert set(headers) == {
        "host",
        "content-type",
        "accept",
        "accept-encoding",
        "content-length",
        "x-request-id",
    }
    assert headers["accept-encoding"] == "identity"
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/v1/completions", DONE),
        ("/v1/responses", b'event: response.completed\ndata: {"type":"response.completed"}\n\n'),
        ("/v1/responses", b'event: response.incomplete\ndata: {"x":1}\n\n'),
        ("/v1/messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    ],
)
def test_every_route_has_an_end_of_its_own(ask, path, last):
    answer_id = new_id()
    got = ask(streams(event(answer_id, "x"), last), path=path)
    assert got.body.endswith(last)
    got.assert_signed(answer_id)
    other = new_id()
    got = ask(streams(event(other, "x"), b"event: ping\ndata: {}\n\n"), path=path)
    assert got.broken
    got.assert_unsigned(other)


def test_embeddings(ask):
    body = b'{"id":"embd-7","data":[{"embedding":[0.1]}]}'
    got = ask(answers(body), path="/v1/embeddings")
    got.assert_signed("embd-7")
    ask(streams(DONE), path="/v1/embeddings").assert_no_answer()


def test_what_comes_after_the_end_belongs_to_it(ask):
    answer_id = new_id()
    got = ask(streams(event(answer_id, "x"), DONE, b": bye\n\n"))
    assert got.body.endswith(DONE + b": bye\n\n")
    got.assert_signed(answer_id)


def test_the_end_waits_for_the_upstreams_end(ask, upstream, server):
    """Until the upstream has ended within its framing, nobody knows that the answer is whole."""
    answer_id = new_id()
    got = ask(streams(event(answer_id, "x"), DONE, end=b"", then=close))
    assert got.broken
    assert DONE not in got.body
    got.assert_unsigned(answer_id)


# --- what goes wrong in mid-stream ---------------------------------------------------------------

HALF = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n"


@pytest.mark.parametrize(
    ("end", "then"),
    [
        (b"0\r\n\r\n", None),
        (b"", close),
        (b"", reset),
        (b"", hang),
        (b"zz\r\n", None),
        (b"5\r\nda", close),
        (b"b\r\ndata: [DONE\r\n0\r\n\r\n", None),
    ],
    ids=["no-end", "closed", "reset", "silent", "no-chunk", "half-a-chunk", "half-an-end"],
)
def test_an_upstream_that_breaks_off_breaks_the_stream(ask, end, then):
    answer_id = new_id()
    parts = (event(answer_id, "one"), event(answer_id, "two"))
    got = ask(streams(*parts, end=end, then=then, pause=0.05))
    assert (got.status, got.broken) == (200, True)
    assert DONE not in got.body
    got.assert_unsigned(answer_id)


def test_a_stream_without_an_id_cannot_be_signed(ask):
    got = ask(streams(b": nothing\n\n", DONE))
    assert (got.body, got.broken) == (b": nothing\n\n", True)


def test_an_error_in_mid_stream_is_shown_and_is_no_end(ask):
    answer_id = new_id()
    error = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    got = ask(streams(event(answer_id, "one"), error, DONE))
    assert got.body.endswith(error)
    assert got.broken
    got.assert_unsigned(answer_id)


@pytest.mark.parametrize(
    "script",
    [
        raw(b"", then=close),
        raw(b"", then=reset),
        raw(b"", then=hang),
        raw(b"nonsense\r\n\r\n", then=close),
        raw(HALF + b'{"id":', then=close),
        raw(HALF + b'{"id":', then=hang),
        raw(b"HTTP/1.1 200 OK\r\n\r\n" + plain("x"), then=close),
        raw(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + plain("x"), then=close),
        answers(b""),
        answers(b"<html>no</html>", kind=b"text/html"),
        answers(b'{"choices":[]}'),
        answers(b'{"id":7}'),
        answers(b'{"id":""}'),
        answers(b'{"choices":[],"id":"a","id":"b"}'),
        answers(b'["id"]'),
        answers(plain("x"), extra=b"content-encoding: gzip\r\n"),
        answers(plain("x"), status=204),
        answers(plain("x"), status=206),
        answers(b"", status=302, extra=b"location: http://192.0.2.1/\r\n"),
        answers(plain("x"), status=401),
        answers(plain("x"), status=403),
        streams(end=b"0\r\n\r\n"),
        streams(b'data: {"error": {}}\n\n', DONE),
    ],
)
def test_what_is_no_answer_is_an_error_of_ours(ask, script):
    ask(script).assert_no_answer()


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("kind", [b"application/json", b"text/html"])
def test_its_errors_pass_with_their_status_and_are_not_signed(ask, status, kind):
    answer_id = new_id()
    body = plain(answer_id)
    got = ask(answers(body, status=status, kind=kind))
    assert (got.status, got.body) == (status, body)
    assert got.headers["content-type"] == kind.decode()
    got.assert_unsigned(answer_id)
    got = ask(streams(event(answer_id, "x"), DONE, status=status))
    assert got.status == status
    got.assert_unsigned(answer_id)


def test_an_id_is_signed_once(ask):
    answer_id = new_id()
    first = ask(answers(plain(answer_id, "first")))
    ask(answers(plain(answer_id, "second"))).assert_no_answer(503)
    got = ask(streams(event(answer_id, "third"), DONE))
    assert got.broken
    first.assert_signed(answer_id)


def test_an_answer_too_large_to_hold(ask, monkeypatch):
    async def endless(writer, _):
        writer.write(
            scripted.HEAD % (200, b"application/json") + b"transfer-encoding: chunked\r\n\r\n"
        )
        block = scripted.chunk(bytes(2**20))
        for _ in range(80):
            writer.write(block)
            await writer.drain()

    ask(endless).assert_no_answer()


# --- clients that leave --------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_leaves_stops_the_upstream(server, upstream, begun):
    answer_id, name = new_id(), f"leave-{begun}"
    upstream.scripts[name] = (
        streams(*[event(answer_id, "x")] * 500, pause=0.01) if begun else raw(b"", then=hang)
    )

    async def leave():
        async with connected(server.url) as wire:
            await wire.send("POST", CHAT, json.dumps({"script": name}).encode())
            if begun:
                assert await wire.head() == 200
                await wire.part()
            else:
                await asyncio.sleep(0.2)

    asyncio.run(leave())
    deadline = time.monotonic() + 5
    while name not in upstream.closed:
        assert time.monotonic() < deadline, "the upstream works on for nobody"
        time.sleep(0.02)
    assert asyncio.run(_status(server.url, f"/v1/signature/{answer_id}")) == 404


async def _status(url, path, method="GET"):
    async with connected(url) as wire:
        return (await wire.fetch(method, path))[0]


@pytest.mark.parametrize(
    "path",
    ["/v1/load_lora_adapter", "/sleep", "/start_profile", "/update_weights", "/v1/files", "/pause"],
)
def test_nothing_else_is_passed_on(server, upstream, path):
    before = len(upstream.seen)
    assert asyncio.run(_status(server.url, path, "POST")) == 404
    assert len(upstream.seen) == before


# --- where it is ---------------------------------------------------------------------------------


def test_a_unix_socket(serve, tmp_path):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    upstream = ScriptedUpstream(str(tmp_path / "engine.sock")).start()
    upstream.scripts["x"] = answers(plain("chatcmpl-unix"))
    try:
        with serve(gpus=1, arguments=("--upstream", upstream.address)) as server:

            async def ask():
                async with connected(server.url) as wire:
                    return await wire.fetch("POST", CHAT, b'{"script":"x"}')

            assert asyncio.run(ask()) == (200, plain("chatcmpl-unix"))
            assert asyncio.run(_status(server.url, "/v1/signature/chatcmpl-unix")) == 200
    finally:
        upstream.stop()


def test_an_upstream_that_goes_and_comes_back(serve):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    upstream = ScriptedUpstream().start()
    upstream.scripts["x"] = answers(plain("chatcmpl-back"))

    async def ask(url):
        async with connected(url) as wire:
            return await wire.fetch("POST", CHAT, b'{"script":"x"}')

    with serve(gpus=1, arguments=("--upstream", upstream.address)) as server:
        upstream.stop()
        status, body = asyncio.run(ask(server.url))
        assert (status, set(json.loads(body))) == (502, {"error"})
        assert asyncio.run(_status(server.url, "/health")) == 503
        assert asyncio.run(_status(server.url, "/v1/models")) == 502
        again = ScriptedUpstream()
        again.port, again.scripts = upstream.port, upstream.scripts
        again.start()
        assert asyncio.run(ask(server.url)) == (200, plain("chatcmpl-back"))
        assert asyncio.run(_status(server.url, "/health")) == 200
        again.stop()


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1:8000/v1",
        "http://engine.example/v1",
        "http://127.0.0.1.example/v1",
        "https://[2001:db8::1]/v1",
        "http://0.0.0.0/v1",
    ],
)
def test_another_machine_has_to_be_typed_out(address):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.upstream import Upstream

    with pytest.raises(ConfigurationError, match="another machine"):
        Upstream(address)
    assert Upstream(address, unsafe_remote=True).description["location"] == "remote"


@pytest.mark.parametrize(
    "address",
    ["", "unix:", "unix:x", "ftp://127.0.0.1/v1", "http:///v1", "http://127.0.0.1/v2", "127.0.0.1",
     "http://127.0.0.1:x/v1", "http://u:p@127.0.0.1/v1", "http://127.0.0.1/v1?x", "http://[::1"],
)  # fmt: skip
def test_no_address(address):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.upstream import Upstream

    with pytest.raises(ConfigurationError):
        Upstream(address, unsafe_remote=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST"])
def test_this_machine(host):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.upstream import Upstream

    for end in ("/v1", "/v1/", "", "/"):
        upstream = Upstream(f"http://{host}:8000{end}")
        assert upstream.description == {"kind": "upstream", "location": "loopback"}


def test_an_upstream_that_is_not_there_stops_the_start():
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.upstream import Upstream

    started = time.monotonic()
    with pytest.raises(EndpointUnavailable) as caught:
        asyncio.run(Upstream("http://127.0.0.1:9/v1").probe(0.6))
    assert caught.value.id == "endpoint.engine"
    assert 0.5 < time.monotonic() - started < 5


# --- what it says of itself -----------------------------------------------------------------------


@pytest.fixture
def told():
    """What comes of a server that answers everything with these pieces, one after a while."""
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.upstream import Upstream

    def go(ask, *pieces):
        async def once():
            asked = []

            async def answer(reader, writer):
                asked.append(asyncio.current_task())
                with contextlib.suppress(ConnectionError):
                    await reader.readuntil(b"\r\n\r\n")
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0.02)
                    writer.close()
                    await writer.wait_closed()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            engine = Upstream(f"http://127.0.0.1:{port}/v1")
            await engine.start()
            try:
                return await getattr(engine, ask)()
            finally:
                await engine.close()
                server.close()
                await asyncio.gather(*asked)

        return asyncio.run(once())

    return go


MODELS = b'{"object":"list","data":[{"id":"m"}]}'
CHUNKED = scripted.HEAD % (200, b"application/json") + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("end", [b"", b"0\r\n"], ids=["none", "cut"])
def test_a_list_without_its_end_is_none(told, end):
    with pytest.raises(HttpError, match="does not answer"):
        told("models", CHUNKED, scripted.chunk(MODELS), end)


def test_a_list_whose_end_comes_later(told):
    got = told("models", CHUNKED + scripted.chunk(MODELS[:9]), scripted.chunk(MODELS[9:]), ENDED)
    assert got == MODELS


def test_metrics_in_pieces(told):
    text = b"a 1\n" * 50_000
    answer = scripted.whole(text, kind=b"text/plain")
    assert told("metrics", answer[:1000], answer[1000:70_000], answer[70_000:]) == text


def test_more_than_an_engine_can_have_to_say(told, monkeypatch):
    from teeverify.enclave.engines import upstream as module

    monkeypatch.setattr(module, "_MAX_SMALL", 100)
    assert told("metrics", scripted.whole(b"x" * 60), b"") == b"x" * 60
    for piece in (b"x" * 101, b"x" * 100_000):
        with pytest.raises(HttpError, match="more than 100 bytes"):
            told("metrics", scripted.whole(piece), b"")


def test_health_whose_end_comes_later(told):
    assert told("health", CHUNKED + scripted.chunk(b"ok"), ENDED) is None
    assert "status 500" in told("health", scripted.whole(b"", status=500))


def test_a_model_that_the_upstream_does_not_have(upstream):
    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    command = [sys.executable, "-m", "teeverify.cli.main", "serve", "--simulated"]
    command += ["--even-on-a-tee", "--upstream", upstream.address, "--model", "other"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "no model of this name" in done.stderr
    assert "want default" in done.stderr


@pytest.mark.parametrize("dialect", ["dstack", "teeverify/1"])
def test_a_client_refuses_a_server_whose_engine_is_elsewhere(serve, upstream, dialect):
    """Of this machine, but not by an address that shows it."""
    from teeverify import connect
    from teeverify.errors import BindingMismatch

    pytest.importorskip("aiohttp", reason="the extra 'server' is not installed")
    address = f"http://0.0.0.0:{upstream.port}/v1"
    arguments = ("--upstream", address, "--unsafe-remote-upstream", "--dialect", dialect)
    with serve(gpus=1, arguments=arguments) as server:
        with pytest.raises(BindingMismatch) as caught:
            connect(server.url, roots=server.roots, dialect=dialect)
        assert caught.value.id == "endpoint.remote-engine"
