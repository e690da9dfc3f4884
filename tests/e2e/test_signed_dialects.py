"""Every recorded row of the signed dialects gives its verdict and reason, as the manifest says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from teeverify import ReferenceValues, Verifier, tdx
from teeverify.appraisal import Policy
from teeverify.appraisal.bindings import bound_of
from teeverify.binding import verify_report_data
from teeverify.client.sources import load_evidence
from teeverify.errors import StaleEvidence
from teeverify.nvidia import parse_evidence
from teeverify.providers import DIALECTS
from teeverify.responses import parse_signature, verify_signed_text

pytestmark = pytest.mark.vectors

NANOGPT, RESOLD = "nanogpt-20260610", "phalacloud-chutes-20260610"
NEAR, VENICE = "nearcloud-20260629", "venice-20260610"
NEARS_KEY = "0x6525e128afcffebf7eed05d485d7be983cdae934"


@pytest.fixture
def endpoints(vectors):
    return vectors / "endpoints"


def asked_at(folder, url: str) -> None:
    """Write another URL beside the recorded report."""
    (file,) = folder.glob("0001_*.http.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "url": url}))


def failed(ran, code: int = 2) -> set[str]:
    codes = {"failed": 2, "absent": 3}
    return {f["id"] for f in ran.json["findings"] if codes.get(f["outcome"]) == code}


# --- NanoGPT -------------------------------------------------------------------------------------


def test_nanogpt(cli, endpoints):
    ran = cli("verify", endpoints / "captures" / NANOGPT, "--offline", "--json")
    assert (ran.code, ran.json["kind"], ran.json["tier"]) == (0, "nanogpt", "warning")
    proven = {f["id"]: f for f in ran.json["findings"] if f["outcome"] == "proven"}
    assert proven["tdx.tcb-status"]["got"] == "UpToDate"
    assert proven["binding.report-data"]["got"] == "0xa6df16ebBc510D97A32b99B4DFD33793acC90e2b"
    for check in ("code.event-log", "code.compose", "gpu.nonce", "nras.nonce", "gpu.required"):
        assert check in proven
    (pinned,) = ran.findings("code.images-pinned")
    assert (pinned["outcome"], pinned["severity"]) == ("absent", "warns")


def test_nanogpts_images_are_not_pinned(cli, endpoints, tmp_path):
    """A policy that wants digests refuses: the configuration has none."""
    (tmp_path / "pinned.toml").write_text(
        'extends = "genuine"\n[require]\n"code.images-pinned" = "proven"\n'
    )
    ran = cli("verify", endpoints / "captures" / NANOGPT, "--policy", tmp_path / "pinned.toml")
    assert ran.code == 1
    assert "not pinned by digest" in ran.line
    assert cli("verify", endpoints / "captures" / NANOGPT, "--policy", "strict").code in (1, 3)


def test_nanogpts_stale_answers(cli, endpoints, copy):
    """The answers of 2026-03: the caller's nonce outside, another in every quote."""
    asked = "51" * 32
    folder = copy(endpoints / "captures" / NANOGPT)
    report = {**folder.report(), "nonce": asked}
    folder.write(report)
    asked_at(folder.folder, f"https://nano-gpt.com/api/v1/tee/attestation?nonce={asked}")
    ran = cli("verify", folder.manifest(nonce_hex=asked), "--offline", "--json")
    assert ran.code == 2
    assert "freshness.nonce" in failed(ran)
    assert "does not answer your question" in ran.json["summary"]
    report["request_nonce"] = asked
    report.pop("all_attestations")
    folder.write(report)
    ran = cli("verify", folder.folder, "--offline", "--json")
    assert (ran.code, {"freshness.nonce", "gpu.nonce"} <= failed(ran)) == (2, True)


def test_nanogpt_wrapped_in_a_gateway(cli, endpoints, copy):
    """The form in which NanoGPT passes NEAR's gateway on, with its own echo of the nonce."""
    near = copy(endpoints / "captures" / NEAR)
    report = near.report()
    asked = "51" * 32
    near.write({**report, "nonce": asked})
    asked_at(near.folder, f"https://nano-gpt.com/api/v1/tee/attestation?nonce={asked}")
    ran = cli("verify", near.manifest(nonce_hex=asked), "--offline", "--json")
    assert ran.code == 2
    stale = {f["subject"] for f in ran.findings("freshness.nonce") if f["outcome"] == "failed"}
    assert stale == {"gateway", "model"}


# --- Phala ---------------------------------------------------------------------------------------


def test_phalas_foreign_nonce(cli, endpoints):
    ran = cli("verify", endpoints / "captures" / RESOLD, "--offline")
    assert ran.code == 2
    for words in ("names another nonce", "aa8aa7cb", "732f6f1c", "freshness.nonce"):
        assert words in ran.line
    with pytest.raises(StaleEvidence):
        Verifier(offline=True).appraise(endpoints / "captures" / RESOLD)


def test_phalas_foreign_nonce_in_the_resold_dialect(cli, endpoints):
    folder = endpoints / "captures" / RESOLD
    ran = cli("verify", folder, "--dialect", "chutes-resold", "--offline", "--json")
    assert (ran.code, "freshness.nonce" in failed(ran)) == (2, True)


@pytest.mark.parametrize("dialect", [None, "phala", "nanogpt", "dstack", "0g", "venice"])
def test_phalas_first_generation_is_not_supported(cli, endpoints, dialect):
    named = ("--dialect", dialect) if dialect else ()
    ran = cli("verify", endpoints / "phala-legacy-v0/report.json", *named)
    assert ran.code == 2
    if dialect in (None, "phala", "nanogpt"):
        assert "unsupported evidence format" in ran.line


# --- 0G ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "dialect"),
    [("llm_attestation_report.json", "0g"), ("broker_attestation_report.json", "0g-broker")],
)
def test_0g_without_collateral_is_undecided(cli, endpoints, file, dialect):
    ran = cli("verify", endpoints / "0g" / file, "--dialect", dialect, "--offline")
    assert ran.code == 3
    assert ran.line.startswith("Undecided: Intel's TCB information")


def parts(endpoints, file: str, dialect: str) -> tuple[Any, tdx.Quote]:
    evidence = load_evidence(endpoints / "0g" / file, dialect=dialect)
    machine = evidence.machines[0]
    quote = tdx.parse_quote(machine.quote)
    log = tdx.verify_event_log(machine.event_log, quote)
    assert tdx.verify_app_compose(machine.app_compose, quote, log).ties
    return machine, quote


def test_0gs_node_binds_its_key_and_its_own_nonce(endpoints):
    machine, quote = parts(endpoints, "llm_attestation_report.json", "0g")
    assert str(machine.key) == "0x8a4D4984CF370210dFEeFC773FAf9bb0edE97cC0"
    bound = bound_of(machine, machine.nonce)
    assert verify_report_data(machine.layout, quote.report_data, bound)
    (device,) = parse_evidence(machine.gpus).devices
    assert device.report.requester_nonce == machine.nonce


def test_0gs_node_does_not_answer_our_nonce(cli, endpoints):
    file = endpoints / "0g/llm_attestation_report.json"
    ran = cli("verify", file, "--dialect", "0g", "--nonce", "00" * 32, "--offline", "--json")
    assert (ran.code, "gpu.nonce" in failed(ran)) == (2, True)
    asked = cli("verify", file, "--dialect", "0g", "--offline", "--json")
    assert "proven" not in {f["outcome"] for f in asked.findings("freshness.nonce")}


def test_0gs_broker_binds_a_text(endpoints):
    machine, quote = parts(endpoints, "broker_attestation_report.json", "0g-broker")
    assert str(machine.key).startswith("0xDC1A4da6")
    assert verify_report_data(machine.layout, quote.report_data, bound_of(machine, None))
    assert (machine.role, machine.gpus, machine.nonce) == ("gateway", None, None)


# --- NEAR and Venice: chains, models, applications -----------------------------------------------


def test_nears_chain(cli, endpoints):
    ran = cli("verify", endpoints / "captures" / NEAR, "--offline", "--json")
    (gateway,) = ran.findings("chain.gateway")
    assert gateway["outcome"] == "proven"
    (path,) = ran.findings("chain.path")
    assert path["message"].startswith("Your connection → the gateway → the model's machine.")
    (deployed,) = ran.findings("model.deployed")
    assert "prod/qwen35-dsv4-flash.yaml last" in deployed["message"]


def test_nears_gateway_with_another_providers_node(cli, endpoints, copy):
    """Real machines of two operators cannot even be mixed in one list: two key services."""
    from teeverify.appraisal.checks.chain import gateway
    from teeverify.appraisal.checks.subject import Subject

    near = load_evidence(endpoints / "captures" / NEAR)
    other = load_evidence(endpoints / "captures" / NANOGPT)
    import dataclasses

    node = dataclasses.replace(other.machines[0], kin="NEAR AI")
    mixed = dataclasses.replace(near, machines=(near.machines[0], node))
    verifier = Verifier(offline=True)
    at = near.recorded_at
    both = [
        verifier.examine(dataclasses.replace(one, machines=(machine,)), at=one.recorded_at)
        for one, machine in ((near, near.machines[0]), (other, node))
    ]
    machines = tuple(each.machines[0] for each in both)
    subject = Subject(
        examined=dataclasses.replace(both[0], evidence=mixed, machines=machines), answer=None,
        policy=Policy.genuine(), scope="endpoint", scope_asked=None, model=None, expires_at=at,
    )  # fmt: skip
    (found,) = list(gateway(subject))
    assert (found.outcome.value, found.error.exit_code) == ("failed", 2)


def test_venices_ohttp_key_is_not_bound(endpoints):
    """Its signer is another key than the quote's: nothing here ever takes it for attested."""
    evidence = load_evidence(endpoints / "captures" / VENICE)
    report = json.loads(next((endpoints / "captures" / VENICE).glob("0001*.body")).read_bytes())
    ohttp = report["ohttp_attestation"]["signing_key"]
    bound = {machine.key.identifier.hex() for machine in evidence.machines if machine.key}
    assert ohttp not in bound
    result = Verifier(offline=True).appraise(endpoints / "captures" / VENICE)
    assert {f.id for f in result.findings if f.got == ohttp} <= {"encryption.key-bound"}
    assert str(result.signer) != ohttp


def test_the_launcher_is_not_the_model(cli, endpoints):
    """W15b: NEAR's nodes share a compose hash; which model runs is in the quoted log."""
    for name in (NEAR, VENICE):
        ran = cli("verify", endpoints / "captures" / name, "--offline", "--json")
        (found,) = ran.findings("model.identity")
        assert found["outcome"] == "asserted"
        assert ran.findings("model.deployed")[0]["outcome"] == "proven"


def test_deployments_that_are_listed(endpoints):
    folder = endpoints / "captures" / VENICE
    managers = load_evidence(folder).machines[1]
    listed = [each.sha256.hex() for each in managers.deployed]
    policy = Policy.genuine().replace(model={"deployments": listed})
    result = Verifier(offline=True, policy=policy).appraise(folder)
    assert (result.exit_code, result.finding("model.identity").outcome.value) == (0, "proven")
    policy = Policy.genuine().replace(model={"deployments": listed[:-1]})
    assert Verifier(offline=True, policy=policy).appraise(folder).exit_code == 1


@pytest.mark.parametrize("name", [NEAR, VENICE, NANOGPT])
def test_the_application_may_be_listed(endpoints, name):
    folder = endpoints / "captures" / name
    first = Verifier(offline=True).appraise(folder)
    apps = sorted({f.got for f in first.findings if f.id == "code.dstack"})
    for listed, code in ((apps, 0), (["00" * 20], 1)):
        policy = Policy.genuine().replace(dstack={"app_ids": listed})
        assert Verifier(offline=True, policy=policy).appraise(folder).exit_code == code


# --- signed chats --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["near-docs-2026-06", "near-docs-2025-12"])
def test_signed_chats(cli, endpoints, name):
    folder = endpoints / "signed-chats" / name
    files = [
        "--answer", folder / "response.sse", "--request", folder / "request.bin",
        "--signature", folder / "signature.json",
    ]  # fmt: skip
    for dialect in (None, "near", "phala", "0g"):
        ran = cli("verify", *files, *(("--dialect", dialect) if dialect else ()), "--json")
        assert ran.code == 1
        outcomes = {f["id"]: f["outcome"] for f in ran.json["findings"]}
        assert outcomes["answer.signature"] == outcomes["response.hash-equal"] == "proven"
        assert outcomes["request.bound"] == "asserted"
        assert "to this request" not in ran.json["summary"]


@pytest.mark.parametrize("dialect", ["tinfoil", "secretvm", "chutes", "morpheus"])
def test_a_signature_in_a_dialect_that_has_none(cli, endpoints, dialect):
    folder = endpoints / "signed-chats/near-docs-2026-06"
    ran = cli("verify", "--answer", folder / "response.sse", "--signature",
              folder / "signature.json", "--dialect", dialect)  # fmt: skip
    assert ran.code == 1
    assert "no signature" in ran.line


def test_recovered_and_stated_signers_agree(endpoints):
    for folder in (endpoints / "signed-chats").iterdir():
        signed = parse_signature((folder / "signature.json").read_bytes())
        if "wrong-signer" not in folder.name:
            assert verify_signed_text(signed) == signed.key


def test_a_reference_of_code_is_kept_per_machine(endpoints):
    result = Verifier(offline=True).appraise(endpoints / "captures" / NEAR)
    pinned = ReferenceValues.pin(result.identities, seen="2026-06-29")
    again = Verifier(offline=True).appraise(endpoints / "captures" / NEAR, expect=pinned)
    assert again.exit_code == 0


def test_every_dialect_of_the_rows_is_listed(cli):
    ran = cli("providers")
    assert ran.code == 0
    for name in DIALECTS:
        assert f"\n{name} " in f"\n{ran.out}"
    assert ran.out.count("cannot prove") >= len(DIALECTS)
