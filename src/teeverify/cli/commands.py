"""What each command does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from teeverify.appraisal import Policy, ReferenceValues
from teeverify.binding import PAIRS
from teeverify.cli.ask import ask
from teeverify.cli.bench import bench
from teeverify.cli.capture import capture
from teeverify.cli.demo import demo
from teeverify.cli.doctor import doctor
from teeverify.cli.endorsements import endorsements
from teeverify.cli.explain import explain
from teeverify.cli.faces import use_colour
from teeverify.cli.measure import measure_command
from teeverify.cli.release import release
from teeverify.cli.serve import serve
from teeverify.cli.show import diff, show
from teeverify.cli.timestamp import timestamp
from teeverify.cli.verify import verifier_of, verify
from teeverify.clock import now
from teeverify.e2ee import METHODS
from teeverify.errors import (
    EXIT_SATISFIED,
)
from teeverify.providers import DIALECTS
from teeverify.render import printable

__all__ = ["COMMANDS"]


def _policy(options: argparse.Namespace) -> int:
    if options.verb == "pin":
        return _pin(options)
    if options.verb == "release":
        return release(options)
    policy = Policy.of(options.policy)
    if options.verb == "check":
        print(
            f"{printable(policy.name)} is a policy: extends {policy.extends}, "
            f"{len(policy.references.entries)} code references, hash {policy.hash}"
        )
        return EXIT_SATISFIED
    print(f"# {printable(policy.name)}, hash {policy.hash}")
    print(policy.to_toml(), end="")
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
        model=getattr(options, "model", None),
    )
    seen = ReferenceValues.pin(result.identities, seen=f"{now():%Y-%m-%d}")
    if result.simulated:
        print("# SIMULATED: this is the code of a simulated machine.")
    print("# Pinned from what was seen, which proves nothing about the code.")
    print("# A verdict stays a warning until reviewed_by says who looked at it.")
    print('extends = "genuine"')
    print(seen.to_toml(), end="")
    return EXIT_SATISFIED


def _providers(options: argparse.Namespace) -> int:
    """List every dialect with what it can and cannot prove."""
    del options
    for dialect in DIALECTS.values():
        hosts = ", ".join(dialect.hosts) or "named with --dialect only"
        live = "live and recorded" if dialect.live else "recorded only"
        layouts = ", ".join(PAIRS.get(dialect.id, ())) or "none"
        signs = dialect.form.signs if dialect.form is not None else "no answer"
        print(f"{dialect.id:<14} {hosts} ({live})\n    {dialect.text}")
        print(f"    report_data: {layouts}\n    signs: {signs}")
        if dialect.encryption:
            print(f"    encrypts: {METHODS[dialect.encryption].about}")
        for word, clauses in (("proves", dialect.proves), ("cannot prove", dialect.cannot)):
            for clause in clauses:
                print(f"    {word} {clause}")
    return EXIT_SATISFIED


def _demo(options: argparse.Namespace) -> int:
    del options
    return demo(sys.stdout, colour=use_colour(sys.stdout))


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "verify": verify,
    "ask": ask,
    "show": show,
    "diff": diff,
    "explain": explain,
    "policy": _policy,
    "serve": serve,
    "endorsements": endorsements,
    "measure": measure_command,
    "doctor": doctor,
    "timestamp": timestamp,
    "providers": _providers,
    "capture": capture,
    "bench": bench,
    "demo": _demo,
}
