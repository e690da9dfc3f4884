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
        id: The id that it gives itself, under which its signature is kept.
        model: The model that it names.
        created: The time that it names.
    """

    form: str
    complete: bool
    id: str | None = None
    model: str | None = None
    created: datetime | None = None


def read_body(raw: bytes) -> Body:
    """Read an answer of an OpenAI-compatible endpoint, streamed or plain."""
    if raw.startswith((b"data:", b"event:", b"id:", b":")):
        return _body("stream", _first_event(raw), complete=_ended(raw))
    try:
        answer = JsonObject.parse(raw, path="answer", id=_ID)
    except MalformedEvidence:
        return Body(form="other", complete=False)
    return _body("json", answer, complete=True)


def _body(form: str, names: JsonObject | None, *, complete: bool) -> Body:
    if names is None:
        return Body(form=form, complete=complete)
    return Body(
        form=form,
        complete=complete,
        id=_text(names, "id"),
        model=_text(names, "model"),
        created=_created(names),
    )


def _ended(raw: bytes) -> bool:
    """Whether the last event, and it alone, is the terminal one (WHATWG SSE 9.2.6).

    Readers stop at the first: whatever stood behind it would be signed and never be seen.
    """
    text = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = text.rstrip(b"\n").split(b"\n")
    alone = lines.count(_DONE) == 1 and (len(lines) == 1 or not lines[-2])
    return alone and lines[-1] == _DONE and text.endswith(b"\n\n")


def _first_event(raw: bytes) -> JsonObject | None:
    for line in raw.splitlines():
        if line.startswith(b"data:"):
            try:
                return JsonObject.parse(line[5:].strip(), path="answer", id=_ID)
            except MalformedEvidence:
                return None
    return None


def _text(answer: JsonObject, field: str) -> str | None:
    text = answer.raw(field)
    return text if isinstance(text, str) and 0 < len(text) <= _MAX_FIELD else None


def _created(answer: JsonObject) -> datetime | None:
    for field in ("created", "created_at"):
        value = answer.raw(field)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return from_unix(value)
    return None


def requested_model(raw: bytes) -> str | None:
    """The model that a request's JSON body names, if it is such a body."""
    try:
        return _text(JsonObject.parse(raw, path="request", id="request.bound"), "model")
    except MalformedEvidence:
        return None
