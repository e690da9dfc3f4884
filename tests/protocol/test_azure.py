"""Azure: the CPU's report is from boot and names the TPM's key; the TPM signed what binds ours."""

from __future__ import annotations

import base64
import json

import pytest

from teeverify import Verifier
from teeverify.appraisal.observation import Outcome
from teeverify.clock import now
from teeverify.errors import BindingMismatch, MalformedEvidence, TeeVerifyError
from teeverify.providers.teeverify import TEEVERIFY
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.amd import Amd
from teeverify.simulator.azure import AzureTd, AzureTee
from teeverify.simulator.tee import SimulatedQuote

from .conftest import NONCE, Server, read
from .test_attacks import appraised, roots_of


@pytest.fixture(scope="module")
def azure():
    made = Server(tee=AzureTee(gpus=2), flat=False)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _sound(azure):
    yield
    azure.tee.overrides = {}


def refused(body, *tees):
    result = appraised(body, roots_of(*tees))
    with pytest.raises(TeeVerifyError) as caught:
        result.require()
    return caught.value.id


def test_a_sound_machine(azure):
    result = appraised(azure.report().body, roots_of(azure.tee))
    result.require()
    found = {one.id: one for one in result.findings}
    proven = ("azure.claims", "azure.quote", "azure.pcrs", "binding.report-data", "freshness.nonce")
    for name in (*proven, "gpu.binding"):
        assert found[name].outcome is Outcome.PROVEN, name
    assert found["gpu.binding"].got == "mutual"
    assert "azure.nonce" not in found
    assert result.signer == azure.dialect.process.keys[0]
    (identity,) = result.identities
    assert {"mr_td", "pcr0", "pcr23"} <= set(identity.registers)


def test_another_nonce_than_ours(azure):
    result = appraised(azure.report().body, roots_of(azure.tee), nonce="ac" * 32)
    with pytest.raises(TeeVerifyError) as caught:
        result.require()
    assert caught.value.id == "freshness.nonce"


def signed_by_its_tpm(azure, nonce):
    message = azure.tee.td.message(nonce)
    azure.tee.overrides = {"message": message, "signature": azure.tee.td.sign(message)}


@pytest.mark.parametrize("nonce", [bytes(32), bytes.fromhex(NONCE), b"n", b"n" * 64])
def test_a_tpm_that_answers_something_else(azure, nonce):
    signed_by_its_tpm(azure, nonce)
    assert refused(azure.report().body, azure.tee) == "binding.report-data"


@pytest.mark.parametrize("nonce", [b"", bytes(65)])
def test_a_tpm_that_answers_no_nonce(azure, nonce):
    signed_by_its_tpm(azure, nonce)
    assert refused(azure.report().body, azure.tee) == "azure.nonce"


def test_the_tpm_of_another_machine(azure):
    other = AzureTd(azure.tee.intel)
    azure.tee.overrides = {"signature": other.sign(other.message(bytes(32)))}
    assert refused(azure.report().body, azure.tee) == "azure.quote"


def test_pcrs_that_were_not_quoted(azure):
    azure.tee.overrides = {"pcrs": (b"o" * 32, *azure.tee.td.pcrs[1:])}
    assert refused(azure.report().body, azure.tee) == "azure.pcrs"


def test_claims_that_the_cpu_does_not_bind(azure):
    claims = azure.tee.td.claims(more=1)
    azure.tee.overrides = {"hcl": azure.tee.td.hcl(claims)}
    assert refused(azure.report().body, azure.tee) == "azure.claims"


def test_a_debug_machine(azure):
    data = azure.tee.td.report_data(azure.tee.td.claims())
    azure.tee.overrides = {"td_quote": azure.tee.intel.quote(report_data=data, debug=True)}
    assert refused(azure.report().body, azure.tee) == "tdx.debug-disabled"


def test_another_intel(azure):
    body = azure.report().body
    assert refused(body, AzureTee()).startswith("tdx.")


def test_the_keys_of_another_process(azure):
    """All that a server shows, with another machine's evidence beside it."""
    other = Server(tee=AzureTee(gpus=2), flat=False)
    try:
        ours = json.loads(azure.report().body)
        theirs = json.loads(other.report().body)
        mixed = json.dumps({**theirs, "evidence": ours["evidence"],
                            "endorsements": {**theirs["endorsements"],
                                             "tdx": ours["endorsements"]["tdx"]}})  # fmt: skip
        assert refused(mixed.encode(), azure.tee, other.tee) == "binding.report-data"
    finally:
        other.close()


def changed(azure, **members):
    return json.dumps({**json.loads(azure.report().body), **members}).encode()


def test_evidence_under_another_platforms_name(azure):
    with pytest.raises(MalformedEvidence):
        read(changed(azure, platform="azure-snp"))
    assert refused(changed(azure, platform="tdx"), azure.tee) == "tdx.quote"
    bare = base64.b64encode(azure.tee.intel.quote(report_data=bytes(64))).decode()
    with pytest.raises(MalformedEvidence):
        read(changed(azure, evidence=bare))


def test_a_plain_quote_is_not_answered_by_a_tpm(azure):
    """The CPU's own report data is the paravisor's: it binds none of our keys."""
    evidence = json.loads(base64.b64decode(json.loads(azure.report().body)["evidence"]))
    quote = base64.b64encode(bytes(evidence["td_quote"])).decode()
    assert refused(changed(azure, platform="tdx", evidence=quote), azure.tee) in (
        "binding.report-data", "code.event-log",
    )  # fmt: skip


def test_a_binding_that_was_changed(azure):
    text = json.loads(azure.report(NONCE).body)["binding"]
    raw = bytearray(base64.urlsafe_b64decode(text + "=="))
    raw[50] ^= 1
    binding = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(BindingMismatch):
        read(changed(azure, binding=binding))


# --- on AMD's CPUs --------------------------------------------------------------------------------


class AzureOnAmd(AzureTee):
    """The same with AMD's report in the envelope."""

    platform = "azure-snp"

    def __init__(self):
        super().__init__(gpus=1)
        self.amd = Amd(at=now())

    def quote(self, report_data):
        claims = self.td.claims()
        envelope = bytearray(self.td.hcl(claims, report_type=2))
        envelope[32:1216] = self.amd.report(report_data=self.td.report_data(claims), policy=0x20000)
        found = json.loads(super().quote(report_data).quote)
        vcek = self.amd.chain_pem().decode()
        evidence = {"report": list(envelope), "quote": found["tpm_quote"], "vcek": vcek}
        return SimulatedQuote(
            quote=json.dumps(evidence).encode(), event_log=[], info={}, vm_config="{}"
        )


def test_a_machine_with_amds_cpu():
    tee = AzureOnAmd()
    server = Server(tee=tee, flat=False)
    try:
        body = server.report().body
        given = [tee.amd.endorsements(), TEEVERIFY.enclosed(body).nvidia]
        roots = UnsafeTestRoots([tee.roots_pem(), tee.amd.roots_pem()])
        verifier = Verifier(roots=roots, endorsements=given, offline=True)
        asked = {"dialect": "teeverify/1", "nonce": NONCE, "model": "default"}
        result = verifier.verify(body, **asked)
        assert result.signer == server.dialect.process.keys[0]
        found = {one.id: one.outcome for one in result.findings}
        assert found["binding.report-data"] is found["azure.claims"] is Outcome.PROVEN
        message = tee.td.message(bytes(32))
        tee.overrides = {"message": message, "signature": tee.td.sign(message)}
        with pytest.raises(TeeVerifyError) as caught:
            verifier.verify(server.report().body, **asked)
        assert caught.value.id == "binding.report-data"
    finally:
        server.close()
