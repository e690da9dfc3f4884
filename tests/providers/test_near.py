"""NEAR's reports: the gateway, its nodes, and the log of a compose-manager (ADR 4)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from teeverify.errors import BindingMismatch, MalformedEvidence
from teeverify.providers.dialect import Recorded
from teeverify.providers.near import NEAR, NEAR_DIRECT
from teeverify.simulator.authority import Authority

TLS = {"include_tls_fingerprint": "true"}
FIELDS = ("timestamp", "action", "tag", "commit", "file", "file_sha256", "services", "container",
          "image")  # fmt: skip
ACTIONS = [
    {"services": ["a", "b"], "action": "compose_up", "timestamp": "2026-06-29T02:06:57Z",
     "file": "töne.yaml", "file_sha256": "00" * 32, "commit": "c", "tag": "t"},
    {"image": "x", "container": "engine", "timestamp": "2026", "action": "docker_restart"},
]  # fmt: skip


def read(dialect, body: Any, query=TLS, peer=None):
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return dialect.read(
        Recorded(path=dialect.report_path, query=query, body=raw, peer_spki_sha256=peer)
    )


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def spellings(actions: list[dict[str, Any]]) -> dict[str, bytes]:
    """The three, written down here on their own."""
    ordered = [{k: a[k] for k in FIELDS if k in a} for a in actions]
    return {
        "sorted": compact([dict(sorted(a.items())) for a in actions]),
        "transported": compact(actions),
        "fields": compact(ordered),
    }


def report(stage, actions: Any = None, **changes: Any) -> dict[str, Any]:
    manager = stage.endpoint.compose_manager()
    if actions is not None:
        manager |= {"actions": actions}
    return stage.endpoint.near_report(model={"compose_manager_attestation": {**manager, **changes}})


@pytest.mark.parametrize("spelling", ["sorted", "transported", "fields"])
def test_three_spellings_of_one_log(stage, spelling):
    digest = hashlib.sha256(spellings(ACTIONS)[spelling])
    machine = read(NEAR, report(stage, ACTIONS, actions_hash=digest.hexdigest()))[-1]
    assert (machine.role, machine.layout) == ("compose-manager", "near-compose-manager")
    assert machine.actions_hash == digest.digest()


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ACTIONS).encode(),
        json.dumps(ACTIONS, separators=(",", ":")).encode(),
        json.dumps(ACTIONS, ensure_ascii=False, indent=2).encode(),
        compact(ACTIONS) + b"\n",
        compact(ACTIONS[::-1]),
        compact(ACTIONS[:1]),
        compact([]),
        b"",
    ],
)
def test_no_other_spelling(stage, text):
    digest = hashlib.sha256(text).hexdigest()
    with pytest.raises(MalformedEvidence) as caught:
        read(NEAR, report(stage, ACTIONS, actions_hash=digest))
    assert caught.value.id == "code.compose-manager"
    assert caught.value.field.endswith("compose_manager_attestation.actions_hash")


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log[0].update(file="other.yaml"),
        lambda log: log[0].update(file_sha256="11" * 32),
        lambda log: log[0]["services"].append("c"),
        lambda log: log[0].pop("tag"),
        lambda log: log[0].update(more=1),
        lambda log: log.append(log[0]),
        lambda log: log.reverse(),
        lambda log: log.clear(),
        lambda log: log[1].update(image="evil"),
    ],
)
def test_each_value_of_the_log_counts(stage, change):
    digest = hashlib.sha256(spellings(ACTIONS)["sorted"]).hexdigest()
    log = json.loads(json.dumps(ACTIONS))
    change(log)
    with pytest.raises(MalformedEvidence):
        read(NEAR, report(stage, log, actions_hash=digest))


@pytest.mark.parametrize("actions", [None, {}, "[]", 1, True])
def test_a_log_that_is_no_list(stage, actions):
    body = report(stage)
    body["model_attestations"][0]["compose_manager_attestation"]["actions"] = actions
    with pytest.raises(MalformedEvidence):
        read(NEAR, body)


def test_a_log_of_anything_is_only_as_good_as_its_quote(stage):
    """Odd actions have a hash too; then the quote decides."""
    for actions in ([], [1], ["x"], [None], [[{}]], [{"a": {"b": [1.5, True, None]}}]):
        digest = hashlib.sha256(compact(actions)).hexdigest()
        assert read(NEAR, report(stage, actions, actions_hash=digest))
        body = report(stage, actions, actions_hash=digest)
        assert stage.appraise(stage.capture(report=body)).exit_code == 2


# --- the gateway ---------------------------------------------------------------------------------


def test_a_certificate_of_another_key(stage):
    pem = Authority.root("Simulated TLS").pem.decode()
    with pytest.raises(BindingMismatch) as caught:
        read(NEAR, {**stage.endpoint.near_report(), "tls_certificate": pem})
    assert caught.value.id == "endpoint.bound"


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN CERTIFICATE-----", 1, [], {}])
def test_a_certificate_that_is_none(stage, pem):
    with pytest.raises(MalformedEvidence):
        read(NEAR, {**stage.endpoint.near_report(), "tls_certificate": pem})


@pytest.mark.parametrize("models", [None, {}, "[]", [1], [None], [[]], [{}]])
def test_no_list_of_nodes(stage, models):
    body = {**stage.endpoint.near_report(), "model_attestations": models}
    with pytest.raises(MalformedEvidence):
        read(NEAR, body)


def test_a_gateway_with_no_node_behind_it(stage):
    """No machine that runs a model, no GPU: refused by every policy that wants one."""
    body = {**stage.endpoint.near_report(), "model_attestations": []}
    assert [machine.role for machine in read(NEAR, body)] == ["gateway"]
    result = stage.appraise(stage.capture(report=body, nras=None))
    assert (result.exit_code, result.finding("gpu.required").exit_code) == (1, 1)


def test_labels_of_several_nodes(stage):
    body = stage.endpoint.near_report()
    body["model_attestations"] *= 2
    assert [machine.label for machine in read(NEAR, body)] == [
        "gateway", "model[0]", "model[0] compose-manager", "model[1]", "model[1] compose-manager",
    ]  # fmt: skip


def test_a_node_of_its_own(stage):
    node = stage.endpoint.near_report()["model_attestations"][0]
    machines = read(NEAR_DIRECT, node, peer=b"p" * 32)
    assert [machine.role for machine in machines] == ["model", "compose-manager"]
    assert machines[0].peer_spki_sha256 == b"p" * 32
    with pytest.raises(MalformedEvidence):
        read(NEAR_DIRECT, stage.endpoint.near_report())


@pytest.mark.parametrize(("asked", "code"), [(TLS, 0), ({}, 2)])
def test_a_recording_of_a_node_of_its_own(stage, asked, code):
    """As behind the gateway: what was requested decides whether a TLS key is bound."""
    endpoint = stage.endpoint
    folder = stage.capture(
        provider="dstack",
        report=endpoint.near_report()["model_attestations"][0],
        peer_spki=endpoint.model.tls_spki,
        query={"nonce": endpoint.nonce.hex(), **asked},
    )
    for file in folder.glob("*_report.http.json"):
        file.write_text(file.read_text().replace("127.0.0.1", "tiny.completions.near.ai"))
    result = stage.appraise(folder)
    assert (result.kind, result.exit_code) == ("near-direct", code)
    assert code or result.finding("endpoint.bound").got == endpoint.model.tls_fingerprint.hex()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"a":1,"a":1}', b"\xff"])
def test_no_report(body):
    for dialect in (NEAR, NEAR_DIRECT):
        with pytest.raises(MalformedEvidence) as caught:
            read(dialect, body)
        assert (caught.value.id, caught.value.field) == ("report", "report")


# --- recorded logs -------------------------------------------------------------------------------


@pytest.mark.vectors
@pytest.mark.parametrize(
    ("name", "spelling"), [("nearcloud-20260629", "sorted"), ("venice-20260610", "transported")]
)
def test_recorded_logs(vectors, name, spelling):
    folder = vectors / "endpoints/captures" / name
    (file,) = folder.glob("0001_*.body")
    body = json.loads(file.read_bytes())
    node = body["model_attestations"][0] if "model_attestations" in body else body
    manager = node["compose_manager_attestation"]
    hashes = {k: hashlib.sha256(v).hexdigest() for k, v in spellings(manager["actions"]).items()}
    assert hashes[spelling] == manager["actions_hash"]
    if spelling == "transported":
        assert hashes["sorted"] != manager["actions_hash"]
