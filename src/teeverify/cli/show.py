"""``teeverify show`` and ``teeverify diff``."""

from __future__ import annotations

import argparse

from teeverify.appraisal.evidence import Evidence
from teeverify.cli.verify import verifier_of
from teeverify.client.sources import load_evidence
from teeverify.clock import show_time
from teeverify.errors import EXIT_POLICY, EXIT_SATISFIED, EXIT_UNDECIDED, EXIT_WRONG
from teeverify.render import differences, printable, render_difference
from teeverify.render.terminal import wrap

__all__ = ["add_diff", "diff", "show"]

_WORST_FIRST = (EXIT_WRONG, EXIT_UNDECIDED, EXIT_POLICY, EXIT_SATISFIED)


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
        f"{len(held.timestamps)} timestamps; to ask for one: {query}",
    ]


def add_diff(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("one", metavar="A")
    parser.add_argument("two", metavar="B")
    parser.add_argument("--policy", default="genuine", metavar="genuine|strict|F.toml")
    parser.add_argument("--endorsements", action="append", default=[], metavar="PATH")
    parser.add_argument("--unsafe-test-roots", metavar="F")


def diff(options: argparse.Namespace) -> int:
    """Verify two sources, and say what differs. The exit code is the worse of both verdicts.

    Raises:
        ConfigurationError: A source that is not there.
        MalformedEvidence: A source that has no known form.
    """
    verifier = verifier_of(options)
    results = [verifier.appraise(source) for source in (options.one, options.two)]
    for sign, result in zip("-+", results, strict=True):
        print("\n".join(wrap(f"{sign} {result.summary}")))
    print()
    print(render_difference(differences(*results), options.one, options.two))
    codes = {result.exit_code for result in results}
    return next(code for code in _WORST_FIRST if code in codes)
