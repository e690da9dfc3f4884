"""The one way to take bytes apart."""

from __future__ import annotations

from teeverify.errors import MalformedEvidence

__all__ = ["Reader"]


class Reader:
    """A forward-only cursor over bytes in which every read names its field.

    Args:
        data: The bytes to read.
        name: Prefix of every field name, for example ``tdx.quote``.
        id: Check id that errors carry.
        base: Offset of ``data`` inside the outer buffer, so that errors give absolute offsets.
    """

    __slots__ = ("_base", "_data", "_id", "_name", "_position")

    def __init__(self, data: bytes, *, name: str, id: str, base: int = 0) -> None:
        self._data = data
        self._name = name
        self._id = id
        self._base = base
        self._position = 0

    @property
    def offset(self) -> int:
        """Absolute offset of the next byte."""
        return self._base + self._position

    @property
    def position(self) -> int:
        """Offset of the next byte inside this reader's own data."""
        return self._position

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._position

    def take(self, size: int, field: str) -> bytes:
        """Take exactly ``size`` bytes.

        Raises:
            MalformedEvidence: Fewer bytes are left.
        """
        start = self._position
        end = start + size
        if size < 0 or end > len(self._data):
            raise self.error("truncated", field, need=size, have=self.remaining)
        self._position = end
        return self._data[start:end]

    def integer(self, size: int, field: str) -> int:
        """Take an unsigned little-endian integer of ``size`` bytes.

        Raises:
            MalformedEvidence: Fewer bytes are left.
        """
        return int.from_bytes(self.take(size, field), "little")

    def u8(self, field: str) -> int:
        """Take one byte."""
        return self.integer(1, field)

    def u16(self, field: str) -> int:
        """Take a little-endian 16-bit integer."""
        return self.integer(2, field)

    def u32(self, field: str) -> int:
        """Take a little-endian 32-bit integer."""
        return self.integer(4, field)

    def peek(self) -> int | None:
        """The next byte without taking it, or ``None`` at the end."""
        return self._data[self._position] if self.remaining else None

    def zeros(self, size: int, field: str) -> None:
        """Take ``size`` reserved bytes that must all be zero.

        Raises:
            MalformedEvidence: Fewer bytes are left, or one is not zero.
        """
        if self.take(size, field).count(0) != size:  # ten times faster than any()
            raise self.error("reserved bytes are not zero", field)

    def sub(self, size: int, field: str) -> Reader:
        """Take ``size`` bytes as a reader of their own, with absolute offsets kept.

        Raises:
            MalformedEvidence: Fewer bytes are left.
        """
        start = self.offset
        return Reader(self.take(size, field), name=f"{self._name}.{field}", id=self._id, base=start)

    def rest(self) -> bytes:
        """Take whatever is left."""
        return self.take(self.remaining, "rest")

    def finish(self) -> None:
        """Demand that nothing is left.

        Raises:
            MalformedEvidence: Bytes are left.
        """
        if self.remaining:
            raise self.error("trailing data", "end", need=0, have=self.remaining)

    def error(
        self,
        problem: str,
        field: str,
        *,
        need: int | str | None = None,
        have: int | str | None = None,
        got: str | None = None,
        want: str | None = None,
    ) -> MalformedEvidence:
        """Build (not raise) the error for a field at the current offset."""
        name = f"{self._name}.{field}"
        return MalformedEvidence(
            f"{name}: {problem}",
            id=self._id,
            field=name,
            offset=self.offset,
            need=need,
            have=have,
            got=got,
            want=want,
        )
