"""The terminal's face: line 1, the twelve claims, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from teeverify.appraisal import AttestationResult, Finding
from teeverify.appraisal.result import Claim
from teeverify.clock import show_time
from teeverify.encoding.checks import Check, Problem
from teeverify.encoding.text import counted
from teeverify.errors import EXIT_UNDECIDED, EXIT_WRONG
from teeverify.render.escape import printable
from teeverify.render.words import (
    FANCY,
    PLAIN,
    claim_state,
    ends,
    finding_state,
    reservations,
)

__all__ = [
    "WIDTH",
    "render_check",
    "render_finding",
    "render_problem",
    "render_result",
    "render_table",
    "wrap",
]

# Columns where nobody says how many there are, and the least for a text beside an indent.
WIDTH = 100
_LEAST = 24
_INNER = " " * 12
_COLOUR = {"good": "32", "asserted": "33", "warned": "33", "bad": "31", "none": "2"}


def render_result(
    result: AttestationResult,
    *,
    everything: bool = False,
    colour: bool = False,
    width: int = WIDTH,
) -> str:
    """Draw a result.

    Args:
        result: What to draw.
        everything: List every finding (``--all``).
        colour: Colours and symbols; otherwise plain ASCII signs.
        width: Columns of the terminal.
    """
    lines = [*wrap(result.summary, width), *_dates(result, width), ""]
    focus = _focus(result)
    for name, claim in result.claims.items():
        if focus and name not in focus and not everything:
            continue
        findings = [f for f in result.findings if f.claim == name]
        lines += _claim(claim, findings, colour=colour, width=width)
        shown = findings if everything else [f for f in findings if f.exit_code]
        lines += [render_finding(one, colour=colour, width=width) for one in _once_a_finding(shown)]
    lines += ["", *wrap(_footer(result, focus, everything=everything), width)]
    return "\n".join(lines)


def wrap(text: str, width: int = WIDTH, *, first: str = "", indent: str = "") -> list[str]:
    """Cut a text into lines, with nothing in it that steers a terminal.

    Args:
        text: The text; any may be in it.
        width: Columns of the terminal.
        first: What stands before the first line.
        indent: What stands before the others.
    """
    return textwrap.wrap(
        printable(text),
        max(width, len(indent) + _LEAST),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first]


def _dates(result: AttestationResult, width: int) -> list[str]:
    until = ""
    if result.satisfied and result.expires_at is not None and ends(result.expires_at):
        until = f", valid until {show_time(result.expires_at)}"
    policy = f"policy {printable(result.policy.name)} {result.policy.hash[:12]}"
    lines = wrap(f"As of {show_time(result.as_of)}{until}; {policy}.", width)
    if result.receipt is not None:
        lines += wrap(result.receipt.sentence, width)
    return lines


def _focus(result: AttestationResult) -> set[str]:
    """On a plain refusal the failed claims alone matter; elsewhere all twelve are shown."""
    if result.exit_code not in (EXIT_WRONG, EXIT_UNDECIDED):
        return set()
    return {f.claim for f in result.findings if f.exit_code == result.exit_code}


def _sign(state: str, *, colour: bool) -> str:
    if not colour:
        return f"{PLAIN[state]:<2}"
    return f"\x1b[{_COLOUR[state]}m{FANCY[state]}\x1b[0m"


def _claim(claim: Claim, findings: Sequence[Finding], *, colour: bool, width: int) -> list[str]:
    state = claim_state(claim, findings)
    sign = _sign(state, colour=colour)
    head = f"  {sign} {claim.name:<13} {claim.outcome.value:<9} "
    by = f" (by {claim.by})" if claim.by else ""
    indent = " " * (len("  OK ") + 24)
    first, *others = wrap(claim.text + by, width, first=indent, indent=indent)
    lines = [head + first[len(indent) :], *others]
    if state == "warned":
        for message in reservations(findings):
            lines += wrap(message, width, first=f"{indent}but: ", indent=indent)
    return lines


def _once_a_finding(findings: Sequence[Finding]) -> list[Finding]:
    """What holds of several parts alike is told once, and names them all."""
    parts: dict[Finding, list[str]] = {}
    for finding in findings:
        parts.setdefault(replace(finding, subject=""), []).append(finding.subject)
    return [
        replace(finding, subject=", ".join(filter(None, dict.fromkeys(subjects))))
        for finding, subjects in parts.items()
    ]


def render_finding(finding: Finding, *, colour: bool = False, width: int = WIDTH) -> str:
    """Draw one finding, in one or a few lines.

    Args:
        finding: What to draw.
        colour: Colours and symbols; otherwise plain ASCII signs.
        width: Columns of the terminal; what was found and wanted is not cut into lines.
    """
    subject = f" [{printable(finding.subject)}]" if finding.subject else ""
    sign = _sign(finding_state(finding), colour=colour)
    lines = [
        f"       {sign} {finding.id}{subject} {finding.outcome.value}, {finding.severity.value}",
        *wrap(finding.message, width, first=_INNER, indent=_INNER),
    ]
    for name, value in (("got", finding.got), ("want", finding.want), ("by", finding.by)):
        if value is not None:
            lines.append(f"{_INNER}{name:<5}{printable(value, limit=160)}")
    if finding.hint is not None:
        lines += wrap(finding.hint, width, first=f"{_INNER}do   ", indent=f"{_INNER}     ")
    return "\n".join(lines)


def _footer(result: AttestationResult, focus: set[str], *, everything: bool) -> str:
    worst = next((f for f in result.findings if f.exit_code == result.exit_code != 0), None)
    about = worst.id if worst else "gpu_link"
    explain = f"`teeverify explain {about}` says what a line means."
    count = counted(len(result.findings), "check")
    if everything:
        return f"{count}. {explain}"
    if focus:
        others = 12 - len(focus)
        return f"The other claims ({others}) change nothing about that: --all shows them. {explain}"
    return f"{count}. --all lists them; {explain}"


def render_table(rows: Sequence[tuple[str, int, str]], *, width: int = WIDTH) -> str:
    """Draw many verdicts: source, exit code, first sentence.

    Args:
        rows: One for each source.
        width: Columns of the terminal.
    """
    longest = max((len(name) for name, _, _ in rows), default=0)
    lines = []
    for name, code, summary in rows:
        first, *others = wrap(summary, width - 6)
        lines.append(f"{printable(name):<{longest}}  {code}  {first}")
        lines += [f"{'':<{longest}}     {line}" for line in others]
    return "\n".join(lines)


def render_problem(problem: Problem, *, width: int = WIDTH) -> str:
    """Draw what an error means (``teeverify explain``).

    Args:
        problem: What to draw.
        width: Columns of the terminal.
    """
    return _entry(problem.id, {"means": problem.means, "to do": problem.fix}, width)


def render_check(check: Check, *, width: int = WIDTH) -> str:
    """Draw what a check is (``teeverify explain``).

    Args:
        check: What to draw.
        width: Columns of the terminal.
    """
    facts = {"belongs to": check.claim, "proves": check.proves, "to do": check.fix}
    return _entry(check.id, facts, width)


def _entry(title: str, facts: Mapping[str, str], width: int) -> str:
    lines = [title]
    for name, text in facts.items():
        lines += wrap(text, width, first=f"  {name:<12}", indent=" " * 14)
    return "\n".join(lines)
