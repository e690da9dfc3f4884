"""How the command line shows a result, or an error that left none."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, TextIO

from teeverify.appraisal import AttestationResult
from teeverify.errors import EXIT_UNDECIDED, TeeVerifyError
from teeverify.render import WIDTH, printable, render_result

__all__ = ["error_dict", "error_summary", "print_result", "summary_of", "use_colour", "width_of"]

_SIGNS = "✔✘"


def use_colour(stream: TextIO) -> bool:
    """Colour only on a terminal that can show its signs, and never where NO_COLOR is set."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return False
    try:
        _SIGNS.encode(stream.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width_of(stream: TextIO) -> int:
    """The columns of a terminal, as far as lines of text are pleasant to read; else a page's."""
    return min(WIDTH, shutil.get_terminal_size().columns) if stream.isatty() else WIDTH


def print_result(
    result: AttestationResult, *, as_json: bool = False, everything: bool = False
) -> None:
    """Print a result to stdout."""
    if as_json:
        print(result.to_json())
        return
    colour, width = use_colour(sys.stdout), width_of(sys.stdout)
    print(render_result(result, everything=everything, colour=colour, width=width))


def error_summary(error: TeeVerifyError) -> str:
    """The first sentence of a source that could not be read as evidence."""
    head = "Undecided" if error.exit_code == EXIT_UNDECIDED else "Refused"
    return f"{head}: {printable(str(error))}"


def summary_of(outcome: AttestationResult | TeeVerifyError) -> str:
    """The first sentence of a verdict, however it came."""
    if not isinstance(outcome, TeeVerifyError):
        return outcome.summary
    return error_summary(outcome) if outcome.result is None else outcome.result.summary


def error_dict(error: TeeVerifyError, *, simulated: bool = False) -> dict[str, Any]:
    """The JSON form of a source that could not be read as evidence.

    Args:
        error: Why not.
        simulated: Whether test roots were given.
    """
    undecided = error.exit_code == EXIT_UNDECIDED
    return {
        "schema": "teeverify.result/1-simulated" if simulated else "teeverify.result/1",
        "summary": error_summary(error),
        "tier": "none" if undecided else "contraindicated",
        "satisfied": False,
        "exit_code": error.exit_code,
        "simulated": simulated,
        "scope": None,
        "kind": None,
        "claims": {},
        "findings": [],
        "error": {
            "class": type(error).__name__,
            "id": error.id,
            "message": error.message,
            "got": error.got,
            "want": error.want,
            "hint": error.hint,
            "field": getattr(error, "field", None),
            "offset": getattr(error, "offset", None),
            "need": getattr(error, "need", None),
            "have": getattr(error, "have", None),
            "docs": error.docs,
        },
    }
