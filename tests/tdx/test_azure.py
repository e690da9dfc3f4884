"""Azure TDs: the envelope beside the quote, and the virtual TPM's quote."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import pytest

from teeverify import UnsafeTestRoots, Verifier, tdx
from teeverify.appraisal import Outcome
from teeverify.appraisal.reference import CodeReference, ReferenceValues
from teeverify.cli.main import main
from teeverify.clock import UTC
from teeverify.errors import (
    BindingMismatch,
    MalformedEvidence,
    SignatureInvalid,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.simulator.azure import AzureTd
from teeverify.simulator.intel import Intel

from ..refusals import refused

AT = datetime(2026, 6, 10, tzinfo=UTC)
NONCE = b"n" * 32


@pytest.fixture(scope="module")
def intel():
    return Intel(at=AT)


@pytest.fixture(scope="module")
def vm(intel):
    return AzureTd(intel)


@pytest.fixture(scope="module")
def known(intel):
    return tdx.Endorsements.load(json.dumps(intel.collateral()))


@pytest.fixture
def verify(vm, intel, known):
    def run(hcl=None, *, claims=None, quote=None, message=None, signature=None, **asked):
        claims = vm.claims() if claims is None else claims
        envelope = tdx.parse_hcl_report(vm.hcl(claims) if hcl is None else hcl)
        quote = quote or intel.quote(report_data=vm.report_data(claims))
        roots = UnsafeTestRoots([intel.roots_pem()])
        proved = tdx.verify_quote(quote, known, at=AT, roots=roots)
        message = vm.message(NONCE) if message is None else message
        signature = vm.sign(message) if signature is None else signature
        asked = {"pcrs": vm.pcrs, "nonce": NONCE, **asked}
        return tdx.verify_vtpm(envelope, proved, message=message, signature=signature, **asked)

    return run


@pytest.fixture
def appraise(intel, known):
    def run(evidence, **asked):
        roots = UnsafeTestRoots([intel.roots_pem()])
        verifier = Verifier(roots=roots, endorsements=known, offline=True)
        asked = {"at": AT, "nonce": NONCE, **asked}
        return verifier.appraise(json.dumps(evidence).encode(), scope="evidence", **asked)

    return run


# --- in Python ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_type", [1, 2, 3])
def test_good(vm, intel, verify, hash_type):
    claims = vm.claims()
    quote = intel.quote(report_data=vm.report_data(claims, hash_type))
    found = verify(vm.hcl(claims, hash_type=hash_type), claims=claims, quote=quote)
    assert found.nonce == NONCE
    assert found.pcrs == dict(enumerate(vm.pcrs))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3}, {"size": 0}, {"request_type": 4}, {"status": 1}, {"data_size": 0},
        {"runtime_version": 2}, {"report_type": 2}, {"claims_size": 1}, {"hash_type": 4},
    ],
)  # fmt: skip
def test_the_envelope_has_one_form(vm, change):
    refused(
        MalformedEvidence, "azure.hcl", lambda: tdx.parse_hcl_report(vm.hcl(vm.claims(), **change))
    )


def test_an_envelope_of_amd_is_no_td(vm):
    amd = vm.hcl(vm.claims(), report_type=2)
    refused(MalformedEvidence, "azure.hcl", lambda: tdx.parse_hcl_report(amd))


def test_other_claims_than_those_that_are_bound(vm, intel, verify):
    claims = vm.claims()
    swapped = vm.hcl(vm.claims(more=1), report_data=vm.report_data(claims))
    refused(BindingMismatch, "azure.claims", lambda: verify(swapped, claims=claims))


def test_something_behind_the_hash(vm, intel, verify):
    claims = vm.claims()
    data = vm.report_data(claims)[:-1] + b"\x01"
    hcl = vm.hcl(claims, report_data=data)
    quote = intel.quote(report_data=data)
    refused(BindingMismatch, "azure.claims", lambda: verify(hcl, claims=claims, quote=quote))


def test_the_quote_of_another_boot(vm, intel, verify):
    refused(BindingMismatch, "azure.claims", lambda: verify(quote=intel.quote()))


def test_another_tpm(vm, intel, verify):
    other = AzureTd(intel)
    message = vm.message(NONCE)
    refused(SignatureInvalid, "azure.quote", lambda: verify(signature=other.sign(message)))


@pytest.mark.parametrize("nonce", [b"", b"m" * 32, NONCE[:-1]])
def test_another_nonce(vm, verify, nonce):
    refused(StaleEvidence, "azure.nonce", lambda: verify(message=vm.message(nonce)))
    refused(StaleEvidence, "azure.nonce", lambda: verify(nonce=nonce))


def test_other_pcrs(vm, verify):
    for pcrs in ((), vm.pcrs[:-1], (b"\xff" * 32, *vm.pcrs[1:])):
        refused(BindingMismatch, "azure.pcrs", lambda pcrs=pcrs: verify(pcrs=pcrs))
    for change in ({"bank": 4}, {"count": 16}):
        message = vm.message(NONCE, **change)
        refused(BindingMismatch, "azure.pcrs", lambda message=message: verify(message=message))


# --- as a source ----------------------------------------------------------------------------------


def outcome(result, id):
    return result.finding(id).outcome


def as_text(evidence):
    """The same in the agents' form since version 1."""
    quote = evidence["tpm_quote"]
    return {
        "version": 1,
        "tpm_quote": {
            **{name: bytes(quote[name]).hex() for name in ("message", "signature")},
            "pcrs": [bytes(pcr).hex() for pcr in quote["pcrs"]],
        },
        **{
            name: base64.urlsafe_b64encode(bytes(evidence[name])).decode()
            for name in ("hcl_report", "td_quote")
        },
    }


def test_evidence_of_a_td_as_text(vm, appraise):
    result = appraise(as_text(vm.evidence(NONCE)))
    assert result.exit_code == appraise(vm.evidence(NONCE)).exit_code == 0
    assert outcome(result, "azure.pcrs") is Outcome.PROVEN
    other = vm.intel.quote(report_data=b"x" * 64)
    wrong = appraise(as_text(vm.evidence(NONCE, td_quote=other)))
    assert outcome(wrong, "azure.claims") is Outcome.FAILED


def test_evidence_of_a_td(vm, appraise):
    result = appraise(vm.evidence(NONCE))
    for name in ("claims", "quote", "nonce", "pcrs"):
        assert outcome(result, f"azure.{name}") is Outcome.PROVEN
    assert outcome(result, "binding.report-data") is Outcome.PROVEN
    assert result.simulated


@pytest.mark.parametrize("nonce", [None, b"m" * 32])
def test_without_the_nonce_that_was_asked(vm, appraise, nonce):
    assert appraise(vm.evidence(NONCE), nonce=nonce).finding("azure.nonce").exit_code == 2


def test_the_quote_of_another_machine(vm, intel, appraise):
    other = intel.quote(report_data=bytes(range(64)))
    result = appraise(vm.evidence(NONCE, td_quote=other))
    assert outcome(result, "azure.claims") is Outcome.FAILED
    assert outcome(result, "binding.report-data") is Outcome.FAILED


def test_a_quote_that_is_not_genuine(vm, appraise):
    result = appraise(vm.evidence(NONCE, td_quote=Intel(at=AT).quote()))
    assert outcome(result, "azure.quote") is not Outcome.PROVEN
    assert result.exit_code == 2


@pytest.mark.parametrize("name", ["hcl_report", "td_quote", "tpm_quote"])
@pytest.mark.parametrize("value", [None, "x", [256], [-1], {}, [True]])
def test_malformed_members(vm, appraise, name, value):
    with pytest.raises(TeeVerifyError):
        appraise(vm.evidence(NONCE) | {name: value})


def test_pcrs_are_part_of_the_codes_identity(vm, appraise):
    evidence = vm.evidence(NONCE)
    td = tdx.parse_quote(bytes(evidence["td_quote"])).td
    whole = {"mr_td": td.mr_td, "rtmr0": td.rtmr0, "rtmr1": td.rtmr1, "rtmr2": td.rtmr2}
    whole |= {f"pcr{number}": value for number, value in enumerate(vm.pcrs)}

    def compared(registers):
        accepted = {name: (value.hex(),) for name, value in registers.items()}
        code = CodeReference(name="ours", source="release", registers=accepted)
        result = appraise(evidence, expect=ReferenceValues(entries=(code,)))
        return result.finding("code.identity").outcome

    assert compared(whole) is Outcome.PROVEN
    assert compared({name: whole[name] for name in whole if name != "pcr4"}) is Outcome.ABSENT
    assert compared(whole | {"pcr4": bytes(32)}) is Outcome.FAILED


def test_on_the_command_line(vm, intel, tmp_path, capsys):
    source, roots, endorsements = (tmp_path / n for n in ("azure.json", "roots.pem", "intel.json"))
    source.write_text(json.dumps(vm.evidence(NONCE)))
    roots.write_bytes(intel.roots_pem())
    endorsements.write_text(json.dumps(intel.collateral()))
    words = [
        "verify", str(source), "--for", "evidence", "--offline", "--at", AT.isoformat(),
        "--endorsements", str(endorsements), "--unsafe-test-roots", str(roots),
    ]  # fmt: skip
    assert main([*words, "--nonce", NONCE.hex()]) == 0
    assert capsys.readouterr().out.startswith("SIMULATED")
    assert main(words) == 2
    assert main([*words, "--nonce", "00" * 32]) == 2
