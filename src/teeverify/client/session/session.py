"""A session with an attested endpoint, as its users meet it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teeverify.appraisal import AttestationResult
from teeverify.appraisal.encryption import Encryption
from teeverify.binding import SigningKey
from teeverify.client.network.steps import Blocking, Looping, Steps
from teeverify.client.receipts.receipt import Receipt
from teeverify.client.session.attestation import Attestation
from teeverify.client.session.challenge import new_challenge
from teeverify.client.session.core import SessionCore
from teeverify.client.session.encryption import encryption_of, seal
from teeverify.client.session.exchange import (
    Exchange,
    Response,
    answer_bytes,
    http_of,
    lower,
    request_bytes,
)
from teeverify.client.sources.files import given_bytes
from teeverify.clock import now
from teeverify.e2ee import Sealed
from teeverify.errors import ConfigurationError
from teeverify.responses.body import requested_model
from teeverify.responses.receipt import Challenge, Http

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncAttestedSession", "AttestedSession", "BaseSession"]


class BaseSession:
    """What both sessions show.

    Args:
        core: What the session does.
        api_key: Shown to the signature route once the endpoint is attested; never before.
    """

    def __init__(self, core: SessionCore, api_key: str | None) -> None:
        self._core = core
        self._authorization = None if api_key is None else f"Bearer {api_key}"

    @property
    def _known(self) -> Attestation:
        known = self._core.attestation
        if known is None:
            raise ConfigurationError("the endpoint was not attested yet", id="usage.session")
        return known

    @property
    def result(self) -> AttestationResult:
        """The result of the attestation in force."""
        return self._known.result

    @property
    def signer(self) -> SigningKey | None:
        """The attested key."""
        return self._known.result.signer

    @property
    def expires_at(self) -> datetime:
        """When the endpoint is attested anew, before anything more is sent."""
        return self._known.expires_at

    @property
    def holds(self) -> bool:
        """Whether the attestation in force has not run out."""
        known = self._core.attestation
        return known is not None and known.holds

    def __repr__(self) -> str:
        """Where to, and the first sentence."""
        known = self._core.attestation
        shown = "not attested yet" if known is None else known.result.summary
        return f"<{type(self).__name__} {self._core.endpoint.base_url}: {shown}>"

    def seal(self, request: bytes) -> Sealed:
        """Seal a request to the attested key: send its ``body`` with its ``headers``.

        Then pass it to ``verify_response`` with the answer, and after that ``open()`` the answer.
        Each is for one request.

        Args:
            request: The request's JSON.

        Raises:
            ConfigurationError: The session was opened without ``encrypt=True``, its attestation
                has run out, or the scheme would leave a part of the request readable.
        """
        sealed = seal(self._known, request) if self.holds else None
        if sealed is None:
            raise ConfigurationError(
                "there is no attestation in force to whose key requests are encrypted",
                id="usage.e2ee",
                want="connect(…, encrypt=True), and attest() again where it has run out",
            )
        return sealed

    def challenge(self, beacon: bytes | None = None) -> Challenge:
        """A challenge for one request: send its ``headers``, and pass it to ``verify_response``.

        Args:
            beacon: 32 bytes that nobody knew before a certain time.

        Raises:
            ConfigurationError: Answers of this dialect name none, or the endpoint was not attested.
        """
        made = new_challenge(self._known, beacon)
        if made is None:
            raise ConfigurationError(
                "answers of this dialect name no challenge", id="usage.beacon", want="teeverify/1"
            )
        return made

    def _verify(
        self, exchange: Exchange, response: Response, sealed: Sealed | None
    ) -> Steps[Receipt]:
        under = yield from self._core.ensure()
        if sealed is None:
            return (yield from self._core.verify(exchange, under))
        if isinstance(response, bytes):
            raise ConfigurationError(
                "of an encrypted exchange the answer's headers are needed too",
                id="usage.e2ee",
                want="response=, an answer of httpx2, httpx or requests",
            )
        if self._core.unsigned:
            # What nobody signed is kept as its asker reads it.
            text = sealed.open(response.headers, exchange.response)
            return self._core.note(replace(exchange, request=sealed.text, response=text), under)
        receipt = yield from self._core.verify(exchange, under)
        # A plain answer is refused, also where it is signed.
        sealed.open(response.headers, receipt.parts.response.raw or exchange.response)
        return receipt

    def _exchange(
        self,
        request: bytes | None,
        response: Response,
        signature: bytes | str | Path | None,
        answer_id: str | None,
        sealed: Sealed | None,
        challenge: Challenge | None,
    ) -> Exchange:
        sent = request_bytes(sealed.body if request is None and sealed else request, response)
        _require_sealed(self._known.encryption, sealed, sent)
        return Exchange(
            request=sent,
            model=requested_model(sent),
            response=answer_bytes(response),
            salted=sealed is not None,
            encryption=encryption_of(self._known, sealed),
            received_at=now(),
            signature=given_bytes(signature, "signature"),
            id=answer_id,
            authorization=self._authorization,
            http=_seen(response),
            headers={} if isinstance(response, bytes) else lower(response.headers),
            challenge=challenge,
        )


def _seen(response: Response) -> Http:
    """What the answer's library keeps of the HTTP exchange around it."""
    if isinstance(response, bytes):
        return Http()
    request: Any = response.request
    return http_of(str(request.method), str(request.url), request, response)


def _require_sealed(intended: Encryption | None, sealed: Sealed | None, sent: bytes) -> None:
    """Refuse an exchange that was not encrypted, in a session of which that was demanded."""
    if (intended is None) != (sealed is None) or (sealed is not None and sealed.body != sent):
        raise ConfigurationError(
            "the request was not encrypted as this session demands",
            id="usage.e2ee",
            want="no encryption" if intended is None else "sealed=, as seal() gave it and was sent",
        )


class AttestedSession(BaseSession):
    """A session with one endpoint: :func:`teeverify.connect` opens it.

    Several threads may use it.

    Args:
        core: What the session does.
        runner: How the endpoint is reached.
        api_key: Shown to the signature route once the endpoint is attested; never before.
    """

    def __init__(self, core: SessionCore, runner: Blocking, *, api_key: str | None = None) -> None:
        super().__init__(core, api_key)
        self._runner = runner

    def attest(self) -> Attestation:
        """The attestation in force; a new one where the last has run out.

        Raises:
            TeeVerifyError: The endpoint does not satisfy the policy.
        """
        return self._runner.run(self._core.ensure())

    def verify_response(
        self,
        *,
        response: Response,
        request: bytes | None = None,
        signature: bytes | str | Path | None = None,
        id: str | None = None,
        sealed: Sealed | None = None,
        challenge: Challenge | None = None,
    ) -> Receipt:
        """Verify one answer, once: a second time it would be a repeat.

        Args:
            response: The answer's exact bytes, or the answer of httpx2, httpx or requests.
            request: The request's exact bytes; not needed where the response keeps them.
            signature: What the signature route returned, or a path of it; fetched if not given.
            id: The answer's id, where the answer does not name it itself.
            sealed: What :meth:`seal` gave, where the request was encrypted.
            challenge: What :meth:`challenge` gave, where it was sent with the request.

        Returns:
            The receipt of a verified answer.

        Raises:
            TeeVerifyError: It is not verified; ``ResponseNotVerified`` where it is wrong,
                ``Unavailable`` where something needed could not be had.
        """
        exchange = self._exchange(request, response, signature, id, sealed, challenge)
        return self._runner.run(self._verify(exchange, response, sealed))


class AsyncAttestedSession(BaseSession):
    """As :class:`AttestedSession`, without blocking.

    Args:
        core: What the session does.
        runner: How the endpoint is reached.
        api_key: Shown to the signature route once the endpoint is attested; never before.
        close: Closes its connections.
    """

    def __init__(
        self,
        core: SessionCore,
        runner: Looping,
        *,
        api_key: str | None = None,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(core, api_key)
        self._runner = runner
        self._close = close

    async def aclose(self) -> None:
        """Close its connections."""
        await self._close()

    async def __aenter__(self) -> Self:
        """For ``async with``."""
        return self

    async def __aexit__(self, *details: object) -> None:
        """Close its connections."""
        await self.aclose()

    async def attest(self) -> Attestation:
        """As :meth:`AttestedSession.attest`.

        Raises:
            TeeVerifyError: The endpoint does not satisfy the policy.
        """
        return await self._runner.run(self._core.ensure())

    async def verify_response(
        self,
        *,
        response: Response,
        request: bytes | None = None,
        signature: bytes | str | Path | None = None,
        id: str | None = None,
        sealed: Sealed | None = None,
        challenge: Challenge | None = None,
    ) -> Receipt:
        """As :meth:`AttestedSession.verify_response`.

        Raises:
            TeeVerifyError: It is not verified.
        """
        exchange = self._exchange(request, response, signature, id, sealed, challenge)
        return await self._runner.run(self._verify(exchange, response, sealed))
