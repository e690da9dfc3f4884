"""What an appraisal says of encryption: the rows of the channel, met, not met, and not shown."""

from __future__ import annotations

import dataclasses

import pytest

from teeverify.appraisal import Policy, appraise_examined, examine
from teeverify.appraisal.encryption import Encryption, recipients, sealed_to
from teeverify.appraisal.examined import Question
from teeverify.clock import now
from teeverify.providers.capture import load_capture
from teeverify.simulator.keys import SimulatedKey

ROWS = ("confidential.request", "confidential.answer", "endpoint.bound")


@pytest.fixture(scope="module")
def evidence(stage):
    return load_capture(stage.good)


@pytest.fixture(scope="module")
def seen(stage, evidence):
    """The recorded evidence with public keys beside its addresses, as a live one."""
    return _examined(stage, evidence)


def _examined(stage, evidence, **changes):
    machines = tuple(_with_key(stage, machine) for machine in evidence.machines)
    found = dataclasses.replace(evidence, machines=machines, **changes)
    question = Question(
        at=found.recorded_at or now(),
        at_by="caller",
        nonce=found.nonce,
        nonce_by="caller",
        roots=stage.verifier()._roots,
    )
    return examine(found, question)


def _with_key(stage, machine):
    keys = {str(one.key): one.public_bytes for one in _keys(stage)}
    return dataclasses.replace(machine, public_key=keys.get(str(machine.key)))


def _keys(stage):
    return [stage.endpoint.gateway.key, stage.endpoint.model.key]


def _scheme(**changes):
    return Encryption(**{"scheme": "near-v2", "to": "key", "both_ways": False, **changes})


def _outcomes(seen, said, policy=None):
    chosen = policy or Policy.genuine()
    result = appraise_examined(seen, None, chosen, verified_at=now(), encryption=said)
    return result, {row: result.finding(row).outcome.value for row in ROWS}


def test_nothing_is_said_of_encryption(seen):
    _, outcomes = _outcomes(seen, None)
    assert outcomes["confidential.request"] == outcomes["confidential.answer"] == "absent"


def test_a_session_that_encrypts(seen, stage):
    result, outcomes = _outcomes(seen, _scheme())
    assert outcomes == {
        "confidential.request": "proven",
        "confidential.answer": "absent",
        "endpoint.bound": "proven",
    }
    # The model's machine, never the gateway, which would read what is encrypted to its key.
    assert result.encrypts_to == ("ecdsa", stage.endpoint.model.key.public_bytes)
    assert "nothing protects" in result.finding("confidential.answer").message
    assert result.claims["channel"].outcome.value == "absent"


def test_who_reads_what_passes(seen):
    def readers(said):
        text = _outcomes(seen, said)[0].finding("chain.path").message
        return text.partition("In plain text for: ")[2]

    assert readers(None) == "the gateway, the model's machine."
    assert readers(_scheme(both_ways=True)) == "the model's machine."
    assert readers(_scheme()).startswith("the model's machine; the answer also for whoever")
    assert readers(_scheme(public=SimulatedKey().public_bytes)) == readers(None)


def test_both_ways(seen):
    result, outcomes = _outcomes(seen, _scheme(scheme="x", both_ways=True))
    assert set(outcomes.values()) == {"proven"}
    assert result.claims["channel"].outcome.value == "proven"


def test_a_request_that_was_encrypted_to_the_key(seen, stage):
    said = _scheme(public=stage.endpoint.model.key.public_bytes)
    _, outcomes = _outcomes(seen, said)
    assert outcomes["confidential.request"] == outcomes["endpoint.bound"] == "proven"


@pytest.mark.parametrize("whose", ["nobody", "gateway"])
def test_a_request_that_was_encrypted_to_another_key(seen, stage, whose):
    key = stage.endpoint.gateway.key if whose == "gateway" else SimulatedKey()
    result, outcomes = _outcomes(seen, _scheme(public=key.public_bytes, both_ways=True))
    assert outcomes["confidential.request"] == outcomes["confidential.answer"] == "absent"
    assert "does not bind" in result.finding("confidential.request").message
    assert result.encrypts_to is None


def test_no_key_to_encrypt_to_refuses_the_session(stage, evidence, seen):
    """An address alone is none; neither is one of a layout that binds no such key."""
    bare = dataclasses.replace(
        seen,
        machines=tuple(
            dataclasses.replace(m, machine=dataclasses.replace(m.machine, public_key=None))
            for m in seen.machines
        ),
    )
    for examined, said in ((bare, _scheme()), (seen, _scheme(to="hpke_key"))):
        result, outcomes = _outcomes(examined, said)
        assert outcomes["confidential.request"] == "failed"
        assert result.exit_code == 1
        assert result.error().id == "confidential.request"


def test_a_public_key_of_another_address_is_no_recipient(seen):
    foreign = SimulatedKey().public_bytes
    changed = tuple(
        dataclasses.replace(m, machine=dataclasses.replace(m.machine, public_key=foreign))
        for m in seen.machines
    )
    assert recipients(changed, "key") == ()
    assert sealed_to(changed, _scheme()) is None
    assert sealed_to(changed, _scheme(public=foreign)) is None


def test_an_unverified_machine_is_no_recipient(seen):
    assert recipients([dataclasses.replace(m, layout=None) for m in seen.machines], "key") == ()


def test_a_wrong_tls_key_stays_wrong(stage):
    """Encryption does not rescue a connection that ends elsewhere."""
    found = _examined(stage, load_capture(stage.capture(peer_spki=b"0")))
    _, outcomes = _outcomes(found, _scheme())
    assert outcomes["endpoint.bound"] == "failed"


def test_a_live_connection_to_a_gateway(stage, evidence):
    live = _examined(stage, evidence, live=True)
    result, outcomes = _outcomes(live, None)
    assert outcomes["endpoint.bound"] == "proven"
    assert outcomes["confidential.request"] == outcomes["confidential.answer"] == "asserted"
    assert result.finding("confidential.request").by == "the gateway's code"


def test_a_live_connection_to_the_models_machine(stage, evidence):
    live = _examined(stage, evidence, live=True)
    own = tuple(
        dataclasses.replace(m, machine=dataclasses.replace(m.machine, role="model"))
        for m in live.machines
        if m.machine.role == "gateway"
    )
    _, outcomes = _outcomes(dataclasses.replace(live, machines=own), None)
    assert set(outcomes.values()) == {"proven"}


def test_the_policy_can_demand_it(seen):
    demanding = Policy.genuine().replace(require={"confidential.answer": "proven"})
    assert _outcomes(seen, _scheme(), demanding)[0].exit_code == 1
    assert _outcomes(seen, _scheme(both_ways=True), demanding)[0].exit_code == 0
    wanted = Policy.genuine().replace(require={"confidential.request": "proven"})
    assert _outcomes(seen, None, wanted)[0].exit_code == 1
    assert _outcomes(seen, _scheme(), wanted)[0].exit_code == 0


def test_line_1(seen):
    plain, _ = _outcomes(seen, None)
    one_way, _ = _outcomes(seen, _scheme())
    both, _ = _outcomes(seen, _scheme(both_ways=True))
    assert plain.summary.count("could read the request") == 1
    assert "could read the request" not in one_way.summary
    assert "whoever passed it on could have read the answer" in one_way.summary
    assert "could read" not in both.summary
    assert "could have read" not in both.summary
