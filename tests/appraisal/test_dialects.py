"""Chains, applications, the model's names, the key's origin: what is told, and what it is worth."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from teeverify import Policy
from teeverify.appraisal import Outcome, appraise_examined
from teeverify.client.sources import load_evidence
from teeverify.responses import examine_answer
from teeverify.simulator.dstack import Dstack
from teeverify.simulator.endpoint import MODEL
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.machine import SimulatedMachine

TINY = hashlib.sha256(b"tiny.yaml").hexdigest()
PROVEN, ASSERTED, ABSENT, FAILED = (
    Outcome.PROVEN, Outcome.ASSERTED, Outcome.ABSENT, Outcome.FAILED,
)  # fmt: skip


def near(stage, guest: Dstack, **arguments: Any):
    """The result where the model's machine runs this guest."""
    endpoint = stage.endpoint
    twin = dataclasses.replace(endpoint.model, guest=guest)
    changes = {
        "intel_quote": twin.quote(twin.report_data(endpoint.nonce, tls=True)).hex(),
        "event_log": guest.event_log,
        "info": {"tcb_info": {"app_compose": guest.app_compose}},
        "compose_manager_attestation": endpoint.compose_manager(machine=twin),
    }
    return stage.appraise(stage.near(model=changes), **arguments)


def manager(stage, actions: list[Any], **arguments: Any):
    """The result where the compose-manager's log is this one."""
    endpoint = stage.endpoint
    text = json.dumps(actions, separators=(",", ":"), sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    report = endpoint.compose_manager(
        actions=actions,
        actions_hash=digest.hex(),
        quote=endpoint.model.quote(digest + endpoint.nonce).hex(),
    )
    return stage.appraise(stage.near(model={"compose_manager_attestation": report}), **arguments)


def up(file: str, content: str = "", **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content.encode() or file.encode()).hexdigest()
    return {"action": "compose_up", "file": file, "file_sha256": digest, **more}


# --- the chain -----------------------------------------------------------------------------------


def path_of(stage, **asked: Any) -> str:
    return stage.appraise(**asked).finding("chain.path").message


def test_the_chain_to_the_models_answer(stage):
    text = path_of(stage, **stage.signed())
    assert text.startswith("Your connection → the gateway → the model's machine.")
    assert "ends at this answer, which the model's machine signed" in text
    assert text.endswith("In plain text for: the gateway, the model's machine.")


@pytest.mark.parametrize("how", [{"kind": "gateway"}, {"by": "gateway"}])
def test_a_gateways_signature_is_never_a_gpus(stage, how):
    signed = (
        stage.signed(by=stage.endpoint.gateway.key)
        if "by" in how
        else stage.signed(signature_kind="gateway")
    )
    result = stage.appraise(**signed)
    assert "ends at the gateway" in result.finding("chain.path").message
    assert "no GPU speaks for it" in result.finding("chain.path").message
    assert result.finding("answer.signer-role").outcome is ASSERTED
    assert "genuine NVIDIA" not in result.summary or "by" not in how


def test_the_chain_without_an_answer_or_with_a_foreign_one(stage):
    assert "attested key: no answer was shown" in path_of(stage)
    assert "whose key nothing attests" in path_of(stage, **stage.signed(by=SimulatedKey()))


def test_whoever_ends_the_connection_reads_along(stage):
    text = path_of(stage, source=stage.capture(provider="venice"))
    assert "somebody's front (no attested key)" in text
    assert "In plain text for: whoever ends your TLS connection, the model's machine." in text
    other = stage.appraise(stage.capture(peer_spki=b"other"))
    assert other.exit_code == 2
    assert "whoever ends your TLS connection" in other.finding("chain.path").message


def test_no_machine_at_the_front_no_chain(stage):
    report = stage.endpoint.near_report(gateway={"signing_address": "0x" + "11" * 20,
                                                 "signing_public_key": None})  # fmt: skip
    ids = {f.id for f in stage.appraise(stage.capture(report=report)).findings}
    assert "chain.path" not in ids


def test_gateway_and_node_name_one_key_service(stage):
    found = stage.appraise().finding("chain.gateway")
    assert (found.outcome, found.subject) == (PROVEN, "model")
    other = near(stage, Dstack(key_provider_id=b"other"))
    assert [f.id for f in other.findings if f.exit_code == 2] == ["chain.gateway"]
    local = near(stage, Dstack(key_provider="local"))
    assert local.finding("chain.gateway").outcome is FAILED


# --- the application -----------------------------------------------------------------------------


def test_what_dstack_wrote_down(stage):
    found = stage.appraise().finding("code.dstack", "model")
    guest = stage.endpoint.model.guest
    assert (found.outcome, found.got) == (PROVEN, guest.app_id.hex())
    for words in ("app ", "instance ", "OS image ", "compose ", "key provider kms"):
        assert words in found.message
    device = stage.appraise().finding("code.device", "model")
    assert (device.outcome, device.by) == (ASSERTED, "the report")


def test_a_log_without_its_seal_tells_nothing_of_the_application(stage):
    """Whoever runs inside could have written these events."""
    result = near(stage, Dstack(ready=False))
    assert "model" not in {f.subject for f in result.findings if f.id == "code.dstack"}
    app = stage.endpoint.model.guest.app_id.hex()
    listed = Policy.genuine().replace(dstack={"app_ids": [app]})
    assert near(stage, Dstack(ready=False), policy=listed).exit_code == 1


@pytest.mark.parametrize("name", ["app_ids", "instances", "os_images", "key_providers", "devices"])
def test_what_is_listed_must_be_shown(stage, name):
    """A machine without the value does not pass because nothing contradicts."""
    size = {"app_ids": 20, "instances": 20}.get(name, 32)
    policy = Policy.genuine().replace(dstack={name: ["ab" * size]})
    result = stage.appraise(policy=policy)
    failed = [f for f in result.findings if f.id == "code.dstack-listed"]
    assert result.exit_code == 1
    assert {f.subject for f in failed if f.exit_code} == {"gateway", "model"}


def test_images_by_tag_are_said(stage):
    result = near(stage, Dstack(images=["engine:latest"]))
    assert result.finding("code.images-pinned", "model").outcome is ABSENT


# --- where the key was made ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "outcome", "words"),
    [
        ("kms", ABSENT, "may outlive"),
        ("local", ASSERTED, "sealed to this machine"),
        ("tpm", ASSERTED, "sealed to this machine"),
        ("none", ASSERTED, "made in this machine"),
    ],
)
def test_origins(stage, provider, outcome, words):
    result = near(stage, Dstack(key_provider=provider))
    found = [f for f in result.findings if f.id == "signer.origin" and "model" in f.subject]
    assert [(f.outcome, words in f.message) for f in found] == [(outcome, True)]


def test_an_unknown_origin(stage):
    for guest in (Dstack(events={"key-provider": None}), Dstack(ready=False)):
        found = near(stage, guest).findings
        (own,) = [f for f in found if f.id == "signer.origin" and "model" in f.subject]
        assert (own.outcome, "Nothing says" in own.message) == (ABSENT, True)


def test_a_listed_key_service(stage):
    own = stage.endpoint.model.guest.key_provider_id.hex()
    for listed, outcome, code in ((own, PROVEN, 0), ("00" * 32, FAILED, 1)):
        policy = Policy.genuine().replace(signer={"key_services": [listed]})
        result = stage.appraise(policy=policy)
        assert result.exit_code == code
        assert {f.outcome for f in result.findings if f.id == "signer.origin"} == {outcome}


# --- the model -----------------------------------------------------------------------------------


def test_every_source_of_the_name(stage):
    result = stage.appraise(**stage.signed())
    outcomes = {f.id: f.outcome for f in result.findings if f.claim == "model"}
    assert outcomes == {
        "model.requested": PROVEN, "model.reported": ASSERTED, "model.signed": PROVEN,
        "model.deployed": PROVEN, "model.identity": ASSERTED,
    }  # fmt: skip
    assert result.finding("model.deployed").got == TINY


def test_sources_that_are_silent(stage):
    report = stage.endpoint.near_report(model={"model_name": None})
    folder = stage.capture(report=report, manifest={"model": None})
    answer = stage.answer.replace(b'"model":"simulated/tiny-1"', b'"kind":"simulated/tiny-1"')
    request = b"{}"
    signed = stage.signed(answer=answer, request=request, model=None)
    result = stage.appraise(folder, **signed)
    for check in ("requested", "reported", "signed", "identity"):
        assert result.finding(f"model.{check}").outcome is ABSENT
    venice = stage.appraise(stage.capture(provider="dstack"), dialect="dstack")
    assert "model.deployed" not in {f.id for f in venice.findings}


def test_who_asks_for_the_model(stage):
    assert stage.appraise().finding("model.requested").by == "the recorder"
    assert stage.appraise(model="simulated/tiny-1").finding("model.requested").outcome is PROVEN


def test_a_name_signed_by_a_key_that_nothing_attests(stage):
    found = stage.appraise(**stage.signed(by=SimulatedKey())).finding("model.signed")
    assert (found.outcome, "nothing attests" in found.by) == (ASSERTED, True)


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "larger"},
        {"signed": {"model": "larger"}},
        {"signed": {"request": b'{"model": "larger"}'}},
    ],
)
def test_any_two_names_that_differ(stage, asked):
    arguments = {**stage.signed(**asked.pop("signed", {})), **asked}
    result = stage.appraise(**arguments)
    assert result.exit_code == 1
    assert result.finding("model.identity").outcome is FAILED


def test_listed_deployments_prove_the_model(stage):
    policy = Policy.genuine().replace(model={"deployments": [TINY]})
    result = stage.appraise(policy=policy, **stage.signed())
    assert (result.exit_code, result.finding("model.identity").outcome) == (0, PROVEN)
    assert result.finding("model.deployed").outcome is PROVEN
    nowhere = stage.appraise(stage.capture(provider="dstack"), policy=policy, dialect="dstack")
    assert nowhere.finding("model.deployed").outcome is ABSENT
    assert nowhere.finding("model.identity").outcome is ASSERTED


@pytest.mark.parametrize(
    ("actions", "files"),
    [
        ([up("a")], ["a"]),
        ([up("a"), up("b")], ["a", "b"]),
        ([up("a"), {"action": "compose_down", "file": "a"}], []),
        ([up("a"), {"action": "compose_down", "file": "a", "services": ["x"]}], ["a"]),
        ([up("a"), {"action": "compose_down", "file": "a"}, up("b")], ["b"]),
        ([up("a", "one"), up("a", "two", services=["x"])], ["one", "two"]),
        ([up("a", "one"), {"action": "compose_down", "file": "a"}, up("a", "two")], ["two"]),
        ([{"action": "docker_restart", "container": "x"}], []),
        ([{"action": "compose_up", "file": 1}, 1, None, []], []),
    ],
)
def test_whatever_may_still_run_must_be_listed(stage, actions, files):
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in files]
    listed = Policy.genuine().replace(model={"deployments": [*digests, "00" * 32]})
    found = manager(stage, actions, policy=listed).finding("model.deployed")
    assert found.outcome is (PROVEN if files else ABSENT)
    for left_out in digests:
        others = [digest for digest in digests if digest != left_out]
        policy = Policy.genuine().replace(model={"deployments": [*others, "00" * 32]})
        result = manager(stage, actions, policy=policy)
        assert (result.exit_code, result.finding("model.deployed").outcome) == (1, FAILED)


def test_a_deployment_without_a_hash_is_on_no_list(stage):
    actions = [{"action": "compose_up", "file": "a"}]
    assert manager(stage, actions).finding("model.deployed").got == "no hash"
    listed = Policy.genuine().replace(model={"deployments": ["00" * 32]})
    assert manager(stage, actions, policy=listed).exit_code == 1


def test_a_log_that_is_not_this_machines_deploys_nothing(stage):
    manager_report = stage.endpoint.compose_manager(quote="00")
    folder = stage.near(model={"compose_manager_attestation": manager_report})
    assert stage.appraise(folder).finding("model.deployed").outcome is ABSENT


# --- lists of nodes, appraised again and again ---------------------------------------------------


def test_what_was_found_of_one_node_is_never_anothers(stage):
    """Findings about the evidence are kept for further answers: by node, not for all."""
    endpoint = stage.endpoint
    nodes = [SimulatedMachine(intel=endpoint.intel) for _ in range(3)]
    entries = []
    for number, node in enumerate(nodes):
        devices = [endpoint.nvidia.gpu(20 + number).evidence(endpoint.nonce)]
        words = {"model_name": MODEL, "nvidia_payload": json.dumps({"evidence_list": devices})}
        entries.append(node.report(endpoint.nonce, **words))
    entries[1]["nvidia_payload"] = None
    entries[2] = nodes[2].report(endpoint.nonce, quote={"debug": True}, model_name=MODEL)
    report = {**endpoint.wrapped_report(), "model_attestations": entries}
    folder = stage.capture(provider="phala", report=report, nras=None)
    policy = Policy.genuine().replace(require={"gpu.measurements": "note"})
    verifier = stage.verifier(policy=policy)
    evidence = load_evidence(folder)
    examined = verifier.examine(evidence, at=endpoint.at)
    wanted = {0: 0, 1: 1, 2: 1}
    for number in (0, 1, 2, 0, 2, 1, 1, 0):
        signed = examine_answer(**stage.signed(by=nodes[number].key))
        result = appraise_examined(examined, signed, policy, verified_at=endpoint.at)
        assert result.exit_code == wanted[number]
    assert appraise_examined(examined, None, policy, verified_at=endpoint.at).exit_code == 0
