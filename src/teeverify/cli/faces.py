"""How the command line shows a result, or an error that left none."""

from __future__ import annotations

import os
from typing import Any, TextIO

from teeverify.appraisal import AttestationResult
from teeverify.errors import EXIT_UNDECIDED, TeeVerifyError
from teeverify.render import printable, render_result

__all__ = ["error_dict", "error_summary", "print_result", "use_colour"]


def use_colour(stream: TextIO) -> bool:
    """Colour only on a terminal, and never where NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_result(result: AttestationResult, *, as_json: bool, everything: bool) -> None:
    """Print a result to stdout."""
    import sys  # noqa: PLC0415 -- tests replace sys.stdout

    if as_json:
        print(result.to_json())
    else:
        print(render_result(result, everything=everything, colour=use_colour(sys.stdout)))


def error_summary(error: TeeVerifyError) -> str:
    """The first sentence of a source that could not be read as evidence."""
    head = "Undecided" if error.exit_code == EXIT_UNDECIDED else "Refused"
    return f"{head}: {printable(str(error))}"


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
            "field": getattr(error, "field", None),
            "offset": getattr(error, "offset", None),
            "need": getattr(error, "need", None),
            "have": getattr(error, "have", None),
            "docs": error.docs,
        },
    }
