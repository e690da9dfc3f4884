"""An engine behind HTTP, within this machine: vLLM, or whatever speaks as it does.

Bytes pass unchanged in both directions. Of a request only the body, its type and what the client
takes reach the engine, so no header that nobody signs can shape an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from teeverify.enclave.engines.backend import Answer, Asked, BrokenOff
from teeverify.enclave.errors import HttpError
from teeverify.enclave.framing import ANSWERS, Framing
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, EndpointUnavailable, MalformedEvidence

__all__ = ["Upstream", "parse_upstream"]

_ROOT = "/v1"
# vLLM closes a silent connection after 5 s; one that it closes while we use it costs an answer.
_KEEP_ALIVE_SECONDS = 3.0
_CONNECT_SECONDS = 5.0
_ASK_SECONDS = 10.0
_MAX_SMALL = 16 * 1024 * 1024
_OK, _NOT_FOUND = 200, 404
_PAUSE_SECONDS = 0.25
_NO_DESCRIPTOR_SECONDS = (0.05, 0.2, 1.0)
_IDENTITY = ("", "identity")
_LOST = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
_LEAST_LOOK_SECONDS = 0.05
_MIN_SECONDS, _MAX_SECONDS = 1, 86_400


def parse_upstream(address: str, *, unsafe_remote: bool) -> tuple[str, str | None]:
    """Read the address of an upstream.

    Args:
        address: ``http://127.0.0.1:8000/v1``, or ``unix:/path/of/socket``.
        unsafe_remote: Whether another machine may be named: then nothing shows who answers.

    Returns:
        Its URL up to and without ``/v1``, and the socket's path.

    Raises:
        ConfigurationError: No such address, or one of another machine.
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path.startswith("/"):
            raise _wrong("a unix socket needs its whole path", address)
        return "http://localhost", path
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong("this is no address of an upstream", address) from None
    path = parts.path.rstrip("/")
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not host or path not in ("", _ROOT) or not bare:
        raise _wrong("this is no address of an upstream", address)
    if not _is_loopback(host) and not unsafe_remote:
        raise ConfigurationError(
            "the upstream is on another machine, of which no evidence would speak",
            id="usage.serve",
            got=host[:200],
            want="a loopback address or unix:/path",
            hint="For tests, type --unsafe-remote-upstream: clients refuse such a server.",
        )
    return f"{parts.scheme}://{parts.netloc}", None


def _wrong(message: str, address: str) -> ConfigurationError:
    want = "http://127.0.0.1:8000/v1 or unix:/path/of/socket"
    return ConfigurationError(message, id="usage.serve", got=address[:200], want=want)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Upstream:
    """A :class:`~teeverify.enclave.engines.backend.Backend` that passes everything on.

    Args:
        address: See :func:`parse_upstream`.
        unsafe_remote: Whether it may be on another machine.
        api_key: What the engine wants to be shown.
        silence: Seconds for which the engine may send nothing while it makes an answer.
        description: What is known of the engine beyond its place.

    Raises:
        ConfigurationError: No such address, or one of another machine.
    """

    routes: Mapping[str, Framing] = ANSWERS

    def __init__(
        self,
        address: str,
        *,
        unsafe_remote: bool = False,
        api_key: str | None = None,
        silence: float = 600.0,
        description: Mapping[str, object] | None = None,
    ) -> None:
        base, self._socket = parse_upstream(address, unsafe_remote=unsafe_remote)
        if not _MIN_SECONDS <= silence <= _MAX_SECONDS:
            raise _wrong("this is no number of seconds to wait for an engine", str(silence))
        self._base = URL(base)
        self._urls = {path: self._base / path[1:] for path in self.routes}
        self._silence = silence
        self._auth = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._session: aiohttp.ClientSession | None = None
        local = self._socket is not None or _is_loopback(self._base.host or "")
        self.description: Mapping[str, object] = {
            "kind": "upstream",
            "location": "loopback" if local else "remote",
            **(description or {}),
        }

    async def start(self) -> None:
        """Open the pool of connections."""
        connector: aiohttp.BaseConnector = (
            aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
            if self._socket is None
            else aiohttp.UnixConnector(self._socket, limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            headers={**self._auth, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._silence
            ),
        )

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def probe(self, wait: float) -> tuple[str, ...]:
        """Wait until the engine answers, and ask which models it has. Opens and closes the pool.

        Args:
            wait: For how many seconds.

        Raises:
            EndpointUnavailable: It does not answer.
        """
        await self.start()
        try:
            return await self._wait_for_models(wait)
        finally:
            await self.close()

    async def _wait_for_models(self, wait: float) -> tuple[str, ...]:
        ends = time.monotonic() + wait
        while True:
            try:
                listed = await self.models()
                return _names(listed)
            except HttpError as error:
                if time.monotonic() >= ends:
                    raise EndpointUnavailable(
                        f"the upstream gives no list of models: {error.message}",
                        id="endpoint.engine",
                        got=self._socket or str(self._base),
                        hint="Start it first, or let --wait give it time.",
                    ) from None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def open(self, asked: Asked) -> Answer:
        """Ask, and wait for the head of the answer; see :class:`Backend`."""
        headers = {
            "Content-Type": asked.content_type.decode("latin-1") or "application/json",
            # vLLM makes the answer's id of this; else the client could choose one in its body.
            "X-Request-Id": secrets.token_hex(16),
        }
        if asked.accept:
            headers["Accept"] = asked.accept.decode("latin-1")
        try:
            response = await self._post(self._urls[asked.path], asked.body, headers)
        except _LOST as error:
            raise _unreachable(error) from None
        except ValueError:
            raise HttpError.bad_request("a header of the request cannot be passed on") from None
        if response.headers.get("Content-Encoding", "").lower() not in _IDENTITY:
            response.close()
            raise HttpError.engine_failed("the engine compresses its answer")
        if response.content_length is None and "chunked" not in response.headers.get(
            "Transfer-Encoding", ""
        ):
            response.close()
            raise HttpError.engine_failed("nothing shows where the engine's answer ends")
        return Answer(
            status=response.status,
            content_type=response.headers.get("Content-Type", "").encode("latin-1"),
            parts=_Parts(response, self._silence),
        )

    async def _post(
        self, url: URL, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Ask; without a file descriptor nothing was sent, and soon there may be one."""
        for pause in _NO_DESCRIPTOR_SECONDS:
            try:
                return await self._live().post(
                    url, data=body, headers=headers, allow_redirects=False
                )
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
            await asyncio.sleep(pause)
        return await self._live().post(url, data=body, headers=headers, allow_redirects=False)

    async def models(self) -> bytes:
        """The engine's own list; see :class:`Backend`."""
        return await self._get("/v1/models")

    async def metrics(self) -> bytes:
        """The engine's own metrics; see :class:`Backend`."""
        return await self._get("/metrics")

    async def health(self) -> str | None:
        """What is wrong; see :class:`Backend`."""
        try:
            await self._get("/health", fine=(_OK, _NOT_FOUND))
        except HttpError as error:
            return error.message
        return None

    async def _get(self, path: str, *, fine: tuple[int, ...] = (_OK,)) -> bytes:
        try:
            async with self._live().get(
                self._base / path[1:],
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS),
            ) as response:
                body = bytearray()
                while len(body) <= _MAX_SMALL and (part := await response.content.readany()):
                    body += part
        except _LOST as error:
            raise _unreachable(error) from None
        if response.status not in fine:
            raise HttpError.engine_failed(f"the engine answered with status {response.status}")
        if len(body) > _MAX_SMALL:
            raise HttpError.engine_failed(f"the engine says more than {_MAX_SMALL} bytes of itself")
        return bytes(body)

    def _live(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise HttpError.engine_failed("the server is starting")
        return self._session


class _Parts:
    """The answer's bytes as they come; left early, the connection breaks and the engine stops.

    Silence is measured here: a chunk that is none leaves aiohttp's own reader waiting for ever.
    """

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self._response = response
        self._read = response.content.readany
        self._silence = silence
        self._since = time.monotonic()
        self._clock = asyncio.get_running_loop().call_later(silence, self._look)

    def __aiter__(self) -> _Parts:
        return self

    async def __anext__(self) -> bytes:
        self._since = time.monotonic()
        try:
            data = await self._read()
        except _LOST as error:
            raise BrokenOff(type(error).__name__) from None
        self._since = float("inf")  # from here on the client is waited for
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        self._clock.cancel()
        # At the end of an answer the connection is in the pool again, and this closes nothing.
        self._response.close()

    def _look(self) -> None:
        left = self._since + self._silence - time.monotonic()
        if left <= 0:
            self._response.close()  # which wakes the reader
            return
        wait = min(max(left, _LEAST_LOOK_SECONDS), self._silence)
        self._clock = asyncio.get_running_loop().call_later(wait, self._look)


def _names(listed: bytes) -> tuple[str, ...]:
    """The names in a list of models."""
    what = "the upstream's list of models"
    try:
        value = json_value(listed, field=what, id="endpoint.engine", max_bytes=_MAX_SMALL)
        models = JsonObject(value, path=what, id="endpoint.engine").objects("data")
        return tuple(model.text("id") for model in models)
    except MalformedEvidence:
        raise HttpError.engine_failed("its list of models is none") from None


def _unreachable(error: BaseException) -> HttpError:
    return HttpError.engine_failed(f"the engine does not answer ({type(error).__name__})")
