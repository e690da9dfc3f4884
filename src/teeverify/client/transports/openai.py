"""The OpenAI SDK's clients, whose answers are verified.

Import them from ``teeverify``: the SDK is loaded on first use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from teeverify.appraisal import Policy
from teeverify.client.receipts.kept import Receipts
from teeverify.client.transports.clients import open_async_client, open_client
from teeverify.client.transports.gate import Gate
from teeverify.client.transports.wishes import Wishes
from teeverify.client.vendors.given import EndorsementSource
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
    """What the SDK takes for the address of its WebSockets, which nothing here could verify.

    It is no address: whatever wants to know a part of it raises, so no name is even looked up.
    """

    def __init__(self) -> None:
        """Hold nothing."""

    def __repr__(self) -> str:
        """Say what it is."""
        return "<no WebSockets>"

    @property
    def _uri_reference(self) -> NoReturn:  # type: ignore[override] # httpx2 reads all parts from it
        raise ConfigurationError(
            "WebSockets carry no signatures, so none is opened",
            id="usage.route",
            want="chat.completions.create",
        )

    raw_path = _uri_reference


_NO_WEBSOCKETS = _NoWebSockets()


def _address(base_url: str | httpx2.URL | None) -> str:
    """The endpoint's address, where the SDK itself would look for it."""
    given = base_url if base_url is not None else os.environ.get("OPENAI_BASE_URL")
    if not isinstance(given, (str, httpx2.URL)):
        raise ConfigurationError(
            "base_url is missing: which endpoint is to be attested?",
            id="usage.endpoint",
            want="https://host/v1",
        )
    return str(given)


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


def _same_endpoint(gate: Gate, base_url: str | httpx2.URL | None) -> None:
    if base_url is None or str(base_url).rstrip("/") != gate.endpoint.base_url:
        raise ConfigurationError(
            "a copy keeps the endpoint of its original, which is the one that is attested",
            id="usage.openai",
            want=gate.endpoint.base_url,
        )


class _Verifying:
    """What both clients have in common: it makes the HTTP client that the SDK sends with.

    Copies that the SDK makes of its client share it, and with it sessions and receipts.

    The arguments are described at :class:`OpenAI`.
    """

    _open: Any

    def __init__(  # noqa: PLR0913 -- the SDK's arguments, and ours
        self,
        *,
        base_url: str | httpx2.URL | None = None,
        policy: str | Path | Policy | None = None,
        roots: UnsafeTestRoots | None = None,
        endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
        dialect: str | None = None,
        hold_until_verified: bool = False,
        salt_requests: bool = False,
        encrypt: bool = False,
        attestation_timeout: float | None = None,
        http_client: Any = None,  # noqa: ANN401 -- of either kind
        **options: Any,  # noqa: ANN401 -- the SDK knows their types
    ) -> None:
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
        gate = getattr(http_client, "gate", None)
        if isinstance(gate, Gate):  # a copy of this client
            wishes.require_none()
            _require_no_side_door(None, options)
            _same_endpoint(gate, base_url)
            client = http_client
        else:
            _require_no_side_door(http_client, options)
            client = self._open(httpx2, _address(base_url), wishes)
        self._gate: Gate = client.gate
        super().__init__(
            base_url=self._gate.endpoint.base_url,  # type: ignore[call-arg] # the SDK's own
            http_client=client,
            **{**options, "websocket_base_url": _NO_WEBSOCKETS},
        )

    @property
    def receipts(self) -> Receipts:
        """The receipts of the answers that were verified, by the id of the answer."""
        return self._gate.receipts


class OpenAI(_Verifying, openai.OpenAI):
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
        hold_until_verified: Hold streamed answers back until they are verified. They are in any
            case under a policy that starts from ``strict``, and where the request carries tools.
        salt_requests: Put a random value into each request, so that no answer can be an older
            one. It is in any case under a policy that starts from ``strict``.
        encrypt: Encrypt each request to the attested key, and refuse an answer that is not
            encrypted. They are in any case under a policy that starts from ``strict``, where the
            dialect has a scheme and TLS does not end in the attested machine.
        attestation_timeout: Seconds that one request for evidence or a signature may take.
        http_client: Not for callers.
        **options: The SDK's other arguments, ``api_key`` among them.

    Raises:
        ConfigurationError: A wrong argument, or one that would lead past the verification.
    """

    _open = staticmethod(open_client)


class AsyncOpenAI(_Verifying, openai.AsyncOpenAI):
    """As :class:`OpenAI`, with the same arguments, for an event loop."""

    _open = staticmethod(open_async_client)
