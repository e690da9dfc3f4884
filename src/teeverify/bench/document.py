"""A report as sections of text, tables and figures, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Figure", "Section", "Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: a header and its rows, all text, and what it is of where its section has several."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A plot with intervals: a row a group.

    Attributes:
        title: What it shows.
        unit: Of the value axis.
        groups: Names along the other axis.
        series: By name: middle, low and high of each group; ``None`` where it has none.
    """

    title: str
    unit: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[tuple[float, float, float] | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what is below it."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
