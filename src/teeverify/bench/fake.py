"""Endpoints without an engine: stream tokens at known times.

With no delay one shows how much load the benchmark itself can make; with a known one, whether the
benchmark finds it. All are one process, since two differ by themselves: by where the system runs
them, for as long as they run. Each token leaves at a time counted from the request's arrival, not
from the last token, so that a late timer does not add up. Noise is a function of the time of day,
so that endpoints have the same at the same moment, as two in front of one engine do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import selectors
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

__all__ = ["Timing", "fake_endpoints"]

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_MODELS = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"data": []}'
_JOIN_SECONDS = 5
# Timers are late by some hundredths of a millisecond, the later the longer they wait: this long
# before its time a token is waited for without one.
_TIMER_SECONDS = 0.0003


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds.

    Attributes:
        first: From the request's last byte to the first token.
        step: From a token to the next.
        noise: Standard deviation of what is added to ``first``: never negative, and drawn anew
            every ``noise_lasts``.
        noise_lasts: How long.
    """

    first: float = 0.0
    step: float = 0.0
    noise: float = 0.0
    noise_lasts: float = 0.25

    def first_at(self, moment: float) -> float:
        """What ``first`` is at a moment of the machine's monotonic clock."""
        if not self.noise:
            return self.first
        drawn = random.Random(int(moment / self.noise_lasts))  # noqa: S311 -- no secret
        return self.first + drawn.expovariate(1 / self.noise)


@contextlib.contextmanager
def fake_endpoints(*timings: Timing) -> Iterator[list[str]]:
    """Run one a timing, all in one process; gives their base URLs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, timings), daemon=True)
    process.start()
    theirs.close()
    try:
        yield [f"http://127.0.0.1:{port}/v1" for port in ours.recv()]
    finally:
        process.terminate()
        process.join(_JOIN_SECONDS)
        ours.close()


def _run(pipe: Connection, timings: Sequence[Timing]) -> None:
    # epoll and poll wait whole milliseconds; select waits microseconds, for up to 1,000 streams.
    exact = any(timing != Timing() for timing in timings)
    selector = selectors.SelectSelector() if exact else selectors.DefaultSelector()
    loop = asyncio.SelectorEventLoop(selector)
    with contextlib.suppress(KeyboardInterrupt):
        loop.run_until_complete(_serve(pipe, timings))


async def _serve(pipe: Connection, timings: Sequence[Timing]) -> None:
    servers = [
        await asyncio.start_server(_handler(timing), "127.0.0.1", 0, limit=2**20)
        for timing in timings
    ]
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _handler(
    timing: Timing,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*gone):
            while True:
                await _answer(reader, writer, timing)
        writer.close()

    return handle


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timing: Timing
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if lines[0].startswith("get "):
        writer.write(_MODELS)
        return
    request = json.loads(await reader.readexactly(int(fields.get("content-length", "0"))))
    loop = asyncio.get_running_loop()
    arrived, count = loop.time(), request["max_tokens"]
    first = timing.first_at(arrived)
    writer.write(_HEAD)
    for number in range(count):
        due = arrived + first + number * timing.step
        if (wait := due - _TIMER_SECONDS - loop.time()) > 0:
            await asyncio.sleep(wait)
        while loop.time() < due:  # noqa: ASYNC110 -- an event would come by a timer
            await asyncio.sleep(0)
        writer.write(_TOKEN)
        await writer.drain()
    writer.write(_last(len(request["messages"][0]["content"].split()), count))
    await writer.drain()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(**members: object) -> bytes:
    event = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", **members}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def _last(prompt: int, output: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": output}
    return _chunk(_event(choices=[], usage=usage) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


_TOKEN = _chunk(_event(choices=[{"index": 0, "delta": {"content": " token"}}]))
