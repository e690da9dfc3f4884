"""The way of every request: attest first, send then, verify what comes back.

It sits below whatever builds requests and parses answers, so that it sees the exact bytes of each
attempt, retries included. How a library sends and receives is its :class:`Line`'s concern.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any, Literal, TypeAlias

from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.steps import Runner, Steps
from teeverify.client.receipts.kept import Receipts
from teeverify.client.session.challenge import read_beacon
from teeverify.client.session.core import SessionCore
from teeverify.client.session.encryption import Sealer
from teeverify.client.session.exchange import Exchange, http_of, lower
from teeverify.client.transports.line import Line
from teeverify.client.transports.sending import Request, send
from teeverify.client.transports.stream import Capture, Incoming
from teeverify.client.verifier import Verifier
from teeverify.clock import now
from teeverify.encoding.fields import JsonObject
from teeverify.errors import (
    EndpointUnavailable,
    MalformedEvidence,
    ResponseNotVerified,
)
from teeverify.responses.body import requested_model

__all__ = ["Gate"]

_Way: TypeAlias = Literal["as-it-is", "held", "flowing"]
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)
MAX_HELD_SECONDS = 900.0
# Streams of which no reader knows the end before the connection's: only a whole one is verified.
_WITHOUT_DONE = ("/responses", "/messages")
_SALT_BYTES = 16


class Gate:
    """What all requests of one client have in common: policy, sessions, receipts.

    Args:
        verifier: Policy, roots and endorsements.
        endpoint: The only endpoint that requests may go to.
        runner: How evidence and signatures are fetched.
        hold: Whether streamed answers are held back until they are verified. They are in any
            case under a policy that starts from ``strict``, and where the request carries tools.
        salt: Whether a random value is put into each request, so that no answer can be an older
            one. It is in any case under a policy that starts from ``strict``.
        timeout: Seconds that one request for evidence or a signature may take.
        encrypt: Whether each request is encrypted to the attested key. It is in any case under a
            policy that starts from ``strict``, where the dialect has a scheme and the TLS
            connection does not end in the attested machine.
    """

    def __init__(  # noqa: PLR0913 -- a client's wishes
        self,
        verifier: Verifier,
        endpoint: Endpoint,
        runner: Runner,
        *,
        hold: bool,
        salt: bool,
        timeout: float,
        encrypt: bool = False,
    ) -> None:
        strict = verifier.policy.extends == "strict"
        self.endpoint = endpoint
        self.runner = runner
        self.receipts = Receipts()
        self._hold = hold or strict
        self._salt = salt or strict
        self._encrypt = encrypt
        sealer = Sealer(endpoint.dialect, wanted=encrypt, strict=strict)
        self._sealed_routes = sealer.routes
        self._verifier = verifier
        self._timeout = timeout
        self._sessions: dict[str | None, SessionCore] = {}
        self._lock = threading.Lock()

    def pass_on(self, line: Line, request: Any) -> Steps[Any]:  # noqa: ANN401
        """Attest if need be, send one request, and verify the answer.

        Raises:
            TeeVerifyError: The endpoint or the answer is not verified, or nothing may be sent.
        """
        method, url = line.target(request)
        route = self.endpoint.route(method, url, sealed=self._sealed_routes)
        content: bytes = yield line.read(request)
        asks = route != "open"
        salted = self._salt and asks and content.rstrip().endswith(b"}")
        if salted:
            content += _salt()
        model = requested_model(content) if asks else None
        core = self._session(model) if asks else self._any()
        path = self.endpoint.relative(url)
        asked = Request(
            core=core,
            raw=request,
            content=content,
            route=route,
            path=path,
            beacon=read_beacon(request.headers) if asks else None,
        )
        sent = yield from send(line, asked)
        response = sent.response
        incoming = line.incoming(response)
        try:
            way = self._way(asked, response)
            if way == "as-it-is":
                return response

            def verdict(body: bytes) -> Steps[bytes]:
                """Verify the whole body, keep its receipt, and give what may be handed over."""
                exchange = Exchange(
                    request=sent.content,
                    response=body,
                    received_at=now(),
                    authorization=line.authorization(request),
                    # Encrypted, a request holds random values of ours already.
                    salted=salted or sent.sealed is not None,
                    model=model,
                    http=http_of(method, url, request, response),
                    headers=lower(response.headers),
                    challenge=sent.challenge,
                )
                receipt, text = yield from sent.verdict(exchange)
                self.receipts.add(receipt)
                return text

            if way == "flowing":
                stream = line.stream(self.runner, incoming, verdict, sent.reader())
                return line.flowing(response, stream)
            body = yield from _whole(incoming)
            return line.whole(response, (yield from verdict(body)))
        except BaseException:
            yield incoming.close()
            raise

    def _session(self, model: str | None) -> SessionCore:
        """The session for a model; it attests by itself before anything is sent."""
        with self._lock:
            if model not in self._sessions:
                self._sessions[model] = SessionCore(
                    self._verifier,
                    self.endpoint,
                    model=model,
                    timeout=self._timeout,
                    lock=self.runner.new_lock(),
                    encrypt=self._encrypt,
                )
            return self._sessions[model]

    def _any(self) -> SessionCore:
        """A session that is attested, for what concerns no model; else one for no model."""
        with self._lock:
            for core in self._sessions.values():
                if core.held():
                    return core
        return self._session(None)

    def _way(self, asked: Request, response: Any) -> _Way:  # noqa: ANN401
        """What becomes of an answer: errors are the SDK's, and everything else is verified."""
        status = response.status_code
        if status in _REDIRECTS:
            raise EndpointUnavailable(
                "the endpoint redirects the request, which is not followed",
                id="endpoint.redirect",
                got=f"status {status}",
                hint="Give the address at which the endpoint itself answers.",
            )
        if status not in _SUCCESS or asked.route == "open":
            return "as-it-is"
        encoding = response.headers.get("content-encoding") or "identity"
        if encoding.strip().lower() != "identity":
            raise ResponseNotVerified(
                "the answer came compressed, which was not asked for: what was signed is not to "
                "be had",
                id="answer.encoding",
                got=repr(encoding)[:40],
                want="no Content-Encoding",
                hint="Something between the enclave and you changes answers.",
            )
        kind = (response.headers.get("content-type") or "").lower()
        flows = kind.startswith("text/event-stream") and not self._hold
        flows = flows and asked.path not in _WITHOUT_DONE
        return "flowing" if flows and not _carries_tools(asked.content) else "held"


def _whole(incoming: Incoming) -> Steps[bytes]:
    """Read an answer to its end, within bounds."""
    capture = Capture()
    ends = time.monotonic() + MAX_HELD_SECONDS
    while (chunk := (yield incoming.chunk())) is not None:
        capture.keep(chunk)
        if time.monotonic() > ends:
            raise ResponseNotVerified(
                "the answer takes too long to be held back until it is verified",
                id="answer.size",
                want=f"at most {MAX_HELD_SECONDS:g} s",
            )
    return capture.body


def _carries_tools(content: bytes) -> bool:
    """Whether the answer may call tools: then no part of it may act before it is verified."""
    try:
        asked = JsonObject.parse(content, path="request", id="request.bound")
    except MalformedEvidence:
        return True
    return bool(asked.raw("tools") or asked.raw("functions"))


def _salt() -> bytes:
    """Random white space behind a JSON text: it means nothing, and its hash is a new one."""
    bits = int.from_bytes(secrets.token_bytes(_SALT_BYTES), "big")
    return f"{bits:0{_SALT_BYTES * 8}b}".translate({ord("0"): " ", ord("1"): "\t"}).encode("ascii")
