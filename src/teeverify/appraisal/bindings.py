"""Compare what a quote binds with what its machine presents, and say whose nonce that was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from teeverify import snp, tdx
from teeverify.appraisal.evidence import Machine
from teeverify.appraisal.observation import Observation
from teeverify.binding import Bound, Layout, layout_of, verify_report_data
from teeverify.clock import show_time
from teeverify.crypto.ethereum import address_of
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementUnavailable,
    StaleEvidence,
    TeeVerifyError,
)

__all__ = ["bound_of", "carried_nonce", "examine_binding", "gpu_nonce"]

_NONCE = slice(32, 64)
_FRESH = "freshness.nonce"
_CERTIFICATE = "endpoint.certificate"


def bound_of(machine: Machine, nonce: bytes | None) -> Bound:
    """Everything that a machine's layout may commit to.

    Args:
        machine: The machine.
        nonce: The nonce that was asked for.
    """
    return replace(
        machine.commits,
        nonce=nonce,
        key=machine.key,
        tls_spki_sha256=machine.tls_spki_sha256,
        actions_hash=machine.actions_hash,
    )


def carried_nonce(machine: Machine) -> bytes | None:
    """The nonce that a machine's evidence carries, for those who asked for none themselves.

    Where it stands within a hash, the one that stands beside: the hash then says whether it is.
    """
    place = layout_of(machine.layout).nonce
    if place != "tail":
        return machine.nonce if place == "hashed" else None
    try:
        if machine.quote is not None:
            return tdx.parse_quote(machine.quote).report_data[_NONCE]
        if machine.snp_report is not None:
            return snp.parse_report(machine.snp_report).report_data[_NONCE]
    except TeeVerifyError:
        pass
    return None


def examine_binding(
    machine: Machine,
    report_data: bytes,
    nonce: bytes | None,
    nonce_by: str,
    *,
    at: datetime,
    live: bool,
) -> tuple[Layout | None, list[Observation]]:
    """Compare all 64 bytes of a verified ``report_data`` with what the machine's layout demands.

    Args:
        machine: The machine.
        report_data: What its quote or report carries.
        nonce: The nonce that was asked for.
        nonce_by: ``caller``, ``recorder`` or ``evidence``.
        at: The time of the appraisal.
        live: Whether the evidence was fetched here and now.

    Returns:
        The layout that holds, or ``None``; and what was seen.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    try:
        _agree(machine, nonce)
        layout = verify_report_data(machine.layout, report_data, bound_of(machine, nonce))
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        return None, [Observation.failed(error, subject=machine.label)]
    carried = "What the TPM signed is" if layout.by_tpm else "All 64 bytes of report_data are"
    seen = Observation.proven(
        "binding.report-data",
        f"{carried} the layout {layout.id}: {layout.text}.",
        subject=machine.label,
        got=str(machine.key) if machine.key else None,
    )
    found = [seen, *_certificate(machine, at)]
    asked = nonce is not None and nonce_by != "evidence"
    beside = machine.azure is not None and not layout.by_tpm
    if beside or (machine.hcl is not None and asked):
        return layout, found  # its TPM or paravisor answers, and that is examined there
    if layout.nonce == "none":
        return layout, [*found, _without_nonce(machine, nonce, nonce_by, live=live)]
    return layout, [*found, _with_nonce(machine, nonce, nonce_by)]


def _certificate(machine: Machine, at: datetime) -> Iterator[Observation]:
    """A certificate that no connection checked must at least be in its dates."""
    if machine.certified is None:
        return
    first, last = machine.certified
    if first <= at <= last:
        text = "The enclave's TLS certificate is in its dates."
        yield Observation.proven(_CERTIFICATE, text, subject=machine.label)
        return
    error = EndorsementUnavailable(
        "the enclave's TLS certificate is outside its dates",
        id=_CERTIFICATE,
        got=show_time(at),
        want=f"{show_time(first)} to {show_time(last)}",
        hint="Get the enclave's evidence anew, or give the time at which it was kept with --at.",
    )
    yield Observation.failed(error, subject=machine.label)


def _agree(machine: Machine, nonce: bytes | None) -> None:
    """Refuse unsigned fields that contradict what is asked: present but wrong."""
    if machine.nonce is not None and nonce is not None and machine.nonce != nonce:
        raise StaleEvidence(
            "the evidence does not answer your question: it names another nonce",
            id=_FRESH,
            got=machine.nonce.hex(),
            want=nonce.hex(),
            hint="It is cached or recorded, and does not show which machine answers you now.",
        )
    shown, key = machine.public_key, machine.key
    if shown is not None and key is not None:
        # Of an Ed25519 key the identifier is the public key itself.
        identifier = address_of(shown) if key.algorithm == "ecdsa" else shown
        if identifier != key.identifier:
            raise BindingMismatch(
                "the public key beside the signing key is not that key's",
                id="binding.report-data",
                got=identifier.hex(),
                want=key.identifier.hex(),
            )


def _with_nonce(machine: Machine, nonce: bytes | None, nonce_by: str) -> Observation:
    label = machine.label
    if nonce is None or nonce_by == "evidence":
        return Observation.absent(
            _FRESH,
            "The quote carries a nonce, but nobody said which one was asked for.",
            subject=label,
        )
    text = "The quote carries the nonce."
    if nonce_by == "caller":
        return Observation.proven(_FRESH, text, subject=label, got=nonce.hex())
    return Observation.asserted(
        _FRESH,
        f"{text} That it was the question's is the recorder's word.",
        by="the recorder",
        subject=label,
        got=nonce.hex(),
    )


def _without_nonce(
    machine: Machine, nonce: bytes | None, nonce_by: str, *, live: bool
) -> Observation:
    """Of a dialect whose evidence never carries one: the age of the quote is not known."""
    label = machine.label
    if nonce is not None and nonce_by == "caller":
        error = StaleEvidence(
            "this dialect's evidence carries no nonce, so it does not answer yours",
            id=_FRESH,
            got="none",
            want=nonce.hex(),
            hint="Leave the nonce out if you accept that the age of the evidence is not known.",
        )
        return Observation.failed(error, subject=label)
    peer = machine.peer_spki_sha256
    if live and peer is not None and peer == machine.tls_spki_sha256:
        return Observation.asserted(
            _FRESH,
            "This dialect's evidence carries no nonce: that the machine is there now shows in your "
            "connection, which ends at its attested key; the age of the quote is unknown.",
            by="your connection to the attested key",
            subject=label,
        )
    return Observation.absent(
        _FRESH,
        "This dialect's evidence carries no nonce, so nothing shows when it was made.",
        subject=label,
    )


def gpu_nonce(machine: Machine, nonce: bytes | None, *, own: bytes) -> bytes:
    """The nonce that a machine's GPUs must answer, by its layout.

    Args:
        machine: The machine.
        nonce: The nonce that was asked for.
        own: The nonce of the first device, so that bare devices at least agree.

    Raises:
        BindingMismatch: A layout that derives it from what is not there.
        ConfigurationError: No such layout.
    """
    if not machine.layout:
        return own if nonce is None else nonce
    layout = layout_of(machine.layout)
    if layout.gpu_link == "none":
        raise BindingMismatch(
            f"the layout {layout.id} ties no GPU evidence to the quote",
            id="gpu.nonce",
            got="GPU evidence",
            want="none",
        )
    derived = layout.gpu_nonce(bound_of(machine, nonce))
    return own if derived is None else derived
