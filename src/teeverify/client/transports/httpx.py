"""One transport for httpx2 and the older httpx, blocking and not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from teeverify.client.network.fetch_httpx import family_of
from teeverify.client.network.steps import Either, Steps
from teeverify.client.network.tls import peer_of, watch, watch_in_loop
from teeverify.client.transports.gate import Gate
from teeverify.client.transports.sdks import pass_through_sdks
from teeverify.client.transports.stream import MAX_DRAIN_SECONDS, CapturedStream, Incoming
from teeverify.endorsements.deadline import Deadline
from teeverify.errors import TeeVerifyError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["HttpxLine", "VerifyingTransport"]


class _Body:
    """The body of an answer of either family."""

    def __init__(self, response: Any, errors: tuple[type[BaseException], ...]) -> None:  # noqa: ANN401
        self.errors = errors
        self._response = response
        self._source: Any = None

    def chunk(self) -> Either:
        """See :class:`~teeverify.client.transports.stream.Incoming`."""

        def blocking() -> bytes | None:
            self._source = self._source or self._response.iter_raw()
            return next(self._source, None)

        async def looping() -> bytes | None:
            self._source = self._source or self._response.aiter_raw()
            chunk: bytes | None = await anext(self._source, None)
            return chunk

        return Either(blocking, looping)

    def rest(self, keep: Callable[[bytes], bool]) -> Either:
        """See :class:`~teeverify.client.transports.stream.Incoming`."""

        def blocking() -> None:
            stream = self._response.extensions.get("network_stream")
            connection = stream.get_extra_info("socket") if stream is not None else None
            with Deadline(MAX_DRAIN_SECONDS) as deadline:
                if connection is not None:
                    deadline.watch(connection)
                for chunk in self._source:
                    if not keep(chunk) or deadline.expired:
                        return

        async def looping() -> None:
            import anyio  # noqa: PLC0415 -- only where there is an event loop

            with anyio.move_on_after(MAX_DRAIN_SECONDS):
                async for chunk in self._source:
                    if not keep(chunk):
                        return

        return Either(blocking, looping)

    def close(self) -> Either:
        """See :class:`~teeverify.client.transports.stream.Incoming`."""

        async def looping() -> None:
            import anyio  # noqa: PLC0415 -- only where there is an event loop

            with anyio.CancelScope(shield=True):
                await self._response.aclose()

        return Either(self._response.close, looping)


class HttpxLine:
    """How a client of httpx2 or httpx sends and receives.

    Where TLS keys are bound, connections are kept apart by the set of keys that were admitted when
    they were made: none outlives the attestation of the machine at its other end.

    Args:
        new_client: Makes a client that does the sending: its proxies, its certificates.
        host: The endpoint's host.
    """

    def __init__(self, new_client: Callable[[], Any], host: str) -> None:
        self._new_client = new_client
        self._host = host
        client = new_client()
        self._family = family_of(client)
        self._watch: Callable[..., Any] = watch
        if isinstance(client, self._family.AsyncClient):
            self._watch = watch_in_loop
        self._clients = {frozenset[bytes](): client}
        family = self._family
        self._errors = (family.HTTPError, family.StreamError, OSError)
        bases = (CapturedStream, family.SyncByteStream, family.AsyncByteStream)
        self.stream: Callable[..., CapturedStream] = type("CapturedStream", bases, {})

    @property
    def clients(self) -> tuple[Any, ...]:
        """Every client that was made."""
        return tuple(self._clients.values())

    def target(self, request: Any) -> tuple[str, str]:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        return request.method, str(request.url)

    def read(self, request: Any) -> Either:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        return Either(request.read, request.aread)

    def authorization(self, request: Any) -> str | None:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        shown: str | None = request.headers.get("authorization")
        return shown

    def send(
        self,
        request: Any,  # noqa: ANN401
        content: bytes,
        keys: frozenset[bytes],
        headers: Mapping[str, str],
    ) -> Either:
        """See :class:`~teeverify.client.transports.line.Line`."""
        extensions = dict(request.extensions)
        if keys:
            extensions["trace"] = self._watch(self._host, keys.__contains__)
        framing = ("content-length", "transfer-encoding", "accept-encoding")
        made = self._family.Request(
            request.method,
            request.url,
            headers=[
                (n, v) for n, v in request.headers.raw if n.lower().decode("latin-1") not in framing
            ],
            content=content,
            extensions=extensions,
        )
        made.headers["Accept-Encoding"] = "identity"
        made.headers.update(headers)
        client = self._clients.get(keys)
        if client is None:
            client = self._clients.setdefault(keys, self._new_client())

        def send() -> Any:  # noqa: ANN401 -- an answer, or in an event loop one to be awaited
            return client.send(made, stream=True, auth=None, follow_redirects=False)

        return Either(send, send)

    def peer(self, response: Any) -> bytes | None:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        return peer_of(response)

    def incoming(self, response: Any) -> Incoming:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        return _Body(response, self._errors)

    def whole(self, response: Any, body: bytes) -> Any:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        return self._answer(response, self._family.ByteStream(body))

    def flowing(self, response: Any, stream: CapturedStream) -> Any:  # noqa: ANN401
        """See :class:`~teeverify.client.transports.line.Line`."""
        return self._answer(response, stream)

    def _answer(self, response: Any, stream: Any) -> Any:  # noqa: ANN401
        framing = ("content-length", "transfer-encoding")
        return self._family.Response(
            status_code=response.status_code,
            headers=[
                (n, v)
                for n, v in response.headers.raw
                if n.lower().decode("latin-1") not in framing
            ],
            stream=stream,
            extensions=response.extensions,
        )


class VerifyingTransport:
    """Passes requests on through a line, and only verified answers back.

    Args:
        line: What does the sending.
        gate: What all requests have in common; its runner is of the line's kind.
        close: Lets go what else was opened.
    """

    def __init__(
        self, line: HttpxLine, gate: Gate, *, close: Callable[[], None] | None = None
    ) -> None:
        self.gate = gate
        self._close = close
        self._line = line
        self._runner: Any = gate.runner

    def _steps(self, request: Any) -> Steps[Any]:  # noqa: ANN401 -- of either family
        try:
            return (yield from self.gate.pass_on(self._line, request))
        except TeeVerifyError as error:
            pass_through_sdks(error)
            raise

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401
        """Attest if need be, send one request, and verify the answer.

        Raises:
            TeeVerifyError: The endpoint or the answer is not verified, or nothing may be sent.
        """
        return self._runner.run(self._steps(request))

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
        """As :meth:`handle_request`.

        Raises:
            TeeVerifyError: The endpoint or the answer is not verified, or nothing may be sent.
        """
        return await self._runner.run(self._steps(request))

    def close(self) -> None:
        """Close the clients that do the sending."""
        for client in self._line.clients:
            client.close()
        if self._close is not None:
            self._close()

    async def aclose(self) -> None:
        """Close the clients that do the sending."""
        for client in self._line.clients:
            await client.aclose()

    def __enter__(self) -> Self:
        """For the client, which enters its transports."""
        return self

    def __exit__(self, *details: object) -> None:
        """For the client, which leaves its transports."""
        self.close()

    async def __aenter__(self) -> Self:
        """For the client, which enters its transports."""
        return self

    async def __aexit__(self, *details: object) -> None:
        """For the client, which leaves its transports."""
        await self.aclose()
