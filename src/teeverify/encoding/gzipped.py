"""Strict gzip: one member, within a cap, and nothing behind it."""

from __future__ import annotations

import zlib

from teeverify.errors import MalformedEvidence

__all__ = ["gunzip"]

_GZIP = 31  # RFC 1952's header and trailer around the largest window


def gunzip(data: bytes, *, limit: int, field: str, id: str) -> bytes:
    """Decompress one gzip member (RFC 1952) that holds no more than it may.

    Args:
        data: The compressed bytes.
        limit: Largest size of what is in it; nothing beyond is decompressed.
        field: Name of the field, for the error.
        id: Check id for the error.

    Raises:
        MalformedEvidence: Not gzip, cut off, larger than allowed, or with something behind it.
    """
    decompressor = zlib.decompressobj(_GZIP)
    try:
        found = decompressor.decompress(data, limit + 1)
    except zlib.error:
        raise MalformedEvidence(f"{field}: not gzip", id=id, field=field) from None
    if len(found) > limit:
        raise MalformedEvidence(
            f"{field}: too large when decompressed",
            id=id,
            field=field,
            need=f"at most {limit} bytes",
            have="more",
        )
    if not decompressor.eof or decompressor.unused_data:
        problem = "something behind its end" if decompressor.eof else "cut off"
        raise MalformedEvidence(f"{field}: gzip, {problem}", id=id, field=field)
    return found
