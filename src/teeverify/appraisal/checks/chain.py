"""From your connection to the signature: which link follows from which, and where the chain ends.

No signature of today names both a gateway and a node. What can be tied is tied: both must have
their keys from one operator's key service, and a node that must show a compose-manager's log does.
"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.encryption import sealed_to
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.errors import BindingMismatch
from teeverify.tdx import KeyProvider

__all__ = ["gateway", "path"]

_GATEWAY = "chain.gateway"


def gateway(subject: Subject) -> Iterator[Observation]:
    """A gateway and the nodes shown with it must name one key service, where one operator runs all.

    Whoever is asked can ask others: without this, one provider's gateway passes with another's
    nodes, if both were asked for the same nonce.
    """
    front = next((m for m in subject.machines if m.machine.role == "gateway"), None)
    if front is None:
        return
    own = _key_service(front)
    for node in subject.model_machines:
        label = node.machine.label
        if not front.machine.kin or node.machine.kin != front.machine.kin:
            text = "Nothing ties this node to the gateway that is shown with it."
            yield Observation.absent(_GATEWAY, text, subject=label)
            continue
        theirs = _key_service(node)
        if own is None or theirs is None:
            text = "Which key service gateway and node have their keys from was not shown."
            yield Observation.absent(_GATEWAY, text, subject=label)
        elif own != theirs:
            error = BindingMismatch(
                "gateway and node have their keys from different key services: they are not of "
                "one operator",
                id=_GATEWAY,
                got=_short(theirs),
                want=_short(own),
                hint="One of them was put in place of another.",
            )
            yield Observation.failed(error, subject=label)
        else:
            yield Observation.proven(
                _GATEWAY,
                "Gateway and node have their keys from one key service; that this gateway asked "
                "this node, nothing signed says.",
                subject=label,
                got=_short(own),
            )


def _key_service(machine: ExaminedMachine) -> KeyProvider | None:
    """As the operating system wrote it; without its seal the application could have."""
    if machine.log is None or not machine.log.identity.sealed:
        return None
    return machine.log.identity.key_provider


def _short(service: KeyProvider) -> str:
    return f"{service.name} …{service.id[-16:]}"


def path(subject: Subject) -> Iterator[Observation]:
    """Say how the chain goes, where it ends, and who saw the request in plain."""
    front = subject.front
    if front is None or front.layout is None:
        return
    hops = []
    if not _connection_bound(front):
        hops.append("somebody's front (no attested key)")
    if front.machine.role == "gateway":
        hops.append("the gateway")
    if subject.model_machines:
        hops.append("the model's machine")
    way = " → ".join(["your connection", *hops])
    text = f"{way}. {_end(subject, front)} In plain text for: {_readers(subject, hops)}."
    yield Observation.asserted("chain.path", text[0].upper() + text[1:], by="the attested code")


def _readers(subject: Subject, hops: list[str]) -> str:
    """Who reads what passes; what is encrypted to an attested key, those before it do not."""
    names = ["whoever ends your TLS connection" if "front" in hop else hop for hop in hops]
    sealed = sealed_to(subject.machines, subject.encryption)
    if sealed is None or subject.encryption is None:
        return ", ".join(names)
    own = "the gateway" if sealed.machine.machine.role == "gateway" else "the model's machine"
    readers = ", ".join(names[names.index(own) :] if own in names else names)
    if subject.encryption.both_ways:
        return readers
    return f"{readers}; the answer also for whoever exchanged its key on the way"


def _connection_bound(front: ExaminedMachine) -> bool:
    peer, attested = front.machine.peer_spki_sha256, front.machine.tls_spki_sha256
    binds = front.layout is not None and "tls_spki_sha256" in front.layout.binds
    return binds and peer is not None and peer == attested


def _end(subject: Subject, front: ExaminedMachine) -> str:
    """Where the last signature, or the last attested key, is."""
    answer = subject.answer
    signer = answer.signer if answer is not None else None
    roles = {m.machine.role for key, m in subject.attested_keys if key == signer}
    if signer is not None and "model" in roles and not (answer and answer.by_gateway):
        return "The chain ends at this answer, which the model's machine signed."
    if signer is not None and roles:
        return (
            "The chain ends at the gateway, which signed this answer: no node behind it and no GPU "
            "speaks for it."
        )
    if signer is not None:
        return "The chain ends before this answer, whose key nothing attests."
    where = "the gateway's" if front.machine.role == "gateway" else "the machine's"
    return f"The chain ends at {where} attested key: no answer was shown."
