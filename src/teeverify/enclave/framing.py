"""Where an answer ends: what must stand at the end of a stream, found as its bytes pass.

Only the beginnings of lines are looked at, so that a piece costs a search of its bytes and no more.
The end is held back until the signature is stored; nothing else of an answer waits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["ANSWERS", "RESERVED", "Framing", "StreamEnd"]


RESERVED = b": teeverify/1"
"""How the line begins that only this server may send, behind the end of a stream."""


class Framing:
    """How the streams of one route end.

    Args:
        ends: How the line begins that ends an answer. None: its answers are not streamed.
        errors: How the line begins that says that the engine failed in mid-stream.
    """

    def __init__(
        self,
        *ends: bytes,
        errors: tuple[bytes, ...] = (b'data: {"error"', b"event: error", RESERVED),
    ) -> None:
        self.marks = ends + errors
        self.streams = bool(ends)
        either = b"|".join(re.escape(mark) for mark in self.marks)
        self.at_line = re.compile(b"\n(?:" + either + b")")
        self.at_start = re.compile(either)
        self.is_error = re.compile(b"|".join(re.escape(mark) for mark in errors))


_OPENAI = Framing(b"data: [DONE]", b"data:[DONE]")
ANSWERS: Mapping[str, Framing] = {
    "/v1/chat/completions": _OPENAI,
    "/v1/completions": _OPENAI,
    "/v1/responses": Framing(
        b"event: response.completed", b"event: response.incomplete", b"event: response.failed"
    ),
    "/v1/messages": Framing(b"event: message_stop"),
    "/v1/embeddings": Framing(),
}
"""The routes whose answers are signed. Nothing else that changes anything is passed on."""


class StreamEnd:
    """Finds the end of one stream.

    Args:
        framing: How it ends.

    Attributes:
        held: The bytes from the end's line on.
        reached: Whether the end has come.
        failed: Whether the engine said that it failed.
    """

    def __init__(self, framing: Framing) -> None:
        self.held = b""
        self.reached = False
        self.failed = False
        self._framing = framing
        self._at_line_start = True

    def pass_on(self, data: bytes) -> bytes:
        """Take bytes of the stream; give those that may leave now."""
        if self.held:
            data = self.held + data
            if self.reached:
                self.held = data
                return b""
        start = self._find(data)
        if start >= 0:
            self.held, self.reached = data[start:], True
            self.failed = self._framing.is_error.match(self.held) is not None
            return data[:start]
        line = data.rfind(b"\n") + 1
        if (line or self._at_line_start) and line < len(data):
            # An unfinished line that may yet become the last one.
            begun = data[line:]
            if any(mark.startswith(begun) for mark in self._framing.marks):
                self.held = begun
                self._at_line_start = True
                return data[:line]
        self.held = b""
        if data:
            self._at_line_start = line == len(data)
        return data

    def _find(self, data: bytes) -> int:
        if self._at_line_start and self._framing.at_start.match(data):
            return 0
        found = self._framing.at_line.search(data)
        return found.start() + 1 if found else -1
