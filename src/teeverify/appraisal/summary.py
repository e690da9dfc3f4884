"""The first sentence. A reader must never believe more than was proven, and must know what to do.

The forms are those of docs/verdicts.md; what stands behind each word is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.evidence import Scope
from teeverify.appraisal.examined import Examined, ExaminedMachine
from teeverify.appraisal.held import held_in_short
from teeverify.appraisal.observation import Outcome, Severity
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.result import Finding, Tier
from teeverify.binding import SigningKey
from teeverify.encoding.text import printable
from teeverify.errors import EXIT_POLICY, EXIT_UNDECIDED, EXIT_WRONG

__all__ = ["summarise"]

_SIMULATED = "SIMULATED. "
_PROVES_NOTHING = (
    "This proves nothing about any hardware: the signatures lead to test roots, which anyone can "
    "use; with the vendors' roots this would be refused. "
)
_SHOWN = 4
_TOLD = ("answer.attested-later", "answer.signer-role", "tdx.tcb-status", "snp.min-tcb")
_LONGEST_VALUE = 40
_NOT_FETCHED = "not fetched: "
_WEIGHTIEST = (
    "kind",
    "code.identity",
    "key.attested",
    "request.bound",
    "freshness.nonce",
    "gpu.measurements",
    "gpu.revocation",
    "time",
)
# What a reason says in a list; the finding itself says it in full.
_REASONS = {
    "freshness.nonce": "no nonce of your own is in the evidence",
    "gpu.measurements": "for the GPUs' firmware there is only NVIDIA's word (NRAS)",
    "gpu.revocation": "whether the GPUs' certificates were revoked was not recorded",
    "gpu.binding": "CPU and GPUs are tied by an equal nonce only",
    "time": "the time is the recorder's word",
    "request.bound": "that the request was this one is the endpoint's word, or was not shown",
}
_CUSTOM = "FOREIGN ROOTS. The signatures lead to roots that the caller chose. "


def summarise(  # noqa: PLR0913 -- everything that a result knows
    *,
    examined: Examined,
    answer: SignedAnswer | None,
    policy: Policy,
    scope: Scope,
    exit_code: int,
    tier: Tier,
    findings: Sequence[Finding],
) -> str:
    """Write line 1 of every face."""
    prefix = {"embedded": "", "custom": _CUSTOM, "simulated": _SIMULATED}
    worst = [f for f in findings if f.exit_code == exit_code and exit_code]
    if exit_code == EXIT_WRONG:
        text = _refused(min(worst, key=_cause_first))
    elif exit_code == EXIT_UNDECIDED:
        text = _undecided(worst, examined.evidence.notes)
    elif exit_code == EXIT_POLICY:
        text = _refused_by_policy(policy, worst, findings)
    else:
        subject = _subject(examined, answer, scope)
        prefix["simulated"] += _PROVES_NOTHING
        if tier == "affirming":
            accepted = _accepted(examined)
            text = f"Verified{accepted}: {subject}, running code you listed"
            text += f" ({_references(findings)})."
        else:
            text = f"Genuine, but {_reservations(findings, policy, scope)}: {subject}."
            text += _unknown_code(findings)
            text += _not_fetched(examined.evidence.notes)
        text += _readers(findings, scope)
    return prefix[examined.question.roots.kind] + text


def _cause_first(finding: Finding) -> int:
    """Of several that are wrong: what was replaced or stale tells more than what it broke."""
    order = ("answer.signature", "response.hash-equal", "request.bound", "freshness.nonce")
    return order.index(finding.id) if finding.id in order else len(order)


def _sentence(finding: Finding) -> str:
    """The finding as a sentence, with its part and what to do."""
    where = f" ({finding.subject})" if finding.subject else ""
    hint = f" {finding.hint}" if finding.hint else ""
    return f"{finding.message.rstrip('.')}{where}.{hint}"


def _short(value: str | None) -> str:
    if value is None:
        return ""
    if len(value) <= _LONGEST_VALUE or " " in value:
        return value
    return f"{value[:16]}…{value[-4:]}"


def _refused(finding: Finding) -> str:
    text = f"Refused: {_sentence(finding)}{_compared(finding)}"
    if finding.claim in ("answer", "request"):
        text += " Do not use this answer."
    return text


def _compared(finding: Finding) -> str:
    """What was found and what it should be, where the sentence does not say so already."""
    message, got = finding.message, finding.got
    if got is None or got[:8] in message:
        return ""
    if got == "none" and (finding.want or "")[:_LONGEST_VALUE] in message:
        return ""
    want = f", want {_short(finding.want)}" if finding.want is not None else ""
    return f" Got {_short(got)}{want}."


def _undecided(findings: Sequence[Finding], notes: Sequence[str]) -> str:
    first = findings[0]
    hint = " Try again, or pass --endorsements PATH." if not first.hint else ""
    return (
        f"Undecided: {_sentence(first)}{_compared(first)}{_not_fetched(notes)} Without it this is "
        f"neither verified nor refuted.{hint}"
    )


def _not_fetched(notes: Sequence[str]) -> str:
    """Why something could not be had, as a sentence; the first reason is enough."""
    note = next((note for note in notes if note.startswith(_NOT_FETCHED)), None)
    return "" if note is None else f" {note[:1].upper()}{printable(note[1:])[:200].rstrip('.')}."


def _refused_by_policy(
    policy: Policy, worst: Sequence[Finding], findings: Sequence[Finding]
) -> str:
    head = f"Refused by your policy ({policy.name}): "
    if not worst:
        warnings = [f for f in findings if f.severity is Severity.WARNS]
        takes_none = "This policy takes no reservations (verdict.accept)."
        return f"{head}genuine, but {_first_words(warnings)} {takes_none}"
    failed = [f for f in worst if f.outcome is Outcome.FAILED]
    if failed:
        return head + _sentence(failed[0]) + _compared(failed[0])
    return f"{head}genuine, but {_first_words(worst)}"


def _first_words(findings: Sequence[Finding]) -> str:
    """The weightiest reasons, one a check, so that the sentence stays readable."""
    ranks = {check_id: rank for rank, check_id in enumerate(_WEIGHTIEST)}
    ordered = sorted(findings, key=lambda f: ranks.get(f.id, len(ranks)))
    by_check: dict[str, str] = {}
    for finding in ordered:
        by_check.setdefault(finding.id, _REASONS.get(finding.id) or _lower(finding.message))
    reasons = list(by_check.values())
    rest = len(reasons) - _SHOWN
    more = f"; and {rest} more" if rest > 0 else ""
    hint = f" {ordered[0].hint}" if len(reasons) == 1 and ordered[0].hint else ""
    return "; ".join(reasons[:_SHOWN]) + more + "." + hint


def _subject(examined: Examined, answer: SignedAnswer | None, scope: Scope) -> str:
    """Who signed what, in which machine."""
    speaking = _speaking(examined, answer)
    verified = [m for m in speaking if m.cpu is not None or m.snp is not None]
    devices = _devices_words(speaking)
    machine = _machine_words(verified)
    if machine and devices and not _tied(speaking):
        machine = f"{machine}, and {devices} answered the same nonce"
    else:
        machine = " with ".join(part for part in (machine, devices) if part)
    if scope == "evidence":
        return f"this is evidence of {machine or 'a component'}"
    if scope == "answer":
        key = answer.signer.short if answer and answer.signer else "none"
        what = f"this answer{_to_request(answer)}"
        return f"{what} was signed by key {key} of {machine}"
    return f"{held_in_short(speaking)} is held by {machine}"


def _devices_words(machines: Sequence[ExaminedMachine]) -> str:
    """The GPUs and switches of machines, as they are certified."""
    found = [device for m in machines if m.gpus for device in m.gpus.devices]
    parts = []
    for kind in ("GPU", "NVSwitch"):
        of_kind = [device for device in found if device.device_type == kind]
        if of_kind:
            names = " and ".join(sorted({f"{d.architecture} ({d.chip})" for d in of_kind}))
            plural = {"GPU": "GPUs", "NVSwitch": "NVSwitches"}[kind] if len(of_kind) > 1 else kind
            parts.append(f"{len(of_kind)} genuine NVIDIA {names} {plural}")
    return " and ".join(parts)


def _tied(machines: Sequence[ExaminedMachine]) -> bool:
    """Whether more than an equal nonce ties the GPUs to the CPU evidence beside them."""
    links = {m.layout.gpu_link for m in machines if m.gpus and m.layout is not None}
    return bool(links) and not links & {"none", "same-nonce"}


def _to_request(answer: SignedAnswer | None) -> str:
    """What line 1 says of the request: no more than what was proven of it."""
    seen = answer.observations if answer else ()
    outcomes = {o.outcome for o in seen if o.id == "request.bound"}
    if outcomes == {Outcome.PROVEN}:
        return " to this request"
    if Outcome.ASSERTED in outcomes:
        return ""  # what the endpoint says of the request is among the reservations
    return " (to a request not given)"


def _speaking(examined: Examined, answer: SignedAnswer | None) -> Sequence[ExaminedMachine]:
    """The machines of which the sentence speaks: of the key that it names, where there is one."""
    key = answer.signer if answer else _bound(examined)
    own = [m for m in examined.machines if m.layout is not None and m.machine.key == key]
    return own if key is not None and own else examined.machines


def _machine_words(verified: Sequence[ExaminedMachine]) -> str:
    if not verified:
        return ""
    kinds = {
        "AMD SEV-SNP VM"
        if m.snp is not None
        else "Intel TDX VM"
        if m.cpu is not None and m.cpu.is_td
        else "Intel SGX enclave, which is no VM"
        for m in verified
    }
    return " and ".join(f"a genuine {kind}" for kind in sorted(kinds))


def _bound(examined: Examined) -> SigningKey | None:
    roles = {
        m.machine.role: m.machine.key
        for m in examined.machines
        if m.layout is not None and m.machine.key is not None
    }
    return roles.get("model") or roles.get("gateway")


def _references(findings: Sequence[Finding]) -> str:
    names = [f.got for f in findings if f.id == "code.identity" and f.got]
    return ", ".join(dict.fromkeys(names))


def _warned(findings: Sequence[Finding], check_id: str) -> Finding | None:
    return next((f for f in findings if f.id == check_id and f.severity is Severity.WARNS), None)


def _reservations(findings: Sequence[Finding], policy: Policy, scope: Scope) -> str:
    """What keeps it from 'Verified', the weightiest first."""
    reasons = []
    if scope == "evidence":
        proven = {f.id for f in findings if f.outcome is Outcome.PROVEN}
        shown = {f.id for f in findings}
        answered = "azure.nonce" in proven or (
            "gpu.nonce" in proven and "freshness.nonce" not in shown
        )
        lacking = "no key or answer" if answered else "nothing: no nonce, key or answer"
        reasons.append(f"tied to {lacking} of yours")
        device = _warned(findings, "gpu.device")
        if device is not None and device.outcome is Outcome.ABSENT:
            reasons.append("in an unknown mode: the measurements were compared with nothing")
        elif device is not None:
            reasons.append("that the firmware is NVIDIA's is the word of its service (NRAS)")
        revoked = _warned(findings, "gpu.revocation")
        if revoked is not None and revoked.outcome is Outcome.ABSENT:
            reasons.append("whether the devices' certificates were revoked is not known")
    code = _warned(findings, "code.identity")
    if code is not None:
        reasons.append(_code_reason(code))
    if not policy["gpu.required"]:
        reasons.append("your policy wants no GPU (gpu.required = false)")
    for check_id in _TOLD:
        found = _warned(findings, check_id)
        # What rests on the recorder's time is said with that time.
        if found is not None and not _by_recorder(found):
            reasons.append(_lower(found.message))
    reasons += _said_by_others(findings, scope)
    if not reasons:
        first = next((f for f in findings if f.severity is not Severity.INFORMS), None)
        reasons.append(_lower(first.message) if first else "not all that 'strict' asks was shown")
    return "; ".join(reasons)


def _by_recorder(finding: Finding) -> bool:
    return finding.outcome is Outcome.ASSERTED and finding.by == "the recorder"


def _said_by_others(findings: Sequence[Finding], scope: Scope) -> list[str]:
    """What is only somebody's word, or was not shown."""
    reasons = []
    recorded = _recorded(findings)
    if recorded:
        reasons.append(f"{recorded} {'are' if ' and ' in recorded else 'is'} the recorder's word")
    firmware = _warned(findings, "gpu.measurements")
    if firmware is not None and "NRAS" not in recorded:
        reasons.append(_REASONS["gpu.measurements"])
    if _warned(findings, "freshness.nonce") and "nonce" not in recorded:
        reasons.append("no nonce of yours shows when the evidence was made")
    bound = next((f for f in findings if f.id == "endpoint.bound"), None)
    if scope == "endpoint" and bound is not None and bound.outcome is Outcome.ABSENT:
        unsigned = any(f.id == "answer.unsigned" for f in findings)
        counts = (
            "only a connection to its keys counts, for answers carry no signature"
            if unsigned
            else "only answers signed by its key count"
        )
        reasons.append(f"nothing shows that the endpoint is this machine, so {counts}")
    if scope == "answer" and _warned(findings, "request.bound"):
        holder = any(f.id == "receipt.time" for f in findings)
        reasons.append(_request_reason(findings, "holder" if holder else "endpoint"))
    return reasons


def _accepted(examined: Examined) -> str:
    """A status that is not up to date, which a policy on top of ``strict`` lists by name."""
    named = sorted(
        {m.cpu.tcb_status.value for m in examined.machines if m.cpu is not None} - {"UpToDate"}
    )
    return f", on firmware whose status you accept by name ({', '.join(named)})" if named else ""


def _lower(message: str) -> str:
    """A sentence as a clause; a word like NVIDIA or OCSP keeps its capitals."""
    starts_plain = message[1:2].islower() or message[1:2] == " "
    head = message[:1].lower() if starts_plain else message[:1]
    return head + message[1:].rstrip(".")


def _code_reason(finding: Finding) -> str:
    if finding.outcome is Outcome.ABSENT and not finding.message.startswith("Only"):
        return "you have not said which code you expect, so none was compared"
    return _lower(finding.message)


def _request_reason(findings: Sequence[Finding], by: str) -> str:
    found = next(f for f in findings if f.id == "request.bound")
    if found.outcome is Outcome.ABSENT:
        return "the request was not given, so nothing shows what was asked"
    return f"that the request was this one is the {by}'s word"


def _recorded(findings: Sequence[Finding]) -> str:
    """Which of time, nonce and NRAS answer only the recorder vouches for."""
    things = []
    for check_id, name in (
        ("time", "the time"),
        ("freshness.nonce", "the nonce"),
        ("gpu.measurements", "NVIDIA's answer about the GPUs' firmware (NRAS)"),
    ):
        found = _warned(findings, check_id)
        if found is not None and "recorder" in (found.by or ""):
            things.append(name)
    return ", ".join(things[:-1]) + " and " + things[-1] if len(things) > 1 else "".join(things)


def _readers(findings: Sequence[Finding], scope: Scope) -> str:
    """Who else could read the prompt, unless that was shown to be nobody."""
    outcomes = {
        row: {f.outcome for f in findings if f.id == row}
        for row in ("endpoint.bound", "confidential.request", "confidential.answer")
    }
    if scope == "evidence":
        return ""
    encrypted = Outcome.PROVEN in outcomes["confidential.request"]
    if encrypted and Outcome.ABSENT in outcomes["confidential.answer"]:
        return " The request was encrypted; whoever passed it on could have read the answer."
    if encrypted or Outcome.PROVEN in outcomes["endpoint.bound"]:
        return ""
    return " Whoever ends the TLS connection could read the request."


def _unknown_code(findings: Sequence[Finding]) -> str:
    code = _warned(findings, "code.identity")
    if code is None or code.outcome is not Outcome.ABSENT:
        return ""
    return " Whatever runs inside, honest or not, would look the same here."
