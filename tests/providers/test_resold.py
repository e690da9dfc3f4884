"""Phala, NanoGPT, 0G, Morpheus, OpenGradient: what each shows, and lists of nodes."""

from __future__ import annotations

import base64
import copy
import json
import secrets
from typing import Any

import pytest

from teeverify.errors import MalformedEvidence, StaleEvidence
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Recorded
from teeverify.simulator.machine import SimulatedMachine

RESOLD = ("phala", "nanogpt")
FLAT = ("dstack", "phala", "nanogpt", "0g", "venice")


def read(name: str, body: Any, query: Any = None, peer: bytes | None = None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    dialect = DIALECTS[name]
    recorded = Recorded(
        path=dialect.report_path, query=query or {}, body=raw, peer_spki_sha256=peer
    )
    return dialect.read(recorded)


@pytest.fixture(scope="module")
def other(stage) -> SimulatedMachine:
    """Another node of the same provider."""
    return SimulatedMachine(intel=stage.endpoint.intel)


def entry(stage, machine: SimulatedMachine, gpu: int, **changes: Any) -> dict[str, Any]:
    endpoint = stage.endpoint
    payload = {"evidence_list": [endpoint.nvidia.gpu(gpu).evidence(endpoint.nonce)]}
    words = {"model_name": "simulated/tiny-1", "nvidia_payload": json.dumps(payload), **changes}
    return machine.report(endpoint.nonce, **words)


# --- the forms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["phala", "nanogpt", "0g"])
def test_a_recording(stage, provider):
    folder = stage.capture(provider=provider)
    dialect = provider if provider == "0g" else None  # its nodes have no hosts of their own
    result = stage.appraise(folder, dialect=dialect)
    assert (result.kind, result.exit_code, result.tier) == (provider, 0, "warning")
    assert result.signer == stage.endpoint.model.key.key


@pytest.mark.parametrize("provider", RESOLD)
def test_a_gateway_with_nodes(stage, provider):
    report = stage.endpoint.wrapped_report()
    machines = read(provider, report)
    assert [(m.role, m.layout) for m in machines] == [
        ("gateway", "dstack-padded"), ("model", "dstack-padded"),
    ]  # fmt: skip
    result = stage.appraise(stage.capture(provider=provider, report=report))
    assert result.exit_code == 0
    found = result.finding("chain.gateway")
    assert (found.outcome.value, found.severity.value) == ("absent", "warns")


@pytest.mark.parametrize("provider", RESOLD)
def test_the_nonce_outside_is_an_echo(stage, provider):
    """NanoGPT answers with the caller's nonce beside quotes that hold another (2026-03)."""
    asked = secrets.token_bytes(32)
    for report in (stage.endpoint.wrapped_report(), stage.endpoint.model_report()):
        stale = {**report, "nonce": asked.hex()}
        folder = stage.capture(
            provider=provider, report=stale, manifest={"nonce_hex": asked.hex()},
            query={"nonce": asked.hex()},
        )  # fmt: skip
        result = stage.appraise(folder)
        assert result.exit_code == 2
        assert {f.id for f in result.findings if f.exit_code == 2} >= {"freshness.nonce"}
        assert "does not answer your question" in result.summary


@pytest.mark.parametrize("provider", RESOLD)
def test_without_nonces_beside_them_the_quotes_still_hold_another(stage, provider):
    asked = secrets.token_bytes(32)
    report = copy.deepcopy(stage.endpoint.wrapped_report(nonce=asked.hex()))
    for each in (report["gateway_attestation"], *report["model_attestations"]):
        each["request_nonce"] = asked.hex()
    folder = stage.capture(provider=provider, report=report, manifest={"nonce_hex": asked.hex()})
    result = stage.appraise(folder)
    stale = {f.subject for f in result.findings if f.id == "freshness.nonce" and f.exit_code}
    assert (result.exit_code, stale) == (2, {"gateway", "model"})


@pytest.mark.parametrize("provider", RESOLD)
@pytest.mark.parametrize(
    "report",
    [
        {"attestation_type": "chutes", "nonce": "aa" * 32, "all_attestations": []},
        {
            "format": "https://tinfoil.sh/predicate/sev-snp-guest/v2",
            "body": "x",
            "nonce": "aa" * 32,
        },
        {"attestation_type": "chutes"},
        {"format": "x", "body": "y"},
    ],
)
def test_models_of_others_are_told_apart(provider, report):
    with pytest.raises(MalformedEvidence, match="unsupported evidence format"):
        read(provider, report, {"nonce": "aa" * 32})
    if "nonce" in report:
        with pytest.raises(StaleEvidence) as caught:
            read(provider, report, {"nonce": "bb" * 32})
        assert (caught.value.got, caught.value.want) == ("aa" * 32, "bb" * 32)


@pytest.mark.parametrize("provider", [*FLAT, "near", "near-direct", "0g-broker", "opengradient"])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"{", b"\xff", b'{"a":1,"a":1}', b'"x"'])
def test_no_report(provider, body):
    with pytest.raises(MalformedEvidence):
        read(provider, body)


def test_nitro_enclaves_are_not_read():
    with pytest.raises(MalformedEvidence, match="unsupported evidence format"):
        read("opengradient", {"attestation": "x"})


def test_an_aggregators_front_is_no_attested_machine(stage):
    for provider in RESOLD:
        for report in (stage.endpoint.wrapped_report(), stage.endpoint.model_report()):
            machines = read(provider, report, peer=b"p" * 32)
            assert {m.peer_spki_sha256 for m in machines} == {None}


def test_another_model_behind_a_well_known_name(stage):
    """W15b: the node attests one model, the aggregator was asked for another."""
    folder = stage.capture(provider="nanogpt", manifest={"model": "TEE/glm-4.7"})
    result = stage.appraise(folder)
    assert (result.exit_code, result.finding("model.identity").exit_code) == (1, 1)
    assert result.finding("model.reported").got == "simulated/tiny-1"
    assert result.finding("model.requested").got == "TEE/glm-4.7"


# --- 0G's broker ---------------------------------------------------------------------------------


def test_a_brokers_address_is_text(stage):
    folder = stage.capture(provider="0g-broker", nras=None, manifest={"nonce_hex": None})
    result = stage.appraise(folder, dialect="0g-broker")
    assert result.exit_code == 1
    assert {f.id for f in result.findings if f.exit_code} == {"gpu.required"}
    assert result.finding("binding.report-data").got == str(stage.endpoint.gateway.key.key)
    assert result.finding("freshness.nonce").outcome.value == "absent"


@pytest.mark.parametrize(
    "report_data",
    [b"", b"0x", b"0x" + b"zz" * 20, b"\xff" * 64, b"x" * 42, bytes(64)],
)
def test_a_brokers_address_that_is_none(stage, report_data):
    report = stage.endpoint.broker_report(report_data=base64.b64encode(report_data).decode())
    with pytest.raises(MalformedEvidence):
        read("0g-broker", report)


def test_another_address_than_the_quoted_one(stage):
    address = str(stage.endpoint.model.key.key).encode().ljust(64, b"\0")
    report = stage.endpoint.broker_report(report_data=base64.b64encode(address).decode())
    folder = stage.capture(
        provider="0g-broker", report=report, nras=None, manifest={"nonce_hex": None}
    )
    result = stage.appraise(folder, dialect="0g-broker")
    assert (result.exit_code, result.finding("binding.report-data").exit_code) == (2, 2)


def test_a_brokers_signature_is_no_gpus(stage):
    folder = stage.capture(provider="0g-broker", nras=None, manifest={"nonce_hex": None})
    signed = stage.signed(by=stage.endpoint.gateway.key, model=None, signing_address=None)
    result = stage.appraise(folder, dialect="0g-broker", **signed)
    assert result.finding("key.attested").outcome.value == "proven"
    assert result.finding("answer.signer-role").by == "the gateway's code"
    assert result.exit_code == 1


# --- lists of nodes ------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", FLAT)
def test_a_list_that_holds_only_the_report_itself(stage, provider):
    top = stage.endpoint.model_report()
    machines = read(provider, {**top, "all_attestations": [top]})
    assert [(m.label, m.node) for m in machines] == [("model", None)]


def nodes_of(stage, other, *more: Any) -> dict[str, Any]:
    top = stage.endpoint.model_report()
    return {**top, "all_attestations": [top, entry(stage, other, 10), *more]}


BAD = {
    "no-object": lambda e: 1,
    "null": lambda e: None,
    "empty": lambda e: {},
    "no-quote": lambda e: {**e, "intel_quote": None},
    "rubbish-quote": lambda e: {**e, "intel_quote": "00"},
    "broken-signature": lambda e: {**e, "intel_quote": e["intel_quote"][:-2000] + "00" * 1000},
    "another-key": lambda e: {**e, "signing_address": "0x" + "11" * 20,
                              "signing_public_key": None},
    "no-gpu": lambda e: {**e, "nvidia_payload": None},
    "no-log": lambda e: {**e, "event_log": None},
    "stale": lambda e: {**e, "request_nonce": "11" * 32},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("first", [False, True])
def test_a_bad_entry_neither_taints_nor_rescues(stage, other, name, first):
    """The good node stays good; what the bad one signs counts for nothing."""
    bad = BAD[name](entry(stage, other, 10))
    good = entry(stage, stage.endpoint.model, 0)
    nodes = [bad, good] if first else [good, bad]
    report = {**stage.endpoint.wrapped_report(), "model_attestations": nodes}
    folder = stage.capture(provider="phala", report=report, nras=None)
    policy = {"require": {"gpu.measurements": "note", "chain.gateway": "note"}}
    from teeverify import Policy

    genuine = Policy.genuine().replace(**policy)
    result = stage.appraise(folder, policy=genuine)
    assert result.exit_code == 0
    (aside,) = [f for f in result.findings if f.id == "nodes.set-aside"]
    assert aside.subject == ("model[0]" if first else "model[1]")
    own = stage.appraise(folder, policy=genuine, **stage.signed())
    assert own.exit_code == 0
    theirs = stage.appraise(folder, policy=genuine, **stage.signed(by=other.key))
    assert theirs.exit_code in (1, 2)
    alone = {**report, "model_attestations": [bad]}
    try:
        code = stage.appraise(
            stage.capture(provider="phala", report=alone, nras=None), policy=genuine
        ).exit_code
    except MalformedEvidence:
        code = 2
    assert code in (1, 2)


def test_every_node_of_a_flat_list_may_answer(stage, other):
    folder = stage.capture(provider="phala", report=nodes_of(stage, other), nras=None)
    from teeverify import Policy

    policy = Policy.genuine().replace(require={"gpu.measurements": "note"})
    for key in (stage.endpoint.model.key, other.key):
        result = stage.appraise(folder, policy=policy, **stage.signed(by=key))
        assert result.exit_code == 0
        assert str(result.signer) == str(key.key)
    foreign = stage.signed(by=SimulatedMachine(intel=stage.endpoint.intel).key)
    assert stage.appraise(folder, policy=policy, **foreign).exit_code == 1


def test_a_list_of_nothing_but_bad_entries(stage):
    report = {**stage.endpoint.wrapped_report(), "model_attestations": [{}, 1]}
    with pytest.raises(MalformedEvidence):
        read("phala", report)


def test_a_list_that_never_ends(stage):
    report = {**stage.endpoint.wrapped_report(), "model_attestations": [{}] * 65}
    with pytest.raises(MalformedEvidence, match="too many nodes"):
        read("phala", report)


# --- what is asked -------------------------------------------------------------------------------


def test_both_routes_are_asked_for_one_algorithm():
    """W14: the gateway's report defaults to ed25519 and its signatures to ecdsa."""
    for dialect in DIALECTS.values():
        assert dialect.asks.get("signing_algo") == dialect.asks_signature.get("signing_algo")
    assert DIALECTS["near"].asks["signing_algo"] == "ecdsa"


def test_the_tls_key_is_asked_for_where_it_can_be_bound():
    asked = {d.id for d in DIALECTS.values() if d.asks.get("include_tls_fingerprint") == "true"}
    assert {"near", "near-direct"} <= asked
