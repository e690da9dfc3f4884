"""What a session does, as steps that any kind of program can take.

Sessions and transports are written once, as generators that yield what they need from outside; a
:class:`Blocking` or :class:`Looping` runner gives it to them, and throws what went wrong into them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from teeverify.client.network.fetch import AsyncFetch, Fetch, Get

__all__ = ["Alone", "Blocking", "Either", "Looping", "Runner", "Step", "Steps", "wait", "work"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Either:
    """One thing to do, as each kind of program does it.

    Attributes:
        blocking: Does it.
        looping: Does it in an event loop.
    """

    blocking: Callable[[], Any]
    looping: Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Alone:
    """Steps that only one takes at a time.

    Attributes:
        lock: The lock, of the runner's own kind.
        steps: The steps.
    """

    lock: Any
    steps: Steps[Any]


Step: TypeAlias = "Get | Either | Alone"
Steps: TypeAlias = "Generator[Step, Any, T]"


def wait(seconds: float) -> Either:
    """A pause, a half shorter or longer by chance.

    Threads that asked in turn would else wake in turn, and a balancer that hands out its machines
    in turn would send each to the same wrong one again.
    """
    long = seconds * (0.5 + secrets.randbelow(1000) / 1000)

    def looping() -> Awaitable[None]:
        import anyio  # noqa: PLC0415 -- only where there is an event loop

        return anyio.sleep(long)

    return Either(lambda: time.sleep(long), looping)


def work(do: Callable[[], Any]) -> Either:
    """Something that takes its time, or fetches: an event loop hands it to a worker thread."""

    def looping() -> Awaitable[Any]:
        from anyio import to_thread  # noqa: PLC0415

        return to_thread.run_sync(do)

    return Either(do, looping)


class Blocking:
    """Takes steps one after the other.

    Args:
        fetch: Does the GET requests.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @staticmethod
    def new_lock() -> threading.Lock:
        """A lock for :class:`Alone`."""
        return threading.Lock()

    def run(self, steps: Steps[T]) -> T:
        """Take the steps, and give what they return.

        Raises:
            BaseException: What the steps raise, or did not catch.
        """
        outcome: Any = None
        failure: BaseException | None = None
        try:
            while True:
                step = steps.send(outcome) if failure is None else steps.throw(failure)
                outcome, failure = None, None
                try:
                    outcome = self._do(step)
                except BaseException as error:  # noqa: BLE001 -- the steps decide
                    failure = error
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            failure = None  # or it would hold this frame, and the frame it

    def _do(self, step: Step) -> Any:  # noqa: ANN401 -- whatever the steps asked for
        if isinstance(step, Get):
            return self._fetch(step)
        if isinstance(step, Either):
            return step.blocking()
        with step.lock:
            return self.run(step.steps)


class Looping:
    """As :class:`Blocking`, in an event loop.

    Args:
        fetch: Does the GET requests.
    """

    def __init__(self, fetch: AsyncFetch) -> None:
        self._fetch = fetch

    @staticmethod
    def new_lock() -> Any:  # noqa: ANN401 -- a lock of anyio
        """A lock for :class:`Alone`."""
        import anyio  # noqa: PLC0415 -- only where there is an event loop

        return anyio.Lock()

    async def run(self, steps: Steps[T]) -> T:
        """Take the steps, and give what they return.

        Raises:
            BaseException: What the steps raise, or did not catch.
        """
        outcome: Any = None
        failure: BaseException | None = None
        try:
            while True:
                step = steps.send(outcome) if failure is None else steps.throw(failure)
                outcome, failure = None, None
                try:
                    outcome = await self._do(step)
                except BaseException as error:  # noqa: BLE001 -- the steps decide
                    failure = error
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            failure = None  # or it would hold this frame, and the frame it

    async def _do(self, step: Step) -> Any:  # noqa: ANN401 -- whatever the steps asked for
        if isinstance(step, Get):
            return await self._fetch(step)
        if isinstance(step, Either):
            return await step.looping()
        async with step.lock:
            return await self.run(step.steps)


Runner: TypeAlias = "Blocking | Looping"
