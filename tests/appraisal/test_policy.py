"""Policies as files: nothing that is not understood is passed over."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify.appraisal import Policy
from teeverify.appraisal.presets import LEVELS, PARAMETERS, ROWS
from teeverify.errors import EXIT_USAGE, ConfigurationError

MR_TD = "ab" * 48
ENTRY = {"name": "v1", "source": "release", "mr_td": MR_TD}


def wrong(call) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert (caught.value.id, caught.value.exit_code) == ("usage.policy", EXIT_USAGE)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "extend = 'strict'",
        "extends = 'lax'",
        "extends = 5",
        "extends = ['strict']",
        "verdict = 'warning'",
        "[gpus]\ncount = 8",
        "[gpu]\ncounts = 8",
        "[gpu]\ncount = -1",
        "[gpu]\ncount = '8'",
        "[gpu]\ncount = true",
        "[gpu]\ncount = 8.0",
        "[gpu]\nrequired = 1",
        "[gpu]\nrequired = 'no'",
        "[gpu]\narchitectures = 'Hopper'",
        "[gpu]\narchitectures = ['hopper']",
        "[gpu]\narchitectures = [1]",
        "[gpu]\nlinks = ['none']",
        "[tdx]\naccepted = ['Uptodate']",
        "[tdx]\naccepted = ['Revoked']",
        "[tdx]\ntolerated = ['']",
        "[tdx]\ngraced = ['OutOfDate ']",
        "[tdx]\nattributes_refused = ['debug']",
        "[tdx]\nattributes_warned = ['PKS']",
        "[tdx]\ngrace_days = 1000000000000",
        "[tdx]\ngrace_days = 1979-05-27",
        "[tdx.accepted]\nUpToDate = true",
        "[platform]\ndeny = ['0x00']",
        "[platform]\nallow = ['ab']",
        "[verdict]\naccept = 'none'",
        "[session]\nmax_age_seconds = 99999999999999999999",
        "[require]\nnonce = 'proven'",
        "[require]\n'tdx.quote' = 'note'",
        "[require]\nkind = 'Proven'",
        "[require]\nkind = 1",
        "[require]\nkind = ['proven']",
        "require = 'all'",
        "code = 'pinned'",
        "[code]\nname = 'v1'",
        "[[code]]\nname = 'v1'",
        "[[code]]\nname = 'v1'\nsource = 'release'",
        f"[[code]]\nsource = 'release'\nmr_td = '{MR_TD}'",
        f"[[code]]\nname = 'v1'\nsource = 'observed'\nmr_td = '{MR_TD}'",
        f"[[code]]\nname = 'v1'\nsource = 'release'\nmrtd = '{MR_TD}'",
        f"[[code]]\nname = 'v1'\nsource = 'release'\nrole = 'modle'\nmr_td = '{MR_TD}'",
        f"[[code]]\nname = 1\nsource = 'release'\nmr_td = '{MR_TD}'",
        "[[code]]\nname = 'v1'\nsource = 'release'\nmr_td = 'abab'",
        "[[code]]\nname = 'v1'\nsource = 'release'\nmr_td = ''",
        "[[code]]\nname = 'v1'\nsource = 'release'\nmr_td = []",
        "[[code]]\nname = 'v1'\nsource = 'release'\nmr_td = [1]",
        f"[[code]]\nname = 'v1'\nsource = 'release'\nmr_td = '0x{MR_TD}'",
        f"[[code]]\nname = 'v1'\nsource = 'release'\nmr_td = '{MR_TD} '",
        "extends = 'strict'\nextends = 'genuine'",
        "not toml",
        "\ufeffextends = 'strict'",
        "a = " + "[" * 5000,
    ],
)
def test_a_file_with_anything_not_understood(tmp_path, text):
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    wrong(lambda: Policy.load(file))


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"#" * (1024 * 1024 + 1), b"\x00"])
def test_a_file_that_is_no_text_or_too_large(tmp_path, raw):
    file = tmp_path / "policy.toml"
    file.write_bytes(raw)
    wrong(lambda: Policy.load(file))


@pytest.mark.parametrize("path", ["missing.toml", ".", "a\0b", "", b"x", None, 5, ["genuine"]])
def test_no_path_of_a_policy(path):
    wrong(lambda: Policy.of(path))


@pytest.mark.parametrize(
    "mapping",
    [
        {1: {}},
        [],
        None,
        {"require": {1: "proven"}},
        {"gpu": {None: 1}},
        {"code": [1]},
        {"code": [{1: 2}]},
    ],
)
def test_no_mapping_of_a_policy(mapping):
    wrong(lambda: Policy.from_mapping(mapping, name="x"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_no_row_below_its_floor(row):
    for level in LEVELS:
        change = {"require": {row.id: level}}
        if LEVELS.index(level) < LEVELS.index(row.floor):
            assert wrong(lambda change=change: Policy.strict().replace(**change)).got == repr(level)
        else:
            assert Policy.genuine().replace(**change).level(row.id) == level


def test_what_must_never_be_relaxed_cannot_be():
    """A change to this set is a change to what every policy promises."""
    assert {row.id for row in ROWS if row.floor == "proven"} == {
        "kind", "tdx.tcb-status", "tdx.attributes", "platform.listed", "code.event-log",
        "code.compose", "gpu.required", "binding.report-data", "key.attested", "answer.signature",
        "response.hash-equal", "answer.complete", "tdx.xfam", "tdx.platform-configuration",
        "tcb.evaluation-number", "snp.min-tcb", "snp.policy", "snp.vmpl", "snp.platform",
        "snp.launch", "snp.firmware", "snp.report-data", "clock.behind",
    }  # fmt: skip
    assert {row.id for row in ROWS if row.floor == "asserted"} == {
        "time", "gpu.binding", "answer.attested-later", "code.dstack-listed",
    }  # fmt: skip


def test_strict_is_nowhere_weaker_than_genuine():
    for row in ROWS:
        assert LEVELS.index(row.strict) >= LEVELS.index(row.genuine) >= LEVELS.index(row.floor)


def test_a_check_that_is_no_row_must_be_proven():
    assert Policy.genuine().level("tdx.quote-signature") == "proven"


# --- the file and its hash -----------------------------------------------------------------------


SNP_VALUES = {
    "snp.min_tcb": ["Milan snp=30"], "snp.tcb_parts": ["reported"], "snp.newest_fixes": True,
    "snp.refused": ["smt"], "snp.warned": [], "snp.vmpls": ["1"], "snp.csp_ids": ["CN=x"],
    "snp.required": ["single_socket"], "snp.min_abi": ["1.55"], "snp.platform_required": ["ecc"],
    "snp.platform_refused": ["unknown"], "snp.min_firmware": ["1.55.41"],
    "snp.mitigations": ["0", "63"], "snp.min_guest_svn": 1, "snp.family_ids": ["00" * 16],
    "snp.image_ids": ["00" * 16], "snp.host_data": ["00" * 32], "snp.id_key_digests": ["00" * 48],
    "snp.author_key_digests": ["00" * 48], "snp.min_launch_tcb": ["Milan snp=30"],
    "snp.launch_required": ["id_block"], "snp.report_data": ["00" * 64],
    "snp.report_ids": ["00" * 32], "snp.report_ids_ma": ["00" * 32],
    "snp.firmware_by": ["Google"],
}  # fmt: skip


def changes():
    """One change of each row and each parameter, and of each member of a code reference."""
    for row in ROWS:
        for level in LEVELS[LEVELS.index(row.floor) :]:
            if level != row.genuine:
                yield f"require-{row.id}-{level}", {"require": {row.id: level}}
    values = {
        "verdict.accept": "affirming", "tdx.accepted": ["UpToDate"], "tdx.tolerated": [],
        "tdx.graced": [], "tdx.grace_days": 31, "tdx.accepted_advisories": ["INTEL-SA-00001"],
        "tdx.attributes_refused": [], "tdx.attributes_warned": [], "platform.deny": ["1"],
        "platform.allow": ["00" * 16], "gpu.required": False, "gpu.count": 0,
        "gpu.count_required": True, "gpu.architectures": ["Hopper"], "gpu.links": [],
        "gpu.allow_expired_rim_signers": True, "gpu.measurements": ["rim"],
        **{f"tdx.{name}": [MR_TD] for name in (
            "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_seam", "mr_config_id", "mr_owner",
            "mr_owner_config", "service_tds",
        )},
        "tdx.xfam": ["e702060000000000"], "tdx.configuration_refused": ["smt"],
        "tdx.min_evaluation_number": 1, "tdx.newest_standard": True,
        "platform.fmspc_deny": ["00" * 6], "platform.fmspc_allow": ["00" * 6],
        **SNP_VALUES,
        **{f"dstack.{name}": ["00" * size] for name, size in (
            ("app_ids", 20), ("compose_hashes", 32), ("os_images", 32), ("key_providers", 32),
            ("instances", 20), ("devices", 32),
        )},
        "signer.key_services": ["00" * 32], "model.deployments": ["00" * 32],
        "session.max_age_seconds": 0, "session.clock_skew_seconds": 0,
        "answer.allow_attested_later_days": 1,
    }  # fmt: skip
    for parameter in PARAMETERS:
        section, _, key = parameter.name.partition(".")
        yield parameter.name, {section: {key: values[parameter.name]}}
    entries = {
        "code": ENTRY,
        "name": {**ENTRY, "name": "v2"},
        "source": {**ENTRY, "source": "rebuilt"},
        "pinned": {**ENTRY, "source": "pinned"},
        "seen": {**ENTRY, "source": "pinned", "seen": "2026-01-01"},
        "reviewed": {**ENTRY, "source": "pinned", "reviewed_by": "a person"},
        "role": {**ENTRY, "role": "model"},
        "value": {**ENTRY, "mr_td": [MR_TD, "cd" * 48]},
        "register": {**ENTRY, "rtmr0": MR_TD},
    }
    for name, entry in entries.items():
        yield f"code-{name}", {"code": [entry]}


CHANGES = dict(changes())


def test_every_change_has_a_hash_of_its_own():
    policies = [Policy.genuine(), Policy.strict()]
    policies += [Policy.genuine().replace(**change) for change in CHANGES.values()]
    assert len({policy.hash for policy in policies}) == len(policies)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("preset", ["genuine", "strict"])
def test_a_policy_written_down_is_the_same_policy(tmp_path, preset, name):
    try:
        policy = Policy.of(preset).replace(**CHANGES[name])
    except ConfigurationError:
        pytest.fail("each change is allowed on both presets")
    file = tmp_path / "policy.toml"
    file.write_text(policy.to_toml(), encoding="utf-8")
    read = Policy.load(file)
    assert (read.hash, read.extends, read.name) == (policy.hash, preset, "policy.toml")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_name_of_code_can_be_written_down(tmp_path_factory, name):
    policy = Policy.genuine().replace(code=[{**ENTRY, "name": name, "reviewed_by": name[::-1]}])
    file = tmp_path_factory.mktemp("policy") / "policy.toml"
    file.write_text(policy.to_toml(), encoding="utf-8", newline="")
    assert Policy.load(file).hash == policy.hash


def test_letter_case_and_order_of_a_file_carry_nothing(tmp_path):
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text(f"[[code]]\nname = 'v'\nsource = 'release'\nmr_td = '{MR_TD}'\n")
    other.write_text(f"[[code]]\nmr_td = '{MR_TD.upper()}'\nsource = 'release'\nname = 'v'\n")
    assert Policy.load(one).hash == Policy.load(other).hash


def test_replace_leaves_the_policy_as_it_was():
    policy = Policy.genuine()
    before = policy.hash
    policy.replace(gpu={"count": 8}, require={"request.bound": "proven"}, code=[ENTRY])
    assert policy.hash == before
    assert Policy.genuine().hash == before


def test_a_change_is_in_the_name():
    assert Policy.genuine().replace(gpu={"count": 8}).replace(gpu={"count": 8}).name == "genuine+"


def test_a_list_handed_in_is_not_shared():
    names = ["UpToDate"]
    policy = Policy.genuine().replace(tdx={"accepted": names})
    before = policy.hash
    names.append("OutOfDate")
    assert policy.hash == before


def test_a_policy_can_be_sent_to_a_worker():
    policy = Policy.strict().replace(code=[ENTRY])
    assert pickle.loads(pickle.dumps(policy)).hash == policy.hash  # noqa: S301 -- our own bytes


def test_no_environment_variable_is_a_policy(monkeypatch, tmp_path):
    file = tmp_path / "lax.toml"
    file.write_text("[gpu]\nrequired = false\n")
    before = Policy.genuine().hash
    for name in ("TEEVERIFY_POLICY", "POLICY", "TEEVERIFY_GPU_REQUIRED"):
        monkeypatch.setenv(name, str(file))
    monkeypatch.chdir(Path(tmp_path))
    assert Policy.of("genuine").hash == before
