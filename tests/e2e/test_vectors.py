"""Recorded real evidence, through the command line: what the issue and the manifests say."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from datetime import timedelta

import pytest

from teeverify import Verifier, verify
from teeverify.client.sources import load_evidence
from teeverify.clock import parse_time
from teeverify.simulator.nras import FakeNras

pytestmark = pytest.mark.vectors

NEAR, VENICE = "nearcloud-20260629", "venice-20260610"
CHUTES = "chutes-20260629"
MANAGER = "model compose-manager"
QUOTES = {NEAR: ["gateway", "model", MANAGER], VENICE: ["model", MANAGER]}
FMSPCS = {"gateway": "b0c06f000000", "model": "90c06f000000", MANAGER: "90c06f000000"}


@pytest.fixture
def captures(vectors):
    return vectors / "endpoints/captures"


@pytest.fixture
def chats(vectors):
    return vectors / "endpoints/signed-chats"


def options(folder, *, request=True):
    names = {"--answer": "response.sse", "--signature": "signature.json"}
    if request:
        names["--request"] = "request.bin"
    return [word for flag, name in names.items() for word in (flag, folder / name)]


# --- the two recordings --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NEAR, VENICE])
def test_genuine(cli, captures, name):
    ran = cli("verify", captures / name, "--offline")
    assert ran.code == 0
    assert ran.line.startswith("Genuine, but ")
    for words in ("not said which code", "the time", "the nonce", "NRAS", "recorder's word"):
        assert words in ran.line
    assert "erified" not in ran.out
    assert ran.err == ""


@pytest.mark.parametrize("name", [NEAR, VENICE])
def test_strict(cli, captures, name):
    ran = cli("verify", captures / name, "--offline", "--policy", "strict")
    assert ran.code == 1
    assert ran.line.startswith("Refused by your policy (strict): genuine, but ")
    assert "not said which code" in ran.line


@pytest.mark.parametrize("name", [NEAR, VENICE])
def test_findings(cli, captures, name):
    ran = cli("verify", captures / name, "--offline", "--json")
    result = ran.json
    assert (result["schema"], result["tier"], result["satisfied"], result["simulated"]) == (
        "teeverify.result/1", "warning", True, False,
    )  # fmt: skip
    proven = {(f["id"], f["subject"]): f for f in result["findings"] if f["outcome"] == "proven"}
    for label in QUOTES[name]:
        status = proven["tdx.tcb-status", label]
        assert status["got"] == "UpToDate"
        assert FMSPCS[label] in status["message"]
        for check in ("tdx.quote-signature", "tdx.fmspc", "code.event-log", "binding.report-data"):
            assert (check, label) in proven
        log = proven["code.event-log", label]["message"]
        assert all(f"RTMR{number}" in log for number in range(4))
        if "manager" not in label:
            assert ("code.compose", label) in proven
    assert ("code.compose-manager", MANAGER) in proven
    assert ran.findings("gpu.required")[0]["got"] == "8 Hopper"
    checks = ("gpu.distinct", "gpu.nonce", "gpu.chain", "gpu.report-signature", "nras.devices")
    assert all((check, "model") in proven for check in checks)
    (measured,) = ran.findings("gpu.measurements")
    assert (measured["outcome"], measured["got"]) == ("asserted", "driver 570.172.08")
    rtmr3 = {m["rtmr3"] for m in result["machines"] if m["role"] != "gateway"}
    assert len(rtmr3) == 1
    nonces = {f["got"] for f in ran.findings("freshness.nonce")}
    manifest = json.loads((captures / name / "manifest.json").read_text())
    assert nonces == {manifest["nonce_hex"]}


def test_the_gateways_tls_key(cli, captures):
    (near,) = cli("verify", captures / NEAR, "--json").findings("endpoint.bound")
    (venice,) = cli("verify", captures / VENICE, "--json").findings("endpoint.bound")
    assert (near["subject"], near["outcome"], near["by"]) == ("gateway", "asserted", "the recorder")
    assert venice["outcome"] == "absent"


def test_ones_own_nonce_and_time(cli, captures):
    manifest = json.loads((captures / NEAR / "manifest.json").read_text())
    given = ("--nonce", manifest["nonce_hex"], "--at", manifest["captured_at"])
    ran = cli("verify", captures / NEAR, *given, "--json")
    assert ran.code == 0
    assert {f["outcome"] for f in ran.findings("freshness.nonce")} == {"proven"}
    assert ran.findings("time")[0]["outcome"] == "proven"
    assert "recorder's word" not in ran.json["summary"].replace("(NRAS) is the recorder's word", "")


@pytest.mark.parametrize("dialect", ["near", "near-direct", "venice", "dstack"])
@pytest.mark.parametrize("name", [NEAR, VENICE])
def test_another_dialect_than_its_own(cli, captures, name, dialect):
    """A layout follows from the dialect; under a wrong one nothing is bound."""
    own = {NEAR: {"near"}, VENICE: {"venice"}}[name]
    code = cli("verify", captures / name, "--dialect", dialect).code
    assert (code == 0) is (dialect in own)
    assert code in (0, 2)


# --- signed answers ------------------------------------------------------------------------------


def test_attested_eight_days_later(cli, chats, captures):
    arguments = ("verify", *options(chats / "near-docs-2026-06"), "--attestation",
                 captures / VENICE, "--offline")  # fmt: skip
    ran = cli(*arguments, "--json")
    assert ran.code == 1
    assert {f["outcome"] for f in ran.findings("answer.signature")} == {"proven"}
    assert {f["outcome"] for f in ran.findings("key.attested")} == {"proven"}
    assert ran.findings("answer.attested-later")[0]["got"] == "8 days"
    for days, code in ((7, 1), (8, 0), (14, 0)):
        ran = cli(*arguments, "--allow-attested-later", days, "--json")
        assert ran.code == code
        assert ran.json["tier"] == ("warning" if code == 0 else "contraindicated")
    assert "8 days after the answer" in ran.json["summary"]
    assert cli(*arguments, "--allow-attested-later", 14, "--policy", "strict").code == 1


@pytest.mark.parametrize("attestation", [None, NEAR, VENICE])
def test_a_good_signature_by_a_key_that_nothing_attests(cli, chats, captures, attestation):
    given = ["--attestation", captures / attestation] if attestation else []
    ran = cli("verify", *options(chats / "near-docs-2025-12"), *given, "--json")
    assert ran.code == 1
    assert {f["outcome"] for f in ran.findings("answer.signature")} == {"proven"}
    assert ran.findings("key.attested")[0]["outcome"] == "failed"


def test_another_signer_than_stated(cli, chats):
    folder = chats / "near-docs-2025-09-wrong-signer"
    ran = cli("verify", *options(folder, request=False), "--json")
    assert ran.code == 2
    (found,) = ran.findings("answer.signature")
    assert found["got"] == "0x7D5A20391452d3bb2c32B1a7C49B948c1D171Ee0"
    assert found["want"] == "0x1d58EE32e9eB327c074294A2b8320C47E33b9316"
    (request,) = ran.findings("request.bound")
    assert (request["outcome"], request["message"]) == (
        "absent", "The request was not given (--request).",
    )  # fmt: skip


def test_a_signature_alone(cli, chats):
    signature = chats / "phala-docs-signature-only/signature.json"
    ran = cli("verify", "--signature", signature, "--json")
    assert ran.code == 1
    assert ran.findings("answer.signature")[0]["outcome"] == "proven"
    assert ran.findings("response.hash-equal")[0]["outcome"] == "absent"


@pytest.mark.parametrize("file", ["response.sse", "request.bin"])
@pytest.mark.parametrize("change", [lambda raw: raw + b"\n", lambda raw: raw[:-1]])
def test_one_newline_more_or_less(cli, chats, captures, tmp_path, file, change):
    folder = tmp_path / "chat"
    folder.mkdir()
    for name in ("request.bin", "response.sse", "signature.json"):
        raw = (chats / "near-docs-2026-06" / name).read_bytes()
        (folder / name).write_bytes(change(raw) if name == file else raw)
    ran = cli("verify", *options(folder), "--attestation", captures / VENICE,
              "--allow-attested-later", 14)  # fmt: skip
    assert ran.code == 2
    what = "answer" if file == "response.sse" else "request"
    assert f"belongs to another {what}" in ran.line


def test_a_request_that_was_written_again(cli, chats, tmp_path):
    folder = chats / "near-docs-2025-12"
    compact = json.dumps(json.loads((folder / "request.bin").read_bytes()), separators=(",", ":"))
    (tmp_path / "request").write_text(compact)
    ran = cli("verify", *options(folder, request=False), "--request", tmp_path / "request")
    assert ran.code == 2
    assert "only in JSON layout" in ran.line


# --- what is refused -----------------------------------------------------------------------------


def test_another_nonce(cli, captures, copy):
    assert cli("verify", captures / NEAR, "--nonce", "00" * 32).code == 2
    for name in (NEAR, VENICE):
        ran = cli("verify", copy(captures / name).manifest(nonce_hex="11" * 32), "--json")
        assert ran.code == 2
        assert "failed" in {f["outcome"] for f in ran.findings("freshness.nonce")}


@pytest.mark.parametrize("day", ["2027-06-29", "2026-08-15", "2020-01-01"])
@pytest.mark.parametrize("name", [NEAR, VENICE])
def test_outside_the_dates_of_the_endorsements(cli, captures, name, day):
    ran = cli("verify", captures / name, "--at", f"{day}T02:06:57Z")
    assert ran.code == 3
    assert ran.line.startswith("Undecided: ")


def test_collateral_of_another_fmspc(cli, vectors, captures, copy):
    """What is given for a vendor replaces what was recorded: here nothing is left for this CPU."""
    other = vectors / "tdx/collateral_b0c06f_20250619.json"
    ran = cli("verify", captures / VENICE, "--endorsements", other)
    assert ran.code == 3
    folder = copy(captures / NEAR).folder
    ours, theirs = (next(folder.glob(f"{n}_*_tcb.body")) for n in ("0002", "0009"))
    ours.write_bytes(theirs.read_bytes())
    ran = cli("verify", folder, "--json")
    assert ran.code == 2
    failed = [f for f in ran.findings("tdx.fmspc") if f["outcome"] == "failed"]
    assert [(f["subject"], f["got"], f["want"]) for f in failed] == [
        ("model", FMSPCS["gateway"], FMSPCS["model"]),
        (MANAGER, FMSPCS["gateway"], FMSPCS["model"]),
    ]


@pytest.mark.parametrize(
    "exchange",
    ["_v4_tcb", "_qe_identity", "_pckcrl", "_intelsgxrootca.der", "_attest_gpu", "_jwks.json"],
)
def test_an_endorsement_that_was_not_recorded(cli, captures, copy, exchange):
    """Absent is undecided, never fine."""
    folder = copy(captures / VENICE).folder
    (body,) = folder.glob(f"*{exchange}.body")
    body.unlink()
    (folder / body.name.replace(".body", ".http.json")).unlink()
    ran = cli("verify", folder)
    assert ran.code == 3
    assert ran.line.startswith("Undecided: ")


@pytest.mark.parametrize("label", QUOTES[NEAR])
def test_one_flipped_byte_in_the_signed_region_of_any_quote(captures, label):
    """Sampled here; every byte in tests/tdx/test_flips.py."""
    evidence = load_evidence(captures / NEAR)
    verifier = Verifier(offline=True)
    for offset in (0, 7, 40, 64, 100, 184, 232, 376, 424, 520, 568, 600, 631):
        machines = []
        for machine in evidence.machines:
            quote = bytearray(machine.quote)
            if machine.label == label:
                quote[offset] ^= 1
            gpus = None if label != "model" else machine.gpus
            machines.append(dataclasses.replace(machine, quote=bytes(quote), gpus=gpus))
        result = verifier.appraise(dataclasses.replace(evidence, machines=tuple(machines)))
        assert result.exit_code == 2
        failed = {f.subject for f in result.findings if f.exit_code == 2}
        assert label in failed


def _entries(node):
    return json.loads(node["nvidia_payload"])


def test_gpus_of_the_other_recording(cli, captures, copy):
    near, venice = copy(captures / NEAR), copy(captures / VENICE)
    theirs = _entries(venice.node(venice.report()))["evidence_list"]

    def swap(node):
        payload = _entries(node)
        node["nvidia_payload"] = json.dumps({**payload, "evidence_list": theirs})

    ran = cli("verify", near.edit(swap), "--json")
    assert ran.code == 2
    assert ran.findings("gpu.nonce")[0]["outcome"] == "failed"


def test_one_gpu_twice(cli, captures, copy):
    def double(node):
        payload = _entries(node)
        payload["evidence_list"][7] = payload["evidence_list"][0]
        node["nvidia_payload"] = json.dumps(payload)

    ran = cli("verify", copy(captures / NEAR).edit(double), "--json")
    assert ran.code == 2
    assert ran.findings("gpu.distinct")[0]["outcome"] == "failed"


@pytest.mark.parametrize("index", range(8))
def test_seven_good_gpus_and_one_broken(cli, captures, copy, index):
    def damage(node):
        payload = _entries(node)
        entry = payload["evidence_list"][index]
        raw = bytearray(base64.b64decode(entry["evidence"]))
        raw[-200] ^= 1
        entry["evidence"] = base64.b64encode(raw).decode()
        node["nvidia_payload"] = json.dumps(payload)

    ran = cli("verify", copy(captures / NEAR).edit(damage), "--json")
    assert ran.code == 2
    assert ran.json["claims"]["gpu"]["outcome"] == "failed"
    assert f"[{index}]" in ran.json["summary"]


def test_fewer_gpus_than_nras_saw(cli, captures, copy):
    def drop(node):
        payload = _entries(node)
        payload["evidence_list"].pop()
        node["nvidia_payload"] = json.dumps(payload)

    assert cli("verify", copy(captures / NEAR).edit(drop)).code in (2, 3)


def test_a_jwks_of_ones_own(cli, captures, copy):
    recording = copy(captures / NEAR)
    evidence = _entries(recording.node(recording.report()))["evidence_list"]
    manifest = json.loads((recording.folder / "manifest.json").read_text())
    at = parse_time(manifest["captured_at"])
    answer, jwks = FakeNras().answer(evidence, manifest["nonce_hex"], at)
    (recorded,) = recording.folder.glob("*_attest_gpu.body")
    recorded.write_bytes(answer)
    (recorded,) = recording.folder.glob("*jwks.json.body")
    recorded.write_bytes(jwks)
    ran = cli("verify", recording.folder, "--json")
    assert ran.code == 2
    assert ran.findings("nras.key")[0]["outcome"] == "failed"


def test_under_test_roots_real_evidence_is_refused(cli, stage, captures):
    """Roots replace, they do not add."""
    ran = cli("verify", captures / NEAR, "--unsafe-test-roots", stage.roots_file)
    assert ran.code == 2
    assert ran.line.startswith("SIMULATED. Refused: ")


# --- bare parts ----------------------------------------------------------------------------------


def test_a_bare_quote(cli, vectors):
    quote = vectors / "tdx/v4_b0c06f.quote.bin"
    arguments = ("verify", quote, "--endorsements", vectors / "tdx/collateral_b0c06f_20250619.json",
                 "--at", "2025-07-04T10:16:31Z", "--offline")  # fmt: skip
    ran = cli(*arguments)
    assert ran.code == 1
    assert "--for evidence" in ran.line
    ran = cli(*arguments, "--for", "evidence")
    assert ran.code == 0
    assert ran.line.startswith("Genuine, but tied to nothing")
    assert cli(*arguments, "--for", "endpoint").code == 1
    assert cli(*arguments, "--for", "answer").code == 1
    assert cli(*arguments, "--for", "evidence", "--policy", "strict").code == 1


def test_an_old_quote_is_refused_by_policy(cli, vectors, tmp_path):
    collateral = json.loads((vectors / "tdx/collateral_b0c06f_20261008.json").read_text())
    del collateral["pck_certificate_chain"]
    (tmp_path / "collateral.json").write_text(json.dumps(collateral))
    quote = vectors / "tdx/v4_b0c06f.quote.bin"
    ran = cli("verify", quote, "--for", "evidence", "--endorsements", tmp_path / "collateral.json",
              "--at", "2026-10-23T00:06:48Z")  # fmt: skip
    assert ran.code == 1
    assert ran.line.startswith("Refused by your policy (genuine): ")
    for words in ("OutOfDate", "INTEL-SA-01192", "Only its operator can update it"):
        assert words in ran.line


def test_a_debug_quote(cli, vectors):
    ran = cli("verify", vectors / "tdx/v4_debug_50806f.quote.bin", "--for", "evidence",
              "--endorsements", vectors / "tdx/collateral_50806f_202306.json",
              "--at", "2023-06-20T00:00:00Z")  # fmt: skip
    assert ran.code == 2


# --- outside this process ------------------------------------------------------------------------


def test_as_a_process_of_its_own(captures):
    command = [sys.executable, "-m", "teeverify.cli.main", "verify", "--offline"]
    for arguments, code in (
        ([captures / NEAR], 0),
        ([captures / NEAR, captures / VENICE, captures / CHUTES], 2),
        ([captures / NEAR, "--policy", "strict"], 1),
        ([captures / NEAR, "--at", "2027-01-01"], 64),
        ([captures / NEAR, "--at", "2027-01-01T00:00:00Z"], 3),
        ([captures / NEAR, "--polisy", "strict"], 64),
        ([], 64),
    ):
        ran = subprocess.run([*command, *map(str, arguments)], capture_output=True, check=False)
        assert ran.returncode == code, ran.stderr
        assert bool(ran.stdout) is (code != 64)
        assert b"Traceback" not in ran.stderr


def test_from_python(captures):
    result = verify(captures / NEAR, offline=True)
    assert (result.satisfied, result.tier) == (True, "warning")
    assert result.expires_at - result.as_of <= timedelta(hours=1)
