"""Several machines behind one address: every answer under its own machine's attestation."""

from __future__ import annotations

import itertools
import json
import random
import threading

import pytest

import teeverify
from teeverify.simulator.tee import SimulatedTee

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is two and two?"}]}


def by_chance():
    """The same chances in every run, of which at most six in a row are equal.

    A client that looks for one of two machines gives up after nine others: once in 512 searches.
    """
    chances = random.Random(1)
    return lambda path, count: chances.randrange(2)


def in_turn():
    """The next machine for every chat request, and for reports whichever chance gives."""
    chats, chances = itertools.count(), by_chance()

    def pick(path, count):
        if "/chat/" in path:
            return next(chats) % 2
        return chances(path, count) if "/report" in path else count % 2

    return pick


@pytest.fixture
def two(new_enclave, tee, middle):
    """Two machines with keys of their own, and who passes requests to one after the other."""
    machines = [new_enclave(tee), new_enclave(tee)]
    # What a real balancer needs too: the machines share the store of their signatures.
    machines[1].signatures = machines[0].signatures
    relay = middle(*(machine.url for machine in machines))
    relay.pick = in_turn()
    return machines, relay


def signers(client):
    return [client.receipts[name].signer for name in client.receipts]


@pytest.mark.parametrize(
    "pick",
    [in_turn, lambda: lambda path, count: count % 2, by_chance],
    ids=["chats in turn", "all in turn", "at random"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_is_verified_under_its_own_machines_attestation(
    two, openai_client, ask, pick, stream
):
    machines, relay = two
    relay.pick = pick()
    client = openai_client(base_url=relay.url)
    for _ in range(12):
        for _ in ask(client, stream=stream):
            pass
    chats = [place for path, place in relay.taken if "/chat/" in path]
    assert signers(client) == [machines[place].key.key for place in chats]
    for name in client.receipts:
        receipt = client.receipts[name]
        assert receipt.result.signer == receipt.signer
    reports = len(machines[0].of("/report")) + len(machines[1].of("/report"))
    assert reports <= 12  # each machine is attested about once, not at every answer


def test_without_a_shared_store(new_enclave, tee, middle, openai_client, ask):
    """A signature is then found at one of the machines only: it is asked for again."""
    machines = [new_enclave(tee), new_enclave(tee)]
    relay = middle(*(machine.url for machine in machines))
    client = openai_client(base_url=relay.url)
    for _ in range(6):
        ask(client)
    assert len(client.receipts) == 6


def test_many_threads(two, openai_client, ask):
    machines, relay = two
    client = openai_client(base_url=relay.url, max_retries=0)
    errors = []

    def work():
        try:
            for number in range(4):
                for _ in ask(client, stream=number % 2 == 0):
                    pass
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(client.receipts) == 32
    assert set(signers(client)) == {machine.key.key for machine in machines}


def test_one_starts_anew_with_the_same_code(two, openai_client, ask):
    machines, relay = two
    client = openai_client(base_url=relay.url)
    for number in range(12):
        if number == 5:
            machines[1].restart()
        ask(client)
    assert len(client.receipts) == 12
    assert machines[1].key.key in signers(client)


def test_one_starts_anew_with_other_code(two, openai_client, ask, tee):
    machines, relay = two
    client = openai_client(base_url=relay.url, max_retries=0)
    for _ in range(4):
        ask(client)
    machines[1].restart()
    machines[1].tee = tee.with_other_code()
    outcomes = set()
    for _ in range(6):
        outcomes.add(_outcome(lambda: ask(client)))
    assert outcomes == {"verified", "code.changed"}
    assert machines[1].key.key not in signers(client)


def _outcome(call):
    try:
        call()
    except teeverify.TeeVerifyError as error:
        return error.id
    return "verified"


def test_the_answers_of_two_users_swapped(two, openai_client, ask):
    """Both are signed by attested keys; neither is the answer to the other's request."""
    _, relay = two
    kept = []

    def swap(body):
        kept.append(body)
        return kept[0]

    one, other = openai_client(base_url=relay.url), openai_client(base_url=relay.url)
    relay.change_answer = swap
    ask(one, text="my question")
    with pytest.raises(teeverify.ResponseNotVerified):
        ask(other, text="your question")
    assert len(other.receipts) == 0


def test_a_node_of_the_list_with_other_code_signs_no_answer_of_the_session(
    new_enclave, tee, openai_client, ask
):
    """A list names a machine of other code beside the one the session began with."""
    enclave, decoy = new_enclave(tee), new_enclave(_with_gpus_of_its_own(tee.with_other_code()))

    enclave.change_report = _listing(decoy)
    client = openai_client(base_url=enclave.url, max_retries=0)
    assert _outcome(lambda: ask(client)) == "verified"
    enclave.signer = decoy.key
    assert _outcome(lambda: ask(client)) == "code.changed"
    assert len(client.receipts) == 1


def test_a_node_of_the_list_with_the_same_code_may_sign(new_enclave, tee, openai_client, ask):
    enclave, twin = new_enclave(tee), new_enclave(_with_gpus_of_its_own(tee))

    enclave.change_report = _listing(twin)
    client = openai_client(base_url=enclave.url, max_retries=0)
    enclave.signer = twin.key
    assert _outcome(lambda: ask(client)) == "verified"


def _listing(other):
    """Reports with another machine beside, and the endorsements of both."""

    def listed(body):
        report = json.loads(body)
        beside = json.loads(other.report({"nonce": report["request_nonce"]}))
        report["endorsements"]["nvidia"]["ocsp"] += beside["endorsements"]["nvidia"]["ocsp"]
        return json.dumps({**report, "all_attestations": [beside]}).encode()

    return listed


def _with_gpus_of_its_own(tee):
    """Another machine of the same vendors, with the same image."""
    other = SimulatedTee.__new__(SimulatedTee)
    other.__dict__.update(tee.__dict__)
    other._gpus = [tee.nvidia.gpu(index) for index in (10, 11)]
    return other
