"""Distinguished names (RFC 5280 section 4.1.2.4), which are compared as the bytes sent."""

from __future__ import annotations

import hashlib

from teeverify.crypto.der import SEQUENCE, SET, DerReader
from teeverify.errors import MalformedEvidence

__all__ = ["common_name", "shown_name"]

_COMMON_NAME = bytes.fromhex("550403")
_SHORT_NAME = 0x7F + 2
# The beginning of a set of a sequence of an identifier 2.5.4.x and a text: all but x and the text.
_ATTRIBUTE = b"\x31%c\x30%c\x06\x03\x55\x04"
_TEXT = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}


def _usual_common_name(name: bytes) -> str | None:
    """``CN`` of a short name whose attributes are all of the usual form; else ``None``.

    That is a set of one attribute of X.520 (2.5.4.x) in one of the usual kinds of text.
    """
    position, end = 2, len(name)
    if not 0 < end <= _SHORT_NAME or name[:2] != bytes((SEQUENCE, end - 2)):
        return None
    found: list[bytes] = []
    while position + 11 <= end:
        header = name[position : position + 11]
        kind, text, size = header[8:]
        if text not in _TEXT or header[:8] != _ATTRIBUTE % (size + 9 & 0xFF, size + 7 & 0xFF):
            return None
        start, position = position + 11, position + 11 + size
        if kind == _COMMON_NAME[2]:
            found.append(name[start:position])
    usual = position == end and len(found) == 1 and found[0].isascii()
    return found[0].decode("ascii") if usual else None


def common_name(name: bytes, *, id: str, what: str) -> str:
    """``CN`` of a distinguished name (RFC 5280 section 4.1.2.4); empty where there is none.

    Args:
        name: The name's DER, as sent.
        id: Check id for the error.
        what: Whose name it is, for the error.

    Raises:
        MalformedEvidence: The name is malformed, or has more than one ``CN``.
    """
    usual = _usual_common_name(name)
    if usual is not None:
        return usual
    relative_names = DerReader(name, name=what, id=id).nested(SEQUENCE, "name")
    found: list[str] = []
    while relative_names.remaining:
        attributes = relative_names.nested(SET, "rdn")
        while attributes.remaining:
            kind, tag, value = attributes.pair("attribute")
            if kind != _COMMON_NAME:
                continue
            try:
                found.append(value.decode(_TEXT[tag]))
            except (KeyError, UnicodeDecodeError):
                raise attributes.error("a common name that is not text", "value") from None
    if len(found) > 1:
        raise relative_names.error("more than one common name", "name")
    return found[0] if found else ""


def shown_name(name: bytes, *, id: str) -> str:
    """A distinguished name for a message: its common name, and enough to tell its bytes apart."""
    try:
        words = f"{common_name(name, id=id, what='name')!a}"[:80]
    except MalformedEvidence:
        words = "a name that cannot be read"
    return f"{words} (sha256 of the name {hashlib.sha256(name).hexdigest()[:16]})"
