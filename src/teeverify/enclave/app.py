"""The server's routes, in plain ASGI: every byte of an answer that leaves was hashed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from teeverify.enclave.asgi import (
    Message,
    Receive,
    Request,
    Send,
    json_bytes,
    send_json,
    send_whole,
)
from teeverify.enclave.attestation import Attester
from teeverify.enclave.dialects import ServerDialect
from teeverify.enclave.engines.backend import Backend
from teeverify.enclave.errors import HttpError
from teeverify.enclave.metrics import Metrics
from teeverify.enclave.openapi import describe
from teeverify.enclave.relay import Aborted, Relay
from teeverify.enclave.signing import Notary
from teeverify.enclave.store import StoreError
from teeverify.errors import TeeVerifyError

__all__ = ["EnclaveApp"]

Handler: TypeAlias = Callable[[Request, Send], Awaitable[str]]

logger = logging.getLogger("teeverify.enclave")

_SIGNATURE = "/v1/signature/"
_REPORT = "/v1/attestation/report"
_OPENAPI = "/openapi.json"
_MAX_ID = 200
_METRICS = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)
# Who is to decide whether to show a key must see these without one.
_OPEN = ("/health", _OPENAPI, _REPORT)


class EnclaveApp:
    """The ASGI application.

    Args:
        backend: What answers.
        dialects: How the server talks about itself; the first one where a client names none.
        attester: What gathers evidence.
        notary: What signs answers and keeps the signatures.
        metrics: What is counted.
        api_keys: SHA-256 hashes of the keys of which a client must show one; none: all are served.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        dialects: Sequence[ServerDialect],
        attester: Attester,
        notary: Notary,
        metrics: Metrics,
        api_keys: Sequence[bytes] = (),
    ) -> None:
        self._backend = backend
        self._dialects: Mapping[str, ServerDialect] = {one.name: one for one in dialects}
        self._first = dialects[0]
        self._attester = attester
        self._notary = notary
        self._metrics = metrics
        self._keys = KeyRing(api_keys)
        relay = Relay(backend, notary, metrics)
        self._routes: Mapping[str, tuple[str, Handler]] = {
            "/health": ("GET", self._health),
            _OPENAPI: ("GET", self._description),
            "/metrics": ("GET", self._own_metrics),
            "/v1/metrics": ("GET", self._engine_metrics),
            "/v1/models": ("GET", self._models),
            _REPORT: ("GET", self._report),
            _SIGNATURE: ("GET", self._signature),
            **dict.fromkeys(backend.routes, ("POST", relay.serve)),
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
        except (Aborted, ConnectionError) as error:
            outcome = f"aborted: {error}"
        except Exception as error:  # noqa: BLE001 -- our bug, and the client is told no more of it
            outcome = f"internal error: {_place(error)}"
            if not sent.status:
                error_500 = HttpError(500, "internal error")
                await send_json(sent, 500, error_500.body())
        finally:
            took = (time.monotonic() - started) * 1000
            self._metrics.requests.add(route=route, status=str(sent.status))
            # In the next turn: whoever is served in this one goes before the log.
            line = (route, sent.status, took, outcome or "ok")
            asyncio.get_running_loop().call_soon(logger.info, "%s %d %.0f ms %s", *line)

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
        if name not in _OPEN:
            self._keys.require(request.header(b"authorization"))
        return f"{method} {name}", handler

    async def _health(self, request: Request, send: Send) -> str:
        del request
        parts = (("no engine", self._backend.health), ("no store", self._notary.health))
        for status, health in parts:
            wrong = await health()
            if wrong is not None:
                await send_json(send, 503, json_bytes({"status": status, "detail": wrong}))
                return wrong
        await send_json(send, 200, json_bytes({"status": "ok"}))
        return ""

    async def _description(self, request: Request, send: Send) -> str:
        del request
        described = describe(self._backend.routes, self._dialects)
        await send_json(send, 200, json_bytes(described))
        return ""

    async def _own_metrics(self, request: Request, send: Send) -> str:
        del request
        await send_whole(send, 200, self._metrics.show(), _METRICS)
        return ""

    async def _engine_metrics(self, request: Request, send: Send) -> str:
        del request
        await send_whole(send, 200, await self._backend.metrics(), _METRICS)
        return ""

    async def _models(self, request: Request, send: Send) -> str:
        del request
        await send_json(send, 200, await self._backend.models())
        return ""

    async def _report(self, request: Request, send: Send) -> str:
        query = request.query()
        dialect = self._dialect(query)
        question = dialect.question(query)
        try:
            report = await self._attester.report(dialect, question)
        except TeeVerifyError as error:
            logger.error("evidence could not be gathered: %s", error)  # noqa: TRY400
            raise HttpError(503, "the evidence could not be gathered") from None
        await send_json(send, 200, report)
        return dialect.name

    async def _signature(self, request: Request, send: Send) -> str:
        query = request.query()
        kind = self._dialect(query).record_kind(query)
        answer_id = request.path.removeprefix(_SIGNATURE)
        known = 0 < len(answer_id) <= _MAX_ID and answer_id.isascii() and answer_id.isprintable()
        try:
            found = await self._notary.look_up(answer_id, kind) if known else None
        except StoreError:
            raise HttpError.store_failed("the signature store does not answer") from None
        if found is None:
            raise HttpError(404, "no signature is kept for this id", code="signature_not_found")
        await send_json(send, 200, found)
        return answer_id

    def _dialect(self, query: Mapping[str, str]) -> ServerDialect:
        name = query.get("dialect", self._first.name)
        if name not in self._dialects:
            raise HttpError.bad_request("this dialect is not spoken here", param="dialect")
        return self._dialects[name]


class KeyRing:
    """The API keys that are accepted. Compared by hash, so in a time that tells nothing of them.

    Args:
        hashes: SHA-256 hashes of the keys; none: no key is asked for.
    """

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._hashes = tuple(hashes)

    def require(self, authorization: bytes) -> None:
        """Compare what a client shows.

        Raises:
            HttpError: 401: it is none of the keys.
        """
        if not self._hashes:
            return
        scheme, _, token = authorization.partition(b" ")
        shown = hashlib.sha256(token.strip()).digest()
        # All are compared, whichever it is.
        equal = [hmac.compare_digest(shown, known) for known in self._hashes]
        if scheme.lower() != b"bearer" or not any(equal):
            raise HttpError(
                401,
                "show your API key: Authorization: Bearer ...",
                code="invalid_api_key",
                headers=((b"www-authenticate", b"Bearer"),),
            )


class _Sent:
    """Passes on what is sent, and notes the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        await self._send(message)


def _place(error: Exception) -> str:
    """Kind and place of an error, without its text, which may hold a prompt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else "?"
    return f"{type(error).__name__} at {where}"
