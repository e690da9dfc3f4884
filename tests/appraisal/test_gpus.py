"""What the GPUs run: compared here, said by NVIDIA, or unknown; and never the better of two."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from types import MappingProxyType

import pytest

from teeverify import Evidence, nvidia
from teeverify.appraisal import Outcome, Policy, Severity

POSTED = {"nras_posted": True}
OTHER = {"driver": {"values": [[bytes(48)]] * 64}}


def rim_files(vendor, *chips, **overrides) -> tuple[nvidia.RimFile, ...]:
    return tuple(
        nvidia.RimFile(name, xml)
        for chip in chips or ("GH100",)
        for name, xml in vendor.rims(chip, **overrides).items()
    )


@pytest.fixture
def bare(stage):
    """Appraise GPU evidence alone."""

    def run(entries=None, policy="genuine", at=None, **endorsements):
        endpoint = stage.endpoint
        entries = entries or endpoint.nvidia.evidence_list(endpoint.nonce, 2)
        return stage.appraise(
            json.dumps(entries).encode(),
            policy=policy,
            nonce=endpoint.nonce,
            at=at or endpoint.at,
            scope="evidence",
            endorsements=nvidia.Endorsements(**endorsements) if endorsements else (),
        )

    return run


# --- an endpoint ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nras", [None, {"claims_version": "3.0"}])
def test_manifests_prove_the_firmware(stage, nras):
    result = stage.appraise(stage.capture(nras=nras, rims={}, ocsp={}))
    for check in ("gpu.measurements", "gpu.revocation"):
        finding = result.finding(check)
        assert (finding.outcome, finding.severity) == (Outcome.PROVEN, Severity.INFORMS)
    claim = result.claims["gpu_firmware"]
    assert claim.outcome is Outcome.PROVEN
    assert "equal to NVIDIA's manifests" in claim.text
    assert result.exit_code == 0


def test_a_manifest_that_differs_refuses_whatever_nras_says(stage):
    result = stage.appraise(stage.capture(rims=OTHER, ocsp={}))
    assert result.exit_code == 2
    assert result.finding("rim.golden-values").outcome is Outcome.FAILED
    assert result.finding("gpu.measurements").outcome is Outcome.ABSENT
    assert result.finding("nras.claims").outcome is Outcome.PROVEN


def test_nras_that_says_no_refuses_whatever_the_manifests_say(stage):
    nras = {"submod": {"measres": "fail"}}
    result = stage.appraise(stage.capture(nras=nras, rims={}, ocsp={}))
    assert result.exit_code == 2
    assert result.finding("gpu.measurements").outcome is Outcome.PROVEN


def test_a_missing_manifest_leaves_nras(stage):
    source = stage.capture(rims={}, ocsp={})
    for file in source.glob("0040_rim.*"):
        file.unlink()
    finding = stage.appraise(source).finding("gpu.measurements")
    assert finding.outcome is Outcome.ASSERTED
    strict = Policy.genuine().replace(require={"gpu.measurements": "proven"})
    assert stage.appraise(source, policy=strict).exit_code == 1


def test_a_manifest_that_is_at_hand_refutes_although_the_other_is_missing(stage):
    """Wrong is not missing: a yes of NRAS does not help against one of two manifests."""
    source = stage.capture(rims={"vbios": OTHER["driver"]}, ocsp={}, nras={})
    for file in source.glob("0040_rim.*"):
        file.unlink()
    result = stage.appraise(source)
    assert result.exit_code == 2
    assert result.finding("rim.golden-values").outcome is Outcome.FAILED
    assert result.finding("gpu.measurements").outcome is not Outcome.ASSERTED


def test_neither_manifests_nor_nras(stage):
    result = stage.appraise(stage.capture(nras=None))
    assert (result.exit_code, result.tier) == (3, "none")


def test_expired_signers_pass_only_on_demand_and_are_named(stage):
    expired = {"leaf": {"not_after": stage.endpoint.at - timedelta(days=1)}}
    source = stage.capture(rims={"driver": expired, "vbios": expired}, ocsp={}, nras=None)
    assert stage.appraise(source).exit_code == 3
    allowed = Policy.genuine().replace(gpu={"allow_expired_rim_signers": True})
    result = stage.appraise(source, policy=allowed)
    finding = result.finding("gpu.measurements")
    assert (result.exit_code, finding.severity) == (0, Severity.WARNS)
    assert "whose signer has expired" in finding.message


@pytest.mark.parametrize("status", ["revoked", "unknown"])
def test_revoked_refuses_in_every_preset(stage, status):
    source = stage.capture(rims={}, ocsp={"status": status})
    for preset in ("genuine", "strict"):
        result = stage.appraise(source, policy=preset)
        assert result.exit_code == 2
        assert result.finding("ocsp.status").outcome is Outcome.FAILED


# --- GPU evidence alone ---------------------------------------------------------------------------


def test_without_a_comparison_the_mode_is_unknown(bare):
    result = bare()
    assert (result.exit_code, result.tier) == (0, "warning")
    for index in range(2):
        finding = result.finding("gpu.device", f"gpu[{index}]")
        assert finding.outcome is Outcome.ABSENT
        assert "a genuine NVIDIA GPU in an unknown mode" in finding.message
    assert "in an unknown mode" in result.summary


def test_a_nonce_that_nobody_asked_for_is_not_fresh(stage):
    entries = stage.endpoint.nvidia.evidence_list(stage.endpoint.nonce)
    asked = {"at": stage.endpoint.at, "scope": "evidence"}
    result = stage.appraise(json.dumps(entries).encode(), **asked)
    assert (result.exit_code, result.claims["fresh"].outcome) == (0, Outcome.ABSENT)


def test_each_device_is_told_of(bare, stage):
    result = bare(rims=rim_files(stage.endpoint.nvidia))
    for index in range(2):
        finding = result.finding("gpu.device", f"gpu[{index}]")
        assert finding.outcome is Outcome.PROVEN
        assert "32 measurements equal NVIDIA's manifests" in finding.message
    assert "unknown mode" not in result.summary


def test_firmware_that_differs(bare, stage):
    result = bare(rims=rim_files(stage.endpoint.nvidia, **OTHER))
    assert result.exit_code == 2
    assert result.summary.startswith("SIMULATED. Refused: ")


# --- switches -------------------------------------------------------------------------------------


def test_a_whole_machine(bare, stage):
    vendor, nonce = stage.endpoint.nvidia, stage.endpoint.nonce
    entries = vendor.protected_machine(nonce)
    result = bare(entries, rims=rim_files(vendor, "GH100", "LS_10"))
    assert result.finding("gpu.switches").outcome is Outcome.PROVEN
    devices = [f for f in result.findings if f.id == "gpu.device"]
    assert len(devices) == 12
    assert {f.outcome for f in devices} == {Outcome.PROVEN}


@pytest.mark.parametrize(("preset", "code"), [("genuine", 0), ("strict", 1)])
@pytest.mark.parametrize("part", [slice(8), slice(8, 12)])
def test_half_of_a_machine(bare, stage, preset, code, part):
    vendor, nonce = stage.endpoint.nvidia, stage.endpoint.nonce
    result = bare(vendor.protected_machine(nonce)[part], policy=preset)
    assert result.finding("gpu.switches").outcome is Outcome.ABSENT
    assert result.exit_code == code


def test_gpus_without_protected_pcie_need_no_switches(stage):
    assert "gpu.switches" not in {f.id for f in stage.appraise().findings}


# --- revocation, live -----------------------------------------------------------------------------


def live(stage, changes=MappingProxyType({}), **recorded):
    """What was recorded, as if it had been fetched just now."""
    evidence = Evidence.load(stage.capture(**recorded))
    return dataclasses.replace(evidence, live=True, recorded_at=None, **changes)


@pytest.mark.parametrize(
    ("recorded", "outcome", "exit_code"),
    [
        ({"nras": {}}, Outcome.ABSENT, 3),
        ({"nras": {"claims_version": "3.0"}}, Outcome.ASSERTED, 0),
        ({"nras": {}, "ocsp": {}}, Outcome.PROVEN, 0),
        ({"nras": None, "rims": {}, "ocsp": {}}, Outcome.PROVEN, 0),
        ({"nras": None, "rims": {}}, Outcome.ABSENT, 3),
    ],
)
def test_live_somebody_must_speak_of_revocation(stage, recorded, outcome, exit_code):
    source = live(stage, POSTED, **recorded)
    result = stage.appraise(source, at=stage.endpoint.at)
    assert (result.finding("gpu.revocation").outcome, result.exit_code) == (outcome, exit_code)


def test_live_revocation_can_be_waived_by_name(stage):
    policy = Policy.genuine().replace(require={"gpu.revocation": "note"})
    result = stage.appraise(live(stage, POSTED, nras={}), at=stage.endpoint.at, policy=policy)
    assert result.finding("gpu.revocation").severity is Severity.INFORMS
    assert result.exit_code == 0


@pytest.mark.parametrize("claims", ["2.0", "3.0"])
def test_live_an_nras_answer_that_the_endpoint_hands_over_counts_for_nothing(stage, claims):
    """It would choose which answer to show, so only evidence that we posted counts."""
    source = live(stage, nras={"claims_version": claims})
    result = stage.appraise(source, at=stage.endpoint.at)
    assert result.exit_code == 3
    assert result.finding("gpu.measurements").outcome is Outcome.ABSENT
    assert not [f for f in result.findings if f.id.startswith("nras.")]


def test_live_nras_that_we_asked_is_named_as_such(stage):
    source = live(stage, POSTED, nras={"claims_version": "3.0"})
    finding = stage.appraise(source, at=stage.endpoint.at).finding("gpu.measurements")
    assert (finding.outcome, finding.by) == (
        Outcome.ASSERTED,
        "NVIDIA's NRAS, to which this evidence was posted here",
    )


def test_nras_answers_the_caller_gives_do_not_count_for_live_evidence(stage):
    """Nobody but this very verification could have posted evidence of a new nonce."""
    given = nvidia.Endorsements.load(stage.capture(nras={"claims_version": "3.0"}))
    source = live(stage, nras=None)
    result = stage.appraise(source, at=stage.endpoint.at, endorsements=given)
    assert result.exit_code == 3


# --- which sources count --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "recorded", "outcome", "exit_code"),
    [
        (["rim", "nras"], {"rims": {}}, Outcome.PROVEN, 0),
        (["rim", "nras"], {}, Outcome.ASSERTED, 0),
        (["rim"], {}, Outcome.ABSENT, 1),
        (["nras"], {"rims": {}}, Outcome.ASSERTED, 0),
        (["nras"], {"rims": {}, "nras": None}, Outcome.ABSENT, 3),
        ([], {"rims": {}}, Outcome.ABSENT, 1),
    ],
)
def test_any_of_the_named_sources(stage, accepted, recorded, outcome, exit_code):
    policy = Policy.genuine().replace(gpu={"measurements": accepted})
    result = stage.appraise(stage.capture(**{"nras": {}, **recorded}), policy=policy)
    assert (result.finding("gpu.measurements").outcome, result.exit_code) == (outcome, exit_code)


def test_the_one_that_was_used_is_printed(stage):
    for recorded, words in (
        ({"rims": {}, "nras": None}, "was compared here"),
        ({"nras": {}}, "NVIDIA's service (NRAS) says"),
        ({"rims": {}, "nras": {}}, "NVIDIA's service (NRAS) says the same"),
    ):
        finding = stage.appraise(stage.capture(**recorded)).finding("gpu.measurements")
        assert words in finding.message
