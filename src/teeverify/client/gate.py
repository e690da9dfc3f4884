"""The way of every request: attest first, send then, verify what comes back.

It sits below whatever builds requests and parses answers, so that it sees the exact bytes of each
attempt, retries included. How a library sends and receives is its :class:`Line`'s concern.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

from teeverify.client.attestation import Attestation
from teeverify.client.challenge import http_of, lower, new_challenge, read_beacon
from teeverify.client.core import SessionCore
from teeverify.client.encryption import Sealer, encryption_of, seal
from teeverify.client.endpoint import Endpoint, Route
from teeverify.client.exchange import Exchange
from teeverify.client.receipts import Receipt, Receipts
from teeverify.client.steps import Either, Runner, Steps
from teeverify.client.stream import Capture, CapturedStream, Incoming
from teeverify.client.tls import OtherKey
from teeverify.client.verifier import Verifier
from teeverify.clock import now
from teeverify.e2ee import Sealed
from teeverify.encoding.fields import JsonObject
from teeverify.errors import (
    BindingMismatch,
    EndpointUnavailable,
    MalformedEvidence,
    ResponseNotVerified,
)
from teeverify.responses.body import requested_model
from teeverify.responses.receipt import Challenge

__all__ = ["Gate", "Line"]

_Way: TypeAlias = Literal["as-it-is", "held", "flowing"]
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)
# What machines say to a request that was encrypted to a key that is not, or no longer, theirs.
_REFUSALS_OF_KEYS = (400, 421, 422)
MAX_HELD_SECONDS = 900.0
_MOST_KEYS = 8
# Streams of which no reader knows the end before the connection's: only a whole one is verified.
_WITHOUT_DONE = ("/responses", "/messages")
_SALT_BYTES = 16


class Line(Protocol):
    """How one library sends a request and hands an answer over."""

    def target(self, request: Any) -> tuple[str, str]:  # noqa: ANN401 -- of the library's kind
        """Method and URL of a request."""

    def read(self, request: Any) -> Either:  # noqa: ANN401
        """The request's body."""

    def authorization(self, request: Any) -> str | None:  # noqa: ANN401
        """What the request shows of its sender."""

    def send(
        self,
        request: Any,  # noqa: ANN401
        content: bytes,
        keys: frozenset[bytes],
        headers: Mapping[str, str],
    ) -> Either:
        """Send it with this body, asking for no compression and following no redirect.

        Args:
            request: The request.
            content: Its body.
            keys: The only TLS keys that anything may be written to; empty where none is bound.
            headers: Headers in addition to its own.
        """

    def peer(self, response: Any) -> bytes | None:  # noqa: ANN401
        """The TLS key of the connection that brought an answer."""

    def incoming(self, response: Any) -> Incoming:  # noqa: ANN401
        """The answer's body."""

    def whole(self, response: Any, body: bytes) -> Any:  # noqa: ANN401
        """The answer with a body that was verified."""

    def flowing(self, response: Any, stream: CapturedStream) -> Any:  # noqa: ANN401
        """The answer with a body that ends with its verdict."""

    def stream(
        self,
        runner: Runner,
        incoming: Incoming,
        verdict: Callable[[bytes], Steps[object]],
        read: Callable[[bytes], bytes] | None,
    ) -> CapturedStream:
        """A captured stream, of the class that the library wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One request, before it is known where it goes.

    Attributes:
        core: The session that it belongs to.
        raw: The request, of the library's kind.
        content: Its body, with the salt in it.
        route: What it is to the endpoint.
        path: Its path below the base URL.
        beacon: What its maker wants its challenge to follow from.
    """

    core: SessionCore
    raw: Any
    content: bytes = field(repr=False)
    route: Route
    path: str
    beacon: bytes | None = None

    def challenge(self, under: Attestation) -> Challenge | None:
        """What the answer must name, where answers do."""
        return None if self.route == "open" else new_challenge(under, self.beacon)

    def sealed(self, under: Attestation) -> Sealed | None:
        """As it goes to an attested machine, where requests are encrypted."""
        if self.route == "open":
            return None
        return seal(under, self.content, route=self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """One attempt: what was sent, how it was encrypted, and under which attestation."""

    asked: _Request
    under: Attestation
    sealed: Sealed | None
    response: Any
    challenge: Challenge | None = None

    @property
    def content(self) -> bytes:
        return self.asked.content if self.sealed is None else self.sealed.body

    def opened(self, body: bytes) -> bytes:
        """The answer as its asker reads it."""
        return body if self.sealed is None else self.sealed.open(self.response.headers, body)

    def reader(self) -> Callable[[bytes], bytes] | None:
        """What opens the answer's pieces; it may not say that it is plain."""
        return None if self.sealed is None else self.sealed.opener(self.response.headers).feed

    def verdict(self, exchange: Exchange) -> Steps[tuple[Receipt, bytes]]:
        """The receipt, and what may be handed over: opened, where it was encrypted."""
        told = replace(exchange, encryption=encryption_of(self.under, self.sealed))
        if self.asked.route == "sealed":
            text = self.opened(exchange.response)
            told = replace(told, request=self.asked.content, response=text)
            return self.asked.core.note(told, self.under), text
        receipt = yield from self.asked.core.verify(told, self.under)
        # What was signed is what is handed over, where a dialect signs another form.
        return receipt, self.opened(receipt.parts.response.raw or exchange.response)


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
        asked = _Request(
            core=core,
            raw=request,
            content=content,
            route=route,
            path=path,
            beacon=read_beacon(request.headers) if asks else None,
        )
        sent = yield from _send(line, asked)
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

    def _way(self, asked: _Request, response: Any) -> _Way:  # noqa: ANN401
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


def _send(line: Line, asked: _Request) -> Steps[_Sent]:
    """Send a request; once more, sealed to another key, where the machine has a new one."""
    under = yield from asked.core.ensure()
    sent = yield from _send_under(line, asked, under)
    if sent.sealed is None or sent.response.status_code not in _REFUSALS_OF_KEYS:
        return sent
    fresh = yield from asked.core.renewed()
    if fresh.result.encrypts_to == sent.under.result.encrypts_to:
        return sent
    yield line.incoming(sent.response).close()
    return (yield from _send_under(line, asked, fresh))


def _send_under(line: Line, asked: _Request, under: Attestation) -> Steps[_Sent]:
    """Send under an attestation in force: where TLS is bound, that of the very connection."""
    core = asked.core
    for _ in range(_MOST_KEYS):
        sealed = asked.sealed(under)
        content, headers = (asked.content, {}) if sealed is None else (sealed.body, sealed.headers)
        challenge = asked.challenge(under)
        headers = {**headers, **(challenge.headers if challenge else {})}
        if under.tls_key is None or core.endpoint.scheme == "http":
            response = yield line.send(asked.raw, content, frozenset(), headers)
            return _Sent(
                asked=asked, under=under, sealed=sealed, response=response, challenge=challenge
            )
        to = under.result.encrypts_to  # no other machine could read what is sealed to this one
        held = {
            one.tls_key: one
            for one in reversed(core.held())
            if one.tls_key is not None
            and one.result.encrypts_to == to
            # A challenge follows from one attestation.
            and (challenge is None or one is under)
        }
        try:
            response = yield line.send(asked.raw, content, frozenset(held), headers)
        except OtherKey as other:  # another machine, to which nothing was written
            known = any(one.tls_key == other.peer for one in core.held())
            found = yield from core.of_tls_key(other.peer)
            # What is sealed to one of several that take turns waits for its own.
            under = under if known else found
            continue
        peer = line.peer(response)
        if peer not in held:
            yield line.incoming(response).close()
            raise ResponseNotVerified(
                "the answer came over a connection that does not end in an attested machine",
                id="endpoint.bound",
                got="no key" if peer is None else peer.hex(),
                hint="Do not use this answer.",
            )
        return _Sent(
            asked=asked,
            under=held[peer],
            sealed=sealed,
            response=response,
            challenge=challenge,
        )
    raise BindingMismatch(
        "every new connection leads to another machine",
        id="endpoint.bound",
        want=f"one of the last {_MOST_KEYS} that were attested",
        hint="Nothing was sent.",
    )


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
