"""Is a key to which requests could be encrypted bound by the evidence that shows it?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.evidence import OhttpKey
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.binding import SigningKey
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.errors import BindingMismatch, TeeVerifyError

__all__ = ["encryption_keys"]

_ID = "encryption.key-bound"
_IN_QUOTE = {
    "hpke_key": "the HPKE key",
    "e2e_public_key": "the ML-KEM key",
}


def encryption_keys(subject: Subject) -> Iterator[Observation]:
    """Of every key that is shown: whether a verified quote, or a key that it binds, vouches for it.

    A key that nothing binds may be anybody's; whoever encrypts to it writes to whoever swapped it.
    """
    for machine in subject.machines:
        if machine.layout is not None:
            yield from _of_layout(machine)
        if machine.machine.ohttp is not None:
            yield _of_ohttp(machine, machine.machine.ohttp)


def _of_layout(machine: ExaminedMachine) -> Iterator[Observation]:
    for name, words in _IN_QUOTE.items():
        if machine.layout is not None and name in machine.layout.binds:
            yield Observation.proven(
                _ID,
                f"{words[0].upper()}{words[1:]} is in the report_data ({machine.layout.id}).",
                subject=machine.machine.label,
            )


def _of_ohttp(machine: ExaminedMachine, key: OhttpKey) -> Observation:
    label = machine.machine.label
    try:
        if key.shown is not None and key.shown != key.config:
            raise BindingMismatch(
                "the report shows another OHTTP key configuration than the signed one",
                id=_ID,
                got=key.shown.hex(),
                want=key.config.hex(),
            )
        verify_ed25519(
            key.signer, key.signature, key.config, id=_ID, what="the OHTTP key configuration"
        )
    except TeeVerifyError as error:
        return Observation.failed(error, subject=label)
    signer = machine.machine.key
    bound = machine.layout is not None and "key" in machine.layout.binds
    if bound and signer == SigningKey("ed25519", key.signer):
        return Observation.proven(
            _ID, "The attested key signed the OHTTP key configuration.", subject=label
        )
    return Observation.absent(
        _ID,
        "The OHTTP key configuration is signed by a key that this quote does not bind: do not "
        "encrypt to it on the strength of this report.",
        subject=label,
        got=key.signer.hex(),
        want=str(signer) if bound and signer is not None else "an attested ed25519 key",
        hint="Ask for the report with signing_algo=ed25519, which binds that key.",
    )
