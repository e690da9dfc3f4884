"""``teeverify policy``: show a policy in full, check a file, or write one from what is seen."""

from __future__ import annotations

import argparse

from teeverify.appraisal import Policy, ReferenceValues
from teeverify.cli.flags import add_recorded, add_test_roots
from teeverify.cli.release import add_release, release
from teeverify.cli.verify import verifier_of
from teeverify.clock import now
from teeverify.encoding.text import counted
from teeverify.errors import EXIT_SATISFIED
from teeverify.render import printable

__all__ = ["add_policy_verbs", "policy"]


def add_policy_verbs(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print every effective value, as TOML")
    show.add_argument(
        "policy",
        nargs="?",
        default="genuine",
        metavar="genuine|strict|F.toml",
        help="a preset, or a file of yours; default: genuine",
    )
    check = verbs.add_parser("check", help="say whether a policy file is one, and its hash")
    check.add_argument("policy", metavar="F.toml", help="a file of yours")
    add_release(
        verbs.add_parser("release", help="print a policy that expects the code of a signed release")
    )
    pin = verbs.add_parser(
        "pin",
        help="print a policy that expects the code of a source",
        description="Print a policy that expects the code of a source that satisfies 'genuine'. "
        "Of an endpoint the code is remembered too, and other code is refused from then on.",
    )
    pin.add_argument("source", metavar="SOURCE", help="a recording, or the URL of an endpoint")
    pin.add_argument("--model", metavar="M", help="of an endpoint: the model that you will ask")
    add_recorded(pin)
    add_test_roots(pin)


def policy(options: argparse.Namespace) -> int:
    """Run one of the verbs."""
    if options.verb == "pin":
        return _pin(options)
    if options.verb == "release":
        return release(options)
    chosen = Policy.of(options.policy)
    if options.verb == "check":
        print(
            f"{printable(chosen.name)} is a policy: extends {chosen.extends}, "
            f"{counted(len(chosen.references.entries), 'code reference')}, hash {chosen.hash}"
        )
        return EXIT_SATISFIED
    print(f"# {printable(chosen.name)}, hash {chosen.hash}")
    print(chosen.to_toml(), end="")
    return EXIT_SATISFIED


def _pin(options: argparse.Namespace) -> int:
    """Write down the code of a source that is genuine; that is no review of it.

    Of an endpoint it is remembered too: from now on other code than this is refused there.
    """
    result = verifier_of(options, accepts=True).verify(
        options.source,
        at=options.at,
        nonce=options.nonce,
        dialect=options.dialect,
        model=options.model,
    )
    seen = ReferenceValues.pin(result.identities, seen=f"{now():%Y-%m-%d}")
    if result.simulated:
        print("# SIMULATED: this is the code of a simulated machine.")
    print("# Pinned from what was seen, which proves nothing about the code.")
    print("# A verdict stays a warning until reviewed_by says who looked at it.")
    print('extends = "genuine"')
    print(seen.to_toml(), end="")
    return EXIT_SATISFIED
