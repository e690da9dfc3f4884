"""What the issue lists, on forged evidence and through the command line."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from teeverify.simulator.dstack import Dstack
from teeverify.simulator.endpoint import Endpoint
from teeverify.simulator.intel import Intel, write_capture
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.machine import SimulatedMachine
from teeverify.simulator.nvidia import Nvidia

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=timezone.utc)


@pytest.fixture
def verify(cli, stage):
    """``teeverify verify`` under the test roots."""

    def run(source, *arguments):
        given = [] if source is None else [source]
        return cli("verify", *given, "--unsafe-test-roots", stage.roots_file, *arguments)

    return run


@pytest.fixture
def files(tmp_path):
    """The parts of a signed answer as files and flags."""

    def write(parts):
        words = []
        for name, raw in parts.items():
            file = tmp_path / f"{name}.bin"
            file.write_bytes(raw)
            words += [f"--{name}", file]
        return words

    return write


def failed(ran, code):
    """The checks that asked for this exit code."""
    assert ran.code == code
    return {f["id"] for f in ran.json["findings"] if f["severity"] == "refuses"}


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["near", "venice"])
@pytest.mark.parametrize("algorithm", ["ecdsa", "ed25519"])
def test_genuine(cli, tmp_path, provider, algorithm):
    endpoint = Endpoint(at=AT, gpus=1, algorithm=algorithm)
    (tmp_path / "roots.pem").write_bytes(endpoint.roots_pem())
    folder = endpoint.capture(tmp_path / "capture", provider=provider)
    ran = cli("verify", folder, "--unsafe-test-roots", tmp_path / "roots.pem")
    assert ran.code == 0
    assert ran.line.startswith("SIMULATED. ")
    assert "Genuine, but " in ran.line


@pytest.mark.parametrize("model", [None, "simulated/tiny-1"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_signed_answer(verify, stage, files, stream, model):
    parts = stage.signed(answer=stage.endpoint.answer(stream=stream), model=model)
    ran = verify(stage.good, *files(parts), "--json")
    assert ran.code == 0
    assert (ran.json["scope"], ran.json["tier"]) == ("answer", "warning")
    assert ran.json["signer"]["address"] == str(stage.endpoint.model.key.key)


def test_the_evidence_may_be_named_either_way(verify, stage, files):
    parts = files(stage.signed())
    assert verify(None, "--attestation", stage.good, *parts).code == 0
    ran = verify(stage.good, "--attestation", stage.good, *parts)
    assert (ran.code, ran.out) == (64, "")


def test_a_report_that_was_saved_without_its_url(verify, stage, tmp_path):
    """The caller names the dialect; then no option was requested, so no TLS key is bound."""
    endpoint = stage.endpoint
    file = tmp_path / "report.json"
    file.write_text(json.dumps(endpoint.model_report()))
    given = ("--endorsements", stage.good, "--at", "2026-06-29T02:06:57Z")
    assert verify(file, *given).code == 2
    assert verify(file, *given, "--dialect", "dstack").code == 0
    assert verify(file, *given, "--dialect", "near").code == 2
    assert verify(file, *given, "--dialect", "dstak").code == 64
    file.write_text(json.dumps(endpoint.model_report(tls=True)))
    assert verify(file, *given, "--dialect", "dstack").code == 2


# --- roots ---------------------------------------------------------------------------------------


def test_without_the_test_roots(cli, stage):
    ran = cli("verify", stage.good, "--json")
    assert failed(ran, 2)
    assert (ran.json["simulated"], ran.json["schema"]) == (False, "teeverify.result/1")


def test_the_roots_of_another_run(cli, stage, tmp_path):
    other = tmp_path / "roots.pem"
    other.write_bytes(Intel(at=AT).roots_pem() + Nvidia().roots_pem())
    assert cli("verify", stage.good, "--unsafe-test-roots", other).code == 2


@pytest.mark.parametrize("mine", ["intel", "nvidia", "nras"])
def test_one_chain_to_a_root_of_ones_own(cli, stage, tmp_path, mine):
    """Every vendor's chain must lead to a root that was given."""
    endpoint = stage.endpoint
    roots = {
        "intel": endpoint.intel.roots_pem(),
        "nvidia": endpoint.nvidia.root.pem,
        "nras": endpoint.nvidia.nras.intermediate.pem,
    }
    file = tmp_path / "roots.pem"
    file.write_bytes(b"".join(pem for vendor, pem in roots.items() if vendor != mine))
    assert cli("verify", stage.good, "--unsafe-test-roots", file).code == 2


@pytest.mark.parametrize(
    "raw", [b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAA\n", b"0" * 70_000]
)
def test_a_file_that_holds_no_roots(cli, stage, tmp_path, raw):
    file = tmp_path / "roots.pem"
    file.write_bytes(raw)
    ran = cli("verify", stage.good, "--unsafe-test-roots", file)
    assert (ran.code, ran.out) == (64, "")


@pytest.mark.parametrize(
    "name",
    ["TEEVERIFY_UNSAFE_TEST_ROOTS", "TEEVERIFY_TEST_ROOTS", "TEEVERIFY_ROOTS", "SSL_CERT_FILE",
     "REQUESTS_CA_BUNDLE", "TEEVERIFY_SIMULATED", "TEEVERIFY_ALLOW_DEBUG"],
)  # fmt: skip
def test_no_environment_variable_makes_it_pass(cli, stage, monkeypatch, name):
    for value in (str(stage.roots_file), "1", "true"):
        monkeypatch.setenv(name, value)
        assert cli("verify", stage.good).code == 2


# --- the list ------------------------------------------------------------------------------------


def test_collateral_of_another_fmspc(verify, stage):
    """The TCB info of another platform, served as the answer about this one."""
    intel = stage.endpoint.intel
    other = intel.collateral(tcb_info={"fmspc": "b0c06f000000"})
    recorded = stage.capture()
    write_capture(recorded, other, first=10)
    for file in recorded.glob("*tcb*.http.json"):
        file.write_text(file.read_text().replace("b0c06f000000", "90c06f000000"))
    assert "tdx.fmspc" in failed(verify(recorded, "--json"), 2)


def test_collateral_of_another_intel(verify, stage):
    ran = verify(stage.capture(collateral=Intel(at=AT).collateral()), "--json")
    assert "tdx.root-crl" in failed(ran, 2)


def test_another_nonce(verify, stage):
    assert "freshness.nonce" in failed(verify(stage.good, "--nonce", "00" * 32, "--json"), 2)
    ran = verify(stage.capture(manifest={"nonce_hex": "00" * 32}), "--json")
    assert {"freshness.nonce", "gpu.nonce"} <= failed(ran, 2)


def test_a_year_later(verify, stage):
    ran = verify(stage.good, "--at", "2027-06-29T02:06:57Z", "--json")
    assert "tdx.root-crl" in failed(ran, 3)
    assert (ran.json["tier"], ran.json["satisfied"]) == ("none", False)


@pytest.mark.parametrize("days", [-400, -2, 31, 4000])
def test_outside_the_dates(verify, stage, days):
    at = (stage.endpoint.at + timedelta(days=days)).isoformat()
    assert verify(stage.good, "--at", at).code == 3


def test_one_gpu_twice(verify, stage):
    endpoint = stage.endpoint
    entry = endpoint.nvidia.gpu(0).evidence(endpoint.nonce)
    payload = json.dumps({"evidence_list": [entry, entry]})
    assert "gpu.distinct" in failed(
        verify(stage.near(model={"nvidia_payload": payload}), "--json"), 2
    )


def test_one_gpu_in_two_machines(verify, stage):
    """T21: listed once in each, and counted as two."""
    endpoint = stage.endpoint
    report = endpoint.near_report()
    node = SimulatedMachine(intel=endpoint.intel)
    payload = endpoint.nvidia.payload(endpoint.nonce, 2)
    more = node.report(
        endpoint.nonce, tls=True, model_name="simulated/tiny-1", nvidia_payload=payload
    )
    report["model_attestations"].append(more)
    ran = verify(stage.capture(report=report), "--json")
    assert failed(ran, 2) == {"gpu.distinct", "code.compose-manager"}
    report["model_attestations"][1] = report["model_attestations"][0]
    assert "gpu.distinct" in failed(verify(stage.capture(report=report), "--json"), 2)


def test_each_machine_that_runs_a_model_needs_a_gpu(verify, stage):
    """A node without one is set aside, and its signatures count for nothing."""
    endpoint = stage.endpoint
    report = endpoint.near_report()
    node = SimulatedMachine(intel=endpoint.intel)
    manager = endpoint.compose_manager(machine=node)
    report["model_attestations"].append(
        node.report(
            endpoint.nonce,
            tls=True,
            model_name="simulated/tiny-1",
            compose_manager_attestation=manager,
        )
    )
    folder = stage.capture(report=report)
    ran = verify(folder, "--json")
    assert ran.code == 0
    (aside,) = ran.findings("nodes.set-aside")
    assert (aside["subject"], aside["got"]) == ("model[1]", "gpu.required")
    for key, code in ((endpoint.model.key, 0), (node.key, 1)):
        assert stage.appraise(folder, **stage.signed(by=key)).exit_code == code


def test_a_gateways_gpus_are_not_the_models(verify, stage):
    endpoint = stage.endpoint
    payload = endpoint.nvidia.payload(endpoint.nonce, 2)
    folder = stage.near(
        gateway={"nvidia_payload": payload}, model={"nvidia_payload": None}, nras=None
    )
    assert "gpu.required" in failed(verify(folder, "--json"), 3)


def test_seven_good_gpus_and_one_broken(cli, tmp_path):
    endpoint = Endpoint(at=AT, gpus=8)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(endpoint.roots_pem())
    stranger = Nvidia().gpu(0).evidence(endpoint.nonce)
    device = endpoint.nvidia.gpu(5)
    broken = {
        "gpu.nonce": device.evidence(bytes(32)),
        "gpu.report-signature": device.evidence(endpoint.nonce, signature=bytes(96)),
        "gpu.chain": stranger,
        "gpu.fwid": device.evidence(endpoint.nonce, fwids=[bytes(48), bytes(48)]),
        "gpu.evidence": {**device.evidence(endpoint.nonce), "evidence": "AA=="},
    }
    for check, entry in broken.items():
        entries = endpoint.nvidia.evidence_list(endpoint.nonce, 8)
        entries[5] = entry
        report = endpoint.near_report(
            model={"nvidia_payload": json.dumps({"evidence_list": entries})}
        )
        folder = endpoint.capture(tmp_path / check, report=report, nras=None)
        ran = cli("verify", folder, "--unsafe-test-roots", roots, "--json")
        assert failed(ran, 2) >= {check}
        assert ran.json["claims"]["gpu"]["outcome"] == "failed" or check == "gpu.nonce"


def test_gpus_of_another_recording(verify, stage):
    other = Endpoint(at=AT, gpus=2)
    payload = other.nvidia.payload(stage.endpoint.nonce, 2)
    ran = verify(stage.near(model={"nvidia_payload": payload}, nras=None), "--json")
    assert "gpu.chain" in failed(ran, 2)


def test_a_jwks_of_ones_own(verify, stage):
    endpoint = stage.endpoint
    entries = endpoint.nvidia.evidence_list(endpoint.nonce, 2)
    answer, jwks = Nvidia().nras_answer(entries, endpoint.nonce, AT)
    folder = stage.capture()
    (folder / "0003_jwks.body").write_bytes(jwks)
    assert verify(folder).code in (2, 3)
    (folder / "0002_nras.body").write_bytes(answer)
    assert "nras.key" in failed(verify(folder, "--json"), 2)


@pytest.mark.parametrize(
    "nras",
    [
        {"overall": {"x-nvidia-overall-att-result": False}},
        {"submods": {"GPU-1": {"measres": "fail"}}},
        {"submods": {"GPU-1": {"secboot": False}}},
        {"submods": {"GPU-1": {"dbgstat": "enabled"}}},
        {"error": {"code": 4010, "message": "NONCE_NOT_MATCHING"}},
        {"overall": {"eat_nonce": "00" * 32}},
        {"submod": {"eat_nonce": "00" * 32}},
        {"submods": {"GPU-0": {"ueid": "1"}}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"overall": {"iss": "https://nras.attestation-preview.nvidia.com"}},
    ],
    ids=str,
)
def test_an_answer_of_nras_that_does_not_say_yes(verify, stage, nras):
    ran = verify(stage.capture(nras=nras), "--json")
    assert ran.code in (2, 3)
    assert any(check.startswith("nras.") for check in failed(ran, ran.code))


def test_an_expired_answer_of_nras_is_undecided(verify, stage):
    ran = verify(stage.capture(nras={"lifetime": timedelta(hours=-2)}), "--json")
    assert "nras.claims" in failed(ran, 3)


def test_a_debug_vm(verify, stage):
    for part in ("gateway", "model"):
        ran = verify(stage.near(**{part: {"quote": {"debug": True}}}), "--json")
        assert "tdx.debug-disabled" in failed(ran, 2)


def test_a_revoked_platform(verify, stage):
    for role in ("pck", "ca", "signer"):
        collateral = stage.endpoint.intel.collateral(revoked=[role])
        assert verify(stage.capture(collateral=collateral)).code == 2
    collateral = stage.endpoint.intel.collateral(tcb_status="Revoked")
    assert "tdx.tcb" in failed(verify(stage.capture(collateral=collateral), "--json"), 2)


def test_an_sgx_enclave_in_place_of_a_vm(verify, stage):
    """Anybody with a genuine SGX CPU can write an enclave that quotes any report data."""
    endpoint = stage.endpoint
    data = endpoint.model.report_data(endpoint.nonce, tls=True)
    quote = endpoint.intel.quote(report_data=data, body="sgx", version=3)
    changes = {"intel_quote": quote.hex(), "event_log": None, "info": None}
    folder = stage.near(model={**changes, "compose_manager_attestation": None})
    sgx = endpoint.intel.collateral(
        tcb_info={"id": "SGX", "tdxModule": None, "tdxModuleIdentities": None},
        qe_identity={"id": "QE"},
    )
    write_capture(folder, sgx, first=40)
    ran = verify(folder, "--json")
    assert "tdx.quote" in failed(ran, 2)
    assert "SGX enclave" in ran.json["summary"]


@pytest.mark.parametrize("part", ["body", "quote_signature", "attestation_key", "qe_report",
                                  "qe_report_signature", "qe_auth_data"])  # fmt: skip
@pytest.mark.parametrize("where", ["gateway", "model", "manager"])
def test_one_flipped_bit_of_any_quote(verify, stage, part, where):
    if where == "manager":
        report = stage.endpoint.compose_manager()
        data = bytes.fromhex(report["actions_hash"]) + stage.endpoint.nonce
        quote = stage.endpoint.model.quote(data, corrupt=part).hex()
        folder = stage.near(model={"compose_manager_attestation": {**report, "quote": quote}})
    else:
        folder = stage.near(**{where: {"quote": {"corrupt": part}}})
    assert verify(folder).code == 2


def test_the_right_compose_hash_on_foreign_firmware(verify, stage, tmp_path):
    """The forger launches his own image with the configuration that everybody expects."""
    good = verify(stage.good, "--json").json
    entries = [
        f"[[code]]\nname = 'v1'\nsource = 'release'\nrole = '{m['role']}'\n"
        + "".join(f"{k} = '{v}'\n" for k, v in m.items() if k != "role")
        for m in good["machines"]
        if m["role"] != "compose-manager"
    ]
    policy = tmp_path / "expected.toml"
    policy.write_text("\n".join(entries))
    assert verify(stage.good, "--policy", policy).code == 0
    foreign = stage.near(model={"quote": {"mr_td": bytes(48)}, "compose_manager_attestation": None})
    found = failed(verify(foreign, "--policy", policy, "--json"), 1)
    assert found == {"code.identity", "code.compose-manager"}


def test_pinning_writes_a_policy_that_stays_a_warning(cli, verify, stage, tmp_path):
    ran = cli("policy", "pin", stage.good, "--unsafe-test-roots", stage.roots_file)
    assert ran.code == 0
    policy = tmp_path / "pinned.toml"
    policy.write_text(ran.out)
    ran = verify(stage.good, "--policy", policy, "--json")
    assert (ran.code, ran.json["tier"]) == (0, "warning")
    assert "nobody reviewed" in ran.json["summary"]
    other = Endpoint(at=AT, gpus=1)
    other.model.guest = Dstack(images=["other@sha256:" + "cd" * 32])
    assert cli("verify", other.capture(tmp_path / "other"), "--policy", policy).code == 2


def test_what_is_not_genuine_is_not_pinned(cli, stage):
    ran = cli("policy", "pin", stage.near(model={"quote": {"debug": True}}),
              "--unsafe-test-roots", stage.roots_file)  # fmt: skip
    assert (ran.code, ran.out) == (2, "")


def test_an_unknown_key_in_the_policy(verify, stage, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text("[gpu]\ncuont = 8\n")
    ran = verify(stage.good, "--policy", policy)
    assert (ran.code, ran.out) == (64, "")
    assert "gpu.cuont" in ran.err


# --- bare parts ----------------------------------------------------------------------------------


def test_a_bare_quote(verify, stage, tmp_path):
    endpoint = stage.endpoint
    raw = endpoint.model.quote(bytes(64))
    forms = {
        "quote.bin": raw,
        "quote.hex": raw.hex().encode(),
        "quote.txt": b"0x" + raw.hex().upper().encode() + b"\n",
        "quote.json": json.dumps(
            {"quote": raw.hex(), "event_log": endpoint.model.guest.event_log_text}
        ).encode(),
    }
    given = ("--endorsements", stage.good, "--at", "2026-06-29T02:06:57Z")
    for name, content in forms.items():
        file = tmp_path / name
        file.write_bytes(content)
        ran = verify(file, *given, "--json")
        assert (ran.code, ran.json["scope"], ran.json["kind"]) == (1, "evidence", "a TDX quote")
        assert verify(file, *given, "--for", "evidence").code == 0
        assert verify(file, *given, "--for", "endpoint").code == 1
        assert verify(file, *given, "--for", "answer").code == 1
        assert verify(file, *given, "--for", "evidence", "--policy", "strict").code == 1
        assert verify(file, "--for", "evidence", "--at", "2026-06-29T02:06:57Z").code == 3


def test_a_bare_quote_with_another_event_log(verify, stage, tmp_path):
    file = tmp_path / "quote.json"
    raw = stage.endpoint.model.quote(bytes(64)).hex()
    file.write_text(json.dumps({"quote": raw, "event_log": Dstack().event_log_text}))
    given = ("--endorsements", stage.good, "--at", "2026-06-29T02:06:57Z", "--for", "evidence")
    assert "code.event-log" in failed(verify(file, *given, "--json"), 2)


@pytest.mark.parametrize("form", ["payload", "list"])
def test_bare_gpu_evidence(verify, stage, tmp_path, form):
    endpoint = stage.endpoint
    text = endpoint.nvidia.payload(endpoint.nonce, 2)
    file = tmp_path / "gpus.json"
    file.write_text(text if form == "payload" else json.dumps(json.loads(text)["evidence_list"]))
    given = ("--at", "2026-06-29T02:06:57Z")
    assert verify(file, *given).code == 1
    ran = verify(file, *given, "--for", "evidence", "--json")
    assert (ran.code, ran.json["kind"]) == (0, "NVIDIA GPU evidence")
    assert verify(file, *given, "--for", "evidence", "--nonce", "00" * 32).code == 2
    # A certificate on hold verifies offline: so line 1 must not stop at 'genuine'.
    assert "whether the devices' certificates were revoked is not known" in ran.json["summary"]
    assert "9999" not in verify(file, *given, "--for", "evidence").out


def test_a_bare_part_is_no_attestation_of_an_answer(verify, stage, files, tmp_path):
    """The quote binds the key, but nothing says by which layout."""
    endpoint = stage.endpoint
    file = tmp_path / "quote.bin"
    file.write_bytes(endpoint.model.quote(endpoint.model.report_data(endpoint.nonce, tls=False)))
    given = ("--endorsements", stage.good, "--at", "2026-06-29T02:06:57Z")
    for scope in ((), ("--for", "evidence"), ("--for", "answer")):
        ran = verify(file, *given, *files(stage.signed()), *scope, "--json")
        assert "key.attested" in failed(ran, 1)


# --- signed answers ------------------------------------------------------------------------------


def test_one_newline_more_or_less(verify, stage, files):
    for name in ("answer", "request"):
        for change in (lambda raw: raw + b"\n", lambda raw: raw[:-1]):
            parts = stage.signed()
            parts[name] = change(parts[name])
            assert verify(stage.good, *files(parts)).code == 2


def test_attested_later(verify, stage, files):
    answer = stage.endpoint.answer(after=timedelta(days=-8))
    parts = files(stage.signed(answer=answer))
    assert failed(verify(stage.good, *parts, "--json"), 1) == {"answer.attested-later"}
    for days, code in ((7, 1), (8, 0), (99999, 0)):
        assert verify(stage.good, *parts, "--allow-attested-later", days).code == code


def test_the_recorders_time_is_not_the_callers(verify, stage, files):
    """Who records can say that his evidence is older than the answer; that proves nothing."""
    parts = files(stage.signed())
    ran = verify(stage.good, *parts, "--at", "2026-06-29T02:30:00Z", "--json")
    (found,) = ran.findings("answer.attested-later")
    assert (ran.code, found["outcome"], found["by"]) == (0, "asserted", "the recorder")
    ran = verify(stage.good, *parts, "--at", "2026-06-29T02:30:00Z", "--json", "--policy", "strict")
    assert "answer.attested-later" in failed(ran, 1)


def test_a_key_that_nothing_attests(verify, stage, files):
    parts = files(stage.signed(by=SimulatedKey()))
    assert failed(verify(stage.good, *parts, "--json"), 1) == {"key.attested"}
    assert failed(verify(None, *parts, "--json"), 1) >= {"key.attested"}


def test_the_key_of_an_attestation_that_does_not_verify(verify, stage, files):
    folder = stage.near(model={"quote": {"debug": True}})
    assert {"tdx.debug-disabled", "key.attested"} <= failed(
        verify(folder, *files(stage.signed()), "--json"), 2
    )


def test_an_answer_without_a_signature(verify, stage, files):
    parts = stage.signed()
    del parts["signature"]
    assert failed(verify(stage.good, *files(parts), "--json"), 2) == {
        "answer.signature", "key.attested",
    }  # fmt: skip


def test_a_signed_answer_is_appraised_with_its_evidence(verify, stage, files):
    """A good answer does not help bad evidence, nor the other way round."""
    for folder in (stage.capture(nras={"submod": {"measres": "fail"}}),
                   stage.near(model={"nvidia_payload": None})):  # fmt: skip
        assert verify(folder, *files(stage.signed())).code in (1, 2)
