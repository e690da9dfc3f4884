"""Where do connection and request end, and who could read request and answer on the way?

A connection whose TLS key the evidence binds, and a request that the caller's own client encrypted
to a key that it binds, both end in attested code. What the answer's key is made of decides who can
read the answer: in most schemes it stands in a header that anybody on the way can exchange.
"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.encryption import sealed_to
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.errors import AppraisalFailed, BindingMismatch

__all__ = ["confidential_answer", "confidential_request", "endpoint_bound"]

_BOUND, _REQUEST, _ANSWER = "endpoint.bound", "confidential.request", "confidential.answer"


def endpoint_bound(subject: Subject) -> Iterator[Observation]:
    """Compare the attested TLS key with the one of the connection, or the key encrypted to."""
    front = subject.front
    if front is None or front.layout is None:
        yield Observation.absent(_BOUND, "No verified machine is at the endpoint.")
        return
    label = front.machine.label
    binds = "tls_spki_sha256" in front.layout.binds
    attested = front.machine.tls_spki_sha256 if binds else None
    peer = front.machine.peer_spki_sha256
    sealed = sealed_to(subject.machines, subject.encryption)
    if attested is not None and peer is not None and peer != attested:
        yield Observation.failed(
            BindingMismatch(
                "the TLS connection does not end in the attested machine",
                id=_BOUND,
                got=peer.hex(),
                want=attested.hex(),
            ),
            subject=label,
        )
    elif peer is not None and _ends_in(front, live=subject.examined.evidence.live):
        yield Observation.proven(
            _BOUND,
            "Your TLS connection ends at the attested key.",
            subject=label,
            got=peer.hex(),
        )
    elif sealed is not None:
        yield Observation.proven(
            _BOUND,
            "What you send is encrypted to the attested key: only who holds it can take it.",
            subject=sealed.machine.machine.label,
            got=sealed.public.hex()[:64],
        )
    elif attested is None:
        yield Observation.absent(_BOUND, "This evidence binds no TLS key.", subject=label)
    elif peer is None:
        yield Observation.absent(
            _BOUND, "The TLS key of your connection is not known.", subject=label
        )
    else:
        yield Observation.asserted(
            _BOUND,
            "The recorded TLS key is the attested one; where your own connection ends was not "
            "seen.",
            by="the recorder",
            subject=label,
            got=peer.hex(),
        )


def confidential_request(subject: Subject) -> Iterator[Observation]:
    """Whether only attested code could read what was asked."""
    said = subject.encryption
    sealed = sealed_to(subject.machines, subject.encryption)
    if said is not None and said.public is None and sealed is None:
        error = AppraisalFailed(
            "no request can be encrypted: the evidence shows no public key that it binds",
            id=_REQUEST,
            want=f"a key for {said.scheme}",
            hint="Nothing is sent. Without encrypt=True it would be readable on the way.",
        )
        yield Observation.failed(error, hard=True)
    elif sealed is not None and said is not None:
        what = "Each request of this session is" if said.public is None else "The request was"
        yield Observation.proven(
            _REQUEST,
            f"{what} encrypted to the attested key before anything is sent ({said.scheme}).",
            subject=sealed.machine.machine.label,
            got=sealed.public.hex()[:64],
        )
    elif said is not None:
        yield Observation.absent(
            _REQUEST,
            "The request was encrypted to a key that this evidence does not bind.",
            got=None if said.public is None else said.public.hex()[:64],
        )
    else:
        yield from _by_connection(
            subject,
            _REQUEST,
            "The request was not encrypted to an attested key: whoever ends the TLS connection "
            "could read it.",
        )


def confidential_answer(subject: Subject) -> Iterator[Observation]:
    """Whether only attested code and the asker could read what was answered."""
    said = subject.encryption
    sealed = sealed_to(subject.machines, subject.encryption)
    if sealed is not None and said is not None and said.both_ways:
        yield Observation.proven(
            _ANSWER,
            "The answer's key follows from the encrypted request: only you and the attested key's "
            f"holder have it ({said.scheme}).",
            subject=sealed.machine.machine.label,
        )
        return
    without = (
        "The answer was not encrypted: whoever ends the TLS connection could read it."
        if said is None
        else "The answer is encrypted to a key in the request's headers, which nothing protects: "
        "whoever passes the request on can put his own key there, and read the answer "
        f"({said.scheme})."
    )
    yield from _by_connection(subject, _ANSWER, without)


def _by_connection(subject: Subject, id: str, without: str) -> Iterator[Observation]:
    """What follows from where a live TLS connection ends; a recording says nothing of others."""
    front = subject.front
    if front is None:
        return
    if not _ends_in(front, live=subject.examined.evidence.live):
        yield Observation.absent(id, without)
    elif front.machine.role == "model":
        text = "Your TLS connection ends in the model's own attested machine."
        yield Observation.proven(id, text, subject=front.machine.label)
    else:
        text = (
            "Your TLS connection ends in the attested gateway; to whom it passes on what it reads, "
            "its code decides."
        )
        yield Observation.asserted(id, text, by="the gateway's code", subject=front.machine.label)


def _ends_in(front: ExaminedMachine, *, live: bool) -> bool:
    """Whether the connection's TLS key is the one that the evidence of its machine binds."""
    binds = front.layout is not None and "tls_spki_sha256" in front.layout.binds
    peer = front.machine.peer_spki_sha256
    return live and binds and peer is not None and peer == front.machine.tls_spki_sha256
