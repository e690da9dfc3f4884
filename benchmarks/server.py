"""Times the enclave server against the very upstream that stands behind it, taking turns.

    python -m benchmarks.server

One fake upstream on the same stack as vLLM's own (Starlette on uvicorn), one client, SQLite on;
and on the same cores, so the ratios say more than the numbers. The server speaks what it speaks
unless told: ``teeverify/1``, with two signatures of each answer.

Formulas, each the median over rounds with the lowest and the highest. Added latency of a plain
answer: median through the server - median direct, at concurrency 1. Added to the first byte: the
same for the time from a request's last byte to the first byte of a stream's content, one by one in
turns; its intervals are the bootstrap's, 95 %. Added to a chunk: median, over chunks, of (time of
arrival - time at which the upstream wrote it), through the server - direct. Answers per second:
answers / wall time, at concurrency 32.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from teeverify.testing.server import RunningServer, running

CHUNKS = 100
CHAT = "/v1/chat/completions"
# What vLLM 0.32's API server takes of a core for a plain answer of one token is 0.84 ms (measured);
# this upstream takes 0.1 without it.
_WORK_SECONDS = 0.0007
DONE = b"data: [DONE]\n\n"
_MESSAGES = [{"role": "user", "content": "Hello"}]
_WARM_UP = 5
_RESAMPLES = 1000


# --- the upstream ---------------------------------------------------------------------------------


def _event(name: str, at: float) -> bytes:
    delta = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    event = {
        "id": name,
        "object": "chat.completion.chunk",
        "created": 1795394429,
        "model": "default",
        "choices": [delta],
        "at": at,
    }
    return f"data: {json.dumps(event)}\n\n".encode()


def _whole(name: str) -> dict[str, object]:
    message = {"role": "assistant", "content": " word" * CHUNKS}
    return {
        "id": name,
        "object": "chat.completion",
        "created": 1795394429,
        "model": "default",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS},
    }


async def _chat(request: Request) -> Response:
    """Answer as vLLM's own API server does: read JSON, write JSON, one event a token."""
    asked = await request.json()
    if not asked.get("bare"):
        until = time.thread_time() + _WORK_SECONDS
        while time.thread_time() < until:
            pass
    name = f"chatcmpl-{os.urandom(16).hex()}"
    if asked.get("stream"):
        pause = 0.01 if asked.get("pause") else 0.0
        events = _events(name, pause, asked.get("max_tokens", CHUNKS))
        return StreamingResponse(events, media_type="text/event-stream")
    return JSONResponse(_whole(name))


async def _events(name: str, pause: float, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield _event(name, time.perf_counter())
        await asyncio.sleep(pause)  # each token leaves on its own, as an engine's do
    yield DONE


async def _models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "default", "object": "model"}]})


def _serve_upstream(ready: Pipe) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    ready.send(listening.getsockname()[1])
    routes = [Route(CHAT, _chat, methods=["POST"]), Route("/v1/models", _models)]
    config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_level="error")
    uvicorn.Server(config).run(sockets=[listening])


@contextlib.contextmanager
def fake_upstream() -> Iterator[int]:
    """A fake engine in a process of its own; gives its port."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve_upstream, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # where it dies, nothing is waited for
    try:
        yield mine.recv()
    finally:
        process.kill()
        process.join()


# --- the client -----------------------------------------------------------------------------------


class Kept:
    """A kept connection that reads answers to their end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.delays: list[float] = []

    async def ask(self, **members: object) -> float:
        """One answer, read to its end; the seconds to the first byte of its content."""
        body = json.dumps({"model": "default", "messages": _MESSAGES, **members}).encode()
        started = time.perf_counter()
        self._writer.write(
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:20]:
            raise SystemExit(f"the server says: {head[:200]!r}")
        if not members.get("stream"):
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await self._reader.readexactly(int(length))
            return time.perf_counter() - started
        first = None
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            part = await self._reader.readexactly(size + 2)
            first = first or time.perf_counter() - started
            at = part.rpartition(b'"at": ')[2].partition(b"}")[0]
            if at[:1].isdigit():
                self.delays.append(time.perf_counter() - float(at))
        await self._reader.readexactly(2)
        return first or 0.0


def port_of(url: str) -> int:
    """The port of a server on this machine."""
    return int(url.split(":")[2].partition("/")[0])


@contextlib.contextmanager
def serving(upstream: int, *, dialect: str = "teeverify/1") -> Iterator[RunningServer]:
    """A server before an upstream, as the field's proxies are, with its store on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "signatures.db")
        arguments = ("--upstream", f"http://127.0.0.1:{upstream}/v1", "--store", store)
        with running(gpus=1, arguments=(*arguments, "--dialect", dialect)) as server:
            yield server


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Kept]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Kept(reader, writer)
    finally:
        writer.close()


async def latency(port: int, count: int) -> float:
    """Milliseconds of one plain answer, one at a time: the median."""
    async with connected(port) as one:
        times = [await one.ask() for _ in range(count + _WARM_UP)]
    return statistics.median(times[_WARM_UP:]) * 1000


async def chunk_delay(port: int, count: int) -> float:
    """Milliseconds from the upstream's write to the client's read of a chunk: the median."""
    async with connected(port) as one:
        for _ in range(count):
            await one.ask(stream=True, pause=True)
        return statistics.median(one.delays) * 1000


async def first_bytes(direct: int, through: int, count: int) -> list[tuple[float, float]]:
    """Milliseconds to the first byte of a stream's content, direct and through, in turns."""
    async with connected(direct) as one, connected(through) as other:
        pairs = [
            [await each.ask(stream=True, max_tokens=2) * 1000 for each in (one, other)]
            for _ in range(count + _WARM_UP)
        ]
    return [(first, second) for first, second in pairs[_WARM_UP:]]


async def rate(port: int, concurrency: int, count: int, **members: object) -> float:
    """Answers per second."""

    async def client() -> None:
        async with connected(port) as one:
            for _ in range(count // concurrency):
                await one.ask(**members)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return count // concurrency * concurrency / (time.perf_counter() - started)


# --- the report -----------------------------------------------------------------------------------


@dataclass
class _Row:
    """What is measured in each round, direct and through.

    Attributes:
        name: What it is.
        bound: Most milliseconds that may be added, or the least share of the rate; none: no bound.
        measure: How, for a port.
        is_rate: Whether it is answers per second.
        values: What was found.
    """

    name: str
    bound: float | None
    measure: Callable[[int], Awaitable[float]]
    is_rate: bool = False
    values: list[tuple[float, float]] = field(default_factory=list)

    def show(self) -> str:
        """Its line."""
        first, second = (statistics.median(each) for each in zip(*self.values, strict=True))
        each = [b / a if self.is_rate else b - a for a, b in self.values]
        found, form = statistics.median(each), "{:.0%}" if self.is_rate else "{:+.2f}"
        spread = f"{form.format(min(each))} to {form.format(max(each))}"
        line = f"{self.name:36}{first:9.2f}{second:9.2f}  {form.format(found):>6} ({spread})"
        if self.bound is None:
            return line
        good = found >= self.bound if self.is_rate else found <= self.bound
        limit = f"at least {self.bound:.0%}" if self.is_rate else f"at most {self.bound} ms"
        return f"{line}; {limit}: {_word(good)}"


def _rows() -> list[_Row]:
    return [
        _Row("plain, concurrency 1, ms", 1.5, lambda port: latency(port, 200)),
        _Row("a chunk, write to read, ms", 0.3, lambda port: chunk_delay(port, 2)),
        _Row("streamed, 32, 1/s", 0.6, lambda port: rate(port, 32, 320, stream=True), is_rate=True),
        _Row("plain, 32, 1/s", 0.4, lambda port: rate(port, 32, 1600), is_rate=True),
        _Row(
            "plain, 32, upstream without work, 1/s",
            None,
            lambda port: rate(port, 32, 1600, bare=True),
            is_rate=True,
        ),
    ]


def print_server_report(rounds: int) -> None:
    """Print the table: direct, through the server, what the server adds, and its bounds."""
    with fake_upstream() as direct, serving(direct) as server:
        rows, pairs = asyncio.run(_measure(direct, port_of(server.url), rounds))
    print(f"\nThe enclave server, same fake upstream, {CHUNKS} chunks an answer, SQLite on")
    print(f"{'':36}{'direct':>9}{'through':>9}   added, or share (lowest to highest round)")
    for row in rows:
        print(row.show())
    for name, bound, of in (
        ("median", 2.0, statistics.median),
        ("99th percentile", None, lambda values: sorted(values)[len(values) * 99 // 100]),
    ):
        _print_first_byte(pairs, name, bound, of)


async def _measure(
    direct: int, through: int, rounds: int
) -> tuple[list[_Row], list[tuple[float, float]]]:
    rows, pairs = _rows(), []
    for number in range(rounds):
        # In changing order, so that what warms up or tires hits both.
        ports = (direct, through) if number % 2 else (through, direct)
        for row in rows:
            found = {port: await row.measure(port) for port in ports}
            row.values.append((found[direct], found[through]))
        pairs += await first_bytes(direct, through, 100)
    return rows, pairs


def _print_first_byte(
    pairs: list[tuple[float, float]],
    name: str,
    bound: float | None,
    of: Callable[[list[float]], float],
) -> None:
    """Print a statistic of the times to the first byte, and what is added to it."""

    def added(some: list[tuple[float, float]]) -> float:
        return of([second for _, second in some]) - of([first for first, _ in some])

    chance = random.Random(1)  # noqa: S311 -- for the bootstrap
    again = sorted(added(chance.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    low, high = again[_RESAMPLES // 40], again[-_RESAMPLES // 40]
    first, second = (of(list(each)) for each in zip(*pairs, strict=True))
    line = f"{f'first byte, {name}, ms':36}{first:9.2f}{second:9.2f}"
    line += f"  {second - first:+6.2f} ({low:+.2f} to {high:+.2f})"
    verdict = "" if bound is None else f"; at most {bound} ms: {_word(high <= bound)}"
    print(line + verdict)


def _word(good: bool) -> str:  # noqa: FBT001 -- its only argument
    return "pass" if good else "FAIL"


if __name__ == "__main__":
    print_server_report(5)
