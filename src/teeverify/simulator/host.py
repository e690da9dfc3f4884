"""A dishonest host between an enclave server and its clients: an ASGI application around another.

The enclave itself stays honest: what goes wrong here goes wrong after it has hashed and signed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from teeverify.errors import ConfigurationError
from teeverify.simulator.keys import SimulatedKey

__all__ = ["HOST_FAULTS", "DishonestHost"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

HOST_FAULTS: Mapping[str, str] = {
    "tampered-answer": "one byte of the answer is changed after it was hashed",
    "reserialised-json": "the answer's JSON is written again, with other white space",
    "other-answer": "the signature served is that of another answer to the same request",
    "no-signature": "no signature is served",
    "foreign-signature": "another key signed, under the name of the attested one",
    "missing-chunk": "one event of a stream is left out",
}
_CHAT = "/v1/chat/completions"
_SIGNATURE = "/v1/signature/"
_LETTER = re.compile(rb'("content":"[^"A-Za-z\\]*)([A-Za-z])')
_ID = re.compile(rb'"id":"([^"]+)"')
_DATA = b"data: "
_HEAD = 1024


class DishonestHost:
    """Passes everything on but for one fault.

    Args:
        enclave: The application behind it.
        fault: A key of :data:`HOST_FAULTS`.

    Raises:
        ConfigurationError: No such fault.
    """

    def __init__(self, enclave: Application, fault: str) -> None:
        if fault not in HOST_FAULTS:
            raise ConfigurationError(
                "no such fault", id="usage.fault", got=fault, want=", ".join(HOST_FAULTS)
            )
        self._enclave = enclave
        self._fault = fault
        self._swapped: dict[str, str] = {}
        self._foreign = {"ecdsa": SimulatedKey("ecdsa"), "ed25519": SimulatedKey("ed25519")}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if path.startswith(_SIGNATURE) and self._fault == "foreign-signature":
            send = _Rewriter(send, self._sign_again)
        elif path.startswith(_SIGNATURE):
            scope = {**scope, "path": self._signature_path(path.removeprefix(_SIGNATURE))}
        elif path == _CHAT and self._fault == "other-answer":
            await self._answer_twice(scope, receive, send)
            return
        elif path == _CHAT:
            send = _Rewriter(send, _REWRITES.get(self._fault, _unchanged))
        await self._enclave(scope, receive, send)

    def _sign_again(self, text: bytes) -> bytes:
        """The same text, signed by a key of the host's own."""
        if not text.startswith(b'{"text":'):
            return text
        record = json.loads(text)
        forged = self._foreign[record["signing_algo"]].sign(record["text"])
        return json.dumps({**record, "signature": forged}).encode("ascii")

    def _signature_path(self, answer_id: str) -> str:
        if self._fault == "no-signature":
            return f"{_SIGNATURE}chatcmpl-{'0' * 32}"
        return _SIGNATURE + self._swapped.get(answer_id, answer_id)

    async def _answer_twice(self, scope: Message, receive: Receive, send: Send) -> None:
        """Ask the enclave twice, and serve the second signature for the first answer."""
        body = await _read(receive)
        hidden = _Sink()
        await self._enclave(dict(scope), _replay(body, receive), hidden)
        shown = _Sink(send)
        shown.on_id = lambda answer_id: self._swapped.update({answer_id: hidden.answer_id})
        await self._enclave(scope, _replay(body, receive), shown)


class _Sink:
    """Takes an answer, notes its id, and passes it on where there is somebody to pass it on to."""

    def __init__(self, send: Send | None = None) -> None:
        self._send = send
        self._head = b""
        self.answer_id = ""
        self.on_id: Callable[[str], None] = lambda _: None

    async def __call__(self, message: Message) -> None:
        self._head = (self._head + message.get("body", b""))[:_HEAD]
        found = _ID.search(self._head)
        if found and not self.answer_id:
            self.answer_id = found[1].decode("ascii")
            self.on_id(self.answer_id)
        if self._send is not None:
            await self._send(message)


class _Rewriter:
    """Rewrites an answer: event by event where it is streamed, else as a whole."""

    def __init__(self, send: Send, rewrite: Callable[[bytes], bytes]) -> None:
        self._send = send
        self._rewrite = rewrite
        self._start: Message = {}
        self._streamed = False
        self._held = b""
        self._changed = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            self._streamed = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            self._start = message
            if self._streamed:
                await self._send(message)
            return
        body = self._held + message.get("body", b"")
        if self._streamed:
            events = (self._once(event) for event in body.split(b"\n\n"))
            await self._send({**message, "body": b"\n\n".join(events)})
        elif message.get("more_body", False):
            self._held = body
        else:
            body = self._once(body)
            headers = dict(self._start["headers"]) | {b"content-length": b"%d" % len(body)}
            await self._send({**self._start, "headers": list(headers.items())})
            await self._send({**message, "body": body})

    def _once(self, text: bytes) -> bytes:
        """Change the first place that can be changed, so that exactly one thing is wrong."""
        rewritten = text if self._changed else self._rewrite(text)
        self._changed = self._changed or rewritten != text
        return rewritten


def _tamper(text: bytes) -> bytes:
    """Another letter where the answer's text begins."""
    return _LETTER.sub(_other_letter, text, count=1)


def _other_letter(found: re.Match[bytes]) -> bytes:
    head, letter = found.groups()
    other = b"B" if letter == b"A" else b"A"
    return bytes(head + other)


def _reserialise(text: bytes) -> bytes:
    head, body = (_DATA, text[len(_DATA) :]) if text.startswith(_DATA) else (b"", text)
    if not body.startswith(b"{"):
        return text
    written: str = json.dumps(json.loads(body))
    return head + written.encode("ascii")


def _leave_out(text: bytes) -> bytes:
    """Nothing where an event said something."""
    return b": left out" if text.startswith(_DATA) and _LETTER.search(text) else text


def _unchanged(text: bytes) -> bytes:
    return text


_REWRITES: Mapping[str, Callable[[bytes], bytes]] = {
    "tampered-answer": _tamper,
    "reserialised-json": _reserialise,
    "missing-chunk": _leave_out,
}


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read before, then whatever comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
