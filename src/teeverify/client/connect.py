"""Open a session with a live endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from teeverify.appraisal import Policy
from teeverify.appraisal.evidence import Evidence
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch_httpx import AsyncHttpxFetch, http_library
from teeverify.client.network.fetch_requests import RequestsFetch
from teeverify.client.network.steps import Blocking, Looping
from teeverify.client.session.attestation import ask
from teeverify.client.session.core import SessionCore
from teeverify.client.session.session import AsyncAttestedSession, AttestedSession
from teeverify.client.vendors.given import EndorsementSource
from teeverify.client.verifier import Verifier
from teeverify.roots import UnsafeTestRoots

__all__ = ["DEFAULT_TIMEOUT", "connect", "fetch_evidence", "open_async_session", "open_session"]

DEFAULT_TIMEOUT = 30.0
"""Seconds that one request for evidence or a signature may take, unless the caller says."""


def connect(  # noqa: PLR0913 -- the question in all its parts
    base_url: str,
    *,
    model: str | None = None,
    policy: str | Path | Policy = "genuine",
    roots: UnsafeTestRoots | None = None,
    endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
    api_key: str | None = None,
    dialect: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    encrypt: bool = False,
) -> AttestedSession:
    """Attest an endpoint now, under a new random nonce.

    Args:
        base_url: The endpoint, as the OpenAI SDK takes it: ``https://…/v1``; plain ``http`` only
            on this machine.
        model: The model that you will ask.
        policy: ``genuine``, ``strict``, a path of a TOML file, or a :class:`Policy`.
        roots: Test roots, for simulated endpoints only.
        endorsements: The vendors' collateral, where the endpoint does not send it along.
        api_key: Shown to the signature route; nothing is shown it before the policy is satisfied.
        dialect: How the endpoint shows its evidence, where its host does not tell.
        timeout: Seconds that one request for evidence or a signature may take.
        encrypt: Demand that each request is encrypted to the attested key: see
            :meth:`AttestedSession.seal`.

    Returns:
        The session; its answers are verified with :meth:`AttestedSession.verify_response`.

    Raises:
        TeeVerifyError: The class that belongs to the worst finding, with ``result`` set, unless
            the policy is satisfied.
    """
    verifier = Verifier(policy=policy, roots=roots, endorsements=endorsements)
    return open_session(
        verifier,
        base_url,
        model=model,
        api_key=api_key,
        dialect=dialect,
        timeout=timeout,
        encrypt=encrypt,
    )


def open_session(  # noqa: PLR0913 -- as connect
    verifier: Verifier,
    base_url: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    dialect: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    encrypt: bool = False,
) -> AttestedSession:
    """As :func:`connect`, with a verifier that there is already.

    Raises:
        TeeVerifyError: As :func:`connect`.
    """
    endpoint = Endpoint.parse(base_url, dialect=dialect)
    runner = Blocking(RequestsFetch(trust_env=endpoint.trust_env))
    core = SessionCore(
        verifier,
        endpoint,
        model=model,
        timeout=timeout,
        lock=runner.new_lock(),
        encrypt=encrypt,
    )
    session = AttestedSession(core, runner, api_key=api_key)
    session.attest()
    return session


async def open_async_session(  # noqa: PLR0913 -- as connect
    verifier: Verifier,
    base_url: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    dialect: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    encrypt: bool = False,
) -> AsyncAttestedSession:
    """As :func:`open_session`, in an event loop; close the session when it is not needed any more.

    Raises:
        TeeVerifyError: As :func:`connect`.
    """
    endpoint = Endpoint.parse(base_url, dialect=dialect)
    client = http_library().AsyncClient(trust_env=endpoint.trust_env)
    runner = Looping(AsyncHttpxFetch(client))
    try:
        lock = runner.new_lock()
        core = SessionCore(
            verifier, endpoint, model=model, timeout=timeout, lock=lock, encrypt=encrypt
        )
        session = AsyncAttestedSession(core, runner, api_key=api_key, close=client.aclose)
        await session.attest()
    except BaseException:
        await client.aclose()
        raise
    return session


def fetch_evidence(
    base_url: str,
    *,
    model: str | None = None,
    dialect: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Evidence:
    """Ask an endpoint for its evidence now, under a new random nonce, and verify nothing.

    Raises:
        ConfigurationError: No such address or dialect.
        EndpointUnavailable: It gives no report.
        MalformedEvidence: The report has another form.
    """
    endpoint = Endpoint.parse(base_url, dialect=dialect)
    runner = Blocking(RequestsFetch(trust_env=endpoint.trust_env))
    return runner.run(ask(endpoint, model=model, timeout=timeout)).evidence
