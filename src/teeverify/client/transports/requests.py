"""An adapter for ``requests`` whose answers are verified."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from teeverify.appraisal import Policy
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch_requests import RequestsFetch
from teeverify.client.network.steps import Blocking, Either, Runner, Steps
from teeverify.client.network.tls import OtherKey, fingerprint
from teeverify.client.receipts.kept import Receipts
from teeverify.client.transports.gate import Gate
from teeverify.client.transports.stream import MAX_DRAIN_SECONDS, CapturedStream, Incoming
from teeverify.client.transports.wishes import Wishes
from teeverify.client.vendors.given import EndorsementSource
from teeverify.endorsements.deadline import Deadline
from teeverify.errors import ConfigurationError
from teeverify.roots import UnsafeTestRoots

__all__ = ["RequestsAdapter"]

_CHUNK = 64 * 1024
_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_FRAMING = ("content-length", "transfer-encoding")


class _Pinned(HTTPAdapter):
    """Connections to a set of TLS keys: nothing is written to any other.

    Args:
        keys: The keys; empty where none is bound.
    """

    def __init__(self, keys: frozenset[bytes]) -> None:
        self._keys = keys
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """The pool, whose connections look at the key before anything is written."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        if self._keys and not hasattr(pool, "pinned"):
            pool.pinned = True
            kind, keys = pool.ConnectionCls, self._keys

            class Connection(kind):  # type: ignore[misc,valid-type] # whatever the pool makes
                """A connection whose other end was looked at."""

                def connect(self) -> None:
                    """Connect, and go no further with another key."""
                    super().connect()
                    peer = _peer(self)
                    if peer not in keys:
                        self.close()
                        raise OtherKey(peer)

            pool.ConnectionCls = Connection
        return pool


def _peer(connection: Any) -> bytes | None:  # noqa: ANN401 -- a connection of urllib3
    shown = getattr(getattr(connection, "sock", None), "getpeercert", None)
    certificate = None if shown is None else shown(binary_form=True)
    return None if certificate is None else fingerprint(certificate)


class _Body:
    """The body of an answer on its way in."""

    errors: tuple[type[BaseException], ...] = _ERRORS

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._chunks: Iterator[bytes] | None = None

    def chunk(self) -> Either:
        """See :class:`~teeverify.client.transports.stream.Incoming`."""
        return _only(lambda: next(self._source(), None))

    def rest(self, keep: Callable[[bytes], bool]) -> Either:
        """See :class:`~teeverify.client.transports.stream.Incoming`."""

        def read() -> None:
            connection: Any = getattr(self._response.raw, "connection", None)
            with Deadline(MAX_DRAIN_SECONDS) as deadline:
                if getattr(connection, "sock", None) is not None:
                    deadline.watch(connection.sock)
                for chunk in self._source():
                    if not keep(chunk) or deadline.expired:
                        return

        return _only(read)

    def close(self) -> Either:
        """See :class:`~teeverify.client.transports.stream.Incoming`."""
        return _only(self._response.close)

    def _source(self) -> Iterator[bytes]:
        if self._chunks is None:
            raw: Any = self._response.raw
            if raw.chunked or not hasattr(raw, "read1"):
                self._chunks = raw.stream(_CHUNK, decode_content=False)
            else:  # what is there, without waiting for more
                self._chunks = iter(lambda: raw.read1(_CHUNK, decode_content=False), b"")
        return self._chunks


def _only(blocking: Callable[[], Any]) -> Either:
    """A step that is never taken in an event loop."""
    return Either(blocking, blocking)


class _Flowing:
    """What ``requests`` reads an answer from whose bytes flow on, and which ends with a verdict."""

    def __init__(self, response: requests.Response, stream: CapturedStream) -> None:
        self.status, self.reason = response.status_code, response.reason
        self.headers = _headers(response)
        self.version = 11
        self._stream = stream

    def stream(self, amt: int = _CHUNK, *, decode_content: bool = False) -> Iterator[bytes]:
        """The bytes as they come; then the verdict."""
        del amt, decode_content
        yield from self._stream
        self._stream.close()

    def read(self, amt: int | None = None, *, decode_content: bool = False) -> bytes:
        """All bytes to the end, once they are verified."""
        del amt
        return b"".join(self.stream(decode_content=decode_content))

    def close(self) -> None:
        """Give the verdict where the answer was read to its end, and let the connection go."""
        self._stream.close()


def _headers(response: requests.Response) -> dict[str, str]:
    return {n: v for n, v in response.headers.items() if n.lower() not in _FRAMING}


class _Line:
    """How ``requests`` sends one request, with the options of its session."""

    def __init__(
        self, adapter_for: Callable[[frozenset[bytes]], HTTPAdapter], options: Mapping[str, Any]
    ) -> None:
        self._adapter_for = adapter_for
        self._options = {**options, "stream": True}

    def target(self, request: requests.PreparedRequest) -> tuple[str, str]:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return request.method or "GET", request.url or ""

    def read(self, request: requests.PreparedRequest) -> Either:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return _only(lambda: _content(request.body))

    def authorization(self, request: requests.PreparedRequest) -> str | None:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return request.headers.get("authorization")

    def send(
        self,
        request: requests.PreparedRequest,
        content: bytes,
        keys: frozenset[bytes],
        headers: Mapping[str, str],
    ) -> Either:
        """See :class:`~teeverify.client.transports.line.Line`."""
        made = request.copy()
        made.body = content
        for name in _FRAMING:
            made.headers.pop(name, None)
        if content:
            made.headers["Content-Length"] = str(len(content))
        made.headers["Accept-Encoding"] = "identity"
        made.headers.update(headers)
        return _only(lambda: self._adapter_for(keys).send(made, **self._options))

    def peer(self, response: requests.Response) -> bytes | None:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return _peer(getattr(response.raw, "connection", None))

    def incoming(self, response: requests.Response) -> Incoming:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return _Body(response)

    def whole(self, response: requests.Response, body: bytes) -> requests.Response:
        """See :class:`~teeverify.client.transports.line.Line`."""
        raw = urllib3.HTTPResponse(
            body=io.BytesIO(body),
            headers=_headers(response),
            status=response.status_code,
            reason=response.reason,
            preload_content=False,
        )
        return self._built(response, raw)

    def flowing(self, response: requests.Response, stream: CapturedStream) -> requests.Response:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return self._built(response, _Flowing(response, stream))

    def _built(self, response: requests.Response, raw: Any) -> requests.Response:  # noqa: ANN401
        return self._adapter_for(frozenset()).build_response(response.request, raw)

    def stream(
        self,
        runner: Runner,
        incoming: Incoming,
        verdict: Callable[[bytes], Steps[object]],
        read: Callable[[bytes], bytes] | None,
    ) -> CapturedStream:
        """See :class:`~teeverify.client.transports.line.Line`."""
        return CapturedStream(runner, incoming, verdict, read)


def _content(body: object) -> bytes:
    """The bytes of a request's body, in whatever form they were given."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, bytes):
        return body
    read = getattr(body, "read", None)
    parts = [read()] if read is not None else body
    if not hasattr(parts, "__iter__"):
        raise ConfigurationError(
            "the request's body is no bytes", id="usage.request", got=type(body).__name__
        )
    return b"".join(part.encode("utf-8") if isinstance(part, str) else part for part in parts)


class RequestsAdapter(HTTPAdapter):
    """For ``requests.Session().mount("https://", RequestsAdapter(url))``: verified answers only.

    It refuses any other host, and whatever nobody signs.

    Args:
        base_url: The endpoint, as the OpenAI SDK takes it.
        policy: ``genuine``, ``strict``, a path of a TOML file, or a policy.
        roots: Test roots, for simulated endpoints only.
        endorsements: The vendors' collateral, where the endpoint does not send it along.
        dialect: How the endpoint shows its evidence, where its host does not tell.
        hold_until_verified: Hold streamed answers back until they are verified.
        salt_requests: Put a random value into each request, so that no answer can be an older one.
        encrypt: Encrypt each request to the attested key, and refuse an answer that is not
            encrypted. They are in any case under a policy that starts from ``strict``, where the
            dialect has a scheme and TLS does not end in the attested machine.
        attestation_timeout: Seconds that one request for evidence or a signature may take.

    Raises:
        ConfigurationError: A wrong argument.
    """

    def __init__(  # noqa: PLR0913 -- the wishes in all their parts
        self,
        base_url: str,
        *,
        policy: str | Path | Policy = "genuine",
        roots: UnsafeTestRoots | None = None,
        endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
        dialect: str | None = None,
        hold_until_verified: bool = False,
        salt_requests: bool = False,
        encrypt: bool = False,
        attestation_timeout: float | None = None,
    ) -> None:
        wishes = Wishes(
            policy=policy,
            roots=roots,
            endorsements=endorsements,
            dialect=dialect,
            hold_until_verified=hold_until_verified,
            salt_requests=salt_requests,
            encrypt=encrypt,
            attestation_timeout=attestation_timeout,
        )
        endpoint = Endpoint.parse(base_url, dialect=dialect)
        self._runner = Blocking(RequestsFetch(trust_env=endpoint.trust_env))
        self._gate: Gate = wishes.gate(base_url, self._runner)
        self._adapters: dict[frozenset[bytes], _Pinned] = {}
        super().__init__(max_retries=0)

    @property
    def receipts(self) -> Receipts:
        """The receipts of the answers that were verified, by the id of the answer."""
        return self._gate.receipts

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override] # noqa: ANN401
        """Attest if need be, send one request, and verify the answer.

        Raises:
            TeeVerifyError: The endpoint or the answer is not verified, or nothing may be sent.
        """
        line = _Line(self._adapter_for, options)
        response: requests.Response = self._runner.run(self._gate.pass_on(line, request))
        return response

    def close(self) -> None:
        """Close every connection."""
        for adapter in self._adapters.values():
            adapter.close()

    def _adapter_for(self, keys: frozenset[bytes]) -> HTTPAdapter:
        known = self._adapters.get(keys)
        return known or self._adapters.setdefault(keys, _Pinned(keys))
