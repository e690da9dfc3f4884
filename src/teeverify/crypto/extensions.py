"""Extensions of certificates (RFC 5280 section 4.2), and the two that every path needs."""

from __future__ import annotations

from typing import NamedTuple

from teeverify.crypto.der import (
    BIT_STRING,
    CONTEXT_3,
    OCTET_STRING,
    contents_of,
    end_of,
    oid_text,
    span_of,
)

__all__ = ["Extensions", "read_extensions"]

_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_KEY_USAGE = bytes.fromhex("551d0f")
_NAMES = {_BASIC_CONSTRAINTS: "2.5.29.19", _KEY_USAGE: "2.5.29.15"}
_NO_CA = bytes.fromhex("3000")
_ANY_CA = bytes.fromhex("30030101ff")
_CA_OF_LENGTH = bytes.fromhex("30060101ff0201")
_TRUE = bytes.fromhex("0101ff")
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_MAX_UNUSED_BITS = 7
_LONG_FORM = 0x80


class Extensions(NamedTuple):
    """What the extensions say; an absent extension is the zero value.

    Attributes:
        values: The DER value of each, by the contents of its object identifier.
        critical: Dotted identifiers of those marked critical.
        is_ca: The CA flag of the basic constraints.
        path_length: How many intermediate certificates may follow; ``None`` is any number.
        key_usage: Key usages by name.
    """

    values: dict[bytes, bytes]
    critical: frozenset[str] = frozenset()
    is_ca: bool = False
    path_length: int | None = None
    key_usage: frozenset[str] = frozenset()


def read_extensions(raw: bytes) -> Extensions:
    """Read what follows the key in a certificate that a strict reader has accepted.

    It saw that each extension is a sequence of an identifier, a flag and octets, and no more.

    Raises:
        ValueError: An extension twice, or one of the two that are read is not in its only form.
        LookupError: It is cut off.
        MalformedEvidence: An object identifier that is none.
    """
    values: dict[bytes, bytes] = {}
    critical: set[str] = set()
    position, end = 0, len(raw)
    while position < end and raw[position] != CONTEXT_3:
        position = end_of(raw, position)  # unique identifiers of issuer and subject
    if position < end:
        position = contents_of(raw, contents_of(raw, position))
    while position < end:
        start = contents_of(raw, position)
        value = start + 2 + raw[start + 1]
        oid = raw[start + 2 : value]
        if raw[value : value + 3] == _TRUE:
            critical.add(_NAMES.get(oid) or oid_text(oid))
            value += 3
        contents, position = span_of(raw, value)
        if raw[value] != OCTET_STRING or oid in values or len(oid) >= _LONG_FORM:
            raise ValueError
        values[oid] = raw[contents:position]
    constraints, usage = values.get(_BASIC_CONSTRAINTS), values.get(_KEY_USAGE)
    return Extensions(
        values,
        frozenset(critical),
        *((False, None) if constraints is None else _constraints(constraints)),
        frozenset() if usage is None else _usage(usage),
    )


def _constraints(value: bytes) -> tuple[bool, int | None]:
    """RFC 5280 section 4.2.1.9; DER leaves out what is false."""
    if value == _NO_CA:
        return False, None
    if value == _ANY_CA:
        return True, None
    # A CA with a path length, which takes one byte.
    if value[:-1] == _CA_OF_LENGTH and value[-1] < 0x80:  # noqa: PLR2004 -- X.690 section 8.3
        return True, value[-1]
    raise ValueError


def _usage(value: bytes) -> frozenset[str]:
    """RFC 5280 section 4.2.1.3: a string of bits, whose unused ones are zero (X.690 11.2)."""
    if value[0] != BIT_STRING or end_of(value, 0) != len(value):
        raise ValueError
    unused, bits = value[2], int.from_bytes(value[3:], "big")
    size = 8 * (len(value) - 3) - unused
    wrong = unused > _MAX_UNUSED_BITS or not 0 <= size <= len(_KEY_USAGES)
    if wrong or bits % (1 << unused):
        raise ValueError
    bits >>= unused
    return frozenset(
        [name for at, name in enumerate(_KEY_USAGES[:size]) if bits >> (size - 1 - at) & 1]
    )
