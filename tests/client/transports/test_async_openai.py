"""``teeverify.AsyncOpenAI``: the same as the blocking one, without blocking."""

from __future__ import annotations

import pytest

from teeverify import (
    ConfigurationError,
    EndpointUnavailable,
    EvidenceError,
    ResponseNotVerified,
    TeeVerifyError,
)
from teeverify.client.transports import httpx as transport

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
anyio = pytest.importorskip("anyio")
pytestmark = pytest.mark.network


@pytest.fixture
def in_loop(enclave, roots):
    """Runs a test in an event loop, with a client of the stub."""

    def run(work, **options):
        from teeverify import AsyncOpenAI

        async def main():
            given = {"base_url": enclave.url, "api_key": "sk-canary", "roots": roots, **options}
            async with AsyncOpenAI(**given) as client:
                await work(client)

        anyio.run(main)

    return run


def ask(client, *, stream=False, text="What is two and two?"):
    return client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": text}], stream=stream
    )


async def read(stream):
    return [chunk.choices[0].delta.content async for chunk in await stream]


def change(body):
    return body.replace(b"ur.", b"rk.")


def test_plain_and_streamed(in_loop, enclave):
    async def work(client):
        reply = await ask(client)
        assert reply.choices[0].message.content == "Four."
        assert reply.id in client.receipts
        assert await read(ask(client, stream=True)) == ["Fo", "ur."]
        assert len(client.receipts) == 2
        assert [model.id async for model in client.models.list()] == ["default"]

    in_loop(work)
    assert len(enclave.of("/report")) == 1


def test_held(in_loop):
    async def work(client):
        stream = await ask(client, stream=True)
        assert len(client.receipts) == 1
        await stream.close()

    in_loop(work, hold_until_verified=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_changed_answer(in_loop, enclave, stream):
    enclave.change_answer = change

    async def work(client):
        with pytest.raises(ResponseNotVerified):
            await read(ask(client, stream=True)) if stream else await ask(client)
        assert len(client.receipts) == 0
        assert len(enclave.of("/chat/")) == 1

    in_loop(work)


def test_an_end_that_is_none(in_loop, enclave):
    """The SDK stops at it as if all were well."""
    enclave.change_answer = lambda body: body.replace(b"[DONE]", b"[DONE]!")

    async def work(client):
        with pytest.raises(ResponseNotVerified):
            await read(ask(client, stream=True))

    in_loop(work)


def test_a_tail_that_comes_later_than_the_sdk_waits(in_loop, enclave):
    """The SDK reads on for a tenth of a second; the rest of what was signed may take longer."""
    answer = enclave.answer

    def with_tail(body):
        name, text, stream = answer(body)
        return name, text + b"\n", stream

    enclave.answer = with_tail
    enclave.cut = lambda body: [body[:-1], body[-1:]]
    enclave.pause = 0.3

    async def work(client):
        assert await read(ask(client, stream=True)) == ["Fo", "ur."]
        assert client.receipts.last.parts.response.raw.endswith(b"[DONE]\n\n\n")

    in_loop(work)


def test_an_abandoned_stream(in_loop, enclave):
    enclave.change_answer = change

    async def work(client):
        stream = await ask(client, stream=True)
        async for _ in stream:
            break
        await stream.close()
        async with await ask(client, stream=True) as stream:
            await anext(stream)
        assert len(client.receipts) == 0
        assert enclave.of("/signature/") == []

    in_loop(work)


def test_a_cancelled_stream(in_loop, enclave, monkeypatch):
    monkeypatch.setattr(transport, "MAX_DRAIN_SECONDS", 0.3)
    enclave.cut = lambda body: body.splitlines(keepends=True)
    enclave.pause = 0.05

    async def work(client):
        for seconds in (0.01, 0.06, 0.12, 0.18):
            with anyio.move_on_after(seconds):
                await read(ask(client, stream=True))
        assert len(client.receipts) == 0
        await read(ask(client, stream=True))
        assert len(client.receipts) == 1

    in_loop(work)


def test_many_at_once(in_loop, enclave):
    async def work(client):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(read, ask(client, stream=True, text=f"question {number}"))
        assert len(client.receipts) == 10

    in_loop(work)
    assert len(enclave.of("/report")) == 1


def test_a_server_started_anew(in_loop, enclave):
    async def work(client):
        await ask(client)
        enclave.restart()
        await ask(client)
        assert client.receipts.last.signer == enclave.key.key

    in_loop(work)


@pytest.mark.parametrize("options", [{"roots": None}, {"policy": "strict"}])
def test_nothing_leaves_before_the_policy_is_satisfied(in_loop, enclave, options):
    async def work(client):
        with pytest.raises(TeeVerifyError):
            await ask(client, text="the-prompt")

    in_loop(work, **options)
    assert "the-prompt" not in repr(enclave.seen)
    assert "sk-canary" not in repr(enclave.seen)


def test_a_dead_server(in_loop, enclave):
    enclave.stop()

    async def work(client):
        with pytest.raises(EndpointUnavailable):
            await ask(client)

    in_loop(work)


def test_errors_are_the_sdks_own(in_loop, enclave):
    async def work(client):
        await ask(client)
        enclave.statuses = [400]
        with pytest.raises(openai.BadRequestError):
            await ask(client)
        enclave.statuses = [500]
        await ask(client)

    in_loop(work, max_retries=1)


def test_no_side_door(in_loop, enclave):
    import httpx2

    async def work(client):
        async with httpx2.AsyncClient() as other:
            with pytest.raises(ConfigurationError):
                client.with_options(http_client=other)
        copy = client.with_options(max_retries=0)
        await ask(copy)
        assert len(client.receipts) == 1
        with pytest.raises(ConfigurationError):
            await client.responses.create(model="default", input="x")

    in_loop(work)


def test_evidence_of_other_roots(in_loop, other_tee):
    from teeverify import UnsafeTestRoots

    async def work(client):
        with pytest.raises(EvidenceError):
            await ask(client)

    in_loop(work, roots=UnsafeTestRoots([other_tee.roots_pem()]))
