"""What of an OVMF image the launch digest depends on.

EDK II, OvmfPkg/ResetVector: a table of GUIDed entries that ends 32 bytes before the end of the
image and is read backwards, and the SEV metadata that one of its entries points to.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence

__all__ = ["PAGE", "Ovmf", "Section", "SectionType", "extend", "pages_digest", "parse_ovmf"]

PAGE = 4096
_ID = "measure.ovmf"
_FOUR_GIB = 1 << 32
_MAX_BYTES = 64 * 1024 * 1024
_TAIL = 32
_ENTRY_HEAD = 18
_MAX_SECTIONS = 64
_MAX_SECTION_BYTES = 64 * 1024 * 1024
_NORMAL_PAGE = 1
_FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
_HASH_TABLE = uuid.UUID("7255371f-3a3b-4b04-927b-1da6efa8d454").bytes_le
_RESET_BLOCK = uuid.UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e").bytes_le
_METADATA = uuid.UUID("dc886566-984a-4798-a75e-5585a7bf67cc").bytes_le


class SectionType(IntEnum):
    """What the launch does with a section of memory (OVMF's SEV metadata)."""

    SEC_MEM = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CAA = 4
    KERNEL_HASHES = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of memory that the launch prepares.

    Attributes:
        gpa: Where it begins in the guest's memory.
        size: Its size in bytes, whole pages.
        kind: What is done with it.
    """

    gpa: int
    size: int
    kind: SectionType


@dataclass(frozen=True, slots=True, kw_only=True)
class Ovmf:
    """What of an image is needed: with it, the image itself need not be at hand.

    Attributes:
        digest: The launch digest after the pages of the image alone, 48 bytes.
        sections: The sections in the order of the file.
        reset_eip: Where the other vCPUs begin; ``None`` where the image does not say.
        hash_table_gpa: Where the hashes of kernel, initrd and command line go, or ``None``.
    """

    digest: bytes
    sections: tuple[Section, ...]
    reset_eip: int | None
    hash_table_gpa: int | None


def extend(digest: bytes, *, kind: int, gpa: int, contents: bytes) -> bytes:
    """Add one page to a launch digest (AMD document 56860, PAGE_INFO).

    Args:
        digest: The digest so far.
        kind: PAGE_TYPE.
        gpa: Where the page is.
        contents: SHA-384 of its bytes, or 48 zeros.
    """
    info = (
        digest
        + contents
        + (0x70).to_bytes(2, "little")
        + bytes([kind, 0, 0, 0, 0, 0])
        + gpa.to_bytes(8, "little")
    )
    return hashlib.sha384(info).digest()


def pages_digest(digest: bytes, image: bytes, gpa: int) -> bytes:
    """Add the pages of an image."""
    for offset in range(0, len(image), PAGE):
        contents = hashlib.sha384(image[offset : offset + PAGE]).digest()
        digest = extend(digest, kind=_NORMAL_PAGE, gpa=gpa + offset, contents=contents)
    return digest


def parse_ovmf(image: bytes) -> Ovmf:
    """Read an image.

    Raises:
        MalformedEvidence: Not whole pages, too large, without OVMF's table, or with metadata that
            cannot be read or has a kind of section that is not known here.
    """
    if not image or len(image) % PAGE or len(image) > _MAX_BYTES:
        raise _error("not an image of whole pages", f"{len(image)} bytes")
    table = _table(image)
    return Ovmf(
        digest=pages_digest(bytes(48), image, _FOUR_GIB - len(image)),
        sections=tuple(_sections(image, table)),
        reset_eip=_address(table, _RESET_BLOCK),
        hash_table_gpa=_address(table, _HASH_TABLE),
    )


def _table(image: bytes) -> Mapping[bytes, bytes]:
    """The GUIDed entries; each has its data before its size and GUID."""
    end = len(image) - _TAIL - _ENTRY_HEAD
    size, guid = _head(image, end)
    if guid != _FOOTER or not _ENTRY_HEAD <= size <= end:
        raise _error("no table of OVMF at the end of the image", guid.hex())
    start = end - (size - _ENTRY_HEAD)
    found: dict[bytes, bytes] = {}
    while end - _ENTRY_HEAD >= start:
        size, guid = _head(image, end - _ENTRY_HEAD)
        if not _ENTRY_HEAD <= size <= end - start:
            raise _error("an entry of OVMF's table that does not fit", str(size))
        found[guid] = image[end - size : end - _ENTRY_HEAD]
        end -= size
    return found


def _head(image: bytes, offset: int) -> tuple[int, bytes]:
    reader = Reader(image[offset : offset + _ENTRY_HEAD], name="ovmf.entry", id=_ID, base=offset)
    return reader.u16("size"), reader.take(16, "guid")


def _address(table: Mapping[bytes, bytes], guid: bytes) -> int | None:
    if guid not in table:
        return None
    return Reader(table[guid], name="ovmf.entry", id=_ID).u32("address")


def _sections(image: bytes, table: Mapping[bytes, bytes]) -> Iterable[Section]:
    offset = _address(table, _METADATA)
    if offset is None:
        return
    if not 0 < offset <= len(image):
        raise _error("SEV metadata outside the image", hex(offset))
    reader = Reader(image[len(image) - offset :], name="ovmf.metadata", id=_ID)
    signature = reader.take(4, "signature")
    reader.u32("size")
    version, count = reader.u32("version"), reader.u32("num_items")
    if signature != b"ASEV" or version != 1 or count > _MAX_SECTIONS:
        raise _error("SEV metadata of an unknown form", f"{signature!r}, version {version}")
    for _ in range(count):
        gpa, size, kind = reader.u32("gpa"), reader.u32("size"), reader.u32("type")
        if size % PAGE or not 0 < size <= _MAX_SECTION_BYTES:
            raise _error("a section that is not of whole pages", f"{size} bytes")
        if kind not in {known.value for known in SectionType}:
            raise _error("a kind of section that is not known here", hex(kind))
        yield Section(gpa=gpa, size=size, kind=SectionType(kind))


def _error(problem: str, got: str) -> MalformedEvidence:
    return MalformedEvidence(f"OVMF: {problem}", id=_ID, field="OVMF", got=got)
