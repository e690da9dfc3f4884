"""Running the application: uvicorn on a socket of our own, until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

import uvicorn

from teeverify.enclave.asgi import Application
from teeverify.enclave.http import PatientProtocol
from teeverify.errors import ConfigurationError

__all__ = ["log_to_stderr", "open_socket", "run", "url_of"]

_BACKLOG = 2048
_MAX_PORT = 65535
_KEEP_ALIVE_SECONDS = 30
_LOOK_SECONDS = 0.1
_SWITCH_SECONDS = 0.0005
_DESCRIPTORS = 65_536
_OWN_DESCRIPTORS = 32
_COLLECT_AFTER = (10_000, 20, 20)
_Step: TypeAlias = "Callable[[], Awaitable[None]]"
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


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """The base URL at which a client of this machine reaches a socket, with ``/v1``."""
    host, port = listening.getsockname()[:2]
    host = _ANYWHERE.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/v1"


class _Server(uvicorn.Server):
    """Uvicorn's server; told to stop by a signal, it ends with exit code 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        start: Sequence[_Step],
        stop: Sequence[_Step],
        ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._start = start
        self._stop = stop
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start what stands behind the application, then listen, and say so."""
        starting = asyncio.create_task(_in_turn(self._start))
        try:
            while not starting.done() and not self.should_exit:
                await asyncio.wait([starting], timeout=_LOOK_SECONDS)
            if self.should_exit:  # told to stop while it started
                starting.cancel()
            await starting
        except asyncio.CancelledError:
            await _in_turn(self._stop)
            return
        except BaseException:
            await _in_turn(self._stop)
            raise
        await super().startup(sockets)
        _settle()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running answers end, then stop what stands behind."""
        await super().shutdown(sockets)
        await _in_turn(self._stop)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal. Uvicorn's own way raises the signal again when all is done."""
        with _on_signals(self._on_signal):
            yield

    def _on_signal(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def run(  # noqa: PLR0913 -- each by name
    application: Application,
    listening: socket.socket,
    *,
    start: Sequence[_Step],
    stop: Sequence[_Step],
    ready: Callable[[], None],
    drain: int,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then let running answers end.

    Args:
        application: What serves.
        listening: A socket that listens already.
        start: Awaited in turn before the first request is taken.
        stop: Awaited in turn after the last one, and where the start fails.
        ready: Called once requests are answered.
        drain: For how many seconds running answers may go on.
        tls: What TLS is spoken with; without it, plain HTTP.
    """
    config = uvicorn.Config(
        application,
        http=PatientProtocol,
        lifespan="off",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=drain,
        backlog=_BACKLOG,
        limit_concurrency=_most_connections(),
    )
    config.load()
    config.ssl = tls  # by argument it takes files only, in the oldest version that we support
    _Server(config, start, stop, ready).run(sockets=[listening])


def _most_connections() -> int | None:
    """How many connections are taken, for the descriptors that there are: two are needed for each.

    Who comes beyond them gets 503, so that those for whom there is room are served to the end.
    """
    try:
        import resource  # noqa: PLC0415 -- not on Windows
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    most = _DESCRIPTORS if hard == unlimited else min(hard, _DESCRIPTORS)
    if soft not in (unlimited, most) and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    most = most if soft == unlimited else soft
    return max((most - _OWN_DESCRIPTORS) // 2, 2)


def _settle() -> None:
    """Keep the collector and other threads from holding up the event loop.

    What was loaded stays, so no collection need visit it; and a request leaves hundreds of objects
    but hardly a cycle. A thread that computes, such as for a report, gives the loop its turn soon.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts what is left, so that full collections come in time
    gc.set_threshold(*_COLLECT_AFTER)
    sys.setswitchinterval(_SWITCH_SECONDS)


async def _in_turn(steps: Sequence[_Step]) -> None:
    for step in steps:
        await step()


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


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return json.dumps(
            {
                "time": self.formatTime(record),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


def log_to_stderr(form: str) -> None:
    """Write the server's log to stderr: one line a request, without anything of its contents.

    Args:
        form: ``text`` or ``json``.

    Raises:
        ConfigurationError: There is no such form.
    """
    forms = {
        "text": logging.Formatter("%(asctime)s %(levelname)s %(message)s"),
        "json": _JsonFormatter(),
    }
    if form not in forms:
        raise ConfigurationError(
            "there is no such form of a log", id="usage.serve", got=form[:40], want="text or json"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(forms[form])
    for name, level in (("teeverify.enclave", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
