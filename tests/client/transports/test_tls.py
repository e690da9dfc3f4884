"""Where evidence binds a TLS key, nothing is written to a connection with another one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest
import requests

import teeverify
from teeverify import EvidenceError, RequestsAdapter
from teeverify.client.transports.clients import open_async_client, open_client
from teeverify.client.transports.wishes import Wishes
from teeverify.simulator.sealing import FieldSealing

anyio = pytest.importorskip("anyio", reason="the extra 'openai' is not installed")
httpx2 = pytest.importorskip("httpx2", reason="the extra 'openai' is not installed")
pytestmark = [pytest.mark.network, pytest.mark.usefixtures("tls_dialect")]
ASK = json.dumps({"model": "default", "messages": [{"role": "user", "content": "canary"}]}).encode()
HEADERS = {"Authorization": "Bearer sk-canary", "Content-Type": "application/json"}


@pytest.fixture
def front(tee, new_tls, stub):
    """An enclave with https, whose evidence binds its TLS key; and a switch before it."""
    made = Switch(stub(tee), new_tls())
    yield made
    made.close()


class Switch:
    """Passes each connection on to the machine that a test names, without looking inside."""

    def __init__(self, enclave, tls):
        enclave.tls = tls
        enclave.start()
        self.machines = [enclave]
        self.pick = lambda count: 0
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def add(self, enclave):
        enclave.start()
        self.machines.append(enclave)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                machine = self.machines[self.pick(self.count)]
                self.count += 1
                server = socket.create_connection(("127.0.0.1", machine.port))
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def close(self):
        self._listener.close()
        for machine in self.machines:
            machine.stop()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.close()


def _pump(one, other):
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def by_httpx2(url, roots, times=1):
    with open_client(httpx2, url, Wishes(roots=roots, dialect="near-direct")) as client:
        for _ in range(times):
            client.post(f"{url}/chat/completions", content=ASK, headers=HEADERS)
        return client.receipts


def by_httpx2_in_a_loop(url, roots, times=1):
    async def main():
        wishes = Wishes(roots=roots, dialect="near-direct")
        async with open_async_client(httpx2, url, wishes) as client:
            for _ in range(times):
                await client.post(f"{url}/chat/completions", content=ASK, headers=HEADERS)
            return client.receipts

    return anyio.run(main)


def by_requests(url, roots, times=1):
    adapter = RequestsAdapter(url, roots=roots, dialect="near-direct")
    with requests.Session() as session:
        session.mount("https://", adapter)
        for _ in range(times):
            session.post(f"{url}/chat/completions", data=ASK, headers=HEADERS, timeout=10)
    return adapter.receipts


@pytest.fixture(params=[by_httpx2, by_httpx2_in_a_loop, by_requests])
def ask(request):
    return request.param


def chats(machine):
    return [(headers, body) for _, path, headers, body in machine.seen if "/chat/" in path]


def test_the_attested_key(front, roots, ask):
    receipts = ask(front.url, roots, times=2)
    assert len(receipts) == 2
    assert receipts.last.result.finding("endpoint.bound").outcome.value == "proven"


def test_evidence_that_names_another_key(front, roots, ask, new_tls):
    front.machines[0].attested_tls = new_tls()
    with pytest.raises(EvidenceError) as refused:
        ask(front.url, roots)
    assert refused.value.id == "endpoint.bound"
    assert chats(front.machines[0]) == []


def test_a_rogue_key_with_a_good_certificate_gets_nothing(front, roots, ask, tee, new_tls, stub):
    """Evidence comes from the enclave, and the next connection ends elsewhere."""
    rogue = _rogue(front, stub(tee), new_tls)
    front.pick = lambda count: min(count, 1)
    with pytest.raises(teeverify.TeeVerifyError) as refused:
        ask(front.url, roots)
    assert refused.value.exit_code == 2
    assert "canary" not in repr(rogue.seen)
    assert chats(front.machines[0]) == chats(rogue) == []


def _rogue(front, rogue, new_tls):
    """Somebody between, with a good certificate, who shows the enclave's own evidence."""
    rogue.tls = new_tls()
    rogue.key = front.machines[0].key
    rogue.attested_tls = front.machines[0].tls
    front.add(rogue)
    return rogue


def test_two_machines_behind_one_address(front, roots, ask, tee, new_tls, stub):
    """Each has keys of its own; a connection to either is attested before it is used."""
    other = stub(tee)
    other.tls = new_tls()
    front.add(other)
    front.pick = lambda count: count % 2
    receipts = ask(front.url, roots, times=6)
    assert len(receipts) == 6
    for name in receipts:
        receipt = receipts[name]
        assert receipt.result.signer == receipt.signer


def _opens(machine):
    """Make a machine open what is sealed to its own key, and nothing else."""
    plain = machine.answer

    def answer(request):
        headers = machine.of("/chat/")[-1][2]
        opened = FieldSealing(scheme="near-v2", key=machine.key).open(headers, request)
        name, text, stream = plain(opened.body)
        return name, opened.seal(text, stream), stream

    machine.answer = answer
    return machine


def test_each_machine_gets_what_is_sealed_to_its_own_key(front, roots, tee, new_tls, stub):
    other = _opens(stub(tee))
    other.tls = new_tls()
    _opens(front.machines[0])
    front.add(other)
    front.pick = lambda count: count % 2
    wishes = Wishes(roots=roots, dialect="near-direct", encrypt=True)
    with open_client(httpx2, front.url, wishes) as client:
        for _ in range(6):
            reply = client.post(f"{front.url}/chat/completions", content=ASK, headers=HEADERS)
            assert reply.json()["choices"][0]["message"]["content"] == "Four."
        result = client.receipts.last.result
    assert result.finding("confidential.answer").outcome.value == "proven"  # by TLS
    bodies = [body for machine in front.machines for _, body in chats(machine)]
    assert len(bodies) == 6
    assert not any(b"canary" in body for body in bodies)


def test_a_machine_of_other_code_behind_the_same_address(front, roots, ask, tee, new_tls, stub):
    other = stub(tee.with_other_code())
    other.tls = new_tls()
    front.add(other)
    front.pick = lambda count: min(count, 1)
    with pytest.raises(teeverify.TeeVerifyError) as refused:
        ask(front.url, roots)
    assert refused.value.id == "code.changed"
    assert chats(other) == []


def test_a_key_that_changed_in_mid_session(front, roots, new_tls):
    """The machine was started anew: it is attested once more before anything is written."""
    url = front.url
    with open_client(httpx2, url, Wishes(roots=roots, dialect="near-direct")) as client:
        client.post(f"{url}/chat/completions", content=ASK, headers=HEADERS)
        (machine,) = front.machines
        machine.stop()
        machine.restart()
        machine.tls = new_tls()
        machine.start()
        for connection in front._open:
            connection.close()
        client.post(f"{url}/chat/completions", content=ASK, headers=HEADERS)
        assert client.receipts.last.signer == machine.key.key
