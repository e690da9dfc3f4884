"""The certificate table that a host gives to its guest beside a report.

GHCB specification (AMD document 56421), section 4.1.8.1: entries of 24 bytes (GUID, offset and
length), ended by one of zeros, then the certificates. Linux gives it as ``auxblob`` of
configfs-tsm.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence
from teeverify.snp.google import GOOGLE_TABLE_GUID

__all__ = ["CertificateTable", "is_certificate_table", "parse_certificate_table"]

CHECK = "snp.certificate-table"
_ENTRY_BYTES = 24
_GUID_BYTES = 16
_MAX_ENTRIES = 32
_MAX_BYTES = 256 * 1024
_GUIDS: Mapping[str, str] = {
    "63da758d-e664-4564-adc5-f4b93be8accd": "vcek",
    "a8074bc2-a25a-483e-aae6-39c045a0b8a1": "vlek",
    "4ab7b379-bbac-4fe4-a02f-05aef327c782": "ask",
    "c0b406a4-a803-4952-9743-3fb6014cd0ae": "ark",
    "92f81bc3-5811-4d3d-97ff-d19f88dc67ea": "crl",
    GOOGLE_TABLE_GUID: "firmware",
}
# The specification means RFC 4122's order; some hosts write the mixed order of EFI.
_IN_ORDER = {uuid.UUID(text).bytes: name for text, name in _GUIDS.items()}
_IN_MIXED_ORDER = {uuid.UUID(text).bytes_le: name for text, name in _GUIDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTable:
    """What a table holds. Nothing in it is verified, and no slot's name is believed.

    Attributes:
        entries: The known entries, in order: name (``vcek``, ``vlek``, ``ask``, ``ark``, ``crl``,
            ``firmware``) and bytes.
        unknown: GUIDs of the others.
    """

    entries: tuple[tuple[str, bytes], ...]
    unknown: tuple[str, ...]


def is_certificate_table(raw: bytes) -> bool:
    """Whether bytes begin with an entry that is known here."""
    return raw[:_GUID_BYTES] in _IN_ORDER or raw[:_GUID_BYTES] in _IN_MIXED_ORDER


def parse_certificate_table(raw: bytes) -> CertificateTable:
    """Read a table. All arithmetic is on Python's integers, so that no sum wraps around.

    Raises:
        MalformedEvidence: Too large, no end, too many entries, one of the same GUID twice, or one
            that lies in the header, beyond the end, or over another.
    """
    if len(raw) > _MAX_BYTES:
        raise _error("too large", got=f"{len(raw)} bytes")
    reader = Reader(raw, name="snp.certificate-table", id=CHECK)
    heads: list[tuple[bytes, int, int]] = []
    while True:
        guid = reader.take(_GUID_BYTES, "guid")
        offset, length = reader.u32("offset"), reader.u32("length")
        if not any(guid):
            if offset or length:
                raise _error("the last entry is not all zero")
            break
        heads.append((guid, offset, length))
        if len(heads) > _MAX_ENTRIES:
            raise _error("too many entries")
    _require_apart(heads, header=reader.position, size=len(raw))
    return _named(raw, heads)


def _require_apart(heads: list[tuple[bytes, int, int]], *, header: int, size: int) -> None:
    end = header
    for _, offset, length in sorted(heads, key=lambda head: head[1]):
        if length == 0 or offset < end or offset + length > size:
            raise _error(
                "an entry that is empty, lies in the header, beyond the end, or over another",
                got=f"offset {offset:#x}, length {length:#x}",
                want=f"between {end:#x} and {size:#x}",
            )
        end = offset + length
    if len({guid for guid, _, _ in heads}) != len(heads):
        raise _error("the same GUID twice, so that what it names is ambiguous")


def _named(raw: bytes, heads: list[tuple[bytes, int, int]]) -> CertificateTable:
    """Give names in one of the two byte orders, the same for the whole table."""
    guids = [guid for guid, _, _ in heads]
    in_order = any(guid in _IN_ORDER for guid in guids)
    in_mixed = any(guid in _IN_MIXED_ORDER for guid in guids)
    if in_order and in_mixed:
        raise _error("GUIDs in two byte orders")
    names = _IN_MIXED_ORDER if in_mixed else _IN_ORDER
    return CertificateTable(
        entries=tuple(
            (names[guid], raw[offset : offset + length])
            for guid, offset, length in heads
            if guid in names
        ),
        unknown=tuple(str(uuid.UUID(bytes=guid)) for guid in guids if guid not in names),
    )


def _error(problem: str, got: str | None = None, want: str | None = None) -> MalformedEvidence:
    return MalformedEvidence(
        f"certificate table: {problem}", id=CHECK, field="certificate table", got=got, want=want
    )
