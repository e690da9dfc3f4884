"""Run every check that applies to a scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from teeverify.appraisal.checks import (
    answer,
    chain,
    channel,
    code,
    cpu,
    dstack,
    encryption,
    engine,
    gpu,
    key,
    model,
    receipt,
    scope,
    snp,
    td,
)
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation

__all__ = ["run_answer_checks", "run_evidence_checks"]

_Check = Callable[[Subject], Iterator[Observation]]

_ALWAYS: tuple[_Check, ...] = (
    scope.kind,
    scope.roots,
    scope.clock,
    cpu.tcb_status,
    cpu.attributes,
    td.xfam,
    td.measurements,
    td.configuration,
    td.evaluation_number,
    snp.min_tcb,
    snp.policy,
    snp.vmpl,
    snp.csp,
    snp.platform,
    snp.launch,
    snp.report_data,
    snp.firmware,
    cpu.platform_listed,
    code.identity,
)
_BARE: tuple[_Check, ...] = (gpu.devices, gpu.revocation)
_ENDPOINT: tuple[_Check, ...] = (
    code.changed,
    code.images_pinned,
    code.compose_manager,
    dstack.identity,
    dstack.listed,
    gpu.required,
    gpu.distinct,
    gpu.devices,
    gpu.measurements,
    gpu.revocation,
    gpu.binding,
    gpu.attachment,
    key.unsigned,
    encryption.encryption_keys,
    key.signer_origin,
    engine.location,
)
# What these say depends on which answer it is about, if any, and on how it was asked for.
_TOLD: tuple[_Check, ...] = (
    channel.endpoint_bound,
    channel.confidential_request,
    channel.confidential_answer,
    chain.gateway,
    chain.path,
    model.requested,
    model.reported,
    model.signed,
    model.deployed,
    model.identity,
)
_ANSWER: tuple[_Check, ...] = (
    answer.key_attested,
    answer.signer_role,
    answer.fresh,
    answer.attested_later,
    answer.session_age,
    answer.http_semantics,
    receipt.time,
    receipt.since,
)


def run_evidence_checks(subject: Subject) -> Iterator[Observation]:
    """Yield what was examined, and what holds of it whatever answer it is shown with."""
    yield from subject.examined.observations()
    alone = replace(subject, answer=None, hindsight=None)  # so that no check can look at one
    for check in (*_ALWAYS, *(_BARE if subject.scope == "evidence" else _ENDPOINT)):
        yield from check(alone)


def run_answer_checks(subject: Subject) -> Iterator[Observation]:
    """Yield what was seen of the answer, and what each check makes of it with the evidence."""
    if subject.answer is not None:
        yield from subject.answer.observations
    checks: tuple[_Check, ...] = (scope.time,)
    checks += () if subject.scope == "evidence" else _TOLD
    checks += _ANSWER if subject.scope == "answer" else ()
    for check in checks:
        yield from check(subject)
