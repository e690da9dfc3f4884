"""PEM text (RFC 7468) with nothing in it but the blocks that are wanted."""

from __future__ import annotations

import string

from teeverify.encoding.strict import base64_bytes
from teeverify.errors import MalformedEvidence

__all__ = ["pem_blocks"]

_SPACE = b" \t\r\n"
_BODY = _SPACE + string.ascii_letters.encode() + string.digits.encode() + b"+/="
_BYTES_PER_BLOCK = 64 * 1024


def pem_blocks(
    pem: bytes | str,
    label: str,
    *,
    id: str,
    what: str,
    max_blocks: int,
) -> tuple[bytes, ...]:
    """Decode consecutive PEM blocks of one label.

    Args:
        pem: The text: blocks, and white space around them.
        label: The label of every block, for example ``CERTIFICATE``.
        id: Check id for the error.
        what: What is read, for the error.
        max_blocks: Most blocks accepted.

    Returns:
        The decoded blocks in order; at least one.

    Raises:
        MalformedEvidence: No block, too many, too large, another label, text between blocks, or
            a body that is not base64.
    """
    if len(pem) > max_blocks * _BYTES_PER_BLOCK:
        raise _error(id, what, "too large", None, need=max_blocks * _BYTES_PER_BLOCK)
    try:
        text = pem.encode("ascii") if isinstance(pem, str) else pem
    except UnicodeEncodeError as error:
        raise _error(id, what, "not ASCII text", error.start) from None
    begin, end = f"-----BEGIN {label}-----".encode(), f"-----END {label}-----".encode()
    blocks: list[bytes] = []
    text = text.rstrip(_SPACE)
    position = 0
    while position < len(text):
        found = text.find(begin, position)
        if found < 0 or text[position:found].strip(_SPACE):
            position = _after(text, position, _SPACE)
            raise _error(id, what, f"something else than {begin.decode()}", position)
        if len(blocks) == max_blocks:
            raise _error(id, what, "too many PEM blocks", found, need=max_blocks)
        start = found + len(begin)
        stop = text.find(end, start)
        body = text[start:stop].translate(None, _SPACE)
        if stop < 0 or b"-" in body:
            problem = f"cut off, or no base64, before {end.decode()}"
            raise _error(id, what, problem, _after(text, start, _BODY))
        body_text = body.decode("latin-1")  # what is not ASCII is no base64 either
        blocks.append(base64_bytes(body_text, field=f"{what}[{len(blocks)}]", id=id))
        position = stop + len(end)
    if not blocks:
        raise _error(id, what, f"no {label} block", 0)
    return tuple(blocks)


def _after(text: bytes, position: int, characters: bytes) -> int:
    """Where the run of these characters that starts here ends."""
    return len(text) - len(text[position:].lstrip(characters))


def _error(
    id: str,
    what: str,
    problem: str,
    offset: int | None,
    *,
    need: int | None = None,
) -> MalformedEvidence:
    most = None if need is None else f"at most {need}"
    have = None if need is None else "more"
    return MalformedEvidence(
        f"{what}: {problem}", id=id, field=what, offset=offset, need=most, have=have
    )
