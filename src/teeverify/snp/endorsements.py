"""Endorsements: what AMD signed about its chips, and what of it was verified already."""

from __future__ import annotations

from pathlib import Path

from teeverify.endorsements.remembered import Remembering
from teeverify.errors import ConfigurationError
from teeverify.snp.recorded import Found, read_bytes, read_path

__all__ = ["Endorsements"]


class Endorsements(Remembering):
    """AMD's certificates and revocation lists: untrusted until a report is verified.

    What a verification has proved about them stays on this object, under the trust anchors it was
    proved with, and counts only for times within the dates of everything it rests on (law 13). So
    the second report of a chip costs one signature.

    Args:
        found: The pieces; :meth:`load` reads them.
    """

    __slots__ = ("found",)

    def __init__(self, found: Found) -> None:
        super().__init__()
        self.found = found

    @classmethod
    def load(cls, source: str | bytes | Path) -> Endorsements:
        """Read endorsements.

        Args:
            source: The path of a file, or the bytes of one: certificates (VCEK, VLEK, ASK, ASVK,
                ARK) in PEM or one in DER, a revocation list, a certificate table, or the answer
                of Azure's metadata service; or the path of a directory of such files and of
                recorded exchanges with AMD's key service.

        Raises:
            ConfigurationError: There is nothing at the path, or it cannot be read.
            MalformedEvidence: An endorsement cannot be read.
        """
        if isinstance(source, bytes):
            return cls(read_bytes(source))
        if isinstance(source, Path) or (isinstance(source, str) and source):
            return cls(read_path(Path(source)))
        raise ConfigurationError(
            "endorsements are a path or bytes", id="usage.endorsements", got=repr(source)[:40]
        )

    @classmethod
    def union(cls, *several: Endorsements) -> Endorsements:
        """Put several into one; what was verified of them is verified again."""
        return cls(Found.union(one.found for one in several))

    def __repr__(self) -> str:
        """What is there, by number."""
        found = self.found
        return (
            f"Endorsements({len(found.leaves)} chip or cloud keys, {len(found.authorities)} CAs, "
            f"{len(found.crls)} revocation lists)"
        )
