"""Azure's envelope without a quote: what it binds, and the nonce in its user data."""

from __future__ import annotations

import pytest

from teeverify import snp
from teeverify.appraisal import ReferenceValues
from teeverify.client import Verifier
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence, StaleEvidence

from .conftest import AT
from .test_azure import NONCE, Vm, refused

USER_DATA = NONCE.hex().upper() + "00" * 32


@pytest.fixture(scope="module")
def vm(forge):
    return Vm(forge)


def verify(vm, raw, nonce=NONCE, *, report=None):
    envelope = snp.parse_hcl_report(raw)
    return snp.verify_hcl(envelope, vm.forge.verify(report or envelope.report), nonce=nonce)


def test_nonce_in_the_user_data(vm):
    raw = vm.hcl(vm.claims(**{"user-data": USER_DATA}))
    claims = verify(vm, raw)
    assert claims.nonce == NONCE
    assert claims.runtime_claims["user-data"] == USER_DATA
    assert verify(vm, raw, None).nonce is None


@pytest.mark.parametrize("size", [1, 64])
def test_sizes_of_nonces(vm, size):
    nonce = b"\x07" * size
    raw = vm.hcl(vm.claims(**{"user-data": nonce.ljust(64, b"\0").hex()}))
    assert verify(vm, raw, nonce).nonce == nonce


@pytest.mark.parametrize(
    ("user_data", "nonce"),
    [
        (None, NONCE),
        ("00" * 64, NONCE),
        ("00" * 64, b""),
        ("00" * 64, bytes(32)),  # what it is where nobody wrote anything
        (USER_DATA, NONCE[:-1]),
        (USER_DATA, NONCE + b"\1"),
        ("01" + USER_DATA[2:], NONCE),
        (USER_DATA, b"x" * 65),
    ],
)
def test_another_nonce(vm, user_data, nonce):
    claims = vm.claims() if user_data is None else vm.claims(**{"user-data": user_data})
    refused(StaleEvidence, "azure.nonce", lambda: verify(vm, vm.hcl(claims), nonce))


@pytest.mark.parametrize("user_data", ["", "zz" * 64, USER_DATA + "00", 5])
def test_user_data_of_another_form(vm, user_data):
    raw = vm.hcl(vm.claims(**{"user-data": user_data}))
    refused(MalformedEvidence, "azure.claims", lambda: verify(vm, raw))


def test_claims_that_the_report_does_not_bind(vm):
    """Whoever changes the user data to the nonce changes what the report binds."""
    old = vm.hcl(vm.claims(**{"user-data": "00" * 64}))
    new = vm.hcl(vm.claims(**{"user-data": USER_DATA}), report=snp.parse_hcl_report(old).report)
    for nonce in (NONCE, None):
        refused(BindingMismatch, "azure.claims", lambda nonce=nonce: verify(vm, new, nonce))


def test_sealed():
    with pytest.raises(ConfigurationError):
        snp.HclClaims(nonce=None, ak_sha256="", runtime_claims={}, seal=None)


class TestAppraisal:
    def appraise(self, vm, raw, **options):
        verifier = Verifier(
            roots=vm.forge.roots, endorsements=vm.forge.amd.endorsements(), offline=True
        )
        return verifier.appraise(raw, at=AT, scope="evidence", **options)

    def test_fresh(self, vm):
        raw = vm.hcl(vm.claims(**{"user-data": USER_DATA}))
        result = self.appraise(vm, raw, nonce=NONCE)
        assert result.exit_code == 0
        assert result.finding("azure.nonce").outcome.value == "proven"
        assert self.appraise(vm, raw, nonce=b"m" * 32).exit_code == 2

    def test_nobody_asked(self, vm):
        result = self.appraise(vm, vm.hcl())
        assert result.exit_code == 0
        assert "azure.nonce" not in {f.id for f in result.findings}
        assert result.finding("azure.claims").outcome.value == "proven"

    def test_changed_claims(self, vm):
        report = snp.parse_hcl_report(vm.hcl()).report
        raw = vm.hcl(vm.claims(**{"user-data": USER_DATA}), report=report)
        assert self.appraise(vm, raw).exit_code == 2

    def test_the_measurement_is_only_the_paravisors(self, vm):
        """What Azure's paravisor boots is in the PCRs, which an envelope alone does not have."""
        raw = vm.hcl()
        measurement = snp.parse_report(snp.parse_hcl_report(raw).report).measurement.hex()
        listed = ReferenceValues.from_list(
            [{"name": "v1", "source": "release", "measurement": measurement}]
        )
        finding = self.appraise(vm, raw, expect=listed).finding("code.identity")
        assert finding.outcome.value == "absent"
        assert "PCRs" in finding.message


@pytest.mark.vectors
def test_real_envelope(vectors):
    raw = (vectors / "snp/azure/hcl_report_milan_v2.bin").read_bytes()
    given = [
        vectors / "snp" / name for name in ("azure/vcek_chain_milan_v2.pem", "crl/milan_vcek.crl")
    ]
    envelope = snp.parse_hcl_report(raw)
    endorsements = snp.Endorsements.union(*map(snp.Endorsements.load, given))
    proved = snp.verify_report(envelope.report, endorsements, at=AT)
    assert snp.verify_hcl(envelope, proved, nonce=None).runtime_claims["user-data"] == "00" * 64
    refused(StaleEvidence, "azure.nonce", lambda: snp.verify_hcl(envelope, proved, nonce=NONCE))
