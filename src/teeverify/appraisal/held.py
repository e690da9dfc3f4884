"""What a verified machine holds, in words: its signing key, or the keys of its channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from teeverify.appraisal.examined import ExaminedMachine

__all__ = ["held_by", "held_in_short"]

_SHOWN = 8


def held_by(machine: ExaminedMachine) -> tuple[str, ...]:
    """The keys that a machine's quote binds, by the layout that holds: with their first digits."""
    return tuple(_keys(machine))


def _keys(machine: ExaminedMachine) -> Iterator[str]:
    binds = () if machine.layout is None else machine.layout.binds
    presented, commits = machine.machine, machine.machine.commits
    if "key" in binds and presented.key is not None:
        yield f"key {presented.key.short}"
    if "tls_spki_sha256" in binds and presented.tls_spki_sha256 is not None:
        yield f"TLS key {presented.tls_spki_sha256.hex()[:_SHOWN]}…"
    if "hpke_key" in binds and commits.hpke_key is not None:
        yield f"encryption key {commits.hpke_key.hex()[:_SHOWN]}…"
    if "e2e_public_key" in binds and commits.e2e_public_key is not None:
        yield f"encryption key {commits.e2e_public_key[:_SHOWN]}…"
    if "public_key" in binds and commits.public_key is not None:
        yield f"public key {commits.public_key.hex()[:_SHOWN]}…"
    if "runtime_claims" in binds:
        yield "the TPM's key"


def held_in_short(machines: Sequence[ExaminedMachine]) -> str:
    """The first key of the machine at the endpoint; ``no key`` where none is bound."""
    for role in ("gateway", "model", "component"):
        for machine in machines:
            held = held_by(machine) if machine.machine.role == role else ()
            if held:
                return held[0]
    return "no key"
