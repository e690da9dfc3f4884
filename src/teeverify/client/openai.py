"""The OpenAI SDK's clients, whose answers are verified.

Import them from ``teeverify``: the SDK is loaded on first use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teeverify.appraisal import Policy
from teeverify.client.connect import DEFAULT_TIMEOUT
from teeverify.client.core import SessionCore
from teeverify.client.endorsements import EndorsementSource
from teeverify.client.endpoint import Endpoint
from teeverify.client.fetch_httpx import AsyncHttpxFetch, HttpxFetch
from teeverify.client.receipts import Receipts
from teeverify.client.session import AsyncAttestedSession, AttestedSession
from teeverify.client.transport import Gate, S, VerifyingTransport
from teeverify.client.verifier import Verifier
from teeverify.errors import ConfigurationError
from teeverify.roots import UnsafeTestRoots

try:
    import httpx2
    import openai
except ImportError as error:
    raise ConfigurationError(
        "the OpenAI SDK is not installed",
        id="usage.openai",
        got=error.name,
        hint="Run: pip install 'teeverify[openai]'",
    ) from None

__all__ = ["AsyncOpenAI", "OpenAI"]

# Before it the SDK takes every exception of a transport for a broken connection, and asks again.
_LEAST_VERSION = (3, 15)
_OTHER_WAYS = ("data_residency", "provider", "websocket_base_url", "workload_identity")


class _NoWebSockets(httpx2.URL):
    """What the SDK takes for the address of its WebSockets, which nothing here could verify."""

    @property
    def raw_path(self) -> bytes:
        """Read where a WebSocket's address is put together.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "WebSockets carry no signatures, so none is opened",
            id="usage.route",
            want="chat.completions.create",
        )


# Where a version of the SDK does not ask for the path, there is still no such host (RFC 2606).
_NO_WEBSOCKETS = _NoWebSockets("wss://no-websockets.invalid")


class _Client(httpx2.Client):
    """The client that the SDK sends with; copies of the SDK's client share it."""

    def __init__(
        self, gate: Gate[AttestedSession], fetch: HttpxFetch, inner: httpx2.Client
    ) -> None:
        transport: Any = VerifyingTransport(inner, gate)
        super().__init__(transport=transport, trust_env=False)
        self.gate = gate
        self._fetch = fetch

    def close(self) -> None:
        """Close every connection."""
        super().close()
        self._fetch.close()

    def __del__(self) -> None:
        """Close what was left open, as the SDK's own client does."""
        if getattr(self, "_fetch", None) is not None and not self.is_closed:
            self.close()


class _AsyncClient(httpx2.AsyncClient):
    """As :class:`_Client`, for an event loop."""

    def __init__(self, gate: Gate[AsyncAttestedSession], inner: httpx2.AsyncClient) -> None:
        transport: Any = VerifyingTransport(inner, gate)
        super().__init__(transport=transport, trust_env=False)
        self.gate = gate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    """The arguments that the SDK's own client does not have."""

    policy: str | Path | Policy | None
    roots: UnsafeTestRoots | None
    endorsements: EndorsementSource | Sequence[EndorsementSource]
    dialect: str | None
    hold_until_verified: bool
    attestation_timeout: float | None

    def gate(self, endpoint: Endpoint, open_session: Callable[[SessionCore], S]) -> Gate[S]:
        return Gate(
            Verifier(
                policy="genuine" if self.policy is None else self.policy,
                roots=self.roots,
                endorsements=self.endorsements,
            ),
            endpoint,
            open_session,
            hold=self.hold_until_verified,
            timeout=DEFAULT_TIMEOUT
            if self.attestation_timeout is None
            else self.attestation_timeout,
        )

    def require_none(self) -> None:
        """Refuse wishes for a client that shares another one's sessions."""
        if self != _NO_WISHES:
            raise ConfigurationError(
                "a copy keeps the policy and the sessions of its original",
                id="usage.openai",
                want="a client of its own for another policy",
            )


_NO_WISHES = _Wishes(
    policy=None,
    roots=None,
    endorsements=(),
    dialect=None,
    hold_until_verified=False,
    attestation_timeout=None,
)


def _endpoint(base_url: str | httpx2.URL | None, dialect: str | None) -> Endpoint:
    """The endpoint, where the SDK itself would look for it."""
    given = base_url if base_url is not None else os.environ.get("OPENAI_BASE_URL")
    if not isinstance(given, (str, httpx2.URL)):
        raise ConfigurationError(
            "base_url is missing: which endpoint is to be attested?",
            id="usage.endpoint",
            want="https://host/v1",
        )
    return Endpoint.parse(str(given), dialect=dialect)


def _require_no_side_door(http_client: object, options: dict[str, Any]) -> None:
    """Refuse every way past the verifying transport."""
    version = tuple(int(part) for part in re.findall(r"\d+", openai.__version__)[:2])
    if version < _LEAST_VERSION:
        raise ConfigurationError(
            "this version of the OpenAI SDK asks again when an answer is refused",
            id="usage.openai",
            got=openai.__version__,
            want=f"openai>={'.'.join(map(str, _LEAST_VERSION))}",
        )
    if http_client is not None:
        raise ConfigurationError(
            "an HTTP client of your own would send and receive past the verification",
            id="usage.openai",
            got=type(http_client).__name__,
            want="no http_client=; proxies and certificates come from the environment",
        )
    for name in _OTHER_WAYS:
        if options.get(name) is not None and options[name] is not _NO_WEBSOCKETS:
            raise ConfigurationError(
                f"{name} leads to other places than the endpoint that is attested",
                id="usage.openai",
                want="base_url= and api_key=",
            )


def _same_endpoint(gate: Gate[Any], base_url: str | httpx2.URL | None) -> None:
    if base_url is None or str(base_url).rstrip("/") != gate.endpoint.base_url:
        raise ConfigurationError(
            "a copy keeps the endpoint of its original, which is the one that is attested",
            id="usage.openai",
            want=gate.endpoint.base_url,
        )


class OpenAI(openai.OpenAI):
    """The SDK's client; what it returns was verified, and what is not raises.

    Nothing is sent, not even the key, before the endpoint satisfies the policy. A plain answer is
    verified before it is parsed. The text of a streamed one flows at once, and the loop over it
    ends with an exception instead of ending if it was not good; a loop that is left early gives no
    verdict and no receipt.

    Args:
        base_url: The endpoint; ``OPENAI_BASE_URL`` if not given.
        policy: ``genuine`` (the default), ``strict``, a path of a TOML file, or a policy.
        roots: Test roots, for simulated endpoints only.
        endorsements: The vendors' collateral, where the endpoint does not send it along.
        dialect: How the endpoint shows its evidence, where its host does not tell.
        hold_until_verified: Hold streamed answers back until they are verified.
        attestation_timeout: Seconds that one request for evidence or a signature may take.
        http_client: Not for callers.
        **options: The SDK's other arguments, ``api_key`` among them.

    Raises:
        ConfigurationError: A wrong argument, or one that would lead past the verification.
    """

    def __init__(  # noqa: PLR0913 -- the SDK's arguments, and ours
        self,
        *,
        base_url: str | httpx2.URL | None = None,
        policy: str | Path | Policy | None = None,
        roots: UnsafeTestRoots | None = None,
        endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
        dialect: str | None = None,
        hold_until_verified: bool = False,
        attestation_timeout: float | None = None,
        http_client: httpx2.Client | None = None,
        **options: Any,  # noqa: ANN401 -- the SDK knows their types
    ) -> None:
        wishes = _Wishes(
            policy=policy,
            roots=roots,
            endorsements=endorsements,
            dialect=dialect,
            hold_until_verified=hold_until_verified,
            attestation_timeout=attestation_timeout,
        )
        if isinstance(http_client, _Client):  # a copy of this client
            wishes.require_none()
            _require_no_side_door(None, options)
            _same_endpoint(http_client.gate, base_url)
            client = http_client
        else:
            _require_no_side_door(http_client, options)
            client = _open(_endpoint(base_url, dialect), wishes)
        self._gate = client.gate
        super().__init__(
            base_url=client.gate.endpoint.base_url,
            http_client=client,
            **{**options, "websocket_base_url": _NO_WEBSOCKETS},
        )

    @property
    def receipts(self) -> Receipts:
        """The receipts of the answers that were verified, by the id of the answer."""
        return self._gate.receipts


def _open(endpoint: Endpoint, wishes: _Wishes) -> _Client:
    env = endpoint.trust_env
    context = httpx2.create_ssl_context(trust_env=env)

    def line() -> httpx2.Client:
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
        return httpx2.Client(verify=context, trust_env=env, limits=limits)

    fetch = HttpxFetch(line)
    gate = wishes.gate(endpoint, lambda core: AttestedSession(core, fetch))
    inner = httpx2.Client(verify=context, trust_env=env, limits=openai.DEFAULT_CONNECTION_LIMITS)
    return _Client(gate, fetch, inner)


class AsyncOpenAI(openai.AsyncOpenAI):
    """As :class:`OpenAI`, for an event loop.

    Args:
        base_url: See :class:`OpenAI`, as for all others.
        policy: The policy.
        roots: Test roots.
        endorsements: The vendors' collateral.
        dialect: The dialect.
        hold_until_verified: Hold streamed answers back until they are verified.
        attestation_timeout: Seconds that one request for evidence or a signature may take.
        http_client: Not for callers.
        **options: The SDK's other arguments.

    Raises:
        ConfigurationError: A wrong argument, or one that would lead past the verification.
    """

    def __init__(  # noqa: PLR0913 -- the SDK's arguments, and ours
        self,
        *,
        base_url: str | httpx2.URL | None = None,
        policy: str | Path | Policy | None = None,
        roots: UnsafeTestRoots | None = None,
        endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
        dialect: str | None = None,
        hold_until_verified: bool = False,
        attestation_timeout: float | None = None,
        http_client: httpx2.AsyncClient | None = None,
        **options: Any,  # noqa: ANN401 -- the SDK knows their types
    ) -> None:
        wishes = _Wishes(
            policy=policy,
            roots=roots,
            endorsements=endorsements,
            dialect=dialect,
            hold_until_verified=hold_until_verified,
            attestation_timeout=attestation_timeout,
        )
        if isinstance(http_client, _AsyncClient):  # a copy of this client
            wishes.require_none()
            _require_no_side_door(None, options)
            _same_endpoint(http_client.gate, base_url)
            client = http_client
        else:
            _require_no_side_door(http_client, options)
            client = _open_async(_endpoint(base_url, dialect), wishes)
        self._gate = client.gate
        super().__init__(
            base_url=client.gate.endpoint.base_url,
            http_client=client,
            **{**options, "websocket_base_url": _NO_WEBSOCKETS},
        )

    @property
    def receipts(self) -> Receipts:
        """The receipts of the answers that were verified, by the id of the answer."""
        return self._gate.receipts


def _open_async(endpoint: Endpoint, wishes: _Wishes) -> _AsyncClient:
    env = endpoint.trust_env
    inner = httpx2.AsyncClient(trust_env=env, limits=openai.DEFAULT_CONNECTION_LIMITS)
    fetch = AsyncHttpxFetch(inner)
    gate = wishes.gate(endpoint, lambda core: AsyncAttestedSession(core, fetch))
    return _AsyncClient(gate, inner)
