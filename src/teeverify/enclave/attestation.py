"""Evidence about the server's keys: gathered in a thread, one at a time, and not too often.

Devices answer one question at a time, and slowly; streams must not wait for them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor

from teeverify.enclave.collectors import Tee
from teeverify.enclave.dialects import ServerDialect
from teeverify.enclave.errors import HttpError
from teeverify.enclave.metrics import Metrics

__all__ = ["Attester"]

_BURST_SECONDS = 2


class Attester:
    """Makes reports.

    Args:
        tee: The machine.
        metrics: Where it is counted.
        most_waiting: How many reports may be asked for at once; further ones are turned away.
        rate: How many a second, over time; a burst may have those of two seconds.
    """

    def __init__(
        self, tee: Tee, metrics: Metrics, *, most_waiting: int = 64, rate: float = 50
    ) -> None:
        self._tee = tee
        self._metrics = metrics
        self._most = most_waiting
        self._rate = rate
        self._tokens = self._most_tokens = max(1.0, rate * _BURST_SECONDS)
        self._counted_at = time.monotonic()
        self._flying: dict[Hashable, asyncio.Future[bytes]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attestation")

    async def report(self, dialect: ServerDialect, question: Hashable) -> bytes:
        """Gather evidence now; who asks the same at the same time gets the same.

        Args:
            dialect: Who writes it down.
            question: What it was asked, as it read it.

        Returns:
            The report as JSON.

        Raises:
            HttpError: 429: too many wait, or too many were asked for.
            EndpointUnavailable: The machine gives none.
        """
        key = (dialect.name, question)
        flying = self._flying.get(key)
        if flying is None:
            if len(self._flying) >= self._most:
                raise HttpError.busy("too many attestation reports are being made")
            self._spend()
            loop = asyncio.get_running_loop()
            flying = loop.run_in_executor(self._thread, self._gather, dialect, question)
            self._flying[key] = flying
            flying.add_done_callback(lambda done: self._landed(key, done))
        # Shielded: one who leaves must not take it away from the others who wait for it.
        return await asyncio.shield(flying)

    def close(self) -> None:
        """Finish what is being gathered, and stop."""
        self._thread.shutdown(cancel_futures=True)

    def _landed(self, key: Hashable, done: asyncio.Future[bytes]) -> None:
        self._flying.pop(key, None)
        if not done.cancelled():
            done.exception()  # looked at, also where all who asked have left

    def _spend(self) -> None:
        moment = time.monotonic()
        earned = (moment - self._counted_at) * self._rate
        self._tokens = min(self._most_tokens, self._tokens + earned)
        self._counted_at = moment
        if self._tokens < 1:
            wait = math.ceil((1 - self._tokens) / self._rate)
            raise HttpError.busy("too many attestation reports are asked for", seconds=wait)
        self._tokens -= 1

    def _gather(self, dialect: ServerDialect, question: Hashable) -> bytes:
        started = time.perf_counter()
        try:
            return dialect.report(question, self._tee)
        finally:
            self._metrics.attestation.observe(time.perf_counter() - started)
