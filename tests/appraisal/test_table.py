"""The policy table: for every row evidence that violates it alone, and evidence that meets it.

Each violation is appraised under ``genuine``, where no other row refuses; and under a policy that
demands of this row alone what ``strict`` demands, where the good evidence of the same row passes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from teeverify import nvidia
from teeverify.appraisal import Outcome, Policy, ReferenceValues, Severity
from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.observation import CLAIM_NAMES
from teeverify.appraisal.presets import ROWS
from teeverify.simulator.dstack import Dstack
from teeverify.simulator.endpoint import MODEL
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.machine import SimulatedMachine

# What no dialect can show yet, so that ``strict`` never says yes; a row that leaves this list
# needs evidence in ``best`` that meets it.
NOT_YET_MET = {
    "answer.fresh": "no signed text names a challenge",
    "confidential.request": "who encrypts says so, and a recording does not",
    "endpoint.bound": "a recorded TLS key is the recorder's word",
    "gpu.attachment": "no vendor can prove it; recorded only in every preset",
    "gpu.binding": "all layouts bind GPUs by an equal nonce",
    "http.semantics": "no signed text covers the HTTP exchange",
    "model.identity": "no weights are measured",
    "request.bound": "in these dialects whoever calls the enclave may choose the request hash",
    "roots": "this evidence is simulated",
    "signer.origin": "keys come from a key service",
}


# What is only told, whatever it says; and what needs a list of nodes or of a policy. Their tests:
# test_dialects.py, test_encryption.py.
RECORDED = {
    "chain.path", "code.dstack", "code.device", "model.requested", "model.reported",
    "model.signed", "model.deployed", "confidential.answer",
}  # fmt: skip
# Of live endpoints and of appraisals of now: tests/client/test_memory.py.
LIVE = {"clock.behind", "code.changed"}
# Of dialects without signed answers: tests/providers.
DIALECTS = {
    "nodes.set-aside", "code.dstack-listed", "answer.unsigned", "encryption.key-bound",
    "engine.location",  # tests/protocol
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Evidence that violates one row.

    Attributes:
        row: The row.
        name: What is wrong with it.
        make: Makes what to appraise, as arguments of ``Stage.appraise``.
        outcome: How the row's finding stands.
        genuine: The exit code under ``genuine``.
        strict: The exit code where this row alone is demanded as in ``strict``.
    """

    row: str
    name: str
    make: Callable[[Any], dict[str, Any]]
    outcome: str
    genuine: int
    strict: int = 1

    def __str__(self) -> str:
        return f"{self.row}-{self.name}"


def model(**changes: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda stage: {"source": stage.near(model=changes)}


def guest(machine: Dstack, **quote: Any) -> Callable[[Any], dict[str, Any]]:
    """The model's machine runs this guest."""

    def make(stage: Any) -> dict[str, Any]:
        endpoint = stage.endpoint
        twin = dataclasses.replace(endpoint.model, guest=machine)
        data = twin.report_data(endpoint.nonce, tls=True)
        changes = {
            "intel_quote": twin.quote(data, **quote).hex(),
            "event_log": machine.event_log,
            "info": {"tcb_info": {"app_compose": machine.app_compose}},
            "compose_manager_attestation": endpoint.compose_manager(machine=twin, quoted=quote),
        }
        return {"source": stage.near(model=changes)}

    return make


def attributes(value: str) -> Callable[[Any], dict[str, Any]]:
    return lambda stage: {
        "source": stage.near(model={"quote": {"td_attributes": bytes.fromhex(value)}})
    }


def collateral(status: str, **changes: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda stage: {
        "source": stage.capture(
            collateral=stage.endpoint.intel.collateral(tcb_status=status, **changes)
        )
    }


def answered(**changes: Any) -> Callable[[Any], dict[str, Any]]:
    """Only the signature or what is signed is changed."""
    return lambda stage: {**stage.signed(), **changes}


def _foreign_manager(stage: Any) -> dict[str, Any]:
    other = SimulatedMachine(intel=stage.endpoint.intel)
    report = stage.endpoint.compose_manager()
    head = bytes.fromhex(report["actions_hash"]) + stage.endpoint.nonce
    report |= {"quote": other.quote(head).hex(), "event_log": other.guest.event_log_text}
    return {"source": stage.near(model={"compose_manager_attestation": report})}


def _other_key(stage: Any) -> dict[str, Any]:
    key = SimulatedKey()
    changes = {"signing_address": str(key.key), "signing_public_key": None}
    return {"source": stage.near(model=changes)}


def _bare_quote(stage: Any) -> dict[str, Any]:
    quote = stage.endpoint.model.quote(bytes(64))
    return {"source": quote, "endorsements": stage.good, "at": stage.endpoint.at}


def _bare_gpus(stage: Any, *, nras: bool = False) -> dict[str, Any]:
    """GPU evidence alone, with nothing that knows its firmware but perhaps NRAS."""
    endpoint = stage.endpoint
    entries = endpoint.nvidia.evidence_list(endpoint.nonce, 2)
    answer, jwks = endpoint.nvidia.nras_answer(entries, endpoint.nonce, endpoint.at)
    return {
        "source": json.dumps(entries).encode(),
        "nonce": endpoint.nonce,
        "at": endpoint.at,
        "scope": "evidence",
        "endorsements": nvidia.Endorsements(nras_answers=(answer,), jwks=(jwks,)) if nras else (),
    }


def _eight_gpus(stage: Any, *, foreign: bool = False) -> dict[str, Any]:
    """The GPUs of a machine in protected PCIe mode, without its switches or with others."""
    vendor = stage.endpoint.nvidia
    entries = vendor.protected_machine(stage.endpoint.nonce, switches=4)
    if foreign:
        other = vendor.gpu(9, chip="LS_10").evidence(stage.endpoint.nonce)
        entries = [*entries[:11], other]
    given = _bare_gpus(stage)
    return {**given, "source": json.dumps(entries if foreign else entries[:8]).encode()}


def _half_of_the_answers(stage: Any) -> dict[str, Any]:
    """Two certificates' OCSP answers are missing."""
    source = stage.capture(rims={}, ocsp={})
    for file in sorted(source.glob("*_ocsp.*"))[:4]:
        file.unlink()
    return {"source": source}


def _made_later(minutes: int) -> Callable[[Any], dict[str, Any]]:
    """The answer is so much older than the evidence."""

    def make(stage: Any) -> dict[str, Any]:
        return stage.signed(answer=stage.endpoint.answer(after=timedelta(minutes=-minutes)))

    return make


def _made_earlier(stage: Any) -> dict[str, Any]:
    return stage.signed(answer=stage.endpoint.answer(after=timedelta(hours=2)))


def _no_time(stage: Any) -> dict[str, Any]:
    return stage.signed(answer=json.dumps({"id": "1", "model": MODEL, "choices": []}).encode())


CASES = (
    Case("kind", "bare-quote", _bare_quote, "absent", 1),
    Case("kind", "answer-asked-for", lambda s: {"scope": "answer"}, "absent", 1),
    Case("kind", "endpoint-asked-for", lambda s: {**_bare_quote(s), "scope": "endpoint"},
         "absent", 1),
    Case("roots", "simulated", lambda s: {}, "asserted", 0),
    Case("time", "recorded", lambda s: {}, "asserted", 0),
    Case("freshness.nonce", "recorded", lambda s: {}, "asserted", 0),
    Case("freshness.nonce", "nobody-said",
         lambda s: {"source": s.capture(manifest={"nonce_hex": None})}, "absent", 0),
    Case("freshness.nonce", "another", lambda s: {"nonce": bytes(32)}, "failed", 2, 2),
    *(
        Case("tdx.tcb-status", status, collateral(status), "failed", 1)
        for status in ("OutOfDate", "OutOfDateConfigurationNeeded")
    ),
    *(
        Case("tdx.tcb-status", status, collateral(status), "proven", 0)
        for status in ("SWHardeningNeeded", "ConfigurationNeeded",
                       "ConfigurationAndSWHardeningNeeded")
    ),
    *(
        Case("tdx.attributes", name, attributes(value), "failed", 1)
        for name, value in (("profiling", "1000001000000000"), ("reserved", "0200001000000000"),
                            ("migratable", "0000003000000000"), ("service", "0000021000000000"))
    ),
    *(
        Case("tdx.attributes", name, attributes(value), "proven", 0)
        for name, value in (("no-sept-ve-disable", "0000000000000000"), ("pks", "0000005000000000"),
                            ("kl", "0000009000000000"), ("perfmon", "0000001000000080"))
    ),
    *(
        Case("tdx.xfam", name, model(quote={"xfam": bytes.fromhex(value)}), "failed", 1)
        for name, value in (("no-sse", "e502060000000000"), ("undefined", "e702060000000080"))
    ),
    Case("code.identity", "not-listed", lambda s: {"expect": ReferenceValues()}, "absent", 0),
    Case("code.event-log", "missing", model(event_log=None), "absent", 1),
    Case("code.event-log", "of-another-boot", model(event_log=Dstack().event_log),
         "failed", 2, 2),
    Case("code.compose", "missing", model(info=None), "absent", 1),
    Case("code.compose", "another", model(info={"tcb_info": {"app_compose": "{}"}}),
         "failed", 2, 2),
    Case("code.compose", "committed-by-nothing",
         guest(Dstack(events={"compose-hash": None}), mr_config_id=bytes(48)), "absent", 1),
    Case("code.images-pinned", "by-tag", guest(Dstack(images=["engine:latest"])), "absent", 0),
    Case("code.compose-manager", "of-another-machine", _foreign_manager, "failed", 2, 2),
    Case("code.compose-manager", "missing", model(compose_manager_attestation=None), "absent", 1),
    Case("chain.gateway", "another-key-service",
         guest(Dstack(key_provider_id=b"another")), "failed", 2, 2),
    Case("chain.gateway", "no-key-service-shown", guest(Dstack(events={"key-provider": None})),
         "absent", 0),
    Case("chain.gateway", "a-log-that-the-application-could-write", guest(Dstack(ready=False)),
         "absent", 0),
    Case("gpu.required", "none", model(nvidia_payload=None), "failed", 1),
    Case("gpu.measurements", "nras-not-recorded", lambda s: {"source": s.capture(nras=None)},
         "absent", 3, 3),
    Case("gpu.measurements", "nras-only", lambda s: {}, "asserted", 0),
    Case("gpu.revocation", "not-recorded", lambda s: {}, "absent", 0),
    Case("gpu.revocation", "nras-only",
         lambda s: {"source": s.capture(nras={"claims_version": "3.0"})}, "asserted", 0),
    Case("gpu.revocation", "half-of-the-answers", _half_of_the_answers, "absent", 0),
    Case("gpu.device", "in-an-unknown-mode", _bare_gpus, "absent", 0),
    Case("gpu.device", "nras-only", lambda s: _bare_gpus(s, nras=True), "asserted", 0),
    Case("gpu.switches", "eight-gpus-without-switches", _eight_gpus, "absent", 0),
    Case("gpu.switches", "of-another-machine", lambda s: _eight_gpus(s, foreign=True),
         "failed", 2, 2),
    Case("gpu.binding", "same-nonce", lambda s: {}, "asserted", 0),
    Case("binding.report-data", "another-key", _other_key, "failed", 2, 2),
    Case("endpoint.bound", "another-tls-key", lambda s: {"source": s.capture(peer_spki=b"0")},
         "failed", 2, 2),
    Case("endpoint.bound", "recorded", lambda s: {}, "asserted", 0),
    Case("endpoint.bound", "no-tls-key-in-the-layout",
         lambda s: {"source": s.capture(provider="venice")}, "absent", 0),
    Case("confidential.request", "plain", lambda s: {}, "absent", 0),
    Case("signer.origin", "kms", lambda s: {}, "absent", 0),
    Case("key.attested", "foreign", lambda s: s.signed(by=SimulatedKey()), "failed", 1),
    Case("answer.signature", "of-another-key",
         lambda s: s.signed(signing_address=str(SimulatedKey().key)), "failed", 2, 2),
    Case("answer.signature", "missing", answered(signature=None), "failed", 2, 2),
    Case("answer.signature", "not-kept",
         answered(signature=b'{"error_code": "STREAM_DISCONNECTED", "message": ""}'),
         "absent", 3, 3),
    Case("response.hash-equal", "another-answer", answered(answer=b"{}"), "failed", 2, 2),
    Case("response.hash-equal", "not-given", answered(answer=None), "absent", 1),
    Case("answer.complete", "broken-off",
         lambda s: s.signed(answer=s.answer.partition(b"data: [DONE]")[0]), "failed", 2, 2),
    Case("answer.complete", "neither-form", lambda s: s.signed(answer=b"Four."), "absent", 1),
    Case("answer.signer-role", "gateway", lambda s: s.signed(by=s.endpoint.gateway.key),
         "asserted", 0),
    Case("answer.signer-role", "said-to-be-gateway", lambda s: s.signed(signature_kind="gateway"),
         "asserted", 0),
    Case("answer.fresh", "no-challenge", lambda s: s.signed(), "absent", 0),
    Case("answer.attested-later", "an-hour", _made_later(60), "failed", 1),
    Case("answer.attested-later", "no-time-in-the-answer", _no_time, "absent", 1),
    Case("answer.attested-later", "recorded-time", lambda s: s.signed(), "asserted", 0),
    Case("session.age", "two-hours", _made_earlier, "failed", 0),
    Case("request.bound", "not-given", answered(request=None), "absent", 0),
    Case("request.bound", "another", answered(request=b"{}"), "failed", 2, 2),
    Case("request.bound", "by-the-endpoints-word", lambda s: s.signed(), "asserted", 0),
    Case("http.semantics", "not-signed", lambda s: s.signed(), "absent", 0),
    Case("model.identity", "other-than-requested", lambda s: {"model": "larger"}, "failed", 1),
    Case("model.identity", "other-than-signed", lambda s: s.signed(model="smaller"), "failed", 1),
    Case("model.identity", "by-the-report", lambda s: {}, "asserted", 0),
    Case("model.identity", "not-named", model(model_name=None), "absent", 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def arguments(stage) -> Callable[[Case], dict[str, Any]]:
    """What to appraise in each case; made once, so that policies are compared on equal evidence."""
    made: dict[Case, dict[str, Any]] = {}

    def get(case: Case) -> dict[str, Any]:
        if case not in made:
            made[case] = case.make(stage)
        return made[case]

    return get


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_violation_under_genuine(stage, arguments, case):
    result = stage.appraise(**arguments(case))
    refusing = {f.id for f in result.findings if f.exit_code}
    found = [f for f in result.findings if (f.id, f.outcome.value) == (case.row, case.outcome)]
    assert found
    assert result.exit_code == case.genuine
    assert result.tier != "affirming"
    if case.genuine:
        assert case.row in refusing
        assert {f.exit_code for f in found} == {case.genuine}
    else:
        assert not refusing


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_violation_where_this_row_alone_is_as_in_strict(stage, arguments, only, case):
    changes = {"code": []} if case.row != "code.identity" else {}
    result = stage.appraise(policy=only(case.row, **changes), **arguments(case))
    assert result.exit_code == case.strict
    assert case.row in {f.id for f in result.findings if f.exit_code == case.strict}


def test_every_row_is_violated_and_met(stage, best, only):
    """Each row has a violation above, or below where it needs a policy or evidence of its own."""
    elsewhere = {
        "platform.listed", "gpu.attachment", "tdx.measurements", "tdx.platform-configuration",
        "tcb.evaluation-number", "receipt.time", "receipt.since", *RECORDED, *DIALECTS, *LIVE,
    }  # fmt: skip
    # The rows about AMD have tests of their own: test_snp.py.
    rows = [row for row in ROWS if not row.id.startswith("snp.")]
    assert {case.row for case in CASES} | elsewhere == {row.id for row in rows}
    unmet = {row.id for row in rows if stage.appraise(**best, policy=only(row.id)).exit_code}
    assert unmet | {"gpu.attachment"} == set(NOT_YET_MET)


def test_strict_refuses_the_best_that_can_be_shown_today(stage, best, references):
    policy = Policy.strict().replace(code=references, gpu={"count": 2, "architectures": ["Hopper"]})
    result = stage.appraise(**best, policy=policy)
    assert (result.exit_code, result.tier) == (1, "contraindicated")
    refusing = {f.id for f in result.findings if f.exit_code}
    assert refusing | {"gpu.attachment"} == set(NOT_YET_MET)


@pytest.mark.parametrize("preset", ["genuine", "strict"])
def test_gpu_attachment_is_recorded_in_every_preset(stage, preset):
    finding = stage.appraise(policy=preset).finding("gpu.attachment")
    assert (finding.outcome, finding.severity) == (Outcome.ASSERTED, Severity.INFORMS)


@pytest.mark.parametrize("preset", ["genuine", "strict"])
def test_a_denied_platform_is_wrong_in_every_preset(stage, preset):
    for name in (stage.endpoint.intel.platform.ppid.hex(), stage.endpoint.nvidia.gpu(1).ueid):
        policy = Policy.of(preset).replace(platform={"deny": [name.upper()]})
        result = stage.appraise(policy=policy)
        assert result.exit_code == 2
        assert result.finding("platform.listed", "model").exit_code == 2


def test_a_platform_that_is_not_allowed(stage):
    platform = stage.endpoint.intel.platform
    allowed = (platform.ppid.hex(), platform.platform_instance_id.hex().upper())
    for name, code in ((allowed[0], 0), (allowed[1], 0), ("00" * 16, 1)):
        policy = Policy.genuine().replace(platform={"allow": [name]})
        assert stage.appraise(policy=policy).exit_code == code


# --- references ----------------------------------------------------------------------------------


def _with(references, **changes):
    """The references with changes of every entry; ``None`` leaves a member out."""
    entries = [{**entry, **changes} for entry in references]
    return [{k: v for k, v in entry.items() if v is not None} for entry in entries]


def test_all_measurements_equal_a_release(stage, references):
    finding = stage.appraise(policy=Policy.genuine().replace(code=references)).finding(
        "code.identity", "model"
    )
    assert (finding.outcome, finding.severity, finding.got) == (
        Outcome.PROVEN, Severity.INFORMS, "model v1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "register", ["mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_config_id", "compose_hash",
                 "os_image_hash"],
)  # fmt: skip
def test_one_other_register_is_other_code(stage, references, register):
    value = bytes(len(references[0][register]) // 2).hex()
    policy = Policy.genuine().replace(code=_with(references, **{register: value}))
    result = stage.appraise(policy=policy)
    assert result.exit_code == 1
    assert f"{register} differ" in result.finding("code.identity", "model").message


def test_one_of_several_values_is_enough(stage, references):
    several = [{**entry, "mr_td": ["00" * 48, entry["mr_td"]]} for entry in references]
    assert stage.appraise(policy=Policy.genuine().replace(code=several)).exit_code == 0


def test_the_right_compose_hash_on_foreign_firmware(stage, references):
    """MRCONFIGID is chosen by whoever launches: it counts for nothing without MRTD."""
    quote = {"mr_td": bytes(48)}
    manager = {"compose_manager_attestation": stage.endpoint.compose_manager(quoted=quote)}
    foreign = stage.near(model={"quote": quote, **manager})
    assert stage.appraise(foreign).exit_code == 0
    result = stage.appraise(foreign, policy=Policy.genuine().replace(code=references))
    assert (result.exit_code, result.summary.count("other code than you listed")) == (1, 1)


@pytest.mark.parametrize(
    "left_out", ["mr_td", "rtmr0", "rtmr1", "rtmr2", ("rtmr3", "mr_config_id", "compose_hash")]
)
def test_a_part_of_the_code_is_no_identity(stage, references, left_out):
    names = (left_out,) if isinstance(left_out, str) else left_out
    partial = _with(references, **dict.fromkeys(names))
    result = stage.appraise(policy=Policy.genuine().replace(code=partial))
    finding = result.finding("code.identity", "model")
    assert (result.exit_code, result.tier, finding.outcome) == (0, "warning", Outcome.ABSENT)
    assert names[0] in finding.message
    assert stage.appraise(policy=Policy.strict().replace(code=partial)).exit_code == 1


def test_a_pinned_value_is_an_observation(stage, references):
    pinned = ReferenceValues.pin(stage.appraise().identities, seen="2026-06-29")
    result = stage.appraise(expect=pinned)
    finding = result.finding("code.identity", "model")
    assert (finding.outcome, finding.severity) == (Outcome.ASSERTED, Severity.WARNS)
    assert "nobody reviewed" in finding.message
    blank = _with(references, source="pinned", reviewed_by="  ")
    finding = stage.appraise(expect=ReferenceValues.from_list(blank)).finding("code.identity")
    assert finding.outcome is Outcome.ASSERTED
    reviewed = _with(references, source="pinned", reviewed_by="a person")
    finding = stage.appraise(expect=ReferenceValues.from_list(reviewed)).finding("code.identity")
    assert finding.outcome is Outcome.PROVEN


def test_references_for_one_machine_leave_the_other_unlisted(stage, references):
    for entry in references:
        result = stage.appraise(policy=Policy.genuine().replace(code=[entry]))
        other = "gateway" if entry["role"] == "model" else "model"
        assert result.exit_code == 1
        assert f"no reference value is for the {other}" in result.summary


def test_a_reference_for_another_role_does_not_count(stage, references):
    swapped = {"model": "gateway", "gateway": "model"}
    entries = [{**entry, "role": swapped[entry["role"]]} for entry in references]
    assert stage.appraise(policy=Policy.genuine().replace(code=entries)).exit_code == 1


# --- what ran ------------------------------------------------------------------------------------

ALWAYS = {
    "kind", "roots", "time", "tdx.tcb-status", "tdx.attributes", "tdx.xfam", "tdx.measurements",
    "tdx.platform-configuration", "tcb.evaluation-number", "platform.listed",
}  # fmt: skip
ENDPOINT = {
    "freshness.nonce", "code.identity", "code.event-log", "code.compose", "code.images-pinned",
    "code.compose-manager", "gpu.required", "gpu.device", "gpu.measurements", "gpu.revocation",
    "gpu.binding", "gpu.attachment", "binding.report-data", "endpoint.bound",
    "confidential.request",
    "signer.origin", "model.identity", "chain.gateway", "chain.path", "code.dstack", "code.device",
    "model.requested", "model.reported", "model.deployed", "code.changed", "confidential.answer",
}  # fmt: skip
ANSWER = {
    "key.attested", "answer.signature", "response.hash-equal", "answer.complete",
    "answer.signer-role", "answer.fresh", "answer.attested-later", "session.age", "request.bound",
    "http.semantics", "model.signed",
}  # fmt: skip
# Of machines with NVSwitches: tests/appraisal/test_gpus.py.
ELSEWHERE = {"gpu.switches", "receipt.time", "receipt.since", "clock.behind", *DIALECTS}


@pytest.mark.parametrize("preset", ["genuine", "strict"])
def test_the_rows_that_ran(stage, preset):
    """Whoever removes a check, or leaves one unreached, changes one of these three sets."""
    rows = {row.id for row in ROWS if not row.id.startswith("snp.")}
    ran = {
        "evidence": stage.appraise(**_bare_quote(stage), scope="evidence", policy=preset),
        "endpoint": stage.appraise(policy=preset),
        "answer": stage.appraise(**stage.signed(), policy=preset),
    }
    found = {scope: {f.id for f in result.findings} & rows for scope, result in ran.items()}
    assert found["evidence"] == ALWAYS
    assert found["endpoint"] == ALWAYS | ENDPOINT
    assert found["answer"] == ALWAYS | ENDPOINT | ANSWER == rows - ELSEWHERE


def test_every_finding_is_in_the_catalogue_and_of_a_claim(stage, arguments):
    for case in CASES:
        result = stage.appraise(**arguments(case))
        assert {f.id for f in result.findings} <= set(CATALOG)
        assert {f.claim for f in result.findings} <= set(CLAIM_NAMES)
        assert all(CATALOG[f.id].claim == f.claim for f in result.findings)
        assert tuple(result.claims) == CLAIM_NAMES
