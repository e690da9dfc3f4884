"""Times requests that all arrive at once, as the waves of a batching engine make them.

    python -m benchmarks.burst --streams 32 --waves 40

The upstream waits until it has all requests of a wave, then streams to all of them in lockstep and
ends them together. It costs next to nothing itself, so that what is seen is the server's.

Formulas, each the median over waves, through the server and direct: to the engine = arrival of the
last request there - first write of the clients; first chunk = its arrival at the last client - the
upstream's first write; end = as the first chunk, for the terminal event. CPU = what the server's
process took (all threads, /proc/PID/stat) / requests.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from benchmarks.server import CHAT, DONE, port_of, serving

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = b'{"object":"list","data":[{"id":"default","object":"model"}]}'
_EVENT = b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","choices":[]}\n\n'
_PAUSE = 0.02
_WARM_UP = 3


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Engine(asyncio.Protocol):
    """One connection of the upstream; ``waiting`` holds those of the wave."""

    def __init__(self, waiting: list[_Engine], arrived: asyncio.Event, size: int) -> None:
        self._waiting, self._arrived, self._size = waiting, arrived, size
        self._data = b""
        self.at = 0.0
        self.event = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not found or len(body) < int(length or 0):
            return
        self._data = b""
        if head.startswith(b"GET"):
            whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
            self.transport.write(whole % (len(_MODELS), _MODELS))
            return
        self.at = time.perf_counter()
        self.event = _EVENT % os.urandom(16).hex().encode()
        self._waiting.append(self)
        if len(self._waiting) == self._size:
            self._arrived.set()


async def _engine(ready: Pipe, size: int, chunks: int) -> None:
    waiting: list[_Engine] = []
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    await loop.create_server(lambda: _Engine(waiting, arrived, size), sock=listening)
    ready.send(listening.getsockname()[1])
    while True:
        await arrived.wait()
        arrived.clear()
        wave, waiting[:] = waiting[:], []
        await asyncio.sleep(_PAUSE)
        first = time.perf_counter()
        for one in wave:
            one.transport.write(_HEAD + _chunk(one.event))
        for _ in range(chunks):
            await asyncio.sleep(_PAUSE)
            for one in wave:
                one.transport.write(_chunk(one.event))
        await asyncio.sleep(_PAUSE)
        last = time.perf_counter()
        for one in wave:
            one.transport.write(_chunk(DONE) + b"0\r\n\r\n")
        ready.send((max(one.at for one in wave), first, last))


def _serve_engine(ready: Pipe, size: int, chunks: int) -> None:
    import uvloop  # noqa: PLC0415 -- in the process that uses it

    uvloop.run(_engine(ready, size, chunks))


class _Client(asyncio.Protocol):
    """One connection of a client; notes when the first event and the last are there."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.done = asyncio.Event()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, body: bytes) -> None:
        """Send a request, and forget the last answer."""
        self.first, self._tail = 0.0, b""
        self.done.clear()
        head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += b"content-length: %d\r\n\r\n"
        self.transport.write(head % (CHAT.encode(), len(body)) + body)

    def data_received(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-400:]
        if not self.first and b"data: {" in self._tail:
            self.first = time.perf_counter()
        if self._tail.endswith(b"0\r\n\r\n"):
            if DONE not in self._tail:
                raise SystemExit(f"an answer without an end: {self._tail!r}")
            self.last = time.perf_counter()
            self.done.set()


@dataclass(frozen=True)
class Wave:
    """What one wave took, in milliseconds."""

    to_engine: float
    first_chunk: float
    end: float


async def _waves(port: int, ready: Pipe, size: int, count: int) -> list[Wave]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(_Client, "127.0.0.1", port) for _ in range(size)]
    clients = [client for _, client in made]
    words = "word " * 100
    body = b'{"model":"default","stream":true,"messages":[{"role":"user","content":"%b"}]}'
    found = []
    for number in range(count + _WARM_UP):
        began = time.perf_counter()
        for client in clients:
            client.ask(body % words.encode())
        for client in clients:
            await client.done.wait()
        arrived, first, last = ready.recv()
        if number >= _WARM_UP:
            found.append(
                Wave(
                    (arrived - began) * 1000,
                    (max(one.first for one in clients) - first) * 1000,
                    (max(one.last for one in clients) - last) * 1000,
                )
            )
    for client in clients:
        client.transport.close()
    return found


def _cpu_seconds(process: int) -> float:
    """What a process took of all cores so far."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def burst(size: int, count: int, chunks: int) -> tuple[list[Wave], list[Wave], float]:
    """Waves direct and through the server, and the server's CPU seconds per request."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    engine = context.Process(target=_serve_engine, args=(theirs, size, chunks), daemon=True)
    engine.start()
    try:
        port = mine.recv()
        with serving(port) as server:
            direct = asyncio.run(_waves(port, mine, size, count))
            before = _cpu_seconds(server.process.pid)
            behind = asyncio.run(_waves(port_of(server.url), mine, size, count))
            took = _cpu_seconds(server.process.pid) - before
    finally:
        engine.kill()
        engine.join()
    return direct, behind, took / (size * (count + _WARM_UP))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.burst", description=__doc__)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--waves", type=int, default=40)
    parser.add_argument("--chunks", type=int, default=4)
    options = parser.parse_args()
    direct, through, cpu = burst(options.streams, options.waves, options.chunks)
    print(f"{options.streams} streams at once, {options.waves} waves, SQLite on")
    for name in ("to_engine", "first_chunk", "end"):
        first, second = (
            statistics.median(getattr(one, name) for one in waves) for waves in (direct, through)
        )
        print(f"{name:14}{first:8.2f} ms direct{second:8.2f} ms through{second - first:+8.2f} ms")
    print(f"CPU of the server: {cpu * 1000:.3f} ms a request of {options.chunks + 2} events")


if __name__ == "__main__":
    main()
