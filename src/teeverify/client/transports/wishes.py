"""What the caller of a verifying client wants of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from teeverify.appraisal import Policy
from teeverify.client.connect import DEFAULT_TIMEOUT
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.steps import Runner
from teeverify.client.transports.gate import Gate
from teeverify.client.vendors.given import EndorsementSource
from teeverify.client.verifier import Verifier
from teeverify.errors import ConfigurationError
from teeverify.roots import UnsafeTestRoots

__all__ = ["Wishes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a caller wants of a verifying client: the arguments that all of them take.

    Attributes:
        policy: ``genuine`` (the default), ``strict``, a path of a TOML file, or a policy.
        roots: Test roots, for simulated endpoints only.
        endorsements: The vendors' collateral, where the endpoint does not send it along.
        dialect: How the endpoint shows its evidence, where its host does not tell.
        hold_until_verified: Hold streamed answers back until they are verified.
        salt_requests: Put a random value into each request, so that no answer can be an older one.
        encrypt: Encrypt each request to the attested key, and refuse an answer that is not
            encrypted. They are in any case under a policy that starts from ``strict``, where the
            dialect has a scheme and TLS does not end in the attested machine.
        attestation_timeout: Seconds that one request for evidence or a signature may take.
        verifier: One that there is already, in place of policy, roots and endorsements.
    """

    policy: str | Path | Policy | None = None
    roots: UnsafeTestRoots | None = None
    endorsements: EndorsementSource | Sequence[EndorsementSource] = ()
    dialect: str | None = None
    hold_until_verified: bool = False
    salt_requests: bool = False
    encrypt: bool = False
    attestation_timeout: float | None = None
    verifier: Verifier | None = None

    def gate(self, base_url: str, runner: Runner) -> Gate:
        """What all requests of such a client have in common.

        Raises:
            ConfigurationError: A wrong wish.
        """
        return Gate(
            self.verifier
            or Verifier(
                policy="genuine" if self.policy is None else self.policy,
                roots=self.roots,
                endorsements=self.endorsements,
            ),
            Endpoint.parse(base_url, dialect=self.dialect),
            runner,
            hold=self.hold_until_verified,
            salt=self.salt_requests,
            encrypt=self.encrypt,
            timeout=DEFAULT_TIMEOUT
            if self.attestation_timeout is None
            else self.attestation_timeout,
        )

    def require_none(self) -> None:
        """Refuse wishes for a client that shares another one's sessions.

        Raises:
            ConfigurationError: There are some.
        """
        if self != Wishes():
            raise ConfigurationError(
                "a copy keeps the policy and the sessions of its original",
                id="usage.openai",
                want="a client of its own for another policy",
            )
