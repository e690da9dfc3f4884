"""What the soak asks of answers, in each dialect: their signature, the moment they are here.

Everything is verified by the code that clients use.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import teeverify
from benchmarks.server import CHAT, DONE
from teeverify.appraisal.observation import Outcome
from teeverify.clock import now
from teeverify.errors import TeeVerifyError
from teeverify.responses.form import Context, Given
from teeverify.responses.signed_text import parse_signature, verify_signed_text
from teeverify.responses.statement import Signed, parse_signed
from teeverify.responses.statement_form import STATEMENT, split
from teeverify.testing.server import RunningServer

__all__ = ["Dialect", "Flat", "Get", "OurOwn", "Seen"]

Get: TypeAlias = "Callable[[bytes], Awaitable[tuple[bytes, bytes]]]"
_ID = re.compile(rb'"id": ?"([^"]+)"')
_TRAILER = b"\n: teeverify/1 "
_JSON = "application/json"
_ABORT_SECONDS = 10.0


@dataclass
class Seen:
    """One exchange, as its client saw it.

    Attributes:
        body: The request's.
        challenge: What the request named; nobody else knows it.
        headers: The answer's, by their names in lower case.
        content: What of the answer has come.
    """

    body: bytes
    challenge: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


class Dialect(Protocol):
    """What its answers must be. What is wrong is a sentence; ``None``: nothing is."""

    slowest_abort: float
    """Seconds until the slowest statement of a stream that its client left was there."""
    outran: int
    """How many streams that their client left had left the server before that was noticed."""

    def ended(self, content: bytes) -> bool:
        """Whether the last byte is here."""

    async def check(self, seen: Seen, get: Get) -> str | None:
        """Look at an answer of which the last byte has just come."""

    async def check_left(self, seen: Seen, get: Get) -> str | None:
        """Look at one that its client has just left."""


class OurOwn:
    """``teeverify/1``: a stream carries its statement, and the very same can be fetched.

    Args:
        server: The server, which is attested first.
    """

    def __init__(self, server: RunningServer) -> None:
        session = teeverify.connect(server.url, roots=server.roots, dialect="teeverify/1")
        self._processes = session.attest().processes
        self.slowest_abort = 0.0
        self.outran = 0

    def ended(self, content: bytes) -> bool:
        """See :class:`Dialect`."""
        return content.endswith(b"\n\n") and content.rfind(_TRAILER) > 0

    async def check(self, seen: Seen, get: Get) -> str | None:
        """See :class:`Dialect`."""
        head, fetched = await get(_path(seen))
        if b" 200 " not in head[:20]:
            return f"late or lost: {fetched[:100]!r}"
        try:
            content, carried = split(seen.content, seen.headers)
        except TeeVerifyError as error:
            return f"wrong: {error}"
        if carried != fetched:
            return "wrong: another statement is kept than the stream carries"
        found = STATEMENT.examine(
            Given(signature=fetched, answer=content, request=seen.body, context=self._context(seen))
        )
        return next(
            (f"wrong: {one}" for one in found.observations if one.outcome is not Outcome.PROVEN),
            None,
        )

    async def check_left(self, seen: Seen, get: Get) -> str | None:
        """See :class:`Dialect`."""
        left = time.monotonic()
        while time.monotonic() < left + _ABORT_SECONDS:
            head, raw = await get(_path(seen))
            if b" 200 " in head[:20]:
                self.slowest_abort = max(self.slowest_abort, time.monotonic() - left)
                return self._says_so(seen, parse_signed(raw))
            await asyncio.sleep(0.1)
        return "nothing was said of a stream that its client left"

    def _says_so(self, seen: Seen, signed: Signed) -> str | None:
        statement = signed.statement
        (process,) = self._processes
        try:
            signed.verify(process.keys)
        except TeeVerifyError as error:
            return f"wrong, of a stream that was left: {error}"
        asked = f"sha256:{hashlib.sha256(seen.body).hexdigest()}"
        if (statement.challenge, statement.request_hash) != (seen.challenge, asked):
            return "wrong: what is said of a stream that was left is of another one"
        if statement.response_length < len(seen.content):
            return "wrong: more has come of a stream that was left than is said"
        self.outran += statement.end == "complete"
        return None

    def _context(self, seen: Seen) -> Context:
        return Context(
            processes=self._processes,
            method="POST",
            target=CHAT,
            status=200,
            request_type=_JSON,
            response_type=seen.headers["content-type"],
            challenge=seen.challenge,
            at=now(),
        )


class Flat:
    """``dstack``: the signature has to be fetched, and what was left has none.

    Args:
        server: The server, which is attested first.
    """

    def __init__(self, server: RunningServer) -> None:
        session = teeverify.connect(server.url, roots=server.roots, dialect="dstack")
        self._signer = session.signer
        self.slowest_abort = 0.0
        self.outran = 0

    def ended(self, content: bytes) -> bool:
        """See :class:`Dialect`."""
        return content.endswith(DONE)

    async def check(self, seen: Seen, get: Get) -> str | None:
        """See :class:`Dialect`."""
        found = _ID.search(seen.content)
        if found is None:
            return "no id"
        head, raw = await get(b"/v1/signature/" + found[1])
        if b" 200 " not in head[:20]:
            return f"late or lost: {raw[:100]!r}"
        try:
            signed = parse_signature(raw)
            signer = verify_signed_text(signed)
        except TeeVerifyError as error:
            return f"wrong: {error}"
        hashes = tuple(hashlib.sha256(part).hexdigest() for part in (seen.body, seen.content))
        right = (signed.request_sha256, signed.response_sha256) == hashes
        return None if right and signer == self._signer else "wrong: of other bytes, or another key"

    async def check_left(self, seen: Seen, get: Get) -> str | None:
        """See :class:`Dialect`: it says nothing of these."""
        del seen, get
        return None


def _path(seen: Seen) -> bytes:
    return b"/v1/signature/" + seen.headers["teeverify-id"].encode()
