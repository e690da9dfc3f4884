"""One exchange on its way through: what was asked, and what has left so far."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Literal, TypeAlias

from teeverify.enclave.asgi import Body, Header, Request
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_value
from teeverify.errors import MalformedEvidence

__all__ = ["End", "Exchange"]

End: TypeAlias = Literal["open", "complete", "aborted"]

_ID = "server.answer"
_ID_BYTES = 16
# Almost every answer begins with its id: no need to read all of its JSON.
_FIRST_MEMBER = re.compile(rb'\s*\{\s*"id"\s*:\s*"([!#-\[\]-~]{1,200})"')
_IN_FULL = re.compile(r"[!-~]{1,200}")
_EVENT_DATA = re.compile(rb"(?:^|\n)data: ?(\{[^\r\n]*\})\r?\n")
_MAX_HEAD = 1024 * 1024
# Where the answers' id stands: OpenAI's own routes, `response.created`, `message_start`.
_INSIDE = ("response", "message")


class Exchange:
    """A request, and the answer to it as its bytes leave.

    Args:
        request: The request, of which only the head was read.

    Attributes:
        id: Its name: ours, random, and no client's to choose.
        method: Its method.
        target: Path and query, as received.
        request_type: Its content type.
        header: Reads a header of the request.
        request: Its body's bytes and hash, once it was read to its end.
        opening: Headers that every answer to it carries.
        status: Status of the answer.
        response_type: The answer's content type.
        length: How many bytes of the answer have left.
        events: How many events of a stream have left; ``None`` for other answers.
        begun: Whether any byte of the answer was sent.
        upstream_id: The id that the engine gave the answer, once known.
        end: How it ended.
        certified: Whether it was signed, and perhaps stored.
    """

    def __init__(self, request: Request) -> None:
        self.id = f"tv1-{secrets.token_hex(_ID_BYTES)}"
        self.method = request.method
        self.target = request.target
        self.header = request.header
        self.request_type = request.header(b"content-type")
        self.request: Body | None = None
        self.opening: tuple[Header, ...] = ()
        self.status = 0
        self.response_type = b""
        self.length = 0
        self.events: int | None = None
        self.begun = False
        self.upstream_id: str | None = None
        self.end: End = "open"
        self.certified = False
        self._hash = hashlib.sha256()
        self._head = b""
        self._before: tuple[hashlib._Hash, int, int | None] = (self._hash, 0, None)

    @property
    def answered(self) -> bool:
        """Whether the answer is one: whole, and no error."""
        return self.end == "complete" and self.status == 200  # noqa: PLR2004 -- OK

    @property
    def response_sha256(self) -> bytes:
        """The hash of all that has left."""
        return self._hash.digest()

    def leaving(self, data: bytes) -> bytes:
        """Take note of bytes that leave now, unchanged."""
        self._hash.update(data)
        self.length += len(data)
        return data

    def leaving_event(self, data: bytes) -> bytes:
        """As :meth:`leaving`, for a piece of an event stream; its first event names the answer."""
        self._hash.update(data)
        self.length += len(data)
        self.events = (self.events or 0) + data.count(b"\n\n")
        if self.upstream_id is None:
            self._look_for_id(data)
        return data

    def leaving_last(self, data: bytes) -> bytes:
        """As :meth:`leaving_event`, for the end, which may have to be taken back."""
        self._before = (self._hash.copy(), self.length, self.events)
        return self.leaving_event(data)

    def abort(self) -> None:
        """Its end did not leave."""
        if self.end == "complete":
            self._hash, self.length, self.events = self._before
        self.end = "aborted"

    def fail(self, status: int, content_type: bytes, body: bytes) -> None:
        """Nothing has left, and an error is the answer."""
        self.status, self.response_type, self.end = status, content_type, "complete"
        self._hash, self.length, self.events = hashlib.sha256(body), len(body), None
        self.upstream_id = None

    def read_id(self, whole: bytes) -> None:
        """Find the id in an answer in one piece."""
        self.upstream_id = _id_of(whole)

    def _look_for_id(self, data: bytes) -> None:
        if len(self._head) > _MAX_HEAD:
            return
        self._head += data
        event = _EVENT_DATA.search(self._head)
        if event:
            self.upstream_id = _id_of(event[1])
            self._head = b"" if self.upstream_id else self._head[event.end() - 1 :]


def _id_of(raw: bytes) -> str | None:
    """The id of an answer or of an event; ``None`` where there is none that names one."""
    first = _FIRST_MEMBER.match(raw)
    if first:
        return first[1].decode("ascii")
    try:
        answer = JsonObject(
            json_value(raw, field="answer", id=_ID, max_bytes=len(raw)), path="answer", id=_ID
        )
        for name in _INSIDE:
            if "id" not in answer and name in answer:
                answer = answer.object(name)
        found = answer.text("id")
    except MalformedEvidence:
        return None
    return found if _IN_FULL.fullmatch(found) else None
