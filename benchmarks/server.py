"""Times the enclave server against the very upstream that stands behind it, taking turns.

One fake upstream on the same stack as vLLM's own (Starlette on uvicorn), one client, SQLite on;
and on the same cores, so the ratios say more than the numbers.

Formulas: added latency per plain request = median through the server - median direct, at
concurrency 1. Added per chunk = median, over chunks, of (time of arrival - time at which the
upstream wrote it), through the server - direct. Requests per second = answers / wall time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

CHUNKS = 100
CHAT = "/v1/chat/completions"
# What vLLM 0.32's API server takes of a core for a plain answer of one token is 0.84 ms (measured);
# this upstream takes 0.1 without it.
_WORK_SECONDS = 0.0007
DONE = b"data: [DONE]\n\n"


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
    until = time.perf_counter() + _WORK_SECONDS
    while time.perf_counter() < until:
        pass
    name = f"chatcmpl-{os.urandom(16).hex()}"
    if asked.get("stream"):
        pause = 0.01 if asked.get("pause") else 0.0
        return StreamingResponse(_events(name, pause), media_type="text/event-stream")
    return JSONResponse(_whole(name))


async def _events(name: str, pause: float) -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
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

    async def ask(self, *, stream: bool, pause: bool = False) -> None:
        """One answer, read to its end."""
        flags = (b',"stream":true' if stream else b"") + (b',"pause":1' if pause else b"")
        body = b'{"model":"default","messages":[{"role":"user","content":"Hello"}]%b}' % flags
        self._writer.write(
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:20]:
            raise SystemExit(f"the server says: {head[:200]!r}")
        if not stream:
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await self._reader.readexactly(int(length))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            part = await self._reader.readexactly(size + 2)
            if pause:
                at = part.rpartition(b'"at": ')[2].partition(b"}")[0]
                if at[:1].isdigit():
                    self.delays.append(time.perf_counter() - float(at))
        await self._reader.readexactly(2)


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
    times = []
    async with connected(port) as one:
        for number in range(count + 5):
            started = time.perf_counter()
            await one.ask(stream=False)
            if number >= 5:  # noqa: PLR2004 -- to warm up
                times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


async def chunk_delay(port: int, count: int) -> float:
    """Milliseconds from the upstream's write to the client's read of a chunk: the median."""
    async with connected(port) as one:
        for _ in range(count):
            await one.ask(stream=True, pause=True)
        return statistics.median(one.delays) * 1000


async def rate(port: int, concurrency: int, count: int, *, stream: bool) -> float:
    """Answers per second."""

    async def client() -> None:
        async with connected(port) as one:
            for _ in range(count // concurrency):
                await one.ask(stream=stream)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return count // concurrency * concurrency / (time.perf_counter() - started)


# --- the report -----------------------------------------------------------------------------------


def print_server_report(rounds: int) -> None:
    """Print the table: direct, through the server, and what the server adds."""
    from teeverify.testing.server import running  # noqa: PLC0415 -- only here

    with fake_upstream() as direct, tempfile.TemporaryDirectory() as folder:
        arguments = ("--upstream", f"http://127.0.0.1:{direct}/v1")
        arguments += ("--store", str(Path(folder) / "signatures.db"))
        with running(gpus=1, arguments=arguments) as server:
            port = int(server.url.split(":")[2].split("/")[0])
            rows = asyncio.run(_measure(direct, port, rounds))
    print(f"\nThe enclave server, same fake upstream, {CHUNKS} chunks an answer, SQLite on")
    print(f"{'':34}{'direct':>10}{'through':>10}{'':>12}")
    for name, unit, through_is_ratio, values in rows:
        first, second = (statistics.median(each) for each in zip(*values, strict=True))
        verdict = f"{second / first:10.0%}" if through_is_ratio else f"{second - first:+9.2f} ms"
        print(f"{name + ', ' + unit:34}{first:10.2f}{second:10.2f}{verdict:>12}")


Row = tuple[str, str, bool, list[tuple[float, float]]]


async def _measure(direct: int, through: int, rounds: int) -> list[Row]:
    plain: Row = ("plain, concurrency 1", "ms", False, [])
    chunk: Row = ("a chunk, write to read", "ms", False, [])
    streamed: Row = ("streamed, concurrency 32", "1/s", True, [])
    many: Row = ("plain, concurrency 32", "1/s", True, [])
    for number in range(rounds):
        # In changing order, so that what warms up or tires hits both.
        ports = (direct, through) if number % 2 else (through, direct)
        for row, measure in (
            (plain, lambda port: latency(port, 200)),
            (chunk, lambda port: chunk_delay(port, 2)),
            (streamed, lambda port: rate(port, 32, 320, stream=True)),
            (many, lambda port: rate(port, 32, 1600, stream=False)),
        ):
            found = {port: await measure(port) for port in ports}
            row[3].append((found[direct], found[through]))
    return [plain, chunk, streamed, many]


if __name__ == "__main__":
    print_server_report(5)
