"""Files that the caller named, within a cap."""

from __future__ import annotations

from pathlib import Path

from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["given_bytes", "read_bytes", "require_size"]

_MAX_SOURCE = 4 * 1024 * 1024


def given_bytes(value: bytes | str | Path | None, what: str) -> bytes | None:
    """Bytes that were given, or a path of them.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    if value is None or isinstance(value, bytes):
        return value
    return read_bytes(value, what=what)


def read_bytes(path: str | Path, *, what: str) -> bytes:
    """Read a file that the caller named.

    Raises:
        ConfigurationError: It is not there or cannot be read.
        MalformedEvidence: It is larger than anything that is read here.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_SOURCE + 1)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError(
            f"the {what} cannot be read: {reason}", id="usage.source", got=str(path)[:200]
        ) from None
    return require_size(data, what)


def require_size(data: bytes, what: str) -> bytes:
    """The same bytes, unless they are more than anything that is read here.

    Raises:
        MalformedEvidence: They are.
    """
    if len(data) > _MAX_SOURCE:
        raise MalformedEvidence(
            f"the {what} is too large",
            id="source",
            field=what,
            offset=0,
            need=f"at most {_MAX_SOURCE} bytes",
            have="more",
        )
    return data
