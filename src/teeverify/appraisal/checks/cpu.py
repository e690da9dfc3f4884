"""Is the CPU's TCB acceptable, and does the VM's configuration leave nobody a way in?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from teeverify import tdx
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.errors import AppraisalFailed, EvidenceError

__all__ = ["attributes", "platform_listed", "tcb_status"]


def tcb_status(subject: Subject) -> Iterator[Observation]:
    """Compare each TCB status with the accepted, tolerated and graced ones."""
    for machine in subject.machines:
        if machine.cpu is not None:
            yield _one_status(subject, machine.cpu, machine.machine.label)


def _one_status(subject: Subject, cpu: tdx.Claims, label: str) -> Observation:
    """The worse of the status to appraise and that of the TCB as it is now.

    Intel's rule lets a TD that was launched up to date stay so when the TCB fell behind since.
    """
    statuses = {cpu.tcb_status.value}
    if cpu.current_tcb_status is not None:
        statuses.add(cpu.current_tcb_status.value)
    seen = [_status(subject, cpu, status, label) for status in sorted(statuses)]
    return max(seen, key=lambda found: (found.error is not None, found.concern))


def _status(subject: Subject, cpu: tdx.Claims, status: str, label: str) -> Observation:
    policy = subject.policy
    unlisted = set(cpu.advisory_ids) - set(policy["tdx.accepted_advisories"])
    shown = ", ".join([status, *cpu.advisory_ids])
    listed = status == "UpToDate" or policy.extends == "genuine" or not unlisted
    if status in policy["tdx.accepted"] and listed:
        # More than the preset accepts is the choice of whoever wrote the policy; readers are told.
        lax = policy.extends == "genuine" and status not in ("UpToDate", "SWHardeningNeeded")
        text = f"Your policy accepts the TCB status {shown}." if lax else _since(cpu)
        return Observation.proven("tdx.tcb-status", text, subject=label, got=shown, concern=lax)
    if status in policy["tdx.tolerated"]:
        text = "The platform's configuration lowers its security."
        return Observation.proven("tdx.tcb-status", text, subject=label, got=shown, concern=True)
    missed = cpu.tcb_gap.since if cpu.tcb_gap else cpu.tcb_date
    behind = cpu.tcb_gap.first_missed if cpu.tcb_gap else cpu.tcb_date
    days = (subject.examined.question.at - behind) / timedelta(days=1)
    if status in policy["tdx.graced"] and days <= policy["tdx.grace_days"]:
        text = f"The platform lacks Intel's fixes of {missed:%Y-%m-%d}; within the grace time."
        behind_by = f"{shown} ({tdx.describe_gap(cpu.tcb_gap)})" if cpu.tcb_gap else shown
        return Observation.proven(
            "tdx.tcb-status", text, subject=label, got=behind_by, concern=True
        )
    return Observation.failed(
        AppraisalFailed(
            f"the machine lacks Intel's security fixes of {missed:%Y-%m-%d} "
            f"(TCB {shown}), so what happened inside may have been seen or changed"
            if cpu.tcb_gap
            else f"the TCB status is not one that you accept (TCB {shown})",
            id="tdx.tcb-status",
            got=shown + (f" ({tdx.describe_gap(cpu.tcb_gap)})" if cpu.tcb_gap else ""),
            want=", ".join(policy["tdx.accepted"]),
            hint=_remedy(cpu),
        ),
        subject=label,
    )


def _remedy(cpu: tdx.Claims) -> str:
    if cpu.tcb_gap is None:
        return "Only its operator can change its configuration; or accept the status by name."
    return f"Only its operator can update it: {'; '.join(tdx.remedies(cpu.tcb_gap))}."


def _since(cpu: tdx.Claims) -> str:
    return f"TCB level of {cpu.tcb_date:%Y-%m-%d}, FMSPC {cpu.fmspc.hex()}."


def attributes(subject: Subject) -> Iterator[Observation]:
    """Refuse or warn of TD attributes, by the policy's two lists."""
    policy = subject.policy
    for machine in subject.machines:
        if machine.cpu is None or not machine.cpu.is_td:
            continue
        label = machine.machine.label
        present = _concerns(machine.cpu, policy["tdx.service_tds"])
        refused = [name for name in present if name in policy["tdx.attributes_refused"]]
        warned = [name for name in present if name in policy["tdx.attributes_warned"]]
        raw = machine.cpu.td.td_attributes.hex()
        if refused:
            yield Observation.failed(
                AppraisalFailed(
                    f"the TD's attributes leave a way in: {', '.join(refused)}",
                    id="tdx.attributes",
                    got=raw,
                    hint="The operator must launch the TD with other attributes.",
                ),
                subject=label,
            )
            continue
        passed_over = [name for name in present if name not in warned]
        text = "No attribute opens a way in."
        if passed_over:
            text = f"Your policy passes over what may be a way in: {', '.join(passed_over)}."
        elif warned:
            text = f"The TD has unusual attributes: {', '.join(warned)}."
        yield Observation.proven(
            "tdx.attributes", text, subject=label, got=raw, concern=bool(present)
        )


def _concerns(cpu: tdx.Claims, service_tds: list[str]) -> list[str]:
    """The attributes that may leave a way in, by the names that policies use."""
    bits = cpu.td_attributes
    service_td = (cpu.mr_service_td or b"").hex()
    accepted = service_td in {listed.lower() for listed in service_tds}
    service = (bits.service_td_extension or any(cpu.mr_service_td or b"")) and not accepted
    present = {
        "profiling": bits.profiling,
        "reserved": bool(bits.reserved_bits),
        "migratable": bits.migratable,
        "service_td": service,
        "sept_ve_disable_missing": not bits.sept_ve_disable,
        "pks": bits.pks,
        "kl": bits.kl,
        "perfmon": bits.perfmon,
    }
    return [name for name, there in present.items() if there]


def platform_listed(subject: Subject) -> Iterator[Observation]:
    """Hold platform and device identities against the policy's deny and allow lists."""
    deny = {entry.lower() for entry in subject.policy["platform.deny"]}
    allow = {entry.lower() for entry in subject.policy["platform.allow"]}
    for machine in subject.machines:
        label = machine.machine.label
        platform = _platform_ids(machine)
        devices = {d.ueid.lower() for d in machine.gpus.devices} if machine.gpus else set()
        denied = (platform | devices) & deny
        model = _model_refused(subject, machine.cpu)
        if denied:
            yield Observation.failed(
                EvidenceError(
                    "this platform or device is on the deny list",
                    id="platform.listed",
                    got=", ".join(sorted(denied)),
                ),
                subject=label,
            )
        elif model is not None:
            yield Observation.failed(model, subject=label)
        elif allow and _has_cpu(machine) and not platform & allow:
            yield Observation.failed(
                AppraisalFailed(
                    "this platform is not on the allow list",
                    id="platform.listed",
                    got=", ".join(sorted(platform)),
                    want="one of platform.allow",
                ),
                subject=label,
            )
        elif _has_cpu(machine) or machine.gpus is not None:
            text = "On no deny list." if not allow else "On the allow list."
            yield Observation.proven(
                "platform.listed", text, subject=label, got=", ".join(sorted(platform)) or None
            )


def _model_refused(subject: Subject, cpu: tdx.Claims | None) -> AppraisalFailed | None:
    """Why a model of CPU is not acceptable, by the policy's lists of FMSPCs."""
    if cpu is None:
        return None
    fmspc = cpu.fmspc.hex()
    deny = {entry.lower() for entry in subject.policy["platform.fmspc_deny"]}
    allow = {entry.lower() for entry in subject.policy["platform.fmspc_allow"]}
    if fmspc not in deny and (not allow or fmspc in allow):
        return None
    return AppraisalFailed(
        "this model of CPU is on the deny list"
        if fmspc in deny
        else "this model of CPU is not on the allow list",
        id="platform.listed",
        got=f"FMSPC {fmspc}",
        want="one of platform.fmspc_allow" if fmspc not in deny else None,
    )


def _has_cpu(machine: ExaminedMachine) -> bool:
    return machine.cpu is not None or machine.snp is not None


def _platform_ids(machine: ExaminedMachine) -> set[str]:
    if machine.snp is not None:
        return set() if machine.snp.chip_id is None else {machine.snp.chip_id.hex()}
    cpu = machine.cpu
    if cpu is None:
        return set()
    ids = {cpu.ppid.hex()}
    if cpu.platform_instance_id is not None:
        ids.add(cpu.platform_instance_id.hex())
    return ids
