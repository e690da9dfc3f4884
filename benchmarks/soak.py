"""Keeps many streams running through the server; looks for what is lost, late, wrong or leaking.

    python -m benchmarks.soak --streams 200 --minutes 10

The upstream gives each stream 100 tokens a second. For every one that ends, the signature is
fetched the moment its last byte is here, and verified; one in ten leaves in mid-stream. The
server's memory is noted every second; the slope is taken over the second half.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import random
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.server import CHAT, DONE, fake_upstream
from teeverify.responses.signed_text import parse_signature, verify_signed_text
from teeverify.testing.server import RunningServer, running

_ID = re.compile(rb'"id": ?"([^"]+)"')
_BODY = b'{"model":"default","messages":[],"stream":true,"pause":1,"number":%d}'
_LEAVES = 0.1


@dataclass
class Tally:
    """What became of the streams."""

    whole: int = 0
    left: int = 0
    bad: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def slope(self) -> float:
        """KiB a minute, over the second half."""
        half = self.memory[len(self.memory) // 2 :]
        if len(half) < 2:  # noqa: PLR2004 -- two points make a line
            return 0.0
        found = statistics.linear_regression([at for at, _ in half], [kib for _, kib in half])
        return found.slope * 60


@contextlib.asynccontextmanager
async def _open(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _client(port: int, ends: float, tally: Tally, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- for the load only
    number = seed * 1_000_000
    async with _open(port) as (reader2, writer2):
        while time.monotonic() < ends:
            number += 1
            async with _open(port) as (reader, writer):
                leaves = chance.randrange(1, 90) if chance.random() < _LEAVES else None
                content = await _stream(reader, writer, number, leaves)
            if leaves is not None:
                tally.left += 1
                continue
            problem = await _check(reader2, writer2, number, content)
            if problem:
                tally.bad.append(problem)
            else:
                tally.whole += 1


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, leaves: int | None
) -> bytes:
    """The content up to the terminal event, and not a byte further."""
    body = _BODY % number
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (CHAT.encode(), len(body)) + body)
    await reader.readuntil(b"\r\n\r\n")
    content, parts = b"", 0
    while not content.endswith(DONE) and parts != leaves:
        size = int(await reader.readuntil(b"\r\n"), 16)
        content += (await reader.readexactly(size + 2))[:-2]
        parts += 1
    return content


async def _check(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, content: bytes
) -> str | None:
    found = _ID.search(content)
    if found is None:
        return "no id"
    writer.write(b"GET /v1/signature/%b HTTP/1.1\r\nhost: x\r\n\r\n" % found[1])
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    raw = await reader.readexactly(length)
    if b" 200 " not in head[:20]:
        return f"late or lost: {raw[:100]!r}"
    signed = parse_signature(raw)
    verify_signed_text(signed)
    equal = (
        signed.request_sha256 == hashlib.sha256(_BODY % number).hexdigest()
        and signed.response_sha256 == hashlib.sha256(content).hexdigest()
    )
    return None if equal else "wrong"


async def _watch(process: int, ends: float, tally: Tally) -> None:
    started = time.monotonic()
    while time.monotonic() < ends:
        await asyncio.sleep(1)
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")  # noqa: ASYNC240
        tally.memory.append((time.monotonic() - started, int(status.split("VmRSS:")[1].split()[0])))


async def _soak(server: RunningServer, streams: int, seconds: float) -> Tally:
    port = int(server.url.split(":")[2].split("/")[0])
    tally = Tally()
    ends = time.monotonic() + seconds
    clients = (_client(port, ends, tally, seed) for seed in range(streams))
    await asyncio.gather(_watch(server.process.pid, ends, tally), *clients)
    return tally


def soak(streams: int, seconds: float) -> Tally:
    """Run it; see above."""
    with fake_upstream() as upstream, tempfile.TemporaryDirectory() as folder:
        arguments = ("--upstream", f"http://127.0.0.1:{upstream}/v1")
        arguments += ("--store", str(Path(folder) / "signatures.db"))
        with running(gpus=1, arguments=arguments) as server:
            return asyncio.run(_soak(server, streams, seconds))


def main() -> None:
    """Print what became of the streams; exit 1 if a signature was lost, late or wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    tally = soak(options.streams, options.minutes * 60)
    sizes = [kib for _, kib in tally.memory]
    print(f"{options.streams} streams at a time, {options.minutes:g} minutes")
    print(f"whole and verified: {tally.whole}; left in mid-stream: {tally.left}")
    print(f"lost, late or wrong: {len(tally.bad)} {tally.bad[:3]}")
    print(f"memory: {sizes[0]} KiB at first, {max(sizes)} at most, {sizes[-1]} at last;")
    print(f"at each minute's end: {', '.join(map(str, sizes[59::60]))} KiB")
    print(f"slope over the second half: {tally.slope():+.0f} KiB/minute")
    if tally.bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
