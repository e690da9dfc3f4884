"""From many findings to the twelve claims that people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.examined import Examined, ExaminedMachine
from teeverify.appraisal.held import held_by
from teeverify.appraisal.observation import CLAIM_NAMES, Outcome, Severity
from teeverify.appraisal.result import Claim, Finding

__all__ = ["claims_of"]

# Which findings decide a claim; the others of the claim only explain it, unless they fail.
_DECIDING: Mapping[str, tuple[str, ...]] = {
    "answer": ("answer.unsigned", "answer.signature", "response.hash-equal", "answer.complete"),
    "request": ("request.bound",),
    "key": ("binding.report-data", "key.attested"),
    "fresh": ("freshness.nonce", "gpu.nonce", "answer.attested-later"),
    "cpu": (
        "tdx.quote",
        "tdx.quote-signature",
        "tdx.debug-disabled",
        "tdx.attributes",
        "snp.report-signature",
        "snp.debug-disabled",
        "snp.policy",
        "snp.vmpl",
    ),
    "cpu_firmware": ("snp.min-tcb", "tdx.tcb-status"),
    "gpu": ("gpu.report-signature", "gpu.required"),
    "gpu_firmware": ("gpu.measurements", "gpu.device"),
    "gpu_link": ("gpu.binding", "gpu.attachment"),
    "code": ("code.identity",),
    "model": ("model.identity",),
    "channel": ("endpoint.bound", "confidential.request", "confidential.answer"),
}
_LEAST_CERTAIN_FIRST = (Outcome.FAILED, Outcome.ABSENT, Outcome.ASSERTED, Outcome.PROVEN)
_NOT_LOOKED_AT = "nothing here tells"


def claims_of(
    findings: Sequence[Finding], examined: Examined, answer: SignedAnswer | None
) -> dict[str, Claim]:
    """Give each claim the least certain of the findings that decide it."""
    facts = {name: words(examined, answer) for name, words in _FACTS.items()}
    mark = {"embedded": "", "custom": "foreign roots: ", "simulated": "simulated: "}
    of_claim: dict[str, list[Finding]] = {name: [] for name in CLAIM_NAMES}
    for finding in findings:
        of_claim[finding.claim].append(finding)
    return {
        name: _claim(name, found, facts.get(name, ""), mark[examined.question.roots.kind])
        for name, found in of_claim.items()
    }


def _claim(name: str, findings: list[Finding], facts: str, mark: str) -> Claim:
    deciding = [
        f
        for f in findings
        if f.id in _DECIDING[name] or f.outcome is Outcome.FAILED or f.severity is Severity.REFUSES
    ]
    for outcome in _LEAST_CERTAIN_FIRST:
        of_outcome = [f for f in deciding if f.outcome is outcome]
        if of_outcome:
            first = min(of_outcome, key=lambda f: f.severity is not Severity.REFUSES)
            text = first.got if name == "model" and first.got else first.message
            if outcome is Outcome.PROVEN and facts:
                text = facts
            shown = text if outcome is Outcome.ABSENT else mark + text
            return Claim(name=name, outcome=outcome, text=shown, by=first.by)
    return Claim(name=name, outcome=Outcome.ABSENT, text=_NOT_LOOKED_AT)


# --- what a proven claim says in a few words ---------------------------------------------------


def _labels(machines: Sequence[ExaminedMachine]) -> str:
    names = [m.machine.label for m in machines]
    return f"{len(names)} quotes: {', '.join(names)}" if len(names) > 1 else names[0]


def _answer(_: Examined, answer: SignedAnswer | None) -> str:
    if answer is None or answer.sha256 is None or answer.signer is None:
        return ""
    return f"{answer.size} bytes, sha256 {answer.sha256[:8]}…, whole, signer {answer.signer.short}"


def _key(examined: Examined, _: SignedAnswer | None) -> str:
    bound = [(m, held_by(m)) for m in examined.machines]
    return ", ".join(
        f"{' and '.join(held)} in the report_data of {m.machine.label} ({m.layout.id})"
        for m, held in bound
        if held and m.layout
    )


def _fresh(examined: Examined, _: SignedAnswer | None) -> str:
    nonce = examined.question.nonce
    return f"your nonce {nonce.hex()[:8]}… is in every quote and GPU report" if nonce else ""


def _cpu(examined: Examined, _: SignedAnswer | None) -> str:
    machines = [m for m in examined.machines if m.cpu or m.snp]
    if not machines:
        return ""
    kinds = {
        f"AMD SEV-SNP ({m.snp.product})"
        if m.snp
        else "Intel TDX"
        if m.cpu and m.cpu.is_td
        else "Intel SGX, no VM"
        for m in machines
    }
    kind = " and ".join(sorted(kinds))
    return f"{kind}, debug off ({_labels(machines)})"


def _cpu_firmware(examined: Examined, _: SignedAnswer | None) -> str:
    levels = {
        f"{m.cpu.tcb_status.value}, TCB {m.cpu.tcb_date:%Y-%m-%d}"
        for m in examined.machines
        if m.cpu
    }
    levels |= {f"TCB {m.snp.reported_tcb}" for m in examined.machines if m.snp}
    return "; ".join(sorted(levels))


def _gpu(examined: Examined, _: SignedAnswer | None) -> str:
    devices = [d for m in examined.machines if m.gpus for d in m.gpus.devices]
    kinds = sorted({f"{d.architecture} ({d.chip})" for d in devices})
    if not devices:
        return ""
    count = "1 device" if len(devices) == 1 else f"{len(devices)} distinct devices"
    return f"{count}, {', '.join(kinds)}"


def _gpu_firmware(examined: Examined, _: SignedAnswer | None) -> str:
    compared = [m.gpus for m in examined.machines if m.gpus and m.firmware.measurements]
    versions = {
        f"driver {d.driver_version}, VBIOS {d.vbios_version}"
        if d.driver_version
        else f"NVSwitch BIOS {d.vbios_version}"
        for gpus in compared
        for d in gpus.devices
    }
    return f"{'; '.join(sorted(versions))}: equal to NVIDIA's manifests" if versions else ""


_FACTS: Mapping[str, Callable[[Examined, SignedAnswer | None], str]] = {
    "answer": _answer,
    "key": _key,
    "fresh": _fresh,
    "cpu": _cpu,
    "cpu_firmware": _cpu_firmware,
    "gpu": _gpu,
    "gpu_firmware": _gpu_firmware,
}
