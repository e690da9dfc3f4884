"""Files that commands write where they are told to."""

from __future__ import annotations

from pathlib import Path

from teeverify.errors import ConfigurationError

__all__ = ["write_output"]


def write_output(path: str | Path, data: bytes) -> None:
    """Write a file that the caller named.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the output cannot be written: {getattr(error, 'strerror', None) or 'no path'}",
            id="usage.output",
            got=ascii(str(path))[:200],
        ) from None
