"""What an answer's bytes say of themselves: its end, its model, its time.

Read only after the bytes were hashed: nothing here takes part in what is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from teeverify.clock import from_unix
from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence

__all__ = ["Body", "read_body", "requested_model"]

_ID = "answer.complete"
_DONE = b"data: [DONE]"
_MAX_FIELD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An answer's own words about itself.

    Attributes:
        form: ``stream`` (server-sent events), ``json``, or ``other``.
        complete: Whether it has the end that its form must have.
        model: The model that it names.
        created: The time that it names.
    """

    form: str
    complete: bool
    model: str | None = None
    created: datetime | None = None


def read_body(raw: bytes) -> Body:
    """Read an answer of an OpenAI-compatible endpoint, streamed or plain."""
    if raw.startswith((b"data:", b"event:", b"id:", b":")):
        model, created = _first_event(raw)
        return Body(form="stream", complete=_ended(raw), model=model, created=created)
    try:
        answer = JsonObject.parse(raw, path="answer", id=_ID)
    except MalformedEvidence:
        return Body(form="other", complete=False)
    return Body(form="json", complete=True, model=_model(answer), created=_created(answer))


def _ended(raw: bytes) -> bool:
    """Whether the last event is the terminal one, with its blank line (WHATWG SSE 9.2.6)."""
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    ended = lines.rstrip(b"\n").rpartition(b"\n")[2] == _DONE
    return ended and lines.endswith(b"\n\n")


def _first_event(raw: bytes) -> tuple[str | None, datetime | None]:
    for line in raw.splitlines():
        if line.startswith(b"data:"):
            try:
                event = JsonObject.parse(line[5:].strip(), path="answer", id=_ID)
            except MalformedEvidence:
                return None, None
            return _model(event), _created(event)
    return None, None


def _model(answer: JsonObject) -> str | None:
    name = answer.raw("model")
    return name if isinstance(name, str) and 0 < len(name) <= _MAX_FIELD else None


def _created(answer: JsonObject) -> datetime | None:
    for field in ("created", "created_at"):
        value = answer.raw(field)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return from_unix(value)
    return None


def requested_model(raw: bytes) -> str | None:
    """The model that a request's JSON body names, if it is such a body."""
    try:
        return _model(JsonObject.parse(raw, path="request", id="request.bound"))
    except MalformedEvidence:
        return None
