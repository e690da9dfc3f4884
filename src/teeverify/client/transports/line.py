"""How one library sends a request and hands an answer over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from teeverify.client.network.steps import Either, Runner, Steps
from teeverify.client.transports.stream import CapturedStream, Incoming

__all__ = ["Line"]


class Line(Protocol):
    """One library, as the gate needs it."""

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
