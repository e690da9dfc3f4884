"""Keeps many streams running through the server; looks for what is lost, late, wrong or leaking.

    python -m benchmarks.soak --streams 200 --minutes 10

The upstream gives each stream 100 tokens a second. For every one that ends, the signature is
fetched the moment its last byte is here, and verified; one in ten leaves in mid-stream.

Memory is read every 5 s: the blocks that the server's objects hold (its own metric), and its
resident set. The first 2 minutes warm up. Each slope is that of the line through the means of eight
equal stretches of the rest, with its 95 % interval (Student's t, 6 degrees of freedom): readings
that follow each other are not independent, such means nearly are. Memory is flat where all of the
interval is

* for blocks below 1 a stream: no object is kept for each;
* for the resident set below 5 % over that time. Allocators keep what the busiest moment so far
  needed: where other programs hold the server up, that is 1 to 3 %. The last leak, which left each
  stream to a full turn of the garbage collector, was 12 %.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import math
import random
import re
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.server import CHAT, DONE, fake_upstream, port_of, serving
from teeverify.errors import TeeVerifyError
from teeverify.responses.signed_text import parse_signature, verify_signed_text
from teeverify.testing.server import RunningServer

_ID = re.compile(rb'"id": ?"([^"]+)"')
_BODY = b'{"model":"default","messages":[],"stream":true,"pause":1,"number":%d}'
_LEAVES = 0.1
_EVERY_SECONDS = 5.0
_WARM_UP_SECONDS = 120.0
_STRETCHES = 8
_T_95 = 2.447  # two-sided, for a line through eight points
_MOST_BLOCKS = 1.0
_MOST_SHARE = 0.05
_IDLE_SECONDS = 20.0  # the server allows 30; a client on a busy machine sees the last answer late
_CLOSED = (ConnectionError, asyncio.IncompleteReadError)


@dataclass(frozen=True)
class Reading:
    """The server at one moment.

    Attributes:
        at: Seconds since the start.
        blocks: Blocks that its objects hold.
        kib: Its resident set.
        served: Streams that had come to an end.
    """

    at: float
    blocks: float
    kib: float
    served: float


def slope(at: list[float], values: list[float]) -> tuple[float, float]:
    """The slope through a few points, and half of its interval."""
    found, start = statistics.linear_regression(at, values)
    rest = sum((y - start - found * x) ** 2 for x, y in zip(at, values, strict=True))
    spread = sum((x - statistics.fmean(at)) ** 2 for x in at)
    return found, _T_95 * math.sqrt(rest / (len(at) - 2) / spread)


def print_memory(readings: list[Reading]) -> bool:
    """Print what memory did after the warm-up; whether it was flat."""
    rest = [one for one in readings if one.at > _WARM_UP_SECONDS]
    long = len(rest) // _STRETCHES
    if not long:
        print("memory: the run is too short to judge it")
        return True
    stretches = [rest[at * long : (at + 1) * long] for at in range(_STRETCHES)]
    served = [statistics.fmean(one.served for one in part) for part in stretches]
    blocks, margin = slope(
        served, [statistics.fmean(one.blocks for one in part) for part in stretches]
    )
    kept = blocks + margin < _MOST_BLOCKS
    print(f"blocks kept: {blocks:+.3f} +- {margin:.3f} a stream: {'flat' if kept else 'IT GROWS'}")
    sizes = [statistics.fmean(one.kib for one in part) for part in stretches]
    times = [statistics.fmean(one.at / 60 for one in part) for part in stretches]
    size, margin = slope(times, sizes)
    minutes = (rest[-1].at - rest[0].at) / 60
    whole = minutes / statistics.fmean(sizes)
    held = (size + margin) * whole < _MOST_SHARE
    print(
        f"resident set: {size:+.0f} +- {margin:.0f} KiB a minute, {size * whole:+.2%} +-"
        f" {margin * whole:.2%} in {minutes:.0f} minutes: {'flat' if held else 'IT GROWS'}"
    )
    return kept and held


@dataclass
class Tally:
    """What became of the streams.

    Attributes:
        whole: Those whose signature was there, and right.
        left: Those that their client left.
        bad: What went wrong with others.
        reopened: How often the server had closed a connection for look-ups.
        readings: What the server held meanwhile.
    """

    whole: int = 0
    left: int = 0
    bad: list[str] = field(default_factory=list)
    reopened: int = 0
    readings: list[Reading] = field(default_factory=list)


@contextlib.asynccontextmanager
async def _open(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


class _LookUps:
    """A connection that is kept, and opened again where the server has closed it as idle."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0
        self.opened = 0

    async def get(self, path: bytes) -> tuple[bytes, bytes]:
        """Head and body of what stands at a path."""
        if self._kept is not None:
            idle = time.monotonic() - self._used
            with contextlib.suppress(*_CLOSED):
                return await self._get(*self._kept, path)
            self.close()
            if idle < _IDLE_SECONDS:
                raise ConnectionError(f"a kept connection was closed after {idle:.1f} s")
        self._kept = await asyncio.open_connection("127.0.0.1", self._port)
        self.opened += 1
        return await self._get(*self._kept, path)

    async def _get(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes
    ) -> tuple[bytes, bytes]:
        writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
        self._used = time.monotonic()
        return head, body

    def close(self) -> None:
        """Close it."""
        if self._kept is not None:
            self._kept[1].close()


async def _client(port: int, ends: float, tally: Tally, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- for the load only
    number = seed * 1_000_000
    with contextlib.closing(_LookUps(port)) as look_ups:
        while time.monotonic() < ends:
            number += 1
            leaves = chance.randrange(1, 90) if chance.random() < _LEAVES else None
            try:
                content = await _stream(port, number, leaves)
                problem = None if leaves else await _check(look_ups, number, content)
            except _CLOSED as error:
                problem = f"broken off: {error}"
            if problem:
                tally.bad.append(problem)
            elif leaves:
                tally.left += 1
            else:
                tally.whole += 1
        tally.reopened += max(look_ups.opened - 1, 0)


async def _stream(port: int, number: int, leaves: int | None) -> bytes:
    """The content up to the terminal event, and not a byte further."""
    body = _BODY % number
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    content, parts = b"", 0
    async with _open(port) as (reader, writer):
        writer.write(head % (CHAT.encode(), len(body)) + body)
        await reader.readuntil(b"\r\n\r\n")
        while not content.endswith(DONE) and parts != leaves:
            size = int(await reader.readuntil(b"\r\n"), 16)
            content += (await reader.readexactly(size + 2))[:-2]
            parts += 1
    return content


async def _check(look_ups: _LookUps, number: int, content: bytes) -> str | None:
    """What is wrong with the signature of an answer, if anything is."""
    found = _ID.search(content)
    if found is None:
        return "no id"
    head, raw = await look_ups.get(b"/v1/signature/" + found[1])
    if b" 200 " not in head[:20]:
        return f"late or lost: {raw[:100]!r}"
    try:
        signed = parse_signature(raw)
        verify_signed_text(signed)
    except TeeVerifyError as error:
        return f"wrong: {error}"
    equal = (
        signed.request_sha256 == hashlib.sha256(_BODY % number).hexdigest()
        and signed.response_sha256 == hashlib.sha256(content).hexdigest()
    )
    return None if equal else "wrong: of other bytes"


def _resident(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return float(status.split("VmRSS:")[1].split()[0])


async def _watch(server: RunningServer, ends: float, tally: Tally) -> None:
    metrics = _LookUps(port_of(server.url))
    started = time.monotonic()
    while time.monotonic() + _EVERY_SECONDS < ends:
        await asyncio.sleep(_EVERY_SECONDS)
        _, raw = await metrics.get(b"/metrics")
        tally.readings.append(
            Reading(
                at=time.monotonic() - started,
                blocks=float(raw.rpartition(b"teeverify_memory_blocks ")[2].split()[0]),
                kib=_resident(server.process.pid),
                served=tally.whole + tally.left,
            )
        )
    metrics.close()


async def _soak(server: RunningServer, streams: int, seconds: float) -> Tally:
    tally = Tally()
    ends = time.monotonic() + seconds
    clients = (_client(port_of(server.url), ends, tally, seed) for seed in range(streams))
    await asyncio.gather(_watch(server, ends, tally), *clients)
    return tally


def soak(streams: int, seconds: float) -> Tally:
    """Run it; see above."""
    with fake_upstream() as upstream, serving(upstream) as server:
        return asyncio.run(_soak(server, streams, seconds))


def main() -> None:
    """Print what became of the streams; exit 1 if one was lost, late or wrong, or memory grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    tally = soak(options.streams, options.minutes * 60)
    print(f"{options.streams} streams at a time, {options.minutes:g} minutes")
    print(f"whole and verified: {tally.whole}; left in mid-stream: {tally.left}")
    print(f"lost, late or wrong: {len(tally.bad)} {tally.bad[:3]}")
    print(f"idle connections for look-ups that were closed, and opened again: {tally.reopened}")
    each_minute = [f"{one.kib:.0f}" for one in tally.readings[11::12]]
    print(f"resident set at each minute's end, in KiB: {', '.join(each_minute)}")
    if not print_memory(tally.readings) or tally.bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
