"""What is counted, in the text form of Prometheus. No label ever holds anything of a request."""

from __future__ import annotations

import contextlib
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator

__all__ = ["Blocks", "Counter", "Histogram", "Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class Counter:
    """A number that only grows, one a set of labels."""

    def __init__(self, name: str, text: str, *, kind: str = "counter") -> None:
        self._name = name
        self._head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        self._values: dict[str, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count."""
        key = ",".join(f'{label}="{value}"' for label, value in labels.items())
        self._values[key] = self._values.get(key, 0) + amount

    def value(self) -> float:
        """The sum over all labels."""
        return sum(self._values.values())

    def show(self) -> str:
        """Its lines."""
        values = self._values or {"": 0.0}
        lines = (
            f"{self._name}{{{key}}} {value:g}\n" if key else f"{self._name} {value:g}\n"
            for key, value in values.items()
        )
        return self._head + "".join(lines)


class Histogram:
    """How long something took."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._head = f"# HELP {name} {text}\n# TYPE {name} histogram\n"
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    @contextlib.contextmanager
    def time(self) -> Iterator[None]:
        """Count how long the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - started)

    def show(self) -> str:
        """Its lines."""
        lines, total = [self._head], 0
        for bound, count in zip((*_SECONDS, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{self._name}_bucket{{le="{bound}"}} {total}\n')
        lines.append(f"{self._name}_sum {self._sum:.6f}\n{self._name}_count {total}\n")
        return "".join(lines)


class Blocks:
    """How much of memory Python's objects hold, read when it is asked for."""

    def show(self) -> str:
        """Its lines."""
        name = "teeverify_memory_blocks"
        head = f"# HELP {name} Blocks of memory that are in use.\n# TYPE {name} gauge\n"
        return f"{head}{name} {sys.getallocatedblocks()}\n"


class Metrics:
    """All that the server counts.

    Attributes:
        requests: Requests by route and status.
        in_flight: Answers that are being made.
        aborted: Answers that broke off, were too late for their client, or could not be kept;
            requests that were refused are none.
        signatures: Signatures that were made and stored.
        signing: Seconds of signing an answer.
        storing: Seconds until the signatures of an answer were stored.
        attestation: Seconds of gathering evidence.
        store_failures: How often the store said no.
        engine_restarts: How often a supervised engine was started again.
        blocks: Blocks of memory in use. Where these grow with the number of answers, something is
            kept of each; what the operating system counts grows with the busiest moment so far too.
    """

    def __init__(self) -> None:
        self.requests = Counter("teeverify_requests_total", "Requests by route and status.")
        self.in_flight = Counter("teeverify_in_flight", "Answers being made.", kind="gauge")
        self.aborted = Counter("teeverify_aborted_total", "Answers that broke off.")
        self.signatures = Counter("teeverify_signatures_total", "Signatures made and stored.")
        self.signing = Histogram("teeverify_signing_seconds", "Time to sign an answer.")
        self.storing = Histogram("teeverify_storing_seconds", "Time to store its signatures.")
        self.attestation = Histogram("teeverify_attestation_seconds", "Time to gather evidence.")
        self.store_failures = Counter("teeverify_store_failures_total", "The store said no.")
        self.engine_restarts = Counter("teeverify_engine_restarts_total", "Engine restarts.")
        self.blocks = Blocks()

    def show(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return "".join(one.show() for one in vars(self).values()).encode("ascii")
