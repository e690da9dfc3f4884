"""Faults injected for real: a disk that is full, a process that is killed at each step."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

from teeverify.responses.signed_text import parse_signature, verify_signed_text

from .wire import CHAT, ENDS, ID, BrokenOff, chat_body, connected, verified

pytestmark = pytest.mark.network

BROKEN = (BrokenOff, ConnectionError, asyncio.IncompleteReadError)


def fetch(url, path, body=b""):
    async def go():
        async with connected(url) as wire:
            return await wire.fetch("POST" if body else "GET", path, body)

    return asyncio.run(go())


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path, need):
    """A file system of two mebibytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        need("tmpfs", "there is no mount here")
    if done.returncode:
        need("tmpfs", f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk):
    """Leave not a byte on it."""
    with (disk / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_disk_that_fills_up(small_disk, serve):
    body = chat_body(stream=False, max_tokens=4)
    with serve(gpus=1, arguments=("--store", str(small_disk / "s.db"))) as server:
        kept, signer = asyncio.run(verified(server.url, body, stream=False))
        fill(small_disk)
        statuses = [fetch(server.url, CHAT, body)[0] for _ in range(40)]
        assert set(statuses) <= {200, 503}
        assert statuses[-1] == 503, "no answer without its signature"
        made = server.log.read_text().count("not stored")
        assert made <= 2, "the engine is not asked once the disk is known to be full"
        status, answer = fetch(server.url, CHAT, body)
        assert (status, set(json.loads(answer))) == (503, {"error"})
        assert fetch(server.url, f"/v1/signature/{kept}")[0] == 200, "what was kept is kept"
        assert re.search(rb"store_failures_total [1-9]", fetch(server.url, "/metrics")[1])
        (small_disk / "filler").unlink()
        assert asyncio.run(verified(server.url, body, stream=False))[1] == signer, "room again"


def test_a_disk_that_is_full_from_the_start(small_disk):
    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    fill(small_disk)
    command = [sys.executable, "-m", "teeverify.cli.main", "serve", "--simulated"]
    command += ["--even-on-a-tee", "--gpus", "1", "--store", str(small_disk / "s.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "disk" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_store_that_reached_its_bound(serve, tmp_path):
    """Nothing is dropped early: no answer is begun until there is room again."""
    path, bound = tmp_path / "s.db", 4 * 1024 * 1024 + 20_000
    arguments = ("--store", str(path), "--store-bytes", str(bound), "--ttl", "6")
    body = chat_body(stream=False, max_tokens=2)
    with serve(gpus=1, arguments=arguments) as server:
        kept = []
        for _ in range(100):
            status, answer = fetch(server.url, CHAT, body)
            if status != 200:
                break
            kept.append(ID.search(answer)[1].decode())
        assert status == 503
        assert b"full" in answer
        assert 5 < len(kept) < 60
        assert {fetch(server.url, f"/v1/signature/{one}")[0] for one in kept[-5:]} == {200}

        async def wait_for_room():
            for _ in range(60):
                if (await _ask(server.url, body))[0] == 200:
                    return True
                await asyncio.sleep(0.25)
            return False

        assert asyncio.run(wait_for_room())


async def _ask(url, body):
    async with connected(url) as wire:
        return await wire.fetch("POST", CHAT, body)


# --- kill -9 -------------------------------------------------------------------------------------

DYING = """
import asyncio, os, signal, sys
from teeverify.cli.main import main
from teeverify.enclave import relay
from teeverify.enclave.dialects.flat import FlatDialect
from teeverify.enclave.store import SqliteStore

point, *arguments = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    setattr(owner, name, die)

def after(owner, name):
    done = getattr(owner, name)

    async def dying(*args, **kwargs):
        await done(*args, **kwargs)
        await asyncio.sleep(0.1)  # what was sent is out
        die()

    setattr(owner, name, dying)

{
    "before-sign": lambda: before(FlatDialect, "certify"),
    "after-sign": lambda: before(FlatDialect, "_record"),
    "before-store": lambda: before(SqliteStore, "put"),
    "after-store": lambda: after(SqliteStore, "put"),
    "before-send": lambda: [before(relay, name) for name in ("_finish", "send_whole")],
    "after-send": lambda: [after(relay, name) for name in ("_finish", "send_whole")],
}[point]()
sys.exit(main(["serve", "--simulated", "--even-on-a-tee", "--gpus", "1",
               "--dialect", "dstack", *arguments]))
"""
STORED = {"after-store", "before-send", "after-send"}


@contextlib.contextmanager
def dying(point, path):
    """A server that is killed by its own hand at a step of its first answer."""
    command = [sys.executable, "-c", DYING, point, "--store", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        url = process.stdout.readline().strip()
        try:
            yield process, url
        finally:
            process.kill()


async def ask_a_dying_one(url, body, *, stream):
    """What comes, and whether all of it came."""
    content = b""
    async with connected(url) as wire:
        try:
            await wire.send("POST", CHAT, body)
            assert await wire.head() == 200
            if not stream:
                return await wire.rest(), True
            while not content.endswith(ENDS[CHAT]):
                part = await wire.part()
                if not part:
                    return content, False
                content += part
        except BROKEN:
            return content, False
        return content, True


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    "point",
    ["before-sign", "after-sign", "before-store", "after-store", "before-send", "after-send"],
)
def test_killed_at_a_step_of_sign_store_send(serve, tmp_path, point, stream):
    path = tmp_path / "s.db"
    body = chat_body(stream=stream, max_tokens=6)
    with dying(point, path) as (process, url):
        content, whole = asyncio.run(ask_a_dying_one(url, body, stream=stream))
        assert process.wait(20) == -signal.SIGKILL, process.stderr.read()
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT id, kind, body FROM records").fetchall()
    assert len(rows) == (2 if point in STORED else 0), "whole or absent"
    assert not whole or len(rows) == 2, "an end that was sent had its signature stored"
    if whole:
        (answer_id,) = {row[0] for row in rows}
        assert answer_id == ID.search(content)[1].decode()
        for _, _, record in rows:
            signed = parse_signature(record)
            verify_signed_text(signed)
            assert signed.response_sha256 == hashlib.sha256(content).hexdigest()
    if point == "after-send" and stream:
        with serve(gpus=1, arguments=("--store", str(path))) as server:
            status, record = fetch(server.url, f"/v1/signature/{rows[0][0]}")
            assert status == 200
            report = json.loads(fetch(server.url, f"/v1/attestation/report?nonce={'0d' * 32}")[1])
            assert json.loads(record)["signing_address"] != report["signing_address"]
            new_id, _ = asyncio.run(verified(server.url, body, stream=stream))
            assert new_id != rows[0][0]
