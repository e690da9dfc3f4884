"""How it is asked: so many at once (closed loop), so many a second (open loop), or in turns.

Targets that are asked one request at a time take turns, request by request: what changes on the
machine from one moment to the next is then the same for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from teeverify.bench.sample import Sample, read_stream
from teeverify.bench.workload import Ask

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Lane", "Load", "Target", "generate", "order_of"]

_LONGEST_ANSWER = 32 * 2**20
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint that is measured.

    Attributes:
        name: Its name in tables.
        url: Its base URL, as the OpenAI SDK takes it.
        model: The model that it is asked for.
        api_key: Sent as a bearer token, and written nowhere.
    """

    name: str
    url: str
    model: str
    api_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of each request."""
        own = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return own if self.api_key is None else {**own, "Authorization": f"Bearer {self.api_key}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A target and what it is asked.

    Attributes:
        target: Where to.
        asks: The requests, in this order.
        keep: Whether samples keep the bytes of request and answer.
    """

    target: Target
    asks: Sequence[Ask]
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many requests are under way, or how many are sent a second.

    Attributes:
        batch: Requests under way at each moment (closed loop); of an open loop, no more than this.
        rate: Requests a second, at times of a Poisson process; ``None`` for a closed loop.
    """

    batch: int
    rate: float | None = None

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"batch {self.batch}" if self.rate is None else f"{self.rate:g} a second"

    @property
    def in_turns(self) -> bool:
        """Whether targets can take turns under it, request by request."""
        return self.batch == 1 and self.rate is None

    def share(self, part: int, parts: int) -> Load:
        """What one of several processes does of it."""
        batch = self.batch // parts + (part < self.batch % parts)
        return Load(batch=batch, rate=None if self.rate is None else self.rate / parts)


async def generate(
    lanes: Sequence[Lane], load: Load, *, timeout: float, seed: str = ""
) -> list[list[Sample]]:
    """Send the requests and read the answers.

    Nothing is parsed while answers arrive, of any stream: pieces and their times are kept, and read
    when all have ended.
    Connections are opened before the first request, so that no answer's time has that in it.

    Args:
        lanes: One target's requests; or, where the load allows it, several targets', in turns.
        load: How many at once, or how many a second.
        timeout: Seconds for one answer.
        seed: Settles the times of an open loop, and whose turn comes first.

    Returns:
        The samples of each lane.
    """
    async with contextlib.AsyncExitStack() as stack:
        senders = [
            await stack.enter_async_context(_connected(lane, load, timeout)) for lane in lanes
        ]
        if len(senders) > 1:
            answers = await _turns(senders, [lane.asks for lane in lanes], seed)
        elif load.rate is None:
            answers = [await _closed(senders[0], lanes[0].asks, load.batch)]
        else:
            answers = [await _open(senders[0], lanes[0].asks, load, seed)]
    return [
        [answer.read(keep=lane.keep) for answer in each]
        for lane, each in zip(lanes, answers, strict=True)
    ]


def order_of(count: int, number: int, seed: str) -> list[int]:
    """Whose turn it is: a random order, then its reverse, and so on.

    A machine that grows slower evenly then takes as much from each, however few turns there are.
    """
    order = list(range(count))
    random.Random(f"{seed}/{number // 2}").shuffle(order)  # noqa: S311 -- no secret
    return order if number % 2 == 0 else order[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What came back, and when, as it came."""

    sent: float
    ended: float
    wanted: int
    request: bytes
    pieces: Sequence[tuple[float, bytes]]
    error: str | None

    def read(self, *, keep: bool) -> Sample:
        """What it says: to be asked when nothing is measured any more."""
        if self.error is not None:
            return Sample(sent=self.sent, ended=self.ended, wanted=self.wanted, error=self.error)
        sample = read_stream(self.pieces, sent=self.sent, ended=self.ended, wanted=self.wanted)
        if not keep:
            return sample
        whole = b"".join(piece for _, piece in self.pieces)
        return replace(sample, request=self.request, response=whole)


async def _turns(
    senders: Sequence[_Sender], asks: Sequence[Sequence[Ask]], seed: str
) -> list[list[_Answer]]:
    answers: list[list[_Answer]] = [[] for _ in senders]
    for number, turn in enumerate(zip(*asks, strict=True)):
        for lane in order_of(len(senders), number, seed):
            answers[lane].append(await senders[lane].send(turn[lane]))
    return answers


async def _closed(sender: _Sender, asks: Sequence[Ask], batch: int) -> list[_Answer]:
    waiting = iter(asks)
    answers: list[_Answer] = []

    async def one() -> None:
        for ask in waiting:
            answers.append(await sender.send(ask))  # noqa: PERF401 -- shared with the others

    await asyncio.gather(*(one() for _ in range(min(batch, len(asks)))))
    return answers


async def _open(sender: _Sender, asks: Sequence[Ask], load: Load, seed: str) -> list[_Answer]:
    times = random.Random(seed)  # noqa: S311 -- no secret
    room = asyncio.Semaphore(load.batch)
    loop = asyncio.get_running_loop()
    at, rate = loop.time(), load.rate or 1.0

    async def one(ask: Ask) -> _Answer:
        due = time.perf_counter()  # an answer that waits for room is late, and says so
        async with room:
            return replace(await sender.send(ask), sent=due)

    tasks = []
    for ask in asks:
        at += times.expovariate(rate)
        await asyncio.sleep(max(0.0, at - loop.time()))
        tasks.append(asyncio.create_task(one(ask)))
    return list(await asyncio.gather(*tasks))


@contextlib.asynccontextmanager
async def _connected(lane: Lane, load: Load, timeout: float) -> AsyncIterator[_Sender]:
    """A sender with as many open connections as the load will use."""
    import aiohttp  # noqa: PLC0415 -- an extra

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers=lane.target.headers,
        auto_decompress=False,
    ) as session:
        sender = _Sender(session, lane.target)
        count = min(load.batch, len(lane.asks))
        await asyncio.gather(*(sender.open_connection() for _ in range(count)))
        yield sender


class _Sender:
    """Sends one request and keeps what comes back, and when."""

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        import aiohttp  # noqa: PLC0415 -- an extra

        self._session = session
        self._base = target.url.rstrip("/")
        self._model = target.model
        self._connect = aiohttp.ClientTimeout(total=_CONNECT_SECONDS)
        self._errors = (aiohttp.ClientError, asyncio.TimeoutError, OSError)

    async def open_connection(self) -> None:
        """Leave an open connection behind; an endpoint that refuses is told of by its answers."""
        with contextlib.suppress(*self._errors):
            async with self._session.get(
                f"{self._base}/models", allow_redirects=False, timeout=self._connect
            ) as response:
                await response.read()

    async def send(self, ask: Ask) -> _Answer:
        body = ask.body(self._model)
        sent = time.perf_counter()
        pieces: list[tuple[float, bytes]] = []
        try:
            why = await self._receive(body, pieces)
        except self._errors as error:
            why = type(error).__name__
        return _Answer(
            sent=sent,
            ended=pieces[-1][0] if why is None else time.perf_counter(),
            wanted=ask.output_tokens,
            request=body,
            pieces=pieces,
            error=why,
        )

    async def _receive(self, body: bytes, pieces: list[tuple[float, bytes]]) -> str | None:
        size = 0
        url = f"{self._base}/chat/completions"
        async with self._session.post(url, data=body, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004
                return f"HTTP {response.status}"
            async for piece in response.content.iter_any():
                pieces.append((time.perf_counter(), piece))
                size += len(piece)
                if size > _LONGEST_ANSWER:
                    return "the answer is too long"
        return None if pieces else "the answer is empty"
