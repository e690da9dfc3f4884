"""Send one request under an attestation in force: to no other TLS key, and sealed to no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from teeverify.client.network.endpoint import Route
from teeverify.client.network.steps import Steps
from teeverify.client.network.tls import OtherKey
from teeverify.client.receipts.receipt import Receipt
from teeverify.client.session.attestation import Attestation
from teeverify.client.session.challenge import new_challenge
from teeverify.client.session.core import SessionCore
from teeverify.client.session.encryption import encryption_of, seal
from teeverify.client.session.exchange import Exchange
from teeverify.client.transports.line import Line
from teeverify.e2ee import Sealed
from teeverify.errors import BindingMismatch, ResponseNotVerified
from teeverify.responses.receipt import Challenge

__all__ = ["Request", "Sent", "send"]

# What machines say to a request that was encrypted to a key that is not, or no longer, theirs.
_REFUSALS_OF_KEYS = (400, 421, 422)
_MOST_KEYS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, before it is known where it goes.

    Attributes:
        core: The session that it belongs to.
        raw: The request, of the library's kind.
        content: Its body, with the salt in it.
        route: What it is to the endpoint.
        path: Its path below the base URL.
        beacon: What its maker wants its challenge to follow from.
    """

    core: SessionCore
    raw: Any
    content: bytes = field(repr=False)
    route: Route
    path: str
    beacon: bytes | None = None

    def challenge(self, under: Attestation) -> Challenge | None:
        """What the answer must name, where answers do."""
        return None if self.route == "open" else new_challenge(under, self.beacon)

    def sealed(self, under: Attestation) -> Sealed | None:
        """As it goes to an attested machine, where requests are encrypted."""
        if self.route == "open":
            return None
        return seal(under, self.content, route=self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One attempt: what was sent, how it was encrypted, and under which attestation."""

    asked: Request
    under: Attestation
    sealed: Sealed | None
    response: Any
    challenge: Challenge | None = None

    @property
    def content(self) -> bytes:
        """The body as it was sent."""
        return self.asked.content if self.sealed is None else self.sealed.body

    def opened(self, body: bytes) -> bytes:
        """The answer as its asker reads it."""
        return body if self.sealed is None else self.sealed.open(self.response.headers, body)

    def reader(self) -> Callable[[bytes], bytes] | None:
        """What opens the answer's pieces; it may not say that it is plain."""
        return None if self.sealed is None else self.sealed.opener(self.response.headers).feed

    def verdict(self, exchange: Exchange) -> Steps[tuple[Receipt, bytes]]:
        """The receipt, and what may be handed over: opened, where it was encrypted."""
        told = replace(exchange, encryption=encryption_of(self.under, self.sealed))
        if self.asked.route == "sealed":
            text = self.opened(exchange.response)
            told = replace(told, request=self.asked.content, response=text)
            return self.asked.core.note(told, self.under), text
        receipt = yield from self.asked.core.verify(told, self.under)
        # What was signed is what is handed over, where a dialect signs another form.
        return receipt, self.opened(receipt.parts.response.raw or exchange.response)


def send(line: Line, asked: Request) -> Steps[Sent]:
    """Send a request; once more, sealed to another key, where the machine has a new one.

    Raises:
        BindingMismatch: No connection leads to a machine that could be attested.
        ResponseNotVerified: The answer came over a connection that ends in no attested machine.
        TeeVerifyError: The endpoint does not satisfy the policy.
    """
    under = yield from asked.core.ensure()
    sent = yield from _send_under(line, asked, under)
    if sent.sealed is None or sent.response.status_code not in _REFUSALS_OF_KEYS:
        return sent
    fresh = yield from asked.core.renewed()
    if fresh.result.encrypts_to == sent.under.result.encrypts_to:
        return sent
    yield line.incoming(sent.response).close()
    return (yield from _send_under(line, asked, fresh))


def _send_under(line: Line, asked: Request, under: Attestation) -> Steps[Sent]:
    """Send under an attestation in force: where TLS is bound, that of the very connection."""
    core = asked.core
    for _ in range(_MOST_KEYS):
        sealed = asked.sealed(under)
        content, headers = (asked.content, {}) if sealed is None else (sealed.body, sealed.headers)
        challenge = asked.challenge(under)
        headers = {**headers, **(challenge.headers if challenge else {})}
        if under.tls_key is None or core.endpoint.scheme == "http":
            response = yield line.send(asked.raw, content, frozenset(), headers)
            return Sent(
                asked=asked, under=under, sealed=sealed, response=response, challenge=challenge
            )
        to = under.result.encrypts_to  # no other machine could read what is sealed to this one
        held = {
            one.tls_key: one
            for one in reversed(core.held())
            if one.tls_key is not None
            and one.result.encrypts_to == to
            # A challenge follows from one attestation.
            and (challenge is None or one is under)
        }
        try:
            response = yield line.send(asked.raw, content, frozenset(held), headers)
        except OtherKey as other:  # another machine, to which nothing was written
            known = any(one.tls_key == other.peer for one in core.held())
            found = yield from core.of_tls_key(other.peer)
            # What is sealed to one of several that take turns waits for its own.
            under = under if known else found
            continue
        peer = line.peer(response)
        if peer not in held:
            yield line.incoming(response).close()
            raise ResponseNotVerified(
                "the answer came over a connection that does not end in an attested machine",
                id="endpoint.bound",
                got="no key" if peer is None else peer.hex(),
                hint="Do not use this answer.",
            )
        return Sent(
            asked=asked,
            under=held[peer],
            sealed=sealed,
            response=response,
            challenge=challenge,
        )
    raise BindingMismatch(
        "every new connection leads to another machine",
        id="endpoint.bound",
        want=f"one of the last {_MOST_KEYS} that were attested",
        hint="Nothing was sent.",
    )
