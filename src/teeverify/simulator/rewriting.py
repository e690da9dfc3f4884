"""Answers rewritten on their way, as whoever sits between an enclave and its clients can do."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from teeverify.responses.statement import (
    parse_signed,
    read_header,
    read_trailer,
    write_header,
    write_signed,
    write_trailer,
)
from teeverify.simulator.keys import SimulatedKey

__all__ = [
    "ANSWERS",
    "STATEMENT_HEADERS",
    "TRAILER",
    "Message",
    "Rewrite",
    "Rewriter",
    "Send",
    "another_gpu",
    "signed_anew",
]

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = Mapping[bytes, bytes]

STATEMENT_HEADERS = (b"teeverify-statement", b"teeverify-signature")
TRAILER = b": teeverify/1"
_LETTER = re.compile(rb'("content":"[^"A-Za-z\\]*)([A-Za-z])')
_DATA = b"data: "
_END = b"\n\n"
_FOREIGN = {"ecdsa": SimulatedKey("ecdsa"), "ed25519": SimulatedKey("ed25519")}


def _as_it_is(headers: Headers) -> Headers:
    return headers


def _unchanged(text: bytes) -> bytes:
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """What becomes of an answer.

    Attributes:
        headers: Its headers.
        text: One of its events, or all of an answer that is no stream. Only the first that changes
            is changed, so that exactly one thing is wrong.
    """

    headers: Callable[[Headers], Headers] = _as_it_is
    text: Callable[[bytes], bytes] = _unchanged


class Rewriter:
    """Rewrites an answer: event by event where it is streamed, else as a whole.

    Args:
        send: Where it goes.
        rewrite: What becomes of it.
    """

    def __init__(self, send: Send, rewrite: Rewrite) -> None:
        self._send = send
        self._rewrite = rewrite
        self._start: Message = {}
        self._streamed = False
        self._held = b""
        self._changed = False

    async def __call__(self, message: Message) -> None:
        """Take one message of the answer."""
        if message["type"] == "http.response.start":
            headers = self._rewrite.headers(dict(message["headers"]))
            self._streamed = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            self._start = {**message, "headers": list(headers.items())}
            if self._streamed:
                await self._send(self._start)
            return
        body = self._held + message.get("body", b"")
        if self._streamed:
            events = (self._once(event) for event in body.split(_END))
            await self._send({**message, "body": _END.join(events)})
        elif message.get("more_body", False):
            self._held = body
        else:
            body = self._once(body)
            headers = dict(self._start["headers"]) | {b"content-length": b"%d" % len(body)}
            await self._send({**self._start, "headers": list(headers.items())})
            await self._send({**message, "body": body})

    def _once(self, text: bytes) -> bytes:
        rewritten = text if self._changed else self._rewrite.text(text)
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


def _without_statement(headers: Headers) -> Headers:
    return {name: value for name, value in headers.items() if name not in STATEMENT_HEADERS}


def _without_trailer(text: bytes) -> bytes:
    return b"" if text.startswith(TRAILER) else text


def _signed_headers(headers: Headers) -> Headers:
    statement, signature = (headers.get(name, b"").decode("ascii") for name in STATEMENT_HEADERS)
    if not statement:
        return headers
    signed = json.loads(signed_anew(read_header(statement, signature)))
    forged = {name: bytes.fromhex(text) for name, text in signed["signatures"].items()}
    return {**headers, STATEMENT_HEADERS[1]: write_header(forged).encode("ascii")}


def _signed_trailer(text: bytes) -> bytes:
    if not text.startswith(TRAILER):
        return text
    signed = parse_signed(signed_anew(read_trailer(b"\n" + text + _END)[1]))
    return write_trailer(signed.statement, signed.signatures).removesuffix(_END)


ANSWERS: Mapping[str, Rewrite] = {
    "tampered-answer": Rewrite(text=_tamper),
    "reserialised-json": Rewrite(text=_reserialise),
    "missing-chunk": Rewrite(text=_leave_out),
    "no-signature": Rewrite(headers=_without_statement, text=_without_trailer),
    "foreign-signature": Rewrite(headers=_signed_headers, text=_signed_trailer),
}
"""What each fault makes of answers."""


def signed_anew(text: bytes) -> bytes:
    """What is served as a signature, signed by keys of the host's own; an error as it is."""
    record = json.loads(text)
    if "signatures" in record:
        signed = parse_signed(text)
        forged = _FOREIGN["ecdsa"].sign_digest(signed.statement.digest)
        return write_signed(signed.statement, {**signed.signatures, "secp256k1": forged})
    if "signature" not in record:
        return text
    by = _FOREIGN[record["signing_algo"]].sign(record["text"])
    return json.dumps({**record, "signature": by}).encode("ascii")


def another_gpu(text: bytes) -> bytes:
    """A report in which the first GPU is shown twice; an error as it is."""
    report = json.loads(text)
    for node in (report, *report.get("all_attestations", ())):
        if "devices" in node:
            node["devices"].insert(0, node["devices"][0])
        elif "nvidia_payload" in node:
            payload = json.loads(node["nvidia_payload"])
            payload["evidence_list"].insert(0, payload["evidence_list"][0])
            node["nvidia_payload"] = json.dumps(payload)
    return json.dumps(report).encode("ascii")
