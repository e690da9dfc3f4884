"""A dishonest host between an enclave server and its clients: an ASGI application around another.

The enclave itself stays honest: what goes wrong here goes wrong after it has hashed and signed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from teeverify.errors import ConfigurationError
from teeverify.simulator.rewriting import (
    ANSWERS,
    STATEMENT_HEADERS,
    TRAILER,
    Message,
    Rewrite,
    Rewriter,
    Send,
    another_gpu,
    signed_anew,
)

__all__ = ["HOST_FAULTS", "RESTART", "DishonestHost", "Restarted"]

Receive: TypeAlias = Callable[[], Awaitable[Message]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

HOST_FAULTS: Mapping[str, str] = {
    "wrong-nonce": "all evidence answers another nonce than the client's",
    "same-gpu-twice": "one GPU is presented as two",
    "tampered-answer": "one byte of the answer is changed after it was hashed",
    "reserialised-json": "the answer's JSON is written again, with other white space",
    "other-answer": "the signature served is that of another answer to the same request",
    "no-signature": "no signature is served",
    "foreign-signature": "another key signed, under the name of the attested one",
    "missing-chunk": "one event of a stream is left out",
}
RESTART = "other-code-after-restart"
_CHAT = "/v1/chat/completions"
_REPORT = "/v1/attestation/report"
_SIGNATURE = "/v1/signature/"
_ID = re.compile(rb'"id":"([^"]+)"')
_NONCE = re.compile(rb"(?<=nonce=)[0-9A-Fa-f]{64}")
_NO_ID = "0" * 32
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
        self._nonce = secrets.token_bytes(32).hex().encode("ascii")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if path.startswith(_SIGNATURE) and self._fault == "foreign-signature":
            send = Rewriter(send, Rewrite(text=signed_anew))
        elif path.startswith(_SIGNATURE):
            scope = {**scope, "path": self._signature_path(path.removeprefix(_SIGNATURE))}
        elif path == _REPORT and self._fault == "wrong-nonce":
            query = _NONCE.sub(self._nonce, scope.get("query_string", b""))
            scope = {**scope, "query_string": query}
        elif path == _REPORT and self._fault == "same-gpu-twice":
            send = Rewriter(send, Rewrite(text=another_gpu))
        elif path == _CHAT and self._fault == "other-answer":
            await self._answer_twice(scope, receive, send)
            return
        elif path == _CHAT:
            send = Rewriter(send, ANSWERS.get(self._fault, Rewrite()))
        await self._enclave(scope, receive, send)

    def _signature_path(self, answer_id: str) -> str:
        if self._fault == "no-signature":
            return f"{_SIGNATURE}chatcmpl-{_NO_ID}"
        return _SIGNATURE + self._swapped.get(answer_id, answer_id)

    async def _answer_twice(self, scope: Message, receive: Receive, send: Send) -> None:
        """Ask the enclave twice, and serve the second signature for the first answer."""
        body = await _read(receive)
        hidden = _Sink()
        await self._enclave(dict(scope), _replay(body, receive), hidden)

        def trailer(text: bytes) -> bytes:
            return hidden.trailer if text.startswith(TRAILER) else text

        shown = _Sink(
            Rewriter(send, Rewrite(headers=lambda own: {**own, **hidden.signed}, text=trailer))
        )
        shown.on_id = lambda answer_id: self._swapped.update({answer_id: hidden.answer_id})
        await self._enclave(scope, _replay(body, receive), shown)


class Restarted:
    """A machine that is started anew once it has shown one report.

    Args:
        before: What answers until then.
        after: What answers from then on, with keys of its own.
    """

    def __init__(self, before: Application, after: Application) -> None:
        self._current = before
        self._after = after

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        current = self._current
        if scope.get("path", "") == _REPORT:
            self._current = self._after
        await current(scope, receive, send)


class _Sink:
    """Takes an answer, notes what names and signs it, and passes it on where somebody waits."""

    def __init__(self, send: Send | None = None) -> None:
        self._send = send
        self._head = b""
        self.answer_id = ""
        self.signed: dict[bytes, bytes] = {}
        self.trailer = b""
        self.on_id: Callable[[str], None] = lambda _: None

    async def __call__(self, message: Message) -> None:
        headers = dict(message.get("headers", ()))
        self.signed.update({name: headers[name] for name in STATEMENT_HEADERS if name in headers})
        body = message.get("body", b"")
        _, mark, rest = body.rpartition(TRAILER)
        self.trailer = mark + rest.rstrip(b"\n") if mark else self.trailer
        self._head = (self._head + body)[:_HEAD]
        found = _ID.search(self._head)
        if found and not self.answer_id:
            self.answer_id = found[1].decode("ascii")
            self.on_id(self.answer_id)
        if self._send is not None:
            await self._send(message)


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
