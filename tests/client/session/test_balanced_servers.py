"""Real servers behind a balancer: each answer under its own server's attestation, and restarts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import teeverify
from teeverify import UnsafeTestRoots

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
anyio = pytest.importorskip("anyio")
pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="machines are inherited by fork"),
]
PROGRAM = Path(__file__).parents[1] / "fleet.py"
DIALECTS = ("dstack", "teeverify/1")


class Server:
    """A server of the fleet."""

    def __init__(self, fleet, machine, code, port=0) -> None:
        self.fleet, self.machine = fleet, machine
        self.process, self.url = fleet.ask(
            "start", machine, code,
            # What it signed outlives the process, on the machine's own disk.
            ["--dialect", fleet.dialect, "--store", str(fleet.folder / f"{machine}.sqlite"),
             "--port", str(port)],
        )  # fmt: skip
        self.port = urlsplit(self.url).port

    def restarted(self, code="engine"):
        """The server that takes its place, on the same machine and port."""
        assert self.fleet.ask("stop", self.process) == 0
        return Server(self.fleet, self.machine, code, self.port)

    def keys(self):
        """The keys that it signs with, by what it shows now itself."""
        dialect = self.fleet.dialect
        session = teeverify.connect(self.url, dialect=dialect, roots=self.fleet.roots)
        machines = session._core.attestation.examined.machines
        processes = session._core.attestation.processes
        keys = [key for process in processes for key in process.keys]
        return {*keys, *(seen.machine.key for seen in machines)}


class Fleet:
    """The program that starts them."""

    def __init__(self, folder) -> None:
        path = os.pathsep.join([str(Path(teeverify.__file__).parents[1]), str(PROGRAM.parent)])
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.roots = UnsafeTestRoots.load(self._process.stdout.readline().strip())
        self.folder, self.dialect = folder, "dstack"

    def ask(self, *command):
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or "null")

    def close(self):
        self._process.communicate(timeout=30)


class Balancer:
    """Hands each new connection to the next server that takes it, and passes bytes on."""

    def __init__(self, *ports) -> None:
        self.ports = list(ports)
        self.taken = []
        self._open = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def hang_up(self):
        """End the connections that there are, as balancers do with idle ones."""
        for near in list(self._open):
            with contextlib.suppress(OSError):  # it may end by itself just now
                near.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near):
        with near:
            for _ in self.ports:
                port = self.ports[len(self.taken) % len(self.ports)]
                self.taken.append(port)
                with contextlib.suppress(OSError):
                    with socket.create_connection(("127.0.0.1", port)) as far:
                        self._open.add(near)
                        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                        back.start()
                        _pump(near, far)
                        back.join()
                        self._open.discard(near)
                    return


def _pump(source, sink):
    """Pass on what comes, to its end; then neither side says more."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    pytest.importorskip("starlette", reason="the extra 'server' is not installed")
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture(params=DIALECTS)
def two(fleet, request):
    """Two servers on machines of their own, which speak the same dialect."""
    fleet.dialect = request.param
    servers = [Server(fleet, machine, "engine") for machine in (0, 1)]
    yield servers
    for server in servers:
        if server.process is not None:
            fleet.ask("stop", server.process)


@pytest.fixture(params=["connections", "requests"])
def address(two, middle, request):
    """Where both are reached: whole connections in turn, or each request by itself."""
    if request.param == "requests":
        made = middle(*(server.url for server in two))
        made.pick = lambda path, count: _living(made.ports, count)
        yield made
        return
    balancer = Balancer(*(server.port for server in two))
    yield balancer
    balancer.close()


def _living(ports, count):
    """The next of them in turn, without those that are down."""
    for place in (count % 2, (count + 1) % 2):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[place])):
            return place
    return 0


def ask(client, stream, number):
    """One answer; what is left of it is its receipt."""
    given = {"model": "default", "max_tokens": 6, "stream": stream}
    asked = [{"role": "user", "content": f"What is {number} and {number}?"}]
    answer = client.chat.completions.create(**given, messages=asked)
    return {part.id for part in answer}.pop() if stream else answer.id


def ask_many(client, count, threads=6):
    """Plain and streamed in turn, several at a time: the outcomes."""
    numbers, outcomes = iter(range(count)), []

    def work():
        with contextlib.suppress(StopIteration):
            while True:
                number = next(numbers)
                try:
                    outcomes.append(ask(client, number % 2 == 1, number))
                except Exception as error:  # noqa: BLE001
                    outcomes.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    return running, outcomes


def wait(running, outcomes):
    for thread in running:
        thread.join(120)
    assert not any(thread.is_alive() for thread in running), "a client is stuck"
    return outcomes


def verified_again(client, fleet, names):
    """Each receipt verifies by itself: the evidence in it is of the key that signed its answer."""
    for name in names:
        receipt = client.receipts[name]
        result = receipt.verify(roots=fleet.roots)
        assert result.signer == receipt.signer == receipt.result.signer


@pytest.fixture
def client(fleet, address):
    with teeverify.OpenAI(
        base_url=address.url, api_key="unused", roots=fleet.roots, dialect=fleet.dialect
    ) as made:
        yield made


@pytest.fixture
def again(client, address):
    """Asks over new connections, so that both servers answer."""

    def ask_again(count):
        if isinstance(address, Balancer):
            address.hang_up()
        return wait(*ask_many(client, count))

    return ask_again


def unverified(outcomes):
    return [each for each in outcomes if isinstance(each, Exception)]


def lost_signatures(fleet):
    """What befalls answers of a machine that goes down; those of our own dialect carry theirs."""
    return set() if fleet.dialect == "teeverify/1" else {"answer.signature"}


def test_each_answer_is_verified_under_its_own_servers_attestation(two, fleet, client, again):
    outcomes = again(20) + again(20)
    assert unverified(outcomes) == []
    verified_again(client, fleet, outcomes)
    signers = {client.receipts[name].signer for name in outcomes}
    for server in two:
        assert server.keys() & signers, "both servers answered"


def test_one_starts_anew_with_the_same_code(two, fleet, client, again):
    running, outcomes = ask_many(client, 40)
    while len(outcomes) < 20:
        time.sleep(0.01)
    before = two[1].keys()
    two[1] = two[1].restarted()
    wait(running, outcomes)
    after = again(16)
    # What was signed just before is not to be had while its machine is down: undecided, not wrong.
    assert {each.id for each in unverified(outcomes)} <= lost_signatures(fleet)
    assert unverified(after) == []
    verified_again(client, fleet, [each for each in outcomes if isinstance(each, str)] + after)
    fresh = two[1].keys()
    assert not fresh & before
    assert fresh & {client.receipts[name].signer for name in after}


def test_one_starts_anew_with_other_code(two, fleet, client, again):
    running, outcomes = ask_many(client, 40)
    while len(outcomes) < 20:
        time.sleep(0.01)
    two[1] = two[1].restarted("another")
    wait(running, outcomes)
    after = again(16)
    assert {each.id for each in unverified(outcomes)} <= {"code.changed", *lost_signatures(fleet)}
    assert {each.id for each in unverified(after)} == {"code.changed"}
    refused = unverified(outcomes + after)
    verified = [each for each in outcomes + after if each not in refused]
    assert set(after) & set(verified), "the client goes on with the other server"
    verified_again(client, fleet, verified)
    fresh = two[1].keys()
    assert not fresh & {client.receipts[name].signer for name in verified}
    assert len(client.receipts) == len(verified)
