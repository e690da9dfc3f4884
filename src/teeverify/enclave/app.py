"""The server's routes, in plain ASGI: every byte that leaves is a byte that was hashed.

The dialect is that of the dstack vLLM proxies: flat attestation report, and signatures by id over
``sha256(request):sha256(response)``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from teeverify.binding.keys import KeyAlgorithm
from teeverify.clock import now
from teeverify.enclave.asgi import Message, Peer, Receive, Request, Send, json_bytes, send_json
from teeverify.enclave.attestation import Attester
from teeverify.enclave.chat import DONE, Chat, parse_chat
from teeverify.enclave.engines import Engine, EngineBusy, EngineFailed
from teeverify.enclave.errors import HttpError
from teeverify.enclave.signing import Exchange, Notary
from teeverify.enclave.store import StoreError
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence, TeeVerifyError

__all__ = ["EnclaveApp"]

Handler: TypeAlias = Callable[[Request, Send], Awaitable[str]]
End: TypeAlias = Callable[[], Awaitable[None]]

logger = logging.getLogger("teeverify.enclave")

MAX_BODY = 16 * 1024 * 1024
_BODY_SECONDS = 30.0
_PARSED_INLINE = 64 * 1024
_SIGNATURE = "/v1/signature/"
_ANSWER_ID = re.compile(r"chatcmpl-[0-9a-f]{32}")
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class _Aborted(Exception):
    """The answer broke off after its first bytes had left: the connection must break too."""


class EnclaveApp:
    """The ASGI application.

    Args:
        model: The name of the model that is served.
        engine: What answers.
        attester: What attests the signing keys.
        notary: What signs answers and keeps the signatures.
        terminal: What ends a stream, and is held back until the signature is stored. Only a fault
            to be tested against sets another.
    """

    def __init__(
        self,
        *,
        model: str,
        engine: Engine,
        attester: Attester,
        notary: Notary,
        terminal: bytes = DONE,
    ) -> None:
        self._model = model
        self._engine = engine
        self._attester = attester
        self._notary = notary
        self._terminal = terminal
        self._created = int(now().timestamp())
        self._routes: Mapping[str, tuple[str, Handler]] = {
            "/health": ("GET", self._health),
            "/v1/models": ("GET", self._models),
            "/v1/attestation/report": ("GET", self._report),
            _SIGNATURE: ("GET", self._signature),
            "/v1/chat/completions": ("POST", self._chat),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        started = time.monotonic()
        request = Request(scope, receive)
        route, outcome = "(no route)", ""
        sent = _Sent(send)
        try:
            route, handler = self._route(request)
            outcome = await handler(request, sent)
        except HttpError as error:
            outcome = error.message
            await send_json(sent, error.status, error.body(), error.headers)
        except (_Aborted, ConnectionError) as error:
            outcome = f"aborted: {error}"
        except Exception as error:  # noqa: BLE001 -- our bug, and the client is told no more of it
            outcome = f"internal error: {_place(error)}"
            if not sent.status:
                error_500 = HttpError(500, "internal error")
                await send_json(sent, 500, error_500.body())
        finally:
            took = (time.monotonic() - started) * 1000
            logger.info("%s %d %.0f ms %s", route, sent.status, took, outcome or "ok")

    def _route(self, request: Request) -> tuple[str, Handler]:
        """Find the handler, and the route's name for the log: a path may hold anything."""
        name = request.path
        if name.startswith(_SIGNATURE):
            name = _SIGNATURE
        if name not in self._routes:
            raise HttpError(404, "there is no such route", code="unknown_url")
        method, handler = self._routes[name]
        if request.method != method:
            allow = (b"allow", method.encode("ascii"))
            raise HttpError(405, f"this route takes {method} only", headers=(allow,))
        return f"{method} {name}", handler

    async def _health(self, request: Request, send: Send) -> str:
        del request
        await send_json(send, 200, json_bytes({"status": "ok"}))
        return ""

    async def _models(self, request: Request, send: Send) -> str:
        del request
        model = {
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "teeverify",
            "engine": self._engine.fingerprint,
            "description": self._engine.description,
        }
        await send_json(send, 200, json_bytes({"object": "list", "data": [model]}))
        return ""

    async def _report(self, request: Request, send: Send) -> str:
        query = request.query()
        self._require_model(query)
        algorithm = _algorithm(query)
        try:
            nonce = hex_bytes(query.get("nonce"), field="nonce", id="server.nonce", length=32)
        except MalformedEvidence:
            raise HttpError.bad_request(
                "a nonce of your own is needed: 64 hex digits, random, used once", param="nonce"
            ) from None
        address = query.get("signing_address")
        if address is not None and not self._attester.attests(algorithm, address):
            raise HttpError(404, "this signing address is not of this server")
        try:
            report = await self._attester.report(nonce, algorithm)
        except TeeVerifyError as error:
            logger.error("evidence could not be gathered: %s", error.id)  # noqa: TRY400
            raise HttpError(503, "the evidence could not be gathered") from None
        await send_json(send, 200, report)
        return algorithm

    async def _signature(self, request: Request, send: Send) -> str:
        query = request.query()
        self._require_model(query)
        algorithm = _algorithm(query)
        answer_id = request.path.removeprefix(_SIGNATURE)
        try:
            known = _ANSWER_ID.fullmatch(answer_id)
            found = await self._notary.look_up(answer_id, algorithm) if known else None
        except StoreError:
            raise HttpError(503, "the signature store does not answer") from None
        if found is None:
            raise HttpError(404, "no signature is kept for this id", code="signature_not_found")
        body = {
            "text": found.text,
            "signature": found.signature,
            "signing_address": found.address,
            "signing_algo": found.algorithm,
        }
        await send_json(send, 200, json_bytes(body))
        return answer_id

    async def _chat(self, request: Request, send: Send) -> str:
        body = await request.body(MAX_BODY, seconds=_BODY_SECONDS)
        limits = {"max_tokens": self._engine.max_tokens, "max_bytes": MAX_BODY}
        if len(body.data) <= _PARSED_INLINE:
            asked = parse_chat(body.data, model=self._model, **limits)
        else:
            asked = await asyncio.to_thread(parse_chat, body.data, model=self._model, **limits)
        chat = Chat(asked, self._engine, model=self._model)
        exchange = Exchange(chat.id, body.sha256)
        answer = self._stream if asked.stream else self._whole
        try:
            async with Peer(request.receive) as peer:
                end = await answer(chat, exchange, send)
                await _let_the_watch_speak()
            if peer.gone:
                raise _Aborted(f"{chat.id}: the client left")
            await end()
            exchange.delivered = True
        finally:
            # Nobody has got the end of it, so nothing may say that it was whole.
            if exchange.certified and not exchange.delivered:
                await self._notary.withdraw(exchange)
        return chat.id

    async def _whole(self, chat: Chat, exchange: Exchange, send: Send) -> End:
        """Make an answer in one piece, and sign it before its first byte leaves."""
        try:
            body = exchange.leaving(await chat.whole())
            await self._notary.certify(exchange)
        except (EngineBusy, EngineFailed, StoreError) as error:
            raise _unable(error) from None
        return partial(send_json, send, 200, body)

    async def _stream(self, chat: Chat, exchange: Exchange, send: Send) -> End:
        """Answer event by event; only the terminal event waits for the signature."""
        started = False
        try:
            async with contextlib.aclosing(chat.events()) as events:
                async for event in events:
                    if not started:
                        started = True
                        await send(_start_stream())
                    await send(_part(exchange.leaving(event)))
            terminal = exchange.leaving(self._terminal)
            await self._notary.certify(exchange)
        except (EngineBusy, EngineFailed, StoreError) as error:
            if started:
                raise _Aborted(f"{chat.id}: {type(error).__name__}") from None
            raise _unable(error) from None
        return partial(send, _part(terminal, more=False))

    def _require_model(self, query: Mapping[str, str]) -> None:
        if query.get("model", self._model) != self._model:
            raise HttpError.unknown_model()


class _Sent:
    """Passes on what is sent, and notes the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        await self._send(message)


def _algorithm(query: Mapping[str, str]) -> KeyAlgorithm:
    algorithm = query.get("signing_algo", "ecdsa")
    if algorithm == "ecdsa":
        return "ecdsa"
    if algorithm == "ed25519":
        return "ed25519"
    raise HttpError(
        400,
        "signing_algo is ecdsa or ed25519",
        kind="invalid_signing_algo",
        param="signing_algo",
    )


def _unable(error: Exception) -> HttpError:
    if isinstance(error, EngineBusy):
        return HttpError.busy("too many answers are being made")
    if isinstance(error, StoreError):
        return HttpError(503, "the answer's signature could not be stored, so it is not given")
    return HttpError(503, "the engine broke off")


async def _let_the_watch_speak() -> None:
    """An end that cannot arrive must not count as sent: if the client has left, this is cancelled.

    One turn of the loop wakes the watch, and the next one lets it cancel.
    """
    for _ in range(2):
        await asyncio.sleep(0)


def _start_stream() -> Message:
    return {"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS}


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _place(error: Exception) -> str:
    """Kind and place of an error, without its text, which may hold a prompt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else "?"
    return f"{type(error).__name__} at {where}"
