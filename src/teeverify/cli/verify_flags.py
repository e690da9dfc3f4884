"""The flags of ``teeverify verify``."""

from __future__ import annotations

import argparse

from teeverify.cli.flags import add_policy, add_recorded, add_test_roots

__all__ = ["add_verify"]

_MOST_PROCESSES = 1023
_MOST_DAYS = 99_999


def add_verify(verify: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    verify.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="a receipt, a report (--html), a recorded directory, the URL of an endpoint, a quote, "
        "a report or GPU evidence; or many receipts: a directory, F.jsonl, F.parquet",
    )
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
    add_policy(appraisal)
    add_recorded(appraisal)
    appraisal.add_argument("--offline", action="store_true", help="open no socket")
    appraisal.add_argument(
        "--nras",
        choices=("needed", "always", "never"),
        help="whether GPU evidence is posted to NVIDIA's service; asked always, it must agree",
    )
    add_test_roots(appraisal)
    appraisal.add_argument(
        "--timestamp-roots", metavar="F", help="PEM file: CAs whose timestamps of receipts count"
    )
    _add_output(verify)


def _add_output(verify: argparse.ArgumentParser) -> None:
    many = verify.add_argument_group("many receipts")
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
    return _of_digits(text, "number of processes", least=1, most=_MOST_PROCESSES)


def _days(text: str) -> int:
    return _of_digits(text, "number of days", least=0, most=_MOST_DAYS)


def _of_digits(text: str, what: str, *, least: int, most: int) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"not a {what}: {text!r}")
    return int(text)
