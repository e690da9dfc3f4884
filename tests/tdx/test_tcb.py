"""TCB levels: which one is matched, how parts converge, and what a machine lacks."""

from __future__ import annotations

from datetime import datetime
from itertools import permutations

import pytest

from teeverify import tdx
from teeverify.clock import UTC
from teeverify.errors import MalformedEvidence, TcbRejected
from teeverify.tdx.tcb import converge, relaunch

S = tdx.TcbStatus
PLATFORM = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
]
# Intel's table: platform status, and what an outdated module or quoting enclave makes of it.
CONVERGED = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
    "OutOfDate": "OutOfDate",
    "OutOfDateConfigurationNeeded": "OutOfDateConfigurationNeeded",
}
SVN_1_4 = bytes([11, 1, 4, *([0] * 13)])
SVN_0_4 = bytes([11, 0, 4, *([0] * 13)])


def level(svn, status, *, date="2025-05-14T00:00:00Z", advisories=None):
    found = {"tcb": {"isvsvn": svn}, "tcbDate": date, "tcbStatus": status}
    return found if advisories is None else {**found, "advisoryIDs": advisories}


def module(levels, name="TDX_01"):
    fields = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    return {"tdxModuleIdentities": [{"id": name, **fields, "tcbLevels": levels}]}


# --- convergence -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", PLATFORM)
def test_the_platforms_status_stands_when_its_parts_are_current(forge, status):
    claims = forge.verify(endorsements=forge.endorsements(tcb_status=status))
    assert claims.tcb_status == status
    assert claims.platform_tcb_status == status
    assert claims.module_tcb_status is S.UP_TO_DATE
    assert claims.qe_tcb_status is S.UP_TO_DATE


@pytest.mark.parametrize("status", PLATFORM)
@pytest.mark.parametrize("part", ["module_status", "qe_status"])
def test_an_outdated_part_converges_by_intels_table(forge, status, part):
    mixed = forge.endorsements(tcb_status=status, **{part: "OutOfDate"})
    claims = forge.verify(endorsements=mixed)
    assert claims.tcb_status == CONVERGED[status]
    assert claims.platform_tcb_status == status
    parts = {"module_status": claims.module_tcb_status, "qe_status": claims.qe_tcb_status}
    assert parts[part] is S.OUT_OF_DATE


@pytest.mark.parametrize("platform", PLATFORM)
@pytest.mark.parametrize("qe", ["ConfigurationNeeded", "OutOfDateConfigurationNeeded"])
def test_other_statuses_of_the_quoting_enclave(platform, qe):
    expected = CONVERGED[platform] if qe.startswith("OutOfDate") else platform
    assert converge(S(platform), [S(qe)]) == expected


@pytest.mark.parametrize("part", ["tcb_status", "module_status", "qe_status"])
def test_a_revoked_part_is_refused(forge, part):
    with pytest.raises(TcbRejected, match="revoked") as caught:
        forge.verify(endorsements=forge.endorsements(**{part: "Revoked"}))
    assert caught.value.id == "tdx.tcb"


def test_a_revoked_current_tcb_is_refused_too(forge):
    raw = forge.intel.quote(version=5, body="1.5", tee_tcb_svn_2=bytes([12, *SVN_1_4[1:]]))
    levels = [level(12, "Revoked"), level(11, "UpToDate")]
    with pytest.raises(TcbRejected):
        forge.verify(raw, forge.endorsements(tcb_info=module(levels)))


@pytest.mark.parametrize(
    ("launch", "current", "expected"),
    [
        ("OutOfDate", "UpToDate", "TDRelaunchAdvised"),
        ("OutOfDate", "SWHardeningNeeded", "TDRelaunchAdvised"),
        ("OutOfDate", "ConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "ConfigurationAndSWHardeningNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "UpToDate", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "OutOfDate", "OutOfDate"),
        ("OutOfDate", "OutOfDateConfigurationNeeded", "OutOfDate"),
        ("OutOfDateConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("UpToDate", "OutOfDate", "UpToDate"),
        ("UpToDate", "UpToDate", "UpToDate"),
        ("SWHardeningNeeded", "UpToDate", "SWHardeningNeeded"),
        ("ConfigurationNeeded", "UpToDate", "ConfigurationNeeded"),
    ],
)
def test_relaunch(launch, current, expected):
    assert relaunch(S(launch), S(current)) == expected


@pytest.mark.parametrize("body", ["1.5", "1.5ex"])
def test_launch_and_current_are_both_reported(forge, body):
    info = module([level(12, "UpToDate"), level(11, "OutOfDate", advisories=["INTEL-SA-M1"])])
    newer = bytes([12, *SVN_1_4[1:]])
    updated = forge.intel.quote(version=5, body=body, tee_tcb_svn_2=newer)
    claims = forge.verify(updated, forge.endorsements(tcb_info=info))
    assert claims.tcb_status is S.TD_RELAUNCH_ADVISED
    assert claims.launch_tcb_status is S.OUT_OF_DATE
    assert claims.current_tcb_status is S.UP_TO_DATE
    assert claims.advisory_ids == ("INTEL-SA-M1",)
    downgraded = forge.intel.quote(version=5, body=body, tee_tcb_svn=newer, tee_tcb_svn_2=SVN_1_4)
    claims = forge.verify(downgraded, forge.endorsements(tcb_info=info))
    assert claims.tcb_status is S.UP_TO_DATE
    assert claims.current_tcb_status is S.OUT_OF_DATE
    assert claims.advisory_ids == ("INTEL-SA-M1",)


def test_a_1_0_body_states_no_current_tcb(forge):
    assert forge.verify().current_tcb_status is None


# --- choice of levels ------------------------------------------------------------------------


def test_the_order_in_the_json_does_not_matter(forge):
    levels = [
        forge.intel.level("UpToDate"),
        forge.intel.level("OutOfDate", raise_by=-1),
        forge.intel.level("Revoked", raise_by=-2),
    ]
    modules = [level(11, "UpToDate"), level(5, "OutOfDate"), level(2, "Revoked")]
    enclaves = [level(4, "UpToDate"), level(3, "OutOfDate"), level(1, "Revoked")]
    for order in permutations(range(3)):
        endorsements = forge.endorsements(
            tcb_info={"tcbLevels": [levels[n] for n in order]}
            | module([modules[n] for n in order]),
            qe_identity={"tcbLevels": [enclaves[n] for n in order]},
        )
        assert forge.verify(endorsements=endorsements).tcb_status is S.UP_TO_DATE


@pytest.mark.parametrize("index", range(16))
def test_each_sgx_component_counts(make_forge, index):
    forge = make_forge(components=(2,) * 16)
    top = forge.intel.level("UpToDate")
    top["tcb"]["sgxtcbcomponents"][index] = {"svn": 3, "type": "Microcode"}
    endorsements = forge.endorsements(
        tcb_info={"tcbLevels": [top, forge.intel.level("OutOfDate", date="2024-01-01T00:00:00Z")]}
    )
    claims = forge.verify(endorsements=endorsements)
    assert claims.tcb_status is S.OUT_OF_DATE
    (missing,) = claims.tcb_gap.missing
    assert (missing.part, missing.index, missing.label) == ("sgx", index, "Microcode")
    assert (missing.has, missing.needs) == (2, 3)


@pytest.mark.parametrize("major", [0, 1])
@pytest.mark.parametrize("index", range(16))
def test_each_tdx_component_counts_but_the_modules_own(forge, major, index):
    svn = bytes([11, major, *([4] * 14)])
    top = forge.intel.level("UpToDate")
    low = forge.intel.level("OutOfDate")
    for entry, value in ((top, 4), (low, 3)):
        svns = [11, major, *([value] * 14)] if value == 4 else [0, 0, *([3] * 14)]
        entry["tcb"]["tdxtcbcomponents"] = [{"svn": one} for one in svns]
    top["tcb"]["tdxtcbcomponents"][index] = {"svn": svn[index] + 1}
    endorsements = forge.endorsements(tcb_info={"tcbLevels": [top, low]})
    claims = forge.verify(forge.intel.quote(tee_tcb_svn=svn), endorsements)
    skipped = major == 1 and index < 2
    assert claims.tcb_status == ("UpToDate" if skipped else "OutOfDate")
    assert (claims.module_tcb_status is None) == (major == 0)


def test_the_pce_svn_counts(forge):
    top = forge.intel.level("UpToDate")
    top["tcb"]["pcesvn"] = forge.intel.platform.pce_svn + 1
    levels = {"tcbLevels": [top, forge.intel.level("OutOfDate")]}
    claims = forge.verify(endorsements=forge.endorsements(tcb_info=levels))
    assert claims.tcb_status is S.OUT_OF_DATE
    assert [missing.part for missing in claims.tcb_gap.missing] == ["pce"]


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ("platform", "the machine is below"),
        ("module", "TDX module is below"),
        ("qe", "quoting enclave is below"),
    ],
)
def test_below_every_level_is_refused(forge, overrides, match):
    change = {
        "platform": {
            "tcb_info": {"tcbLevels": [forge.intel.level("UpToDate", raise_by=1)]},
        },
        "module": {"tcb_info": module([level(12, "UpToDate")])},
        "qe": {"qe_identity": {"tcbLevels": [level(5, "UpToDate")]}},
    }[overrides]
    with pytest.raises(TcbRejected, match=match) as caught:
        forge.verify(endorsements=forge.endorsements(**change))
    assert caught.value.id == "tdx.tcb"


def test_a_module_that_intel_does_not_describe_is_refused(forge):
    for major in (2, 3, 0x11):
        raw = forge.intel.quote(tee_tcb_svn=bytes([11, major, 4, *([0] * 13)]))
        with pytest.raises(TcbRejected, match=f"TDX_{major:02X}") as caught:
            forge.verify(raw)
        assert caught.value.id == "tdx.module"
    none = forge.endorsements(tcb_info={"tdxModuleIdentities": None})
    with pytest.raises(TcbRejected):
        forge.verify(endorsements=none)
    assert forge.verify(forge.intel.quote(tee_tcb_svn=SVN_0_4), none)
    # Of a TD that survived an update, the module of now counts too.
    raw = forge.intel.quote(version=5, body="1.5", tee_tcb_svn_2=bytes([11, 2, 4, *([0] * 13)]))
    with pytest.raises(TcbRejected):
        forge.verify(raw)


@pytest.mark.parametrize(("name", "major"), [("tdx_01", 1), ("TDX_0a", 10), ("tdx_0A", 10)])
def test_module_ids_in_either_case(forge, name, major):
    raw = forge.intel.quote(tee_tcb_svn=bytes([11, major, 4, *([0] * 13)]))
    endorsements = forge.endorsements(tcb_info=module([level(11, "UpToDate")], name))
    assert forge.verify(raw, endorsements).module_tcb_status is S.UP_TO_DATE


# --- advisories, dates, gap ------------------------------------------------------------------


def test_advisories_are_merged_once_each_in_order(forge):
    info = module([level(11, "OutOfDate", advisories=["INTEL-SA-B", "INTEL-SA-C"])])
    endorsements = forge.endorsements(
        advisory_ids=["INTEL-SA-A", "INTEL-SA-B"],
        tcb_info=info,
        qe_identity={"tcbLevels": [level(4, "UpToDate", advisories=["INTEL-SA-Q"])]},
    )
    claims = forge.verify(endorsements=endorsements)
    assert claims.advisory_ids == ("INTEL-SA-A", "INTEL-SA-B", "INTEL-SA-Q", "INTEL-SA-C")
    assert claims.tcb_status is S.OUT_OF_DATE


def test_advisories_may_come_with_up_to_date(forge):
    claims = forge.verify(endorsements=forge.endorsements(advisory_ids=["INTEL-SA-X"]))
    assert (claims.tcb_status, claims.advisory_ids) == ("UpToDate", ("INTEL-SA-X",))


def test_the_tcb_date_is_the_oldest_matched(forge):
    claims = forge.verify()
    assert claims.tcb_date == datetime(2025, 5, 14, tzinfo=UTC)
    older = forge.endorsements(
        qe_identity={"tcbLevels": [level(4, "UpToDate", date="2020-01-01T00:00:00Z")]}
    )
    assert forge.verify(endorsements=older).tcb_date == datetime(2020, 1, 1, tzinfo=UTC)


def test_nothing_is_missing_where_nothing_is_too_low(forge):
    assert forge.verify().tcb_gap is None
    configuration = forge.endorsements(
        tcb_info={"tcbLevels": [forge.intel.level("ConfigurationNeeded")]}
    )
    assert forge.verify(endorsements=configuration).tcb_gap is None


def test_the_gap_names_dates_of_the_newest_and_the_first_level_missed(forge):
    levels = [
        forge.intel.level("UpToDate", raise_by=2, date="2026-02-11T00:00:00Z"),
        forge.intel.level("OutOfDate", raise_by=1, date="2025-08-13T00:00:00Z"),
        forge.intel.level("OutOfDate", date="2024-03-13T00:00:00Z"),
    ]
    endorsements = forge.endorsements(
        tcb_info={"tcbLevels": levels}, module_status="OutOfDate", qe_status="OutOfDate"
    )
    found = forge.verify(endorsements=endorsements).tcb_gap
    assert [(one.part, one.has, one.needs) for one in found.missing] == [
        ("sgx", 3, 5),
        ("qe", 4, 5),
        ("module", 11, 12),
    ]
    assert found.since == datetime(2026, 2, 11, tzinfo=UTC)
    assert found.first_missed == datetime(2025, 8, 13, tzinfo=UTC)


def test_where_intel_calls_no_level_up_to_date_the_newest_good_one_counts(forge):
    levels = [
        forge.intel.level("SWHardeningNeeded", raise_by=1, date="2025-08-13T00:00:00Z"),
        forge.intel.level("OutOfDate", date="2024-03-13T00:00:00Z"),
    ]
    claims = forge.verify(endorsements=forge.endorsements(tcb_info={"tcbLevels": levels}))
    assert claims.tcb_gap.since == datetime(2025, 8, 13, tzinfo=UTC)


# --- documents that cannot be read -----------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": "3"},
        {"version": True},
        {"id": "TDX2"},
        {"id": None},
        {"tcbType": 1},
        {"tcbType": None},
        {"issueDate": "2026-06-29"},
        {"issueDate": "2026-06-29T02:06:57+02:00"},
        {"nextUpdate": "2026-13-29T02:06:57Z"},
        {"nextUpdate": "\uff12026-06-29T02:06:57Z"},
        {"nextUpdate": None},
        {"fmspc": "90c06f0000"},
        {"fmspc": "90c06f00000g"},
        {"fmspc": None},
        {"pceId": "00"},
        {"tcbEvaluationDataNumber": -1},
        {"tcbEvaluationDataNumber": 1.5},
        {"tcbEvaluationDataNumber": None},
        {"tdxModule": None},
        {"tdxModule": {"mrsigner": "00" * 47, "attributes": "00" * 8, "attributesMask": "00" * 8}},
        {"tdxModuleIdentities": {}},
        {"tcbLevels": []},
        {"tcbLevels": None},
        {"tcbLevels": [None]},
        {"tcbLevels": [{}]},
        module([]),
        module([level(11, "ConfigurationNeeded")]),
        module([level(11, "uptodate")]),
        module([level(-1, "UpToDate")]),
        module([level(11, "TDRelaunchAdvised")]),
    ],
)
def test_tcb_info_of_another_form(forge, change):
    with pytest.raises(MalformedEvidence) as caught:
        forge.endorsements(tcb_info=change)
    assert caught.value.id == "tdx.tcb-info"


def broken_levels(forge):
    for name in ("sgxtcbcomponents", "tdxtcbcomponents"):
        for components in (
            [{"svn": 0}] * 15,
            [{"svn": 0}] * 17,
            [],
            None,
            [{"svn": 0}] * 15 + [{}],
            [{"svn": 0}] * 15 + [{"svn": 256}],
            [{"svn": 0}] * 15 + [{"svn": -1}],
            [{"svn": 0}] * 15 + [{"svn": True}],
            [{"svn": 0}] * 15 + [{"svn": "0"}],
            [{"svn": 0}] * 15 + [0],
        ):
            found = forge.intel.level("UpToDate")
            found["tcb"][name] = components
            yield found
    for member, value in (
        ("tcbStatus", "Fine"),
        ("tcbStatus", "TDRelaunchAdvised"),
        ("tcbStatus", None),
        ("tcbDate", None),
        ("tcbDate", "2025"),
        ("advisoryIDs", "INTEL-SA-1"),
        ("advisoryIDs", [1]),
        ("tcb", None),
    ):
        yield {**forge.intel.level("UpToDate"), member: value}


def test_levels_of_another_form(forge):
    cases = list(broken_levels(forge))
    assert len(cases) > 20
    for broken in cases:
        with pytest.raises(MalformedEvidence) as caught:
            forge.endorsements(tcb_info={"tcbLevels": [forge.intel.level("UpToDate"), broken]})
        assert caught.value.id == "tdx.tcb-info"


def test_the_same_module_twice(forge):
    identities = module([level(11, "UpToDate")])["tdxModuleIdentities"]
    twice = [identities[0], {**identities[0], "id": "tdx_01"}]
    with pytest.raises(MalformedEvidence, match="twice"):
        forge.endorsements(tcb_info={"tdxModuleIdentities": twice})


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"id": "QVE"},
        {"mrsigner": "00" * 31},
        {"miscselectMask": "FFFFFF"},
        {"attributes": "zz" * 16},
        {"isvprodid": 65536},
        {"tcbLevels": []},
        {"tcbLevels": [level(4, "SWHardeningNeeded")]},
        {"tcbLevels": [level(70000, "UpToDate")]},
        {"tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": "2025-05-14T00:00:00Z"}]},
        {"nextUpdate": None},
    ],
)
def test_qe_identity_of_another_form(forge, change):
    with pytest.raises(MalformedEvidence) as caught:
        forge.endorsements(qe_identity=change)
    assert caught.value.id == "tdx.qe-identity"
