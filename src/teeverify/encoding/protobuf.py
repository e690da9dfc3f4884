"""Protocol Buffers on the wire, as far as signed messages need them: numbers and bytes.

https://protobuf.dev/programming-guides/encoding/. There are no schemas here: whoever reads a
message asks for its fields by number, and says which may occur once.
"""

from __future__ import annotations

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence

__all__ = ["Message"]

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_MAX_VARINT = 10
_MAX_FIELDS = 4096
_BITS = 7
_MORE = 0x80


class Message:
    """One message, taken apart; nested messages stay bytes until they are asked for.

    Args:
        data: The message's bytes.
        name: Prefix of field names in errors.
        id: Check id that errors carry.

    Raises:
        MalformedEvidence: Not a message, or one with more fields than any has.
    """

    def __init__(self, data: bytes, *, name: str, id: str) -> None:
        self._name = name
        self._id = id
        self._fields: dict[int, list[int | bytes]] = {}
        reader = Reader(data, name=name, id=id)
        count = 0
        while reader.remaining:
            count += 1
            key = _varint(reader)
            if count > _MAX_FIELDS or not key >> 3:
                raise reader.error("too many fields, or one without a number", "field")
            self._fields.setdefault(key >> 3, []).append(_value(reader, key & 7))

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of the fields that are there."""
        return frozenset(self._fields)

    def integer(self, number: int) -> int:
        """A number; 0 where it is absent, as in proto3."""
        value = self._single(number, 0)
        if not isinstance(value, int):
            raise self._error(number, "not a number")
        return value

    def octets(self, number: int) -> bytes:
        """Bytes; empty where they are absent, as in proto3."""
        value = self._single(number, b"")
        if not isinstance(value, bytes):
            raise self._error(number, "not bytes")
        return value

    def message(self, number: int) -> Message | None:
        """A nested message; ``None`` where it is absent."""
        if number not in self._fields:
            return None
        return self._nested(number, self.octets(number))

    def messages(self, number: int) -> tuple[Message, ...]:
        """All nested messages of a repeated field, or of a map's entries."""
        found = []
        for value in self._fields.get(number, []):
            if not isinstance(value, bytes):
                raise self._error(number, "not a message")
            found.append(self._nested(number, value))
        return tuple(found)

    def _nested(self, number: int, data: bytes) -> Message:
        return Message(data, name=f"{self._name}.{number}", id=self._id)

    def _single(self, number: int, default: int | bytes) -> int | bytes:
        """Parsers may take the last of several, or the first: so there must not be several."""
        values = self._fields.get(number, [default])
        if len(values) != 1:
            raise self._error(number, "the same field twice")
        return values[0]

    def _error(self, number: int, problem: str) -> MalformedEvidence:
        field = f"{self._name}.{number}"
        return MalformedEvidence(f"{field}: {problem}", id=self._id, field=field)


def _varint(reader: Reader) -> int:
    value = 0
    for position in range(_MAX_VARINT):
        (octet,) = reader.take(1, "varint")
        value |= (octet & ~_MORE) << (_BITS * position)
        if not octet & _MORE:
            break
    else:
        raise reader.error("a number without an end", "varint")
    if value >> 64:
        raise reader.error("a number of more than 64 bits", "varint")
    return value


def _value(reader: Reader, kind: int) -> int | bytes:
    if kind == _VARINT:
        return _varint(reader)
    if kind == _BYTES:
        return reader.take(_varint(reader), "bytes")
    if kind in (_FIXED_64, _FIXED_32):
        return reader.integer(8 if kind == _FIXED_64 else 4, "fixed")
    raise reader.error("a kind of field that is not read here", "field", got=str(kind))
