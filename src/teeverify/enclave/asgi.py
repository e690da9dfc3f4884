"""The types of ASGI, and what a request is here: exact bytes, hashed as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from teeverify.enclave.errors import HttpError

__all__ = [
    "Application",
    "Body",
    "Header",
    "Peer",
    "Receive",
    "Request",
    "Send",
    "json_bytes",
    "send_json",
    "send_whole",
]

Header: TypeAlias = "tuple[bytes, bytes]"
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_MAX_QUERY_FIELDS = 16


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body.

    Attributes:
        data: Its bytes, exactly as received.
        sha256: Their hash.
    """

    data: bytes
    sha256: bytes


class Request:
    """One HTTP request.

    Args:
        scope: ASGI's description of it.
        receive: ASGI's way to its body.
    """

    def __init__(self, scope: Message, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.target: bytes = scope.get("raw_path") or self.path.encode("utf-8", "replace")
        self.receive = receive
        self._query: bytes = scope["query_string"]
        if self._query:
            self.target += b"?" + self._query
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]

    def query(self) -> dict[str, str]:
        """The query, one value a name.

        Raises:
            HttpError: 400: a name twice, which two readers would read differently; or too many.
        """
        try:
            pairs = parse_qsl(
                self._query.decode("ascii"),
                keep_blank_values=True,
                max_num_fields=_MAX_QUERY_FIELDS,
                errors="strict",
            )
        except ValueError:
            raise HttpError.bad_request("the query cannot be read") from None
        found = dict(pairs)
        if len(found) != len(pairs):
            raise HttpError.bad_request("the query names a parameter twice")
        return found

    def header(self, name: bytes) -> bytes:
        """The value of a header, or nothing."""
        return next((value for key, value in self._headers if key == name), b"")

    async def body(self, limit: int, *, seconds: float) -> Body:
        """Read the body, hashing it as it arrives.

        Args:
            limit: Most bytes that are read.
            seconds: How long it may take.

        Raises:
            HttpError: 413: too large; 408: too slow; 415: compressed, so that the bytes that are
                hashed would not be the text that is read.
            ConnectionError: The client left.
        """
        if self.header(b"content-encoding") not in (b"", b"identity"):
            raise HttpError(415, "a compressed request is not taken", code="content_encoding")
        declared = self.header(b"content-length")
        if len(declared) > len(str(limit)) or (declared.isdigit() and int(declared) > limit):
            raise HttpError.too_large(limit)
        # As `asyncio.wait_for`, which before Python 3.12 makes a task of it.
        task = asyncio.current_task()
        late = False

        def give_up() -> None:
            """The body has not come in time."""
            nonlocal late
            late = task is not None and task.cancel()

        clock = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            return await self._read(limit)
        except asyncio.CancelledError:
            if not late or _uncancelled(task):
                raise
            raise HttpError(408, "the request did not arrive in time", code="timeout") from None
        finally:
            clock.cancel()

    async def _read(self, limit: int) -> Body:
        digest = hashlib.sha256()
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise HttpError.too_large(limit)
            digest.update(part)
            parts.append(part)
            if not message.get("more_body", False):
                return Body(b"".join(parts), digest.digest())


class Peer:
    """The client, watched while an answer is made: when it leaves, the work stops.

    Used as ``async with``, after the request's body was read. ``gone`` tells at the end which of
    the two it was: the block is then left early, without an exception.

    Args:
        receive: ASGI's way to learn that the client left.
    """

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Peer:  # noqa: PYI034 -- Self is not in Python 3.10
        """Begin to watch."""
        self._watch = asyncio.create_task(self._wait(asyncio.current_task()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Stop watching; swallow the cancellation that this watch itself asked for."""
        del error, traceback
        if self._watch is not None:
            self._watch.cancel()
            # Its exception's traceback leads back here: kept, all of this exchange would stay until
            # the collector's next full turn, which under load is many minutes away.
            self._watch = None
        if self.gone and kind is None:
            # The cancellation was asked for too late to arrive inside the block.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        ours = self.gone and kind is not None and issubclass(kind, asyncio.CancelledError)
        task = asyncio.current_task()
        if ours:
            _uncancelled(task)
        return ours

    async def _wait(self, work: asyncio.Task[Any] | None) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if work is not None:
            work.cancel()


def _uncancelled(task: asyncio.Task[Any] | None) -> int:
    """Take back one cancellation; how many are left."""
    if task is not None and hasattr(task, "uncancel"):  # from Python 3.11
        return int(task.uncancel())
    return 0


def json_bytes(value: object) -> bytes:
    """JSON as it is sent: compact, ASCII."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


async def send_json(send: Send, status: int, body: bytes, headers: Sequence[Header] = ()) -> None:
    """Send one whole JSON answer."""
    await send_whole(send, status, body, [(b"content-type", b"application/json"), *headers])


async def send_whole(send: Send, status: int, body: bytes, headers: Sequence[Header]) -> None:
    """Send one whole answer; of the headers its length is added, and that nobody may keep it."""
    length = (b"content-length", b"%d" % len(body))
    own = [(b"cache-control", b"no-store"), length]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *own]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
