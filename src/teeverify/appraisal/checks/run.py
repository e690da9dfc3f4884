"""Run every check that applies to a scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from teeverify.appraisal.checks import answer, code, cpu, gpu, key, scope, snp, td
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation

__all__ = ["run_checks"]

_Check = Callable[[Subject], Iterator[Observation]]

_ALWAYS: tuple[_Check, ...] = (
    scope.kind,
    scope.roots,
    scope.time,
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
    cpu.platform_listed,
    code.identity,
)
_BARE: tuple[_Check, ...] = (gpu.devices,)
_ENDPOINT: tuple[_Check, ...] = (
    code.images_pinned,
    code.compose_manager,
    gpu.required,
    gpu.distinct,
    gpu.measurements,
    gpu.revocation,
    gpu.binding,
    gpu.attachment,
    key.endpoint_bound,
    key.confidential_request,
    key.signer_origin,
    answer.model_identity,
)
_ANSWER: tuple[_Check, ...] = (
    answer.key_attested,
    answer.signer_role,
    answer.fresh,
    answer.attested_later,
    answer.session_age,
    answer.http_semantics,
)


def run_checks(subject: Subject) -> Iterator[Observation]:
    """Yield what was examined, then what each applicable check makes of it."""
    yield from subject.examined.observations()
    if subject.answer is not None:
        yield from subject.answer.observations
    checks = _ALWAYS
    checks += _BARE if subject.scope == "evidence" else _ENDPOINT
    if subject.scope == "answer":
        checks += _ANSWER
    for check in checks:
        yield from check(subject)
