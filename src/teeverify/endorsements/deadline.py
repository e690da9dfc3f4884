"""Blocking HTTP exchanges that end in time, however slowly the other side drips."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter
    from typing_extensions import Self

__all__ = ["Deadline", "no_credentials", "watched_adapter"]


class Deadline:
    """Ends a blocking exchange at a point in time, however slowly the other side drips.

    Time-outs of sockets count from byte to byte. So the sockets themselves are shut when the time
    is over, which wakes whoever waits for them.

    Args:
        seconds: How long the exchange may take.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.peer: bytes | None = None  # certificate (DER) at the other end of the last connection
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> socket.socket:
        """Shut this connection too when the time is over; gives the connection itself."""
        # A second handle to the same connection: TLS takes the first one's away.
        own = socket.socket(fileno=socket.dup(connection.fileno()))
        with self._lock:
            self._sockets.append(own)
        if self.expired:
            self._shut(own)
        return connection

    def _expire(self) -> None:
        self.expired = True
        with self._lock:
            for own in self._sockets:
                self._shut(own)

    @staticmethod
    def _shut(own: socket.socket) -> None:
        try:
            own.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was faster

    def __enter__(self) -> Self:
        """Start to count."""
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to count."""
        self._timer.cancel()
        with self._lock:
            for own in self._sockets:
                own.close()
            self._sockets.clear()


def no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds none: else a password of ``.netrc`` would be sent."""
    return request


def watched_adapter(deadline: Deadline) -> HTTPAdapter:
    """An adapter whose connections the deadline watches from their first byte."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    class Watched(HTTPAdapter):
        """Names every connection to the deadline."""

        def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
            """The pool, whose connections are watched."""
            pool: Any = super().get_connection_with_tls_context(*args, **options)
            kind = pool.ConnectionCls

            def connection(*args: Any, **options: Any) -> Any:  # noqa: ANN401
                made: Any = kind(*args, **options)
                connect = made._new_conn  # noqa: SLF001 -- the only place that has the socket
                made._new_conn = lambda: deadline.watch(connect())  # noqa: SLF001
                open_whole = made.connect

                def connected() -> None:
                    open_whole()
                    shown = getattr(made.sock, "getpeercert", None)
                    deadline.peer = None if shown is None else shown(binary_form=True)

                made.connect = connected
                return made

            pool.ConnectionCls = connection
            return pool

    return Watched(max_retries=0)
