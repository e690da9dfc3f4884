"""``teeverify explain``: what a claim, a check, an error or a fault means."""

from __future__ import annotations

import argparse

from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.checks.problems import PROBLEMS
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.errors import EXIT_SATISFIED, ConfigurationError
from teeverify.render.terminal import render_check, render_problem
from teeverify.testing import FAULTS

__all__ = ["explain"]


def explain(options: argparse.Namespace) -> int:
    """Say what an id means.

    Raises:
        ConfigurationError: There is no such id.
    """
    wanted = options.id
    found: list[str] = []
    if wanted in CLAIM_QUESTIONS:
        found.append(f"{wanted}: {CLAIM_QUESTIONS[wanted]}")
        found += [render_check(check) for check in CATALOG.values() if check.claim == wanted]
    if wanted in CATALOG:
        found.append(render_check(CATALOG[wanted]))
    if wanted in PROBLEMS:
        found.append(render_problem(PROBLEMS[wanted]))
    if wanted in FAULTS:
        found.append(_fault(wanted))
    if not found:
        raise ConfigurationError(
            "there is no such claim, check, error or fault",
            id="usage.explain",
            got=wanted[:80],
            want=f"a claim ({', '.join(CLAIM_QUESTIONS)}), or an id out of a verdict or an error",
        )
    print("\n\n".join(found))
    return EXIT_SATISFIED


def _fault(name: str) -> str:
    fault = FAULTS[name]
    return (
        f"{name}\n"
        "  is a fault that a simulated server can have: "
        f"teeverify serve --simulated --fault {name}\n"
        f"  a client refuses it with {fault.exception} [{fault.finding}]\n\n"
        f"{render_check(CATALOG[fault.finding])}"
    )
