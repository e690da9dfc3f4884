"""Where does the connection end, who could read the request, and where was the key made?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.errors import BindingMismatch

__all__ = ["confidential_request", "endpoint_bound", "signer_origin"]


def endpoint_bound(subject: Subject) -> Iterator[Observation]:
    """Compare the attested TLS key with the one of the connection."""
    front = subject.front
    if front is None or front.layout is None:
        yield Observation.absent("endpoint.bound", "No verified machine is at the endpoint.")
        return
    label = front.machine.label
    attested = front.machine.tls_spki_sha256
    peer = front.machine.peer_spki_sha256
    if "tls_spki_sha256" not in front.layout.binds or attested is None:
        yield Observation.absent("endpoint.bound", "This evidence binds no TLS key.", subject=label)
    elif peer is None:
        yield Observation.absent(
            "endpoint.bound", "The TLS key of your connection is not known.", subject=label
        )
    elif peer != attested:
        yield Observation.failed(
            BindingMismatch(
                "the TLS connection does not end in the attested machine",
                id="endpoint.bound",
                got=peer.hex(),
                want=attested.hex(),
            ),
            subject=label,
        )
    else:
        yield Observation.asserted(
            "endpoint.bound",
            "The recorded TLS key is the attested one.",
            by="the recorder",
            subject=label,
            got=peer.hex(),
        )


def confidential_request(subject: Subject) -> Iterator[Observation]:
    """No dialect here encrypts a request to an attested key yet."""
    if subject.front is not None:
        yield Observation.absent(
            "confidential.request",
            "The request was not encrypted to an attested key: whoever ends the TLS connection "
            "could read it.",
        )


def signer_origin(subject: Subject) -> Iterator[Observation]:
    """A key that a key service hands out is not proven to be this machine's alone."""
    for key, machine in subject.attested_keys:
        label = machine.machine.label
        provider = machine.log.identity.key_provider if machine.log is not None else None
        if provider is None:
            text = "Nothing says where the signing key was made."
        else:
            text = (
                f"The signing key comes from a key provider ({provider.name}): it may outlive this "
                "machine and this version of the code."
            )
        yield Observation.absent("signer.origin", text, subject=f"{label} {key.short}")
