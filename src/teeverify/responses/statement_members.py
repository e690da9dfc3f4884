"""The members of a statement and of its signature, each read in its one form."""

from __future__ import annotations

import re
from typing import NoReturn

from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import MalformedEvidence

__all__ = ["ID", "ascii_text", "exactly", "hash32", "matching", "number", "refuse"]

ID = "answer.signature"
_HASH = re.compile(r"[0-9a-f]{64}")
_ASCII = re.compile(r"[ -~]*")


def exactly(value: JsonObject, names: set[str]) -> None:
    """Demand these members and no others.

    Raises:
        MalformedEvidence: Others, or too few.
    """
    if value.names() != names:
        unknown = ", ".join(sorted(name[:40] for name in value.names() - names))
        refuse(
            "other members than it must have",
            field=value.path,
            got=ascii(unknown)[:120] if unknown else "too few",
        )


def ascii_text(owner: JsonObject, name: str) -> str:
    """A text of printable ASCII.

    Raises:
        MalformedEvidence: Another value.
    """
    return matching(owner, name, _ASCII)


def matching(owner: JsonObject, name: str, form: re.Pattern[str]) -> str:
    """A text of this form.

    Raises:
        MalformedEvidence: Another value.
    """
    text = owner.text(name)
    if not form.fullmatch(text):
        refuse("another form", field=f"{owner.path}.{name}", got=ascii(text)[:60])
    return text


def hash32(owner: JsonObject, name: str) -> bytes:
    """32 bytes in lower-case hex.

    Raises:
        MalformedEvidence: Another value.
    """
    text = matching(owner, name, _HASH)
    return hex_bytes(text, field=f"{owner.path}.{name}", id=ID)


def number(owner: JsonObject, name: str, *, least: int = 0, most: int = 2**53 - 1) -> int:
    """A whole number within these bounds.

    Raises:
        MalformedEvidence: Another value.
    """
    value = owner.integer(name)
    if not least <= value <= most:
        refuse("out of range", field=f"{owner.path}.{name}", got=str(value)[:40])
    return value


def refuse(what: str, *, field: str, got: str | None = None) -> NoReturn:
    """Refuse what was read.

    Raises:
        MalformedEvidence: Always.
    """
    raise MalformedEvidence(f"{field}: {what}", id=ID, field=field, got=got)
