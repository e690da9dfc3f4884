"""AMD SEV-SNP held against policies: every row and every parameter, violated and met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from teeverify.appraisal import Policy, ReferenceValues
from teeverify.appraisal.presets_snp import SNP_PARAMETERS, SNP_ROWS
from teeverify.appraisal.snp_floors import FLOORS, NEWEST
from teeverify.client import Verifier
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.amd import CSP_ID, Amd, AmdKeys, certificate_table
from teeverify.snp import Product
from teeverify.snp.product import product_of_cpu

AT = datetime(2026, 9, 1, tzinfo=timezone.utc)
QUIET = {"policy": 0x20000}  # no SMT: nothing of the guest's policy to warn of


@pytest.fixture(scope="module")
def keys() -> AmdKeys:
    return AmdKeys.new()


@pytest.fixture(scope="module")
def make(keys) -> Callable[..., Amd]:
    return lambda **overrides: Amd(**{"at": AT, "keys": keys, **overrides})


@pytest.fixture(scope="module")
def amd(make) -> Amd:
    return make()


@pytest.fixture(scope="module")
def appraise(amd) -> Callable[..., Any]:
    def run(raw: Any = None, *, policy: Any = "genuine", by: Amd = amd, **options: Any) -> Any:
        given = options.pop("endorsements", None)
        verifier = Verifier(
            policy=policy,
            roots=UnsafeTestRoots([by.roots_pem()]),
            endorsements=by.endorsements() if given is None else given,
            offline=True,
        )
        asked = {"at": AT, "scope": "evidence", **options}
        return verifier.appraise(by.report(**QUIET) if raw is None else raw, **asked)

    return run


def strict(**sections: Any) -> Policy:
    return Policy.strict().replace(**sections)


def exit_of(result: Any, row: str) -> int:
    return result.finding(row).exit_code


class TestGood:
    def test_genuine(self, appraise):
        result = appraise()
        assert (result.exit_code, result.tier) == (0, "warning")
        assert "SIMULATED" in result.summary
        assert "a genuine AMD SEV-SNP VM" in result.summary
        assert result.expires_at is not None
        assert result.claims["cpu"].outcome.value == "proven"
        assert "AMD SEV-SNP (Milan)" in result.claims["cpu"].text
        assert "snp=29" in result.claims["cpu_firmware"].text

    @pytest.mark.parametrize("product", ["Genoa", "Turin"])
    def test_other_products(self, make, appraise, product):
        other = make(product=product)
        assert appraise(by=other).exit_code == 0

    def test_certificates_that_came_along(self, amd, appraise):
        table = certificate_table({"vcek": amd.vcek, "ask": amd.ask, "ark": amd.ark})
        result = appraise(amd.report(**QUIET) + table, endorsements=[_crl_only(amd)])
        assert result.exit_code == 0

    def test_a_bare_report_must_be_asked_for(self, appraise):
        result = appraise(scope=None)
        assert result.exit_code == 1
        assert "an AMD SEV-SNP report" in result.summary

    def test_command_line(self, amd, tmp_path, capsys):
        from teeverify.cli.main import main

        folder = amd.write(tmp_path / "endorsements")
        report, roots = tmp_path / "report.bin", tmp_path / "roots.pem"
        report.write_bytes(amd.report(**QUIET))
        roots.write_bytes(amd.roots_pem())
        arguments = [
            "verify",
            str(report),
            "--endorsements",
            str(folder),
            "--for",
            "evidence",
            "--at",
            "2026-09-01T00:00:00Z",
            "--unsafe-test-roots",
            str(roots),
        ]
        assert main(arguments) == 0
        assert "AMD SEV-SNP" in capsys.readouterr().out
        assert main(arguments[:-2]) == 2
        (folder / "vcek.der").unlink()
        (folder / "vlek.der").unlink()
        assert main(arguments) == 3
        files = [
            part
            for name in ("vcek.der", "ark.crl", "vcek_chain.pem")
            for part in ("--endorsements", str(tmp_path / "again" / name))
        ]
        amd.write(tmp_path / "again")
        assert (
            main(
                [
                    "verify",
                    str(report),
                    "--for",
                    "evidence",
                    "--at",
                    "2026-09-01T00:00:00Z",
                    "--unsafe-test-roots",
                    str(roots),
                    *files,
                ]
            )
            == 0
        )
        assert main(["show", str(report)]) == 0
        assert "AMD SEV-SNP report" in capsys.readouterr().out


def _crl_only(amd: Amd) -> Any:
    from teeverify.snp import Endorsements

    return Endorsements.load(amd.crl())


class TestVerification:
    def test_nothing_at_hand_is_exit_3(self, amd, appraise):
        result = appraise(endorsements=[])
        assert result.exit_code == 3
        assert result.summary.startswith("SIMULATED. Undecided")

    def test_wrong_is_exit_2(self, amd, appraise):
        from cryptography.hazmat.primitives.asymmetric import ec

        raw = amd.report(**QUIET, key=ec.generate_private_key(ec.SECP384R1()))
        result = appraise(raw)
        assert result.exit_code == 2
        assert exit_of(result, "snp.report-signature") == 2
        assert result.finding("snp.chip-id").outcome.value == "proven"
        assert result.finding("snp.debug-disabled").outcome.value == "absent"

    def test_debug_is_exit_2_in_every_preset(self, amd, appraise):
        for preset in ("genuine", "strict"):
            assert appraise(amd.report(policy=0xB0000), policy=preset).exit_code == 2

    def test_deny_and_allow(self, amd, appraise):
        chip = amd.hwid.hex().upper()
        deny = Policy.genuine().replace(platform={"deny": [chip]})
        assert appraise(policy=deny).exit_code == 2
        allow = Policy.genuine().replace(platform={"allow": [chip]})
        assert appraise(policy=allow).exit_code == 0
        masked = amd.report(**QUIET, chip_id=b"")
        assert appraise(masked, policy=allow).exit_code == 1
        other = Policy.genuine().replace(platform={"allow": ["00" * 64]})
        assert appraise(policy=other).exit_code == 1


class TestCrl:
    def test_absent_is_exit_3_unless_the_policy_accepts_it(self, amd, appraise):
        endorsements = amd.endorsements(ark_crl=None)
        for preset in ("genuine", "strict"):
            result = appraise(endorsements=endorsements, policy=preset)
            assert exit_of(result, "snp.crl") == 3
        lax = Policy.genuine().replace(require={"snp.crl": "warn"})
        result = appraise(endorsements=endorsements, policy=lax)
        assert (result.exit_code, result.tier) == (0, "warning")
        assert result.finding("snp.crl").severity.value == "warns"

    def test_wrong_refuses_at_any_level(self, amd, appraise):
        lax = Policy.genuine().replace(require={"snp.crl": "warn"})
        for crl in (amd.crl(revoked=[0x010001]), amd.crl(signer=amd.keys.ask)):
            endorsements = amd.endorsements(ark_crl=crl)
            assert appraise(endorsements=endorsements, policy=lax).exit_code == 2


class TestMinTcb:
    def test_floors_are_of_every_product(self):
        assert set(FLOORS) == set(NEWEST) == set(Product)
        for product, newest in NEWEST.items():
            assert newest[0].components["snp"] >= FLOORS[product].components["snp"]
            for floor in (FLOORS[product], *newest):
                assert floor.url.startswith("https://www.amd.com/")
                assert floor.bulletin.startswith("AMD-SB-")
                # A number of microcode means nothing without the CPU that it is for.
                assert ("microcode" in floor.components) == (floor.cpu is not None)
                assert floor.cpu is None or product_of_cpu(*floor.cpu[:2]) is product

    @pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
    def test_floor(self, make, appraise, product):
        floor = FLOORS[Product(product)].components["snp"]
        newest = NEWEST[Product(product)][0].components["snp"]
        for snp, genuine, hard in (
            (floor - 1, 1, 1),
            (floor, 0, 1 if floor < newest else 0),
            (newest, 0, 0),
        ):
            by = make(product=product, tcb={"snp": snp})
            assert exit_of(appraise(by=by), "snp.min-tcb") == genuine
            assert exit_of(appraise(by=by, policy="strict"), "snp.min-tcb") == hard

    def test_sentence(self, make, appraise):
        result = appraise(by=make(tcb={"snp": 5}))
        assert "lacks AMD's security fixes of AMD-SB-3019" in result.summary
        assert "AMD-SB-3030" in appraise(by=make(tcb={"snp": 24})).summary

    @pytest.mark.parametrize(
        ("product", "cpuid", "enough"),
        [
            ("Milan", "190101", 0xDB),
            ("Milan", "190102", 0x44),
            ("Genoa", "191101", 0x56),
            ("Genoa", "191102", 0x51),
            ("Genoa", "19a002", 0x19),
            ("Turin", "1a0201", 0x51),
        ],
    )
    def test_microcode_is_counted_by_stepping(self, make, appraise, product, cpuid, enough):
        for microcode, hard in ((enough - 1, 1), (enough, 0)):
            by = make(product=product, tcb={"microcode": microcode})
            raw = by.report(**QUIET, cpuid=bytes.fromhex(cpuid))
            result = appraise(raw, by=by)
            assert exit_of(result, "snp.min-tcb") == 0
            assert ("microcode" in result.finding("snp.min-tcb").message) == bool(hard)
            assert exit_of(appraise(raw, by=by, policy="strict"), "snp.min-tcb") == hard

    def test_microcode_of_an_unknown_stepping_is_not_compared(self, make, appraise):
        by = make(tcb={"microcode": 1})
        for fields in ({"cpuid": bytes([0x19, 0x01, 0x07])}, {"version": 2}):
            raw = by.report(**QUIET, **fields)
            assert exit_of(appraise(raw, by=by, policy="strict"), "snp.min-tcb") == 0

    @pytest.mark.parametrize("part", ["committed", "launch"])
    def test_every_part(self, amd, appraise, part):
        raw = amd.report(**QUIET, **{f"{part}_tcb": {"snp": 5}})
        assert exit_of(appraise(raw), "snp.min-tcb") == (1 if part == "committed" else 0)
        assert exit_of(appraise(raw, policy="strict"), "snp.min-tcb") == 1


POLICIES: dict[str, tuple[dict[str, Any], int, int]] = {
    "nothing": ({}, 0, 0),
    "smt": ({"policy": 0x30000}, 0, 1),
    "cxl": ({"policy": 0x220000}, 0, 1),
    "migrate_ma": ({"policy": 0x60000}, 1, 1),
    "host_made": ({"vmpl": 0xFFFFFFFF}, 1, 1),
    "provisional": ({"current_tcb": {"snp": 31}}, 0, 1),
    "masked_chip_id": ({"chip_id": b""}, 0, 1),
}


@pytest.mark.parametrize("name", POLICIES)
def test_policy(amd, appraise, name):
    fields, genuine, hard = POLICIES[name]
    raw = amd.report(**{**QUIET, **fields})
    for preset, wanted in (("genuine", genuine), ("strict", hard)):
        finding = appraise(raw, policy=preset).finding("snp.policy")
        assert finding.exit_code == wanted
        assert (name in finding.message) == (name != "nothing")


class TestVmpl:
    @pytest.mark.parametrize("preset", ["genuine", "strict"])
    def test_levels(self, amd, appraise, preset):
        for level in range(4):
            result = appraise(amd.report(**QUIET, vmpl=level), policy=preset)
            assert exit_of(result, "snp.vmpl") == (1 if level else 0)

    def test_usual_in_a_cloud(self, make, appraise):
        csp_id = "CN=cc-us-east-2.amazonaws.com"
        aws = make(certificates={"vlek": {"csp_id": csp_id}})
        raw = aws.report(**QUIET, signer="VLEK", vmpl=1, current_tcb={"snp": 31})
        result = appraise(raw, by=aws)
        assert (result.exit_code, result.tier) == (0, "warning")
        assert result.finding("snp.vmpl").severity.value == "warns"
        assert exit_of(appraise(aws.report(signer="VLEK", vmpl=2), by=aws), "snp.vmpl") == 1
        look_alike = make(certificates={"vlek": {"csp_id": csp_id + ".example"}})
        raw = look_alike.report(**QUIET, signer="VLEK", vmpl=1)
        assert exit_of(appraise(raw, by=look_alike), "snp.vmpl") == 1


class TestCsp:
    def test_vlek(self, amd, appraise):
        raw = amd.report(**QUIET, signer="VLEK")
        assert appraise(raw).finding("snp.csp").severity.value == "warns"
        assert exit_of(appraise(raw, policy="strict"), "snp.csp") == 1
        named = strict(snp={"csp_ids": [CSP_ID]})
        assert exit_of(appraise(raw, policy=named), "snp.csp") == 0
        other = Policy.genuine().replace(snp={"csp_ids": ["CN=cc-eu-west-1.amazonaws.com"]})
        assert exit_of(appraise(raw, policy=other), "snp.csp") == 1

    def test_a_vcek_is_of_no_cloud(self, appraise):
        assert "snp.csp" not in {f.id for f in appraise(policy="strict").findings}


# For every parameter: a value under which the report fails, one under which it passes, the row,
# and what the report must be for that.
EFFECTS: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "min_tcb": (["Milan snp=200"], ["Milan snp=29 microcode=222"], "snp.min-tcb", {}),
    "min_launch_tcb": (["Milan snp=29", "Milan snp=30"], ["Milan snp=29", "Genoa snp=200"],
                       "snp.min-tcb", {}),
    "tcb_parts": (["launch"], ["reported"], "snp.min-tcb", {"launch_tcb": {"snp": 1}}),
    "newest_fixes": (True, False, "snp.min-tcb", {"committed_tcb": {"snp": 0x18}}),
    "refused": (["smt"], [], "snp.policy", {"policy": 0x30000}),
    "vmpls": (["1"], ["0", "1"], "snp.vmpl", {}),
    "csp_ids": (["CN=x"], [CSP_ID], "snp.csp", {"signer": "VLEK"}),
    "required": (["single_socket"], ["rapl_disabled"], "snp.policy", {"policy": 0x820000}),
    "min_abi": (["1.56"], ["1.55"], "snp.policy", {"policy": 0x20137}),
    "platform_required": (["tsme"], ["ecc", "alias_check_complete"], "snp.platform", {}),
    "platform_refused": (["ecc"], ["tsme", "unknown"], "snp.platform", {}),
    "min_firmware": (["1.55.42"], ["1.55.41"], "snp.platform", {}),
    "mitigations": (["3"], ["0", "1"], "snp.platform",
                    {"version": 5, "launch_mit_vector": 3, "current_mit_vector": 11}),
    "min_guest_svn": (6, 5, "snp.launch", {"guest_svn": 5}),
    "launch_required": (["id_block", "author_key"], ["id_block"], "snp.launch",
                        {"id_key_digest": b"\x0a" * 48}),
    "report_data": (["ab" * 64], ["cd" * 64, "04" * 64], "snp.report-data",
                    {"report_data": b"\4" * 64}),
    "report_ids": (["ab" * 32], ["05" * 32], "snp.launch", {"report_id": b"\5" * 32}),
    "report_ids_ma": (["ab" * 32], ["FF" * 32], "snp.launch", {}),
    "family_ids": (["ab" * 16], ["01" * 16], "snp.launch", {"family_id": b"\1" * 16}),
    "image_ids": (["ab" * 16], ["02" * 16], "snp.launch", {"image_id": b"\2" * 16}),
    "host_data": (["ab" * 32], ["03" * 32], "snp.launch", {"host_data": b"\3" * 32}),
    "id_key_digests": (["ab" * 48], ["AB" * 48, "0a" * 48], "snp.launch",
                       {"id_key_digest": b"\x0a" * 48}),
    "author_key_digests": (["ab" * 48], ["0B" * 48], "snp.launch",
                           {"author_key_digest": b"\x0b" * 48, "key_info": 1}),
}  # fmt: skip


def test_every_row_and_parameter_is_tested_here():
    named = {parameter.name.removeprefix("snp.") for parameter in SNP_PARAMETERS}
    elsewhere = {"warned", "firmware_by"}  # below, and in tests/snp/test_google.py
    assert set(EFFECTS) | elsewhere == named
    rows = {row.id for row in SNP_ROWS}
    assert {row for _, _, row, _ in EFFECTS.values()} | {"snp.crl", "snp.firmware"} == rows


@pytest.mark.parametrize("name", EFFECTS)
def test_a_parameter_has_an_effect(amd, appraise, name):
    bad, good, row, fields = EFFECTS[name]
    raw = amd.report(**{**QUIET, **fields})
    for value, wanted in ((bad, 1), (good, 0)):
        policy = Policy.genuine().replace(snp={name: value})
        result = appraise(raw, policy=policy)
        assert exit_of(result, row) == wanted, result.finding(row).message
        assert result.exit_code == wanted


def test_what_is_passed_over_is_said(amd, appraise):
    policy = Policy.genuine().replace(snp={"warned": []})
    finding = appraise(amd.report(policy=0x30000), policy=policy).finding("snp.policy")
    assert "passes over" in finding.message
    assert finding.severity.value == "warns"


def test_an_author_key_that_is_not_enabled_says_nothing(amd, appraise):
    policy = Policy.genuine().replace(snp={"author_key_digests": ["0b" * 48]})
    raw = amd.report(**QUIET, author_key_digest=b"\x0b" * 48)
    assert exit_of(appraise(raw, policy=policy), "snp.launch") == 1


def test_mitigations_before_version_5(amd, appraise):
    policy = Policy.genuine().replace(snp={"mitigations": ["0"]})
    assert exit_of(appraise(policy=policy), "snp.platform") == 1


def test_nothing_demanded_is_never_reported_as_met(appraise):
    found = {f.id for f in appraise().findings}
    assert not found & {"snp.platform", "snp.launch"}


WRONG: tuple[dict[str, Any], ...] = (
    {"min_tcb": ["Milan"]}, {"min_tcb": ["Venice snp=1"]}, {"min_tcb": ["Milan snp=1000"]},
    {"min_tcb": ["Milan snp"]}, {"min_tcb": "Milan snp=1"}, {"vmpls": ["4"]}, {"vmpls": [0]},
    {"mitigations": ["64"]}, {"host_data": ["00"]}, {"min_abi": ["1"]}, {"refused": ["debug"]},
    {"min_firmware": ["1.55"]}, {"newest_fixes": 1}, {"unknown": []},
)  # fmt: skip


@pytest.mark.parametrize("section", WRONG, ids=str)
def test_a_wrong_value_is_refused(section):
    from teeverify.errors import ConfigurationError

    with pytest.raises(ConfigurationError):
        Policy.genuine().replace(snp=section)


class TestCode:
    def entry(self, **registers: str) -> list[dict[str, Any]]:
        return [{"name": "image v1", "source": "release", **registers}]

    def cases(self, amd: Amd) -> Iterator[tuple[list[dict[str, Any]], bytes, str, int]]:
        bare = amd.report(**QUIET, measurement=b"\1" * 48)
        loader = amd.report(**QUIET, measurement=b"\1" * 48, host_data=b"\2" * 32)
        right, data = "01" * 48, "02" * 32
        yield self.entry(measurement=right), bare, "proven", 0
        yield self.entry(measurement="03" * 48), bare, "failed", 1
        yield self.entry(measurement=right), loader, "absent", 0
        yield self.entry(measurement=right, host_data=data), loader, "proven", 0
        yield self.entry(measurement=right, host_data="00" * 32), loader, "failed", 1
        yield self.entry(host_data=data), loader, "absent", 0
        yield self.entry(mr_td=right), bare, "failed", 1

    def test_launch_digest(self, amd, appraise):
        for code, raw, outcome, wanted in self.cases(amd):
            result = appraise(raw, policy=Policy.genuine().replace(code=code))
            assert result.finding("code.identity").outcome.value == outcome
            assert exit_of(result, "code.identity") == wanted

    def test_identity(self, amd, appraise):
        raw = amd.report(**QUIET, id_key_digest=b"\1" * 48, author_key_digest=b"\2" * 48)
        (identity,) = appraise(raw).identities
        assert set(identity.registers) == {"measurement", "id_key_digest"}

    def test_pin(self, amd, appraise):
        raw = amd.report(**QUIET, measurement=b"\1" * 48, host_data=b"\2" * 32)
        seen = ReferenceValues.pin(appraise(raw).identities, seen="2026-09-01")
        (entry,) = seen.to_list()
        assert (entry["measurement"], entry["host_data"]) == (["01" * 48], ["02" * 32])
        finding = appraise(raw, expect=seen).finding("code.identity")
        assert finding.outcome.value == "asserted"


@pytest.mark.vectors
class TestRealCloud:
    """AWS: a VLEK, privilege level 1, and firmware that runs but is not committed."""

    AT = "2025-06-01T00:00:00Z"

    def appraise(self, vectors, policy, *, crl=True):
        folder = vectors / "snp/milan_v3_vlek_aws"
        given = [folder / "vlek.der", *([vectors / "snp/crl/milan_vcek.crl"] if crl else [])]
        verifier = Verifier(policy=policy, endorsements=given, offline=True)
        return verifier.appraise(folder / "report.bin", at=self.AT, scope="evidence")

    def test_genuine_with_a_warning(self, vectors):
        """AMD's list of that day was not recorded; a later one answers for it."""
        result = self.appraise(vectors, "genuine")
        assert (result.exit_code, result.tier) == (0, "warning")
        warned = {f.id for f in result.findings if f.severity.value == "warns"}
        assert warned == {"snp.policy", "snp.vmpl", "snp.csp", "snp.min-tcb", "kind"}
        assert "provisional" in result.finding("snp.policy").message
        assert "microcode" in result.finding("snp.min-tcb").message

    def test_without_any_list(self, vectors):
        assert self.appraise(vectors, "genuine", crl=False).exit_code == 3
        policy = Policy.genuine().replace(require={"snp.crl": "warn"})
        result = self.appraise(vectors, policy, crl=False)
        assert result.exit_code == 0
        assert result.finding("snp.crl").severity.value == "warns"

    def test_strict(self, vectors):
        result = self.appraise(vectors, "strict")
        assert result.exit_code == 1
        refused = {f.id for f in result.findings if f.exit_code}
        assert {"snp.policy", "snp.csp", "snp.min-tcb"} <= refused
