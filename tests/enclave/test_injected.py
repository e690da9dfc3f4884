"""Faults of the disk, injected for real: one that is full, and a store at its bound."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import subprocess
import sys

import pytest

from teeverify.enclave.sqlite_store import SqliteStore
from teeverify.errors import ConfigurationError

from .wire import CHAT, ID, chat_body, connected, processes_of, stated, verified

pytestmark = pytest.mark.network


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


@pytest.mark.parametrize("dialect", ["dstack", "teeverify/1"])
def test_a_disk_that_fills_up(small_disk, serve, dialect):
    body = chat_body(stream=False, max_tokens=4)
    arguments = ("--store", str(small_disk / "s.db"), "--dialect", dialect)
    with serve(gpus=1, arguments=arguments) as server:
        ask = functools.partial(verified, server.url)
        if dialect == "teeverify/1":
            ask = functools.partial(stated, server.url, processes_of(server))
        kept, signer = asyncio.run(ask(body, stream=False))
        fill(small_disk)
        statuses = [fetch(server.url, CHAT, body)[0] for _ in range(40)]
        assert set(statuses) <= {200, 503}
        assert statuses[-1] == 503, "no answer without its signature"
        made = server.log.read_text().count("not stored")
        assert made <= 2, "the engine is not asked once the disk is known to be full"
        status, answer = fetch(server.url, CHAT, body)
        assert (status, set(json.loads(answer))) == (503, {"error"})
        status, health = fetch(server.url, "/health")
        assert (status, json.loads(health)["status"]) == (503, "no store")
        assert fetch(server.url, f"/v1/signature/{kept}")[0] == 200, "what was kept is kept"
        assert re.search(rb"store_failures_total [1-9]", fetch(server.url, "/metrics")[1])
        (small_disk / "filler").unlink()
        assert fetch(server.url, "/health") == (200, b'{"status":"ok"}'), "room again"
        assert asyncio.run(ask(body, stream=False))[1] == signer


def test_a_disk_that_is_full_from_the_start(small_disk):
    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    fill(small_disk)
    command = [sys.executable, "-m", "teeverify.cli.main", "serve", "--simulated"]
    command += ["--even-on-a-tee", "--gpus", "1", "--store", str(small_disk / "s.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "disk" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_store_of_before_on_a_disk_that_is_full(small_disk):
    path = small_disk / "s.db"
    SqliteStore(path).close()
    fill(small_disk)
    with pytest.raises(ConfigurationError, match="its disk must have room") as caught:
        SqliteStore(path)
    assert (caught.value.id, caught.value.got) == ("usage.store", str(path))


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
        status, health = fetch(server.url, "/health")
        assert (status, json.loads(health)["status"]) == (503, "no store")
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
