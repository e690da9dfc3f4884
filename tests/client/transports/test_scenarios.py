"""The SDK's usual scenarios: every answer verified, each attempt with its own receipt."""

from __future__ import annotations

import json
import time

import pytest

import teeverify
from teeverify.testing import start

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
anyio = pytest.importorskip("anyio")
pytestmark = pytest.mark.network
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is two and two?"}]}
TOOLS = [{"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}]
CALL = {"tools": TOOLS, "tool_choice": "required"}
SCENARIOS = {
    "plain": {},
    "stream": {"stream": True},
    "tools": CALL,
    "tools, streamed": {**CALL, "stream": True},
    "JSON mode": {"response_format": {"type": "json_object"}},
    "two choices": {"n": 2},
    "two choices, streamed": {"n": 2, "stream": True},
}


def run(client, **asked):
    """Ask, and read to the end; the answer's ids."""
    answer = client.chat.completions.create(**ASK, **asked)
    return {chunk.id for chunk in answer} if asked.get("stream") else {answer.id}


def own(receipts, sent):
    """Every receipt has its own request and its own signer's attestation."""
    for name in receipts:
        receipt = receipts[name]
        assert receipt.parts.request.raw in sent
        assert receipt.result.signer == receipt.signer
    return len(receipts)


@pytest.mark.parametrize("asked", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario(enclave, openai_client, asked):
    client = openai_client()
    (name,) = run(client, **asked)
    sent = [body for _, _, _, body in enclave.of("/chat/")]
    assert own(client.receipts, sent) == len(sent) == 1
    assert name in client.receipts


@pytest.mark.parametrize("asked", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_with_a_changed_answer(enclave, openai_client, asked):
    enclave.change_answer = lambda body: body.replace(b"default", b"defuult", 1)
    client = openai_client()
    with pytest.raises(teeverify.ResponseNotVerified):
        run(client, **asked)
    assert len(client.receipts) == 0


@pytest.mark.parametrize("status", [500, 0], ids=["after a 500", "after a dropped connection"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_retry(enclave, openai_client, middle, status, stream):
    """The SDK asks again; the attempt that was answered has the receipt."""
    relay = middle(enclave.url)
    faults = [status]
    relay.before = lambda path: faults.pop() if faults and "/chat/" in path else None
    client = openai_client(base_url=relay.url, max_retries=1)
    run(client, stream=stream)
    assert faults == []
    sent = [body for _, _, _, body in enclave.of("/chat/")]
    assert own(client.receipts, sent) == 1


def test_a_retry_after_half_an_answer(enclave, openai_client, middle):
    relay = middle(enclave.url)
    broken = [True]

    def half(body):
        return [body[: len(body) // 2]] if broken.pop() else [body]

    relay.cut = half
    broken.insert(0, False)
    relay.whole = False
    client = openai_client(base_url=relay.url, max_retries=1)
    run(client)
    sent = [body for _, _, _, body in enclave.of("/chat/")]
    assert len(sent) == 2  # both were answered and signed; one of them got through
    assert own(client.receipts, sent) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_timeout(enclave, openai_client, stream):
    client = openai_client(max_retries=0)
    run(client)
    enclave.pause = 1.0
    enclave.cut = lambda body: body.splitlines(keepends=True)

    def slow(handler, path):
        if "/chat/" in path and not stream:
            time.sleep(1.0)
        return False

    enclave.raw = slow
    with pytest.raises((openai.APITimeoutError, teeverify.TeeVerifyError)):
        run(client, stream=stream, timeout=0.3)
    assert len(client.receipts) == 1


def test_a_hundred_at_once(enclave, roots):
    async def main():
        async with teeverify.AsyncOpenAI(
            base_url=enclave.url, api_key="x", roots=roots, max_retries=0
        ) as client:

            async def one(number):
                asked = {"stream": True} if number % 2 else {}
                messages = [{"role": "user", "content": f"question {number}"}]
                answer = await client.chat.completions.create(
                    model="default", messages=messages, **asked
                )
                if number % 2:
                    async for _ in answer:
                        pass

            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(one, number)
            return client.receipts

    receipts = anyio.run(main)
    sent = [body for _, _, _, body in enclave.of("/chat/")]
    assert own(receipts, sent) == len(set(sent)) == 100
    assert len({receipts[name].parts.request.raw for name in receipts}) == 100
    assert len(enclave.of("/report")) == 1


def test_a_cancelled_call_leaves_the_others_alone(enclave, roots):
    enclave.cut = lambda body: body.splitlines(keepends=True)
    enclave.pause = 0.02

    async def main():
        async with teeverify.AsyncOpenAI(
            base_url=enclave.url, api_key="x", roots=roots, max_retries=0
        ) as client:

            async def one(seconds):
                with anyio.move_on_after(seconds):
                    async for _ in await client.chat.completions.create(**ASK, stream=True):
                        pass

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(one, 0.05 if number % 2 else 20)
            assert len(client.receipts) == 5
            await one(20)
            assert len(client.receipts) == 6

    anyio.run(main)


# --- the reference server ----------


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("starlette", reason="the extra 'server' is not installed")
    with start(gpus=2) as running:
        yield running


@pytest.fixture
def through(server, middle):
    """A client of the reference server, with somebody on the way who can do it harm."""
    relay = middle(server.url)
    given = {"base_url": relay.url, "api_key": "x", "roots": server.roots}
    with teeverify.OpenAI(**given, max_retries=2) as client:
        relay.client = client
        relay.sent = []
        relay.change_request = lambda body: relay.sent.append(body) or body
        yield relay


def read(client, **asked):
    """What each choice says: its text, and the names of the tools that it calls."""
    stream = asked.get("stream", False)
    answer = client.chat.completions.create(**ASK, max_tokens=8, **asked)
    said: dict[int, tuple[list, list]] = {}
    for part in answer if stream else [answer]:
        for choice in part.choices:
            texts, calls = said.setdefault(choice.index, ([], []))
            message = choice.delta if stream else choice.message
            texts.append(message.content or "")
            calls += [call.function.name for call in message.tool_calls or [] if call.function.name]
    return {index: ("".join(texts), calls) for index, (texts, calls) in said.items()}


@pytest.mark.parametrize("asked", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_of_the_reference_server(through, asked):
    said = read(through.client, **asked)
    assert sorted(said) == list(range(asked.get("n", 1)))
    assert [calls for _, calls in said.values()] == [["pay"] if "tools" in asked else []] * len(
        said
    )
    if "response_format" in asked:
        json.loads(said[0][0])
    assert own(through.client.receipts, through.sent) == len(through.sent) == 1


@pytest.mark.parametrize("asked", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_of_the_reference_server_with_a_changed_answer(through, asked):
    through.change_answer = lambda body: body.replace(b"default", b"defuult", 1)
    with pytest.raises(teeverify.ResponseNotVerified):
        read(through.client, **asked)
    assert len(through.client.receipts) == 0


@pytest.mark.parametrize("asked", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("status", [500, 0], ids=["after a 500", "after a dropped connection"])
def test_a_retry_at_the_reference_server(through, asked, status):
    faults = [status]
    through.before = lambda path: faults.pop() if faults and "/chat/" in path else None
    read(through.client, **asked)
    assert faults == []
    assert own(through.client.receipts, through.sent) == 1


def test_a_retry_after_half_an_answer_of_the_reference_server(through):
    """Both attempts were answered and signed; only the one that got through has a receipt."""
    whole = [True, False]  # the last comes first
    through.cut = lambda body: [body if whole.pop() else body[: len(body) // 2]]
    through.whole = False  # the connection ends then
    read(through.client)
    assert len(through.sent) == 2
    assert own(through.client.receipts, through.sent) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_timeout_at_the_reference_server(through, stream):
    client = through.client.with_options(max_retries=0)
    read(client, stream=stream)
    through.before = lambda path: time.sleep(1.0) if "/chat/" in path else None
    with pytest.raises(openai.APITimeoutError):
        read(client, stream=stream, timeout=0.3)
    assert len(client.receipts) == 1
    through.before = lambda path: None
    read(client, stream=stream)
    assert len(client.receipts) == 2


def test_a_cancelled_call_of_the_reference_server(server):
    async def main():
        given = {"base_url": server.url, "api_key": "x", "roots": server.roots}
        async with teeverify.AsyncOpenAI(**given, max_retries=0) as client:

            async def one(number):
                asked = {**ASK, "max_tokens": 400 if number % 2 else 4, "stream": True}
                first = True
                with anyio.CancelScope() as scope:
                    async for _ in await client.chat.completions.create(**asked):
                        if first and number % 2:
                            scope.cancel()
                        first = False

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(one, number)
            assert len(client.receipts) == 5
            await one(0)
            assert len(client.receipts) == 6

    anyio.run(main)


def test_a_hundred_at_once_of_the_reference_server(server):
    async def main():
        async with teeverify.AsyncOpenAI(
            base_url=server.url, api_key="x", roots=server.roots
        ) as client:

            async def one(number):
                asked = {"model": server.model, "max_tokens": 4, "stream": bool(number % 2)}
                messages = [{"role": "user", "content": f"question {number}"}]
                answer = await client.chat.completions.create(messages=messages, **asked)
                if number % 2:
                    async for _ in answer:
                        pass

            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(one, number)
            return client.receipts

    receipts = anyio.run(main)
    assert len(receipts) == 100
    requests = [receipts[name].parts.request.raw for name in receipts]
    assert len(set(requests)) == 100
    for name in receipts:
        assert receipts[name].result.signer == receipts[name].signer
