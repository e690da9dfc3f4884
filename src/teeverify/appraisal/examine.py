"""Verify every part of the evidence, and tie the parts to each other.

Evidence + endorsements + time in, claims out. What is wrong becomes an observation, and the rest
is still examined; what a failed part would have had to carry is reported as not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from teeverify import nvidia, snp, tdx
from teeverify.appraisal.bindings import carried_nonce, examine_binding, gpu_nonce
from teeverify.appraisal.evidence import Evidence, Machine
from teeverify.appraisal.examined import Examined, ExaminedMachine, Question
from teeverify.appraisal.gpus import examine_firmware
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.snp import (
    examine_firmware_maker,
    examine_hcl,
    examine_snp,
    examine_vtpm,
)
from teeverify.appraisal.steps import not_reached, ordered
from teeverify.binding import layout_of
from teeverify.encoding.checks import Check
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementUnavailable,
    StaleEvidence,
    TeeVerifyError,
)

__all__ = ["examine"]

T = TypeVar("T")


def examine(evidence: Evidence, question: Question) -> Examined:
    """Examine all machines.

    Raises:
        ConfigurationError: The caller's own mistake; anything else becomes an observation.
    """
    if question.nonce is None:
        question = replace(question, nonce=_own_nonce(evidence), nonce_by="evidence")
    machines = tuple(_examine_machine(m, evidence, question) for m in evidence.machines)
    return Examined(
        evidence=evidence,
        question=question,
        machines=machines,
        data_sets=_data_sets(evidence, question),
    )


def _data_sets(
    evidence: Evidence, question: Question
) -> tdx.EvaluationClaims | TeeVerifyError | None:
    endorsements = evidence.tdx_endorsements
    if endorsements is None or not endorsements.pool.evaluation_numbers:
        return None
    try:
        return tdx.verify_evaluation_numbers(endorsements, at=question.at, roots=question.roots)
    except TeeVerifyError as error:
        return error


def _own_nonce(evidence: Evidence) -> bytes | None:
    """With no nonce asked for: the one of the first quote, so that the parts at least agree."""
    for machine in evidence.machines:
        if machine.layout and (machine.quote is not None or machine.snp_report is not None):
            return carried_nonce(machine)
    return None


def _examine_machine(machine: Machine, evidence: Evidence, question: Question) -> ExaminedMachine:
    seen = ExaminedMachine(machine=machine)
    if machine.broken is not None:
        seen.observations.append(Observation.failed(machine.broken, subject=machine.label))
        return seen
    if machine.quote is not None:
        seen.cpu = _cpu(seen, evidence, question)
    if seen.cpu is not None and not seen.cpu.is_td and machine.role != "component":
        error = BindingMismatch(
            "the quote is of an SGX enclave, not of a VM", id="tdx.quote", want="a TDX quote"
        )
        seen.observations.append(Observation.failed(error, subject=machine.label))
        seen.cpu = None
    if seen.cpu is not None and seen.cpu.is_td:
        _event_log(seen, seen.cpu)
        _compose(seen, seen.cpu)
        _own_binding(seen, seen.cpu.quote.report_data, evidence, question)
    elif machine.snp_report is not None:
        _amd(seen, evidence, question)
    elif seen.cpu is None and machine.layout and not _by_tpm(machine):
        dstack = ("code.event-log", "code.compose") if layout_of(machine.layout).dstack else ()
        seen.observations += not_reached((*dstack, "binding.report-data"), machine.label)
    if machine.quote is not None:
        _vtpm(seen, seen.cpu, evidence, question)
    if machine.gpus is not None:
        seen.gpus = _gpus(seen, evidence, question)
        if seen.gpus is not None:
            _devices(seen, seen.gpus, evidence, question)
    return seen


def _devices(
    seen: ExaminedMachine, gpus: nvidia.Claims, evidence: Evidence, question: Question
) -> None:
    """What is said of genuine devices: whom they answered, NVIDIA's service, their firmware."""
    machine = seen.machine
    if not machine.layout and question.nonce_by == "evidence":
        seen.observations.append(
            Observation.absent(
                "freshness.nonce",
                "The GPUs signed one nonce, but nobody said which one was asked for.",
                subject=machine.label,
            )
        )
    _nras(seen, gpus, evidence, question)
    seen.firmware = examine_firmware(
        gpus,
        evidence.nvidia_endorsements,
        seen.observations,
        machine.label,
        at=question.at,
        roots=question.roots,
        allow_expired_signers=question.allow_expired_rim_signers,
    )


def _amd(seen: ExaminedMachine, evidence: Evidence, question: Question) -> None:
    """An AMD report, what a virtual TPM says on top of it, and what it binds."""
    machine = seen.machine
    seen.snp = examine_snp(
        machine,
        evidence.snp_endorsements,
        seen.observations,
        at=question.at,
        roots=question.roots,
    )
    _vtpm(seen, seen.snp, evidence, question)
    if machine.hcl is not None:
        asked = None if question.nonce_by == "evidence" else question.nonce
        seen.hcl = examine_hcl(machine, seen.snp, seen.observations, nonce=asked)
    if seen.snp is not None:
        seen.firmware_maker = examine_firmware_maker(
            machine, evidence.snp_endorsements, seen.snp, at=question.at, roots=question.roots
        )
        _own_binding(seen, seen.snp.report_data, evidence, question)
    elif machine.layout and not _by_tpm(machine):
        seen.observations += not_reached(("binding.report-data",), machine.label)


def _by_tpm(machine: Machine) -> bool:
    """Whether it is a virtual TPM that binds what the machine presents."""
    return bool(machine.layout) and layout_of(machine.layout).by_tpm


def _vtpm(
    seen: ExaminedMachine,
    claims: tdx.Claims | snp.Claims | None,
    evidence: Evidence,
    question: Question,
) -> None:
    """What a virtual TPM quoted, and where it answers for its machine, what that binds."""
    machine = seen.machine
    if machine.azure is None:
        return
    bound = _by_tpm(machine)
    seen.vtpm = examine_vtpm(
        machine.azure,
        claims,
        seen.observations,
        machine.label,
        nonce=question.nonce,
        bound=bound,
    )
    if bound and seen.vtpm is not None:
        _binding(seen, seen.vtpm.nonce, evidence, question)
    elif bound:
        seen.observations += not_reached(("binding.report-data",), machine.label)


def _step(seen: ExaminedMachine, action: Callable[[], T]) -> T | None:
    """Run one step; turn what is wrong into an observation."""
    try:
        return action()
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        seen.observations.append(Observation.failed(error, subject=seen.machine.label))
        return None


def _ordered(seen: ExaminedMachine, checks: Sequence[Check], action: Callable[[], T]) -> T | None:
    """Run a vendor's verification; every one of its checks gets an observation."""
    return ordered(seen.observations, seen.machine.label, checks, action)


def _cpu(seen: ExaminedMachine, evidence: Evidence, question: Question) -> tdx.Claims | None:
    quote = seen.machine.quote or b""

    def verify() -> tdx.Claims:
        if evidence.tdx_endorsements is None:
            tdx.parse_quote(quote)  # what is malformed is wrong, whatever is missing beside it
            raise EndorsementUnavailable(
                "Intel's TCB information for this CPU, the identity of its quoting enclave (QE) "
                "and revocation lists are not at hand",
                id="tdx.tcb-info",
                hint="Let it be fetched (without --offline), or pass --endorsements PATH.",
            )
        return tdx.verify_quote(
            quote, evidence.tdx_endorsements, at=question.at, roots=question.roots
        )

    return _ordered(seen, tdx.CHECKS, verify)


def _event_log(seen: ExaminedMachine, cpu: tdx.Claims) -> None:
    """Replay the event log; a scheme with a layout of dstack's family must have one."""
    machine = seen.machine
    if machine.event_log is None:
        if _of_dstack(machine):
            seen.observations.append(
                Observation.absent(
                    "code.event-log", "There is no event log.", subject=machine.label
                )
            )
        return
    seen.log = _step(seen, lambda: tdx.verify_event_log(machine.event_log, cpu.quote))
    if seen.log is not None:
        seen.observations.append(
            Observation.proven(
                "code.event-log",
                "The event log replays to RTMR0, RTMR1, RTMR2 and RTMR3 of the quote; "
                "the payloads of RTMR0 to RTMR2 are not authenticated, only their digests.",
                subject=machine.label,
                got=f"{len(seen.log.log.events)} events",
            )
        )


def _compose(seen: ExaminedMachine, cpu: tdx.Claims) -> None:
    """Compare the served configuration with the measured hash of it."""
    machine = seen.machine
    if machine.app_compose is None:
        if _of_dstack(machine) and machine.role != "compose-manager":
            seen.observations.append(
                Observation.absent(
                    "code.compose",
                    "The application's configuration (app_compose) was not given.",
                    subject=machine.label,
                )
            )
        return
    text = machine.app_compose
    found = _step(seen, lambda: tdx.verify_app_compose(text, cpu.quote, seen.log))
    if found is None:
        return
    if found.absent:
        seen.observations.append(
            Observation.absent(
                "code.compose",
                "Nothing in the evidence commits to the configuration shown.",
                subject=machine.label,
            )
        )
        return
    seen.compose = found
    ties = " and ".join(sorted(found.ties))
    seen.observations.append(
        Observation.proven(
            "code.compose",
            f"The configuration's exact text has the measured hash ({ties}).",
            subject=machine.label,
            got=found.compose_hash.hex(),
        )
    )


def _of_dstack(machine: Machine) -> bool:
    """Whether a machine must show an event log and its application's configuration."""
    return bool(machine.layout) and layout_of(machine.layout).dstack


def _own_binding(
    seen: ExaminedMachine, report_data: bytes, evidence: Evidence, question: Question
) -> None:
    """What the CPU's report binds, where no TPM answers in its place."""
    if not _by_tpm(seen.machine):
        _binding(seen, report_data, evidence, question)


def _binding(
    seen: ExaminedMachine, report_data: bytes, evidence: Evidence, question: Question
) -> None:
    if seen.machine.layout:
        seen.layout, observations = examine_binding(
            seen.machine,
            report_data,
            question.nonce,
            question.nonce_by,
            at=question.at,
            live=evidence.live,
        )
        seen.observations += observations
    elif question.nonce_by == "caller" and seen.machine.azure is None and seen.machine.hcl is None:
        error = StaleEvidence(
            "nothing shows that it answers your nonce: evidence that stands alone does not say "
            "where it carries one",
            id="freshness.nonce",
            got=report_data.hex(),
            want=(question.nonce or b"").hex(),
            hint="Leave the nonce out. Of an AMD report, name all 64 bytes in your policy "
            "(snp.report_data); of an endpoint's quote, give its whole report.",
        )
        seen.observations.append(Observation.failed(error, subject=seen.machine.label))


def _gpus(seen: ExaminedMachine, evidence: Evidence, question: Question) -> nvidia.Claims | None:
    def verify() -> nvidia.Claims:
        parsed = nvidia.parse_evidence(seen.machine.gpus)
        own = parsed.devices[0].report.requester_nonce
        nonce = gpu_nonce(seen.machine, question.nonce, own=own)
        return nvidia.verify_evidence(
            parsed,
            evidence.nvidia_endorsements,
            nonce=nonce,
            at=question.at,
            roots=question.roots,
        )

    return _ordered(seen, nvidia.CHECKS, verify)


def _nras(
    seen: ExaminedMachine, gpus: nvidia.Claims, evidence: Evidence, question: Question
) -> None:
    """Examine a recorded answer of NVIDIA's remote service, where there is one."""
    endorsements = evidence.nvidia_endorsements
    if endorsements is None or not endorsements.nras_answers:
        return
    seen.nras = _ordered(
        seen,
        nvidia.NRAS_CHECKS,
        lambda: endorsements.verify_nras(
            devices=gpus.devices,
            nonce=gpus.nonce,
            at=question.at,
            roots=question.roots,
        ),
    )
