"""What attestation, signing and verification cost by themselves, at one endpoint."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from teeverify.appraisal import Policy
from teeverify.bench.load import Lane, Load, Target
from teeverify.bench.pool import open_pool
from teeverify.bench.sample import Sample
from teeverify.bench.workload import words_of
from teeverify.client.connect import fetch_evidence, open_session
from teeverify.client.session import AttestedSession
from teeverify.client.verifier import Verifier
from teeverify.errors import EndpointUnavailable
from teeverify.roots import UnsafeTestRoots

__all__ = ["Cost", "measure_attestation"]

_SIGNED_TEXT = f"{'0' * 64}:{'1' * 64}"
_WORDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one step takes, in milliseconds: median, least and most of so many times."""

    name: str
    median: float
    least: float
    most: float
    times: int


def measure_attestation(
    target: Target,
    *,
    rounds: int,
    policy: str | Path | Policy = "genuine",
    roots: UnsafeTestRoots | None = None,
) -> list[Cost]:
    """Measure each step so many times.

    Args:
        target: The endpoint.
        rounds: How many times; at least 2.
        policy: As of :func:`teeverify.connect`.
        roots: Test roots, for a simulated endpoint.

    Returns:
        Evidence alone; a session by a new verifier (cold) and by one that knows the machine
        (warm), evidence included; a signature on this host, where the server's packages are
        installed; an answer's verification, its signature's fetch included.

    Raises:
        TeeVerifyError: The endpoint does not satisfy the policy, or an answer is not verified.
    """

    def attest(verifier: Verifier) -> AttestedSession:
        return open_session(verifier, target.url, model=target.model, api_key=target.api_key)

    def cold() -> None:
        attest(Verifier(policy=policy, roots=roots))

    known = Verifier(policy=policy, roots=roots)
    session = attest(known)
    found = [
        _cost("evidence", rounds, lambda: fetch_evidence(target.url, model=target.model)),
        _cost("session, cold", rounds, cold),
        _cost("session, warm", rounds, lambda: attest(known)),
    ]
    found += _signing(rounds)
    answers = iter(_answers(target, rounds))

    def verify() -> None:
        answer = next(answers)
        session.verify_response(response=answer.response, request=answer.request, id=answer.id)

    verify()  # the first of a signer costs more, once
    return [*found, _cost("answer verified", rounds - 1, verify)]


def _answers(target: Target, count: int) -> Sequence[Sample]:
    asks = [words_of(_WORDS, number) for number in range(count)]
    with open_pool(1) as pool:
        lane = Lane(target=target, asks=asks, keep=True)
        (samples,) = pool.generate([lane], Load(batch=1), timeout=60.0)
    failed = next((sample.error for sample in samples if sample.error is not None), None)
    if failed is not None:
        raise EndpointUnavailable(
            f"{target.name} does not answer", id="endpoint.unreachable", got=failed
        )
    return samples


def _signing(rounds: int) -> list[Cost]:
    try:
        from teeverify.enclave.keys import SigningKeys  # noqa: PLC0415 -- needs [server]
    except ImportError:
        return []
    keys = SigningKeys()
    return [_cost("signature, both keys", 20 * rounds, lambda: keys.sign(_SIGNED_TEXT))]


def _cost(name: str, times: int, step: Callable[[], object]) -> Cost:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        taken.append(1e3 * (time.perf_counter() - started))
    return Cost(
        name=name,
        median=statistics.median(taken),
        least=min(taken),
        most=max(taken),
        times=times,
    )
