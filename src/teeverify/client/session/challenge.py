"""The challenge of a request, in dialects whose answers name it: made for one attempt, never again.

It follows from a random value, from the attestation under which the request is sent, and from a
beacon where the caller gave one: 32 bytes that nobody knew before a certain time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping

from teeverify.binding.teeverify1 import challenge_of
from teeverify.client.session.attestation import Attestation
from teeverify.client.session.exchange import Exchange
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.responses.form import Context
from teeverify.responses.receipt import Challenge, Http

__all__ = ["BEACON", "context_of", "new_challenge", "read_beacon"]

BEACON = "Teeverify-Beacon"
"""The header of a request by which its maker names a beacon; it means nothing to a server."""
_BYTES = 32


def new_challenge(under: Attestation, beacon: bytes | None = None) -> Challenge | None:
    """A new challenge; ``None`` in dialects whose answers name none.

    Args:
        under: The attestation under which the request is sent.
        beacon: 32 bytes that nobody knew before a certain time.

    Raises:
        ConfigurationError: A beacon of another size, or one that no answer would show.
    """
    form = under.dialect.form
    if form is None or form.carrying is None:
        if beacon is None:
            return None
        raise _wrong("answers of this dialect name no challenge, so a beacon shows in none")
    if beacon is not None and len(beacon) != _BYTES:
        raise _wrong("a beacon has 32 bytes")
    random = secrets.token_bytes(_BYTES)
    report = hashlib.sha256(under.reply.report).digest()
    return Challenge(
        nonce=under.reply.nonce,
        nonce_random=under.reply.nonce_random,
        challenge=challenge_of(random, report, beacon or bytes(_BYTES)),
        challenge_random=random,
        beacon=beacon,
    )


def read_beacon(headers: Mapping[str, str]) -> bytes | None:
    """The beacon that a request names.

    Raises:
        ConfigurationError: It is not 64 hex digits.
    """
    text = headers.get(BEACON)
    if text is None:
        return None
    try:
        return hex_bytes(text, field=BEACON, id="usage.beacon", length=_BYTES)
    except MalformedEvidence:
        raise _wrong("a beacon is 64 hex digits") from None


def context_of(exchange: Exchange, under: Attestation) -> Context:
    """What is known of an exchange that happened here and now."""
    http: Http = exchange.http
    return Context(
        processes=under.processes,
        method=http.method,
        target=http.target,
        status=http.status,
        request_type=http.request_type,
        response_type=http.response_type,
        challenge=None if exchange.challenge is None else exchange.challenge.challenge,
        at=exchange.received_at,
    )


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(what, id="usage.beacon", want="64 hex digits")
