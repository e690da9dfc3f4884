"""Real vLLM, on the CPU, behind the server: every answer is verified by the client's own code.

`make vllm` sets it up. Its model is very small and has random weights; the engine is the real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

import teeverify
from teeverify.appraisal.observation import Outcome

from .wire import (
    CHAT,
    JSON,
    BrokenOff,
    chat_body,
    connected,
    left,
    processes_of,
    said_of,
    stated,
    verified,
)

pytestmark = [pytest.mark.network, pytest.mark.vllm]

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("TEEVERIFY_VLLM", REPOSITORY / ".venv-vllm"))
ANSWERS = int(os.environ.get("TEEVERIFY_VLLM_ANSWERS", "1000"))
AT_ONCE = 32
# On few cores its processes otherwise spin for one another (docs/server.md).
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "fork",
    "OMP_NUM_THREADS": "1",
}
ARGUMENTS = (
    "--max-model-len=2048",
    "--enforce-eager",
    "--dtype=bfloat16",
    "--distributed-executor-backend=uni",
    "--kv-cache-memory-bytes=67108864",
    "--disable-uvicorn-access-log",
)


@pytest.fixture(scope="module")
def served(serve, need):
    model = FOLDER / "tiny-model"
    if not (model / "model.safetensors").exists():
        need("vllm", f"no vLLM in {FOLDER}; 'make vllm' sets it up")
    arguments = ["--vllm", str(model), "--vllm-command", str(FOLDER / "bin/vllm")]
    arguments += [f"--vllm-argument={one}" for one in ARGUMENTS]
    arguments += ["--dialect", "dstack", "--dialect", "teeverify/1"]
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        with serve(gpus=1, arguments=tuple(arguments)) as server:
            yield server


@pytest.fixture(scope="module")
def signer(served):
    """The key that the evidence is about."""
    session = teeverify.connect(served.url, roots=served.roots, model="default", dialect="dstack")
    return session.signer


@pytest.fixture(scope="module")
def processes(served):
    return processes_of(served)


def test_the_report_names_the_engine_and_its_weights(served):
    from teeverify.enclave.engines.vllm import digest_of_weights

    async def report():
        async with connected(served.url) as wire:
            return await wire.fetch("GET", f"/v1/attestation/report?nonce={'1c' * 32}")

    status, raw = asyncio.run(report())
    assert status == 200
    assert json.loads(raw)["engine"] == {
        "kind": "vllm",
        "location": "supervised",
        "model": "default",
        "weights": digest_of_weights(FOLDER / "tiny-model"),
    }


@pytest.mark.parametrize("dialect", ["teeverify/1", "dstack"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_verifying_client_takes_its_answers(served, stream, dialect):
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    ask = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 20}
    with served.openai(max_retries=0, dialect=dialect) as client:
        answer = client.chat.completions.create(model="default", stream=stream, **ask)
        if stream:
            text = "".join(c.delta.content or "" for event in answer for c in event.choices)
        else:
            text = answer.choices[0].message.content
        assert text
        assert client.receipts.last.result.satisfied


ASKED = {
    "/v1/completions": {"prompt": "Hello", "max_tokens": 8},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 8},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8},
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("path", ASKED)
def test_every_route_is_signed(served, signer, path, stream):
    body = json.dumps({"model": "default", "stream": stream, **ASKED[path]}).encode()
    assert asyncio.run(verified(served.url, body, path=path, stream=stream))[1] == signer


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("path", ASKED)
def test_every_route_is_verified(served, path, stream):
    """In our own dialect: bytes, route, status and challenge, in the client's own way."""
    pytest.importorskip("httpx2", reason="the extra 'openai' is not installed")
    with teeverify.http_clients(served.url, roots=served.roots)["http_client"] as client:
        asked = {"model": "default", "stream": stream, **ASKED[path]}
        answer = client.post(served.url.removesuffix("/v1") + path, json=asked, timeout=120)
        assert answer.status_code == 200
        receipt = client.receipts.last
        content, _, trailer = answer.content.partition(b": teeverify/1 ")  # of a stream that flows
        assert receipt.parts.response.raw == content
        assert not trailer or stream
        assert receipt.result.finding("answer.fresh").outcome is Outcome.PROVEN


def test_several_choices_are_one_answer(served, signer):
    body = chat_body(stream=True, n=3, max_tokens=10)
    assert asyncio.run(verified(served.url, body, stream=True))[1] == signer


@pytest.mark.parametrize(
    ("members", "status"),
    [({"model": "other"}, 404), ({"max_tokens": -1}, 400), ({"messages": 1}, 400)],
)
def test_its_errors_pass_and_are_not_signed(served, members, status):
    async def ask():
        body = chat_body(stream=False, **members)
        async with connected(served.url) as wire:
            return await wire.fetch(
                "POST", "/v1/chat/completions", body, content_type="application/json"
            )

    got, answer = asyncio.run(ask())
    assert got == status
    assert "error" in json.loads(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/sleep",
        "/wake_up",
        "/start_profile",
        "/update_weights",
        "/collective_rpc",
        "/reset_prefix_cache",
        "/tokenize",
        "/v1/audio/transcriptions",
        "/inference/v1/generate",
    ],
)
def test_nothing_else_is_passed_on(served, path):
    async def ask():
        async with connected(served.url) as wire:
            return await wire.fetch("POST", path, b"{}", content_type="application/json")

    assert asyncio.run(ask())[0] == 404


def test_a_thousand_answers_in_a_row(served, processes):
    """Verified ones, plain and streamed, with cancelled ones among them: none lost, late or wrong.

    In our own dialect, 32 at a time.
    """
    chance = random.Random(9)
    seen, leavers = set(), []
    numbers = iter(range(ANSWERS))

    async def one():
        """Whether it was one to be verified."""
        length = chance.randrange(4, 40)
        kind = chance.choice(("plain", "streamed", "streamed", "cancelled"))
        if kind == "cancelled":
            body = chat_body(stream=True, max_tokens=1500, ignore_eos=True)
            leavers.append(await left(served.url, body, after=chance.randrange(1, 8)))
            return False
        stream = kind == "streamed"
        body = chat_body(stream=stream, max_tokens=length, ignore_eos=True)
        name, signer = await stated(served.url, processes, body, stream=stream)
        assert signer in processes[0].keys
        assert name not in seen
        seen.add(name)
        return True

    async def client():
        for _ in numbers:
            while not await one():
                pass

    async def together():
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        return [await said_of(served.url, name) for name in leavers]

    said = asyncio.run(together())
    assert len(seen) == ANSWERS
    assert len(said) > ANSWERS / 10
    log = served.log.read_text()
    for signed in said:
        signed.verify(processes[0].keys)
        # On a busy machine the engine's last burst can be out before it is noticed that nobody
        # reads: then it is whole.
        aborted = f"aborted: {signed.statement.upstream_id}" in log
        assert signed.statement.end == ("aborted" if aborted else "complete")
    assert sum(one.statement.end == "aborted" for one in said) > len(said) / 2


def _engine_of(server):
    """The process of the engine's API server: the child of ours."""
    listed = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return int(listed.split()[0])


def test_killed_in_mid_stream_it_breaks_the_stream_and_comes_back(served, signer, processes):
    async def kill():
        body = chat_body(stream=True, max_tokens=1500, ignore_eos=True)
        async with connected(served.url) as flat, connected(served.url) as ours:
            begun = []
            for wire, headers in ((flat, {}), (ours, {"teeverify_challenge": "ab" * 32})):
                await wire.send("POST", CHAT, body, content_type=JSON, **headers)
                assert await wire.head() == 200
                begun.append(await wire.part())
            os.kill(_engine_of(served), signal.SIGKILL)
            for wire in (flat, ours):
                with pytest.raises((BrokenOff, ConnectionError, asyncio.IncompleteReadError)):
                    await wire.until(b"data: [DONE]\n\n")
            signed = await said_of(served.url, ours.headers["teeverify-id"])
            signed.verify(processes[0].keys)
            assert signed.statement.end == "aborted"
        async with connected(served.url) as wire:
            answer_id = json.loads(begun[0].split(b"\n\n")[0].removeprefix(b"data: "))["id"]
            assert (await wire.fetch("GET", f"/v1/signature/{answer_id}"))[0] == 404
            assert (await wire.fetch("GET", "/health"))[0] == 503
            down = await wire.fetch("POST", CHAT, chat_body(stream=False))
            assert down[0] == 502

    asyncio.run(kill())
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if asyncio.run(_health(served.url)) == 200:
            break
        time.sleep(0.5)
    body = chat_body(stream=True, max_tokens=5)
    assert asyncio.run(verified(served.url, body, stream=True))[1] == signer


async def _health(url):
    async with connected(url) as wire:
        return (await wire.fetch("GET", "/health"))[0]
