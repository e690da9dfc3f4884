"""Out of file descriptors, and under steady load: clean errors, and no signature is lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import statistics
import sys
import time
from pathlib import Path

import pytest

from teeverify.responses.signed_text import parse_signature, verify_signed_text

from .wire import CHAT, ENDS, ID, BrokenOff, chat_body, connected, verified

pytestmark = pytest.mark.network

CLOSED = (BrokenOff, ConnectionError, asyncio.IncompleteReadError)
CLIENTS = 100
SECONDS = float(os.environ.get("TEEVERIFY_SOAK_SECONDS", "30"))
CLEAN = {502, 503}
# What a collector that comes late, and buffers, may hold at the end beyond what was held at half.
GROWTH_KIB = 4096


async def ask(url, body):
    """The answer as far as it came: its status (0: none) and, of a whole one, its content."""
    try:
        async with connected(url) as wire:
            await wire.send("POST", CHAT, body, content_type="application/json")
            status = await asyncio.wait_for(wire.head(), 30)
            if status != 200:
                await wire.rest()
                return status, None
            return status, await wire.until(ENDS[CHAT])
    except CLOSED:
        return 0, None


async def look_up(wire, body, content):
    """Fetch the signature of an answer, and verify it."""
    status, raw = await wire.fetch("GET", f"/v1/signature/{ID.search(content)[1].decode()}")
    assert status == 200, "a signature was lost"
    signed = parse_signature(raw)
    assert signed.request_sha256 == hashlib.sha256(body).hexdigest()
    assert signed.response_sha256 == hashlib.sha256(content).hexdigest()
    return verify_signed_text(signed)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_out_of_file_descriptors(serve, tmp_path, monkeypatch):
    """Who finds no room is refused at once; the others are served, and later everyone is again."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n 64\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    body = chat_body(stream=True, max_tokens=24)
    with serve(gpus=1) as engine:
        monkeypatch.setattr(sys, "executable", str(python))
        arguments = ("--upstream", engine.url, "--store", str(tmp_path / "s.db"))
        with serve(gpus=1, arguments=arguments) as server:

            async def go():
                asked = (ask(server.url, body) for _ in range(CLIENTS))
                found = await asyncio.wait_for(asyncio.gather(*asked), 60)
                whole = [content for _, content in found if content]
                async with connected(server.url) as wire:
                    signers = {await look_up(wire, body, one) for one in whole}
                again = [await verified(server.url, body, stream=True) for _ in range(5)]
                return {status for status, _ in found}, whole, signers, {one for _, one in again}

            statuses, whole, signers, again = asyncio.run(go())
            log = server.log.read_text()
    assert whole, "those for whom there was room are served"
    assert len(whole) < CLIENTS, "there was no room for all"
    assert statuses <= {0, 200} | CLEAN
    assert signers == again
    assert len(signers) == 1
    assert "Traceback" not in log
    assert "internal error" not in log


@pytest.mark.parametrize("end", ["", "\r\n"], ids=["in one line", "in many"])
def test_a_head_without_end(server, end):
    """Nobody fills the memory with a head: the connection is closed."""

    async def go():
        host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nx: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 1024 * 1024 and not reader.at_eof():
                writer.write((("y" * 60 + end + (end and "x: ")) * 256).encode())
                await asyncio.wait_for(writer.drain(), 5)
                await asyncio.sleep(0)
                sent += 60 * 256
        writer.close()
        return sent

    assert asyncio.run(go()) < 8 * 1024 * 1024


def memory(process):
    """What a process holds for itself, in KiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_short_soak(serve, tmp_path):
    """A hundred streams at a time, each signature fetched the moment its last byte is here."""
    with serve(gpus=1, arguments=("--store", str(tmp_path / "s.db"))) as server:
        sizes = []

        async def client(number):
            ends = time.monotonic() + SECONDS
            done = 0
            while time.monotonic() < ends:
                body = chat_body(stream=done % 4 < 3, max_tokens=8 + done % 9, seed=number)
                await verified(server.url, body, stream=done % 4 < 3)
                done += 1
            return done

        async def watch():
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                await asyncio.sleep(0.25)
                sizes.append(memory(server.process.pid))

        async def go():
            *done, _ = await asyncio.gather(*(client(one) for one in range(CLIENTS)), watch())
            return done

        done = asyncio.run(go())
        log = server.log.read_text()
    assert all(done), "every client was served"
    assert sum(done) >= 2 * CLIENTS, "also where other programs take the cores"
    assert "Traceback" not in log
    assert "internal error" not in log
    half = len(sizes) // 2
    early, late = sizes[half : half + half // 2], sizes[half + half // 2 :]
    assert statistics.median(late) - statistics.median(early) < GROWTH_KIB
