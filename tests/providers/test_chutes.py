"""Chutes: each instance alone; what is wrong with one is its own affair."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from dataclasses import replace

import pytest

from teeverify.errors import MalformedEvidence
from teeverify.simulator.authority import Authority

from .conftest import failed, outcome


def evidence(shown):
    return json.loads(shown.exchanges[0].body)["evidence"]


def with_evidence(shown, value):
    body = json.dumps({"evidence": value}).encode()
    return replace(shown, exchanges=(replace(shown.exchanges[0], body=body), shown.exchanges[1]))


def test_good_instances(field):
    result = field.appraise(field.channels.chutes())
    assert (result.exit_code, result.kind, result.scope) == (0, "chutes", "endpoint")
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "gpu.nonce") == "proven"
    assert outcome(result, "freshness.nonce") == "asserted"
    assert result.finding("gpu.binding").got == "same-nonce"
    assert "encryption key" in result.claims["key"].text


def test_there_is_no_event_log_to_ask_for(field):
    result = field.appraise(field.channels.chutes())
    assert not {"code.event-log", "code.compose"} & {f.id for f in result.findings}


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(
    "change",
    [
        {"quote": None},
        {"quote": "AA=="},
        {"quote": "?"},
        {"gpu_evidence": []},
        {"gpu_evidence": None},
        {"certificate": None},
        {"certificate": "AA=="},
        {"certificate": "ANOTHER"},
        {"instance_id": "unknown"},
        {"instance_id": 1},
        {"e2e_pubkey": base64.b64encode(bytes(1184)).decode()},
        {"e2e_pubkey": "AA=="},
    ],
    ids=str,
)
def test_a_bad_instance_neither_taints_nor_rescues(field, bad, change):
    other = 1 - bad
    if change.get("certificate") == "ANOTHER":
        change = {"certificate": base64.b64encode(Authority.root("another").der).decode()}
    result = field.appraise(field.channels.chutes(changes={bad: change}))
    assert result.exit_code == 0
    (aside,) = [f for f in result.findings if f.id == "nodes.set-aside"]
    assert aside.subject.startswith(f"model[{bad}]")
    assert {f.subject for f in result.findings if f.id == "binding.report-data"} == {
        f"model[{other}] 0000000{other}"
    }
    alone = field.channels.chutes(1, changes={0: change})
    with contextlib.suppress(MalformedEvidence):  # where nothing in it can be read
        assert field.appraise(alone).exit_code in (1, 2)


def test_a_debug_instance(field):
    shown = field.channels.chutes(quotes={0: {"debug": True}})
    result = field.appraise(shown)
    assert result.exit_code == 0
    assert "debug" in next(f for f in result.findings if f.id == "nodes.set-aside").message
    both = field.channels.chutes(quotes={0: {"debug": True}, 1: {"debug": True}})
    assert "tdx.debug-disabled" in failed(field.appraise(both))


def test_w03_the_debug_bit_is_the_first_bytes(field):
    """A peer looked at the last of the eight attribute bytes, and let debug VMs pass."""
    for attributes in ("0100000000000000", "0100001000000000"):
        quotes = {0: {"td_attributes": bytes.fromhex(attributes)}}
        result = field.appraise(field.channels.chutes(1, quotes=quotes))
        assert "tdx.debug-disabled" in failed(result)


def test_instances_that_the_list_of_keys_leaves_out(field):
    """Two of seven did so on 2026-06-10: skipped, and nothing else fails."""
    result = field.appraise(field.channels.chutes(3, listed=[2]))
    assert result.exit_code == 0
    aside = [f.message for f in result.findings if f.id == "nodes.set-aside"]
    assert len(aside) == 2
    assert all("does not name this instance" in message for message in aside)
    with pytest.raises(MalformedEvidence):
        field.read(field.channels.chutes(listed=[]))


def test_another_nonce_than_the_recorders(field):
    result = field.appraise(field.channels.chutes(), nonce_hex="11" * 32)
    assert result.exit_code == 2
    assert "freshness.nonce" in failed(result)
    result = field.appraise(field.channels.chutes(), asked={"nonce": bytes(32)})
    assert "freshness.nonce" in failed(result)


def test_evidence_of_an_earlier_question(field):
    """The URL names our nonce, the quotes hold another: the hash does not come out."""
    channels = field.channels
    old, channels.nonce = channels.nonce, secrets.token_bytes(32)
    shown = channels.chutes()
    channels.nonce = old
    first = replace(shown.exchanges[0], query={"nonce": old.hex()})
    result = field.appraise(replace(shown, exchanges=(first, shown.exchanges[1])))
    assert result.exit_code == 2
    assert "binding.report-data" in failed(result)


def test_gpus_that_answered_the_callers_nonce(field):
    """The GPUs must answer the derived nonce: NVIDIA's service was asked with the raw one."""
    gpus = field.channels.nvidia.evidence_list(field.channels.nonce, 2)
    result = field.appraise(field.channels.chutes(1, changes={0: {"gpu_evidence": gpus}}))
    assert "gpu.nonce" in failed(result)


def test_gpus_of_the_other_instance(field):
    shown = field.channels.chutes()
    entries = evidence(shown)
    entries[0]["gpu_evidence"] = entries[1]["gpu_evidence"]
    result = field.appraise(with_evidence(shown, entries))
    assert result.exit_code == 0  # the instance whose GPUs they are, not the one that borrowed them
    (aside,) = [f for f in result.findings if f.id == "nodes.set-aside"]
    assert (aside.subject[:8], aside.got) == ("model[0]", "gpu.nonce")
    shown = with_evidence(shown, entries[:1])
    assert "gpu.nonce" in failed(field.appraise(shown))


@pytest.mark.parametrize("part", ["quote", "certificate"])
def test_parts_of_two_instances(field, part):
    shown = field.channels.chutes()
    entries = evidence(shown)
    entries[0][part], entries[1][part] = entries[1][part], entries[0][part]
    assert failed(field.appraise(with_evidence(shown, entries))) >= {"binding.report-data"}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"evidence":null}', b'{"evidence":[]}', b'{"evidence":{}}',
     b'{"evidence":[1]}', b'{"evidence":[{}]}'],
)  # fmt: skip
def test_no_instances(field, body):
    shown = field.channels.chutes()
    with pytest.raises(MalformedEvidence):
        field.read(shown, body=body)


@pytest.mark.parametrize(
    "keys",
    [b"", b"[]", b'{"instances":[{"instance_id":"a"}]}', b'{"instances":[1]}',
     b'{"instances":[{"instance_id":"a","e2e_pubkey":"x"},{"instance_id":"a","e2e_pubkey":"y"}]}'],
)  # fmt: skip
def test_no_list_of_keys(field, keys):
    shown = field.channels.chutes()
    with pytest.raises(MalformedEvidence):
        field.read(shown, beside={"instances": keys})


def test_without_the_list_of_keys(field):
    with pytest.raises(MalformedEvidence, match="unsupported evidence format"):
        field.read(field.channels.chutes(), beside={})
    shown = field.channels.chutes()
    with pytest.raises(MalformedEvidence, match="several answers"):
        field.appraise(replace(shown, exchanges=(*shown.exchanges, shown.exchanges[1])))


@pytest.mark.parametrize("query", [{}, {"nonce": ""}, {"nonce": "00"}, {"nonce": "zz" * 32}])
def test_no_nonce_in_the_url(field, query):
    with pytest.raises(MalformedEvidence):
        field.read(field.channels.chutes(), query=query)


# --- resold --------------------------------------------------------------------------------------


def test_w13_resold_instances_cannot_be_bound(field):
    """Without certificates half of report_data cannot be compared."""
    result = field.appraise(field.channels.chutes_resold())
    assert result.exit_code == 2
    assert failed(result) == {"binding.report-data", "gpu.binding"}
    finding = next(f for f in result.findings if f.id == "binding.report-data")
    assert "the layout binds the TLS key, and there is none to compare" in finding.message


def test_resold_evidence_of_another_question(field):
    """The reseller chose the nonce: what it returns is not what was asked (Phala, 2026-06-10)."""
    result = field.appraise(field.channels.chutes_resold(nonce=secrets.token_bytes(32)))
    assert result.exit_code == 2
    assert "freshness.nonce" in failed(result)


def test_its_own_dialect_is_never_guessed(field):
    """The reseller's host speaks the reseller's dialect, whatever the answer looks like."""
    with pytest.raises(MalformedEvidence, match="unsupported evidence format"):
        field.appraise(field.channels.chutes_resold(), dialect="phala")
    with pytest.raises(MalformedEvidence):
        field.appraise(field.channels.chutes_resold(), dialect="chutes")


# --- asking --------------------------------------------------------------------------------------


def test_what_is_asked_of_a_live_endpoint(field):
    from teeverify.providers import DIALECTS
    from teeverify.providers.routes import Asking, Told

    asking = Asking(host="llm.chutes.ai", nonce=bytes(32), model="m")
    steps = DIALECTS["chutes"].questions(asking)
    first = next(steps)
    assert (first.host, first.path) == ("", "/v1/models")
    listed = {"data": [{"id": "n", "chute_id": "x"}, {"id": "m", "chute_id": "c-1"}]}
    second = steps.send(Told(body=json.dumps(listed).encode(), peer_spki_sha256=b"p"))
    assert (second.host, second.path) == ("api.chutes.ai", "/e2e/instances/c-1")
    third = steps.send(Told(body=b"keys", peer_spki_sha256=b"p"))
    assert (third.path, third.query) == ("/chutes/c-1/evidence", {"nonce": bytes(32).hex()})
    with pytest.raises(StopIteration) as done:
        steps.send(Told(body=b"evidence", peer_spki_sha256=b"p"))
    recorded = done.value.value
    assert (recorded.body, recorded.beside) == (b"evidence", {"instances": b"keys"})
    assert recorded.peer_spki_sha256 is None  # the connection ends at Chutes' own front


@pytest.mark.parametrize("chute", ["../x", "a/b", "", "é"])
def test_an_id_that_could_lead_elsewhere(field, chute):
    from teeverify.errors import EndpointUnavailable
    from teeverify.providers import DIALECTS
    from teeverify.providers.routes import Asking, Told

    for model in ("m", None):
        steps = DIALECTS["chutes"].questions(Asking(host="h", nonce=bytes(32), model=model))
        next(steps)
        listed = json.dumps({"data": [{"id": "m", "chute_id": chute}]}).encode()
        with pytest.raises(EndpointUnavailable):
            steps.send(Told(body=listed, peer_spki_sha256=None))
