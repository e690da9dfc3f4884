"""Providers whose answers carry no signature: through the command line and from Python."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from teeverify import Verifier
from teeverify.simulator.amd import AmdKeys
from teeverify.simulator.capture import Exchange, write_recording
from teeverify.simulator.channels import Channels

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=timezone.utc)
CHUTES, RESOLD = "chutes-20260629", "phalacloud-chutes-20260610"
ROUTER, ENCLAVE = "tinfoil-router-v3-20260629", "tinfoil-enclave-v3-20260629"


def refused(ran):
    return {f["id"] for f in ran.json["findings"] if f["severity"] == "refuses"}


@pytest.fixture
def policy(tmp_path):
    """A policy file."""

    def write(text):
        file = tmp_path / "policy.toml"
        file.write_text(text)
        return file

    return write


# --- forged --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def channels():
    made = Channels(at=AT, amd_keys=AmdKeys.new())
    assert made.amd
    return made


@pytest.fixture
def verify(cli, channels, tmp_path, policy):
    """Record what a provider shows, and verify it under the test roots."""
    (tmp_path / "roots.pem").write_bytes(channels.roots_pem())

    def run(shown, *arguments, nras=None, **manifest):
        folder = channels.capture(tmp_path / "capture", shown, nras=nras, **manifest)
        return cli("verify", folder, "--unsafe-test-roots", tmp_path / "roots.pem", "--dialect",
                   shown.dialect, "--offline", "--json", *arguments)  # fmt: skip

    return run


SHOWN = {
    "chutes": (lambda c: c.chutes(), 3, {"gpu.measurements"}),
    "chutes-resold": (lambda c: c.chutes_resold(), 2, {"binding.report-data", "gpu.binding"}),
    "tinfoil": (lambda c: c.tinfoil(), 3, {"gpu.measurements"}),
    "tinfoil-snp": (lambda c: c.tinfoil(platform="sev-snp"), 3, {"gpu.measurements"}),
    "tinfoil-v2": (lambda c: c.tinfoil_v2(), 1, {"gpu.required"}),
    "secretvm": (lambda c: c.secretvm(), 3, {"gpu.measurements"}),
    "nilcc": (lambda c: c.nilcc(), 1, {"gpu.required", "snp.vmpl"}),
    "panda": (lambda c: c.panda(), 1, {"gpu.required"}),
}


@pytest.mark.parametrize("name", SHOWN)
def test_under_genuine(verify, channels, name):
    """Whatever is right about them, ``genuine`` wants GPUs, and a word on their firmware."""
    make, code, checks = SHOWN[name]
    ran = verify(make(channels))
    assert ran.code == code
    assert refused(ran) >= checks
    assert ran.json["claims"]["answer"]["outcome"] == "absent"


def test_a_whole_recording(verify, channels):
    """With NVIDIA's word beside it: Tinfoil's GPUs answered our own nonce."""
    ran = verify(channels.tinfoil(), nras={})
    assert (ran.code, ran.json["tier"], ran.json["scope"]) == (0, "warning", "endpoint")
    assert verify(channels.tinfoil(), "--policy", "strict", nras={}).code == 1


def test_an_answer_beside_a_channel(verify, channels, tmp_path):
    """Nothing signs it: never an answer's verdict (receipt.md)."""
    (tmp_path / "answer").write_bytes(b'{"id":"1","choices":[]}')
    ran = verify(channels.tinfoil(), "--answer", tmp_path / "answer", nras={})
    assert ran.code in (1, 2)
    assert not ran.json["satisfied"]


def test_providers_lists_them_all(cli):
    ran = cli("providers")
    assert ran.code == 0
    for name in ("chutes", "tinfoil", "tinfoil-v2", "secretvm", "nilcc", "nilai", "panda"):
        assert f"\n{name} " in "\n" + ran.out
    assert "proves" in ran.out
    assert "cannot prove" in ran.out


def test_a_release_needs_bundle_and_tag(cli, tmp_path):
    (tmp_path / "bundle.json").write_text("{}")
    words = ("policy", "release", tmp_path / "bundle.json", "--repository", "a/b", "--workflow",
             "w.yml", "--tag", "v1")  # fmt: skip
    assert cli(*words, "--hardware", tmp_path / "bundle.json").code == 64
    assert cli(*words, "--hardware-tag", "v1").code == 64
    assert cli("policy", "release", tmp_path / "bundle.json").code == 64


# --- recorded: MANIFEST.md, row by row -----------------------------------------------------------


@pytest.fixture
def captures(vectors):
    return vectors / "endpoints/captures"


@pytest.mark.vectors
def test_chutes_as_recorded(cli, captures):
    """NVIDIA's service was asked with the raw nonce, and said no: that no refuses."""
    ran = cli("verify", captures / CHUTES, "--offline", "--json")
    assert ran.code == 2
    assert "nras.claims" in refused(ran)
    assert "4010 NONCE_NOT_MATCHING" in ran.json["summary"]


@pytest.mark.vectors
def test_chutes_instances(cli, captures, copy, policy):
    """One instance is good; the other's CPU has no recorded collateral, and does not pass."""
    folder = copy(captures / CHUTES).folder
    for file in folder.glob("*nras*"):
        file.unlink()
    ran = cli("verify", folder, "--offline", "--json")
    assert (ran.code, refused(ran)) == (3, {"gpu.measurements"})
    lenient = policy('[require]\n"gpu.measurements" = "note"\n')
    ran = cli("verify", folder, "--offline", "--json", "--policy", lenient)
    assert ran.code == 0
    good = {(f["id"], f["subject"]) for f in ran.json["findings"] if f["outcome"] == "proven"}
    for check in ("binding.report-data", "gpu.nonce", "gpu.report-signature", "tdx.tcb-status"):
        assert (check, "model[0] 3ff90a0d") in good
    (aside,) = ran.findings("nodes.set-aside")
    assert aside["subject"] == "model[1] e5dc50c8"
    assert aside["got"].startswith("tdx.")
    verifier = Verifier(offline=True, policy=str(lenient))
    from teeverify.client.sources import load_evidence

    evidence = load_evidence(folder)
    alone = [replace(m, node=None) for m in evidence.machines if m.node == 1]
    result = verifier.appraise(replace(evidence, machines=tuple(alone)))
    assert result.exit_code == 3
    assert "tdx.fmspc" in {f.id for f in result.findings if f.exit_code == 3} or "tdx.tcb-info" in {
        f.id for f in result.findings if f.exit_code == 3
    }


@pytest.mark.vectors
def test_chutes_through_a_reseller(cli, captures):
    """Phala's gateway chose the nonce: the answer is to nobody's question."""
    for dialect in ([], ["--dialect", "chutes-resold"]):
        ran = cli("verify", captures / RESOLD, "--offline", *dialect)
        assert ran.code == 2
        assert "names another nonce" in ran.line
        assert "aa8aa7cb" in ran.line
    manifest = json.loads((captures / RESOLD / "manifest.json").read_text())
    ran = cli("verify", captures / RESOLD, "--dialect", "chutes-resold", "--offline", "--json")
    assert {f["want"] for f in ran.findings("freshness.nonce")} == {manifest["nonce_hex"]}


@pytest.mark.vectors
def test_resold_instances_cannot_be_bound(cli, captures):
    """Even for the nonce that they do answer: half of report_data has nothing to compare with."""
    (body,) = (captures / RESOLD).glob("0001_*.body")
    own = json.loads(body.read_bytes())["nonce"]
    ran = cli("verify", captures / RESOLD, "--dialect", "chutes-resold", "--nonce", own,
              "--offline", "--json")  # fmt: skip
    assert ran.code == 2
    assert "binding.report-data" in refused(ran)
    assert "none to compare" in ran.json["summary"] or "nras" in ran.json["summary"].lower()
    assert {f["outcome"] for f in ran.findings("gpu.nonce")} == {"proven"}


@pytest.mark.vectors
def test_tinfoils_router(cli, captures, policy):
    """No list of AMD's was recorded: undecided, unless the user waives it by name."""
    ran = cli("verify", captures / ROUTER, "--offline", "--json")
    assert ran.code == 3
    assert refused(ran) == {"snp.crl", "gpu.required"}
    waived = policy('[gpu]\nrequired = false\n[require]\n"snp.crl" = "warn"\n')
    ran = cli("verify", captures / ROUTER, "--offline", "--json", "--policy", waived)
    assert (ran.code, ran.json["tier"]) == (0, "warning")
    proven = {f["id"] for f in ran.json["findings"] if f["outcome"] == "proven"}
    assert {"snp.report-signature", "binding.report-data", "encryption.key-bound"} <= proven
    (bound,) = ran.findings("endpoint.bound")
    assert (bound["outcome"], bound["got"][:8]) == ("asserted", "0b49e7c7")
    manifest = json.loads((captures / ROUTER / "manifest.json").read_text())
    assert {f["got"] for f in ran.findings("freshness.nonce")} == {manifest["nonce_hex"]}


@pytest.mark.vectors
def test_tinfoils_enclave(cli, captures):
    ran = cli("verify", captures / ENCLAVE, "--offline", "--json")
    assert (ran.code, ran.json["tier"]) == (0, "warning")
    assert ran.findings("tdx.tcb-status")[0]["got"] == "UpToDate"
    (link,) = ran.findings("gpu.binding")
    assert (link["outcome"], link["got"]) == ("proven", "hash-in-quote")
    assert ran.findings("gpu.measurements")[0]["got"] == "driver 595.71.05"
    assert ran.findings("gpu.required")[0]["got"] == "1 Hopper"
    assert cli("verify", captures / ENCLAVE, "--offline", "--nonce", "00" * 32).code == 2
    assert cli("verify", captures / ENCLAVE, "--offline", "--policy", "strict").code == 1


@pytest.mark.vectors
@pytest.mark.parametrize("name", [ROUTER, ENCLAVE])
def test_one_byte_of_a_document(cli, captures, copy, name):
    folder = copy(captures / name).folder
    (file,) = folder.glob("*tinfoil-attestation.body")
    raw = file.read_bytes()
    for place in (60, 120, 250, 400, 900, len(raw) - 40, len(raw) - 1):
        changed = bytearray(raw)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert cli("verify", folder, "--offline").code == 2


@pytest.mark.vectors
def test_a_release_as_a_policy(cli, captures, tmp_path):
    """``policy release`` prints what the enclave then equals, and another's release does not."""
    pytest.importorskip("sigstore", reason="the extra [sigstore] is not installed")
    (code,) = (captures / ENCLAVE).glob("0012_*.body")
    (hardware,) = (captures / ENCLAVE).glob("0015_*.body")
    (router,) = (captures / ROUTER).glob("0006_*.body")
    words = ("--workflow", ".github/workflows/tinfoil-release-publish.yml")
    firmware = ("--hardware", hardware, "--hardware-tag", "v0.0.35")
    ran = cli("policy", "release", code, "--repository", "tinfoilsh/confidential-gemma4-31b",
              *words, "--tag", "v0.0.18", *firmware)  # fmt: skip
    assert ran.code == 0
    (tmp_path / "release.toml").write_text(ran.out)
    ran = cli("verify", captures / ENCLAVE, "--offline", "--policy", tmp_path / "release.toml",
              "--json")  # fmt: skip
    assert (ran.code, ran.findings("code.identity")[0]["outcome"]) == (0, "proven")
    ran = cli("policy", "release", router, "--repository", "tinfoilsh/confidential-model-router",
              *words, "--tag", "v0.0.110", *firmware)  # fmt: skip
    (tmp_path / "release.toml").write_text(ran.out)
    ran = cli("verify", captures / ENCLAVE, "--offline", "--policy", tmp_path / "release.toml")
    assert ran.code == 1
    wrong = cli("policy", "release", router, "--repository", "tinfoilsh/confidential-gemma4-31b",
                *words, "--tag", "v0.0.110")  # fmt: skip
    assert wrong.code == 2


@pytest.mark.vectors
def test_tinfoils_bundle(cli, vectors, policy):
    bundle = vectors / "endpoints/tinfoil-v2/attestation-bundle.json"
    words = ("verify", bundle, "--dialect", "tinfoil-bundle", "--at", "2026-02-01T00:00:00Z",
             "--offline", "--json")  # fmt: skip
    ran = cli(*words)
    assert (ran.code, refused(ran)) == (3, {"snp.crl", "gpu.required"})
    waived = policy('[gpu]\nrequired = false\n[require]\n"snp.crl" = "warn"\n')
    ran = cli(*words, "--policy", waived)
    assert (ran.code, ran.json["tier"]) == (0, "warning")
    assert ran.json["machines"][0]["measurement"].startswith("09ef32ac")
    assert ran.findings("freshness.nonce")[0]["outcome"] == "absent"
    assert cli(*words, "--policy", waived, "--nonce", "00" * 32).code == 2
    later = [word if word != "2026-02-01T00:00:00Z" else "2026-04-23T00:00:00Z" for word in words]
    ran = cli(*later, "--policy", waived)
    assert (ran.code, refused(ran)) == (3, {"endpoint.certificate"})


@pytest.mark.vectors
def test_secretvm(cli, vectors, tmp_path):
    """The files name no TLS key, so half of report_data has nothing to compare with."""
    folder = vectors / "endpoints/secretvm"
    quote, gpus = ((folder / name).read_bytes() for name in ("cpu_quote.txt", "gpu_attest.txt"))
    raw = bytes.fromhex(quote.decode())
    exchanges = [
        Exchange(url="https://vm.example:29343/cpu", body=quote),
        Exchange(url="https://vm.example:29343/gpu", body=gpus),
    ]
    recorded = write_recording(tmp_path / "capture", exchanges, at=AT, manifest={})
    ran = cli("verify", recorded, "--dialect", "secretvm", "--offline", "--json")
    assert ran.code == 3  # nor is there collateral
    assert {f["outcome"] for f in ran.findings("gpu.nonce")} == {"proven"}
    nonce = json.loads(gpus)["nonce"]
    from teeverify.binding import Bound, verify_report_data
    from teeverify.tdx import parse_quote

    data = parse_quote(raw).report_data
    assert data[32:].hex() == nonce
    bound = Bound(tls_spki_sha256=data[:32], gpu_nonce=bytes.fromhex(nonce))
    assert verify_report_data("secretvm", data, bound)


@pytest.mark.vectors
def test_secretvm_on_amd(cli, vectors):
    """A report without GPUs: nothing of NVIDIA's, no key of the connection, level 1."""
    file = vectors / "endpoints/secretvm/amd_cpu_docker_check_quote.txt"
    report = base64.b64decode(file.read_bytes())
    assert len(report) == 1184
    ran = cli("verify", file, "--dialect", "secretvm", "--offline", "--json", "--at",
              "2026-06-29T00:00:00Z")  # fmt: skip
    assert ran.code in (2, 3)
    assert "snp.report" not in refused(ran)


@pytest.mark.vectors
def test_panda(cli, vectors, tmp_path):
    """Quote, key, log and configuration agree; of Intel's endorsements none was recorded."""
    folder = vectors / "endpoints/panda"
    root = "https://raw.example/testinprod-io/panda-vllm-proxy/main/deployments/20250715_1"
    exchanges = [
        Exchange(url=f"{root}_attestation.json", body=(folder / "attestation.json").read_bytes()),
        Exchange(url=f"{root}_compose.json", body=(folder / "compose.json").read_bytes()),
    ]
    at = datetime(2025, 7, 16, tzinfo=timezone.utc)
    recorded = write_recording(tmp_path / "capture", exchanges, at=at, manifest={})
    ran = cli("verify", recorded, "--dialect", "panda", "--offline", "--json")
    assert ran.code == 3
    assert "tdx.tcb-info" in refused(ran)
    from teeverify import tdx
    from teeverify.binding import verify_report_data
    from teeverify.client.sources import load_evidence

    (machine,) = load_evidence(recorded, dialect="panda").machines
    quote = tdx.parse_quote(machine.quote)
    assert verify_report_data("sha256-pubkey", quote.report_data, machine.commits)
    log = tdx.verify_event_log(machine.event_log, quote)
    assert not tdx.verify_app_compose(machine.app_compose, quote, log).absent


@pytest.mark.vectors
def test_pandas_second_opinion(vectors):
    """Intel's token says what the quote says, and has expired: nothing here rests on it."""
    import jwt

    from teeverify import tdx

    folder = vectors / "endpoints/panda"
    report = json.loads((folder / "attestation.json").read_bytes())
    listed = json.loads((folder / "trust-authority-certs.json").read_bytes())["keys"]
    (own,) = (each for each in listed if each["alg"] == "RS256")  # the same key, once an algorithm
    key = jwt.PyJWK(own)
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(report["token"], key.key, algorithms=["RS256"])
    claims = jwt.decode(
        report["token"], key.key, algorithms=["RS256"], options={"verify_exp": False}
    )
    data = tdx.parse_quote(bytes.fromhex(report["quote"])).report_data
    assert claims["tdx"]["tdx_report_data"] == data.hex()


@pytest.mark.vectors
def test_the_ohttp_key_that_this_quote_does_not_bind(cli, captures):
    """NEAR's ed25519 report binds its OHTTP keys; Venice's ecdsa report does not bind its own."""
    near = cli("verify", captures / "nearcloud-20260629", "--offline", "--json")
    assert {(f["subject"], f["outcome"]) for f in near.findings("encryption.key-bound")} == {
        ("gateway", "proven"),
        ("model", "proven"),
    }
    venice = cli("verify", captures / "venice-20260610", "--offline", "--json")
    (found,) = venice.findings("encryption.key-bound")
    assert (found["outcome"], found["got"][:8]) == ("absent", "d0aa20bc")
    assert "does not bind" in found["message"]
