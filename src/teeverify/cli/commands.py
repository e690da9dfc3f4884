"""What each command does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from teeverify.appraisal import AttestationResult, Policy, ReferenceValues
from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.cli.bench import bench
from teeverify.cli.demo import demo
from teeverify.cli.endorsements import endorsements
from teeverify.cli.faces import error_dict, error_summary, print_result, use_colour
from teeverify.cli.measure import measure_command
from teeverify.cli.serve import serve
from teeverify.client import Verifier
from teeverify.client.sources import load_evidence
from teeverify.clock import now
from teeverify.errors import (
    EXIT_POLICY,
    EXIT_SATISFIED,
    EXIT_UNDECIDED,
    EXIT_WRONG,
    ConfigurationError,
    TeeVerifyError,
)
from teeverify.providers import DIALECTS
from teeverify.render import printable, render_table
from teeverify.render.terminal import render_check
from teeverify.roots import UnsafeTestRoots

__all__ = ["COMMANDS"]

_WORST_FIRST = (EXIT_WRONG, EXIT_UNDECIDED, EXIT_POLICY, EXIT_SATISFIED)


def _verifier(options: argparse.Namespace) -> Verifier:
    roots = options.unsafe_test_roots
    return Verifier(
        policy=getattr(options, "policy", "genuine"),
        roots=UnsafeTestRoots.load(roots) if roots else None,
        endorsements=options.endorsements,
        offline=getattr(options, "offline", True),
    )


def _verify(options: argparse.Namespace) -> int:
    sources = list(options.sources)
    if options.attestation is not None:
        if sources:
            raise ConfigurationError(
                "give the signer's evidence as SOURCE or as --attestation, not both",
                id="usage.arguments",
            )
        sources = [options.attestation]
    if not sources and not (options.answer or options.signature or options.request):
        raise ConfigurationError(
            "there is nothing to verify",
            id="usage.arguments",
            want="a SOURCE, or --answer with --signature",
        )
    verifier = _verifier(options)
    outcomes = [_one(verifier, source, options) for source in sources or [None]]
    if len(outcomes) == 1:
        return _print_one(outcomes[0], options)
    return _print_many(sources, outcomes, options)


def _one(
    verifier: Verifier, source: str | None, options: argparse.Namespace
) -> AttestationResult | TeeVerifyError:
    """A result, or the error that kept the source from being read at all."""
    try:
        return verifier.appraise(
            source,
            nonce=options.nonce,
            at=options.at,
            answer=options.answer,
            request=options.request,
            signature=options.signature,
            scope=options.scope,
            model=options.model,
            dialect=options.dialect,
            allow_attested_later=options.allow_attested_later,
        )
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        return error


def _print_one(outcome: AttestationResult | TeeVerifyError, options: argparse.Namespace) -> int:
    if isinstance(outcome, TeeVerifyError):
        text = (
            json.dumps(error_dict(outcome, simulated=bool(options.unsafe_test_roots)), indent=2)
            if options.json
            else error_summary(outcome)
        )
        print(text)
        return outcome.exit_code
    print_result(outcome, as_json=options.json, everything=options.all)
    return outcome.exit_code


def _print_many(
    sources: list[str],
    outcomes: list[AttestationResult | TeeVerifyError],
    options: argparse.Namespace,
) -> int:
    codes = {outcome.exit_code for outcome in outcomes}
    worst = next(code for code in _WORST_FIRST if code in codes)
    if options.json:
        items = [
            {
                **(
                    error_dict(o, simulated=bool(options.unsafe_test_roots))
                    if isinstance(o, TeeVerifyError)
                    else o.to_dict()
                ),
                "source": source,
            }
            for source, o in zip(sources, outcomes, strict=True)
        ]
        print(json.dumps({"schema": "teeverify.results/1", "exit_code": worst, "results": items}))
        return worst
    rows = [
        (source, o.exit_code, error_summary(o) if isinstance(o, TeeVerifyError) else o.summary)
        for source, o in zip(sources, outcomes, strict=True)
    ]
    print(render_table(rows))
    return worst


def _show(options: argparse.Namespace) -> int:
    evidence = load_evidence(options.source, dialect=options.dialect)
    print(printable(evidence.source) + ": nothing here was verified")
    for part in evidence.parts:
        print(f"  {printable(part)}")
    return EXIT_SATISFIED


def _explain(options: argparse.Namespace) -> int:
    wanted = options.id
    if wanted in CLAIM_QUESTIONS:
        print(f"{wanted}: {CLAIM_QUESTIONS[wanted]}\n")
        checks = [check for check in CATALOG.values() if check.claim == wanted]
    else:
        checks = [CATALOG[wanted]] if wanted in CATALOG else []
    if not checks:
        raise ConfigurationError(
            "there is no such claim or check",
            id="usage.explain",
            got=wanted,
            want=f"one of {', '.join([*CLAIM_QUESTIONS, *CATALOG])}",
        )
    print("\n\n".join(render_check(check) for check in checks))
    return EXIT_SATISFIED


def _policy(options: argparse.Namespace) -> int:
    if options.verb == "pin":
        return _pin(options)
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
    """Write down the code of a source that is genuine; that is no review of it."""
    result = _verifier(options).verify(
        options.source, at=options.at, nonce=options.nonce, dialect=options.dialect
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
    del options
    for dialect in DIALECTS.values():
        hosts = ", ".join(dialect.hosts) or "named with --dialect only"
        print(f"{dialect.id:<12} {hosts}\n{'':<12} {dialect.text}")
    return EXIT_SATISFIED


def _demo(options: argparse.Namespace) -> int:
    del options
    return demo(sys.stdout, colour=use_colour(sys.stdout))


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "verify": _verify,
    "show": _show,
    "explain": _explain,
    "policy": _policy,
    "serve": serve,
    "endorsements": endorsements,
    "measure": measure_command,
    "providers": _providers,
    "bench": bench,
    "demo": _demo,
}
