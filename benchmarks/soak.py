"""Keeps many streams running through the server; looks for what is lost, late, wrong or leaking.

    python -m benchmarks.soak --streams 200 --minutes 10

The upstream gives each stream 100 tokens a second. Each stream must end with a statement that
verifies, and the very same must be there to be fetched the moment the last byte is here. One in
ten leaves in mid-stream: within 10 s there must be a signed statement of that, too. With
``--dialect dstack`` it is signatures of that dialect, which says nothing of streams that were left.

Memory is read every 5 s: the blocks that the server's objects hold (its own metric), and its
resident set. The first 2 minutes warm up. Each slope is that of the line through the means of eight
equal stretches of the rest, with its 95 % interval (Student's t, 6 degrees of freedom): readings
that follow each other are not independent, such means nearly are. The bounds, which all of an
interval must keep to, follow from what is at stake:

* Less than 1 block a stream. An object that is kept for each stream is at least one block. An
  exchange that is kept, such as one whose client left, is at least ten (itself, request, body,
  their bytes, headers and hashes), and one in ten leaves: again one block a stream.
* Less than 97 KiB a minute of the resident set, which also holds what is no object of Python's. A
  server is started anew at least once in 30 days, when its machine gets its updates. Until then it
  may take 4 GiB more, 2 % of the smallest machine with a confidential H100 that clouds rent out
  (234 GB); and this load, of streams that last a second, starts ten times as many as answers of ten
  seconds would.
* At most 150 MiB + 32 KiB a stream at any time: what we promise, so that a server fits beside its
  engine.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.server import CHAT, fake_upstream, port_of, serving
from benchmarks.statements import Dialect, Flat, OurOwn, Seen
from teeverify.testing.server import RunningServer

DIALECTS = {"teeverify/1": OurOwn, "dstack": Flat}
_BODY = b'{"model":"default","messages":[],"stream":true,"pause":1,"number":%d}'
_HEAD = (
    b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"teeverify-challenge: %b\r\ncontent-length: %d\r\n\r\n%b"
)
_LEAVES = 0.1
_EVERY_SECONDS = 5.0
_WARM_UP_SECONDS = 120.0
_STRETCHES = 8
_T_95 = 2.447  # two-sided, for a line through eight points
_MOST_BLOCKS = 1.0
_MOST_KIB_A_MINUTE = 4 * 1024**2 / (30 * 24 * 60)
_MOST_KIB, _MOST_KIB_A_STREAM = 150 * 1024, 32
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


@dataclass(frozen=True)
class Memory:
    """What memory did after the warm-up: each slope with half of its interval.

    Attributes:
        blocks: Blocks that are kept of a stream.
        kib: What the resident set grew by in a minute.
    """

    blocks: tuple[float, float]
    kib: tuple[float, float]

    @property
    def flat(self) -> bool:
        """Whether all of both intervals keeps to its bound."""
        return sum(self.blocks) < _MOST_BLOCKS and sum(self.kib) < _MOST_KIB_A_MINUTE


def judge(readings: list[Reading]) -> Memory | None:
    """What memory did; ``None`` where the run was too short to say."""
    rest = [one for one in readings if one.at > _WARM_UP_SECONDS]
    long = len(rest) // _STRETCHES
    if not long:
        return None
    stretches = [rest[at * long : (at + 1) * long] for at in range(_STRETCHES)]

    def means(name: str) -> list[float]:
        return [statistics.fmean(getattr(one, name) for one in part) for part in stretches]

    minutes = [at / 60 for at in means("at")]
    return Memory(blocks=slope(means("served"), means("blocks")), kib=slope(minutes, means("kib")))


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


async def _client(port: int, ends: float, tally: Tally, dialect: Dialect, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- for the load only
    number = seed * 1_000_000
    with contextlib.closing(_LookUps(port)) as look_ups:
        while time.monotonic() < ends:
            number += 1
            leaves = chance.randrange(1, 90) if chance.random() < _LEAVES else None
            seen, left = Seen(body=_BODY % number), False
            try:
                await _stream(port, seen, dialect, leaves)
                # Where all of it came in few parts, there was nothing left to leave.
                left = leaves is not None and not dialect.ended(seen.content)
                check = dialect.check_left if left else dialect.check
                problem = await check(seen, look_ups.get)
            except _CLOSED as error:
                problem = f"broken off: {error}"
            if problem:
                tally.bad.append(problem)
            elif left:
                tally.left += 1
            else:
                tally.whole += 1
        tally.reopened += max(look_ups.opened - 1, 0)


async def _stream(port: int, seen: Seen, dialect: Dialect, leaves: int | None) -> None:
    """The content up to its last byte, and not a byte further; or some parts of it."""
    parts = 0
    async with _open(port) as (reader, writer):
        challenge = seen.challenge.hex().encode()
        writer.write(_HEAD % (CHAT.encode(), challenge, len(seen.body), seen.body))
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
        named = (line.split(": ", 1) for line in lines[1:] if line)
        seen.headers.update((name.lower(), text) for name, text in named)
        while parts != leaves and not dialect.ended(seen.content):
            size = int(await reader.readuntil(b"\r\n"), 16)
            seen.content += (await reader.readexactly(size + 2))[:-2]
            parts += 1


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


async def _soak(server: RunningServer, dialect: Dialect, streams: int, seconds: float) -> Tally:
    tally = Tally()
    ends = time.monotonic() + seconds
    port = port_of(server.url)
    clients = (_client(port, ends, tally, dialect, seed) for seed in range(streams))
    await asyncio.gather(_watch(server, ends, tally), *clients)
    return tally


def soak(name: str, streams: int, seconds: float) -> tuple[Tally, Dialect]:
    """Run it; see above."""
    with fake_upstream() as upstream, serving(upstream, dialect=name) as server:
        dialect: Dialect = DIALECTS[name](server)
        return asyncio.run(_soak(server, dialect, streams, seconds)), dialect


def print_report(tally: Tally, memory: Memory | None) -> None:
    """Print what a reader wants to know."""
    print(f"whole and verified: {tally.whole}; left in mid-stream: {tally.left}")
    print(f"lost, late or wrong: {len(tally.bad)} {tally.bad[:3]}")
    print(f"idle connections for look-ups that were closed, and opened again: {tally.reopened}")
    each_minute = [f"{one.kib:.0f}" for one in tally.readings[11::12]]
    print(f"resident set at each minute's end, in KiB: {', '.join(each_minute)}")
    if memory is None:
        print("memory: the run is too short to judge it")
        return
    print("blocks kept of a stream: {:+.3f} +- {:.3f}".format(*memory.blocks))
    print("resident set: {:+.0f} +- {:.0f} KiB a minute".format(*memory.kib))


def main() -> None:
    """Print what became of the streams; exit 1 if one was lost, late or wrong, or memory grows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--dialect", choices=DIALECTS, default="teeverify/1")
    options = parser.parse_args()
    tally, dialect = soak(options.dialect, options.streams, options.minutes * 60)
    memory = judge(tally.readings)
    print_report(tally, memory)
    most = max((one.kib for one in tally.readings), default=0.0)
    small = most <= _MOST_KIB + _MOST_KIB_A_STREAM * options.streams
    flat = None if memory is None else memory.flat and small
    summary = {
        "dialect": options.dialect,
        "streams": options.streams,
        "minutes": options.minutes,
        "verified": tally.whole,
        "left": tally.left,
        "left_too_late": dialect.outran,
        "slowest_abort_seconds": round(dialect.slowest_abort, 2),
        "lost_late_or_wrong": len(tally.bad),
        "blocks_a_stream": memory and [round(value, 3) for value in memory.blocks],
        "kib_a_minute": memory and [round(value, 1) for value in memory.kib],
        "most_mib": round(most / 1024, 1),
        "flat": flat,
    }
    print(json.dumps(summary))
    if tally.bad or not small or flat is False:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
