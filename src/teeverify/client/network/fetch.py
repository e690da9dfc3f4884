"""What is asked of an endpoint beside the answers, apart from how it is asked.

A session is written once, as steps (:mod:`teeverify.client.network.steps`); a fetcher of requests
or httpx, blocking or not, does what they ask for. Whatever the network brings, a fetcher returns a
whole body within the cap, or raises.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from teeverify.endorsements.deadline import Deadline
from teeverify.errors import EndpointUnavailable, MalformedEvidence

__all__ = [
    "AsyncFetch",
    "Collector",
    "Fetch",
    "Get",
    "Got",
    "out_of_time",
    "unreachable",
]

_REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """One GET request.

    Attributes:
        url: The URL; redirects from it are refused.
        what: What is fetched, for errors.
        cap: Largest body accepted, in bytes.
        timeout: Seconds until the whole body must be here.
        authorization: Value of the ``Authorization`` header; without one, none is sent.
        last: Whether the connection is closed afterwards: another one may lead to another machine.
    """

    url: str
    what: str
    cap: int
    timeout: float
    authorization: str | None = field(default=None, repr=False)
    last: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send: nothing may be compressed, for sizes are bounded as sent."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "teeverify",
        }
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        if self.last:
            headers["Connection"] = "close"
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """The answer to a :class:`Get`.

    Attributes:
        status: HTTP status, never a redirect.
        content_type: Value of the ``Content-Type`` header, in lower case.
        body: The exact bytes.
        peer: Fingerprint of the TLS key at the other end: SHA-256 of its SubjectPublicKeyInfo.
    """

    status: int
    content_type: str
    body: bytes
    peer: bytes | None = None


Fetch: TypeAlias = Callable[[Get], Got]
AsyncFetch: TypeAlias = Callable[[Get], Awaitable[Got]]


class Collector:
    """Takes one answer apart as it arrives, and refuses what must not be waited for.

    Args:
        get: What was asked.
        status: HTTP status.
        headers: The answer's headers, whose names do not depend on letter case.
        peer: See :class:`Got`.

    Raises:
        EndpointUnavailable: A redirect, or a body in another encoding than was asked for.
    """

    def __init__(
        self, get: Get, status: int, headers: Mapping[str, str], *, peer: bytes | None = None
    ) -> None:
        if status in _REDIRECTS:
            raise EndpointUnavailable(
                f"the endpoint redirects the request for its {get.what}, which is not followed",
                id="endpoint.redirect",
                got=f"status {status}",
                hint="Give the address at which the endpoint itself answers.",
            )
        encoding = headers.get("content-encoding") or "identity"
        if encoding.strip().lower() != "identity":
            raise EndpointUnavailable(
                f"the endpoint's {get.what} came compressed, which was not asked for",
                id="endpoint.encoding",
                got=repr(encoding)[:40],
                want="no Content-Encoding",
            )
        self._get = get
        self._status = status
        self._content_type = (headers.get("content-type") or "").lower()
        self._peer = peer
        self._chunks: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> None:
        """Keep the next bytes.

        Raises:
            MalformedEvidence: They are more than what was asked for may have.
        """
        self._size += len(chunk)
        if self._size > self._get.cap:
            raise MalformedEvidence(
                f"the endpoint's {self._get.what} is too large",
                id="endpoint.size",
                field=self._get.what,
                need=f"at most {self._get.cap} bytes",
                have="more",
            )
        self._chunks.append(chunk)

    def all(self, chunks: Iterable[bytes], deadline: Deadline) -> Got:
        """Take everything, and give the whole answer.

        Raises:
            EndpointUnavailable: The time ran out.
            MalformedEvidence: See :meth:`take`.
        """
        for chunk in chunks:
            self.take(chunk)
        if deadline.expired:  # a connection that was shut may look like one that ended
            raise out_of_time(self._get)
        return self.done()

    def done(self) -> Got:
        """The whole answer."""
        return Got(
            status=self._status,
            content_type=self._content_type,
            body=b"".join(self._chunks),
            peer=self._peer,
        )


def out_of_time(get: Get) -> EndpointUnavailable:
    """The error for an answer that did not come, or not to its end, in time."""
    return EndpointUnavailable(
        f"the endpoint gave no whole {get.what} in {get.timeout:g} s",
        id="endpoint.timeout",
        hint="Try again, or allow more time.",
    )


def unreachable(get: Get, error: BaseException) -> EndpointUnavailable:
    """The error for a connection that failed; it never quotes what was sent."""
    cause: BaseException | None = error
    reason = None
    for _ in range(8):  # the operating system's own words lie below the libraries'
        if cause is None:
            break
        if isinstance(cause, ssl.SSLError):
            reason = getattr(cause, "verify_message", None) or cause.reason
        elif isinstance(cause, OSError) and cause.errno:
            reason = os.strerror(cause.errno) if cause.errno > 0 else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return EndpointUnavailable(
        f"the endpoint could not be asked for its {get.what}",
        id="endpoint.unreachable",
        got=(reason or type(error).__name__)[:120],
        hint="Check that it runs, that the address is right, and any proxy; then try again.",
    )
