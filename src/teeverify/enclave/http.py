"""Uvicorn's reader of HTTP, the faster of two that is installed, with an end to its patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from teeverify.enclave.errors import HttpError

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol
else:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol

__all__ = ["PatientProtocol"]

_HEAD_SECONDS = 30.0
_MAX_HEAD = 64 * 1024
_MAX_REST = 32 * 1024 * 1024
_REFUSED_SECONDS = 1.0
_STATUS = b"HTTP/1."
_BUSY = HttpError(503, "the server has no room for another connection", code="busy").body()
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_BUSY), _BUSY)
)


class PatientProtocol(_Protocol):
    """Closes a connection on which no whole request head arrives in time, or a very large one.

    The time runs from the connection's start, and again from the first byte of each further
    request; uvicorn itself ends only those that say nothing between two requests, and one of its
    readers bounds no head. Connections beyond ``limit_concurrency`` get 503 and are closed: uvicorn
    counts them all, and where many come at once would then serve none.
    """

    _clock: asyncio.TimerHandle | None = None
    _unread = 0
    _refused = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 -- as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _HeadFirst(transport, self.loop))
        most, self.limit_concurrency = self.limit_concurrency, None
        if most is not None and len(self.connections) > most:
            self._refused = True
            self._clock = self.loop.call_later(_REFUSED_SECONDS, self._give_up)
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Read, and wait on unless a request is being served."""
        if self._refused:
            self.transport.write(_FULL)
            self._give_up()
            return
        super().data_received(data)
        self._unread = 0 if self._serving else self._unread + len(data)
        if self._unread > (_MAX_HEAD if self._at_head else _MAX_REST):
            self._give_up()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop()
        super().connection_lost(exc)

    @property
    def _serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _at_head(self) -> bool:
        """Whether what comes now is no rest of a body that was refused before it was whole."""
        return self.cycle is None or not self.cycle.more_body

    def _wait(self) -> None:
        if self._serving:
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        self._stop()
        if not self._serving and not self.transport.is_closing():
            self.transport.close()


class _HeadFirst:
    """A transport on which the head of an answer leaves together with what follows it.

    Uvicorn writes the two one after the other; each would be a system call, a packet, and a turn of
    the client. A head that nothing follows in this turn of the event loop leaves at its end.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- all else is the transport's
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or keep a head for a moment."""
        if data.startswith(_STATUS):
            if not self._head:
                self._loop.call_soon(self._flush)
            self._head += data
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close, once all is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)
