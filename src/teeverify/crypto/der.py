"""A forward-only reader of DER (ITU-T X.690), for the few structures that are read by hand.

It exists because what is signed or compared must be the exact bytes that were sent: a library that
parses and re-encodes gives other bytes for the same meaning.
"""

from __future__ import annotations

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "CONTEXT_0",
    "ENUMERATED",
    "GENERALIZED_TIME",
    "INTEGER",
    "OCTET_STRING",
    "OID",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "DerReader",
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

_LONG_FORM = 0x80
_MAX_LENGTH_OCTETS = 4
_MAX_TAG_NUMBER = 0x1F


class DerReader:
    """A cursor over DER elements; every read names its field and the tag that it must have.

    Args:
        data: The bytes to read.
        name: Prefix of every field name, for example ``tdx.pck-certificate``.
        id: Check id that errors carry.
        base: Offset of ``data`` inside the outer buffer.
    """

    __slots__ = ("_id", "_name", "_reader")

    def __init__(self, data: bytes, *, name: str, id: str, base: int = 0) -> None:
        self._reader = Reader(data, name=name, id=id, base=base)
        self._name = name
        self._id = id

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self._reader.remaining

    def value(self, tag: int, field: str) -> bytes:
        """Take one element with this tag and return its contents.

        Raises:
            MalformedEvidence: Truncated, another tag, or a length that is not DER.
        """
        return self._element(tag, field)[1]

    def encoded(self, tag: int, field: str) -> bytes:
        """Take one element with this tag and return it whole, with tag and length.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        return b"".join(self._element(tag, field))

    def any(self, field: str) -> tuple[int, bytes]:
        """Take one element of any tag and return the tag and the contents.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        header, contents = self._element(None, field)
        return header[0], contents

    def nested(self, tag: int, field: str) -> DerReader:
        """Take one constructed element and return a reader of what is inside.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        _, contents = self._element(tag, field)
        base = self._reader.offset - len(contents)
        return DerReader(contents, name=f"{self._name}.{field}", id=self._id, base=base)

    def optional(self, tag: int, field: str) -> DerReader | None:
        """As :meth:`nested`, or ``None`` where the next element has another tag or none is left.

        Raises:
            MalformedEvidence: See :meth:`value`.
        """
        return self.nested(tag, field) if self.next_tag() == tag else None

    def next_tag(self) -> int | None:
        """The tag of the next element, or ``None`` at the end."""
        return self._reader.peek()

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
        self._reader.finish()

    def error(self, problem: str, field: str, *, got: str | None = None) -> MalformedEvidence:
        """Build (not raise) the error for a field at the current offset."""
        return self._reader.error(problem, field, got=got)

    def _element(self, tag: int | None, field: str) -> tuple[bytes, bytes]:
        """Header bytes and contents of the next element (X.690 sections 8.1.2 and 10.1)."""
        header = self._reader.take(2, field)
        if tag is not None and header[0] != tag:
            raise self._reader.error(
                "another DER tag", field, got=f"{header[0]:#04x}", want=f"{tag:#04x}"
            )
        if header[0] & _MAX_TAG_NUMBER == _MAX_TAG_NUMBER:
            raise self.error("a DER tag of several bytes", field)
        size = header[1]
        if size >= _LONG_FORM:
            octets = size - _LONG_FORM
            if not 0 < octets <= _MAX_LENGTH_OCTETS:
                raise self.error("a length that is not DER", field)
            long = self._reader.take(octets, field)
            size = int.from_bytes(long, "big")
            # X.690 section 10.1: the shortest form that holds the length.
            if long[0] == 0 or size < _LONG_FORM:
                raise self.error("a length that is not DER", field)
            header += long
        return header, self._reader.take(size, field)
