"""Why a hash may differ. For the message only: no variant is ever accepted (law 4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from teeverify.encoding.strict import json_value
from teeverify.errors import MalformedEvidence

__all__ = ["diagnose"]

_RE_ENCODED = "only in JSON layout: something re-encoded it between the enclave and you"


def diagnose(raw: bytes, want_sha256: str) -> str | None:
    """Say in which harmless-looking way the bytes were changed, if one of the usual ways fits.

    Args:
        raw: The bytes at hand.
        want_sha256: The hash that was signed, lower-case hex.

    Returns:
        The end of a sentence that begins 'They differ', or ``None``.
    """
    for text, variant in _variants(raw):
        if hashlib.sha256(variant).hexdigest() == want_sha256:
            return text
    return None


def _variants(raw: bytes) -> Iterator[tuple[str, bytes]]:
    stripped = raw.rstrip(b"\r\n")
    for count in range(4):
        for end in (b"\n", b"\r\n"):
            variant = stripped + end * count
            if variant != raw:
                yield "only in the line breaks at the end", variant
    yield "only in line breaks (CRLF, LF)", raw.replace(b"\r\n", b"\n")
    yield "only in line breaks (CRLF, LF)", raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "only in a byte order mark", raw.removeprefix(b"\xef\xbb\xbf")
    try:
        value = json_value(raw, field="answer", id="response.hash-equal")
    except MalformedEvidence:
        return
    for ascii_only in (False, True):
        for separators in ((",", ":"), (", ", ": ")):
            for sort in (False, True):
                yield (
                    _RE_ENCODED,
                    json.dumps(
                        value, ensure_ascii=ascii_only, separators=separators, sort_keys=sort
                    ).encode("utf-8"),
                )
        for indent in (2, 4):
            yield _RE_ENCODED, json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
