"""kill -9 at each step of an answer's life, in the dialect that is spoken unless told.

Each round is a life of a server on one machine and one disk: an answer that is whole, one at which
the server dies, and a new life, before which everything that was ever signed must still be there.

    TEEVERIFY_KILLS=200 python -m pytest tests/enclave/test_killed.py

does 200 rounds for each of the twelve points, half of them plain and half streamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import teeverify
from teeverify import TeeVerifyError, UnsafeTestRoots
from teeverify.responses.statement import parse_signed

pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
httpx = pytest.importorskip("httpx2", reason="the extra 'openai' is not installed")
pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="machines are inherited by fork"),
]
ROUNDS = int(os.environ.get("TEEVERIFY_KILLS", "2"))
PROGRAM = Path(__file__).with_name("mortal.py")
FLEET = Path(__file__).parents[1] / "client"
# For plain and for streamed answers: whether their record is stored, and whether they are whole.
NOTHING, STORED, WHOLE = (False, False), (True, False), (True, True)
POINTS = {
    "before the engine": (NOTHING, NOTHING),
    "first byte": (STORED, NOTHING),
    "middle": (NOTHING, NOTHING),
    "before signing": (NOTHING, NOTHING),
    "signed": (NOTHING, NOTHING),
    "in the statement": (NOTHING, NOTHING),
    "in the log": (NOTHING, NOTHING),
    "before the commit": (NOTHING, NOTHING),
    "stored": (STORED, STORED),
    "in the last write": (STORED, STORED),
    "sent": (WHOLE, WHOLE),
    "closing": (WHOLE, WHOLE),
}


class Program:
    """The program that starts the servers."""

    def __init__(self, folder):
        path = [str(Path(teeverify.__file__).parents[1]), str(FLEET)]
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.roots = UnsafeTestRoots.load(self._process.stdout.readline().strip())

    def ask(self, *command):
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or "null")

    def close(self):
        self._process.communicate(timeout=30)


@dataclass(repr=False)
class Lives:
    """One machine, its disk, and the client that stays; what every life so far has left."""

    program: Program
    store: Path
    start: str = "start"
    port: int = 0
    process: int = 0
    instances: list = field(default_factory=list)
    ids: set = field(default_factory=set)
    records: dict = field(default_factory=dict)
    receipts: list = field(default_factory=list)

    def begin(self, code="engine"):
        """A new life."""
        arguments = ["--store", str(self.store), "--port", str(self.port)]
        self.process, self.url = self.program.ask(self.start, 0, code, arguments)
        self.port = urlsplit(self.url).port

    def open(self):
        self.begin()
        clients = teeverify.http_clients(self.url, roots=self.program.roots)
        self.client = clients["http_client"]

    def ask(self, *, streamed, die_at=None):
        """One answer: its receipt, or the error in its place."""
        asked = {"model": "default", "stream": streamed, "max_tokens": 12, "ignore_eos": True}
        asked["messages"] = [{"role": "user", "content": "Say something."}]
        headers = {} if die_at is None else {"die-at": die_at, "die-streamed": str(streamed)}
        before = [*self.client.receipts][-1:]
        try:
            with self.client.stream(
                "POST", f"{self.url}/chat/completions", json=asked, headers=headers, timeout=60
            ) as answer:
                assert answer.status_code == 200
                name = answer.headers["teeverify-id"]
                assert name not in self.ids, "an id was used again"
                self.ids.add(name)
                content = b"".join(answer.iter_bytes())
        except (TeeVerifyError, httpx.HTTPError) as error:
            assert [*self.client.receipts][-1:] == before, "what broke off has no receipt"
            return error
        assert [*self.client.receipts][-1:] != before, "nothing is accepted unverified"
        receipt = self.client.receipts.last
        assert content.startswith(receipt.parts.response.raw)
        assert receipt.result.satisfied
        return receipt

    def died(self):
        """How the process ended; nothing of it lives on but what is on the disk."""
        return self.program.ask("wait", self.process)

    def stored(self):
        """The records that are new on the disk, all of them whole: by their answer's id."""
        with contextlib.closing(sqlite3.connect(self.store)) as database:
            rows = database.execute("SELECT id, kind, body FROM records").fetchall()
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {name: body for name, _, body in rows}
        assert len(found) == len(rows), "one id, one record"
        assert {kind for _, kind, _ in rows} <= {"teeverify/1"}
        for name, body in self.records.items():
            assert found[name] == body, "what was stored stays as it was"
        new = {name: found[name] for name in found.keys() - self.records.keys()}
        for name, body in new.items():
            signed = parse_signed(body)
            assert signed.statement.id == name
            signed.verify(self.keys)
        self.records.update(new)
        return {name: parse_signed(body).statement for name, body in new.items()}

    def attested(self):
        """Note who lives now, by what the process shows of itself: never one who lived before."""
        session = teeverify.connect(self.url, roots=self.program.roots)
        (process,) = session._core.attestation.processes
        assert process.instance not in self.instances, "a new life has new keys"
        assert not {*process.keys} & {*getattr(self, "keys", ())}
        self.instances.append(process.instance)
        self.keys = process.keys


def check_round(lives, point, *, streamed):
    """One life, its death, and the next."""
    stored, whole = POINTS[point][streamed]
    lives.attested()
    first = lives.ask(streamed=not streamed)
    assert first.signer in lives.keys, "the session of before found to the new keys by itself"
    outcome = lives.ask(streamed=streamed, die_at=point)
    if point == "closing":
        os.kill(lives.process, signal.SIGTERM)
    ended = signal.SIGXFSZ if point == "in the log" else signal.SIGKILL
    assert lives.died() == -ended

    new = lives.stored()
    ends = [statement.end for statement in new.values()]
    accepted = [one for one in (first, outcome) if not isinstance(one, Exception)]
    assert ends == ["complete"] * (1 + stored), "whole or absent"
    assert len(accepted) == 1 + whole
    if not whole:
        assert str(outcome)
    by_hash = {statement.response_hash: statement for statement in new.values()}
    for receipt in accepted:
        sha256 = hashlib.sha256(receipt.parts.response.raw).hexdigest()
        assert f"sha256:{sha256}" in by_hash, "an accepted answer has lost its signature"

    lives.begin()
    for receipt in (*accepted, *lives.receipts[-1:]):
        again = receipt.verify(roots=lives.program.roots)
        assert again.satisfied
        assert again.signer == receipt.signer
    for name in new:
        kept = httpx.get(f"{lives.url}/signature/{name}?dialect=teeverify/1")
        assert (kept.status_code, kept.content) == (200, lives.records[name])
    lives.receipts += accepted


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    made = Program(tmp_path_factory.mktemp("machines"))
    yield made
    made.close()


@pytest.fixture
def new_lives(program, tmp_path):
    made = []

    def make(start="start"):
        made.append(Lives(program, tmp_path / f"{len(made)}.db", start))
        made[-1].open()
        return made[-1]

    yield make
    for one in made:
        one.client.close()
        program.ask("end", one.process)


@pytest.fixture(scope="module")
def lives(program, tmp_path_factory):
    """All points share one machine and one disk: each death is in the history of the next."""
    made = Lives(program, tmp_path_factory.mktemp("disk") / "s.db")
    made.open()
    yield made
    made.client.close()
    program.ask("end", made.process)


@pytest.mark.parametrize("point", POINTS)
def test_killed(lives, point):
    for number in range(ROUNDS):
        check_round(lives, point, streamed=number % 2 == 1)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_a_server_that_stores_after_it_has_sent_is_found_out(new_lives, streamed):
    """Its answers verify, as they carry their signature; what was promised is lost all the same."""
    careless = new_lives("start_careless")
    with pytest.raises(AssertionError, match="whole or absent"):
        check_round(careless, "sent", streamed=streamed)


def test_after_a_kill_other_code_is_refused(new_lives):
    lives = new_lives()
    receipt = lives.ask(streamed=True)
    assert isinstance(lives.ask(streamed=True, die_at="middle"), Exception)
    lives.died()
    lives.begin("another")
    for streamed in (False, True):
        error = lives.ask(streamed=streamed)
        assert error.id == "code.changed"
        assert "code" in str(error)
    assert receipt.verify(roots=lives.program.roots).satisfied
