"""Running the application: uvicorn on a socket of our own, until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from teeverify.enclave.asgi import Application
from teeverify.errors import ConfigurationError

__all__ = ["log_to_stderr", "open_socket", "run", "url_of"]

_BACKLOG = 2048
_MAX_PORT = 65535
_KEEP_ALIVE_SECONDS = 30
_GRACE_SECONDS = 5
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- read, not bound to


def open_socket(host: str, port: int) -> socket.socket:
    """Listen, so that the address is known before anything is served.

    Args:
        host: Name or address to listen on.
        port: The port; 0 for any that is free.

    Raises:
        ConfigurationError: It is in use, or no address of this machine.
    """
    if not 0 <= port <= _MAX_PORT:
        raise ConfigurationError(
            "there is no such port", id="usage.serve", got=str(port), want=f"0 to {_MAX_PORT}"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not an address"
        raise ConfigurationError(
            f"this address cannot be listened on: {reason}",
            id="usage.serve",
            got=f"{host}:{port}"[:200],
        ) from None


def url_of(listening: socket.socket) -> str:
    """The base URL at which a client of this machine reaches a socket, with ``/v1``."""
    host, port = listening.getsockname()[:2]
    host = _ANYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


class _Server(uvicorn.Server):
    """Uvicorn's server; told to stop by a signal, it ends with exit code 0."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal. Uvicorn's own way raises the signal again when all is done."""
        with _on_signals(self._stop):
            yield

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def run(application: Application, listening: socket.socket, *, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; then let running answers end, for a few seconds.

    Args:
        application: What serves.
        listening: A socket that listens already.
        ready: Called once requests are answered.
    """
    config = uvicorn.Config(
        application,
        lifespan="off",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
    )
    _Server(config, ready).run(sockets=[listening])


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in signals:
            loop.add_signal_handler(number, stop)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows; another thread
        yield
        return
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def log_to_stderr() -> None:
    """Write the server's log to stderr: one line a request, without anything of its contents."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("teeverify.enclave", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
