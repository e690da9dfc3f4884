"""The same forged evidence through dcap-qvl, an independent verifier. Where we differ, and why."""

from __future__ import annotations

import json

import pytest

from teeverify import tdx
from teeverify.errors import TeeVerifyError
from teeverify.simulator.intel import CORRUPTIBLE

dcap_qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")


def theirs(forge, raw, form):
    """What dcap-qvl says: a status, or ``None`` where it refuses."""
    collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(form))
    at = int(forge.at.timestamp())
    try:
        return dcap_qvl.verify_with_root_ca(raw, collateral, forge.intel.root.der, at).status
    except ValueError:
        return None


def ours(forge, raw, form):
    try:
        return str(forge.verify(raw, tdx.Endorsements.load(json.dumps(form))).tcb_status)
    except TeeVerifyError:
        return None


@pytest.mark.parametrize(
    ("version", "body"), [(3, "sgx"), (4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5ex")]
)
def test_it_reads_the_same_fields(forge, version, body):
    names = {field for field in tdx.TdReport._fields if field != "tee_tcb_svn"}
    values = {}
    if body != "sgx":
        base = tdx.parse_quote(forge.intel.quote(version=version, body=body)).td
        present = [name for name in sorted(names) if getattr(base, name) is not None]
        values = {
            name: bytes([number]) * len(getattr(base, name))
            for number, name in enumerate(present, 1)
        }
    raw = forge.intel.quote(version=version, body=body, padding=9, **values)
    quote, other = tdx.parse_quote(raw), dcap_qvl.parse_quote(raw)
    report = other.report
    renamed = {"mr_signer_seam": "mr_signer_seam", "rtmr0": "rt_mr0"}
    compared = 0
    for name in values:
        for candidate in (renamed.get(name, name), name.replace("rtmr", "rt_mr")):
            if hasattr(report, candidate):
                assert bytes(getattr(report, candidate)) == values[name], name
                compared += 1
                break
    if body != "sgx":
        assert compared >= 10
    assert bytes(report.report_data) == quote.report_data


@pytest.mark.parametrize(
    ("version", "body"), [(3, "sgx"), (4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5ex")]
)
@pytest.mark.parametrize("ca", ["platform", "processor"])
def test_it_accepts_what_we_accept(make_forge, version, body, ca):
    forge = make_forge(ca=ca)
    kinds = {"tcb_info": {"id": "SGX"}, "qe_identity": {"id": "QE"}} if body == "sgx" else {}
    raw, form = forge.intel.quote(version=version, body=body), forge.intel.collateral(**kinds)
    assert ours(forge, raw, form) == theirs(forge, raw, form) == "UpToDate"


@pytest.mark.parametrize(
    "overrides",
    [
        {part: status}
        for part in ("tcb_status", "module_status", "qe_status")
        for status in ("UpToDate", "OutOfDate", "Revoked")
    ]
    + [
        {"tcb_status": status, part: "OutOfDate"}
        for status in (
            "SWHardeningNeeded",
            "ConfigurationNeeded",
            "ConfigurationAndSWHardeningNeeded",
            "OutOfDateConfigurationNeeded",
        )
        for part in ("module_status", "qe_status")
    ],
    ids=str,
)
def test_it_converges_to_the_same_status(forge, overrides):
    raw, form = forge.intel.quote(), forge.intel.collateral(**overrides)
    assert ours(forge, raw, form) == theirs(forge, raw, form)


@pytest.mark.parametrize("part", CORRUPTIBLE)
def test_it_refuses_what_is_corrupt(forge, part):
    raw, form = forge.intel.quote(corrupt=part), forge.intel.collateral()
    assert ours(forge, raw, form) is theirs(forge, raw, form) is None


@pytest.mark.parametrize("role", ["root", "ca", "pck", "signer"])
def test_revocation(forge, role):
    raw, form = forge.intel.quote(), forge.intel.collateral(revoked=[role])
    assert ours(forge, raw, form) is None
    assert theirs(forge, raw, form) is None


# What dcap-qvl 0.7.0 lets pass, and we do not (nor does Intel's own library).
STRICTER = {
    "PCEID of another platform": {"collateral": {"tcb_info": {"pceId": "0001"}}},
    "tcbType 1": {"collateral": {"tcb_info": {"tcbType": 1}}},
    "QE identity version 3": {"collateral": {"qe_identity": {"version": 3}}},
}


@pytest.mark.parametrize("name", STRICTER)
def test_we_are_the_stricter(forge, name):
    raw, form = forge.intel.quote(), forge.intel.collateral(**STRICTER[name]["collateral"])
    assert ours(forge, raw, form) is None
    assert theirs(forge, raw, form) == "UpToDate"


def test_the_outer_certification_type_is_read(forge):
    raw = bytearray(forge.intel.quote())
    raw[764] = 5
    form = forge.intel.collateral()
    assert ours(forge, bytes(raw), form) is None
    assert theirs(forge, bytes(raw), form) == "UpToDate"


@pytest.mark.parametrize("role", ["pck"])
def test_roles_are_names(make_forge, role):
    forge = make_forge(certificates={role: {"common_name": "Something else"}})
    raw, form = forge.intel.quote(), forge.intel.collateral()
    assert ours(forge, raw, form) is None
    assert theirs(forge, raw, form) == "UpToDate"


def test_documents_signed_by_the_cpu_itself(forge):
    form = forge.intel.collateral()
    for name in ("tcb_info", "qe_identity"):
        form[f"{name}_issuer_chain"] = forge.intel.pck_chain().decode()
        form[f"{name}_signature"] = forge.intel.pck.sign_raw(form[name].encode()).hex()
    raw = forge.intel.quote()
    assert ours(forge, raw, form) is None
    assert theirs(forge, raw, form) == "UpToDate"


def test_it_does_not_sort_modules_and_enclaves(forge):
    levels = [
        {"tcb": {"isvsvn": svn}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}
        for svn, status in ((3, "OutOfDate"), (4, "UpToDate"))
    ]
    raw, form = forge.intel.quote(), forge.intel.collateral(qe_identity={"tcbLevels": levels})
    assert ours(forge, raw, form) == "UpToDate"
    assert theirs(forge, raw, form) == "OutOfDate"


@pytest.mark.parametrize("size", [0, 64])
def test_it_knows_one_size_of_auth_data(forge, size):
    raw, form = forge.intel.quote(quote={"qe_auth_data": bytes(size)}), forge.intel.collateral()
    assert ours(forge, raw, form) == "UpToDate"
    assert theirs(forge, raw, form) is None


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ("0000000000000000", "no SEPT_VE_DISABLE"),
        ("0000003000000000", "MIGRATABLE"),
        ("1000001000000000", "profiling"),
        ("0200001000000000", "reserved bit"),
    ],
)
def test_what_it_refuses_is_for_our_policy(forge, attributes, why):
    raw = forge.intel.quote(td_attributes=bytes.fromhex(attributes))
    form = forge.intel.collateral()
    assert ours(forge, raw, form) == "UpToDate", why
    assert theirs(forge, raw, form) is None, why
