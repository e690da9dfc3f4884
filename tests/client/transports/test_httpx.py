"""One transport for httpx2 and the older httpx, blocking and in an event loop."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from teeverify import ConfigurationError, EndpointUnavailable, ResponseNotVerified
from teeverify.client.network.fetch_httpx import family_of
from teeverify.client.transports import httpx as transport
from teeverify.client.transports.clients import open_async_client, open_client
from teeverify.client.transports.wishes import Wishes
from teeverify.simulator.keys import SimulatedKey

anyio = pytest.importorskip("anyio", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
PLAIN = json.dumps({"model": "default", "messages": []}).encode()
STREAM = json.dumps({"model": "default", "messages": [], "stream": True}).encode()


def change(body):
    return body.replace(b"ur.", b"rk.")


@pytest.fixture(params=["httpx2", "httpx"])
def family(request):
    return pytest.importorskip(request.param)


@pytest.fixture
def client(family, enclave, roots):
    """A client of the family, whose answers are verified."""
    with open_client(family, enclave.url, Wishes(roots=roots)) as made:
        made.base_url = enclave.url
        yield made


@pytest.fixture
def in_loop(family, enclave, roots):
    """Runs a test in an event loop, with an asynchronous client of the family."""

    def run(work, **wishes):
        async def main():
            opened = open_async_client(family, enclave.url, Wishes(roots=roots, **wishes))
            async with opened as made:
                made.base_url = enclave.url
                await work(made)

        anyio.run(main)

    return run


def test_the_family_of_a_client(family):
    class Own(family.Client):
        pass

    with Own() as client:
        assert family_of(client) is family
    with pytest.raises(ConfigurationError):
        family_of(SimpleNamespace())


def test_plain(client):
    answer = client.post("/chat/completions", content=PLAIN)
    assert answer.json()["id"] in client.gate.receipts
    assert client.gate.receipts.last.parts.response.raw == answer.content


def test_streamed(client):
    with client.stream("POST", "/chat/completions", content=STREAM) as answer:
        body = answer.read()
    assert client.gate.receipts.last.parts.response.raw == body


def test_lines_up_to_the_end(client):
    """As most programs read streams without the SDK."""
    with client.stream("POST", "/chat/completions", content=STREAM) as answer:
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                break
    assert len(client.gate.receipts) == 1


def test_a_stream_left_early(client, enclave):
    enclave.change_answer = change
    with client.stream("POST", "/chat/completions", content=STREAM) as answer:
        next(answer.iter_lines())
    assert len(client.gate.receipts) == 0


@pytest.mark.parametrize("content", [PLAIN, STREAM], ids=["plain", "streamed"])
def test_a_changed_answer(client, enclave, content):
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        client.post("/chat/completions", content=content)


def test_a_changed_stream_raises_in_the_loop(client, enclave):
    enclave.change_answer = change
    with client.stream("POST", "/chat/completions", content=STREAM) as answer:
        lines = []
        with pytest.raises(ResponseNotVerified):
            lines.extend(answer.iter_lines())


def test_a_request_that_is_made_while_it_is_sent(client):
    answer = client.post("/chat/completions", content=(PLAIN[:10], PLAIN[10:]).__iter__())
    assert client.gate.receipts[answer.json()["id"]].parts.request.raw == PLAIN


def test_another_host(client, enclave):
    with pytest.raises(ConfigurationError):
        client.post("http://127.0.0.1:1/v1/chat/completions", content=PLAIN)
    assert enclave.seen == []


def test_redirects_are_not_followed(client, enclave):
    def raw(handler, path):
        handler._json(307, b"", {"Location": "http://127.0.0.1:1/v1/chat/completions"})
        return "/chat/" in path

    client.get("/models")
    enclave.raw = raw
    with pytest.raises(EndpointUnavailable):
        client.post("/chat/completions", content=PLAIN, follow_redirects=True)


# --- in an event loop ----------


def test_plain_in_a_loop(in_loop):
    async def work(client):
        answer = await client.post("/chat/completions", content=PLAIN)
        assert answer.json()["id"] in client.gate.receipts

    in_loop(work)


@pytest.mark.parametrize("hold", [False, True])
def test_streamed_in_a_loop(in_loop, hold):
    async def work(client):
        async with client.stream("POST", "/chat/completions", content=STREAM) as answer:
            assert len(client.gate.receipts) == hold
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    break
        assert len(client.gate.receipts) == 1

    in_loop(work, hold_until_verified=hold)


@pytest.mark.parametrize("content", [PLAIN, STREAM], ids=["plain", "streamed"])
def test_a_changed_answer_in_a_loop(in_loop, enclave, content):
    enclave.change_answer = change

    async def work(client):
        with pytest.raises(ResponseNotVerified):
            await client.post("/chat/completions", content=content)
        assert len(client.gate.receipts) == 0

    in_loop(work)


def test_a_wrong_key_in_a_loop(in_loop, enclave):
    enclave.signer = SimulatedKey()

    async def work(client):
        with pytest.raises(ResponseNotVerified) as refused:
            await client.post("/chat/completions", content=PLAIN)
        assert refused.value.id == "key.attested"

    in_loop(work)


def test_a_stream_that_breaks_off_in_a_loop(in_loop, enclave):
    enclave.whole = False
    enclave.change_answer = lambda body: body[:100]

    async def work(client):
        with pytest.raises(ResponseNotVerified) as refused:
            await client.post("/chat/completions", content=STREAM)
        assert refused.value.id == "answer.complete"

    in_loop(work)


def test_a_cancelled_stream_is_abandoned(in_loop, enclave):
    enclave.cut = lambda body: body.splitlines(keepends=True)
    enclave.pause = 0.1

    async def work(client):
        with anyio.move_on_after(0.25) as scope:
            await client.post("/chat/completions", content=STREAM)
        assert scope.cancelled_caught
        assert len(client.gate.receipts) == 0
        enclave.pause = 0.0
        await client.post("/chat/completions", content=STREAM)
        assert len(client.gate.receipts) == 1

    in_loop(work)


def test_one_attestation_for_many_tasks(in_loop, enclave):
    async def work(client):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                content = STREAM if number % 2 else PLAIN
                tasks.start_soon(
                    lambda body: client.post("/chat/completions", content=body), content
                )
        assert len(client.gate.receipts) == 20
        assert len(enclave.of("/report")) == 1

    in_loop(work)


def test_a_connection_that_stays_open_in_a_loop(in_loop, enclave, monkeypatch):
    """What was signed is all there: whether the connection ends too is of no account."""
    monkeypatch.setattr(transport, "MAX_DRAIN_SECONDS", 0.2)
    ended = enclave.stay_open()

    async def work(client):
        async with client.stream("POST", "/chat/completions", content=STREAM) as answer:
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    break
        assert len(client.gate.receipts) == 1

    in_loop(work)
    ended.set()


def test_a_dead_server_in_a_loop(in_loop, enclave):
    enclave.stop()

    async def work(client):
        with pytest.raises(EndpointUnavailable):
            await client.post("/chat/completions", content=PLAIN)

    in_loop(work)
