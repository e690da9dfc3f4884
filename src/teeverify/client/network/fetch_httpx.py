"""Fetch with httpx2, or with the older httpx: whichever the answers come through."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Callable
from typing import Any

from teeverify.client.network.fetch import Collector, Get, Got, out_of_time, unreachable
from teeverify.client.network.tls import peer_of
from teeverify.endorsements.deadline import Deadline
from teeverify.errors import ConfigurationError

__all__ = ["AsyncHttpxFetch", "HttpxFetch", "family_of", "http_library"]

_MAX_IDLE = 8


def family_of(client: object) -> Any:  # noqa: ANN401 -- two libraries with the same names
    """The library that a client is of: ``httpx2`` or ``httpx``.

    Raises:
        ConfigurationError: Neither.
    """
    for kind in type(client).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in ("httpx2", "httpx"):
            return sys.modules[name]
    raise ConfigurationError(
        "this is no client of httpx2 or httpx", id="usage.http-client", got=type(client).__name__
    )


def http_library() -> Any:  # noqa: ANN401 -- two libraries with the same names
    """The library that is installed: ``httpx2``, else ``httpx``.

    Raises:
        ConfigurationError: Neither.
    """
    for name in ("httpx2", "httpx"):
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name)
    raise ConfigurationError(
        "neither httpx2 nor httpx is installed",
        id="usage.http-client",
        hint="Run: pip install 'teeverify[openai]'",
    )


class _Line:
    """A client that holds one connection, and a handle to its socket."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401
        self.client = client
        self._errors = (family_of(client).HTTPError, family_of(client).StreamError, OSError)
        self._socket: socket.socket | None = None

    def fetch(self, get: Get) -> Got:
        with Deadline(get.timeout) as deadline:
            if self._socket is not None:
                deadline.watch(self._socket)

            def trace(event: str, info: dict[str, Any]) -> None:
                if event.endswith("connect_tcp.complete"):
                    self._keep(info["return_value"].get_extra_info("socket"), deadline)

            request = self.client.build_request(
                "GET",
                get.url,
                headers=get.headers,
                timeout=get.timeout,
                extensions={"trace": trace},
            )
            try:
                response = self.client.send(request, stream=True, auth=None, follow_redirects=False)
                try:
                    peer = peer_of(response)
                    collector = Collector(get, response.status_code, response.headers, peer=peer)
                    return collector.all(response.iter_raw(), deadline)
                finally:
                    response.close()
            except self._errors as error:
                if deadline.expired or "Timeout" in type(error).__name__:
                    raise out_of_time(get) from None
                raise unreachable(get, error) from None

    def _keep(self, connection: socket.socket, deadline: Deadline) -> None:
        deadline.watch(connection)
        if self._socket is not None:
            self._socket.close()
        self._socket = socket.socket(fileno=socket.dup(connection.fileno()))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self.client.close()


class HttpxFetch:
    """Fetches through clients of one connection each, which are used again.

    Args:
        new_client: Makes such a client.
    """

    def __init__(self, new_client: Callable[[], Any]) -> None:
        self._new_client = new_client
        self._idle: list[_Line] = []
        self._closed = False

    def __call__(self, get: Get) -> Got:
        """Fetch.

        Raises:
            EndpointUnavailable: No connection, no answer in time, a redirect.
            MalformedEvidence: The answer is larger than allowed.
        """
        try:
            line = self._idle.pop()
        except IndexError:
            line = _Line(self._new_client())
        try:
            got = line.fetch(get)
        except BaseException:
            line.close()
            raise
        if self._closed or len(self._idle) >= _MAX_IDLE:
            line.close()
        else:
            self._idle.append(line)
        return got

    def close(self) -> None:
        """Close what is open."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class AsyncHttpxFetch:
    """Fetches through a client of the event loop.

    Args:
        client: An ``httpx2.AsyncClient`` or ``httpx.AsyncClient``.
    """

    def __init__(self, client: Any) -> None:  # noqa: ANN401
        self._client = client
        family = family_of(client)
        self._errors = (family.HTTPError, family.StreamError, OSError)

    async def __call__(self, get: Get) -> Got:
        """Fetch.

        Raises:
            EndpointUnavailable: No connection, no answer in time, a redirect.
            MalformedEvidence: The answer is larger than allowed.
        """
        import anyio  # noqa: PLC0415

        try:
            with anyio.fail_after(get.timeout):
                return await self._get(get)
        except TimeoutError:
            raise out_of_time(get) from None
        except self._errors as error:
            if "Timeout" in type(error).__name__:
                raise out_of_time(get) from None
            raise unreachable(get, error) from None

    async def _get(self, get: Get) -> Got:
        request = self._client.build_request(
            "GET", get.url, headers=get.headers, timeout=get.timeout
        )
        response = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            peer = peer_of(response)
            collector = Collector(get, response.status_code, response.headers, peer=peer)
            async for chunk in response.aiter_raw():
                collector.take(chunk)
            return collector.done()
        finally:
            await response.aclose()
