"""Writing DER (ITU-T X.690): the question to an OCSP responder, and what the simulator signs.

The strict reader of :mod:`teeverify.crypto.der` shares nothing with it, so that a mistake of one is
not a mistake of both.
"""

from __future__ import annotations

__all__ = ["element", "integer", "octets", "sequence"]

_INTEGER, _OCTET_STRING, _SEQUENCE = 0x02, 0x04, 0x30
_LONG_FORM = 0x80


def element(tag: int, *contents: bytes) -> bytes:
    """One element, with its length in the shortest form (X.690 sections 8.1.3 and 10.1).

    Args:
        tag: Its identifier octet.
        *contents: What is in it, one after another.
    """
    body = b"".join(contents)
    if len(body) < _LONG_FORM:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(length))) + length + body


def sequence(*contents: bytes) -> bytes:
    """A SEQUENCE of these elements."""
    return element(_SEQUENCE, *contents)


def octets(value: bytes) -> bytes:
    """An OCTET STRING."""
    return element(_OCTET_STRING, value)


def integer(value: int) -> bytes:
    """An INTEGER, in two's complement (X.690 section 8.3)."""
    return element(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
