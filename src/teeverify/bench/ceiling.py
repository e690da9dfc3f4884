"""What the benchmark itself can do: its load against an endpoint that has no engine."""

from __future__ import annotations

from teeverify.bench.fake import Timing, fake_endpoints
from teeverify.bench.load import Lane, Load, Target
from teeverify.bench.metrics import measure
from teeverify.bench.pool import Pool
from teeverify.bench.workload import Ask

__all__ = ["measure_ceiling"]

_TOKENS = 100
_ROUNDS = 2
_ASK = Ask(messages=({"role": "user", "content": "the of and"},), output_tokens=_TOKENS)


def measure_ceiling(pool: Pool, batch: int) -> dict[str, float]:
    """Events and answers a second that the benchmark reads at this many streams at once.

    The endpoint is one process of its own on this host, so this is what both can do together: the
    benchmark alone can do more.
    """
    count = max(2 * batch, 32)
    best: dict[str, float] = {}
    with fake_endpoints(Timing()) as (url,):
        lane = Lane(
            target=Target(name="ceiling", url=url, model="none"), asks=[_ASK] * count, keep=False
        )
        for _ in range(_ROUNDS):  # the first warms up
            (samples,) = pool.generate([lane], Load(batch=batch), timeout=60.0)
            best = measure(samples)
    if not best:
        return {"batch": batch}
    return {"batch": batch, "events_per_s": best["throughput"], "answers_per_s": best["qps"]}
