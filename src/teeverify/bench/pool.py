"""Several processes that ask, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

from teeverify.bench.load import Lane, Load, generate
from teeverify.bench.packages import require_package
from teeverify.bench.sample import Sample
from teeverify.errors import EndpointUnavailable

__all__ = ["ONE_PROCESS_UP_TO", "Pool", "default_processes", "open_pool"]

ONE_PROCESS_UP_TO = 16
"""Streams that one process reads without being late; more are spread."""

_JOIN_SECONDS = 5


def default_processes() -> int:
    """As many as leave most of the cores to what is measured, where it runs here too."""
    return max(1, min(4, (os.cpu_count() or 1) // 4))


class Pool:
    """Processes that stand ready.

    Args:
        pipes: One end of a pipe a process.
    """

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes

    def generate(
        self, lanes: Sequence[Lane], load: Load, *, timeout: float, seed: str = ""
    ) -> list[list[Sample]]:
        """Send the requests from as many processes as the load needs, and gather the samples.

        Returns:
            The samples of each lane, in the order in which they were sent.

        Raises:
            EndpointUnavailable: A process ended in mid-run.
        """
        parts = len(self._pipes) if load.batch > ONE_PROCESS_UP_TO else 1
        used = self._pipes[:parts]
        for part, pipe in enumerate(used):
            cut = [replace(lane, asks=lane.asks[part::parts]) for lane in lanes]
            pipe.send((cut, load.share(part, parts), timeout, f"{seed}.{part}"))
        try:
            answers = [pipe.recv() for pipe in used]
        except EOFError:
            raise EndpointUnavailable(
                "a process of the benchmark died",
                id="endpoint.unreachable",
                got=", ".join(lane.target.name for lane in lanes),
            ) from None
        return [
            sorted((each for answer in answers for each in answer[lane]), key=lambda s: s.sent)
            for lane in range(len(lanes))
        ]


@contextlib.contextmanager
def open_pool(processes: int) -> Iterator[Pool]:
    """Start the processes; stop them at the end."""
    require_package("aiohttp", extra="bench")
    context = multiprocessing.get_context("spawn")
    pipes, running = [], []
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            running.append(process)
        yield Pool(pipes)
    finally:
        for pipe in pipes:
            pipe.close()
        for process in running:
            process.join(_JOIN_SECONDS)
            process.terminate()


def _work(pipe: Connection) -> None:
    """Do one job after another until the other end is closed."""
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            lanes, load, timeout, seed = pipe.recv()
            pipe.send(asyncio.run(generate(lanes, load, timeout=timeout, seed=seed)))
