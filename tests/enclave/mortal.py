"""Runs servers that die by SIGKILL where they are told to: a program for tests, as fleet.py is one.

A request whose header ``die-at`` names a point is the last one that its server gets. Until such a
request comes, nothing of the server is changed; what then kills it lies at that point and nowhere
else. Beyond fleet.py's commands:

    ["start_careless", MACHINE, CODE, [ARGUMENTS]]   a server that stores after it has sent
    ["wait", PROCESS]                                its exit status, once it has died by itself;
                                                     null where it did not
    ["end", PROCESS]                                 null, once it is dead, whether it was or not
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from pathlib import Path

import fleet

import teeverify.cli.commands
import teeverify.enclave.attestation
import teeverify.enclave.dialects.teeverify
import teeverify.enclave.engines.tiny
import teeverify.enclave.serve  # noqa: F401 -- all of these so that no child has to load them anew
from teeverify.enclave import relay
from teeverify.enclave.app import EnclaveApp
from teeverify.enclave.engines.embedded import Embedded
from teeverify.enclave.exchange import Exchange
from teeverify.enclave.http import _STATUS, _HeadFirst
from teeverify.enclave.keys import SigningKeys
from teeverify.enclave.sqlite_store import SqliteStore

_DEATH_SECONDS = 60
_TORN_BYTES = 2500  # of the log: its header, and half of the first page that follows


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_instead(owner, name):
    setattr(owner, name, die)


def before(owner, name, act):
    done = getattr(owner, name)

    async def wrapped(*args, **kwargs):
        act(*args, **kwargs)
        return await done(*args, **kwargs)

    setattr(owner, name, wrapped)


def after(owner, name, act):
    done = getattr(owner, name)

    async def wrapped(*args, **kwargs):
        await done(*args, **kwargs)
        act()

    setattr(owner, name, wrapped)


def die_in_write(share, number=1):
    """Have so much of the body's bytes leave in one of the next writes, and die."""
    written = 0
    write = _HeadFirst.write

    def dying(self, data):
        nonlocal written
        written += not data.startswith(_STATUS)
        if written < number:
            write(self, data)
            return
        here = os.dup(self._transport.get_extra_info("socket").fileno())
        os.set_blocking(here, True)
        left = self._head + data[: max(int(len(data) * share), 1)]
        while left:
            left = left[os.write(here, left) :]
        die()

    _HeadFirst.write = dying


def in_statement(store, _records):
    """In the statement that inserts: the row is in its place, and nothing is committed."""
    store._database.create_function("die", 0, die)
    store._database.execute(
        "CREATE TEMP TRIGGER dying AFTER INSERT ON records BEGIN SELECT die(); END"
    )


def in_log(store, _records):
    """In the middle of a write to the log: the kernel kills who writes beyond the bound."""
    import resource

    store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (_TORN_BYTES, hard))


class DyingAtCommit:
    """A database whose transactions are never committed."""

    def __init__(self, database):
        self._database = database

    def __getattr__(self, name):
        return getattr(self._database, name)

    def execute(self, statement, *values):
        if statement == "COMMIT":
            die()
        return self._database.execute(statement, *values)


def in_purge(store, _records):
    """In the transaction that stores and drops what is too old, when only its commit is left."""
    store._purged_at = 0
    store._database = DyingAtCommit(store._database)


POINTS = {
    "before the engine": lambda _: die_instead(Embedded, "open"),
    "first byte": lambda _: die_in_write(0),
    "middle": lambda streamed: (
        die_in_write(0.5, number=4) if streamed else die_instead(Exchange, "read_id")
    ),
    "before signing": lambda _: die_instead(SigningKeys, "sign_statement"),
    "signed": lambda _: die_instead(SqliteStore, "put"),
    "in the statement": lambda _: before(SqliteStore, "put", in_statement),
    "in the log": lambda _: before(SqliteStore, "put", in_log),
    "before the commit": lambda _: before(SqliteStore, "put", in_purge),
    "stored": lambda _: after(SqliteStore, "put", die),
    "in the last write": lambda _: after(SqliteStore, "put", lambda: die_in_write(0.5)),
    "sent": lambda _: after(SqliteStore, "put", lambda: die_in_write(1)),
    "closing": lambda _: die_instead(SqliteStore, "close"),
}


def listen_for_death():
    serve = EnclaveApp.__call__

    async def listening(self, scope, receive, send):
        headers = dict(scope["headers"])
        if b"die-at" in headers:
            POINTS[headers[b"die-at"].decode()](headers[b"die-streamed"] == b"True")
        await serve(self, scope, receive, send)

    EnclaveApp.__call__ = listening


def store_late():
    """The order that must not be: what is to be stored waits until the answer has left."""
    put, late = SqliteStore.put, []

    async def later(self, records):
        late.append((self, records))

    def then_store(name):
        send = getattr(relay, name)

        async def sending(*args, **kwargs):
            await send(*args, **kwargs)
            while late:
                await put(*late.pop())

        setattr(relay, name, sending)

    SqliteStore.put = later
    for name in ("_finish", "send_whole"):
        then_store(name)


class Mortals(fleet.Fleet):
    """Servers that die; or, started carelessly, that store too late as well."""

    careless = False

    def start_careless(self, number, code, arguments):
        self.careless = True
        try:
            return self.start(number, code, arguments)
        finally:
            self.careless = False

    def end(self, process):
        if process in self._running:
            self._running.discard(process)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

    def wait(self, process):
        self._running.discard(process)
        ends = time.monotonic() + _DEATH_SECONDS
        while time.monotonic() < ends:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return None

    def _serve(self, machine, shown, arguments):
        if self.careless:
            store_late()
        listen_for_death()
        super()._serve(machine, shown, arguments)


if __name__ == "__main__":
    SigningKeys().sign_statement(bytes(32), b"")  # loads what signs
    gc.freeze()  # and no child has to look through it
    fleet.run(Path(sys.argv[1]), Mortals)
