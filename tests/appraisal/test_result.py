"""A result cannot be ignored, copied, made up, or taken for more than it is (laws 2, 6 and 9)."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from datetime import datetime, timedelta, timezone

import pytest

from teeverify.appraisal import AttestationResult, Outcome, Policy, Severity
from teeverify.appraisal.observation import CLAIM_NAMES
from teeverify.encoding.sealed import Seal
from teeverify.errors import (
    EXIT_POLICY,
    EXIT_SATISFIED,
    EXIT_UNDECIDED,
    EXIT_WRONG,
    AppraisalFailed,
    BindingMismatch,
    ConfigurationError,
    DebugEnabled,
    EndorsementUnavailable,
    EvidenceError,
    MalformedEvidence,
    ResponseNotVerified,
    SignatureUnavailable,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.roots import custom_roots
from teeverify.simulator.keys import SimulatedKey


@pytest.fixture(scope="module")
def good(stage) -> AttestationResult:
    return stage.appraise(**stage.signed())


@pytest.fixture(scope="module")
def bad(stage) -> AttestationResult:
    return stage.appraise(nonce=bytes(32))


# --- it cannot be ignored ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        bool,
        lambda result: not result,
        lambda result: result or 1,
        lambda result: 1 if result else 2,
        lambda result: all([result]),
    ],
)
def test_it_has_no_truth_value(good, bad, use):
    for result in (good, bad):
        with pytest.raises(ConfigurationError):
            use(result)


def test_require_returns_only_what_satisfies(good, bad):
    assert good.require() is good
    with pytest.raises(StaleEvidence) as caught:
        bad.require()
    assert caught.value.result is bad


def test_there_is_no_error_in_a_good_result(good):
    with pytest.raises(ConfigurationError):
        good.error()


WORST = {
    "stale": (lambda s: {"nonce": bytes(32)}, StaleEvidence, "freshness.nonce"),
    "debug": (lambda s: {"source": s.near(model={"quote": {"debug": True}})}, DebugEnabled,
              "tdx.debug-disabled"),
    "other-key": (lambda s: {"source": s.near(model={"signing_address": str(SimulatedKey().key),
                                                     "signing_public_key": None})},
                  BindingMismatch, "binding.report-data"),
    "malformed": (lambda s: {"source": s.near(model={"intel_quote": "00"})}, MalformedEvidence,
                  "tdx.quote"),
    "dates": (lambda s: {"at": "2027-06-29T00:00:00Z"}, EndorsementUnavailable, "tdx.root-crl"),
    "nras": (lambda s: {"source": s.capture(nras=None)}, EndorsementUnavailable,
             "gpu.measurements"),
    "policy": (lambda s: {"policy": "strict"}, AppraisalFailed, None),
    "no-gpu": (lambda s: {"source": s.near(model={"nvidia_payload": None})}, AppraisalFailed,
               "gpu.required"),
    "answer": (lambda s: {**s.signed(), "answer": b"{}"}, ResponseNotVerified,
               "response.hash-equal"),
    "unsigned": (lambda s: {"answer": s.answer}, ResponseNotVerified, "answer.signature"),
    "not-kept": (lambda s: {"answer": s.answer, "signature": b'{"error_code":"x"}'},
                 SignatureUnavailable, "answer.signature"),
    "foreign-key": (lambda s: s.signed(by=SimulatedKey()), AppraisalFailed, "key.attested"),
    "denied": (lambda s: {"policy": Policy.genuine().replace(
        platform={"deny": [s.endpoint.intel.platform.ppid.hex()]})}, EvidenceError,
        "platform.listed"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORST)
def test_the_class_of_the_worst_is_raised(stage, name):
    make, error, check = WORST[name]
    result = stage.appraise(**make(stage))
    with pytest.raises(TeeVerifyError) as caught:
        result.require()
    assert type(caught.value) is error
    assert caught.value.exit_code == result.exit_code
    assert caught.value.retryable == (result.exit_code == EXIT_UNDECIDED)
    assert check is None or caught.value.id == check
    assert caught.value.result is result
    with pytest.raises(error):
        stage.verifier(policy=make(stage).pop("policy", "genuine")).verify(
            **{"source": stage.good, **{k: v for k, v in make(stage).items() if k != "policy"}}
        )


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (("dates", "stale"), EXIT_WRONG),
        (("nras", "answer"), EXIT_WRONG),
        (("nras", "foreign-key"), EXIT_UNDECIDED),
        (("policy", "nras"), EXIT_UNDECIDED),
        (("policy", "answer"), EXIT_WRONG),
        (("foreign-key", "no-gpu"), EXIT_POLICY),
        (("not-kept", "stale"), EXIT_WRONG),
    ],
)
def test_of_several_the_worst(stage, pair, code):
    """2 before 3 before 1 before 0: while something needed is missing, nothing is genuine."""
    asked = {k: v for name in pair for k, v in WORST[name][0](stage).items()}
    assert stage.appraise(**asked).exit_code == code


def test_an_error_of_an_unknown_kind_never_passes(stage, monkeypatch):
    """Whatever a room raises, its exit code must be one that a verdict knows."""
    from teeverify import tdx

    class OddError(TeeVerifyError):
        exit_code = 99

    def odd(*_, **__):
        raise OddError("odd", id="tdx.quote")

    monkeypatch.setattr(tdx, "verify_quote", odd)
    assert stage.appraise().exit_code == EXIT_WRONG


# --- it cannot be made up ------------------------------------------------------------------------


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied(good, way):
    with pytest.raises(ConfigurationError):
        way(good)


def test_it_cannot_be_copied_with_changes(bad):
    with pytest.raises((ConfigurationError, ValueError, TypeError)):
        dataclasses.replace(bad, exit_code=0, tier="affirming")
    if hasattr(copy, "replace"):
        with pytest.raises((ConfigurationError, ValueError, TypeError)):
            copy.replace(bad, exit_code=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bad.exit_code = 0
    assert not hasattr(bad, "seal")


def test_it_cannot_be_built(good):
    fields = {f.name: getattr(good, f.name) for f in dataclasses.fields(good)}
    for seal in (None, Seal("appraisal"), object(), True):
        with pytest.raises(ConfigurationError):
            AttestationResult(**fields, seal=seal)
    with pytest.raises(TypeError):
        AttestationResult(**fields)


def test_findings_and_claims_are_frozen(good):
    with pytest.raises(dataclasses.FrozenInstanceError):
        good.findings[0].severity = Severity.INFORMS
    with pytest.raises(dataclasses.FrozenInstanceError):
        good.claims["cpu"].outcome = Outcome.PROVEN
    assert isinstance(good.findings, tuple)


def test_a_finding_that_did_not_run(good):
    for name in ("gpu.rim", "", "answer"):
        with pytest.raises(ConfigurationError):
            good.finding(name)
    with pytest.raises(ConfigurationError):
        good.finding("tdx.quote", "gpu")


# --- what it says --------------------------------------------------------------------------------

MEMBERS = {
    "schema", "summary", "tier", "satisfied", "scope", "kind", "claims", "findings", "policy",
    "as_of", "verified_at", "expires_at", "simulated",
}  # fmt: skip
OF_A_FINDING = {"id", "claim", "outcome", "severity", "by", "message", "got", "want", "docs"}


@pytest.mark.parametrize("name", ["good", *WORST])
def test_every_member_of_the_json(stage, name):
    asked = {} if name == "good" else WORST[name][0](stage)
    result = stage.appraise(**asked)
    shown = json.loads(result.to_json())
    assert shown.keys() >= MEMBERS
    assert tuple(shown["claims"]) == CLAIM_NAMES
    assert all(finding.keys() >= OF_A_FINDING for finding in shown["findings"])
    assert shown["policy"] == {"name": result.policy.name, "hash": result.policy.hash}
    assert shown["satisfied"] is (shown["exit_code"] == EXIT_SATISFIED)
    assert shown["tier"] in ("affirming", "warning", "contraindicated", "none")
    assert {f["severity"] for f in shown["findings"]} <= {"refuses", "warns", "informs"}
    assert ("refuses" in {f["severity"] for f in shown["findings"]}) is (not shown["satisfied"])
    assert to_ascii(result.to_json())


def to_ascii(text: str) -> bool:
    return text.isascii() and not any(c < " " and c != "\n" for c in text)


def test_the_tier_follows_from_the_exit_code(stage):
    tiers = {0: {"warning"}, 1: {"contraindicated"}, 2: {"contraindicated"}, 3: {"none"}}
    for make, _, _ in WORST.values():
        result = stage.appraise(**make(stage))
        assert result.tier in tiers[result.exit_code]
        assert result.satisfied is (result.exit_code == 0)


def test_simulated_on_every_face(stage, bad, good):
    for result in (good, bad):
        assert (result.simulated, result.schema) == (True, "teeverify.result/1-simulated")
        assert result.summary.startswith("SIMULATED. ")
        assert str(result) == result.summary
        assert result.summary in repr(result)
        assert result.to_dict()["simulated"] is True
        for claim in result.claims.values():
            assert claim.outcome is Outcome.ABSENT or claim.text.startswith("simulated: ")


def test_custom_roots_on_every_face(stage):
    verifier = stage.verifier()
    verifier._roots = custom_roots([stage.endpoint.roots_pem()])
    result = verifier.appraise(stage.good)
    assert (result.simulated, result.schema) == (False, "teeverify.result/1-custom-roots")
    assert result.summary.startswith("FOREIGN ROOTS. ")
    assert all(
        claim.outcome is Outcome.ABSENT or claim.text.startswith("foreign roots: ")
        for claim in result.claims.values()
    )


@pytest.mark.parametrize("roots", [True, 1, b"pem", "pem", [], object(), "embedded"])
def test_only_unsafe_test_roots_are_roots(stage, roots):
    with pytest.raises(ConfigurationError):
        stage.verifier(roots=roots)


def test_without_test_roots_simulated_evidence_is_wrong(stage):
    for policy in ("genuine", Policy.genuine().replace(gpu={"required": False})):
        result = stage.verifier(roots=None, policy=policy).appraise(stage.good)
        assert (result.exit_code, result.simulated) == (EXIT_WRONG, False)


def test_strict_refuses_test_roots(stage):
    result = stage.appraise(policy="strict")
    finding = result.finding("roots")
    assert (finding.outcome, finding.severity) == (Outcome.ASSERTED, Severity.REFUSES)


def test_expiry_is_the_first_of_all(stage, good):
    """The token of NRAS ends first here; then the endorsements; then certificates."""
    assert good.expires_at == stage.endpoint.at + timedelta(hours=1)
    soon = stage.endpoint.intel.collateral(next_update=stage.endpoint.at + timedelta(minutes=5))
    result = stage.appraise(stage.capture(collateral=soon))
    assert result.expires_at == stage.endpoint.at + timedelta(minutes=5)


@pytest.mark.parametrize("minutes", [-61, 0, 59, 61, 62])
def test_the_verdict_of_each_moment(stage, minutes):
    """T07: at and around the end of the shortest-lived part."""
    at = stage.endpoint.at + timedelta(minutes=minutes)
    # Tokens have 60 seconds of leeway, before their beginning and after their end.
    expected = EXIT_SATISFIED if 0 <= minutes < 61 else EXIT_UNDECIDED
    assert stage.appraise(at=at).exit_code == expected


def test_times_are_utc(stage):
    zone = timezone(timedelta(hours=5, minutes=30))
    local = stage.endpoint.at.astimezone(zone)
    shown = stage.appraise(at=local).to_dict()
    assert shown["as_of"] == "2026-06-29T02:06:57Z"
    assert datetime.fromisoformat(shown["verified_at"].replace("Z", "+00:00")).tzinfo


def test_the_signer_is_named_only_when_it_is_attested(stage, good):
    assert good.signer == stage.endpoint.model.key.key
    assert stage.appraise().signer == stage.endpoint.model.key.key
    assert stage.appraise(**stage.signed(by=SimulatedKey())).signer is None
    assert stage.appraise(nonce=bytes(32), **stage.signed()).signer is None
    broken = stage.near(model={"quote": {"debug": True}}, gateway={"quote": {"debug": True}})
    assert stage.appraise(broken).signer is None


def test_no_measurement_of_a_machine_that_was_not_verified(stage):
    broken = stage.near(model={"quote": {"corrupt": "body"}})
    result = stage.appraise(broken)
    roles = [machine["role"] for machine in result.to_dict()["machines"]]
    assert roles == ["gateway", "compose-manager"]


def test_what_was_not_reached_is_absent_and_refuses(stage):
    """T71: a check behind a failed one never stands as passed."""
    broken = stage.near(model={"quote": {"corrupt": "body"}})
    result = stage.appraise(broken)
    for check in ("binding.report-data", "code.event-log", "code.compose", "tdx.fmspc", "tdx.tcb"):
        finding = result.finding(check, "model")
        assert (finding.outcome, finding.severity) == (Outcome.ABSENT, Severity.REFUSES)
        assert finding.message.startswith("Not reached")
    for check in ("tdx.quote", "tdx.pck-chain", "tdx.qe-report-signature"):
        assert result.finding(check, "model").outcome is Outcome.PROVEN
    assert result.finding("tdx.quote-signature", "model").outcome is Outcome.FAILED


def test_a_log_whose_own_quote_failed_is_not_proven(stage):
    report = stage.endpoint.compose_manager()
    data = bytes.fromhex(report["actions_hash"]) + stage.endpoint.nonce
    quote = stage.endpoint.model.quote(data, corrupt="body").hex()
    source = stage.near(model={"compose_manager_attestation": {**report, "quote": quote}})
    assert stage.appraise(source).finding("code.compose-manager").outcome is Outcome.ABSENT


def test_the_signed_model_and_that_of_the_answer(stage):
    """Where the report names no model, the signed text and the signed bytes must still agree."""
    source = stage.near(model={"model_name": None}, manifest={"model": None})
    for name, outcome in ((None, Outcome.ASSERTED), ("simulated/tiny-1", Outcome.ASSERTED),
                          ("larger", Outcome.FAILED)):  # fmt: skip
        signed = stage.signed(request=b"{}", model=name)
        assert stage.appraise(source, **signed).finding("model.identity").outcome is outcome
