"""What a row and a parameter of the policy table are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["LEVELS", "Level", "Parameter", "PresetName", "Row"]

PresetName: TypeAlias = Literal["genuine", "strict"]
Level: TypeAlias = Literal["note", "warn", "asserted", "proven"]
LEVELS: tuple[Level, ...] = ("note", "warn", "asserted", "proven")
"""From weakest to strongest: recorded only; anything less is a warning; at least somebody's word
(and then a warning); proven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the presets demand of one check.

    Attributes:
        id: The check's id.
        genuine: Level in the preset ``genuine``.
        strict: Level in the preset ``strict``.
        floor: The weakest level that a user's policy may set.
        asks: What is asked, for the docs.
        tier: Whether the row counts when the tier is computed; only ``roots`` does not, because
            foreign roots mark every face by themselves.
    """

    id: str
    genuine: Level
    strict: Level
    floor: Level
    asks: str
    tier: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value that a check compares with.

    Attributes:
        name: Dotted name: section and key of the TOML file.
        genuine: Value in ``genuine``; its type is the parameter's type.
        strict: Value in ``strict``.
        asks: What it means, with its unit.
        wish: Whether it is the user's own expectation, which then counts for the tier as it is;
            otherwise the tier is computed with the value of ``strict``.
        item: Type of the items, for lists; or of the value where the preset has ``None``.
        form: What each item of a list must match.
    """

    name: str
    genuine: Any
    strict: Any
    asks: str
    wish: bool = False
    item: type = str
    form: str = r".+"
