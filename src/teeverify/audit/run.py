"""Verify many receipts: here, on all cores, or on Ray; the function is the same everywhere."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

from teeverify.appraisal import AttestationResult, Policy
from teeverify.audit.records import Batch, Records
from teeverify.audit.report import Report, Row
from teeverify.client import Verifier
from teeverify.client.sources.receipt import Attestations, evidence_of
from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, TeeVerifyError
from teeverify.providers import DIALECTS
from teeverify.responses.body import read_body
from teeverify.responses.once import used_once
from teeverify.responses.receipt import ReceiptFile
from teeverify.responses.receipt_reader import read_receipt
from teeverify.roots import TimestampRoots, UnsafeTestRoots

__all__ = ["Mapper", "Settings", "audit", "on_ray", "verify_batch"]

Mapper: TypeAlias = (
    "Callable[[Callable[[Batch], tuple[Row, ...]], Iterable[Batch]], Iterator[tuple[Row, ...]]]"
)
_AHEAD = 2
_ID = "receipt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The reader's own view, as every worker needs it. Nothing in it was verified.

    Attributes:
        policy: The policy.
        roots: Test roots.
        endorsements: Paths of collateral, readable by every worker.
        offline: Open no socket.
        timestamp_roots: Whose timestamps count.
        at: The time of the appraisal, in place of each receipt's own.
    """

    policy: Policy
    roots: UnsafeTestRoots | None = None
    endorsements: tuple[str, ...] = ()
    offline: bool = True
    timestamp_roots: TimestampRoots | None = None
    at: datetime | str | None = None

    def verifier(self) -> Verifier:
        """A verifier under these settings.

        Raises:
            ConfigurationError: An endorsement that cannot be read.
        """
        return Verifier(
            policy=self.policy,
            roots=self.roots,
            endorsements=self.endorsements,
            offline=self.offline,
            timestamp_roots=self.timestamp_roots,
        )


def verify_batch(batch: Batch, settings: Settings) -> tuple[Row, ...]:
    """Verify the receipts of a batch: what every worker runs.

    Args:
        batch: Raw receipts.
        settings: The reader's own view.

    Raises:
        ConfigurationError: Settings that cannot be used.
    """
    verifier, known = settings.verifier(), Attestations()
    return tuple(
        _row(name, text, batch.shared, verifier, known, settings.at)
        for name, text in batch.receipts
    )


def _row(
    name: str,
    text: bytes,
    shared: dict[bytes, bytes],
    verifier: Verifier,
    known: Attestations,
    at: datetime | str | None,
) -> Row:
    parts: ReceiptFile | None = None
    try:
        parts = read_receipt(json_value(text, field="receipt", id=_ID), shared=shared)
        result = verifier.appraise(evidence_of(parts, source=name, known=known), at=at)
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        word = "Undecided" if error.retryable else "Refused"
        return Row(
            name=name,
            exit_code=error.exit_code,
            tier="none" if error.retryable else "contraindicated",
            summary=f"{word}: {error}",
            cause=error.id,
        )
    return _appraised(name, parts, result)


def _appraised(name: str, parts: ReceiptFile, result: AttestationResult) -> Row:
    challenge = parts.challenge.challenge if parts.challenge is not None else None
    cause = next((f.id for f in result.findings if f.exit_code == result.exit_code), "verdict.tier")
    raw = parts.response.raw
    return Row(
        name=name,
        exit_code=result.exit_code,
        tier=result.tier,
        summary=result.summary,
        cause=None if result.satisfied else cause,
        receipt_id=result.receipt.id if result.receipt is not None else None,
        signer=None if result.signer is None else str(result.signer),
        answer_id=None if raw is None else read_body(raw).id,
        challenge=None if challenge is None else challenge.hex(),
        request=parts.request.sha256.hex(),
        response=parts.response.sha256.hex(),
        once=_once(parts),
        simulated=result.simulated,
    )


def _once(parts: ReceiptFile) -> tuple[str, str] | None:
    form = DIALECTS[parts.dialect].form
    if parts.signature is None or form is None:
        return None
    value = used_once(parts.signature, form.id)
    return None if value is None else (value.r.hex(), value.signed.hex())


def audit(
    sources: Sequence[str | Path],
    settings: Settings,
    *,
    mapper: Mapper | None = None,
    workers: int | None = None,
    batch: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Verify many receipts, and hold them against each other.

    Args:
        sources: Directories, ``.jsonl``, ``.parquet`` and ``.json`` files.
        settings: The reader's own view.
        mapper: What spreads the batches: :func:`on_ray`, or processes of this machine.
        workers: How many processes; all cores unless given. One verifies here, without any.
        batch: How many receipts one worker gets at a time; what they share it verifies once.
        progress: Told how many more receipts are done.

    Raises:
        ConfigurationError: Sources or settings that cannot be used.
        MalformedEvidence: Shared parts that are not what their names say.
    """
    settings.verifier()  # wrong settings are told once, and here
    run = mapper or partial(_in_processes, workers=workers or os.cpu_count() or 1)
    rows: list[Row] = []
    for found in run(partial(verify_batch, settings=settings), Records(sources).batches(batch)):
        rows += found
        if progress is not None:
            progress(len(found))
    if not rows:  # nothing refused, but nothing verified either
        raise ConfigurationError(
            "there are no receipts in it",
            id="usage.records",
            got=", ".join(map(str, sources))[:200],
        )
    return Report.of(rows)


def _in_processes(
    function: Callable[[Batch], tuple[Row, ...]], batches: Iterable[Batch], *, workers: int
) -> Iterator[tuple[Row, ...]]:
    """In order, with few batches waiting: there may be more receipts than memory holds."""
    if workers == 1:
        yield from map(function, batches)
        return
    waiting: deque[Future[tuple[Row, ...]]] = deque()
    # A forked process would share locks and sockets of this one's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for batch in batches:
            waiting.append(pool.submit(function, batch))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def on_ray(*, ahead: int = 64) -> Mapper:
    """Spread the batches over the Ray cluster to which this process is connected.

    Args:
        ahead: How many batches wait or run at a time.

    Raises:
        ConfigurationError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415 -- an extra
    except ImportError:
        raise ConfigurationError(
            "Ray is not installed", id="usage.extra", hint="Run: pip install 'teeverify[ray]'"
        ) from None

    def run(
        function: Callable[[Batch], tuple[Row, ...]], batches: Iterable[Batch]
    ) -> Iterator[tuple[Row, ...]]:
        """The same function, unchanged, as a remote one."""
        remote = ray.remote(_plain(function))
        waiting: deque[Any] = deque()
        for batch in batches:
            waiting.append(remote.remote(batch))
            if len(waiting) > ahead:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())

    return run


def _plain(function: Callable[[Batch], tuple[Row, ...]]) -> Callable[[Batch], tuple[Row, ...]]:
    """A function in the sense of Ray, which takes no partial one."""

    def verify(batch: Batch) -> tuple[Row, ...]:
        """Verify one batch."""
        return function(batch)

    return verify
