"""What was verified of endorsements stays with them (law 13): no module-global memo."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar, cast

from teeverify.clock import UTC

__all__ = ["Dated", "Remembering"]

T = TypeVar("T")
_MAX_REMEMBERED = 256
_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """Something verified, and the span in which that stays true.

    Attributes:
        value: What was verified.
        not_before: The latest of the dates from which its parts are valid.
        not_after: The earliest of the dates until which its parts are valid.
    """

    value: T
    not_before: datetime
    not_after: datetime

    @classmethod
    def always(cls, value: T) -> Dated[T]:
        """Something that time does not change, such as what bytes were read as."""
        return cls(value, *_ALWAYS)


class Remembering:
    """Base of what holds endorsements, and what was verified of them."""

    __slots__ = ("_verified",)

    def __init__(self) -> None:
        self._verified: dict[Hashable, Dated[object]] = {}

    def remember(self, key: Hashable, at: datetime, verify: Callable[[], Dated[T]]) -> Dated[T]:
        """Give what was verified under this key, or verify it now.

        Args:
            key: Everything that the outcome depends on but the time; equal keys must mean equal
                inputs of one kind of verification.
            at: The time for which it must hold.
            verify: Verifies at ``at``; raises, or returns what was proved and for how long.
        """
        known = self._verified.get(key)
        if known is not None and known.not_before <= at <= known.not_after:
            self._verified[key] = self._verified.pop(key, known)  # the last one to be forgotten
            return cast("Dated[T]", known)
        fresh = verify()
        self._verified[key] = cast("Dated[object]", fresh)
        for oldest in tuple(self._verified)[:-_MAX_REMEMBERED]:
            self._verified.pop(oldest, None)
        return fresh
