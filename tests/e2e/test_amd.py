"""Every row and cross case of the AMD vectors' manifest, through the command line."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.vectors

AT = "2026-09-01T00:00:00Z"  # when the recorded revocation lists were in force
IN_2025 = "2025-06-01T00:00:00Z"
TODAY = "2026-11-22T00:00:00Z"
NONCE = (
    "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938c"
    "a05475f8b46094de6b64270ea35d950f"
)
MILAN, GENOA, TURIN = (f"crl/{name}_vcek.crl" for name in ("milan", "genoa", "turin"))
M2, M3, G3, T5 = "milan_v2", "milan_v3", "genoa_v3", "turin_v5"
REPORT = "{}/report.bin".format
FORGED = "synthetic/forged_{}".format
AWS = "milan_v3_vlek_aws"

# What is given, with which endorsements and time: the exit code under genuine, and the check that
# decides it.
CASES = {
    "milan_v3": (REPORT(M3), [f"{M3}/vcek.pem", MILAN], AT, 0, ""),
    "genoa_v3": (REPORT(G3), [f"{G3}/vcek.pem", GENOA], AT, 0, ""),
    "turin_v5": (REPORT(T5), [f"{T5}/vcek.pem", TURIN], AT, 0, ""),
    "milan_v3 with its chain": (
        REPORT(M3), [f"{M3}/vcek.pem", "roots/ask_ark_milan.pem", MILAN], AT, 0, "",
    ),
    "genoa_v3 with its chain": (
        REPORT(G3), [f"{G3}/vcek.pem", "roots/ask_ark_genoa.pem", GENOA], AT, 0, "",
    ),
    "turin_v5 with its chain": (
        REPORT(T5), [f"{T5}/vcek.pem", "roots/ask_ark_turin_vcek.pem", TURIN], AT, 0, "",
    ),
    "a table": (REPORT(G3), ["synthetic/certtable_genoa.bin", GENOA], AT, 0, ""),
    "a table in mixed order": (
        REPORT(G3), ["synthetic/certtable_genoa_mixed_endian.bin", GENOA], AT, 0, "",
    ),
    "debug": (REPORT(M2), [f"{M2}/vcek.der", MILAN], AT, 2, "snp.debug-disabled"),
    "aws": (REPORT(AWS), [f"{AWS}/vlek.der", MILAN], IN_2025, 0, ""),
    "aws with its chain": (
        REPORT(AWS), [f"{AWS}/vlek.der", "roots/ask_ark_milan_vlek.pem", MILAN], IN_2025, 0, "",
    ),
    "aws today": (REPORT(AWS), [f"{AWS}/vlek.der", MILAN], AT, 3, "snp.leaf"),
    "aws without a list": (REPORT(AWS), [f"{AWS}/vlek.der"], IN_2025, 3, "snp.crl"),
    "aws with a VCEK": (REPORT(AWS), [f"{M3}/vcek.pem", MILAN], AT, 2, "snp.leaf"),
    "azure envelope, old firmware": (
        "azure/hcl_report_milan_v2.bin", ["azure/vcek_chain_milan_v2.pem", MILAN], AT,
        1, "snp.min-tcb",
    ),
    "a stale list": (REPORT(G3), [f"{G3}/vcek.pem", GENOA], TODAY, 3, "snp.crl"),
    "no certificate": (REPORT(G3), [GENOA], AT, 3, "snp.leaf"),
    "nothing at hand": (REPORT(G3), [], AT, 3, "snp.leaf"),
    "forged Genoa": (
        FORGED("genoa_report.bin"),
        [FORGED("genoa_vcek.der"), FORGED("genoa_ask_ark.pem"), GENOA], AT, 2, "snp.ca-chain",
    ),
    "forged Turin": (
        FORGED("turin_report.bin"),
        [FORGED("turin_vcek.der"), FORGED("turin_ask_ark.pem"), TURIN], AT, 2, "snp.ca-chain",
    ),
    "forged Genoa under the pinned CAs": (
        FORGED("genoa_report.bin"), [FORGED("genoa_vcek.der"), GENOA], AT, 2, "snp.leaf",
    ),
    "forged Turin under the pinned CAs": (
        FORGED("turin_report.bin"), [FORGED("turin_vcek.der"), TURIN], AT, 2, "snp.leaf",
    ),
    "forged Genoa with the genuine key": (
        FORGED("genoa_report.bin"), [f"{G3}/vcek.pem", GENOA], AT, 2, "snp.report-signature",
    ),
    "forged Turin with the genuine key": (
        FORGED("turin_report.bin"), [f"{T5}/vcek.pem", TURIN], AT, 2, "snp.report-signature",
    ),
    "a key of nobody": (REPORT(M3), ["negative/vcek-invalid-legacy.der", MILAN], AT, 2, "snp.leaf"),
    "a key of nobody, wrapped": (
        REPORT(M3), ["negative/vcek-invalid-new.der", MILAN], AT, 2, "snp.leaf",
    ),
    "Milan with Genoa's key": (REPORT(M3), [f"{G3}/vcek.pem", MILAN], AT, 2, "snp.leaf"),
    "Genoa with Milan's key": (REPORT(G3), [f"{M3}/vcek.pem", GENOA], AT, 2, "snp.leaf"),
    "another chip's key": (
        REPORT(M2), ["azure/vcek_chain_milan_v2.pem", MILAN], AT, 2, "snp.leaf-tcb",
    ),
    "another product's chain": (
        REPORT(G3), [f"{G3}/vcek.pem", "roots/ask_ark_milan.pem", GENOA], AT, 2, "snp.ca-chain",
    ),
    "another product's list": (REPORT(G3), [f"{G3}/vcek.pem", MILAN], AT, 3, "snp.crl"),
}  # fmt: skip


@pytest.fixture
def verify(cli, vectors):
    def run(source, given, at, *more):
        files = [part for name in given for part in ("--endorsements", vectors / "snp" / name)]
        return cli("verify", source, *files, "--for", "evidence", "--offline", "--at", at, "--json",
                   *more)  # fmt: skip

    return run


@pytest.mark.parametrize("name", CASES)
def test_row(verify, vectors, name):
    source, given, at, code, check = CASES[name]
    ran = verify(vectors / "snp" / source, given, at)
    assert ran.code == code, ran.out + ran.err
    if code:
        (finding,) = (f for f in ran.findings(check) if f["outcome"] != "proven")
        assert finding["message"]
    else:
        assert ran.json["tier"] == "warning"


@pytest.mark.parametrize(
    "table", ["bad_len_wrap", "bad_offset_in_header", "bad_offset_oob", "duplicate_vcek",
              "no_terminator"]
)  # fmt: skip
def test_malformed_table(verify, vectors, tmp_path, table):
    raw = (vectors / f"snp/synthetic/certtable_{table}.bin").read_bytes()
    ran = verify(vectors / "snp" / REPORT(G3), [f"synthetic/certtable_{table}.bin", GENOA], AT)
    assert (ran.code, ran.out) == (2, "")
    assert "snp.certificate-table" in ran.err
    # The same behind the report, as a guest gets it.
    whole = tmp_path / "extended.bin"
    whole.write_bytes((vectors / "snp" / REPORT(G3)).read_bytes() + raw)
    ran = verify(whole, [GENOA], AT)
    assert ran.code == 2
    if ran.out:
        assert ran.findings("snp.certificate-table")


@pytest.mark.parametrize("name", [M3, G3, T5])
def test_changed_report(verify, vectors, tmp_path, name):
    raw = (vectors / "snp" / REPORT(name)).read_bytes()
    crl = {M3: MILAN, G3: GENOA, T5: TURIN}[name]
    changed = {
        "one byte less": raw[:1183],
        "one byte more": raw + b"\0",
        "no signature": raw[:0x2A0] + bytes(512),
        "r and s swapped": raw[:0x2A0] + raw[0x2E8:0x330] + raw[0x2A0:0x2E8] + raw[0x330:],
        "claims a VLEK": raw[:0x48] + b"\x04" + raw[0x49:],
        "another measurement": raw[:0x90] + b"\0" + raw[0x91:],
    }
    for what, data in changed.items():
        file = tmp_path / "report.bin"
        file.write_bytes(data)
        ran = verify(file, [f"{name}/vcek.pem", crl], AT)
        assert ran.code == 2, (what, ran.out, ran.err)


class TestAzure:
    EVIDENCE = "azure/evidence_genoa_v3.json"

    def test_its_nonce(self, verify, vectors):
        ran = verify(vectors / "snp" / self.EVIDENCE, [GENOA], AT, "--nonce", NONCE)
        assert ran.code == 0, ran.out
        for check in ("azure.claims", "azure.quote", "azure.nonce", "azure.pcrs"):
            assert ran.findings(check)[0]["outcome"] == "proven"

    def test_another_nonce_and_none(self, verify, vectors):
        source = vectors / "snp" / self.EVIDENCE
        assert verify(source, [GENOA], AT, "--nonce", "00" * 32).code == 2
        ran = verify(source, [GENOA], AT)
        assert ran.code == 2
        assert ran.findings("azure.nonce")[0]["outcome"] == "failed"

    @pytest.mark.parametrize("part", ["quote.signature", "quote.message", "report", "quote.pcrs"])
    def test_one_bit(self, verify, vectors, tmp_path, part):
        form = json.loads((vectors / "snp" / self.EVIDENCE).read_bytes())
        head, _, tail = part.partition(".")
        values = form[head][tail] if tail else form[head]
        values = values[3] if part == "quote.pcrs" else values
        values[20 if tail else 0x20 + 0x90] ^= 1
        file = tmp_path / "evidence.json"
        file.write_text(json.dumps(form))
        assert verify(file, [GENOA], AT, "--nonce", NONCE).code == 2

    def test_the_quote_of_another_vm(self, verify, vectors, tmp_path):
        """The envelope of one machine, and a quote with the same nonce of another."""
        folder = vectors / "snp/azure"
        pcrs = json.loads((folder / "tpm_quote_milan_v2.json").read_bytes())["pcrs"]
        form = {
            "report": list((folder / "hcl_report_milan_v2.bin").read_bytes()),
            "vcek": (folder / "vcek_chain_milan_v2.pem").read_text(),
            "quote": {
                "message": list((folder / "tpm_quote_other.msg").read_bytes()),
                "signature": list((folder / "tpm_quote_other.sig").read_bytes()),
                "pcrs": [list(bytes.fromhex(pcr)) for pcr in pcrs],
            },
        }
        file = tmp_path / "evidence.json"
        file.write_text(json.dumps(form))
        ran = verify(file, [MILAN], AT, "--nonce", b"challenge".hex())
        assert ran.code == 2
        assert ran.findings("azure.quote")[0]["outcome"] == "failed"


def test_a_report_without_for_evidence(cli, vectors):
    """A bare report shows nothing about an answer, and says so."""
    folder = vectors / "snp"
    ran = cli("verify", folder / REPORT(G3), "--endorsements", folder / f"{G3}/vcek.pem",
              "--endorsements", folder / GENOA, "--offline", "--at", AT)  # fmt: skip
    assert ran.code == 1


def test_a_folder_of_endorsements(cli, vectors, tmp_path):
    """As people keep them: one folder."""
    for name in (f"{G3}/vcek.pem", GENOA, "roots/ask_ark_genoa.pem"):
        (tmp_path / name.replace("/", "_")).write_bytes((vectors / "snp" / name).read_bytes())
    ran = cli("verify", vectors / "snp" / REPORT(G3), "--endorsements", tmp_path, "--for",
              "evidence", "--offline", "--at", AT)  # fmt: skip
    assert ran.code == 0
    assert ran.line.startswith("Genuine, but")


def test_a_nonce_that_a_report_cannot_show(verify, vectors):
    """Not ignored: whoever gives a nonce believes afterwards that it was answered."""
    for policy in ("genuine", "strict"):
        ran = verify(vectors / "snp" / REPORT(G3), [f"{G3}/vcek.pem", GENOA], AT,
                     "--nonce", "11" * 32, "--policy", policy)  # fmt: skip
        assert ran.code == 2
        (finding,) = ran.findings("freshness.nonce")
        assert finding["outcome"] == "failed"
        assert finding["want"] == "11" * 32


@pytest.mark.parametrize(
    ("given", "at", "says"),
    [
        ([], AT, "the revocation list of ARK-Genoa is not at hand"),
        ([MILAN], AT, "Got only those of other CAs (1)"),
        ([GENOA], TODAY, "outdated at 2026-11-22"),
    ],
)
def test_why_there_is_no_list(cli, vectors, given, at, says):
    folder = vectors / "snp"
    files = [part for name in given for part in ("--endorsements", folder / name)]
    ran = cli("verify", folder / REPORT(G3), "--endorsements", folder / f"{G3}/vcek.pem", *files,
              "--for", "evidence", "--offline", "--at", at)  # fmt: skip
    assert ran.code == 3
    assert says in " ".join(ran.out.split())
