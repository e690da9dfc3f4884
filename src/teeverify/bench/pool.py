"""Several processes that ask, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from teeverify.bench.load import Load, Target, generate
from teeverify.bench.packages import require_package
from teeverify.bench.sample import Sample
from teeverify.bench.workload import Ask
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
        self, target: Target, asks: Sequence[Ask], load: Load, *, timeout: float, keep: bool
    ) -> list[Sample]:
        """Send the requests from as many processes as the load needs, and gather the samples.

        Raises:
            EndpointUnavailable: A process ended in mid-run.
        """
        parts = len(self._pipes) if load.batch > ONE_PROCESS_UP_TO else 1
        used = self._pipes[:parts]
        for part, pipe in enumerate(used):
            share = load.share(part, parts)
            pipe.send((target, asks[part::parts], share, timeout, keep, f"{len(asks)}.{part}"))
        try:
            samples = [sample for pipe in used for sample in pipe.recv()]
        except EOFError:
            raise EndpointUnavailable(
                "a process of the benchmark died", id="endpoint.unreachable", got=target.name
            ) from None
        return sorted(samples, key=lambda sample: sample.sent)


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
            target, asks, load, timeout, keep, seed = pipe.recv()
            samples = asyncio.run(
                generate(target, asks, load, timeout=timeout, keep=keep, seed=seed)
            )
            pipe.send(samples)
