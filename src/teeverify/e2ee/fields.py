"""Requests and answers whose texts are sealed one by one (NEAR, Phala, Venice).

What is not a text of a message stays plain in these schemes, so a request that holds anything else
of the asker's (tools, images, stop words) is refused rather than half encrypted. An answer may hold
nothing plain where a text belongs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from teeverify.e2ee.boxes import Box, PrivateKey
from teeverify.encoding.strict import hex_bytes, json_value
from teeverify.errors import ConfigurationError, ResponseNotVerified, TeeVerifyError

__all__ = [
    "AnswerAad",
    "Envelope",
    "RequestAad",
    "open_answer",
    "open_event",
    "read_chat",
    "seal_messages",
]

RequestAad = Callable[[int, int | None], bytes]
"""Additional data of a message's text: by the message's number, and the part's if it has parts."""

AnswerAad = Callable[[str, str, int, str], bytes]
"""Additional data of an answer's text: by model, id, choice and field, as the answer says them."""

_OPEN, _PLAIN = "e2ee.open", "e2ee.plaintext"
# Members that say how to answer and nothing of what was asked.
_HARMLESS = frozenset(
    {
        "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
        "top_p", "top_k", "min_p", "n", "seed", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "ignore_eos", "min_tokens", "reasoning_effort",
    }
)  # fmt: skip
_TEXTS = ("content", "reasoning_content", "reasoning")
# What an answer's message may hold beside its texts, where it is not empty.
_KNOWN = frozenset({"role", *_TEXTS})
_EVENT_END = b"\n\n"
_DATA = b"data: "
_DONE = b"[DONE]"
_LARGEST_EVENT = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A sealed request, and what opens its answer.

    Attributes:
        body: What is sent, and what a signature is about.
        headers: What is sent with it.
        confirm: Headers that the answer must have, with their values, names in lower case.
        key: This request's own key.
        aad: Additional data of the answer's texts.
    """

    body: bytes
    headers: Mapping[str, str]
    key: PrivateKey = field(repr=False)
    aad: AnswerAad
    confirm: Mapping[str, str] = field(default_factory=dict)

    def require_applied(self, headers: Mapping[str, str]) -> None:
        """Refuse an answer whose headers say that it was not encrypted.

        Raises:
            ResponseNotVerified: They do, or say nothing where they must.
        """
        found = {name.lower(): value.strip().lower() for name, value in headers.items()}
        for name, value in self.confirm.items():
            if found.get(name) != value:
                raise ResponseNotVerified(
                    "the request was encrypted, and the answer does not say that it is",
                    id=_PLAIN,
                    got=f"{name}: {found.get(name, 'absent')}"[:80],
                    want=f"{name}: {value}",
                )

    def open(self, body: bytes) -> bytes:
        """A whole answer with its texts opened.

        Raises:
            ResponseNotVerified: A text is plain, was changed, or is somebody else's.
        """
        return open_answer(body, self.key, self.aad)

    def opener(self) -> StreamOpener:
        """Opens a streamed answer piece by piece."""
        return StreamOpener(self)


class StreamOpener:
    """Opens server-sent events, however the network cut them.

    Args:
        envelope: The request's.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        """The events that are whole by now, with their texts opened.

        Raises:
            ResponseNotVerified: A text is plain, was changed, or is somebody else's.
        """
        *whole, self._kept = (self._kept + piece).split(_EVENT_END)
        if len(self._kept) > _LARGEST_EVENT:
            raise ResponseNotVerified("an event of the answer has no end", id=_OPEN)
        return b"".join(self._opened(event) + _EVENT_END for event in whole)

    def _opened(self, event: bytes) -> bytes:
        """An event, with the further blank lines that Phala's proxy puts before it."""
        said = event.lstrip(b"\n")
        blank = event[: len(event) - len(said)]
        envelope = self._envelope
        return blank + (open_event(said, envelope.key, envelope.aad) if said else b"")

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            ResponseNotVerified: An event is cut.
        """
        if self._kept.strip():
            raise ResponseNotVerified("the answer's last event is cut", id=_OPEN)


def seal_messages(
    chat: Mapping[str, Any], box: Box, public: bytes, aad: RequestAad, *, parts_together: bool
) -> bytes:
    """A chat request with the texts of its messages sealed, as JSON.

    Args:
        chat: The request, as :func:`read_chat` gives it; its messages are changed.
        box: How texts are sealed.
        public: The attested key.
        aad: Additional data of each text.
        parts_together: Whether a message in parts is sealed whole, as JSON (images included), or
            text by text (then images are refused).

    Raises:
        ConfigurationError: The request holds what this scheme would leave readable.
    """
    for number, message in enumerate(chat["messages"]):
        content = _content(message)
        if isinstance(content, list) and not parts_together:
            for place, part in enumerate(content):
                part["text"] = box.seal(public, _text(part), aad(number, place)).hex()
            continue
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        if text:
            message["content"] = box.seal(public, text.encode(), aad(number, None)).hex()
    return json.dumps(chat, ensure_ascii=False, separators=(",", ":")).encode()


def read_chat(request: bytes) -> dict[str, Any]:
    """Read a chat request of which nothing but its messages' texts is to be kept secret.

    Args:
        request: The request's JSON.

    Raises:
        ConfigurationError: Not a chat request to a model, or one with more in it.
    """
    try:
        document = json_value(request, field="request", id="usage.e2ee")
    except TeeVerifyError as error:
        raise ConfigurationError(error.message, id="usage.e2ee") from None
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(messages, list) or not messages:
        raise ConfigurationError(
            "only chat requests are encrypted", id="usage.e2ee", want="a JSON object with messages"
        )
    model = document.get("model")
    # These would let one place in the additional data be read as another.
    if not isinstance(model, str) or any(sign in model for sign in "|\r\n"):
        raise ConfigurationError("the request names no model", id="usage.e2ee")
    plain = sorted(set(document) - _HARMLESS - {"messages"})
    if plain:
        raise ConfigurationError(
            "this scheme would leave a part of the request readable",
            id="usage.e2ee",
            got=", ".join(plain)[:200],
            hint="Leave it out, or use an endpoint whose TLS ends in the attested machine.",
        )
    return document


def _content(message: object) -> str | list[dict[str, Any]]:
    if isinstance(message, dict) and set(message) == {"role", "content"}:
        content = message["content"]
        if isinstance(content, str):
            return content
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            return content
    raise ConfigurationError(
        "this scheme would leave a part of a message readable",
        id="usage.e2ee",
        want="messages of role and content alone",
    )


def _text(part: dict[str, Any]) -> bytes:
    text = part.get("text")
    if set(part) != {"type", "text"} or part["type"] != "text" or not isinstance(text, str):
        raise ConfigurationError(
            "this scheme encrypts the texts of a message and nothing else",
            id="usage.e2ee",
            got=str(part.get("type"))[:40],
        )
    return text.encode()


def open_answer(body: bytes, key: PrivateKey, aad: AnswerAad) -> bytes:
    """A whole answer with its texts opened.

    Raises:
        ResponseNotVerified: A text is plain, was changed, or is somebody else's.
    """
    return _opened(body, "message", key, aad)


def open_event(event: bytes, key: PrivateKey, aad: AnswerAad) -> bytes:
    """One server-sent event with its texts opened; comments and the last event as they are.

    Raises:
        ResponseNotVerified: As :func:`open_answer`.
    """
    if event == _DATA + _DONE or event.startswith(b":"):
        return event
    if not event.startswith(_DATA) or b"\n" in event:
        raise ResponseNotVerified("an event of the answer has another form", id=_OPEN)
    return _DATA + _opened(event[len(_DATA) :], "delta", key, aad)


def _opened(raw: bytes, where: str, key: PrivateKey, aad: AnswerAad) -> bytes:
    try:
        document = json_value(raw, field="answer", id=_OPEN)
    except TeeVerifyError:
        raise ResponseNotVerified("a part of the answer is no JSON", id=_OPEN) from None
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(choices, list):
        raise ResponseNotVerified("the answer has no choices", id=_OPEN)
    model, answer_id = str(document.get("model", "")), str(document.get("id", ""))
    for choice in choices:
        message = choice.get(where) if isinstance(choice, dict) else None
        number = choice.get("index", 0) if isinstance(choice, dict) else None
        if not isinstance(message, dict) or not isinstance(number, int):
            raise ResponseNotVerified("a choice of the answer has another form", id=_OPEN)
        _require_known(message)
        for name in _TEXTS:
            if message.get(name):
                blob = _blob(message[name], name)
                opened = key.open(blob, aad(model, answer_id, number, name))
                message[name] = _utf8(opened)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _require_known(message: dict[str, Any]) -> None:
    plain = sorted(name for name, value in message.items() if value and name not in _KNOWN)
    if plain:
        raise ResponseNotVerified(
            "the answer holds a part that this scheme leaves plain: anybody on the way could have "
            "read or written it",
            id=_PLAIN,
            got=", ".join(plain)[:80],
        )


def _blob(text: object, name: str) -> bytes:
    try:
        return hex_bytes(text, field=f"answer.{name}", id=_PLAIN)
    except TeeVerifyError:
        raise ResponseNotVerified(
            "the request was encrypted, and a text of the answer is not", id=_PLAIN, got=name
        ) from None


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ResponseNotVerified("a text of the answer is no UTF-8", id=_OPEN) from None
