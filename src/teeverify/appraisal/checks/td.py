"""The TD's own registers, its features, its platform's configuration, and how new Intel's data is.

The lists are the user's: an empty one asks nothing, and is reported as such, never as met.
"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify import tdx
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.errors import AppraisalFailed, EndorsementUnavailable, TeeVerifyError

__all__ = ["EVALUATION_NUMBER_FLOOR", "configuration", "evaluation_number", "measurements", "xfam"]

EVALUATION_NUMBER_FLOOR = 19
"""Intel's data sets below this number were replaced before this version was made.

A set becomes the standard one a year after its TCB recovery was made public, and older ones are
then withdrawn (PCS answers 410 for them). Set 19 is of the recovery of 2025-05-13, says Intel's
signed list of 2025-05-27 (``tcbevaluationdatanumbers``), so it was the standard one from 2026-05
on; issue 4169 of the public repository near/mpc records that Intel went on from 19 to 20 on
2026-08-13 "for several FMSPCs". That this holds for all is not recorded, so the floor is not 20;
whoever is online compares with Intel's own list (``tdx.newest_standard``).
"""

REGISTERS = (
    "mr_td",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "rtmr3",
    "mr_seam",
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
)
# Intel TDX module specification, XFAM: x87 and SSE are always on; what the module can switch on.
_XFAM_FIXED_1 = 0x3
_XFAM_ALLOWED = 0x6DBE7


def _machines(subject: Subject) -> Iterator[tuple[tdx.Claims, str]]:
    for machine in subject.machines:
        if machine.cpu is not None and machine.cpu.is_td:
            yield machine.cpu, machine.machine.label


def measurements(subject: Subject) -> Iterator[Observation]:
    """Hold single registers against the policy's lists of accepted values."""
    check = "tdx.measurements"
    wanted = {
        name: {value.lower() for value in subject.policy[f"tdx.{name}"]}
        for name in REGISTERS
        if subject.policy[f"tdx.{name}"]
    }
    for cpu, label in _machines(subject):
        if not wanted:
            text = "Your policy lists no values of single registers."
            yield Observation.absent(check, text, subject=label)
            continue
        seen = {name: getattr(cpu.td, name).hex() for name in wanted}
        different = [name for name, value in seen.items() if value not in wanted[name]]
        if not different:
            text = f"Listed by your policy: {', '.join(wanted)}."
            yield Observation.proven(check, text, subject=label)
            continue
        first = different[0]
        yield Observation.failed(
            AppraisalFailed(
                f"not among the values that your policy lists: {', '.join(different)}",
                id=check,
                got=f"{first} {seen[first]}",
                want=f"one of {len(wanted[first])} values of tdx.{first}",
                hint="Compare with what the operator published; do not list it blindly.",
            ),
            subject=label,
            hard=True,
        )


def xfam(subject: Subject) -> Iterator[Observation]:
    """Demand a possible XFAM and, where the policy lists values, one of those."""
    check = "tdx.xfam"
    listed = {value.lower() for value in subject.policy["tdx.xfam"]}
    for cpu, label in _machines(subject):
        raw = cpu.td.xfam
        value = int.from_bytes(raw, "little")
        possible = value & _XFAM_FIXED_1 == _XFAM_FIXED_1 and not value & ~_XFAM_ALLOWED
        if possible and (not listed or raw.hex() in listed):
            text = "The TD's extended features are ones that the TDX module defines."
            if listed:
                text = "The TD's extended features are listed by your policy."
            yield Observation.proven(check, text, subject=label, got=raw.hex())
            continue
        yield Observation.failed(
            AppraisalFailed(
                "the TD's extended features are not ones that your policy lists"
                if possible
                else "the TD's extended features are not ones that the TDX module defines",
                id=check,
                got=raw.hex(),
                want="one of tdx.xfam" if possible else "bits of 0x6dbe7, bits 0 and 1 set",
            ),
            subject=label,
        )


def configuration(subject: Subject) -> Iterator[Observation]:
    """Refuse what Intel certifies of the platform, where the policy lists it."""
    check = "tdx.platform-configuration"
    for cpu, label in _machines(subject):
        flags = {
            "dynamic_platform": cpu.dynamic_platform,
            "cached_keys": cpu.cached_keys,
            "smt": cpu.smt_enabled,
        }
        shown = ", ".join(f"{name} {_word(flag)}" for name, flag in flags.items())
        # What Intel does not say may be so.
        refused = [
            name for name in subject.policy["tdx.configuration_refused"] if flags[name] is not False
        ]
        if refused:
            yield Observation.failed(
                AppraisalFailed(
                    f"the platform's configuration is one that you refuse: {', '.join(refused)}",
                    id=check,
                    got=shown,
                    hint="Only its operator can configure and register the platform anew.",
                ),
                subject=label,
            )
        else:
            text = f"Intel certifies the platform's configuration: {shown}."
            yield Observation.proven(check, text, subject=label, got=shown)


def _word(flag: bool | None) -> str:  # noqa: FBT001 -- it is what is put into words
    return "not stated" if flag is None else "yes" if flag else "no"


def evaluation_number(subject: Subject) -> Iterator[Observation]:
    """Compare the number of Intel's data set with the least one; the floor counts only now."""
    check = "tcb.evaluation-number"
    question = subject.examined.question
    for cpu, label in _machines(subject):
        number = cpu.tcb_evaluation_data_number
        floor = 0
        if question.at_by == "now" and cpu.roots_kind == "embedded":
            floor = EVALUATION_NUMBER_FLOOR
        least = max(subject.policy["tdx.min_evaluation_number"], floor)
        listed = subject.examined.data_sets
        if isinstance(listed, tdx.EvaluationClaims) and subject.policy["tdx.newest_standard"]:
            least = max(least, listed.standard)
        problem = _list_problem(subject)
        if problem is not None:
            yield Observation.failed(problem, subject=label)
            continue
        older = [
            f"{name.partition('/')[2]} {seen}, was {question.remembered[name]}"
            for name, seen in cpu.counters.items()
            if seen < question.remembered.get(name, seen)
        ]
        if older:
            yield Observation.failed(
                AppraisalFailed(
                    "Intel's data is older than what was seen here before: somebody may be "
                    "hiding what is known since",
                    id=check,
                    got=", ".join(older),
                    hint="Fetch it anew; if the machine's cache is wrong, remove its counters.",
                ),
                subject=label,
            )
        elif number < least:
            yield Observation.failed(
                AppraisalFailed(
                    "Intel's data about this platform is of an old set: newer vulnerabilities "
                    "do not count in it",
                    id=check,
                    got=str(number),
                    want=f"at least {least}",
                    hint="Fetch Intel's newest set (its option update=early), or the standard one.",
                ),
                subject=label,
            )
        else:
            text = f"Intel's data set number {number}."
            if least:
                text = f"Intel's data set number {number} is at least {least}."
            yield Observation.proven(check, text, subject=label, got=str(number))


def _list_problem(subject: Subject) -> TeeVerifyError | None:
    """Why Intel's list of data sets cannot be compared with, where it must be."""
    listed = subject.examined.data_sets
    needed = subject.policy["tdx.newest_standard"] and subject.examined.question.online
    if isinstance(listed, TeeVerifyError) and (needed or not listed.retryable):
        return listed
    if listed is None and needed:
        return EndorsementUnavailable(
            "Intel's list of data sets could not be had, so whether this one is the standard of "
            "today is not known",
            id="tcb.evaluation-number",
            hint="Try again, or set tdx.newest_standard = false in your policy.",
        )
    return None
