"""The store: written once, whole or not at all, there until its time is up."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from datetime import timedelta

import pytest

from teeverify.clock import now
from teeverify.enclave import sqlite_store as module
from teeverify.enclave.sqlite_store import SqliteStore
from teeverify.enclave.store import AlreadyStored, SignatureRecord, StoreError
from teeverify.errors import ConfigurationError


def records(answer_id, text="t"):
    return [
        SignatureRecord(id=answer_id, kind=kind, body=f"{text} {kind}".encode())
        for kind in ("ecdsa", "ed25519")
    ]


def put(store, *answer_ids):
    async def all_of_them():
        await asyncio.gather(*(store.put(records(answer_id)) for answer_id in answer_ids))

    asyncio.run(all_of_them())


def get(store, answer_id, algorithm="ecdsa"):
    return asyncio.run(store.get(answer_id, algorithm))


def rows(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT id, kind FROM records ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize("algorithm", ["ecdsa", "ed25519"])
def test_what_was_put_can_be_got(store, algorithm):
    put(store, "x")
    assert get(store, "x", algorithm) == f"t {algorithm}".encode()


@pytest.mark.parametrize(("answer_id", "algorithm"), [("y", "ecdsa"), ("x", "rsa"), ("", "ecdsa")])
def test_what_was_not_put_is_not_there(store, answer_id, algorithm):
    put(store, "x")
    assert get(store, answer_id, algorithm) is None


def test_nothing_is_overwritten(store):
    put(store, "x")
    with pytest.raises(StoreError):
        asyncio.run(store.put(records("x", text="other")))
    assert get(store, "x") == b"t ecdsa"


def test_all_signatures_of_an_answer_or_none(store):
    first, second = records("x")
    asyncio.run(store.put([second]))
    with pytest.raises(StoreError):
        asyncio.run(store.put([first, second]))
    assert get(store, "x", "ecdsa") is None


def test_one_bad_record_in_a_batch_spares_the_others(store):
    put(store, "taken")

    async def many():
        asked = [store.put(records(answer_id)) for answer_id in ("a", "taken", "b")]
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = asyncio.run(many())
    assert [type(outcome) for outcome in outcomes] == [type(None), AlreadyStored, type(None)]
    assert get(store, "a")
    assert get(store, "b")


def test_many_at_once(store, tmp_path):
    put(store, *(f"id-{number}" for number in range(500)))
    store.close()
    assert len(rows(tmp_path / "signatures.db")) == 1000


def test_what_is_put_outlives_the_process(tmp_path):
    path = tmp_path / "s.db"
    for answer_id in ("one", "two"):
        store = SqliteStore(path)
        put(store, answer_id)
        store.close()
    store = SqliteStore(path)
    assert get(store, "one")
    assert get(store, "two")
    store.close()


def test_in_memory_without_a_path():
    store = SqliteStore()
    put(store, "x")
    assert get(store, "x")
    store.close()


def test_withdrawn_is_gone(store):
    put(store, "x", "y")
    asyncio.run(store.withdraw("x"))
    asyncio.run(store.withdraw("never there"))
    assert get(store, "x") is None
    assert get(store, "x", "ed25519") is None
    assert get(store, "y")


def test_it_is_there_until_its_time_is_up_and_then_dropped(tmp_path, monkeypatch):
    path = tmp_path / "s.db"
    start = now()
    moment = [start]
    monkeypatch.setattr(module, "now", lambda: moment[0])
    store = SqliteStore(path, ttl_seconds=100)
    put(store, "x")
    moment[0] = start + timedelta(seconds=99)
    assert get(store, "x")
    moment[0] = start + timedelta(seconds=200)
    assert get(store, "x") is None
    put(store, "y")
    store.close()
    assert {row[0] for row in rows(path)} == {"y"}


def test_after_close_nothing_is_taken(store):
    store.close()
    store.close()
    with pytest.raises(StoreError):
        put(store, "x")
    with pytest.raises(StoreError):
        get(store, "x")


def test_close_finishes_what_was_asked(tmp_path):
    path = tmp_path / "s.db"
    store = SqliteStore(path)

    async def ask_and_close():
        asked = [asyncio.ensure_future(store.put(records(f"{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        await asyncio.gather(*asked)

    asyncio.run(ask_and_close())
    assert len(rows(path)) == 100


def test_who_asked_may_leave_and_it_is_stored_all_the_same(store):
    async def leave():
        task = asyncio.create_task(store.put(records("x")))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return await store.get("x", "ecdsa")

    assert asyncio.run(leave())


def test_a_failing_disk_fails_every_one_and_recovers(store):
    async def all_at_once():
        return await asyncio.gather(
            *(store.put(records(f"{number}")) for number in range(3)), return_exceptions=True
        )

    denied = {sqlite3.SQLITE_INSERT}

    def authorize(action, *_):
        return sqlite3.SQLITE_DENY if action in denied else sqlite3.SQLITE_OK

    store._database.set_authorizer(authorize)
    assert all(isinstance(outcome, StoreError) for outcome in asyncio.run(all_at_once()))
    denied.clear()
    put(store, "0", "1", "2")
    assert get(store, "2")


def _another_table(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE records (id TEXT, stored_at INTEGER)")


def _damaged(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        for statement in module._OPENING:
            database.execute(statement)
        rows = [(f"{number}", "k", bytes(1000), 0) for number in range(100)]
        database.executemany(module._INSERT, rows)
        database.commit()
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000] + b"\xff" * (len(whole) - 20_000))


@pytest.mark.parametrize(
    "prepare",
    [
        _damaged,
        lambda path: path.write_bytes(b"no database at all" * 100),
        lambda path: path.mkdir(),
        _another_table,
    ],
    ids=["damaged", "other-file", "directory", "other-table"],
)
def test_a_file_that_is_no_store(tmp_path, prepare):
    path = tmp_path / "s.db"
    prepare(path)
    with pytest.raises(ConfigurationError) as caught:
        SqliteStore(path)
    assert caught.value.id == "usage.store"


DYING = """
import asyncio, os, signal, sys
from teeverify.enclave.sqlite_store import SqliteStore
from teeverify.enclave.store import SignatureRecord

path, point, turn = sys.argv[1:]
store = SqliteStore(path)

def die(statement):
    if statement.startswith(point):
        seen.append(statement)
        if len(seen) == int(turn):
            os.kill(os.getpid(), signal.SIGKILL)

def put(name):
    return store.put([
        SignatureRecord(id=name, kind=kind, body=b"t") for kind in ("ecdsa", "ed25519")
    ])

async def together():
    # "y" is there already: what was to be stored at once is stored one by one.
    await asyncio.gather(put("y"), put("x"), return_exceptions=True)

seen = []
if "-" in turn:
    asyncio.run(put("y"))
    turn = turn[1:]
    store._database.set_trace_callback(die)
    asyncio.run(together())
else:
    store._database.set_trace_callback(die)
    asyncio.run(put("x"))
os.kill(os.getpid(), signal.SIGKILL)
"""


X, Y = ([(name, "ecdsa"), (name, "ed25519")] for name in "xy")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.parametrize(
    ("point", "turn", "left"),
    [
        ("BEGIN", "1", []),
        ("INSERT", "1", []),
        ("COMMIT", "1", []),
        ("after", "1", X),
        ("SAVEPOINT", "-2", Y),
        ("INSERT", "-3", Y),
        ("INSERT", "-4", Y),
        ("RELEASE", "-2", Y),
        ("COMMIT", "-1", Y),
        ("after", "-1", X + Y),
    ],
)
def test_killed_anywhere_a_record_is_whole_or_absent(tmp_path, point, turn, left):
    path = tmp_path / "s.db"
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(path), point, turn], capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    store = SqliteStore(path)
    store.close()
    assert rows(path) == left


@pytest.mark.parametrize(
    ("answers", "statements"),
    [
        (1, ["INSERT"]),
        (8, ["INSERT"]),
        (30, ["BEGIN", *["INSERT"] * 4, "COMMIT"]),
        (100, ["BEGIN", *["INSERT"] * 13, "COMMIT"]),
    ],
)
def test_answers_that_end_together_are_stored_by_few_statements(tmp_path, answers, statements):
    store = SqliteStore(tmp_path / "s.db")

    async def together():
        # The first one of a minute drops what is too old.
        await store.put(records("first"))
        store._database.set_trace_callback(seen.append)
        await asyncio.gather(*(store.put(records(f"{number}")) for number in range(answers)))

    seen = []
    asyncio.run(together())
    store._database.set_trace_callback(None)
    store.close()
    assert [one.split()[0] for one in seen] == statements
    assert len(rows(tmp_path / "s.db")) == 2 * answers + 2


def test_one_that_is_there_already_fails_alone(store):
    async def together():
        await store.put(records("1"))
        return await asyncio.gather(
            *(store.put(records(f"{number}")) for number in range(200)), return_exceptions=True
        )

    outcomes = asyncio.run(together())
    assert isinstance(outcomes.pop(1), AlreadyStored)
    assert outcomes == [None] * 199
    assert all(get(store, f"{number}") for number in range(200))


def test_what_nobody_thought_of_is_said_to_who_waits(store):
    """A thread that died of it would leave every further answer waiting for ever."""
    with pytest.raises(StoreError, match="surrogates"):
        asyncio.run(store.put(records("\ud800")))
    asyncio.run(store.put(records("x")))
    assert get(store, "x")


def test_what_is_asked_of_a_closed_store_fails_at_once(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        asyncio.run(store.put(records("x")))
