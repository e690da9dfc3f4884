"""Strict base32 as host names carry it: lower case, without padding (RFC 4648 section 6)."""

from __future__ import annotations

from teeverify.errors import MalformedEvidence

__all__ = ["base32_bytes"]

_ALPHABET = {character: value for value, character in enumerate("abcdefghijklmnopqrstuvwxyz234567")}
_BITS, _BYTE = 5, 8


def base32_bytes(text: str, *, field: str, id: str) -> bytes:
    """Decode base32 in the only valid form of its bytes.

    Args:
        text: Lower-case letters and the digits 2 to 7, without padding.
        field: Name of the field, for the error.
        id: Check id for the error.

    Raises:
        MalformedEvidence: Another character, another length, or bits left over that are not zero.
    """
    values = [_ALPHABET.get(character) for character in text]
    spare = len(text) * _BITS % _BYTE
    number = 0
    for value in values:
        if value is None:
            raise MalformedEvidence(f"{field}: not base32", id=id, field=field, got=text[:40])
        number = number << _BITS | value
    if spare >= _BITS or number & ((1 << spare) - 1):
        raise MalformedEvidence(f"{field}: not base32 of whole bytes", id=id, field=field)
    return (number >> spare).to_bytes(len(text) * _BITS // _BYTE, "big")
