"""What one streamed answer says: its bytes, and when each of them came."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Sample", "read_stream"]

_EVENT_END = b"\n\n"
_WORDS = ("content", "reasoning", "reasoning_content", "tool_calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request and its answer. Times are seconds of one monotonic clock.

    Attributes:
        sent: When the request was handed to the socket.
        ended: When the answer's last byte had come, or when it failed.
        tokens: When each event that carries part of the answer had come.
        prompt_tokens: As the endpoint counted; ``None`` where it does not say.
        output_tokens: As the endpoint counted; ``None`` where it does not say.
        wanted: Tokens that were asked for.
        finish: Why the answer ended, as the endpoint says.
        error: What went wrong; such a sample is counted, and nothing else of it is used.
        id: The answer's id.
        request: The request's bytes, kept where the answer is to be verified.
        response: The answer's bytes, likewise.
    """

    sent: float
    ended: float
    wanted: int
    tokens: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish: str | None = None
    error: str | None = None
    id: str | None = None
    request: bytes = b""
    response: bytes = b""

    @property
    def count(self) -> int:
        """Tokens of the answer: the endpoint's count, or else the events."""
        return len(self.tokens) if self.output_tokens is None else self.output_tokens


def read_stream(
    pieces: Iterable[tuple[float, bytes]], *, sent: float, ended: float, wanted: int
) -> Sample:
    """Read a stream of server-sent events after it has ended, so that reading costs it nothing.

    An event counts as part of the answer when its first choice has text, even an empty one (a
    token may decode to nothing), but not when it only announces the role.

    Args:
        pieces: What the socket gave, and when.
        sent: When the request was sent.
        ended: When the last piece had come.
        wanted: Tokens that were asked for.
    """
    tokens: list[float] = []
    usage: dict[str, object] = {}
    finish = answer_id = None
    done = False
    for at, data in _events(pieces):
        if data == b"[DONE]":
            done = True
            continue
        try:
            event = json.loads(data)
            choices = event.get("choices") or []
        except (ValueError, AttributeError, RecursionError):
            return Sample(sent=sent, ended=ended, wanted=wanted, error="an event is no JSON object")
        if event.get("error"):
            return Sample(sent=sent, ended=ended, wanted=wanted, error="an error in mid-stream")
        answer_id = answer_id or event.get("id")
        usage = event.get("usage") or usage
        if choices:
            finish = choices[0].get("finish_reason") or finish
            if _carries(choices[0]):
                tokens.append(at)
    if not done or not tokens:
        why = "the stream broke off" if not done else "the answer is empty"
        return Sample(sent=sent, ended=ended, wanted=wanted, error=why)
    return Sample(
        sent=sent,
        ended=ended,
        wanted=wanted,
        tokens=tuple(tokens),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        finish=finish,
        id=answer_id,
    )


def _events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The data of each event, with the time at which its last byte had come."""
    kept = b""
    for at, piece in pieces:
        *whole, kept = (kept + piece).split(_EVENT_END)
        for event in whole:
            if event.startswith(b"data: "):
                yield at, event[6:]


def _carries(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return "text" in choice
    texts = [delta[word] for word in _WORDS if delta.get(word) is not None]
    return any(texts) or (bool(texts) and "role" not in delta)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
