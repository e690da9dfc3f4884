"""A client of HTTP/1.1 that sees every byte when it comes: it waits for no end but an answer's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import secrets
from urllib.parse import urlsplit

import teeverify
from teeverify.appraisal.observation import Outcome
from teeverify.clock import now
from teeverify.responses.form import Context, Given
from teeverify.responses.signed_text import parse_signature, verify_signed_text
from teeverify.responses.statement import parse_signed
from teeverify.responses.statement_form import STATEMENT

ID = re.compile(rb'"id": ?"([^"]+)"')
ENDS = {
    "/v1/chat/completions": b"data: [DONE]\n\n",
    "/v1/completions": b"data: [DONE]\n\n",
    "/v1/responses": b'"type":"response.completed"}\n\n',
    "/v1/messages": b'"type":"message_stop"}\n\n',
}
CHAT = "/v1/chat/completions"
JSON = "application/json"
TRAILER = re.compile(rb"\n: teeverify/1 [^\n]+\n\n$")


class BrokenOff(Exception):
    """The answer ended without its end."""


class Wire:
    """One connection that is kept."""

    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer
        self.headers = {}

    async def send(self, method, path, body=b"", **headers):
        extra = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\n{extra}content-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def head(self):
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        named = (line.split(": ", 1) for line in lines[1:] if line)
        self.headers = {name.lower(): text for name, text in named}
        return int(lines[0].split()[1])

    async def part(self):
        """The next chunk; nothing at the end."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        data = await self._reader.readexactly(size)
        assert await self._reader.readexactly(2) == b"\r\n"
        return data

    async def rest(self):
        """What is left of a whole answer."""
        return await self._reader.readexactly(int(self.headers["content-length"]))

    async def until(self, end):
        """A stream's content up to its end, and not a byte further; the last chunk comes later."""
        content = b""
        while not content.endswith(end):
            part = await self.part()
            if not part:
                raise BrokenOff(content)
            content += part
        return content

    async def through_trailer(self):
        """A stream's bytes up to the end of its statement, and not a byte further."""
        content = b""
        while not TRAILER.search(content):
            part = await self.part()
            if not part:
                raise BrokenOff(content)
            content += part
        return content

    async def fetch(self, method, path, body=b"", **headers):
        await self.send(method, path, body, **headers)
        status = await self.head()
        if "content-length" in self.headers:
            return status, await self.rest()
        content = b""
        while part := await self.part():
            content += part
        return status, content


@contextlib.asynccontextmanager
async def connected(url):
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def chat_body(*, stream, **members):
    messages = [{"role": "user", "content": "Say something."}]
    return json.dumps(
        {"model": "default", "messages": messages, "stream": stream} | members
    ).encode()


async def verified(url, body, *, path=CHAT, stream):
    """Ask once; fetch the signature the moment the last byte is here; give id and signer."""
    async with connected(url) as wire, connected(url) as other:
        await wire.send("POST", path, body, content_type="application/json")
        assert await wire.head() == 200
        content = await (wire.until(ENDS[path]) if stream else wire.rest())
        answer_id = ID.search(content)[1].decode()
        status, raw = await other.fetch("GET", f"/v1/signature/{answer_id}")
    assert status == 200, f"the signature was late: {raw!r}"
    signed = parse_signature(raw)
    assert signed.request_sha256 == hashlib.sha256(body).hexdigest()
    assert signed.response_sha256 == hashlib.sha256(content).hexdigest()
    return answer_id, verify_signed_text(signed)


async def cancelled(url, body, *, after, path=CHAT):
    """Leave a stream after some of its parts; give its id, and whether it had ended by then."""
    async with connected(url) as wire:
        await wire.send("POST", path, body, content_type="application/json")
        assert await wire.head() == 200
        content = b""
        for _ in range(after):
            content += await wire.part()
            if ENDS[path] in content:
                break
    return ID.search(content)[1].decode(), ENDS[path] in content


def processes_of(server):
    """What binds the keys of a server's own dialect, by its evidence."""
    session = teeverify.connect(server.url, roots=server.roots, dialect="teeverify/1")
    return session.attest().processes


async def stated(url, processes, body, *, path=CHAT, stream):
    """As :func:`verified`, in teeverify/1, by the client's own code: its statement comes along.

    The very same can be fetched the moment the last byte is here.
    """
    challenge = secrets.token_bytes(32)
    async with connected(url) as wire, connected(url) as other:
        await wire.send("POST", path, body, content_type=JSON, teeverify_challenge=challenge.hex())
        assert await wire.head() == 200
        raw = await (wire.through_trailer() if stream else wire.rest())
        name = wire.headers["teeverify-id"]
        status, kept = await other.fetch("GET", f"/v1/signature/{name}?dialect=teeverify/1")
    assert status == 200, f"the statement was late: {kept!r}"
    content, carried = STATEMENT.carrying.split(raw, wire.headers)
    assert carried == kept
    context = Context(
        processes=processes, method="POST", target=path, status=200, request_type=JSON,
        response_type=wire.headers["content-type"], challenge=challenge, at=now(),
    )  # fmt: skip
    found = STATEMENT.examine(Given(signature=kept, answer=content, request=body, context=context))
    assert [one for one in found.observations if one.outcome is not Outcome.PROVEN] == []
    return name, found.signer


async def left(url, body, *, after, path=CHAT):
    """Leave a stream of teeverify/1 after some of its parts; give its name."""
    async with connected(url) as wire:
        challenge = secrets.token_hex(32)
        await wire.send("POST", path, body, content_type=JSON, teeverify_challenge=challenge)
        assert await wire.head() == 200
        for _ in range(after):
            if TRAILER.search(await wire.part()):
                break
        return wire.headers["teeverify-id"]


async def said_of(url, name):
    """The statement about an exchange that is over; nobody says when it is noticed that it is."""
    async with connected(url) as wire:
        for _ in range(1200):
            status, raw = await wire.fetch("GET", f"/v1/signature/{name}?dialect=teeverify/1")
            if status == 200:
                return parse_signed(raw)
            assert status == 404
            await asyncio.sleep(0.05)
    raise AssertionError(f"nothing was ever said of {name}")
