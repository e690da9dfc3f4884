"""The verifier for programs that run in an event loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from teeverify.appraisal import AttestationResult, Policy
from teeverify.client.connect import DEFAULT_TIMEOUT, open_async_session
from teeverify.client.session.session import AsyncAttestedSession
from teeverify.client.sources.load import Source
from teeverify.client.verifier import Arguments, Verifier

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncVerifier"]


class AsyncVerifier:
    """As :class:`~teeverify.Verifier`, without blocking: the same arguments, the same verbs.

    Evidence is appraised in a worker thread, of which there are only so many however many wait;
    answers of a session are verified where they are.

    Args:
        **options: See :class:`~teeverify.Verifier`.

    Raises:
        ConfigurationError: A policy or endorsement that cannot be read.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- the verifier knows their types
        self._verifier = Verifier(**options)

    @property
    def policy(self) -> Policy:
        """The policy."""
        return self._verifier.policy

    async def appraise(
        self, source: Source = None, **arguments: Unpack[Arguments]
    ) -> AttestationResult:
        """As :meth:`teeverify.Verifier.appraise`.

        Raises:
            ConfigurationError: A wrong argument.
            MalformedEvidence: The source has no known form.
        """
        from anyio import to_thread  # noqa: PLC0415 -- of the extra 'openai'

        work = partial(self._verifier.appraise, source, **arguments)
        return await to_thread.run_sync(work, abandon_on_cancel=True)

    async def verify(
        self, source: Source = None, **arguments: Unpack[Arguments]
    ) -> AttestationResult:
        """As :meth:`appraise`, but raise unless the policy is satisfied.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, with ``result`` set.
        """
        return (await self.appraise(source, **arguments)).require()

    async def connect(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        dialect: str | None = None,
        timeout: float | None = None,
        encrypt: bool = False,
    ) -> AsyncAttestedSession:
        """Attest an endpoint now; see :func:`teeverify.connect` for the arguments.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, unless the policy is
                satisfied.
        """
        return await open_async_session(
            self._verifier,
            base_url,
            model=model,
            api_key=api_key,
            dialect=dialect,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            encrypt=encrypt,
        )
