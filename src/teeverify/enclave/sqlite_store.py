"""Signatures in SQLite: written once, read until their time is up.

One thread owns the database. What is asked in one turn of the event loop is handed to it at once,
stored by one statement and answered at once, so that a hundred streams that end together cost one
``fsync``, one change of threads, and one way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from teeverify.clock import now
from teeverify.enclave.store import AlreadyStored, SignatureRecord, StoreError
from teeverify.errors import ConfigurationError

__all__ = ["SqliteStore"]

Row: TypeAlias = "tuple[str | bytes | int, ...]"
Outcome: TypeAlias = "Row | StoreError | None"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (id, kind)
) WITHOUT ROWID
"""
_OPENING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    _SCHEMA,
    "CREATE INDEX IF NOT EXISTS by_time ON records (stored_at)",
    # Fails here, not at the first answer, where the file holds another table of that name.
    "SELECT id, kind, body, stored_at FROM records LIMIT 1",
)
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?)"
_ONE_MORE = ", (?, ?, ?, ?)"
# A statement for each number of rows stays compiled, with the rows that it had last: of all numbers
# up to this one 0.5 MiB, up to 64 it would be 5.
_MAX_ROWS = 16
_SELECT = "SELECT body FROM records WHERE id = ? AND kind = ? AND stored_at > ?"
_DELETE = "DELETE FROM records WHERE id = ?"
_OLD = " WHERE stored_at <= ?"
_PURGE = "DELETE FROM records WHERE stored_at <= ?"
_PROBE = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"
_PROBE_BYTES = 256 * 1024
_WRITES = (_INSERT, _PROBE)
# What a row takes beside its body: id, kind, time, two B-trees. Measured, and rounded up.
_ROW_BYTES = 200
_SIZE = "SELECT COALESCE(SUM(LENGTH(body) + 200), 0) FROM records"
_MAX_BATCH = 256
_LOCK_SECONDS = 5
_PURGE_SECONDS = 60
# Kept free for answers that were begun while there was room.
_RESERVE = 4 * 1024 * 1024


class _Job:
    """One statement for the thread, and where its outcome goes."""

    __slots__ = ("done", "loop", "rows", "statement")

    def __init__(self, statement: str, rows: tuple[Row, ...]) -> None:
        self.statement = statement
        self.rows = rows
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Row | None] = self.loop.create_future()


class SqliteStore:
    """Signatures in SQLite; see :class:`~teeverify.enclave.store.SignatureStore`.

    Args:
        path: A file that outlives the process (write-ahead log, synced at each commit); ``None``
            keeps all in memory.
        ttl_seconds: How long a signature can be fetched. Nothing is dropped before.
        max_bytes: How much is kept. Where that is reached, no answer is begun until there is room.

    Raises:
        ConfigurationError: The file is no such store, or cannot be opened.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        ttl_seconds: int = 3600,
        max_bytes: int = 1024**3,
    ) -> None:
        self._ttl = ttl_seconds
        self._most = max_bytes
        self._purged_at = 0
        self._recount = False
        self._broken: str | None = None
        self._waiting: list[_Job] = []
        self._closed = False
        self._lock = threading.Lock()  # of these two: it may be closed from another thread
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._database, self._used = _open(path)
        self._thread = threading.Thread(target=self._work, name="signature store", daemon=True)
        self._thread.start()

    async def ready(self) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        if self._broken is not None:
            # It may work again. What is written and removed stays reserved for the next records.
            await self._do(_PROBE, ("", "", bytes(_PROBE_BYTES), 0))
            await self._do(_DELETE, ("",))
        if self._full:
            await self._do(_DELETE, ("",))  # a turn in which what is too old is dropped
            if self._full:
                raise StoreError("the signature store is full")

    @property
    def _full(self) -> bool:
        return self._used + _RESERVE > self._most

    async def put(self, records: Sequence[SignatureRecord]) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        stamp = _seconds()
        await self._do(_INSERT, *((one.id, one.kind, one.body, stamp) for one in records))

    async def get(self, answer_id: str, kind: str) -> bytes | None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        row = await self._do(_SELECT, (answer_id, kind, _seconds() - self._ttl))
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    async def withdraw(self, answer_id: str) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        await self._do(_DELETE, (answer_id,))

    async def start(self) -> None:
        """It is ready; see :class:`~teeverify.enclave.store.SignatureStore`."""

    async def aclose(self) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Finish what was asked, and close."""
        self._hand_over(last=True)
        self._thread.join()

    async def _do(self, statement: str, *rows: Row) -> Row | None:
        """Have one statement done for some rows; give the first row that it finds."""
        job = _Job(statement, rows)
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed")
            if not self._waiting:
                job.loop.call_soon(self._hand_over)
            self._waiting.append(job)
        # What was begun is finished, also when the one who asked is gone.
        return await job.done

    def _hand_over(self, *, last: bool = False) -> None:
        """Give the thread all that was asked since the last time."""
        with self._lock:
            if self._waiting:
                self._jobs.put(self._waiting)
                self._waiting = []
            if last and not self._closed:
                self._closed = True
                self._jobs.put(None)

    def _work(self) -> None:
        with contextlib.closing(self._database):
            while (first := self._jobs.get()) is not None:
                batch, last = self._batch(first)
                self._commit(batch)
                if last:
                    return

    def _batch(self, first: list[_Job]) -> tuple[list[_Job], bool]:
        """Everything that waits now, in order, and whether the store is to close after it."""
        batch = list(first)
        with contextlib.suppress(queue.Empty):
            while len(batch) < _MAX_BATCH:
                jobs = self._jobs.get_nowait()
                if jobs is None:
                    return batch, True
                batch += jobs
        return batch, False

    def _commit(self, batch: list[_Job]) -> None:
        """Do the jobs, safe on the disk; each fails alone, but a disk that fails fails all."""
        groups = list(_together(batch))
        outcomes: list[Outcome] = []
        try:
            outcomes = self._alone(groups) or self._in_transaction(groups)
            if any(job.statement in _WRITES for job in batch):
                self._broken = None  # a turn that writes nothing shows nothing
        except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait must hear of it
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            self._broken = str(error)
            outcomes = [StoreError(str(error)) for _ in batch]
        self._count(batch, outcomes)
        done = list(zip(batch, outcomes, strict=True))
        for loop in {job.loop for job in batch}:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
                loop.call_soon_threadsafe(_tell, [each for each in done if each[0].loop is loop])

    def _alone(self, groups: Sequence[list[_Job]]) -> list[Outcome] | None:
        """Do what one statement can do: it needs no transaction around it."""
        jobs = groups[0]
        if len(groups) > 1 or self._must_purge():
            return None
        if jobs[0].statement == _INSERT:
            return _insert(self._database, jobs)
        return [_attempt(self._database, job) for job in jobs]

    def _in_transaction(self, groups: Sequence[list[_Job]]) -> list[Outcome]:
        self._database.execute("BEGIN IMMEDIATE")
        outcomes = [
            outcome
            for jobs in groups
            for outcome in _insert(self._database, jobs)
            or [_attempt(self._database, job) for job in jobs]
        ]
        if self._must_purge():
            self._purge()
        self._database.execute("COMMIT")
        return outcomes

    def _count(self, batch: list[_Job], outcomes: Sequence[Outcome]) -> None:
        """Keep count of what is used."""
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                continue
            if job.statement == _INSERT:
                self._used += sum(_size_of(row) for row in job.rows)
            self._recount = self._recount or job.statement == _DELETE

    def _must_purge(self) -> bool:
        """Whether it is time to: once a minute; where all is full, more often."""
        return _seconds() - self._purged_at >= (1 if self._full else _PURGE_SECONDS)

    def _purge(self) -> None:
        """Drop what can no longer be fetched."""
        self._purged_at = moment = _seconds()
        oldest = (moment - self._ttl,)
        found = self._database.execute(_SIZE + _OLD, oldest).fetchone()[0]
        self._database.execute(_PURGE, oldest)
        if self._recount:
            self._recount = False
            self._used = _size(self._database)
        else:
            self._used -= found


def _size(database: sqlite3.Connection) -> int:
    return int(database.execute(_SIZE).fetchone()[0])


def _size_of(row: Row) -> int:
    return _ROW_BYTES + sum(len(value) for value in row if isinstance(value, bytes))


def _tell(done: Sequence[tuple[_Job, Outcome]]) -> None:
    """Say what came of some jobs, in the event loop in which they were asked for."""
    for job, outcome in done:
        if job.done.done():  # who asked is gone
            continue
        if isinstance(outcome, StoreError):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)


def _together(batch: Sequence[_Job]) -> Iterator[list[_Job]]:
    """The jobs in their order; those that one statement can do are in one list."""
    group: list[_Job] = []
    rows = 0
    for job in batch:
        rows += len(job.rows)
        if group and (
            job.statement != _INSERT or group[0].statement != _INSERT or rows > _MAX_ROWS
        ):
            yield group
            group, rows = [], len(job.rows)
        group.append(job)
    yield group


def _insert(database: sqlite3.Connection, jobs: Sequence[_Job]) -> list[Outcome] | None:
    """Insert the rows of some jobs with one statement; ``None`` where that cannot be.

    Every statement lets another thread run, and then waits for its turn.
    """
    rows = [row for job in jobs for row in job.rows]
    if jobs[0].statement == _INSERT and 0 < len(rows) <= _MAX_ROWS:
        values = [value for row in rows for value in row]
        with contextlib.suppress(sqlite3.IntegrityError):  # which undoes the statement
            database.execute(_INSERT + _ONE_MORE * (len(rows) - 1), values)
            return [None] * len(jobs)
    return None


def _attempt(database: sqlite3.Connection, job: _Job) -> Outcome:
    """Do one job, wholly or not at all; what goes wrong with the disk is raised."""
    if job.statement != _INSERT:  # of one row, which is refused by nothing
        (row,) = job.rows
        found: Row | None = database.execute(job.statement, row).fetchone()
        return found
    database.execute("SAVEPOINT job")
    try:
        for row in job.rows:
            database.execute(_INSERT, row)
    except sqlite3.IntegrityError:
        database.execute("ROLLBACK TO job")
        return AlreadyStored("there is an answer of this id already")
    finally:
        database.execute("RELEASE job")
    return None


def _open(path: str | Path | None) -> tuple[sqlite3.Connection, int]:
    """Open the database; give it, and how much is in it."""
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
        return database, _size(database)
    except sqlite3.Error as error:
        if database is not None:
            database.close()
        raise ConfigurationError(
            f"the signature store cannot be opened: {error}",
            id="usage.store",
            got=str(path),
            hint="Its folder must be writable and its disk must have room: make some, or name "
            "another file with --store.",
        ) from None


def _seconds() -> int:
    return int(now().timestamp())
