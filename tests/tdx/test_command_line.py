"""Every row of the vectors' MANIFEST and every synthetic case, through the command line."""

from __future__ import annotations

import json

import pytest

from teeverify.cli.main import main
from teeverify.clock import from_unix, show_time

from .test_vectors import SYNTHETIC_REFUSALS

pytestmark = pytest.mark.vectors

# Quote, endorsements, time, exit code, and the check that decides.
ROWS = (
    ("v4_b0c06f.quote.bin", "collateral_b0c06f_20250619.json", 1751624191, 0, ""),
    ("v4_b0c06f.quote.bin", "collateral_b0c06f_20250619.json", 1750328162, 3, "tdx.tcb-info"),
    ("v4_b0c06f.quote.bin", "collateral_b0c06f_20250619.json", 1752920164, 3, "tdx.pck-crl"),
    ("v4_b0c06f.quote.bin", "without its chain", 1792714008, 1, "tdx.tcb-status"),
    (
        "v4_b0c06f.quote.bin",
        "collateral_b0c06f_20261008.json",
        1792714008,
        2,
        "tdx.qe-report-signature",
    ),
    ("v4_b0c06f.quote.bin", "with the processor's list", 1751624191, 2, "tdx.pck-crl"),
    ("v4_b0c06f.quote.bin", "collateral_sgx_00a067_20250619.json", 1751624191, 2, "tdx.pck-crl"),
    ("v5ex_b0c06f.quote.bin", "collateral_b0c06f_20261008.json", 1792714008, 0, ""),
    ("v5ex_b0c06f.quote.bin", "collateral_b0c06f_20250619.json", 1751624191, 3, "tdx.pck-chain"),
    ("v5_90c06f.quote.bin", "collateral_90c06f_20260316.json", 1774995607, 0, ""),
    ("v5_90c06f.quote.bin", "pcs_raw_90c06f", 1774995607, 0, ""),
    ("v5_90c06f.quote.bin", "collateral_90c06f_20260218.json", 1772707803, 0, ""),
    ("v5_azure_90c06f.quote.bin", "collateral_90c06f_20260218.json", 1772707803, 2, "tdx.tcb"),
    ("v3_sgx_00a067.quote.bin", "collateral_sgx_00a067_20250619.json", 1751624924, 0, ""),
    (
        "v4_debug_50806f.quote.bin",
        "collateral_50806f_202306.json",
        1687939438,
        2,
        "tdx.debug-disabled",
    ),
    (
        "v4_debug_50806f.quote.bin",
        "collateral_50806f_20260316.json",
        1774995904,
        2,
        "tdx.debug-disabled",
    ),
    ("dstack_quote_report.json", "collateral_90c06f_20260316.json", 1774995607, 0, ""),
    ("dstack_quote_report.json", "collateral_90c06f_20260218.json", 1772707803, 0, ""),
    ("ccel/cos113.quote.bin", "collateral_b0c06f_20250619.json", 1751624191, 2, "tdx.fmspc"),
)


@pytest.fixture(scope="module")
def folder(vectors):
    return vectors / "tdx"


@pytest.fixture
def verify(capsys):
    """Run the command; give its exit code, and the checks that refuse or are missing."""

    def run(quote, endorsements, at, *more):
        words = ["verify", str(quote), "--for", "evidence", "--offline", "--json"]
        words += ["--at", show_time(from_unix(at)), "--endorsements", str(endorsements), *more]
        code = main(words)
        findings = json.loads(capsys.readouterr().out)["findings"]
        return code, {f["id"] for f in findings if f["severity"] == "refuses" and not _good(f)}

    return run


def _good(finding):
    return finding["outcome"] in ("proven", "asserted")


def changed(folder, kind):
    if kind == "without its chain":
        form = json.loads((folder / "collateral_b0c06f_20261008.json").read_text())
        del form["pck_certificate_chain"]
    else:
        form = json.loads((folder / "collateral_b0c06f_20250619.json").read_text())
        form["pck_crl"] = (folder / "pck_crl_processor_202506.der").read_bytes().hex()
    return json.dumps(form)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} at {row[2]}, {row[1]}")
def test_manifest(folder, tmp_path, verify, row):
    quote, endorsements, at, code, check = row
    path = folder / endorsements
    if endorsements.startswith("with"):
        path = tmp_path / "collateral.json"
        path.write_text(changed(folder, endorsements))
    found, refusing = verify(folder / quote, path, at)
    assert found == code
    assert check in refusing or not check


@pytest.fixture(scope="module")
def synthetic(folder):
    return json.loads((folder / "synthetic_cases.json").read_text())


@pytest.fixture
def case(synthetic, tmp_path, verify):
    """Run one synthetic case under its own root."""
    roots = tmp_path / "roots.pem"
    roots.write_text(synthetic["root_ca_pem"])

    def run(id, *more):
        found = next(one for one in synthetic["cases"] if one["id"] == id)
        quote, endorsements = tmp_path / "quote.bin", tmp_path / "collateral.json"
        quote.write_bytes(bytes.fromhex(found["quote"]))
        endorsements.write_text(json.dumps(found["collateral"]))
        named = "--unsafe-test-roots", str(roots)
        return verify(quote, endorsements, synthetic["now"], *named, *more)

    return run


def test_synthetic_cases(synthetic, case):
    for one in synthetic["cases"]:
        number, expected = one["id"], one["expected"]
        code, refusing = case(number)
        if expected["verdict"] == "reject":
            assert code == (3 if number in ("s059", "s083") else 2), one["name"]
            assert SYNTHETIC_REFUSALS[number][1] in refusing, one["name"]
        elif expected["verdict"] == "accept":
            current = expected["tcb_status"] == "UpToDate"
            assert (code, refusing) == ((0, set()) if current else (1, {"tdx.tcb-status"}))


def test_what_only_a_policy_refuses(case):
    """Debug is refused below any policy; a TD without SEPT_VE_DISABLE is usual in a cloud."""
    assert case("s007") == (2, {"tdx.debug-disabled"})
    assert case("s068") == (1, {"tdx.attributes"})
    assert case("s008") == (0, set())
    code, refusing = case("s008", "--policy", "strict")
    assert code != 0
    assert "tdx.attributes" in refusing
