"""The terminal's face: line 1, the twelve claims, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from teeverify.appraisal import AttestationResult, Finding
from teeverify.appraisal.result import Claim
from teeverify.clock import show_time
from teeverify.encoding.checks import Check, Problem
from teeverify.errors import EXIT_UNDECIDED, EXIT_WRONG
from teeverify.render.escape import printable
from teeverify.render.words import FANCY, PLAIN, claim_state, ends, finding_state

__all__ = [
    "render_check",
    "render_finding",
    "render_problem",
    "render_result",
    "render_table",
    "wrap",
]

_WIDTH = 100
_COLOUR = {"good": "32", "asserted": "33", "warned": "33", "bad": "31", "none": "2"}


def render_result(
    result: AttestationResult, *, everything: bool = False, colour: bool = False
) -> str:
    """Draw a result.

    Args:
        result: What to draw.
        everything: List every finding (``--all``).
        colour: Colours and symbols; otherwise plain ASCII signs.
    """
    lines = [*wrap(result.summary), *_dates(result), ""]
    focus = _focus(result)
    for name, claim in result.claims.items():
        if focus and name not in focus and not everything:
            continue
        findings = [f for f in result.findings if f.claim == name]
        lines += _claim(claim, findings, colour=colour)
        shown = findings if everything else [f for f in findings if f.exit_code]
        lines += _unique(_lines(shown, colour=colour))
    lines += ["", _footer(result, focus, everything=everything)]
    return "\n".join(lines)


def wrap(text: str) -> list[str]:
    """Cut a text into lines of the terminal's width, with nothing in it that steers a terminal."""
    return textwrap.wrap(printable(text), _WIDTH, break_long_words=False) or [""]


def _dates(result: AttestationResult) -> list[str]:
    until = ""
    if result.satisfied and result.expires_at is not None and ends(result.expires_at):
        until = f", valid until {show_time(result.expires_at)}"
    policy = f"policy {printable(result.policy.name)} {result.policy.hash[:12]}"
    lines = [f"As of {show_time(result.as_of)}{until}; {policy}."]
    if result.receipt is not None:
        lines += wrap(result.receipt.sentence)
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


def _claim(claim: Claim, findings: Sequence[Finding], *, colour: bool) -> list[str]:
    sign = _sign(claim_state(claim, findings), colour=colour)
    head = f"  {sign} {claim.name:<13} {claim.outcome.value:<9} "
    indent = " " * (len("  OK ") + 24)
    text = printable(claim.text)
    by = f" (by {printable(claim.by)})" if claim.by else ""
    wrapped = textwrap.wrap(text + by, _WIDTH - len(indent), break_long_words=False) or [""]
    return [head + wrapped[0], *(indent + line for line in wrapped[1:])]


def _lines(findings: Iterable[Finding], *, colour: bool) -> Iterable[str]:
    for finding in findings:
        yield render_finding(finding, colour=colour)


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def render_finding(finding: Finding, *, colour: bool = False) -> str:
    """Draw one finding, in one or a few lines."""
    state = finding_state(finding)
    subject = f" [{printable(finding.subject)}]" if finding.subject else ""
    sign = _sign(state, colour=colour)
    known = f"{finding.outcome.value}, {finding.severity.value}"
    lines = [f"       {sign} {finding.id}{subject} {known}"]
    body = textwrap.wrap(printable(finding.message), _WIDTH - 12, break_long_words=False)
    lines += [f"            {line}" for line in body]
    facts = (("got", finding.got), ("want", finding.want), ("by", finding.by), ("do", finding.hint))
    for name, value in facts:
        if value is not None:
            lines.append(f"            {name:<5}{printable(value, limit=160)}")
    return "\n".join(lines)


def _footer(result: AttestationResult, focus: set[str], *, everything: bool) -> str:
    worst = next((f for f in result.findings if f.exit_code == result.exit_code != 0), None)
    about = worst.id if worst else "gpu_link"
    explain = f"`teeverify explain {about}` says what a line means."
    count = f"{len(result.findings)} checks"
    if everything:
        return f"{count}. {explain}"
    if focus:
        others = 12 - len(focus)
        return f"The other {others} claims change nothing about that: --all shows them. {explain}"
    return f"{count}. --all lists them; {explain}"


def render_table(rows: Sequence[tuple[str, int, str]]) -> str:
    """Draw many verdicts: source, exit code, first sentence."""
    width = max((len(name) for name, _, _ in rows), default=0)
    lines = []
    for name, code, summary in rows:
        first, *rest = textwrap.wrap(printable(summary), _WIDTH - 6, break_long_words=False)
        lines.append(f"{printable(name):<{width}}  {code}  {first}")
        lines += [f"{'':<{width}}     {line}" for line in rest]
    return "\n".join(lines)


def render_problem(problem: Problem) -> str:
    """Draw what an error means (``teeverify explain``)."""
    return "\n".join(
        [
            problem.id,
            *textwrap.wrap(f"  means       {problem.means}", _WIDTH, subsequent_indent=" " * 14),
            *textwrap.wrap(f"  to do       {problem.fix}", _WIDTH, subsequent_indent=" " * 14),
        ]
    )


def render_check(check: Check) -> str:
    """Draw what a check is (``teeverify explain``)."""
    return "\n".join(
        [
            check.id,
            f"  belongs to  {check.claim}",
            *textwrap.wrap(f"  proves      {check.proves}", _WIDTH, subsequent_indent=" " * 14),
            *textwrap.wrap(f"  to do       {check.fix}", _WIDTH, subsequent_indent=" " * 14),
        ]
    )
