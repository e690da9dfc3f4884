"""What stands behind the server: one interface for the embedded engine and for an upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from teeverify.enclave.framing import Framing

__all__ = ["Answer", "Asked", "Backend", "BrokenOff", "Parts"]


class Parts(Protocol):
    """An answer's bytes, as they come.

    Ending is a clean end within the protocol's framing; anything else raises :class:`BrokenOff`.
    """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Itself."""

    async def __anext__(self) -> bytes:
        """The next bytes."""

    async def aclose(self) -> None:
        """Stop the work, if it goes on."""


class BrokenOff(Exception):
    """What makes an answer stopped in the middle of it, or said more than it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a request reaches an engine: nothing that is not signed may shape an answer.

    Attributes:
        path: The route.
        body: The body, byte for byte.
        content_type: Its content type.
        accept: What the client takes.
    """

    path: str
    body: bytes
    content_type: bytes
    accept: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that has begun.

    Attributes:
        status: Its status.
        content_type: Its content type.
        parts: Its bytes. They must be closed, whether or not they were read.
    """

    status: int
    content_type: bytes
    parts: Parts


class Backend(Protocol):
    """What makes answers."""

    @property
    def routes(self) -> Mapping[str, Framing]:
        """The routes that it answers."""

    @property
    def description(self) -> Mapping[str, object]:
        """Kind, location, model and weights, as the server's configuration names them."""

    async def open(self, asked: Asked) -> Answer:
        """Begin an answer.

        Raises:
            HttpError: There will be none.
        """

    async def models(self) -> bytes:
        """The list of models, as JSON.

        Raises:
            HttpError: The engine does not answer.
        """

    async def metrics(self) -> bytes:
        """The engine's own metrics, as Prometheus reads them; nothing where it has none.

        Raises:
            HttpError: The engine does not answer.
        """

    async def health(self) -> str | None:
        """What is wrong with it, in a few words; ``None`` where nothing is."""

    async def start(self) -> None:
        """Get ready, in the event loop in which answers are made."""

    async def close(self) -> None:
        """Stop; whatever is being made breaks off."""
