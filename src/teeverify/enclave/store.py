"""Where signatures wait to be fetched: SQLite, written once, read until their time is up.

One thread owns the database. Writes that arrive together are committed together, so that a hundred
streams that end at once cost one ``fsync``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from teeverify.clock import now
from teeverify.errors import ConfigurationError

__all__ = ["SignatureRecord", "SignatureStore", "StoreError"]

Row: TypeAlias = "tuple[str | int, ...]"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS signatures (
    id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    text TEXT NOT NULL,
    signature TEXT NOT NULL,
    address TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (id, algorithm)
) WITHOUT ROWID
"""
_OPENING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    _SCHEMA,
    "CREATE INDEX IF NOT EXISTS by_time ON signatures (stored_at)",
    # Fails here, not at the first answer, where the file holds another table of that name.
    "SELECT id, algorithm, text, signature, address, stored_at FROM signatures LIMIT 1",
)
_INSERT = "INSERT INTO signatures VALUES (?, ?, ?, ?, ?, ?)"
_SELECT = (
    "SELECT text, signature, address FROM signatures"
    " WHERE id = ? AND algorithm = ? AND stored_at > ?"
)
_DELETE = "DELETE FROM signatures WHERE id = ?"
_MAX_BATCH = 256
_LOCK_SECONDS = 5
_PURGE_SECONDS = 60


class StoreError(Exception):
    """The store could not do what was asked; nothing was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRecord:
    """One signature over one answer.

    Attributes:
        id: The answer's id.
        algorithm: ``ecdsa`` or ``ed25519``.
        text: The text that was signed.
        signature: The signature, as the field spells it.
        address: The signer.
    """

    id: str
    algorithm: str
    text: str
    signature: str
    address: str


class _Job:
    """One statement for the thread, and where its outcome goes."""

    def __init__(self, statement: str, rows: Sequence[Row]) -> None:
        self.statement = statement
        self.rows = rows
        self.done: Future[Row | None] = Future()
        # From here on it cannot be cancelled, so that the thread can always say what came of it.
        self.done.set_running_or_notify_cancel()


class SignatureStore:
    """Signatures by answer and algorithm.

    Args:
        path: A file that outlives the process (write-ahead log, synced at each commit); ``None``
            keeps all in memory.
        ttl_seconds: How long a signature can be fetched. Nothing is dropped before.

    Raises:
        ConfigurationError: The file is no such store, or cannot be opened.
    """

    def __init__(self, path: str | Path | None = None, *, ttl_seconds: int = 3600) -> None:
        self._ttl = ttl_seconds
        self._purged_at = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._database = _open(path)
        self._thread = threading.Thread(target=self._work, name="signature store", daemon=True)
        self._thread.start()

    async def put(self, records: Sequence[SignatureRecord]) -> None:
        """Store the signatures of one answer, all or none; when this returns they are on disk.

        Raises:
            StoreError: There is one of that id already, or the disk says no.
        """
        stamp = _seconds()
        rows = [(r.id, r.algorithm, r.text, r.signature, r.address, stamp) for r in records]
        await self._do(_INSERT, *rows)

    async def get(self, answer_id: str, algorithm: str) -> SignatureRecord | None:
        """The signature of an answer; ``None`` where there is none, or its time is up.

        Raises:
            StoreError: The disk says no.
        """
        row = await self._do(_SELECT, (answer_id, algorithm, _seconds() - self._ttl))
        if row is None:
            return None
        text, signature, address = map(str, row)
        return SignatureRecord(
            id=answer_id, algorithm=algorithm, text=text, signature=signature, address=address
        )

    async def withdraw(self, answer_id: str) -> None:
        """Remove the signatures of an answer whose end never left.

        Raises:
            StoreError: The disk says no.
        """
        await self._do(_DELETE, (answer_id,))

    def close(self) -> None:
        """Finish what was asked, and close."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    async def _do(self, statement: str, *rows: Row) -> Row | None:
        """Have one statement done for some rows; give the first row that it finds."""
        if not self._thread.is_alive():
            raise StoreError("the store is closed")
        job = _Job(statement, rows)
        self._jobs.put(job)
        # Shielded: what was begun is finished, also when the one who asked is gone.
        return await asyncio.shield(asyncio.wrap_future(job.done))

    def _work(self) -> None:
        with contextlib.closing(self._database):
            while (first := self._jobs.get()) is not None:
                batch, last = self._batch(first)
                self._commit(batch)
                if last:
                    return

    def _batch(self, first: _Job) -> tuple[list[_Job], bool]:
        """Everything that waits now, in order, and whether the store is to close after it."""
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < _MAX_BATCH:
                job = self._jobs.get_nowait()
                if job is None:
                    return batch, True
                batch.append(job)
        return batch, False

    def _commit(self, batch: list[_Job]) -> None:
        """Do the jobs in one transaction; each fails alone, but a failed commit fails all."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            outcomes = [_attempt(self._database, job) for job in batch]
            self._purge()
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            outcomes = [StoreError(str(error))] * len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)

    def _purge(self) -> None:
        """Drop what can no longer be fetched, once a minute."""
        moment = _seconds()
        if moment - self._purged_at >= _PURGE_SECONDS:
            self._purged_at = moment
            oldest = moment - self._ttl
            self._database.execute("DELETE FROM signatures WHERE stored_at <= ?", (oldest,))


def _attempt(database: sqlite3.Connection, job: _Job) -> Row | StoreError | None:
    """Do one job, wholly or not at all; what goes wrong with the disk is raised."""
    found: Row | None = None
    database.execute("SAVEPOINT job")
    try:
        for row in job.rows:
            found = database.execute(job.statement, row).fetchone()
    except sqlite3.IntegrityError as error:
        database.execute("ROLLBACK TO job")
        return StoreError(str(error))
    finally:
        database.execute("RELEASE job")
    return found


def _open(path: str | Path | None) -> sqlite3.Connection:
    database: sqlite3.Connection | None = None
    try:
        database = sqlite3.connect(
            ":memory:" if path is None else str(path),
            isolation_level=None,
            check_same_thread=False,
            timeout=_LOCK_SECONDS,
        )
        for statement in _OPENING:
            database.execute(statement)
    except sqlite3.Error as error:
        if database is not None:
            database.close()
        raise ConfigurationError(
            f"the signature store cannot be opened: {error}", id="usage.store", got=str(path)
        ) from None
    return database


def _seconds() -> int:
    return int(now().timestamp())
