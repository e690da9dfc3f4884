"""The parser. Whatever is wrong with flags exits 64, never argparse's own 2, 'refused'."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from teeverify import __version__
from teeverify.cli.commands import COMMANDS
from teeverify.encoding.text import printable
from teeverify.errors import EXIT_USAGE

__all__ = ["build_parser"]

_EXIT_CODES = (
    "exit codes: 0 the policy is satisfied; 1 the policy says no; 2 wrong, do not use; "
    "3 undecided; 64 wrong use; 70 our bug; 130 interrupted"
)


class _Parser(argparse.ArgumentParser):
    """Exits 64 on wrong use, and takes no flag by its beginning: ``--u`` must not open a door.

    ``--help`` ends with the exit codes; a command whose codes are its own says so in ``epilog``.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- argparse's own
        super().__init__(**{"epilog": _EXIT_CODES, **options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print one line to stderr, and exit 64."""
        self.exit(EXIT_USAGE, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = _Parser(
        prog="teeverify",
        description="Tell whether this exact AI answer came from a genuine confidential VM with "
        "a genuine confidential NVIDIA GPU, on this machine, without asking anyone.",
    )
    parser.add_argument("--version", action="version", version=f"teeverify {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        description = command.description or f"{command.help[0].upper()}{command.help[1:]}."
        command.add(commands.add_parser(name, help=command.help, description=description))
    return parser
