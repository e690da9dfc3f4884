"""``teeverify demo``."""

from __future__ import annotations

from typing import TextIO


def demo(out: TextIO, *, colour: bool) -> int:
    """Placeholder until the simulator lands."""
    raise SystemExit(70)
