"""Asking several questions at once, and keeping why one of them was not answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from teeverify.encoding.text import printable
from teeverify.errors import EvidenceError, Unavailable

__all__ = ["Problems", "ask_each"]

T = TypeVar("T")
_AT_ONCE = 8


class Problems:
    """What could not be had is missing, which each check that needs it says; this is why."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """Each problem once."""
        return tuple(self._found)

    def skip(self, count: int) -> None:
        """Say that further questions were not asked, because the first was not answered."""
        if count:
            self._found[f"{count} further questions of that kind were not asked"] = None

    def note(self, action: Callable[[], T]) -> T | None:
        """Do something, and keep why it failed."""
        try:
            return action()
        except (EvidenceError, Unavailable) as error:
            got = "" if error.got is None else f" ({error.got})"
            self._found[printable(f"{error.message}{got}")] = None
            return None


def ask_each(actions: Sequence[Callable[[], T]], problems: Problems) -> list[T]:
    """Do several things at once: the others only where the first shows that there is somebody."""
    if not actions:
        return []
    first = problems.note(actions[0])
    if first is None:
        problems.skip(len(actions) - 1)
        return []
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        rest = list(pool.map(problems.note, actions[1:]))
    return [first, *(one for one in rest if one is not None)]
