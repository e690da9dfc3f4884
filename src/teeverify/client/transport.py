"""The way of every request: attest first, send then, verify what comes back.

One transport for httpx2 and the older httpx, blocking and not. It sits below whatever builds
requests and parses answers, so that it sees the exact bytes of each attempt, retries included.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from teeverify.client.capture import Capture, stream_type
from teeverify.client.core import Attestation, SessionCore
from teeverify.client.endpoint import Endpoint, Route
from teeverify.client.exchange import Exchange
from teeverify.client.fetch_httpx import family_of
from teeverify.client.receipts import Receipts
from teeverify.client.session import BaseSession
from teeverify.client.verifier import Verifier
from teeverify.clock import now
from teeverify.errors import EndpointUnavailable, ResponseNotVerified
from teeverify.responses.body import requested_model

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Gate", "S", "VerifyingTransport"]

S = TypeVar("S", bound=BaseSession)
_Way: TypeAlias = Literal["as-it-is", "whole", "stream"]
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)


class Gate(Generic[S]):
    """What all requests of one client have in common: policy, sessions, receipts.

    Args:
        verifier: Policy, roots and endorsements.
        endpoint: The only endpoint that requests may go to.
        open_session: Makes a session of what it does.
        hold: Whether streamed answers are held back until they are verified.
        timeout: Seconds that one request for evidence or a signature may take.
    """

    def __init__(
        self,
        verifier: Verifier,
        endpoint: Endpoint,
        open_session: Callable[[SessionCore], S],
        *,
        hold: bool,
        timeout: float,
    ) -> None:
        self.endpoint = endpoint
        self.hold = hold
        self.receipts = Receipts()
        self._verifier = verifier
        self._open_session = open_session
        self._timeout = timeout
        self._sessions: dict[str | None, S] = {}
        self._lock = threading.Lock()

    def session(self, model: str | None) -> S:
        """The session for a model; it attests by itself before anything is sent."""
        with self._lock:
            if model not in self._sessions:
                core = SessionCore(
                    self._verifier, self.endpoint, model=model, timeout=self._timeout
                )
                self._sessions[model] = self._open_session(core)
            return self._sessions[model]

    def any_session(self) -> S:
        """A session that is attested, for what concerns no model; else one for no model."""
        with self._lock:
            for session in self._sessions.values():
                if session.holds:
                    return session
        return self.session(None)


@dataclass(frozen=True, slots=True)
class _Sent:
    """One attempt: the request, and the attestation under which it was sent."""

    under: Attestation
    request: Any

    def exchange(self, body: bytes) -> Exchange:
        """The attempt with its answer."""
        return Exchange(
            request=self.request.content,
            response=body,
            received_at=now(),
            authorization=self.request.headers.get("authorization"),
        )


class VerifyingTransport:
    """Passes requests on to another client, and only verified answers back.

    Args:
        client: A client of httpx2 or httpx that does the sending: its proxies, its certificates.
        gate: What all requests have in common.
    """

    def __init__(self, client: Any, gate: Gate[Any]) -> None:  # noqa: ANN401 -- of either family
        self.gate = gate
        self._client = client
        self._family = family_of(client)
        self._stream = stream_type(self._family)
        self._errors = (self._family.HTTPError, self._family.StreamError, OSError)

    # --- blocking ---------------------------------------------------------------------------

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401
        """Attest if need be, send one request, and verify the answer.

        Raises:
            TeeVerifyError: The endpoint or the answer is not verified, or nothing may be sent.
        """
        route = self.gate.endpoint.route(request.method, str(request.url))
        session = self._session(route, request.read())
        sent = _Sent(session.attest(), request)
        request.headers["Accept-Encoding"] = "identity"
        response = self._client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            way = self._way(route, response)
            if way == "as-it-is":
                return response

            def verdict(body: bytes) -> None:
                """Verify the whole body, and keep its receipt."""
                self.gate.receipts.add(session.verify_exchange(sent.exchange(body), sent.under))

            if way == "stream":
                return self._answer(response, self._stream(response, self._errors, verdict))
            capture = Capture()
            for chunk in response.iter_raw():
                capture.keep(chunk)
            verdict(capture.body)
            return self._answer(response, self._family.ByteStream(capture.body))
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close the client that does the sending."""
        self._client.close()

    def __enter__(self) -> Self:
        """For the client, which enters its transports."""
        return self

    def __exit__(self, *details: object) -> None:
        """For the client, which leaves its transports."""
        self.close()

    # --- in an event loop -------------------------------------------------------------------

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
        """As :meth:`handle_request`.

        Raises:
            TeeVerifyError: The endpoint or the answer is not verified, or nothing may be sent.
        """
        route = self.gate.endpoint.route(request.method, str(request.url))
        session = self._session(route, await request.aread())
        sent = _Sent(await session.attest(), request)
        request.headers["Accept-Encoding"] = "identity"
        response = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            way = self._way(route, response)
            if way == "as-it-is":
                return response

            async def verdict(body: bytes) -> None:
                """Verify the whole body, and keep its receipt."""
                receipt = await session.verify_exchange(sent.exchange(body), sent.under)
                self.gate.receipts.add(receipt)

            if way == "stream":
                return self._answer(response, self._stream(response, self._errors, verdict))
            capture = Capture()
            async for chunk in response.aiter_raw():
                capture.keep(chunk)
            await verdict(capture.body)
            return self._answer(response, self._family.ByteStream(capture.body))
        except BaseException:
            with _shielded():
                await response.aclose()
            raise

    async def aclose(self) -> None:
        """Close the client that does the sending."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        """For the client, which enters its transports."""
        return self

    async def __aexit__(self, *details: object) -> None:
        """For the client, which leaves its transports."""
        await self.aclose()

    # --- both -------------------------------------------------------------------------------

    def _session(self, route: Route, content: bytes) -> Any:  # noqa: ANN401 -- of either kind
        if route == "signed":
            return self.gate.session(requested_model(content))
        return self.gate.any_session()

    def _way(self, route: Route, response: Any) -> _Way:  # noqa: ANN401
        """What becomes of an answer: errors are the SDK's, and everything else is verified."""
        status = response.status_code
        if status in _REDIRECTS:
            raise EndpointUnavailable(
                "the endpoint redirects the request, which is not followed",
                id="endpoint.redirect",
                got=f"status {status}",
                hint="Give the address at which the endpoint itself answers.",
            )
        if status not in _SUCCESS or route == "open":
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
        streamed = kind.startswith("text/event-stream")
        return "stream" if streamed and not self.gate.hold else "whole"

    def _answer(self, response: Any, stream: Any) -> Any:  # noqa: ANN401
        """The same answer with a body that was verified, or that ends with its verdict."""
        return self._family.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
        )


def _shielded() -> Any:  # noqa: ANN401 -- a scope of anyio
    """A scope in which a cancelled task may still close what it opened."""
    import anyio  # noqa: PLC0415

    return anyio.CancelScope(shield=True)
