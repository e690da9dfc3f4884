"""Reading NVIDIA's answers from where people record them. Nothing is verified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from teeverify.endorsements import Exchange, list_files, read_exchanges, read_file

__all__ = ["read_directory"]

_HOST = "nras.attestation.nvidia.com"
_ANSWERS = tuple(
    f"/{version}/attest/{kind}" for version in ("v3", "v4") for kind in ("gpu", "switch")
)
_JWKS = "/.well-known/jwks.json"


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
    folder = Path(path)
    found = [*_exchanges(read_exchanges(folder)), *_plain(list_files(folder))]
    return (
        tuple(body for kind, body in found if kind == "answer"),
        tuple(body for kind, body in found if kind == "jwks"),
    )


def _exchanges(exchanges: tuple[Exchange, ...]) -> Iterator[tuple[str, bytes]]:
    """What NRAS's host, compared exactly, answered with success, by what was asked."""
    for exchange in exchanges:
        if (exchange.scheme, exchange.host) != ("https", _HOST) or not exchange.ok:
            continue
        if exchange.path in _ANSWERS:
            yield "answer", exchange.body()
        elif exchange.path == _JWKS:
            yield "jwks", exchange.body()


def _plain(files: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    """Plain files, by what their names say."""
    for file in files:
        if file.name.endswith("eat.json"):
            yield "answer", read_file(file)
        elif file.name.endswith("jwks.json"):
            yield "jwks", read_file(file)
