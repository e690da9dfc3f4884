"""Entry point: run a command, print its verdict to stdout, and turn errors into exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from teeverify.encoding.text import printable
from teeverify.errors import EXIT_BUG, EXIT_INTERRUPTED, TeeVerifyError

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
    try:
        return _run(arguments)
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


def _run(arguments: Sequence[str] | None) -> int:
    # Loading takes half a second, in which somebody may interrupt too.
    from teeverify.cli.commands import COMMANDS  # noqa: PLC0415
    from teeverify.cli.parser import build_parser  # noqa: PLC0415

    options = build_parser().parse_args(arguments)
    return COMMANDS[options.command].run(options)


if __name__ == "__main__":
    sys.exit(main())
