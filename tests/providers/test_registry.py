"""Which host speaks which dialect; and the flat report that most of them share."""

from __future__ import annotations

import json

import pytest

from teeverify.appraisal import Outcome
from teeverify.binding import LAYOUTS
from teeverify.client import Evidence
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.providers import DIALECTS, dialect_for
from teeverify.providers.dialect import Recorded
from teeverify.providers.dstack import DSTACK
from teeverify.providers.venice import VENICE


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("cloud-api.near.ai", "near"),
        ("api.venice.ai", "venice"),
        ("qwen.completions.near.ai", "near-direct"),
        ("a.b.completions.near.ai", "near-direct"),
    ],
)
def test_hosts(host, name):
    assert dialect_for(host, None).id == name


@pytest.mark.parametrize(
    "host",
    [
        "",
        "near.ai",
        "completions.near.ai",
        "xcompletions.near.ai",
        "cloud-api.near.ai.evil.example",
        "evil.example",
        "api.venice.ai.",
        "API.VENICE.AI",
        "127.0.0.1",
        "localhost",
        ".completions",
    ],
)
def test_hosts_in_no_table(host):
    assert dialect_for(host, None) is None


@pytest.mark.parametrize("name", ["", "NEAR", "near ", "openai", "dstack-padded"])
def test_dialects_that_do_not_exist(name):
    with pytest.raises(ConfigurationError):
        dialect_for("cloud-api.near.ai", name)


def test_the_caller_decides_before_the_table():
    assert dialect_for("api.venice.ai", "dstack") is DSTACK
    assert all(dialect_for("", name) is dialect for name, dialect in DIALECTS.items())


def test_every_machine_has_a_layout_that_exists(stage):
    """No dialect leaves the layout to be guessed."""
    reports = {
        "near": stage.endpoint.near_report(),
        "venice": stage.endpoint.venice_report(),
        "dstack": stage.endpoint.model_report(),
        "near-direct": stage.endpoint.near_report()["model_attestations"][0],
    }
    for name, report in reports.items():
        query = {"include_tls_fingerprint": "true"} if name.startswith("near") else {}
        for machine in read(DIALECTS[name], report, query):
            assert machine.layout in LAYOUTS
            assert machine.quote


def read(dialect, report, query=None, peer=None):
    return dialect.read(
        Recorded(
            path=dialect.report_path,
            query=query or {},
            body=json.dumps(report).encode(),
            peer_spki_sha256=peer,
        )
    )


# --- the flat report -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["signing_address", "intel_quote"])
@pytest.mark.parametrize("value", [None, 1, True, "", "zz", [], {}])
def test_members_that_must_be_there(stage, name, value):
    report = {**stage.endpoint.model_report(), name: value}
    if (name, value) == ("intel_quote", ""):
        return
    with pytest.raises(MalformedEvidence) as caught:
        read(DSTACK, report)
    assert caught.value.field == f"report.{name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_nonce", "00"),
        ("request_nonce", 1),
        ("model_name", 1),
        ("signing_algo", ""),
        ("signing_algo", "rsa"),
        ("signing_public_key", "04"),
        ("signing_public_key", "00" * 63),
        ("signing_public_key", 1),
        ("info", []),
        ("info", "{}"),
        ("info", {"tcb_info": []}),
        ("info", {"tcb_info": "x"}),
        ("info", {"tcb_info": {"app_compose": {}}}),
    ],
)
def test_members_of_another_form(stage, name, value):
    with pytest.raises(MalformedEvidence):
        read(DSTACK, {**stage.endpoint.model_report(), name: value})


def test_a_public_key_of_another_address(stage):
    """It is not signed; but what contradicts the address is wrong."""
    for value in ("11" * 64, "04" + "11" * 64, stage.endpoint.gateway.key.public_bytes.hex()):
        report = stage.endpoint.near_report(model={"signing_public_key": value})
        result = stage.appraise(stage.capture(report=report))
        assert result.exit_code == 2
        assert result.finding("binding.report-data", "model").exit_code == 2


def test_a_public_key_in_both_spellings(stage):
    point = stage.endpoint.model.key.public_bytes.hex()
    for value in (point, "04" + point, "0x04" + point):
        report = stage.endpoint.near_report(model={"signing_public_key": value})
        assert stage.appraise(stage.capture(report=report)).exit_code == 0


def test_a_tls_key_is_asked_for_only_where_it_was_requested(stage):
    report = stage.endpoint.model_report(tls=True)
    (machine,) = read(DSTACK, report)
    assert (machine.layout, machine.tls_spki_sha256) == ("dstack-padded", None)


def test_texts_that_hold_json(stage):
    """Proxies send some members as objects, others as texts that hold them."""
    endpoint = stage.endpoint
    guest = endpoint.model.guest
    for info in ({"tcb_info": {"app_compose": guest.app_compose}},
                 {"tcb_info": json.dumps({"app_compose": guest.app_compose})}):  # fmt: skip
        for log in (guest.event_log, guest.event_log_text):
            for gpus in (endpoint.nvidia.payload(endpoint.nonce, 2),
                         json.loads(endpoint.nvidia.payload(endpoint.nonce, 2))):  # fmt: skip
                changes = {"info": info, "event_log": log, "nvidia_payload": gpus}
                report = endpoint.near_report(model=changes)
                assert stage.appraise(stage.capture(report=report, nras=None)).exit_code == 3


# --- Venice's own words --------------------------------------------------------------------------


def test_venices_opinion_is_never_read(stage):
    for words in ({"verified": False}, {"verified": "no"}, {"server_verification": {"tdx": 0}},
                  {"verified": None}):  # fmt: skip
        folder = stage.capture(provider="venice", report=stage.endpoint.venice_report(**words))
        assert stage.appraise(folder).exit_code == 0
    lies = stage.endpoint.venice_report(verified=True, quote={"debug": True})
    assert stage.appraise(stage.capture(provider="venice", report=lies)).exit_code == 2


def test_an_alias_counts_only_beside_the_right_name(stage):
    """An aggregator may serve another model under a well-known name (W15b)."""
    good = stage.endpoint.venice_report()
    (machine, *_) = read(VENICE, good)
    assert machine.model_names == ("simulated/tiny-1", "e2ee-tiny")
    for changes in ({"upstream_model": "other"}, {"upstream_model": None}, {"model_name": None}):
        report = {k: v for k, v in {**good, **changes}.items() if v is not None}
        (machine, *_) = read(VENICE, report)
        assert "e2ee-tiny" not in machine.model_names
        folder = stage.capture(provider="venice", report=report)
        assert stage.appraise(folder, model="e2ee-tiny").exit_code in (0, 1)
    swapped = {**good, "model_name": "larger", "upstream_model": "larger"}
    folder = stage.capture(provider="venice", report=swapped)
    assert stage.appraise(folder, model="simulated/tiny-1").exit_code == 1


def aci(report, **evidence):
    """The form of Phala's gateway: no ``info``, and the log only beside the quote of ``aci/1``."""
    inner = {"quote": report["intel_quote"], "event_log": report["event_log"], **evidence}
    flat = {k: v for k, v in report.items() if k not in ("info", "event_log", "model_name")}
    return {"api_version": "aci/1", "attestation": {"evidence": inner}, **flat}


def test_a_report_in_the_form_of_aci_alone():
    """Its draft changed shape twice; the gateway shows the flat form as well, which is read."""
    with pytest.raises(MalformedEvidence, match="unsupported evidence format") as caught:
        read(DIALECTS["phala"], {"api_version": "aci/1", "attestation": {"evidence": {}}})
    assert "aci/1" in caught.value.got


def test_a_report_in_another_dialect(stage, tmp_path):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(stage.endpoint.venice_report()))
    with pytest.raises(MalformedEvidence) as caught:
        Evidence.load(file, dialect="near")
    assert "read in the dialect near" in caught.value.hint


def test_the_event_log_of_an_aci_report(stage):
    good = stage.endpoint.venice_report(compose_manager_attestation=None)
    result = stage.appraise(stage.capture(provider="venice", report=aci(good)))
    assert result.finding("code.event-log").outcome is Outcome.PROVEN
    assert result.finding("code.compose").outcome is Outcome.ABSENT
    assert result.exit_code == 1
    other = stage.endpoint.gateway.quote(bytes(64)).hex()
    for changes in ({"quote": other}, {"event_log": None}, {"quote": None}):
        result = stage.appraise(stage.capture(provider="venice", report=aci(good, **changes)))
        assert result.finding("code.event-log").outcome is Outcome.ABSENT
    forged = json.loads(json.dumps(good["event_log"]))
    forged[-1]["digest"] = "00" * 48
    report = aci(good, event_log=forged)
    assert stage.appraise(stage.capture(provider="venice", report=report)).exit_code == 2
    for attestation in ([], "x", None, {"evidence": 5}):
        (machine,) = read(VENICE, {**aci(good), "attestation": attestation})
        assert machine.event_log is None
    for name in ("phala", "nanogpt", "dstack"):
        (machine,) = read(DIALECTS[name], aci(good))
        assert machine.event_log == good["event_log"]


def test_a_log_in_the_report_itself_comes_first(stage):
    good = stage.endpoint.venice_report(compose_manager_attestation=None)
    report = {**good, "attestation": {"evidence": {"quote": good["intel_quote"], "event_log": []}}}
    assert stage.appraise(stage.capture(provider="venice", report=report)).exit_code == 0


def test_venices_own_tls_front_is_no_attested_machine(stage):
    (machine, *_) = read(VENICE, stage.endpoint.venice_report(), peer=b"p" * 32)
    assert machine.peer_spki_sha256 is None
