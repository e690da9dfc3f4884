"""Requests sealed to the key that a session attested, and to no other.

A key counts only where a verified quote of an attestation that satisfied the policy binds it: an
address alone is no key to encrypt to, and a public key that does not have it is somebody else's.
"""

from __future__ import annotations

from dataclasses import replace

from teeverify.appraisal.encryption import Encryption
from teeverify.client.session.attestation import Attestation
from teeverify.clock import now
from teeverify.e2ee import METHODS, Sealed
from teeverify.errors import ConfigurationError
from teeverify.providers.dialect import Dialect

__all__ = ["Sealer", "encryption_of", "seal"]


class Sealer:
    """Whether and how the requests to one endpoint are sealed.

    Args:
        dialect: The endpoint's dialect.
        wanted: Whether its user asked for it: then every request is.
        strict: Whether the policy starts from ``strict``: then requests are where the dialect has a
            scheme and the TLS connection does not end in the attested machine.

    Raises:
        ConfigurationError: It is wanted, and the dialect has no scheme; or the policy demands
            signatures, and the dialect has none.
    """

    def __init__(self, dialect: Dialect, *, wanted: bool, strict: bool) -> None:
        self._method = METHODS.get(dialect.encryption)
        self._wanted = wanted
        self._strict = strict
        self._unsigned = dialect.form is None
        if wanted and self._method is None:
            raise ConfigurationError(
                "this dialect has no way to encrypt requests to an attested key",
                id="usage.e2ee",
                got=dialect.id,
                want="one of the dialects in docs/encryption",
            )
        if wanted and strict and self._unsigned:
            raise ConfigurationError(
                "answers of this dialect carry no signature, which your policy demands",
                id="usage.e2ee",
                got=dialect.id,
                hint="That you could open an answer shows nobody else who made it.",
            )

    def intends(self, *, bound: bool) -> Encryption | None:
        """How the requests of a session will be encrypted, if they will.

        Args:
            bound: Whether the TLS connection will end at a key that the evidence binds.
        """
        method = self._method
        if method is None or not (self._wanted or (self._strict and not bound)):
            return None
        return Encryption(scheme=method.name, to=method.to, both_ways=method.both_ways)

    @property
    def routes(self) -> tuple[str, ...]:
        """Routes to which requests are sent for their encryption alone: nobody signs the answers.

        Only where it was asked for: whoever does knows that nothing can be shown to others later.
        """
        wanted = self._wanted and self._unsigned and self._method is not None
        return self._method.routes if wanted and self._method is not None else ()


def seal(under: Attestation, request: bytes, *, route: str | None = None) -> Sealed | None:
    """Seal a request to the key that an attestation binds; ``None`` where it is sent as it is.

    Args:
        under: The attestation in force.
        request: The request's body.
        route: Its route below the dialect's root; any where not given.

    Raises:
        ConfigurationError: The scheme would leave a part of it readable.
    """
    intended, to = under.encryption, under.result.encrypts_to
    if intended is None:
        return None
    method = METHODS[intended.scheme]
    if to is None or (route is not None and route not in method.routes):
        raise ConfigurationError(
            "requests to this route cannot be encrypted, so nothing was sent",
            id="usage.e2ee",
            got="no attested key" if to is None else str(route)[:80],
            want=" or ".join(method.routes),
        )
    return method.seal(*to, request, now())


def encryption_of(under: Attestation, sealed: Sealed | None) -> Encryption | None:
    """What the appraisal of an answer is told of how it was asked for."""
    if sealed is None or under.encryption is None:
        return None
    return replace(under.encryption, public=sealed.public)
