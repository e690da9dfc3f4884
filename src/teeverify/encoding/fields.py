"""Typed access to decoded JSON, with the path of every member in the error."""

from __future__ import annotations

from typing import Any, NoReturn

from teeverify.encoding.strict import base64_bytes, hex_bytes, json_value
from teeverify.errors import MalformedEvidence

__all__ = ["JsonObject"]


class JsonObject:
    """A JSON object whose members are read by name and type; a wrong one raises.

    Args:
        value: The decoded object.
        path: Dotted name of the object, for errors.
        id: Check id that errors carry.
    """

    __slots__ = ("_id", "_value", "path")

    def __init__(self, value: object, *, path: str, id: str) -> None:
        if not isinstance(value, dict):
            raise MalformedEvidence(
                f"{path}: not a JSON object", id=id, field=path, got=type(value).__name__
            )
        self._value: dict[str, Any] = value
        self._id = id
        self.path = path

    @classmethod
    def parse(cls, raw: bytes | str, *, path: str, id: str) -> JsonObject:
        """Decode a JSON text that must be an object.

        Raises:
            MalformedEvidence: See :func:`teeverify.encoding.strict.json_value`.
        """
        return cls(json_value(raw, field=path, id=id), path=path, id=id)

    def __contains__(self, name: str) -> bool:
        """Whether the member exists and is not ``null``."""
        return self._value.get(name) is not None

    def names(self) -> frozenset[str]:
        """The names of all members."""
        return frozenset(self._value)

    def raw(self, name: str) -> Any:  # noqa: ANN401
        """The member as decoded, or ``None``."""
        return self._value.get(name)

    def _wrong(self, name: str, want: str) -> NoReturn:
        value = self._value.get(name)
        missing = name not in self._value or value is None
        raise MalformedEvidence(
            f"{self.path}.{name}: {'missing' if missing else f'not {want}'}",
            id=self._id,
            field=f"{self.path}.{name}",
            got=None if missing else type(value).__name__,
            want=want,
        )

    def text(self, name: str) -> str:
        """A string member.

        Raises:
            MalformedEvidence: Absent or of another type (so for all readers below).
        """
        value = self._value.get(name)
        if not isinstance(value, str):
            self._wrong(name, "text")
        return value

    def integer(self, name: str) -> int:
        """An integer member; ``true`` and ``1.0`` are not integers."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(name, "an integer")
        return value

    def number(self, name: str) -> float:
        """A number member, whole or not."""
        value = self._value.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._wrong(name, "a number")
        return value

    def boolean(self, name: str) -> bool:
        """A ``true`` or ``false`` member."""
        value = self._value.get(name)
        if not isinstance(value, bool):
            self._wrong(name, "true or false")
        return value

    def object(self, name: str) -> JsonObject:
        """A member that is an object."""
        value = self._value.get(name)
        if not isinstance(value, dict):
            self._wrong(name, "an object")
        return JsonObject(value, path=f"{self.path}.{name}", id=self._id)

    def object_or_text(self, name: str) -> JsonObject:
        """A member that is an object, or a string holding one (providers do both)."""
        value = self._value.get(name)
        if isinstance(value, str):
            return JsonObject.parse(value, path=f"{self.path}.{name}", id=self._id)
        return self.object(name)

    def array(self, name: str) -> list[Any]:
        """A member that is a list, as decoded."""
        value = self._value.get(name)
        if not isinstance(value, list):
            self._wrong(name, "a list")
        return value

    def array_or_text(self, name: str) -> list[Any]:
        """A member that is a list, or a string holding one (providers do both)."""
        value = self._value.get(name)
        if isinstance(value, str):
            value = json_value(value, field=f"{self.path}.{name}", id=self._id)
        if not isinstance(value, list):
            self._wrong(name, "a list")
        return value

    def objects(self, name: str) -> tuple[JsonObject, ...]:
        """A member that is a list of objects."""
        return tuple(
            JsonObject(item, path=f"{self.path}.{name}[{index}]", id=self._id)
            for index, item in enumerate(self.array(name))
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """A member that is a list of strings."""
        values = self.array(name)
        if not all(isinstance(value, str) for value in values):
            self._wrong(name, "a list of texts")
        return tuple(values)

    def hex(self, name: str, length: int | None = None, *, prefix: bool = False) -> bytes:
        """A member of hexadecimal text; see :func:`~teeverify.encoding.strict.hex_bytes`."""
        return hex_bytes(
            self.text(name),
            field=f"{self.path}.{name}",
            id=self._id,
            length=length,
            prefix=prefix,
        )

    def base64(self, name: str, *, url: bool = False) -> bytes:
        """A member of base64 text; see :func:`~teeverify.encoding.strict.base64_bytes`."""
        return base64_bytes(self.text(name), field=f"{self.path}.{name}", id=self._id, url=url)
