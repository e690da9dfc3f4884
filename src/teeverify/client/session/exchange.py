"""A request and its answer, as exact bytes, from whatever library they came through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from teeverify.appraisal.encryption import Encryption
from teeverify.errors import ConfigurationError, ResponseNotVerified
from teeverify.responses.body import Body, read_body
from teeverify.responses.form import Carrying
from teeverify.responses.receipt import Challenge, Http

__all__ = [
    "Exchange",
    "HttpResponse",
    "Response",
    "answer_bytes",
    "http_of",
    "lower",
    "request_bytes",
    "require_whole",
    "taken_apart",
]

_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request with its answer.

    Attributes:
        request: The request's bytes exactly as sent.
        response: The answer's bytes exactly as received.
        received_at: When the answer's last byte was here.
        signature: What the signature route returned, where it was asked already.
        id: The answer's id, where it does not name one itself.
        authorization: What the signature route must be shown.
        salted: Whether a random value of ours is among the request's bytes.
        model: The model that the request names.
        encryption: How it was encrypted: then its bytes are the encrypted ones, which a signature
            is about; where there is no signature, they are the opened ones.
        http: What was seen of the HTTP exchange around it.
        headers: The answer's headers, by their names in lower case.
        challenge: The challenge that was sent with the request.
    """

    request: bytes = field(repr=False)
    response: bytes = field(repr=False)
    received_at: datetime
    signature: bytes | None = None
    id: str | None = None
    authorization: str | None = field(default=None, repr=False)
    salted: bool = False
    model: str | None = None
    encryption: Encryption | None = None
    http: Http = field(default_factory=Http)
    headers: Mapping[str, str] = field(default_factory=dict)
    challenge: Challenge | None = None


class HttpResponse(Protocol):
    """What the answers of httpx2, httpx and requests have in common."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""

    @property
    def content(self) -> bytes:
        """The whole body."""

    @property
    def request(self) -> object:
        """The request that it answers."""


Response: TypeAlias = "bytes | HttpResponse"


def http_of(method: str, url: str, request: Any, response: Any) -> Http:  # noqa: ANN401
    """What was seen of the exchange around a request and an answer of an HTTP library."""
    parts = urlsplit(url)
    return Http(
        method=method,
        target=f"{parts.path}?{parts.query}" if parts.query else parts.path,
        status=response.status_code,
        request_type=request.headers.get("content-type") or "",
        response_type=response.headers.get("content-type") or "",
    )


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def answer_bytes(response: Response) -> bytes:
    """The exact bytes of an answer.

    Raises:
        ConfigurationError: No answer, or one that was not read.
        ResponseNotVerified: An error's status, or bytes that were decoded on the way.
    """
    if isinstance(response, bytes):
        return response
    if not all(hasattr(response, name) for name in ("status_code", "headers", "request")):
        raise ConfigurationError(
            "response is neither bytes nor an HTTP response",
            id="usage.response",
            got=type(response).__name__,
            want="bytes, or an answer of httpx2, httpx or requests",
        )
    if response.status_code not in _SUCCESS:
        raise ResponseNotVerified(
            "the endpoint answered with an error, which nobody signs",
            id="answer.signature",
            got=f"status {response.status_code}",
        )
    encoding = response.headers.get("content-encoding") or "identity"
    if encoding.strip().lower() != "identity":
        raise ResponseNotVerified(
            "the answer came compressed: these are not the bytes that were signed",
            id="answer.encoding",
            got=repr(encoding)[:40],
            want="no Content-Encoding",
            hint="Send 'Accept-Encoding: identity'.",
        )
    try:
        content = response.content
    except (RuntimeError, OSError) as error:  # a stream that was not read, or broke off
        raise ConfigurationError(
            "the answer's body was not read, or is gone",
            id="usage.response",
            got=type(error).__name__,
            hint="Read it to its end first.",
        ) from None
    return bytes(content)


def request_bytes(request: bytes | None, response: Response) -> bytes:
    """The exact bytes of a request: the caller's, else those that the answer's library keeps.

    Raises:
        ConfigurationError: Nobody has them.
    """
    if request is not None:
        if not isinstance(request, bytes):
            raise ConfigurationError(
                "request is not bytes",
                id="usage.request",
                got=type(request).__name__,
                hint="Pass the exact bytes that were sent.",
            )
        return request
    sent = None if isinstance(response, bytes) else getattr(response, "request", None)
    try:
        body = getattr(sent, "body", None) or getattr(sent, "content", None)
    except RuntimeError:  # httpx: a request that was streamed
        body = None
    if isinstance(body, str) and body.isascii():
        return body.encode("ascii")
    if not isinstance(body, bytes):
        raise ConfigurationError(
            "the request's bytes are not known",
            id="usage.request",
            hint="Pass request=, the exact bytes that were sent.",
        )
    return body


def require_whole(exchange: Exchange) -> Body:
    """What the answer says of itself.

    Raises:
        ResponseNotVerified: It is a part of an answer, or none.
    """
    body = read_body(exchange.response)
    if not exchange.response or (body.form == "stream" and not body.complete):
        raise ResponseNotVerified(
            "the stream broke off before its end" if exchange.response else "no answer came",
            id="answer.complete",
            want="an answer to its end",
            hint="What was received is a part of an answer; ask again.",
        )
    return body


def taken_apart(exchange: Exchange, carrying: Carrying) -> tuple[Exchange, str | None]:
    """The content alone, with the signature that came with it, and the name of the latter.

    Raises:
        ResponseNotVerified: No answer came, or it carries another signature than was given.
    """
    if not exchange.response:
        raise ResponseNotVerified("no answer came", id="answer.complete")
    content, signature = carrying.split(exchange.response, exchange.headers)
    given = exchange.signature
    if signature is not None and given is not None and given != signature:
        raise ResponseNotVerified(
            "the answer carries another signature than the one that was given with it",
            id="answer.signature",
        )
    taken = replace(exchange, response=content, signature=signature or given)
    return taken, carrying.id(exchange.headers)
