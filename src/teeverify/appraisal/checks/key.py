"""Where was the signing key made, and does the evidence bind one at all?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.errors import AppraisalFailed
from teeverify.tdx import KeyProvider

__all__ = ["signer_origin", "unsigned"]

_ORIGIN = "signer.origin"
_OF_THIS_MACHINE = ("local", "local-sgx", "tpm")


def unsigned(subject: Subject) -> Iterator[Observation]:
    """Say where a dialect's evidence binds no key that could sign an answer."""
    front = subject.front
    if front is None or front.layout is None or subject.attested_keys:
        return
    yield Observation.absent(
        "answer.unsigned",
        "Answers of this dialect carry no signature by an attested key: what one was, only those "
        "know whose connection ended at the attested key.",
        subject=front.machine.label,
    )


def signer_origin(subject: Subject) -> Iterator[Observation]:
    """A key that a key service hands out is not proven to be this machine's alone."""
    listed = {entry.lower() for entry in subject.policy["signer.key_services"]}
    for key, machine in subject.attested_keys:
        known = machine.log.identity if machine.log is not None else None
        # Without the seal the application itself could have written the event.
        provider = known.key_provider if known is not None and known.sealed else None
        yield _origin(provider, listed, subject=f"{machine.machine.label} {key.short}")


def _origin(provider: KeyProvider | None, listed: set[str], *, subject: str) -> Observation:
    if provider is None:
        text = "Nothing says where the signing key was made."
        return Observation.absent(_ORIGIN, text, subject=subject)
    if provider.name == "none":
        text = "No key provider is set: the signing key was made in this machine, says its code."
        return Observation.asserted(_ORIGIN, text, by="the attested code", subject=subject)
    if provider.id.lower() in listed:
        text = f"The machine's key provider is one that you listed ({provider.name})."
        return Observation.proven(_ORIGIN, text, subject=subject, got=provider.id)
    if listed:
        error = AppraisalFailed(
            "the machine's keys come from a key provider that you did not list",
            id=_ORIGIN,
            got=f"{provider.name} {provider.id[-16:]}",
            want="one of signer.key_services",
        )
        return Observation.failed(error, subject=subject, hard=True)
    if provider.name in _OF_THIS_MACHINE:
        text = f"The signing key is sealed to this machine ({provider.name}), says its code."
        return Observation.asserted(_ORIGIN, text, by="the attested code", subject=subject)
    text = (
        f"The machine has a key provider ({provider.name}): a signing key from there may outlive "
        "this machine and this version of the code."
    )
    return Observation.absent(_ORIGIN, text, subject=subject, got=provider.id)
