"""What was verified before, so that it is not done again (law 13)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Known"]

_T = TypeVar("_T")
_MOST = 256


class Known:
    """Outcomes of verifications that succeeded, for one object that holds endorsements.

    Each is kept by everything that it depends on but the time, which whoever asks looks at again.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def recall(self, key: Hashable, verify: Callable[[], _T]) -> _T:
        """Give what is kept under a key, or verify; what raises is not kept.

        Args:
            key: What is verified, and under which anchors. The first item says which kind it is,
                so that no two kinds share a key.
            verify: Verifies it.
        """
        if key in self._kept:
            found: _T = self._kept[key]
            return found
        made = verify()
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = made
        return made
