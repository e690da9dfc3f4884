"""What a policy can say of one TD and its platform; how a machine that is behind is explained."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from teeverify import UnsafeTestRoots, Verifier, tdx
from teeverify.appraisal import Outcome, Policy, Severity
from teeverify.appraisal.checks import td as checks
from teeverify.clock import UTC
from teeverify.simulator.intel import Intel

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=UTC)
OTHER = "ab" * 48


def listed(**values):
    return Policy.genuine().replace(tdx=values)


def test_no_list_asks_nothing_and_says_so(stage):
    finding = stage.appraise().finding("tdx.measurements", "model")
    assert (finding.outcome, finding.severity) == (Outcome.ABSENT, Severity.INFORMS)


def test_a_value_that_is_not_listed_refuses_and_is_shown(stage):
    result = stage.appraise(policy=listed(mr_seam=[OTHER]))
    finding = result.finding("tdx.measurements", "model")
    assert (result.exit_code, finding.outcome) == (1, Outcome.FAILED)
    assert "mr_seam" in finding.message
    assert finding.got.startswith("mr_seam ")


def test_one_of_two_registers_is_not_enough(stage):
    quote = tdx.parse_quote(stage.endpoint.model.quote(bytes(64)))
    good = [quote.td.mr_seam.hex()]
    assert stage.appraise(policy=listed(mr_seam=[OTHER, *good])).exit_code == 0
    assert stage.appraise(policy=listed(mr_seam=good, rtmr3=[OTHER])).exit_code == 1


@pytest.mark.parametrize(
    ("value", "listing", "words"),
    [
        ("e502060000000000", [], "not ones that the TDX module defines"),
        ("e702060000000080", [], "not ones that the TDX module defines"),
        ("e702060000000080", ["e702060000000080"], "not ones that the TDX module defines"),
        ("e702060000000000", ["e742060000000000"], "not ones that your policy lists"),
    ],
)
def test_features_that_refuse(stage, value, listing, words):
    source = stage.near(model={"quote": {"xfam": bytes.fromhex(value)}})
    result = stage.appraise(source, policy=listed(xfam=listing))
    assert result.exit_code == 1
    assert words in result.finding("tdx.xfam", "model").message


def test_a_platform_that_intel_says_nothing_of_may_be_anything(tmp_path):
    """A Processor CA's certificate states no configuration."""
    intel = Intel(at=AT, ca="processor")
    collateral = tmp_path / "collateral.json"
    collateral.write_text(json.dumps(intel.collateral()))
    roots = UnsafeTestRoots([intel.roots_pem()])
    for refused, code in (([], 0), (["smt"], 1), (["dynamic_platform"], 1)):
        policy = listed(configuration_refused=refused)
        verifier = Verifier(policy=policy, roots=roots, offline=True, endorsements=[collateral])
        result = verifier.appraise(intel.quote(), scope="evidence", at=AT)
        assert result.exit_code == code
        assert "smt not stated" in result.finding("tdx.platform-configuration").got


def test_a_service_td_by_name_only(stage):
    service = bytes(range(48))
    source = stage.near(model={"quote": {"version": 5, "body": "1.5", "mr_service_td": service}})
    assert stage.appraise(source).exit_code == 1
    assert stage.appraise(source, policy=listed(service_tds=[OTHER])).exit_code == 1
    assert stage.appraise(source, policy=listed(service_tds=[service.hex()])).exit_code == 0


def test_a_model_of_cpu(stage):
    fmspc = stage.endpoint.intel.platform.fmspc
    for platform, code in (
        ({"fmspc_allow": [fmspc]}, 0),
        ({"fmspc_allow": ["00" * 6]}, 1),
        ({"fmspc_deny": [fmspc]}, 1),
        ({"fmspc_deny": [fmspc], "fmspc_allow": [fmspc]}, 1),
        ({"fmspc_deny": ["00" * 6]}, 0),
    ):
        result = stage.appraise(policy=Policy.genuine().replace(platform=platform))
        assert result.exit_code == code
        assert result.finding("platform.listed", "model").exit_code == code


def test_the_least_number_of_the_policy_counts_at_every_time(stage):
    number = stage.appraise().finding("tcb.evaluation-number", "model").got
    for least, code in ((int(number), 0), (int(number) + 1, 1)):
        result = stage.appraise(policy=listed(min_evaluation_number=least))
        finding = result.finding("tcb.evaluation-number", "model")
        assert (result.exit_code, finding.got) == (code, number)


class _Question:
    def __init__(self, at_by, remembered=None):
        self.at_by = at_by
        self.remembered = remembered or {}
        self.online = False


class _Cpu:
    is_td = True
    counters = {"root/tdx/tcb-info/00": 18}  # noqa: RUF012

    def __init__(self, number, roots_kind="embedded"):
        self.tcb_evaluation_data_number = number
        self.roots_kind = roots_kind


class _Subject:
    """As much of a subject as the check looks at; the real one would need evidence of now."""

    def __init__(self, cpu, at_by, remembered=None):
        self.policy = Policy.genuine()
        seen = {"question": _Question(at_by, remembered), "data_sets": None}
        self.examined = type("Examined", (), seen)()
        machine = type("Machine", (), {"label": "model"})()
        self.machines = [type("Seen", (), {"cpu": cpu, "machine": machine})()]


@pytest.mark.parametrize(
    ("below", "kind", "at_by", "outcome"),
    [
        (1, "embedded", "now", Outcome.FAILED),
        (0, "embedded", "now", Outcome.PROVEN),
        (1, "embedded", "caller", Outcome.PROVEN),
        (1, "simulated", "now", Outcome.PROVEN),
    ],
)
def test_the_shipped_floor_counts_now_and_for_intel(below, kind, at_by, outcome):
    cpu = _Cpu(checks.EVALUATION_NUMBER_FLOOR - below, kind)
    (found,) = checks.evaluation_number(_Subject(cpu, at_by))
    assert found.outcome is outcome


@pytest.mark.parametrize(
    ("seen", "outcome"), [(17, Outcome.PROVEN), (18, Outcome.PROVEN), (19, Outcome.FAILED)]
)
def test_older_data_than_remembered_refuses(seen, outcome):
    cpu = _Cpu(checks.EVALUATION_NUMBER_FLOOR)
    (found,) = checks.evaluation_number(_Subject(cpu, "now", {"root/tdx/tcb-info/00": seen}))
    assert found.outcome is outcome
    assert (found.got == "tdx/tcb-info/00 18, was 19") is (outcome is Outcome.FAILED)


# --- how far behind ------------------------------------------------------------------------------


def missing(part, index=None, label="", has=1, needs=2):
    return tdx.MissingSvn(part=part, index=index, label=label, has=has, needs=needs)


def gap(*several):
    return tdx.TcbGap(
        missing=several,
        since=datetime(2025, 11, 12, tzinfo=UTC),
        first_missed=datetime(2025, 5, 14, tzinfo=UTC),
    )


def test_it_names_component_numbers_dates_and_advisories():
    text = tdx.describe_gap(
        gap(missing("sgx", 4, "BIOS", 3, 4), missing("module", label="TDX module", has=6, needs=7)),
        ["INTEL-SA-01192"],
    )
    assert "SGX component 4 (BIOS) has 3, needs 4" in text
    assert "TDX module has 6, needs 7" in text
    assert "2025-11-12" in text
    assert "2025-05-14" in text
    assert text.endswith("advisories INTEL-SA-01192")


@pytest.mark.parametrize(
    ("svn", "words"),
    [
        (missing("sgx", 0, "Early Microcode Update"), "BIOS with newer microcode"),
        (missing("sgx", 1, "SGX Late Microcode Update"), "loaded by the operating system"),
        (missing("sgx", 7, "SEAMLDR ACM"), "SEAM loader"),
        (missing("sgx", 6, "TXT SINIT"), "SINIT ACM"),
        (missing("sgx", 9), "BIOS and microcode"),
        (missing("tdx", 0, "TDX Module"), "newer TDX module"),
        (missing("pce"), "PCE"),
        (missing("module"), "newer TDX module"),
        (missing("qe"), "quoting enclave"),
    ],
)
def test_it_says_what_to_install(svn, words):
    assert words in " ".join(tdx.remedies(gap(svn)))


def test_a_new_certificate_only_after_an_update_of_the_cpu():
    assert any("PCK" in text for text in tdx.remedies(gap(missing("sgx", 4, "BIOS"))))
    assert not any("PCK" in text for text in tdx.remedies(gap(missing("module"))))


def test_a_label_is_shown_without_control_characters():
    assert "\x1b" not in tdx.describe_gap(gap(missing("sgx", 0, "a\x1b[31m")))


def test_the_finding_explains(stage):
    intel = stage.endpoint.intel
    levels = [
        intel.level("UpToDate", raise_by=1, date="2024-03-13T00:00:00Z"),
        intel.level("OutOfDate"),
    ]
    source = stage.capture(collateral=intel.collateral(tcb_info={"tcbLevels": levels}))
    finding = stage.appraise(source).finding("tdx.tcb-status", "model")
    assert finding.outcome is Outcome.FAILED
    assert "needs" in finding.got
    assert "2024-03-13" in finding.got
