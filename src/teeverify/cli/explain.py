"""``teeverify explain``: what an id means, and what it came to in one source."""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys

from teeverify import errors
from teeverify.appraisal import AttestationResult
from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.checks.problems import PROBLEMS
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.cli.faces import width_of
from teeverify.cli.flags import add_policy, add_recorded, add_test_roots
from teeverify.cli.verify import verifier_of
from teeverify.encoding.checks import Problem
from teeverify.errors import EXIT_SATISFIED, ConfigurationError
from teeverify.render import render_check, render_finding, render_problem, wrap
from teeverify.testing import FAULTS

__all__ = ["add_explain", "explain"]

_MOST_SUGGESTED = 5


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument(
        "id", metavar="ID", help="for example gpu_link, code.identity, EndorsementUnavailable"
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a receipt, recording or file, verified offline: also say what was found there; the "
        "exit code is then its verdict's",
    )
    add_policy(parser)
    add_recorded(parser)
    add_test_roots(parser)


def explain(options: argparse.Namespace) -> int:
    """Say what an id means, and what was found in a source if one is given.

    Raises:
        ConfigurationError: There is no such id, or no such source.
        MalformedEvidence: The source has no known form.
    """
    wanted, width = options.id.strip("[]"), width_of(sys.stdout)  # brackets: as errors write it
    meanings = _meanings(wanted, width)
    if not meanings:
        raise ConfigurationError(
            "there is no such claim, check, error or fault",
            id="usage.explain",
            got=wanted[:80],
            want=_nearest(wanted),
        )
    if options.source is None:
        print("\n\n".join(meanings))
        return EXIT_SATISFIED
    result = verifier_of(options).appraise(
        options.source, at=options.at, nonce=options.nonce, dialect=options.dialect
    )
    print("\n\n".join([_found(result, wanted, width), *meanings]))
    return result.exit_code


def _meanings(wanted: str, width: int) -> list[str]:
    """Everything that has this name."""
    found: list[str] = []
    if wanted in CLAIM_QUESTIONS:
        checks = [check for check in CATALOG.values() if check.claim == wanted]
        found.append(f"{wanted}: {CLAIM_QUESTIONS[wanted]}")
        found += [render_check(check, width=width) for check in checks]
    if wanted in CATALOG:
        found.append(render_check(CATALOG[wanted], width=width))
    if wanted in PROBLEMS:
        found.append(render_problem(PROBLEMS[wanted], width=width))
    if wanted in FAULTS:
        found.append(_fault(wanted, width))
    if wanted in errors.__all__:
        found.append(_error(wanted, width))
    return found


def _found(result: AttestationResult, wanted: str, width: int) -> str:
    """The verdict of a source, and what was found there under this name."""
    findings = [each for each in result.findings if wanted in (each.id, each.claim)]
    lines = [*wrap(result.summary, width), ""]
    lines += [render_finding(finding, width=width) for finding in findings]
    if not findings:
        lines.append(f"Nothing was found there about {wanted}: it did not come to that.")
    return "\n".join(lines)


def _fault(name: str, width: int) -> str:
    fault = FAULTS[name]
    return (
        f"{name}\n"
        "  is a fault that a simulated server can have: "
        f"teeverify serve --simulated --fault {name}\n"
        f"  a client refuses it with {fault.exception} [{fault.finding}]\n\n"
        f"{render_check(CATALOG[fault.finding], width=width)}"
    )


def _error(name: str, width: int) -> str:
    """What all errors of a class have in common."""
    kind = getattr(errors, name)
    again = "it may be tried again" if kind.retryable else "trying again cannot help"
    means = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    fix = "Look up the id in brackets at the error's end: teeverify explain ID"
    head = f"{name}, exit code {kind.exit_code}: {again}"
    return render_problem(Problem(id=head, means=" ".join(means.split()), fix=fix), width=width)


def _nearest(wanted: str) -> str:
    """The nearest names; where none is near, what kinds of names there are."""
    every = [*CLAIM_QUESTIONS, *CATALOG, *PROBLEMS, *FAULTS, *errors.__all__]
    names = {name.lower(): name for name in every}
    asked = wanted.lower()
    near = difflib.get_close_matches(asked, names, n=3)
    near += [name for name in names if asked and asked in name]
    found = list(dict.fromkeys(names[name] for name in near))[:_MOST_SUGGESTED]
    if found:
        return " or ".join(found)
    return f"a claim ({', '.join(CLAIM_QUESTIONS)}), or an id out of a verdict or an error"
