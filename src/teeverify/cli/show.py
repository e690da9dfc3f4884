"""``teeverify show`` and ``teeverify diff``."""

from __future__ import annotations

import argparse
import sys

from teeverify.appraisal import AttestationResult
from teeverify.appraisal.evidence import Evidence
from teeverify.cli.faces import summary_of, width_of
from teeverify.cli.flags import add_dialect, add_endorsements_path, add_policy, add_test_roots
from teeverify.cli.verify import appraised, verifier_of
from teeverify.client.sources import load_evidence
from teeverify.clock import show_time
from teeverify.encoding.text import counted
from teeverify.errors import EXIT_SATISFIED, WORST_FIRST
from teeverify.render import differences, printable, render_difference, wrap

__all__ = ["add_diff", "add_show", "diff", "show"]


def add_show(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("source", metavar="SOURCE", help="a file or a recorded directory")
    add_dialect(parser)


def show(options: argparse.Namespace) -> int:
    """Say what a source holds, and that nothing of it was verified.

    Raises:
        ConfigurationError: It is not there.
        MalformedEvidence: It has no known form.
    """
    evidence = load_evidence(options.source, dialect=options.dialect)
    print(printable(evidence.source) + ": nothing here was verified")
    for part in evidence.parts:
        print(f"  {printable(part)}")
    for line in _of_receipt(evidence):
        print(f"  {printable(line)}")
    return EXIT_SATISFIED


def _of_receipt(evidence: Evidence) -> list[str]:
    held = evidence.held
    if held is None:
        return []
    query = f"openssl ts -query -sha256 -cert -digest {held.digest.hex()} -out q.tsq"
    return [
        f"receipt id {held.digest.hex()}",
        f"made at {show_time(held.stated)}, says its holder",
        f"{counted(len(held.timestamps), 'timestamp')}; to ask for one: {query}",
    ]


def add_diff(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("one", metavar="A", help="a file or a recorded directory")
    parser.add_argument("two", metavar="B", help="another")
    add_policy(parser)
    add_endorsements_path(parser)
    add_test_roots(parser)


def diff(options: argparse.Namespace) -> int:
    """Verify two sources, and say what differs. The exit code is the worse of both verdicts.

    Raises:
        ConfigurationError: A source that is not there.
    """
    verifier = verifier_of(options)
    outcomes = [appraised(verifier, source) for source in (options.one, options.two)]
    for sign, outcome in zip("-+", outcomes, strict=True):
        print("\n".join(wrap(f"{sign} {summary_of(outcome)}", width_of(sys.stdout))))
    results = [each for each in outcomes if isinstance(each, AttestationResult)]
    if len(results) == len(outcomes):
        print()
        print(render_difference(differences(*results), options.one, options.two))
    codes = {outcome.exit_code for outcome in outcomes}
    return next(code for code in WORST_FIRST if code in codes)
