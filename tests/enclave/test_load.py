"""Many clients at once, and a server that is killed: no signature is late, lost, half or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import sqlite3
import sys
from urllib.parse import urlsplit

import pytest

from teeverify.responses.signed_text import parse_signature, verify_signed_text

pytestmark = pytest.mark.network

DONE = b"data: [DONE]\n\n"
ID = re.compile(rb'"id":"(chatcmpl-[0-9a-f]{32})"')


@contextlib.asynccontextmanager
async def connected(server):
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request_bytes(body):
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chat_body(**members):
    messages = [{"role": "user", "content": "Say something."}]
    request = {"model": "default", "messages": messages, "stream": True, "ignore_eos": True}
    return json.dumps(request | members).encode()


async def head(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), headers


async def read_stream(reader):
    """The content of a chunked answer up to its terminal event, not a byte further."""
    status, _ = await head(reader)
    assert status == 200
    content = b""
    while not content.endswith(DONE):
        size = int(await reader.readuntil(b"\r\n"), 16)
        assert size, "the answer ended without its terminal event"
        content += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    return content


async def get_signature(reader, writer, answer_id):
    writer.write(f"GET /v1/signature/{answer_id} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    status, headers = await head(reader)
    return status, await reader.readexactly(int(headers["content-length"]))


async def stream_and_look(server, number):
    """Read a stream, and fetch its signature the moment its last byte is here."""
    body = chat_body(max_tokens=20 + number % 13, seed=number)
    async with connected(server) as (reader, writer), connected(server) as (reader2, writer2):
        writer.write(request_bytes(body))
        content = await read_stream(reader)
        status, raw = await get_signature(reader2, writer2, ID.search(content)[1].decode())
    assert status == 200, "the signature was late"
    signed = parse_signature(raw)
    assert signed.request_sha256 == hashlib.sha256(body).hexdigest()
    assert signed.response_sha256 == hashlib.sha256(content).hexdigest()
    return verify_signed_text(signed)


@pytest.mark.parametrize("streams", [50, 100])
def test_every_signature_is_there_when_the_last_byte_is(server, streams):
    async def together():
        return await asyncio.gather(*(stream_and_look(server, n) for n in range(streams)))

    assert len(set(asyncio.run(together()))) == 1, "all by one key"


async def leave_at_random(server, number, chance):
    body = chat_body(max_tokens=200)
    async with connected(server) as (reader, writer):
        writer.write(request_bytes(body))
        content = b""
        for _ in range(chance.randrange(1, 60)):
            content += await reader.readuntil(b"\n")
    return ID.search(content)[1].decode() if ID.search(content) else None


def test_clients_that_leave_at_random_leave_no_signature(server):
    chance = random.Random(7)

    async def together():
        left = await asyncio.gather(*(leave_at_random(server, n, chance) for n in range(30)))
        stayed = await asyncio.gather(*(stream_and_look(server, n) for n in range(10)))
        await asyncio.sleep(0.3)
        async with connected(server) as (reader, writer):
            found = [await get_signature(reader, writer, one) for one in left if one]
        return stayed, found

    stayed, found = asyncio.run(together())
    assert len(stayed) == 10
    assert found
    assert {status for status, _ in found} == {404}


async def stream_until_killed(server, finished):
    """Ask for one answer after the other; note those of which the end has come."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            body = chat_body(max_tokens=random.randrange(1, 12))
            async with connected(server) as (reader, writer):
                writer.write(request_bytes(body))
                content = await read_stream(reader)
            answer_id = ID.search(content)[1].decode()
            finished[answer_id] = tuple(hashlib.sha256(raw).hexdigest() for raw in (body, content))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.parametrize("after", [0.05, 0.2, 0.4])
def test_killed_under_load_every_record_is_whole_and_none_is_missing(serve, tmp_path, after):
    path = tmp_path / "signatures.db"
    finished = {}

    async def until_killed(server):
        clients = [asyncio.create_task(stream_until_killed(server, finished)) for _ in range(20)]
        await asyncio.sleep(after)
        server.process.kill()
        await asyncio.gather(*clients)

    with serve(gpus=1, arguments=("--store", str(path))) as server:
        asyncio.run(until_killed(server))
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT id, kind, body FROM records").fetchall()
    kept = {}
    for answer_id, kind, body in rows:
        signed = parse_signature(body)
        verify_signed_text(signed)
        hashes = (signed.request_sha256, signed.response_sha256)
        kept.setdefault(answer_id, {})[kind] = hashes
    assert all(set(found) == {"dstack/ecdsa", "dstack/ed25519"} for found in kept.values()), (
        "half a record"
    )
    for answer_id, hashes in finished.items():
        assert set(kept[answer_id].values()) == {hashes}
