"""Intel's list of data sets: signed, in force, and which number is the standard one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from urllib.parse import quote as percent_encode

import pytest

from teeverify import tdx
from teeverify.clock import UTC
from teeverify.endorsements import Answer
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.intel import Intel

AT = datetime(2026, 6, 10, tzinfo=UTC)
CHECK = "tdx.evaluation-numbers"
URL = "https://api.trustedservices.intel.com/tdx/certification/v4/tcbevaluationdatanumbers"
HEADER = "tcb-evaluation-data-numbers-issuer-chain"


@pytest.fixture(scope="module")
def intel():
    return Intel(at=AT)


def answer(body, chain):
    headers = {} if chain is None else {HEADER: percent_encode(chain)}
    return Answer(url=URL, headers=headers, body=body)


@pytest.fixture
def verify(intel):
    def run(body=None, chain=None, *, at=AT, collateral=None, **members):
        made, its_chain = intel.evaluation_numbers(**members)
        listed = tdx.Endorsements.of(answer(body or made, its_chain if chain is None else chain))
        known = tdx.Endorsements.load(json.dumps(collateral or intel.collateral()))
        both = tdx.Endorsements.union(known, listed)
        roots = UnsafeTestRoots([intel.roots_pem()])
        return tdx.verify_evaluation_numbers(both, at=at, roots=roots)

    return run


def refused(kind, action, check=CHECK):
    with pytest.raises(TeeVerifyError) as caught:
        action()
    assert type(caught.value) is kind
    assert caught.value.id == check
    return caught.value


def test_the_standard_set_is_a_year_behind_the_newest(verify):
    found = verify()
    assert (found.standard, found.newest, found.tee) == (20, 21, "TDX")
    assert found.roots_kind == "simulated"


@pytest.mark.parametrize(("days", "standard"), [(364, 19), (365, 19), (378, 19), (379, 20)])
def test_a_set_is_demanded_two_weeks_after_its_year(verify, days, standard):
    events = {20: days, 19: 700}
    sets = [
        {
            "tcbEvaluationDataNumber": number,
            "tcbRecoveryEventDate": (AT - timedelta(days=ago)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for number, ago in events.items()
    ]
    assert verify(tcbEvalNumbers=sets).standard == standard
    assert verify(tcbEvalNumbers=sets[::-1]).standard == standard


def test_without_an_old_set_the_lowest_is_the_standard_one(verify):
    sets = [
        {"tcbEvaluationDataNumber": number, "tcbRecoveryEventDate": "2026-06-01T00:00:00Z"}
        for number in (30, 31)
    ]
    assert verify(tcbEvalNumbers=sets).standard == 30


def test_absent(intel):
    known = tdx.Endorsements.load(json.dumps(intel.collateral()))
    roots = UnsafeTestRoots([intel.roots_pem()])
    refused(
        EndorsementUnavailable,
        lambda: tdx.verify_evaluation_numbers(known, at=AT, roots=roots),
    )


def test_changed(verify, intel):
    body, _ = intel.evaluation_numbers()
    refused(SignatureInvalid, lambda: verify(body.replace(b":21,", b":22,")))


def test_without_its_chain(verify, intel):
    body, _ = intel.evaluation_numbers()
    listed = tdx.Endorsements.of(answer(body, None))
    known = tdx.Endorsements.load(json.dumps(intel.collateral()))
    both = tdx.Endorsements.union(known, listed)
    roots = UnsafeTestRoots([intel.roots_pem()])
    refused(EndorsementUnavailable, lambda: tdx.verify_evaluation_numbers(both, at=AT, roots=roots))


def test_signed_by_another_role(verify, intel):
    refused(ChainInvalid, lambda: verify(signer=intel.pck))


def test_signed_by_another_intel(verify):
    refused(SignatureInvalid, lambda: verify(signer=Intel(at=AT).signer))


def test_its_signer_is_revoked(verify, intel):
    refused(EndorsementInvalid, lambda: verify(collateral=intel.collateral(revoked=["signer"])))


@pytest.mark.parametrize("days", [-2, 30])
def test_outside_its_dates(verify, intel, days):
    lasting = intel.collateral(
        root_crl={"this_update": AT - timedelta(days=9), "next_update": AT + timedelta(days=90)}
    )
    refused(
        EndorsementUnavailable, lambda: verify(at=AT + timedelta(days=days), collateral=lasting)
    )


def test_of_sgx(verify):
    refused(EndorsementUnavailable, lambda: verify(id="SGX"))


@pytest.mark.parametrize(
    "members",
    [
        {"id": "QE"}, {"id": None}, {"version": 2}, {"version": None}, {"tcbEvalNumbers": []},
        {"tcbEvalNumbers": None}, {"issueDate": "yesterday"}, {"nextUpdate": None},
        {"tcbEvalNumbers": [{"tcbEvaluationDataNumber": 1}]},
        {"tcbEvalNumbers": [{"tcbRecoveryEventDate": "2026-06-01T00:00:00Z"}]},
        {"tcbEvalNumbers": 2 * [
            {"tcbEvaluationDataNumber": 1, "tcbRecoveryEventDate": "2026-06-01T00:00:00Z"}
        ]},
        {"tcbEvalNumbers": [
            {"tcbEvaluationDataNumber": -1, "tcbRecoveryEventDate": "2026-06-01T00:00:00Z"}
        ]},
    ],
)  # fmt: skip
def test_malformed(verify, members):
    refused(MalformedEvidence, lambda: verify(**members))


@pytest.mark.vectors
def test_the_real_list(vectors):
    """Of 2025-05-27: 17 was the standard set, as the collateral of those weeks says too."""
    folder = vectors / "tdx"
    recorded = json.loads((folder / "pcs_api_samples/tdx_tcb_eval_nums.json").read_text())
    body = recorded["tcb_evaluation_data_numbers_json"].encode()
    listed = tdx.Endorsements.of(answer(body, recorded["issuer_chain"]))
    known = tdx.Endorsements.load(folder / "collateral_b0c06f_20250619.json")
    both = tdx.Endorsements.union(known, listed)
    found = tdx.verify_evaluation_numbers(both, at="2025-06-20T00:00:00Z")
    assert (found.standard, found.newest) == (17, 19)
    refused(
        EndorsementUnavailable,
        lambda: tdx.verify_evaluation_numbers(both, at="2025-07-01T00:00:00Z"),
    )
