"""The embedded engine: the small decoder, and a batch that requests join and leave.

It is not vLLM, and says so in ``/v1/models`` and in every answer. It exists so that tests and
demonstrations have a real loop, token by token, without a GPU, a download or a second process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from teeverify.enclave.engines import (
    EngineBusy,
    EngineFailed,
    FinishReason,
    Message,
    Piece,
    Sampling,
)
from teeverify.enclave.engines.decoder import ASSISTANT, END, START, WINDOW, Cache, Decoder

__all__ = ["TinyEngine"]

logger = logging.getLogger("teeverify.enclave")

_ROWS = 128
_MAX_WAITING = 1024
_MAX_TOKENS = 4096

Array = npt.NDArray[np.float64]


@dataclass(eq=False, slots=True, kw_only=True)
class _Sequence:
    """One answer being made."""

    prompt: npt.NDArray[np.intp]
    sampling: Sampling
    random: np.random.Generator
    pieces: asyncio.Queue[Piece | None] = field(default_factory=asyncio.Queue)
    made: int = 0
    gone: bool = False
    recent: tuple[int, int] = (START, ASSISTANT)

    def choose(self, logits: Array) -> None:
        """Choose the next token."""
        self.recent = (self.recent[1], _choose(logits, self.sampling, self.random))
        self.made += 1

    def deliver(self) -> None:
        """Give out the token that was chosen."""
        token = self.recent[1]
        reason: FinishReason | None = None
        if token == END:
            reason = "stop"
        elif self.made >= self.sampling.max_tokens:
            reason = "length"
        self.pieces.put_nowait(Piece("" if token == END else chr(token), 1, reason))
        self.gone = self.gone or reason is not None


class TinyEngine:
    """Answers with the small decoder. Deterministic where the temperature is 0 or a seed is given.

    Tokens are bytes. It sees the last 128 of a conversation. The arithmetic runs in a thread; all
    else on the event loop, which must be one and the same for all answers at a time.

    Args:
        rows: How many answers are made at once; further ones wait.
    """

    max_tokens = _MAX_TOKENS

    def __init__(self, *, rows: int = _ROWS) -> None:
        self._decoder = Decoder()
        self._cache = Cache(rows)
        self._rows = rows
        self._waiting: deque[_Sequence] = deque()
        self._active: list[_Sequence] = []
        self._driver: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tiny engine")
        self.fingerprint = f"teeverify-tiny-1-not-vllm-{self._decoder.digest()[:8]}"
        self.description = (
            "teeverify's embedded test engine: a very small NumPy decoder with random weights. "
            "It is not vLLM, and what it says has no meaning."
        )
        self._decoder.prefill(np.array([START, ASSISTANT]), self._cache, 0)  # warms NumPy up

    def count(self, messages: Sequence[Message]) -> int:
        """How many tokens a prompt has."""
        return sum(len(_encoded(message)) for message in messages) + 1

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[Piece, None]:
        """Answer a chat; see :class:`~teeverify.enclave.engines.Engine`."""
        if len(self._waiting) >= _MAX_WAITING:
            raise EngineBusy
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & (2**64 - 1)
        sequence = _Sequence(
            prompt=_prompt(messages), sampling=sampling, random=np.random.default_rng(seed)
        )
        self._waiting.append(sequence)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        try:
            while True:
                piece = _joined(await sequence.pieces.get(), sequence.pieces)
                if piece is None:
                    raise EngineFailed
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            sequence.gone = True

    def close(self) -> None:
        """Stop; whatever is being made breaks off."""
        self._thread.shutdown(cancel_futures=True)

    async def _drive(self) -> None:
        """Make one token after the other for all, as long as there is somebody to make it for."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting or self._active:
                self._drop_gone()
                old = len(self._active)
                self._active += self._newcomers()
                await loop.run_in_executor(self._thread, self._advance, old)
                for sequence in self._active:
                    sequence.deliver()
        except Exception:  # whatever it is, nobody may wait for ever
            logger.exception("the engine broke off")
        finally:
            for sequence in (*self._active, *self._waiting):
                if not sequence.gone:
                    sequence.pieces.put_nowait(None)
            self._active.clear()
            self._waiting.clear()

    def _newcomers(self) -> list[_Sequence]:
        """Those who wait and for whom there is room."""
        found: list[_Sequence] = []
        while self._waiting and len(self._active) + len(found) < self._rows:
            sequence = self._waiting.popleft()
            if not sequence.gone:
                found.append(sequence)
        return found

    def _advance(self, old: int) -> None:
        """One more token for the old ones in the batch, the first for the others. In the thread."""
        if old:
            recent = np.array([sequence.recent for sequence in self._active[:old]])
            rows = self._decoder.step(recent, self._cache)
            for sequence, logits in zip(self._active[:old], rows, strict=True):
                sequence.choose(logits)
        for row in range(old, len(self._active)):
            sequence = self._active[row]
            sequence.choose(self._decoder.prefill(sequence.prompt, self._cache, row))

    def _drop_gone(self) -> None:
        """Take finished answers out of the batch; the last one moves into the gap."""
        for index in reversed(range(len(self._active))):
            if self._active[index].gone:
                last = self._active.pop()
                if index < len(self._active):
                    self._cache.move(len(self._active), index)
                    self._active[index] = last


def _encoded(message: Message) -> bytes:
    return f"{message.role}: {message.text} ".encode()


def _prompt(messages: Sequence[Message]) -> npt.NDArray[np.intp]:
    text = b"".join(_encoded(message) for message in messages)[-(WINDOW - 2) :]
    return np.array([START, *text, ASSISTANT], dtype=np.intp)


def _choose(logits: Array, sampling: Sampling, random: np.random.Generator) -> int:
    """Choose a token by temperature and nucleus."""
    if sampling.ignore_end:
        logits = logits.copy()
        logits[END] = -np.inf
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    weights = np.exp((logits - logits.max()) / sampling.temperature)
    order = np.argsort(-weights, kind="stable")
    share = np.cumsum(weights[order] / weights.sum())
    # The nucleus ends with the token that reaches top_p; it has at least one.
    size = int(np.searchsorted(share, sampling.top_p)) + 1
    share = share[:size]
    place = int(np.searchsorted(share, random.random() * share[-1], side="right"))
    return int(order[min(place, len(share) - 1)])


def _joined(first: Piece | None, waiting: asyncio.Queue[Piece | None]) -> Piece | None:
    """Join what has arrived meanwhile, so that a slow reader is not sent letter by letter."""
    if first is None:
        return None
    texts, tokens, reason = [first.text], first.tokens, first.finish_reason
    while reason is None and not waiting.empty():
        piece = waiting.get_nowait()
        if piece is None:
            return None
        texts.append(piece.text)
        tokens += piece.tokens
        reason = piece.finish_reason
    return Piece("".join(texts), tokens, reason)
