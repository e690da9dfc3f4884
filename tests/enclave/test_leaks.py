"""What an exchange leaves behind in the server: nothing, not even for the garbage collector.

Cycles would be found only by its full turns, which under load are many minutes apart.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from .wire import CHAT, cancelled, chat_body, connected, verified

pytestmark = pytest.mark.network

COUNTING = """
import gc, sys, threading, weakref
from teeverify.cli.main import main

gc.disable()

def count():
    for _ in sys.stdin:
        # Python's sqlite3 drops its dead weak references only after 200 statements.
        print(sum(type(one) is not weakref.ref for one in gc.get_objects()), flush=True)

threading.Thread(target=count, daemon=True).start()
sys.exit(main(["serve", "--simulated", "--even-on-a-tee", "--gpus", "1", *sys.argv[1:]]))
"""
WARM_UP, TIMES = 15, 40
SETTLE_SECONDS = 0.5
# Of all of them together: where one exchange leaves anything, there are as many.
MOST = TIMES // 2


@pytest.fixture(scope="module")
def counting(serve, tmp_path_factory):
    """A server without a garbage collector, and what counts its objects."""
    store = tmp_path_factory.mktemp("store") / "s.db"
    with serve(gpus=1) as engine:
        arguments = ["--upstream", engine.url, "--store", str(store)]
        arguments += ["--dialect", "dstack", "--dialect", "teeverify/1"]
        command = [sys.executable, "-c", COUNTING, *arguments]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ,
        ) as process:
            url = process.stdout.readline().strip()
            process.stdout.readline()

            def count():
                time.sleep(SETTLE_SECONDS)
                process.stdin.write("\n")
                process.stdin.flush()
                return int(process.stdout.readline())

            try:
                yield url, count
            finally:
                process.kill()


async def plain(url, number):
    await verified(url, chat_body(stream=False, max_tokens=3, seed=number), stream=False)


async def streamed(url, number):
    await verified(url, chat_body(stream=True, max_tokens=9, seed=number), stream=True)


async def left(url, number):
    await cancelled(url, chat_body(stream=True, max_tokens=100, seed=number), after=3)


async def status(url, method, path, body=b"", **headers):
    async with connected(url) as wire:
        return (await wire.fetch(method, path, body, **headers))[0]


async def refused(url, number):
    assert await status(url, "POST", CHAT, b'{"number": %d}' % number) == 400


async def unknown(url, number):
    assert await status(url, "GET", f"/v1/signature/chatcmpl-{number}") == 404


async def reported(url, number):
    assert await status(url, "GET", f"/v1/attestation/report?nonce={number:064x}") == 200


async def challenged(url, number):
    """In ``teeverify/1``, whole and left in mid-stream, which it says too."""
    for tokens, parts in ((5, 100), (100, 3)):
        body = chat_body(stream=True, max_tokens=tokens, seed=number)
        async with connected(url) as wire:
            await wire.send("POST", CHAT, body, teeverify_challenge=f"{number:064x}")
            assert await wire.head() == 200
            for _ in range(parts):
                if not await wire.part():
                    break


async def half_sent(url, number):
    """A client that leaves before its request is whole."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {100 + number}\r\n\r\n"
    async with connected(url) as wire:
        wire._writer.write(head.encode() + b"half")
        await wire._writer.drain()


EXCHANGES = [plain, streamed, left, refused, unknown, reported, challenged, half_sent]


@pytest.mark.skipif(sys.platform == "win32", reason="its counts are of another event loop")
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_nothing_is_left_of_an_exchange(counting, exchange):
    url, count = counting

    def after(times):
        async def go():
            for number in range(times):
                await exchange(url, number)

        asyncio.run(go())
        return count()

    before = after(WARM_UP)
    assert after(TIMES) - before < MOST
