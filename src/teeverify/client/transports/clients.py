"""Clients of httpx2 or httpx whose answers are verified, for whatever is built on them.

LangChain, the SDKs of OpenAI and Anthropic, and plain programs take such clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from teeverify.appraisal import Policy
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch_httpx import AsyncHttpxFetch, HttpxFetch, http_library
from teeverify.client.network.steps import Blocking, Looping
from teeverify.client.receipts.kept import Receipts
from teeverify.client.transports.httpx import HttpxLine, VerifyingTransport
from teeverify.client.transports.wishes import Wishes
from teeverify.client.vendors.given import EndorsementSource
from teeverify.roots import UnsafeTestRoots

__all__ = ["HttpClients", "http_clients", "open_async_client", "open_client"]

_MAX_CONNECTIONS = 1000
_MAX_IDLE = 100


class HttpClients(TypedDict):
    """A pair of clients, by the names of the arguments that LangChain gives them to."""

    http_client: Any
    http_async_client: Any


def http_clients(  # noqa: PLR0913 -- the wishes in all their parts
    base_url: str,
    *,
    policy: str | Path | Policy = "genuine",
    roots: UnsafeTestRoots | None = None,
    endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
    dialect: str | None = None,
    hold_until_verified: bool = False,
    salt_requests: bool = False,
    encrypt: bool = False,
    attestation_timeout: float | None = None,
) -> HttpClients:
    """Make clients of httpx2 (or httpx, where only that is installed) for one endpoint.

    They refuse any other host, and whatever nobody signs. ``.receipts`` of each holds the receipts
    of its answers. ``ChatOpenAI(base_url=url, **http_clients(url, policy="strict"))``.

    Args:
        base_url: The endpoint, as the OpenAI SDK takes it.
        policy: ``genuine``, ``strict``, a path of a TOML file, or a policy.
        roots: Test roots, for simulated endpoints only.
        endorsements: The vendors' collateral, where the endpoint does not send it along.
        dialect: How the endpoint shows its evidence, where its host does not tell.
        hold_until_verified: Hold streamed answers back until they are verified.
        salt_requests: Put a random value into each request, so that no answer can be an older one.
        encrypt: Encrypt each request to the attested key, and refuse an answer that is not
            encrypted. They are in any case under a policy that starts from ``strict``, where the
            dialect has a scheme and TLS does not end in the attested machine.
        attestation_timeout: Seconds that one request for evidence or a signature may take.

    Raises:
        ConfigurationError: A wrong argument, or neither library is installed.
    """
    wishes = Wishes(
        policy=policy,
        roots=roots,
        endorsements=endorsements,
        dialect=dialect,
        hold_until_verified=hold_until_verified,
        salt_requests=salt_requests,
        encrypt=encrypt,
        attestation_timeout=attestation_timeout,
    )
    family = http_library()
    return HttpClients(
        http_client=open_client(family, base_url, wishes),
        http_async_client=open_async_client(family, base_url, wishes),
    )


def open_client(family: Any, base_url: str, wishes: Wishes) -> Any:  # noqa: ANN401
    """A blocking client of a family, with ``.gate`` and ``.receipts``.

    Raises:
        ConfigurationError: A wrong address or wish.
    """
    endpoint = Endpoint.parse(base_url, dialect=wishes.dialect)
    env = endpoint.trust_env
    context = family.create_ssl_context(trust_env=env)

    def client(connections: int, idle: int) -> Any:  # noqa: ANN401
        limits = family.Limits(max_connections=connections, max_keepalive_connections=idle)
        return family.Client(verify=context, trust_env=env, limits=limits)

    fetch = HttpxFetch(lambda: client(1, 1))
    gate = wishes.gate(base_url, Blocking(fetch))
    line = HttpxLine(lambda: client(_MAX_CONNECTIONS, _MAX_IDLE), endpoint.host)

    class Verifying(family.Client):  # type: ignore[misc] # a class of either family
        """A client whose answers are verified."""

        def __init__(self) -> None:
            transport = VerifyingTransport(line, gate, close=fetch.close)
            super().__init__(transport=transport, trust_env=False)
            self.gate = gate

        @property
        def receipts(self) -> Receipts:
            """The receipts of the answers that were verified, by the id of the answer."""
            return gate.receipts

        def close(self) -> None:
            """Close every connection."""
            super().close()
            fetch.close()

        def __del__(self) -> None:
            """Close what was left open, as the SDK's own client does."""
            if getattr(self, "gate", None) is not None and not self.is_closed:
                self.close()

    return Verifying()


def open_async_client(family: Any, base_url: str, wishes: Wishes) -> Any:  # noqa: ANN401
    """As :func:`open_client`, for an event loop.

    Raises:
        ConfigurationError: A wrong address or wish.
    """
    endpoint = Endpoint.parse(base_url, dialect=wishes.dialect)
    env = endpoint.trust_env
    limits = family.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_IDLE)

    def client() -> Any:  # noqa: ANN401
        return family.AsyncClient(trust_env=env, limits=limits)

    line = HttpxLine(client, endpoint.host)
    # Evidence is asked for over connections of its own kind, which any key may be behind.
    gate = wishes.gate(base_url, Looping(AsyncHttpxFetch(line.clients[0])))

    class Verifying(family.AsyncClient):  # type: ignore[misc] # of either family
        """A client whose answers are verified."""

        def __init__(self) -> None:
            super().__init__(transport=VerifyingTransport(line, gate), trust_env=False)
            self.gate = gate

        @property
        def receipts(self) -> Receipts:
            """The receipts of the answers that were verified, by the id of the answer."""
            return gate.receipts

    return Verifying()
