"""The bytes of one answer as they pass, and whether they were read to their end.

The SDK stops at ``data: [DONE]`` and closes: it never asks for what comes after. So the rest of
what was signed is read on here, within bounds, before the verdict. A stream that its user abandons
gets no verdict; one that he read to its end cannot end without one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from teeverify.client.fetch import Deadline
from teeverify.errors import ResponseNotVerified

__all__ = ["Capture", "CapturedStream", "stream_type"]

MAX_ANSWER = 64 * 1024 * 1024
_MAX_DRAIN_BYTES = 64 * 1024
_MAX_DRAIN_SECONDS = 5.0
# Every line at which a reader of event streams may stop, by whatever it takes for a line break:
# one that stopped where no end is seen here would be left without a verdict.
_BREAK = rb"[\n\r\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]"
_END = re.compile(rb"(?:" + _BREAK + rb")(?:\xef\xbb\xbf)?(data:[^\S\r\n]{0,200}\[DONE\])")
_WINDOW = 256


class Capture:
    """Collects an answer, and hands it out so that its last event comes by itself."""

    def __init__(self) -> None:
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
            ResponseNotVerified: The answer is larger than any that is verified.
        """
        self.keep(chunk)
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

    Made by :func:`stream_type` for one family of clients; one object serves either kind of loop.

    Args:
        response: The answer, whose body was not touched yet.
        errors: What the family raises where a connection breaks.
        verdict: Verifies the whole body and raises unless it is good; awaited in an event loop.
    """

    def __init__(
        self,
        response: Any,  # noqa: ANN401 -- of either family
        errors: tuple[type[BaseException], ...],
        verdict: Callable[[bytes], Awaitable[None] | None],
    ) -> None:
        self._response = response
        self._errors = errors
        self._verdict = verdict
        self._capture = Capture()
        self._source: Any = None
        self._exhausted = False
        self._broken = False
        self._closed = False

    # --- blocking ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[bytes]:
        """Hand the bytes on as they come.

        Raises:
            ResponseNotVerified: The connection broke, or the answer is too large.
        """
        if self._source is None:
            self._source = self._response.iter_raw()
        while True:
            piece = self._capture.take()
            if piece is not None:
                yield piece
            elif not self._pull():
                return

    def _pull(self) -> bool:
        """Take more from the network; whether there was more."""
        try:
            chunk = next(self._source, None)
            if chunk is None:
                self._exhausted = True
                return False
            self._capture.feed(chunk)
        except self._errors as error:
            self._broken = True
            raise _broke_off(error) from error
        except BaseException:
            self._broken = True
            raise
        return True

    def close(self) -> None:
        """Give the verdict where the answer was read to its end, and let the connection go.

        Raises:
            TeeVerifyError: The answer is not verified.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._must_be_judged():
                if not self._exhausted:
                    self._drain()
                self._verdict(self._capture.body)
        finally:
            self._response.close()

    def _must_be_judged(self) -> bool:
        """Whether it was read to its end; what broke off has raised, what is left is abandoned."""
        return not self._broken and (self._exhausted or self._capture.end_was_read)

    def _drain(self) -> None:
        """Read what follows the last event. What is then not there is not what was signed."""
        stream = self._response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        size = 0
        with Deadline(_MAX_DRAIN_SECONDS) as deadline:
            if connection is not None:
                deadline.watch(connection)
            try:
                for chunk in self._source:
                    self._capture.keep(chunk)
                    size += len(chunk)
                    if size > _MAX_DRAIN_BYTES or deadline.expired:
                        return
            except self._errors:
                return

    # --- in an event loop -------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """As :meth:`__iter__`.

        Raises:
            ResponseNotVerified: The connection broke, or the answer is too large.
        """
        if self._source is None:
            self._source = self._response.aiter_raw()
        elif self._capture.end_was_read:
            return  # the SDK drains too, in less time than a slow network needs
        while True:
            piece = self._capture.take()
            if piece is not None:
                yield piece
            elif not await self._apull():
                return

    async def _apull(self) -> bool:
        try:
            chunk = await anext(self._source, None)
            if chunk is None:
                self._exhausted = True
                return False
            self._capture.feed(chunk)
        except self._errors as error:
            self._broken = True
            raise _broke_off(error) from error
        except BaseException:
            self._broken = True
            raise
        return True

    async def aclose(self) -> None:
        """As :meth:`close`.

        Raises:
            TeeVerifyError: The answer is not verified.
        """
        import anyio  # noqa: PLC0415

        if self._closed:
            return
        self._closed = True
        try:
            if self._must_be_judged():
                if not self._exhausted:
                    with anyio.move_on_after(_MAX_DRAIN_SECONDS):
                        await self._adrain()
                outcome = self._verdict(self._capture.body)
                if outcome is not None:
                    await outcome
        finally:
            with anyio.CancelScope(shield=True):
                await self._response.aclose()

    async def _adrain(self) -> None:
        size = 0
        try:
            async for chunk in self._source:
                self._capture.keep(chunk)
                size += len(chunk)
                if size > _MAX_DRAIN_BYTES:
                    return
        except self._errors:
            return


def _broke_off(error: BaseException) -> ResponseNotVerified:
    return ResponseNotVerified(
        "the stream broke off before its end",
        id="answer.complete",
        got=type(error).__name__,
        want="data: [DONE] and a blank line",
        hint="What was received is a part of an answer; ask again.",
    )


def stream_type(family: Any) -> Callable[..., Any]:  # noqa: ANN401 -- a module of either name
    """The class of captured streams for a family of clients, which look at the base class."""
    bases = (CapturedStream, family.SyncByteStream, family.AsyncByteStream)
    return type("CapturedStream", bases, {})
