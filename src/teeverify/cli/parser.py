"""Flags. Whatever is wrong with them exits 64, never argparse's own 2, which means 'refused'."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from teeverify import __version__
from teeverify.cli.ask import add_ask
from teeverify.cli.bench import add_bench
from teeverify.cli.capture import add_capture
from teeverify.cli.doctor import add_doctor
from teeverify.cli.endorsements import add_endorsements
from teeverify.cli.measure import add_measure
from teeverify.cli.release import add_release
from teeverify.cli.serve import add_serve
from teeverify.cli.show import add_diff
from teeverify.cli.timestamp import add_timestamp
from teeverify.errors import EXIT_USAGE

__all__ = ["build_parser"]

_EXIT_CODES = (
    "exit codes: 0 the policy is satisfied; 1 the policy says no; 2 wrong, do not use; "
    "3 undecided; 64 wrong use; 70 our bug; 130 interrupted"
)

_COMMANDS: tuple[tuple[str, Callable[[argparse.ArgumentParser], None], str, str], ...] = (
    (
        "ask",
        add_ask,
        "ask an endpoint one question, and verify its answer",
        (
            "Attest an endpoint, ask it one question, verify the answer. The API key "
            "is read from TEEVERIFY_API_KEY or OPENAI_API_KEY."
        ),
    ),
    (
        "diff",
        add_diff,
        "verify two sources, and say what differs",
        "Verify two sources offline, and say what differs between them.",
    ),
    (
        "timestamp",
        add_timestamp,
        "add a timestamp to a receipt; without one, print of what it must be",
        "Add an RFC 3161 timestamp to a receipt. Verifies nothing.",
    ),
    (
        "doctor",
        add_doctor,
        "say what this installation is: versions, roots, cache, clock, network",
        "Say what this installation is. Exit 1 where something is odd.",
    ),
    (
        "capture",
        add_capture,
        "record what an endpoint shows, to verify it later",
        "Record an endpoint's evidence under a new nonce. Verifies nothing.",
    ),
    (
        "serve",
        add_serve,
        "run the enclave server on a simulated machine",
        "Run the enclave server. Prints its URL, then the path of its test roots.",
    ),
    (
        "endorsements",
        add_endorsements,
        "fetch, show, move and forget Intel's collateral",
        (
            "Fetch what Intel signed about a platform, show what is kept, take it to "
            "a machine without a network, and forget what is out of date."
        ),
    ),
    (
        "measure",
        add_measure,
        "compute the measurement that a VM must have",
        "Compute the measurement that a VM must have, from what it is launched with.",
    ),
    (
        "bench",
        add_bench,
        "measure what verified inference costs",
        "Measure what verified confidential inference costs.",
    ),
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
    for name, add, text, description in _COMMANDS:
        add(commands.add_parser(name, help=text, description=description, epilog=_EXIT_CODES))
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
    answer.add_argument(
        "--save", metavar="F", help="write a receipt of the recorded answer, with its text"
    )
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
        "--nras",
        choices=("needed", "always", "never"),
        help="whether GPU evidence is posted to NVIDIA's service; asked always, it must agree",
    )
    appraisal.add_argument(
        "--unsafe-test-roots", metavar="F", help="PEM file of test roots: proves nothing"
    )
    appraisal.add_argument(
        "--timestamp-roots", metavar="F", help="PEM file: CAs whose timestamps of receipts count"
    )
    _verify_output(verify)


def _verify_output(verify: argparse.ArgumentParser) -> None:
    many = verify.add_argument_group("many receipts: a directory, F.jsonl or F.parquet")
    many.add_argument("--workers", type=_number, metavar="N", help="processes; default: all cores")
    many.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="on a Ray cluster; without an address one is started here",
    )
    output = verify.add_argument_group("output")
    output.add_argument("--all", action="store_true", help="list every check")
    output.add_argument("--json", action="store_true", help="print one JSON object")
    output.add_argument("--ear", metavar="F", help="write the result as an EAR (a signed JWT)")
    output.add_argument("--ear-key", metavar="F", help="PEM file: the private key that signs it")
    output.add_argument("--html", metavar="F", help="write a report, with the receipt in it")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:5]) < 1024:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"not a number of processes: {text!r}")
    return int(text)


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
        help="say what a claim, a check, an error or a fault means",
        description="Say what a claim, a check, an error or a fault means, and what to do.",
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
    add_release(
        verbs.add_parser("release", help="print a policy that expects the code of a signed release")
    )
    pin = verbs.add_parser(
        "pin", help="print a policy that expects the code of a source that satisfies 'genuine'"
    )
    pin.add_argument("source", metavar="SOURCE")
    pin.add_argument("--at", metavar="TIME")
    pin.add_argument("--nonce", metavar="HEX")
    pin.add_argument("--endorsements", action="append", default=[], metavar="PATH")
    pin.add_argument("--dialect", metavar="NAME")
    pin.add_argument("--model", metavar="M", help="of an endpoint: the model that you will ask")
    pin.add_argument("--unsafe-test-roots", metavar="F")
