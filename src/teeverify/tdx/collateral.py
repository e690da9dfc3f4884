"""Endorsements: what Intel signed about its platforms, and what of it was verified already."""

from __future__ import annotations

from pathlib import Path

from teeverify.endorsements import Answer
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import ConfigurationError
from teeverify.tdx.pool import Pool
from teeverify.tdx.recorded import read_answer, read_json, read_path

__all__ = ["Endorsements"]


class Endorsements(Remembering):
    """Intel's TCB infos, QE identities and revocation lists: untrusted until a quote is verified.

    What a verification has proved about them stays on this object, under the trust anchors it was
    proved with, and counts only for times within the dates of everything it rests on (law 13). So
    the second quote of a machine costs two signatures.

    Args:
        pool: The pieces; :meth:`load` reads them.
    """

    __slots__ = ("pool",)

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool

    @classmethod
    def load(cls, source: str | bytes | Path) -> Endorsements:
        """Read endorsements.

        Args:
            source: JSON text in the form that dcap-qvl writes, or a bundle of answers that
                ``teeverify endorsements export`` wrote, or the path of a file with either; or
                the path of a directory: of recorded exchanges (``NNNN_*.body`` with
                ``NNNN_*.http.json``), or of plain files (``tcb_info*.json``,
                ``*qe_identity*.json``, ``*crl*``, ``*chain*``).

        Raises:
            ConfigurationError: There is nothing at the path, or it cannot be read.
            MalformedEvidence: An endorsement cannot be read.
        """
        if isinstance(source, bytes):
            return cls(read_json(source))
        if isinstance(source, str) and source.lstrip()[:1] == "{":
            return cls(read_json(source))
        if isinstance(source, Path) or (isinstance(source, str) and source):
            return cls(read_path(Path(source)))
        raise ConfigurationError(
            "endorsements are a path or JSON text",
            id="usage.endorsements",
            got=repr(source)[:40],
        )

    @classmethod
    def of(cls, answer: Answer) -> Endorsements:
        """Read one answer of Intel's service.

        Raises:
            MalformedEvidence: It cannot be read.
        """
        return cls(read_answer(answer))

    @classmethod
    def union(cls, *several: Endorsements) -> Endorsements:
        """Put several into one; what was verified of them is verified again."""
        return cls(Pool.union(one.pool for one in several))

    def __repr__(self) -> str:
        """What is there, by number."""
        pool = self.pool
        return (
            f"Endorsements({len(pool.tcb_infos)} TCB infos, {len(pool.qe_identities)} QE "
            f"identities, {len(pool.root_crls)} root CRLs, {len(pool.pck_crls)} PCK CRLs)"
        )
