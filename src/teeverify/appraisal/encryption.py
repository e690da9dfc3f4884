"""To which attested key requests are encrypted, as the one who encrypts them says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from teeverify.appraisal.examined import ExaminedMachine
from teeverify.crypto.ethereum import address_of
from teeverify.encoding.strict import base64_bytes
from teeverify.errors import TeeVerifyError

__all__ = ["Encryption", "Recipient", "SealedTo", "recipients", "sealed_to"]

SealedTo: TypeAlias = Literal["key", "hpke_key", "e2e_public_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How the appraiser's own client encrypts what it sends: never what evidence says of itself.

    Attributes:
        scheme: The scheme's name.
        to: Which of the values that evidence binds is the key that requests are encrypted to.
        both_ways: Whether the answer's key follows from what only the attested key opens; else it
            stands in a header, which anybody on the way can exchange.
        public: The key that this request was encrypted to; ``None`` of a session, whose requests
            all will be.
    """

    scheme: str
    to: SealedTo
    both_ways: bool
    public: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """An attested key to which requests can be encrypted.

    Attributes:
        algorithm: What kind of key it is.
        public: The key.
        machine: The machine whose verified quote binds it.
    """

    algorithm: str
    public: bytes
    machine: ExaminedMachine


def recipients(machines: Sequence[ExaminedMachine], to: SealedTo) -> tuple[Recipient, ...]:
    """The keys to encrypt to that verified quotes of these machines bind.

    Args:
        machines: The machines of one attestation.
        to: Which bound value is meant.
    """
    return tuple(_found(machines, to))


def sealed_to(machines: Sequence[ExaminedMachine], said: Encryption | None) -> Recipient | None:
    """The attested key that the caller's client encrypts to, or encrypted this request to.

    Args:
        machines: The machines of the one node that is appraised.
        said: What the client says that it does.
    """
    if said is None:
        return None
    found = recipients(machines, said.to)
    if said.public is None:
        return found[0] if found else None
    return next((one for one in found if one.public == said.public), None)


def _found(machines: Sequence[ExaminedMachine], to: SealedTo) -> Iterator[Recipient]:
    for examined in machines:
        machine, layout = examined.machine, examined.layout
        if layout is None or to not in layout.binds:
            continue
        if to == "hpke_key":
            if machine.commits.hpke_key is not None:
                yield Recipient(algorithm="hpke", public=machine.commits.hpke_key, machine=examined)
        elif machine.role != "model":
            continue  # a gateway's key would show it the request
        elif to == "e2e_public_key":
            yield from _mlkem(examined)
        else:
            yield from _of_signing_key(examined)


def _of_signing_key(examined: ExaminedMachine) -> Iterator[Recipient]:
    """The signing key itself; of an address, the public key that has it."""
    key, shown = examined.machine.key, examined.machine.public_key
    if key is None:
        return
    if key.algorithm == "ed25519":
        yield Recipient(algorithm="ed25519", public=key.identifier, machine=examined)
    elif shown is not None and key.algorithm == "ecdsa" and address_of(shown) == key.identifier:
        yield Recipient(algorithm="ecdsa", public=shown, machine=examined)


def _mlkem(examined: ExaminedMachine) -> Iterator[Recipient]:
    text = examined.machine.commits.e2e_public_key
    try:
        raw = base64_bytes(text, field="e2e_pubkey", id="encryption.key-bound")
    except TeeVerifyError:
        return
    yield Recipient(algorithm="ml-kem-768", public=raw, machine=examined)
