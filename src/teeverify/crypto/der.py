"""A forward-only reader of DER (ITU-T X.690), for the few structures that are read by hand.

It exists because what is signed or compared must be the exact bytes that were sent: a library that
parses and re-encodes gives other bytes for the same meaning.
"""

from __future__ import annotations

import re

from teeverify.errors import MalformedEvidence

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "CONTEXT_0",
    "CONTEXT_3",
    "ENUMERATED",
    "GENERALIZED_TIME",
    "INTEGER",
    "OCTET_STRING",
    "OID",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "DerReader",
    "contents_of",
    "end_of",
    "ends_of",
    "oid_bytes",
    "oid_text",
    "span_of",
]

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
ENUMERATED = 0x0A
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0
CONTEXT_3 = 0xA3

_LONG_FORM = 0x80
_MAX_LENGTH_OCTETS = 4
_MAX_TAG_NUMBER = 0x1F
_DOTTED = re.compile(r"(?:[01]\.[1-3]?[0-9]|2\.(?:0|[1-9][0-9]*))(?:\.(?:0|[1-9][0-9]*))*")


def contents_of(data: bytes, position: int) -> int:
    """Where the contents of the element that starts here begin.

    This and :func:`end_of` check nothing: they find again what a strict reader has accepted.
    """
    size = data[position + 1]
    return position + 2 if size < _LONG_FORM else position + 2 + size - _LONG_FORM


def end_of(data: bytes, position: int) -> int:
    """Where the element that starts here ends; see :func:`contents_of`."""
    return span_of(data, position)[1]


def span_of(data: bytes, position: int) -> tuple[int, int]:
    """Where the contents of the element that starts here begin and end; see :func:`contents_of`."""
    size = data[position + 1]
    start = position + 2
    if size >= _LONG_FORM:
        first, start = start, start + size - _LONG_FORM
        size = int.from_bytes(data[first:start], "big")
    return start, start + size


def ends_of(data: bytes, position: int, count: int) -> list[int]:
    """Where each of so many elements in a row ends; see :func:`contents_of`."""
    ends: list[int] = []
    for _ in range(count):
        size = data[position + 1]
        # Nearly all are short: asking for the span of each took a third of reading a certificate.
        position = position + 2 + size if size < _LONG_FORM else end_of(data, position)
        ends.append(position)
    return ends


def oid_text(contents: bytes) -> str:
    """The contents of an OBJECT IDENTIFIER that a strict reader has accepted, dotted."""
    arcs, arc = [], 0
    for octet in contents:
        arc = arc << 7 | octet & 0x7F
        if octet < _LONG_FORM:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def oid_bytes(dotted: str, *, name: str, id: str) -> bytes:
    """The contents of an OBJECT IDENTIFIER that is given dotted.

    Raises:
        MalformedEvidence: Not a dotted object identifier.
    """
    if not _DOTTED.fullmatch(dotted):
        raise MalformedEvidence(
            f"{name}: not an object identifier", id=id, field=name, got=ascii(dotted)[:40]
        )
    first, second, *rest = map(int, dotted.split("."))
    found = bytearray()
    for arc in (40 * first + second, *rest):
        groups = range(max(arc.bit_length() - 1, 0) // 7, -1, -1)
        found += bytes(arc >> 7 * group & 0x7F | (0x80 if group else 0) for group in groups)
    return bytes(found)


class DerReader:
    """A cursor over DER elements; every read names its field and the tag that it must have.

    Readers of what is inside share the outer one's bytes, and names are put together only for an
    error: a chain and its revocation lists are some thousand elements.

    Args:
        data: The bytes to read.
        name: Prefix of every field name, for example ``tdx.pck-certificate``.
        id: Check id that errors carry.
        base: Offset of ``data`` inside the outer buffer.
        span: The part of ``data`` to read, where that is not all; for :meth:`nested`.
        outer: The reader that this one reads a part of; for :meth:`nested`.
    """

    __slots__ = ("_base", "_data", "_end", "_id", "_name", "_outer", "_position")

    def __init__(
        self,
        data: bytes,
        *,
        name: str,
        id: str,
        base: int = 0,
        span: tuple[int, int] | None = None,
        outer: DerReader | None = None,
    ) -> None:
        self._data = data
        self._position, self._end = span or (0, len(data))
        self._name = name
        self._outer = outer
        self._id = id
        self._base = base

    @property
    def name(self) -> str:
        """What is read, dotted, with the names of all outer readers."""
        return self._name if self._outer is None else f"{self._outer.name}.{self._name}"

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self._end - self._position

    def value(self, tag: int, field: str) -> bytes:
        """Take one element with this tag and return its contents.

        Raises:
            MalformedEvidence: Truncated, another tag, or a length that is not DER.
        """
        start = self._enter(tag, field)
        return self._data[start : self._position]

    def encoded(self, tag: int, field: str) -> bytes:
        """Take one element with this tag and return it whole, with tag and length.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        start = self._position
        self._enter(tag, field)
        return self._data[start : self._position]

    def any(self, field: str) -> tuple[int, bytes]:
        """Take one element of any tag and return the tag and the contents.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        first = self._position
        start = self._enter(None, field)
        return self._data[first], self._data[start : self._position]

    def nested(self, tag: int, field: str) -> DerReader:
        """Take one constructed element and return a reader of what is inside.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        start = self._enter(tag, field)
        return DerReader(
            self._data,
            name=field,
            id=self._id,
            base=self._base,
            span=(start, self._position),
            outer=self,
        )

    def pair(self, field: str) -> tuple[bytes, int, bytes]:
        """Take a SEQUENCE of an OID and one element: the OID's contents, the tag, the contents.

        Names and vendors' extensions are long rows of these.

        Raises:
            MalformedEvidence: See :meth:`value`; or something follows the element.
        """
        data, position = self._data, self._position
        if position + 6 <= self._end and data[position] == SEQUENCE and data[position + 2] == OID:
            # Both elements of short form and exactly as long as the sequence says: the usual case.
            end = position + 2 + data[position + 1]
            inner = position + 4 + data[position + 3]
            if inner + 2 <= end <= min(self._end, position + 2 + _LONG_FORM - 1):
                tag, size = data[inner], data[inner + 1]
                if inner + 2 + size == end and tag & _MAX_TAG_NUMBER != _MAX_TAG_NUMBER:
                    self._position = end
                    return data[position + 4 : inner], tag, data[inner + 2 : end]
        sequence = self.nested(SEQUENCE, field)
        identifier = sequence.value(OID, "identifier")
        element = sequence.any("value")
        sequence.finish()
        return identifier, *element

    def optional(self, tag: int, field: str) -> DerReader | None:
        """As :meth:`nested`, or ``None`` where the next element has another tag or none is left.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        return self.nested(tag, field) if self.next_tag() == tag else None

    def next_tag(self) -> int | None:
        """The tag of the next element, or ``None`` at the end."""
        return self._data[self._position] if self._position < self._end else None

    def integer(self, field: str, *, tag: int = INTEGER) -> int:
        """Take an INTEGER (or ENUMERATED) in its shortest form (X.690 section 8.3.2).

        Raises:
            MalformedEvidence: See :meth:`value`; or empty, or padded.
        """
        contents = self.value(tag, field)
        padded = len(contents) > 1 and contents[0] == (0xFF if contents[1] & 0x80 else 0)
        if not contents or padded:
            raise self.error("an integer that is not DER", field)
        return int.from_bytes(contents, "big", signed=True)

    def boolean(self, field: str) -> bool:
        """Take a BOOLEAN, whose contents are 0x00 or 0xFF (X.690 section 11.1).

        Raises:
            MalformedEvidence: See :meth:`value`; or other contents.
        """
        contents = self.value(BOOLEAN, field)
        if contents not in (b"\x00", b"\xff"):
            raise self.error("a boolean that is not DER", field)
        return contents == b"\xff"

    def bit_string(self, field: str) -> bytes:
        """Take a BIT STRING of whole bytes.

        Raises:
            MalformedEvidence: See :meth:`value`; or unused bits.
        """
        contents = self.value(BIT_STRING, field)
        if contents[:1] != b"\x00":
            raise self.error("a bit string with unused bits", field)
        return contents[1:]

    def finish(self) -> None:
        """Demand that nothing is left.

        Raises:
            MalformedEvidence: Bytes are left.
        """
        if self._position != self._end:
            raise self.error("trailing data", "end", need=0, have=self.remaining)

    def error(
        self,
        problem: str,
        field: str,
        *,
        need: int | None = None,
        have: int | None = None,
        got: str | None = None,
        want: str | None = None,
    ) -> MalformedEvidence:
        """Build (not raise) the error for a field at the current offset."""
        name = f"{self.name}.{field}"
        return MalformedEvidence(
            f"{name}: {problem}",
            id=self._id,
            field=name,
            offset=self._base + self._position,
            need=need,
            have=have,
            got=got,
            want=want,
        )

    def _enter(self, tag: int | None, field: str) -> int:
        """Take the next element; give where its contents start (X.690 sections 8.1.2, 10.1).

        The contents end where the reader then stands.
        """
        data, position, limit = self._data, self._position, self._end
        start = position + 2
        if start > limit:
            raise self.error("truncated", field, need=2, have=limit - position)
        found, size = data[position], data[position + 1]
        if found != tag and tag is not None:
            raise self.error("another DER tag", field, got=f"{found:#04x}", want=f"{tag:#04x}")
        if found & _MAX_TAG_NUMBER == _MAX_TAG_NUMBER:
            raise self.error("a DER tag of several bytes", field)
        if size >= _LONG_FORM:
            octets = size - _LONG_FORM
            if not 0 < octets <= _MAX_LENGTH_OCTETS:
                raise self.error("a length that is not DER", field)
            first, start = start, start + octets
            if start > limit:
                raise self.error("truncated", field, need=octets, have=limit - first)
            size = int.from_bytes(data[first:start], "big")
            # X.690 section 10.1: the shortest form that holds the length.
            if data[first] == 0 or size < _LONG_FORM:
                raise self.error("a length that is not DER", field)
        end = start + size
        if end > limit:
            self._position = start
            raise self.error("truncated", field, need=size, have=limit - start)
        self._position = end
        return start
