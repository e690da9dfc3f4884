"""Reading NVIDIA's answers from where people record them. Nothing is verified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from teeverify.encoding.fields import JsonObject
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["read_directory"]

ID = "nras.recording"
_HOST = "nras.attestation.nvidia.com"
_ANSWERS = tuple(
    f"/{version}/attest/{kind}" for version in ("v3", "v4") for kind in ("gpu", "switch")
)
_JWKS = "/.well-known/jwks.json"
_MAX_FILES = 4096
_MAX_FILE_BYTES = 1024 * 1024
_HTTP_OK = 200
_RECORD = ".http.json"


def read_directory(path: str | Path) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Read a capture: recorded exchanges by their URL, and plain files by their name.

    Args:
        path: The directory.

    Returns:
        The bodies of NRAS's answers, and those of its lists of keys.

    Raises:
        ConfigurationError: It is no directory, or cannot be read.
        MalformedEvidence: The record of an exchange has another form, or a file is too large.
    """
    directory = Path(path)
    try:
        files = sorted(item for item in directory.iterdir() if item.is_file())
    except (OSError, ValueError) as error:
        raise _unreadable(directory, error) from None
    if len(files) > _MAX_FILES:
        raise ConfigurationError(
            "the directory of endorsements holds too many files",
            id="usage.endorsements",
            got=str(len(files)),
            want=f"at most {_MAX_FILES}",
        )
    found = [*_exchanges(files), *_plain(files)]
    return (
        tuple(body for kind, body in found if kind == "answer"),
        tuple(body for kind, body in found if kind == "jwks"),
    )


def _exchanges(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """The bodies that NRAS's host sent with status 200, by what was asked."""
    for file in files:
        if not file.name.endswith(_RECORD):
            continue
        record = JsonObject.parse(_read(file), path=file.name, id=ID)
        kind = _kind(record.text("url"))
        if kind is not None and record.integer("status") == _HTTP_OK:
            yield kind, _read(file.with_name(file.name.removesuffix(_RECORD) + ".body"))


def _kind(url: str) -> str | None:
    """What an URL of NRAS gives; the host is compared exactly."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme != "https" or host != _HOST:
        return None
    if parts.path in _ANSWERS:
        return "answer"
    return "jwks" if parts.path == _JWKS else None


def _plain(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Plain files, by what their names say."""
    for file in files:
        if file.name.endswith("eat.json"):
            yield "answer", _read(file)
        elif file.name.endswith("jwks.json"):
            yield "jwks", _read(file)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(file, error) from None
    if len(data) > _MAX_FILE_BYTES:
        raise MalformedEvidence(
            f"{file.name}: too large",
            id=ID,
            field=file.name,
            need=f"at most {_MAX_FILE_BYTES}",
            have="more",
        )
    return data


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    problem = getattr(error, "strerror", None) or "not a usable path"
    return ConfigurationError(
        f"the endorsements cannot be read: {problem}",
        id="usage.endorsements",
        got=str(path),
        want="a directory of recorded answers",
    )
