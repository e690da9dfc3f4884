"""``teeverify capture``: record what an endpoint shows, and verify nothing."""

from __future__ import annotations

import argparse

from teeverify.cli.flags import add_dialect
from teeverify.client.recorder import record
from teeverify.errors import EXIT_SATISFIED
from teeverify.render import printable

__all__ = ["add_capture", "capture"]


def add_capture(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("url", metavar="URL", help="the endpoint's base URL: https://…/v1")
    parser.add_argument("folder", metavar="DIR", help="a directory that is new or empty")
    parser.add_argument("--model", metavar="M", help="the model to ask for")
    add_dialect(parser)


def capture(options: argparse.Namespace) -> int:
    """Record an endpoint's evidence under a new nonce."""
    found = record(options.url, options.folder, model=options.model, dialect=options.dialect)
    where = printable(str(found.folder))
    print(f"Recorded {found.exchanges} answers in {where}; nothing was verified.")
    for missing in found.missing:
        print(f"  {printable(missing)}")
    print(f"Next: teeverify verify {where} --dialect {found.dialect} --offline")
    return EXIT_SATISFIED
