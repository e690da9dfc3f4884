"""The bytes of one answer as they pass, and whether it was read to its end.

The SDK stops at ``data: [DONE]`` and closes: it never asks for what comes after. So what was
signed is read on here, within bounds, before the verdict. A stream that its user abandoned gets no
verdict; one that he read to its end cannot end without one.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from teeverify.client.fetch import Deadline
from teeverify.errors import ResponseNotVerified, TeeVerifyError

__all__ = ["Captured", "Capture", "stream_of"]

MAX_ANSWER = 64 * 1024 * 1024
_MAX_DRAIN_BYTES = 64 * 1024
_MAX_DRAIN_SECONDS = 5.0
# Every line at which any reader of event streams may stop, by whatever it takes for a line break:
# a reader that stops where we see no end would be left without a verdict.
_BREAK = rb"\A(?:\xef\xbb\xbf)?|[\n\r\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]"
_END = re.compile(rb"(?:" + _BREAK + rb")(data:[^\S\r\n]*\[DONE\])")
_LONGEST_END = 64


class Capture:
    """Collects the bytes of an answer, and hands them out so that the end comes by itself."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._pending: deque[bytes] = deque()
        self._tail = b""
        self.end_was_read = False
        self.exhausted = False

    def feed(self, chunk: bytes) -> None:
        """Take bytes from the network.

        Raises:
            ResponseNotVerified: The answer is larger than any that is verified.
        """
        self._size += len(chunk)
        if self._size > MAX_ANSWER:
            raise ResponseNotVerified(
                "the answer is too large to be verified",
                id="answer.size",
                want=f"at most {MAX_ANSWER} bytes",
            )
        self._chunks.append(chunk)
        # The last event is handed out alone, so that whoever got it has read all before it.
        before = len(self._tail)
        joined = self._tail + chunk
        start = before
        for match in _END.finditer(joined):
            cut = match.start(1)
            if cut > start:
                self._pending.append(joined[start:cut])
                start = cut
        if joined[start:]:
            self._pending.append(joined[start:])
        self._tail = joined[-_LONGEST_END:]

    def take(self) -> bytes | None:
        """Hand out the next bytes, if there are any."""
        if not self._pending:
            return None
        piece = self._pending.popleft()
        return piece
