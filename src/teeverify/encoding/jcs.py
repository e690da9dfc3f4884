"""The one form of a JSON value that is hashed (RFC 8785, JSON Canonicalization Scheme)."""

from __future__ import annotations

import json
from typing import Any

from teeverify.errors import MalformedEvidence

__all__ = ["canonical_json"]

_MAX_INTEGER = 2**53 - 1


def canonical_json(value: object, *, field: str, id: str) -> bytes:
    """Write a value in its canonical form.

    Args:
        value: Objects, lists, texts, integers, truth values and nulls, nested as decoded JSON is.
        field: Dotted name for the error.
        id: Check id for the error.

    Raises:
        MalformedEvidence: A fraction, an integer beyond 2**53 (RFC 8785 section 3.2.2.3 writes both
            as IEEE doubles, which nothing here needs), or a lone surrogate.
    """
    text = json.dumps(_sorted(value, field, id), ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedEvidence(
            f"{field}: text with a lone surrogate", id=id, field=field
        ) from None


def _sorted(value: object, field: str, id: str) -> Any:  # noqa: ANN401 -- JSON
    """The same value with every object's members in order."""
    if isinstance(value, dict):
        # RFC 8785 section 3.2.3: by UTF-16 code units, which differ beyond the 16 bits.
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return {name: _sorted(value[name], field, id) for name in names}
    if isinstance(value, list):
        return [_sorted(item, field, id) for item in value]
    plain = value is None or isinstance(value, (str, bool))
    if plain or (isinstance(value, int) and abs(value) <= _MAX_INTEGER):
        return value
    raise MalformedEvidence(
        f"{field}: a number that is no plain integer", id=id, field=field, got=repr(value)[:40]
    )
