"""Google's endorsement of firmware: what it proves, and everything that it must not pass for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from teeverify import snp
from teeverify.appraisal import Policy, ReferenceValues
from teeverify.client import Verifier
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.roots import UnsafeTestRoots
from teeverify.roots.google import GCE_TCB_ROOT
from teeverify.simulator.amd import certificate_table, pem
from teeverify.simulator.google import Google, message
from teeverify.snp.kds import firmware_questions

from ..refusals import refused
from .conftest import AT

MEASUREMENT = bytes(range(48))
OTHER = b"\x99" * 48


@pytest.fixture(scope="module")
def google():
    return Google(at=AT)


@pytest.fixture(scope="module")
def claims(forge):
    return forge.verify(forge.amd.report(measurement=MEASUREMENT))


@pytest.fixture(scope="module")
def verify(google, forge, claims):
    def run(raw=None, *, by=google, **options):
        raw = by.endorsement({1: OTHER, 4: MEASUREMENT}) if raw is None else raw
        roots = UnsafeTestRoots([forge.amd.roots_pem(), google.roots_pem()])
        given = {"at": AT, "certificates": by.certificates, "roots": roots, **options}
        return snp.verify_firmware(raw, claims, **given)

    return run


def test_good(verify, google):
    proved = verify()
    assert (proved.endorser, proved.vcpus, proved.svn) == ("Google", (4,), 3)
    assert proved.measurement == MEASUREMENT
    assert proved.made_at == AT - timedelta(days=30)
    assert proved.roots_kind == "simulated"
    assert verify(google.endorsement({2: MEASUREMENT, 8: MEASUREMENT})).vcpus == (2, 8)


def test_root_that_came_with_it(verify, google):
    raw = google.endorsement({4: MEASUREMENT}, chain=pem(google.root))
    assert verify(raw, certificates=())


def test_claims_are_sealed():
    with pytest.raises((ConfigurationError, TypeError)):
        snp.FirmwareClaims(
            endorser="Google", measurement=b"", vcpus=(), svn=0, uefi_sha384=b"", made_at=AT,
            expires_at=AT, roots_kind="embedded", anchor_sha256="", seal=None,
        )  # fmt: skip


class TestRefused:
    def test_other_firmware(self, verify, google):
        raw = google.endorsement({1: OTHER})
        refused(EndorsementInvalid, "google.measurement", lambda: verify(raw))
        none = google.endorsement({})
        refused(EndorsementInvalid, "google.measurement", lambda: verify(none))

    def test_no_root_at_hand(self, verify):
        error = refused(EndorsementUnavailable, "google.root", lambda: verify(certificates=()))
        assert GCE_TCB_ROOT.url in error.hint

    def test_self_made_root(self, verify):
        """Names are free: whoever makes CAs with Google's names endorses nothing."""
        stranger = Google(at=AT)
        refused(ChainInvalid, "google.root", lambda: verify(by=stranger))
        raw = stranger.endorsement({4: MEASUREMENT}, chain=pem(stranger.root))
        refused(ChainInvalid, "google.root", lambda: verify(raw, certificates=()))

    def test_under_the_embedded_roots(self, verify):
        error = refused(ChainInvalid, "google.root", lambda: verify(roots=None))
        assert GCE_TCB_ROOT.certificate_sha256 in error.want

    def test_signer_of_another(self, verify, google):
        stranger = Google(at=AT)
        raw = google.endorsement(
            {4: MEASUREMENT}, key=stranger.signer_key, certificate=stranger.signer
        )
        refused(SignatureInvalid, "google.chain", lambda: verify(raw))
        other_name = google.certificate(issuer_name="somebody")
        raw = google.endorsement({4: MEASUREMENT}, certificate=other_name)
        refused(ChainInvalid, "google.chain", lambda: verify(raw))

    @pytest.mark.parametrize(
        "changes",
        [
            {"ca": True},
            {"key_usage": ("key_cert_sign",)},
            {"key_usage": ("digital_signature", "key_cert_sign")},
            {"pss": False},
        ],
    )
    def test_certificate_of_another_form(self, verify, google, changes):
        raw = google.endorsement({4: MEASUREMENT}, certificate=google.certificate(**changes))
        refused(ChainInvalid, "google.chain", lambda: verify(raw))

    @pytest.mark.parametrize("days", [-400, 6 * 365])
    def test_dates(self, verify, days):
        moment = AT + timedelta(days=days)
        refused(EndorsementUnavailable, "google.chain", lambda: verify(at=moment))

    def test_root_that_is_no_ca(self, forge, claims):
        made = Google(at=AT, certificates={"root": {"ca": False}})
        roots = UnsafeTestRoots([forge.amd.roots_pem(), made.roots_pem()])
        raw = made.endorsement({4: MEASUREMENT})
        refused(
            ChainInvalid,
            "google.chain",
            lambda: snp.verify_firmware(
                raw, claims, at=AT, certificates=made.certificates, roots=roots
            ),
        )

    def test_signature(self, verify, google):
        good = google.endorsement({4: MEASUREMENT})
        for signature in (b"", b"\1" * 384, google.endorsement({4: OTHER})[-384:]):
            raw = google.endorsement({4: MEASUREMENT}, signature=signature)
            refused(SignatureInvalid, "google.signature", lambda raw=raw: verify(raw))
        wrong = google.endorsement({4: MEASUREMENT}, key=google.root_key)
        refused(SignatureInvalid, "google.signature", lambda: verify(wrong))
        assert verify(good)

    def test_built_by_hand(self, verify, google):
        """What counts are the bytes, not what somebody wrote into the structure."""
        from dataclasses import replace

        honest = snp.parse_firmware_endorsement(google.endorsement({4: OTHER}))
        forged = replace(honest, measurements={4: MEASUREMENT})
        refused(EndorsementInvalid, "google.measurement", lambda: verify(forged))

    def test_every_byte(self, verify, google):
        raw = google.endorsement({4: MEASUREMENT})
        for offset in range(len(raw)):
            changed = bytearray(raw)
            changed[offset] ^= 1 << offset % 8
            with pytest.raises(TeeVerifyError):
                verify(bytes(changed))


class TestForm:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\x0a",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\x05abc",
            message({1: b"", 2: b""}),
            message({1: b"\x08\x01", 2: b"x"}),
            message({1: b"x" * 10}),
            message({1: 5, 2: b"x"}),
            message({1: b"", 2: b"", 3: b""}),
            message({1: [b"", b""], 2: b""}),
            b"\x03\x04",
            b"\x00\x00",
            b"\x0a" + b"x" * (300 * 1024),
        ],
    )
    def test_malformed(self, raw):
        refused(
            MalformedEvidence, "google.endorsement", lambda: snp.parse_firmware_endorsement(raw)
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"sev_snp": None},
            {"sev_snp": 5},
            {"uefi_sha384": b"x"},
            {"made_at": message({1: 1 << 60})},
            {"certificate": [b"a", b"b"]},
            {"snp": {2: [message({1: 4, 2: b"short"})]}},
            {"snp": {2: [message({1: 4, 2: OTHER}), message({1: 4, 2: MEASUREMENT})]}},
            {"snp": {1: [1, 2]}},
        ],
    )
    def test_malformed_inside(self, google, changes):
        raw = google.endorsement({4: MEASUREMENT}, **changes)
        refused(
            MalformedEvidence, "google.endorsement", lambda: snp.parse_firmware_endorsement(raw)
        )

    def test_unknown_fields_of_what_is_signed_are_passed_over(self, google):
        """Newer endorsements say more: of Intel TDX, for example."""
        raw = google.endorsement({4: MEASUREMENT}, snp={9: b"new", 15: 7})
        assert snp.parse_firmware_endorsement(raw).measurements == {4: MEASUREMENT}

    def test_urls(self):
        endorsement, root = firmware_questions(MEASUREMENT)
        assert endorsement.url == (
            "https://storage.googleapis.com/gce_tcb_integrity/ovmf_x64_csm/sevsnp/"
            f"{MEASUREMENT.hex()}.binarypb"
        )
        assert root.url == "https://pki.goog/cloud_integrity/GCE-cc-tcb-root_1.crt"


class TestAppraisal:
    def appraise(self, google, forge, *given, policy="genuine", table=None, **options):
        raw = forge.amd.report(measurement=MEASUREMENT, policy=0x20000)
        if table is not None:
            raw += certificate_table(table)
        verifier = Verifier(
            policy=policy,
            roots=UnsafeTestRoots([forge.amd.roots_pem(), google.roots_pem()]),
            endorsements=[forge.amd.endorsements(), *given],
            offline=True,
        )
        return verifier.appraise(raw, at=AT, scope="evidence", **options)

    def write(self, google, folder, raw=None):
        folder.mkdir()
        (folder / "uefi.binarypb").write_bytes(raw or google.endorsement({4: MEASUREMENT}))
        (folder / "GCE-cc-tcb-root_1.crt").write_bytes(google.root)
        return folder

    def test_from_a_folder(self, google, forge, tmp_path):
        result = self.appraise(google, forge, self.write(google, tmp_path / "google"))
        assert result.exit_code == 0
        finding = result.finding("snp.firmware")
        assert finding.outcome.value == "proven"
        assert "endorsed by Google (version 3, 2026-08-02)" in finding.message
        assert "4 virtual CPUs" in finding.got
        # It says nothing of what the firmware boots.
        assert result.claims["code"].outcome.value == "absent"

    def test_from_the_hosts_table(self, google, forge):
        raw = google.endorsement({4: MEASUREMENT}, chain=pem(google.root))
        result = self.appraise(google, forge, table={"vcek": forge.amd.vcek, "firmware": raw})
        assert result.finding("snp.firmware").outcome.value == "proven"

    def test_absent(self, google, forge, tmp_path):
        result = self.appraise(google, forge)
        assert "snp.firmware" not in {f.id for f in result.findings}
        needed = Policy.genuine().replace(snp={"firmware_by": ["Google"]})
        result = self.appraise(google, forge, policy=needed)
        assert result.exit_code == 3
        assert "--firmware" in result.finding("snp.firmware").hint
        # Of other firmware: one folder may serve many machines.
        folder = self.write(google, tmp_path / "other", google.endorsement({4: OTHER}))
        assert self.appraise(google, forge, folder).exit_code == 0
        assert self.appraise(google, forge, folder, policy=needed).exit_code == 3
        folder = self.write(google, tmp_path / "google")
        assert self.appraise(google, forge, folder, policy=needed).exit_code == 0
        # Without the root's certificate it is not known what the endorsement is worth.
        (folder / "GCE-cc-tcb-root_1.crt").unlink()
        assert self.appraise(google, forge, folder).exit_code == 0
        assert self.appraise(google, forge, folder, policy=needed).exit_code == 3

    def test_wrong(self, google, forge, tmp_path):
        raw = google.endorsement({4: MEASUREMENT}, key=google.root_key)
        result = self.appraise(google, forge, self.write(google, tmp_path / "google", raw))
        assert result.exit_code == 2
        assert result.finding("google.signature").exit_code == 2

    def test_code_is_not_complete_with_it(self, google, forge, tmp_path):
        """Somebody lists the measurement: that of Google's firmware, whatever it boots."""
        listed = ReferenceValues.from_list(
            [{"name": "v1", "source": "release", "measurement": MEASUREMENT.hex()}]
        )
        assert self.appraise(google, forge, expect=listed).finding(
            "code.identity"
        ).outcome.value == ("proven")
        folder = self.write(google, tmp_path / "google")
        finding = self.appraise(google, forge, folder, expect=listed).finding("code.identity")
        assert finding.outcome.value == "absent"
        assert "what Google's firmware boots" in finding.message
