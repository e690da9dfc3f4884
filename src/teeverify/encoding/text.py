"""Text from evidence is not text of ours: nothing in it may steer a terminal (T66)."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

_UNSAFE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def printable(text: str, *, limit: int = 2000) -> str:
    """Replace control, format and bidirectional characters by their code, and cut."""
    if text.isprintable() and len(text) <= limit:  # nearly all text
        return text
    shown = "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSAFE else c for c in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}…"
