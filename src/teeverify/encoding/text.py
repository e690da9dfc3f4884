"""What all texts need. Nothing that evidence says may steer a terminal (T66)."""

from __future__ import annotations

import unicodedata

__all__ = ["counted", "printable"]

_UNSAFE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def printable(text: str, *, limit: int = 2000) -> str:
    """Replace control, format and bidirectional characters by their code, and cut."""
    if text.isprintable() and len(text) <= limit:  # nearly all text
        return text
    shown = "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSAFE else c for c in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}…"


def counted(number: int, noun: str) -> str:
    """So many things, in the plural unless it is exactly one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
