"""Real quotes with Intel's real endorsements, and the synthetic cases: each row of the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from teeverify import tdx
from teeverify.clock import from_unix, parse_time
from teeverify.crypto.certificates import parse_certificate
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
)
from teeverify.roots import EMBEDDED, vendors

pytestmark = pytest.mark.vectors
SA_2026 = ("INTEL-SA-01192", "INTEL-SA-01245", "INTEL-SA-01312", "INTEL-SA-01313")
# Which error, with which check, each synthetic case that must be refused gives.
SYNTHETIC_REFUSALS = {
    "s001": (EndorsementInvalid, "tdx.fmspc"),
    "s002": (ChainInvalid, "tdx.tcb-info"),
    "s014": (TcbRejected, "tdx.module"),
    "s020": (TcbRejected, "tdx.module"),
    "s031": (TcbRejected, "tdx.tcb"),
    "s040": (TcbRejected, "tdx.tcb"),
    "s049": (BindingMismatch, "tdx.qe-identity-match"),
    "s054": (EndorsementInvalid, "tdx.pck-crl"),
    "s056": (EndorsementInvalid, "tdx.tcb-info"),
    "s059": (EndorsementUnavailable, "tdx.pck-chain"),
    "s070": (MalformedEvidence, "tdx.quote"),
    "s074": (MalformedEvidence, "tdx.quote"),
    "s076": (ChainInvalid, "tdx.qe-identity"),
    "s083": (EndorsementUnavailable, "tdx.tcb-info"),
}


@pytest.fixture(scope="module")
def folder(vectors) -> Path:
    return vectors / "tdx"


def read(folder: Path, quote: str) -> bytes:
    if quote == "dstack":
        report = json.loads((folder / "dstack_quote_report.json").read_text())
        return bytes.fromhex(report["quote"])
    return (folder / f"{quote}.quote.bin").read_bytes()


def load(folder: Path, collateral: str, *, own_chain: bool = False) -> tdx.Endorsements:
    form = json.loads((folder / f"collateral_{collateral}.json").read_text())
    if own_chain:
        form.pop("pck_certificate_chain")
    return tdx.Endorsements.load(json.dumps(form))


def verify(folder, quote, collateral, at, *, own_chain=False, **options):
    endorsements = load(folder, collateral, own_chain=own_chain)
    return tdx.verify_quote(read(folder, quote), endorsements, at=from_unix(at), **options)


@pytest.mark.parametrize(
    ("quote", "collateral", "at", "status", "advisories"),
    [
        ("v4_b0c06f", "b0c06f_20250619", 1751624191, "UpToDate", ()),
        ("v5ex_b0c06f", "b0c06f_20261008", 1792714008, "UpToDate", ()),
        ("v5_90c06f", "90c06f_20260316", 1774995607, "UpToDate", ()),
        ("v5_90c06f", "90c06f_20260218", 1772707803, "UpToDate", ()),
        ("dstack", "90c06f_20260316", 1774995607, "UpToDate", ()),
        ("dstack", "90c06f_20260218", 1772707803, "UpToDate", ()),
        (
            "v3_sgx_00a067",
            "sgx_00a067_20250619",
            1751624924,
            "ConfigurationAndSWHardeningNeeded",
            ("INTEL-SA-00289", "INTEL-SA-00615"),
        ),
    ],
)
def test_accepted(folder, quote, collateral, at, status, advisories):
    claims = verify(folder, quote, collateral, at)
    assert (claims.tcb_status, claims.advisory_ids) == (status, advisories)
    assert claims.roots_kind == "embedded"
    assert claims.anchor == "Intel SGX Root CA"


def test_an_old_machine_is_told_what_it_lacks(folder):
    claims = verify(folder, "v4_b0c06f", "b0c06f_20261008", 1792714008, own_chain=True)
    assert (claims.tcb_status, claims.advisory_ids) == ("OutOfDate", SA_2026)
    assert claims.tcb_info_number == 20
    gap = claims.tcb_gap
    assert gap.since == parse_time("2025-08-13T00:00:00Z")
    assert [(one.part, one.index, one.has, one.needs) for one in gap.missing] == [
        ("sgx", 0, 3, 4),
        ("sgx", 1, 3, 4),
        ("tdx", 2, 3, 4),
        ("module", None, 6, 11),
    ]
    assert gap.missing[0].label == "Early Microcode Update"


@pytest.mark.parametrize(
    ("quote", "collateral", "at", "error", "check"),
    [
        ("v4_b0c06f", "b0c06f_20250619", 1750328162, EndorsementUnavailable, "tdx.tcb-info"),
        ("v4_b0c06f", "b0c06f_20250619", 1752920164, EndorsementUnavailable, "tdx.pck-crl"),
        ("v4_b0c06f", "b0c06f_20261008", 1792714008, SignatureInvalid, "tdx.qe-report-signature"),
        ("v5ex_b0c06f", "b0c06f_20250619", 1751624191, EndorsementUnavailable, "tdx.pck-chain"),
        ("v5_azure_90c06f", "90c06f_20260218", 1772707803, TcbRejected, "tdx.tcb"),
        ("v4_debug_50806f", "50806f_202306", 1687939438, DebugEnabled, "tdx.debug-disabled"),
        ("v4_debug_50806f", "50806f_20260316", 1774995904, DebugEnabled, "tdx.debug-disabled"),
        ("v4_b0c06f", "sgx_00a067_20250619", 1751624924, EndorsementInvalid, "tdx.pck-crl"),
        ("v5_90c06f", "50806f_20260316", 1774995904, EndorsementInvalid, "tdx.fmspc"),
        ("v4_b0c06f", "90c06f_20260316", 1774995607, EndorsementInvalid, "tdx.fmspc"),
    ],
)
def test_refused(folder, quote, collateral, at, error, check):
    with pytest.raises(error) as caught:
        verify(folder, quote, collateral, at)
    assert type(caught.value) is error
    assert caught.value.id == check


@pytest.mark.parametrize(
    ("collateral", "at", "status"),
    [("50806f_202306", 1687939438, "UpToDate"), ("50806f_20260316", 1774995904, "OutOfDate")],
)
def test_the_debug_vm_verifies_only_when_told(folder, collateral, at, status):
    claims = verify(folder, "v4_debug_50806f", collateral, at, unsafe_allow_debug=True)
    assert claims.tcb_status == status
    assert claims.td_attributes.debug


@pytest.mark.parametrize(
    ("quote", "collateral", "first", "last"),
    [
        ("v4_b0c06f", "b0c06f_20250619", 1750329147, 1752919235),
        ("v5ex_b0c06f", "b0c06f_20261008", 1791419306, 1794008711),
        ("v5_90c06f", "90c06f_20260316", 1773700445, 1776290769),
        ("v5_90c06f", "90c06f_20260218", 1771412331, 1774003275),
        ("v3_sgx_00a067", "sgx_00a067_20250619", 1750330571, 1752919278),
        ("v4_debug_50806f", "50806f_202306", 1687077778, 1688801099),
        ("v4_debug_50806f", "50806f_20260316", 1773700445, 1776291363),
    ],
)
def test_windows(folder, quote, collateral, first, last):
    options = {"unsafe_allow_debug": "debug" in quote}
    for at in (first, (first + last) // 2, last):
        claims = verify(folder, quote, collateral, at, **options)
        assert claims.expires_at == from_unix(last)
        assert claims.issued_at == from_unix(first)
    for at in (first - 1, last + 1):
        with pytest.raises(EndorsementUnavailable):
            verify(folder, quote, collateral, at, **options)


def test_the_embedded_root_is_the_vendors(folder):
    der = (folder / "intel_sgx_root_ca.der").read_bytes()
    root = parse_certificate(der, id="test", what="root")
    (anchor,) = EMBEDDED.intel
    assert (root.subject, root.spki) == (anchor.subject, anchor.spki)
    assert hashlib.sha256(der).hexdigest() == vendors.INTEL_SGX_ROOT.certificate_sha256


def test_the_list_of_the_wrong_ca(folder):
    form = json.loads((folder / "collateral_b0c06f_20250619.json").read_text())
    form["pck_crl"] = (folder / "pck_crl_processor_202506.der").read_bytes().hex()
    with pytest.raises(EndorsementInvalid) as caught:
        tdx.verify_quote(
            read(folder, "v4_b0c06f"),
            tdx.Endorsements.load(json.dumps(form)),
            at=from_unix(1751624191),
        )
    assert caught.value.id == "tdx.pck-crl"


def test_raw_answers_as_plain_files(folder):
    endorsements = tdx.Endorsements.load(folder / "pcs_raw_90c06f")
    claims = tdx.verify_quote(read(folder, "v5_90c06f"), endorsements, at=from_unix(1774995607))
    assert claims.tcb_status == "UpToDate"


def test_reserialised_tcb_info(folder):
    form = json.loads((folder / "collateral_b0c06f_20250619.json").read_text())
    info = json.loads(form["tcb_info"])
    for options, accepted in (
        ({"separators": (",", ":")}, True),
        ({"separators": (",", ":"), "sort_keys": True}, False),
        ({}, False),
    ):
        form["tcb_info"] = json.dumps(info, **options)
        endorsements = tdx.Endorsements.load(json.dumps(form))
        quote, at = read(folder, "v4_b0c06f"), from_unix(1751624191)
        if accepted:
            assert tdx.verify_quote(quote, endorsements, at=at)
        else:
            with pytest.raises(SignatureInvalid):
                tdx.verify_quote(quote, endorsements, at=at)


def test_a_quote_of_an_unknown_platform_is_undecided(folder):
    quote = (folder / "ccel/cos113.quote.bin").read_bytes()
    endorsements = tdx.Endorsements.union(
        load(folder, "90c06f_20260316"), load(folder, "50806f_20260316")
    )
    with pytest.raises(EndorsementUnavailable, match="00806f050000") as caught:
        tdx.verify_quote(quote, endorsements, at=from_unix(1774995607))
    assert caught.value.id == "tdx.tcb-info"


# --- recorded endpoints ----------------------------------------------------------------------


def quotes_in(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in {"intel_quote", "quote"} and isinstance(inner, str):
                yield inner
            else:
                yield from quotes_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from quotes_in(inner)


def hex_quotes(folder: Path) -> set[bytes]:
    (path,) = folder.glob("0001_*.body")
    found = set(quotes_in(json.loads(path.read_text())))
    return {bytes.fromhex(text) for text in found if text.startswith(("0400", "0500"))}


@pytest.mark.parametrize(
    ("capture", "count", "fmspcs"),
    [
        ("nearcloud-20260629", 3, {"90c06f000000", "b0c06f000000"}),
        ("venice-20260610", 2, {"90c06f000000"}),
        ("nanogpt-20260610", 1, {"90c06f000000"}),
    ],
)
def test_captures(vectors, capture, count, fmspcs):
    folder = vectors / "endpoints/captures" / capture
    at = json.loads((folder / "manifest.json").read_text())["captured_at"]
    endorsements = tdx.Endorsements.load(folder)
    quotes = hex_quotes(folder)
    assert len(quotes) == count
    claims = [tdx.verify_quote(raw, endorsements, at=at) for raw in quotes]
    assert {one.fmspc.hex() for one in claims} == fmspcs
    assert {one.tcb_status for one in claims} == {"UpToDate"}


def test_the_endorsements_of_another_capture_do_not_help(vectors):
    captures = vectors / "endpoints/captures"
    at = json.loads((captures / "venice-20260610/manifest.json").read_text())["captured_at"]
    endorsements = tdx.Endorsements.load(captures / "venice-20260610")
    other = next(
        raw
        for raw in hex_quotes(captures / "nearcloud-20260629")
        if tdx.parse_quote(raw).td.tee_tcb_svn[2] == 3  # the machine of model b0c06f
    )
    with pytest.raises(EndorsementUnavailable) as caught:
        tdx.verify_quote(other, endorsements, at=at)
    assert caught.value.id == "tdx.tcb-info"


def test_a_capture_a_year_later_is_undecided(vectors):
    folder = vectors / "endpoints/captures/nearcloud-20260629"
    endorsements = tdx.Endorsements.load(folder)
    for raw in hex_quotes(folder):
        with pytest.raises(EndorsementUnavailable):
            tdx.verify_quote(raw, endorsements, at="2027-06-29T02:06:57Z")


# --- synthetic cases -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic(folder):
    return json.loads((folder / "synthetic_cases.json").read_text())


def run(synthetic, case):
    collateral = case["collateral"]
    text = collateral if isinstance(collateral, str) else json.dumps(collateral)
    return tdx.verify_quote(
        bytes.fromhex(case["quote"]),
        tdx.Endorsements.load(text),
        at=from_unix(synthetic["now"]),
        roots=[synthetic["root_ca_pem"]],
    )


def test_synthetic_cases(synthetic):
    verdicts = {case["id"]: case["expected"]["verdict"] for case in synthetic["cases"]}
    assert len(verdicts) == 29
    assert {id_ for id_, verdict in verdicts.items() if verdict == "reject"} == set(
        SYNTHETIC_REFUSALS
    )
    for case in synthetic["cases"]:
        expected = case["expected"]
        if expected["verdict"] == "reject":
            error, check = SYNTHETIC_REFUSALS[case["id"]]
            with pytest.raises(error) as caught:
                run(synthetic, case)
            assert (type(caught.value), caught.value.id) == (error, check), case["name"]
        elif expected.get("why") == "debug":
            with pytest.raises(DebugEnabled):
                run(synthetic, case)
        else:
            claims = run(synthetic, case)
            assert claims.tcb_status == expected["tcb_status"], case["name"]
            assert list(claims.advisory_ids) == expected.get("advisory_ids", [])
            assert claims.roots_kind == "custom"


def test_what_only_a_policy_can_refuse_is_shown(synthetic):
    cases = {case["id"]: case for case in synthetic["cases"]}
    assert not run(synthetic, cases["s008"]).td_attributes.sept_ve_disable
    assert any(run(synthetic, cases["s068"]).mr_service_td)


def test_synthetic_cases_mean_nothing_under_intels_root(synthetic):
    for case in synthetic["cases"]:
        with pytest.raises((EndorsementInvalid, MalformedEvidence, SignatureInvalid)):
            tdx.verify_quote(
                bytes.fromhex(case["quote"]),
                tdx.Endorsements.load(json.dumps(case["collateral"])),
                at=from_unix(synthetic["now"]),
            )
