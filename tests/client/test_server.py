"""The clients against the reference server, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
import requests

import teeverify
from teeverify.testing import start

pytest.importorskip("openai", reason="the extra 'openai' is not installed")
anyio = pytest.importorskip("anyio")
pytestmark = pytest.mark.network
ASK = {"model": "default", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("starlette", reason="the extra 'server' is not installed")
    with start(gpus=2) as running:
        yield running


def test_a_session(server):
    session = teeverify.connect(server.url, model=server.model, roots=server.roots)
    for stream in (False, True):
        body = json.dumps({**ASK, "stream": stream}).encode()
        answer = requests.post(f"{server.url}/chat/completions", data=body, timeout=20)
        receipt = session.verify_response(response=answer)
        assert receipt.signer == session.signer


def test_a_client_and_its_receipts(server, tmp_path):
    with server.openai() as client:
        plain = client.chat.completions.create(**ASK)
        for _ in client.chat.completions.create(**ASK, stream=True):
            pass
        assert len(client.receipts) == 2
        client.receipts[plain.id].save(tmp_path / "receipt.json", include="bytes")
    command = [sys.executable, "-m", "teeverify.cli.main", "verify", "--offline"]
    command += ["--unsafe-test-roots", str(server.roots_file), str(tmp_path / "receipt.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SIMULATED.")


def test_threads(server):
    with server.openai() as client:

        def work():
            for _ in client.chat.completions.create(**ASK, stream=True):
                pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.receipts) == 4


def test_an_event_loop(server):
    async def main():
        async with teeverify.AsyncOpenAI(
            base_url=server.url, api_key="unused", roots=server.roots
        ) as client:
            await client.chat.completions.create(**ASK)
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
            assert len(client.receipts) == 2

    anyio.run(main)


def test_the_address_on_the_command_line(server):
    def run(*options):
        command = [sys.executable, "-m", "teeverify.cli.main", "verify", server.url, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--unsafe-test-roots", str(server.roots_file)).returncode == 0
    assert run().returncode == 2
    assert run("--offline").returncode == 64


def test_a_server_that_is_another_one_now(server):
    """Another process has other simulated vendors: no session goes on with it."""
    with start(gpus=2) as other, server.openai() as client:
        client.chat.completions.create(**ASK)
        session = teeverify.connect(server.url, roots=server.roots)
        body = json.dumps(ASK).encode()
        answer = requests.post(f"{other.url}/chat/completions", data=body, timeout=20)
        name = answer.json()["id"]
        signature = requests.get(f"{other.url}/signature/{name}", timeout=20).content
        with pytest.raises(teeverify.ResponseNotVerified):
            session.verify_response(response=answer, signature=signature)
