"""Entry point: run a command, print its verdict to stdout, and turn errors into exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from teeverify.cli.commands import COMMANDS
from teeverify.cli.parser import build_parser
from teeverify.errors import EXIT_BUG, EXIT_INTERRUPTED, TeeVerifyError
from teeverify.render import printable

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments without the program's name; the process's own by default.

    Returns:
        The exit code (docs/verdicts).
    """
    for stream in (sys.stdout, sys.stderr):
        # A sign that the terminal cannot show must not hide a verdict.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    options = build_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except TeeVerifyError as error:
        print(f"teeverify: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("teeverify: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001 -- whatever is left is our bug, and says so
        traceback.print_exc()
        print("teeverify: this is a bug of ours; nothing was verified", file=sys.stderr)
        return EXIT_BUG


if __name__ == "__main__":
    sys.exit(main())
