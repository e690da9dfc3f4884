"""A session with an attested endpoint, as its users meet it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.appraisal import AttestationResult
from teeverify.binding import SigningKey
from teeverify.client.attestation import Attestation
from teeverify.client.core import SessionCore
from teeverify.client.exchange import Exchange, Response, answer_bytes, request_bytes
from teeverify.client.receipts import Receipt
from teeverify.client.sources import read_bytes
from teeverify.client.steps import Blocking, Looping, Steps
from teeverify.clock import now
from teeverify.errors import ConfigurationError
from teeverify.responses.body import requested_model

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

    def _verify(self, exchange: Exchange) -> Steps[Receipt]:
        return (yield from self._core.verify(exchange, (yield from self._core.ensure())))

    def _exchange(
        self,
        request: bytes | None,
        response: Response,
        signature: bytes | str | Path | None,
        answer_id: str | None,
    ) -> Exchange:
        given = signature
        if signature is not None and not isinstance(signature, bytes):
            given = read_bytes(signature, what="signature")
        sent = request_bytes(request, response)
        return Exchange(
            request=sent,
            model=requested_model(sent),
            response=answer_bytes(response),
            received_at=now(),
            signature=given if isinstance(given, bytes) else None,
            id=answer_id,
            authorization=self._authorization,
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
    ) -> Receipt:
        """Verify one answer, once: a second time it would be a repeat.

        Args:
            response: The answer's exact bytes, or the answer of httpx2, httpx or requests.
            request: The request's exact bytes; not needed where the response keeps them.
            signature: What the signature route returned, or a path of it; fetched if not given.
            id: The answer's id, where the answer does not name it itself.

        Returns:
            The receipt of a verified answer.

        Raises:
            TeeVerifyError: It is not verified; ``ResponseNotVerified`` where it is wrong,
                ``Unavailable`` where something needed could not be had.
        """
        exchange = self._exchange(request, response, signature, id)
        return self._runner.run(self._verify(exchange))


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
    ) -> Receipt:
        """As :meth:`AttestedSession.verify_response`.

        Raises:
            TeeVerifyError: It is not verified.
        """
        exchange = self._exchange(request, response, signature, id)
        return await self._runner.run(self._verify(exchange))
