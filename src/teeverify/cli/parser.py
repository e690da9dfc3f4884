"""Flags. Whatever is wrong with them exits 64, never argparse's own 2, which means 'refused'."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from teeverify import __version__
from teeverify.cli.bench import add_bench
from teeverify.cli.endorsements import add_endorsements
from teeverify.cli.measure import add_measure
from teeverify.cli.serve import add_serve
from teeverify.errors import EXIT_USAGE

__all__ = ["build_parser"]

_EXIT_CODES = (
    "exit codes: 0 the policy is satisfied; 1 the policy says no; 2 wrong, do not use; "
    "3 undecided; 64 wrong use; 70 our bug; 130 interrupted"
)


class _Parser(argparse.ArgumentParser):
    """Exits 64 on wrong use, and takes no flag by its beginning: ``--u`` must not open a door."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- argparse's own
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message to stderr, and exit 64."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = _Parser(
        prog="teeverify",
        description="Tell whether this exact AI answer came from a genuine confidential VM with "
        "a genuine confidential NVIDIA GPU, on this machine, without asking anyone.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"teeverify {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _verify(commands)
    _show(commands)
    _explain(commands)
    _policy(commands)
    add_serve(
        commands.add_parser(
            "serve",
            help="run the enclave server on a simulated machine",
            description="Run the enclave server. Prints its URL, then the path of its test roots.",
        )
    )
    add_endorsements(
        commands.add_parser(
            "endorsements",
            help="fetch, show, move and forget Intel's collateral",
            description="Fetch what Intel signed about a platform, show what is kept, take it to "
            "a machine without a network, and forget what is out of date.",
        )
    )
    add_measure(
        commands.add_parser(
            "measure",
            help="compute the measurement that a VM must have",
            description="Compute the measurement that a VM must have, from what it is launched "
            "with.",
        )
    )
    add_bench(
        commands.add_parser(
            "bench",
            help="measure what verified inference costs",
            description="Measure what verified confidential inference costs.",
        )
    )
    _simple(commands, "providers", "list the providers, and what each can prove")
    _simple(commands, "demo", "forge evidence on a simulated TEE, verify it, and try to cheat")
    return parser


if TYPE_CHECKING:
    # argparse gives the type of what add_subparsers returns no public name.
    _Commands = argparse._SubParsersAction[_Parser]  # noqa: SLF001


def _simple(commands: _Commands, name: str, text: str) -> None:
    commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def _verify(commands: _Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="verify evidence, or an answer with its signature",
        description="Verify evidence, or an answer with its signature and the evidence of its "
        "signer. What a source is, is worked out; many sources give a table and the worst code.",
        epilog=_EXIT_CODES,
    )
    verify.add_argument("sources", nargs="*", metavar="SOURCE", help="file or recorded directory")
    answer = verify.add_argument_group("an answer")
    answer.add_argument("--answer", metavar="F", help="the answer's exact bytes, as received")
    answer.add_argument("--request", metavar="F", help="the request's exact bytes, as sent")
    answer.add_argument("--signature", metavar="F", help="what the signature route returned")
    answer.add_argument("--attestation", metavar="SOURCE", help="evidence of the signer")
    answer.add_argument("--model", metavar="M", help="the model that you asked for")
    answer.add_argument(
        "--allow-attested-later",
        type=_days,
        metavar="DAYS",
        help="accept evidence that was made up to DAYS days after the answer",
    )
    appraisal = verify.add_argument_group("the appraisal")
    appraisal.add_argument(
        "--for",
        dest="scope",
        choices=("answer", "endpoint", "evidence"),
        help="what you want appraised; 'evidence' accepts a bare component",
    )
    appraisal.add_argument(
        "--policy", default="genuine", metavar="genuine|strict|F.toml", help="default: genuine"
    )
    appraisal.add_argument("--nonce", metavar="HEX", help="the nonce that you asked for")
    appraisal.add_argument("--at", metavar="TIME", help="time of the appraisal (ISO 8601, zone)")
    appraisal.add_argument(
        "--endorsements",
        action="append",
        default=[],
        metavar="PATH",
        help="the vendors' collateral; replaces what was recorded beside the evidence",
    )
    appraisal.add_argument("--dialect", metavar="NAME", help="see 'teeverify providers'")
    appraisal.add_argument("--offline", action="store_true", help="open no socket")
    appraisal.add_argument(
        "--unsafe-test-roots", metavar="F", help="PEM file of test roots: proves nothing"
    )
    output = verify.add_argument_group("output")
    output.add_argument("--all", action="store_true", help="list every check")
    output.add_argument("--json", action="store_true", help="print one JSON object")


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"not a number of days: {text!r}")
    return int(text)


def _show(commands: _Commands) -> None:
    show = commands.add_parser(
        "show",
        help="show what a source holds; verifies nothing",
        description="Show what a source holds. Nothing is verified.",
    )
    show.add_argument("source", metavar="SOURCE")
    show.add_argument("--dialect", metavar="NAME")


def _explain(commands: _Commands) -> None:
    explain = commands.add_parser(
        "explain",
        help="say what a claim or a check means",
        description="Say what a claim or a check means, and what to do when it fails.",
    )
    explain.add_argument("id", metavar="ID", help="for example code.identity, or gpu_link")


def _policy(commands: _Commands) -> None:
    policy = commands.add_parser(
        "policy",
        help="show, check or pin a policy",
        description="Show a policy in full, check a policy file, or pin the code of a source.",
    )
    verbs = policy.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print every effective value, as TOML")
    show.add_argument("policy", nargs="?", default="genuine", metavar="genuine|strict|F.toml")
    check = verbs.add_parser("check", help="say whether a policy file is one, and its hash")
    check.add_argument("policy", metavar="F.toml")
    pin = verbs.add_parser(
        "pin", help="print a policy that expects the code of a source that satisfies 'genuine'"
    )
    pin.add_argument("source", metavar="SOURCE")
    pin.add_argument("--at", metavar="TIME")
    pin.add_argument("--nonce", metavar="HEX")
    pin.add_argument("--endorsements", action="append", default=[], metavar="PATH")
    pin.add_argument("--dialect", metavar="NAME")
    pin.add_argument("--unsafe-test-roots", metavar="F")
