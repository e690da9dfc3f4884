"""``teeverify timestamp``: add an authority's timestamp to a receipt."""

from __future__ import annotations

import argparse

from teeverify.client.receipts import Receipt
from teeverify.client.sources import read_bytes
from teeverify.clock import show_time
from teeverify.crypto.timestamp import parse_timestamp
from teeverify.errors import EXIT_SATISFIED

__all__ = ["add_timestamp", "timestamp"]


def add_timestamp(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("receipt", metavar="RECEIPT", help="the receipt's file, which is changed")
    parser.add_argument(
        "token", metavar="TOKEN", nargs="?", help="an RFC 3161 answer over the receipt's id"
    )


def timestamp(options: argparse.Namespace) -> int:
    """Add a timestamp, or say of what one must be.

    Raises:
        ConfigurationError: A file that cannot be read or written.
        MalformedEvidence: No receipt, or no timestamp.
        BindingMismatch: A timestamp of something else.
    """
    receipt = Receipt.load(options.receipt)
    if options.token is None:
        print(receipt.receipt_id)
        return EXIT_SATISFIED
    token = read_bytes(options.token, what="timestamp")
    stated = parse_timestamp(token, of=receipt.parts.digest).time
    kept = receipt.parts.response.raw is not None
    receipt.with_timestamp(token).save(options.receipt, include="bytes" if kept else "hashes")
    print(f"added a timestamp that says {show_time(stated)}; nothing was verified")
    return EXIT_SATISFIED
