"""The way of an answer through the server: byte for byte, and hashed as it passes.

Its end is held back until its signature is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

from teeverify.enclave.asgi import Header, Message, Peer, Request, Send, send_json, send_whole
from teeverify.enclave.engines.backend import Answer, Asked, Backend, BrokenOff, Parts
from teeverify.enclave.errors import HttpError
from teeverify.enclave.exchange import Exchange
from teeverify.enclave.framing import RESERVED, Framing, StreamEnd
from teeverify.enclave.metrics import Metrics
from teeverify.enclave.signing import Notary

__all__ = ["MAX_BODY", "Aborted", "Relay"]

_Last: TypeAlias = Callable[[], Awaitable[None]]

MAX_BODY = 16 * 1024 * 1024
_MAX_ANSWER = 64 * 1024 * 1024
_MAX_ERROR = 1024 * 1024
_BODY_SECONDS = 30.0
_OK = 200
_CLIENT_ERRORS = range(400, 500)
_ERRORS = range(400, 600)
# The engine refuses this server, not its client.
_OURS = (401, 403, 407)
_STREAM = b"text/event-stream"
_JSON = b"application/json"
_STREAM_HEADERS = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))


class Aborted(Exception):
    """The answer broke off after its first bytes had left: the connection must break too."""


class Relay:
    """Answers requests by way of what stands behind the server.

    Args:
        backend: What makes the answers.
        notary: What signs them and keeps the signatures.
        metrics: Where it is counted.
    """

    def __init__(self, backend: Backend, notary: Notary, metrics: Metrics) -> None:
        self._backend = backend
        self._notary = notary
        self._metrics = metrics

    async def serve(self, request: Request, send: Send) -> str:
        """Answer one request.

        Returns:
            The answer's id, for the log.

        Raises:
            Aborted: Something was sent, and the connection must be broken off.
            ConnectionError: The client left before its request was here.
        """
        exchange = Exchange(request)
        exchange.opening = self._notary.begin(exchange)
        try:
            return await self._serve(request, exchange, send)
        except HttpError as error:
            exchange.fail(error.status, _JSON, error.body())
            headers = await self._notary.certify_error(exchange)
            headers = (*error.headers, *exchange.opening, *headers)
            await send_json(send, error.status, error.body(), headers)
            return error.message

    async def _serve(self, request: Request, exchange: Exchange, send: Send) -> str:
        self._notary.admit(exchange)
        await self._notary.require_room()
        body = exchange.request = await request.body(MAX_BODY, seconds=_BODY_SECONDS)
        asked = Asked(
            path=request.path,
            body=body.data,
            content_type=exchange.request_type,
            accept=request.header(b"accept"),
        )
        self._metrics.in_flight.add()
        delivered = refused = False
        try:
            async with Peer(request.receive) as peer:
                last = await self._answer(asked, exchange, send)
                await _let_the_watch_speak()
            if peer.gone:
                raise Aborted(f"{exchange.upstream_id}: the client left")
            exchange.begun = True
            await last()
            delivered = True
        except HttpError as error:
            refused = error.status in _CLIENT_ERRORS
            raise
        finally:
            self._metrics.in_flight.add(-1)
            if not (delivered or refused):
                self._metrics.aborted.add()
            # Nobody has got the end of it, so nothing may say that it was whole.
            if exchange.certified and not delivered:
                await self._notary.withdraw(exchange)
            if exchange.begun and not delivered:
                exchange.abort()
                await self._notary.certify_abort(exchange)
        return exchange.upstream_id or ""

    async def _answer(self, asked: Asked, exchange: Exchange, send: Send) -> _Last:
        """Pass an answer on, all but its last bytes; give what sends those."""
        answer = await self._backend.open(asked)
        async with contextlib.aclosing(answer.parts) as parts:
            exchange.status = answer.status
            exchange.response_type = answer.content_type
            if answer.status in _ERRORS:
                return await self._error(answer, exchange, send)
            if answer.status != _OK:
                raise HttpError.engine_failed(f"the engine answered with status {answer.status}")
            if answer.content_type.partition(b";")[0].strip().lower() != _STREAM:
                return await self._whole(parts, exchange, send)
            framing = self._backend.routes[asked.path]
            if not framing.streams:
                raise HttpError.engine_failed("the engine streams where nothing is streamed")
            return await self._stream(parts, framing, exchange, send)

    async def _error(self, answer: Answer, exchange: Exchange, send: Send) -> _Last:
        """Pass on what the engine says against a request."""
        if answer.status in _OURS:
            raise HttpError.engine_failed("the engine refuses this server")
        body = exchange.leaving(await _read(answer.parts, _MAX_ERROR))
        exchange.end = "complete"
        certificate = await self._notary.certify(exchange)
        kind = (b"content-type", answer.content_type)
        headers = [kind, *exchange.opening, *certificate.headers]
        return partial(send_whole, send, answer.status, body, headers)

    async def _whole(self, parts: Parts, exchange: Exchange, send: Send) -> _Last:
        """Take in an answer in one piece, and sign it before its first byte leaves."""
        body = exchange.leaving(await _read(parts, _MAX_ANSWER))
        exchange.read_id(body)
        exchange.end = "complete"
        certificate = await self._notary.certify(exchange)
        kind = (b"content-type", exchange.response_type)
        headers = [kind, *exchange.opening, *certificate.headers]
        return partial(send_whole, send, _OK, body, headers)

    async def _stream(
        self,
        parts: Parts,
        framing: Framing,
        exchange: Exchange,
        send: Send,
    ) -> _Last:
        """Pass an answer on piece by piece; only its end waits for the signature."""
        end = StreamEnd(framing)
        started = False
        try:
            async for part in parts:
                passed = end.pass_on(part)
                if passed:
                    if not started:
                        started = exchange.begun = True
                        await send(_start_stream(exchange))
                    await send(_part(exchange.leaving_event(passed)))
                elif len(end.held) > _MAX_ANSWER:
                    raise BrokenOff("the end of the stream is too large")
            _require_end(end)
            if end.failed:
                if started:
                    await send(_part(exchange.leaving_event(_first_event(end.held))))
                raise BrokenOff("it says so itself")
            held = exchange.leaving_last(end.held)
            exchange.end = "complete"
            certificate = await self._notary.certify(exchange)
        except (BrokenOff, HttpError) as error:
            if not started:
                raise _as_http(error) from None
            raise Aborted(f"{exchange.upstream_id}: {error}") from None
        return partial(_finish, send, held + certificate.trailer, exchange, started=started)


def _require_end(end: StreamEnd) -> None:
    if not end.reached:
        raise BrokenOff("the stream ended without its last event")
    if RESERVED in end.held:
        raise BrokenOff("it writes what only this server may")


def _first_event(held: bytes) -> bytes:
    """The engine's own words on its failure, and nothing that could end a stream."""
    event, separator, _ = held.partition(b"\n\n")
    return event + separator


async def _finish(send: Send, last: bytes, exchange: Exchange, *, started: bool) -> None:
    if not started:
        await send(_start_stream(exchange))
    await send(_part(last, more=False))


async def _read(parts: Parts, limit: int) -> bytes:
    """Take in all of an answer.

    Raises:
        HttpError: It breaks off, or is too large.
    """
    found: list[bytes] = []
    size = 0
    try:
        async for part in parts:
            size += len(part)
            if size > limit:
                raise HttpError.engine_failed("the engine's answer is too large")
            found.append(part)
    except BrokenOff as error:
        raise _as_http(error) from None
    return b"".join(found)


def _as_http(error: BrokenOff | HttpError) -> HttpError:
    if isinstance(error, HttpError):
        return error
    return HttpError.engine_failed(f"the engine broke off: {error}")


async def _let_the_watch_speak() -> None:
    """An end that cannot arrive must not count as sent: if the client has left, this is cancelled.

    One turn of the loop wakes the watch, and the next one lets it cancel.
    """
    for _ in range(2):
        await asyncio.sleep(0)


def _start_stream(exchange: Exchange) -> Message:
    kind = (b"content-type", exchange.response_type)
    headers: Sequence[Header] = (kind, *_STREAM_HEADERS, *exchange.opening)
    return {"type": "http.response.start", "status": _OK, "headers": headers}


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
