"""The CAs of timestamping authorities that a caller believes; there are no embedded ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from teeverify.errors import ConfigurationError
from teeverify.roots.anchors import TrustAnchor, custom_roots

__all__ = ["TimestampRoots"]

_MAX_ROOTS_FILE = 256 * 1024


class TimestampRoots:
    """The CAs whose timestamping authorities the caller believes.

    Args:
        certificates: Certificates, as :class:`~teeverify.UnsafeTestRoots` takes them. Name the CA
            that issues the authority's own certificate: no path through other RSA CAs is built.

    Raises:
        ConfigurationError: None, too many, or one that cannot be read.
    """

    __slots__ = ("anchors",)

    def __init__(self, certificates: Iterable[bytes | str]) -> None:
        self.anchors: tuple[TrustAnchor, ...] = custom_roots(certificates).intel

    @classmethod
    def load(cls, path: str | Path) -> TimestampRoots:
        """Read a PEM file.

        Raises:
            ConfigurationError: It cannot be read, or holds no certificates.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_ROOTS_FILE + 1)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"the timestamp roots cannot be read: {getattr(error, 'strerror', error)}",
                id="usage.timestamp",
                got=ascii(str(path))[:200],
            ) from None
        if len(data) > _MAX_ROOTS_FILE:
            raise ConfigurationError("the timestamp roots are too large", id="usage.timestamp")
        return cls([data])

    def __repr__(self) -> str:
        """How many there are."""
        return f"TimestampRoots({len(self.anchors)} CAs)"
