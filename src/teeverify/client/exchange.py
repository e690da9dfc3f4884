"""A request and its answer, as exact bytes, from whatever library they came through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from teeverify.appraisal.encryption import Encryption
from teeverify.errors import ConfigurationError, ResponseNotVerified
from teeverify.responses.receipt import Challenge, Http

__all__ = ["Exchange", "HttpResponse", "Response", "answer_bytes", "request_bytes"]

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

    request: bytes
    response: bytes
    received_at: datetime
    signature: bytes | None = None
    id: str | None = None
    authorization: str | None = None
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
