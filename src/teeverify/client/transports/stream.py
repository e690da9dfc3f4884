"""The bytes of one answer as they pass, and whether they were read to their end.

The SDK stops at ``data: [DONE]`` and closes: it never asks for what comes after. So the rest of
what was signed is read on here, within bounds, before the verdict. A stream that its user abandons
gets no verdict; one that he read to its end cannot end without one.
"""

from __future__ import annotations

import json
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from teeverify.client.network.steps import Either, Runner, Steps
from teeverify.errors import ResponseNotVerified

__all__ = ["Capture", "CapturedStream", "Incoming"]

MAX_ANSWER = 64 * 1024 * 1024
MAX_DRAIN_BYTES = 64 * 1024
MAX_DRAIN_SECONDS = 5.0
# Every line at which a reader of event streams may stop, by whatever it takes for a line break:
# one that stopped where no end is seen here would be left without a verdict.
_BREAK = rb"[\n\r\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]"
_END = re.compile(rb"(?:" + _BREAK + rb")(?:\xef\xbb\xbf)?(data:[^\S\r\n]{0,200}\[DONE\])")
_WINDOW = 256


class Incoming(Protocol):
    """An answer's body on its way in, whatever library brings it."""

    errors: tuple[type[BaseException], ...]
    """What is raised where the connection breaks."""

    def chunk(self) -> Either:
        """The next bytes, exactly as they came; ``None`` at their end."""

    def rest(self, keep: Callable[[bytes], bool]) -> Either:
        """Hand the remaining bytes over until they end, time runs out, or enough were taken."""

    def close(self) -> Either:
        """Let the connection go; also in a task that was cancelled."""


class Capture:
    """Collects an answer, and hands it out so that its last event comes by itself.

    Args:
        read: Opens the pieces of an encrypted answer: what is collected is what came.
    """

    def __init__(self, read: Callable[[bytes], bytes] | None = None) -> None:
        self._open = read
        self.end_was_read = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._pending: deque[bytes] = deque()
        self._fed = b"\n"  # the beginning is the beginning of a line
        self._read = b"\n"

    @property
    def body(self) -> bytes:
        """All bytes so far, exactly as they came."""
        return b"".join(self._chunks)

    def keep(self, chunk: bytes) -> None:
        """Take bytes from the network that nobody is waiting for.

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

    def feed(self, chunk: bytes) -> None:
        """Take bytes from the network, to be handed out by :meth:`take`.

        Raises:
            ResponseNotVerified: The answer is larger than any that is verified, or an encrypted
                one cannot be opened.
        """
        self.keep(chunk)
        chunk = chunk if self._open is None else self._open(chunk)
        start = len(self._fed)
        joined = self._fed + chunk
        for match in _END.finditer(joined):
            # Whoever got the last event has then asked for it after all before it.
            if match.start(1) > start:
                self._pending.append(joined[start : match.start(1)])
                start = match.start(1)
        if len(joined) > start:
            self._pending.append(joined[start:])
        self._fed = joined[-_WINDOW:]

    def take(self) -> bytes | None:
        """Hand out the next bytes; ``None`` where more must come first."""
        if not self._pending:
            return None
        piece = self._pending.popleft()
        joined = self._read + piece
        self.end_was_read = self.end_was_read or _END.search(joined) is not None
        self._read = joined[-_WINDOW:]
        return piece


class CapturedStream:
    """The body of a streamed answer, which ends with a verdict.

    Args:
        runner: Takes the steps.
        incoming: The answer's body, which was not touched yet.
        verdict: Verifies the whole body and raises unless it is good.
        read: Opens the pieces of an encrypted answer; what came is what the verdict is about.
    """

    def __init__(
        self,
        runner: Runner,
        incoming: Incoming,
        verdict: Callable[[bytes], Steps[object]],
        read: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._runner: Any = runner  # of the kind that the loop over this stream needs
        self._incoming = incoming
        self._verdict = verdict
        self._capture = Capture(read)
        self._begun = False
        self._exhausted = False
        self._broken = False
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Hand the bytes on as they come.

        Raises:
            ResponseNotVerified: The connection broke, or the answer is too large.
        """
        while (piece := self._runner.run(self.next())) is not None:
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """As :meth:`__iter__`.

        Raises:
            ResponseNotVerified: The connection broke, or the answer is too large.
        """
        if self._begun and self._capture.end_was_read:
            return  # the SDK drains too, in less time than a slow network needs
        while (piece := await self._runner.run(self.next())) is not None:
            yield piece

    def close(self) -> None:
        """Give the verdict where the answer was read to its end, and let the connection go.

        Raises:
            TeeVerifyError: The answer is not verified.
        """
        self._runner.run(self.finish())

    async def aclose(self) -> None:
        """As :meth:`close`.

        Raises:
            TeeVerifyError: The answer is not verified.
        """
        await self._runner.run(self.finish())

    def next(self) -> Steps[bytes | None]:
        """The next bytes; ``None`` at the end."""
        self._begun = True
        while (piece := self._capture.take()) is None:
            if not (yield from self._pull()):
                return None
        return piece

    def _pull(self) -> Steps[bool]:
        """Take more from the network; whether there was more."""
        try:
            chunk = yield self._incoming.chunk()
            if chunk is not None:
                self._capture.feed(chunk)
        except self._incoming.errors as error:
            self._broken = True
            raise _broke_off(error) from error
        except BaseException:
            self._broken = True
            raise
        self._exhausted = chunk is None
        return not self._exhausted

    def finish(self) -> Steps[None]:
        """The verdict, once: what broke off has raised already, what is left is abandoned.

        What its reader could not read is not left: then whether it was signed says why.
        """
        if self._closed:
            return
        self._closed = True
        unread = isinstance(sys.exc_info()[1], (json.JSONDecodeError, UnicodeDecodeError))
        try:
            if not self._broken and (self._exhausted or self._capture.end_was_read or unread):
                if not self._exhausted:
                    yield from self._drain()
                yield from self._verdict(self._capture.body)
        finally:
            yield self._incoming.close()

    def _drain(self) -> Steps[None]:
        """Read what follows the last event. What is then not there is not what was signed."""
        room = MAX_DRAIN_BYTES

        def keep(chunk: bytes) -> bool:
            nonlocal room
            self._capture.keep(chunk)
            room -= len(chunk)
            return room >= 0

        try:
            yield self._incoming.rest(keep)
        except self._incoming.errors:
            return


def _broke_off(error: BaseException) -> ResponseNotVerified:
    """The error for a stream whose connection ended before it did."""
    return ResponseNotVerified(
        "the stream broke off before its end",
        id="answer.complete",
        got=type(error).__name__,
        want="data: [DONE] and a blank line",
        hint="What was received is a part of an answer; ask again.",
    )
