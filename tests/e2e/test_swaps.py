"""Parts of two good recordings put together: each part genuine, the whole not (T03, T06, T20)."""

from __future__ import annotations

import copy as copying
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from teeverify.appraisal import Outcome, Severity
from teeverify.simulator.dstack import Dstack
from teeverify.simulator.endpoint import Endpoint
from teeverify.simulator.intel import write_capture
from teeverify.simulator.machine import SimulatedMachine

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=timezone.utc)
NEAR, VENICE = "nearcloud-20260629", "venice-20260610"


class Twin(Endpoint):
    """Another provider's machines, certified by the same vendors, with GPUs of their own."""

    def __init__(
        self, other: Endpoint, *, nonce: bytes | None = None, service: bytes | None = b"twin" * 8
    ) -> None:
        super().__init__(at=other.at, gpus=2)
        self.intel, self.nvidia = other.intel, other.nvidia
        self.nonce = nonce or self.nonce
        images = [[f"other{number}@sha256:{'cd' * 32}"] for number in range(2)]
        guests = [Dstack(images=each, key_provider_id=service) for each in images]
        self.model = SimulatedMachine(intel=other.intel, guest=guests[0])
        self.gateway = SimulatedMachine(intel=other.intel, guest=guests[1])

    def payload(self) -> str:
        devices = [self.nvidia.gpu(index) for index in (10, 11)]
        return json.dumps({"evidence_list": [d.evidence(self.nonce) for d in devices]})

    def near_report(self, **overrides: Any) -> dict[str, Any]:
        model = {"nvidia_payload": self.payload(), **overrides.pop("model", {})}
        return super().near_report(model=model, **overrides)


@pytest.fixture(scope="module")
def twin(stage) -> Twin:
    """For another nonce."""
    return Twin(stage.endpoint)


@pytest.fixture(scope="module")
def relayed(stage) -> Twin:
    """For the very same nonce: whoever is asked can ask others."""
    return Twin(stage.endpoint, nonce=stage.endpoint.nonce)


@pytest.fixture(scope="module")
def sibling(stage) -> Twin:
    """For the very same nonce, and of the same operator."""
    return Twin(stage.endpoint, nonce=stage.endpoint.nonce, service=None)


NODE = ("intel_quote", "event_log", "info", "nvidia_payload", "tls_cert_fingerprint",
        "request_nonce", "compose_manager_attestation")  # fmt: skip
KEY = ("signing_address", "signing_public_key")
MANAGER = ("actions_hash", "nonce", "quote", "event_log")

Swap = Callable[[dict[str, Any], dict[str, Any]], None]


def node(*names: str) -> Swap:
    def swap(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for name in names:
            ours["model_attestations"][0][name] = theirs["model_attestations"][0][name]

    return swap


def front(*names: str) -> Swap:
    def swap(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for name in names:
            ours["gateway_attestation"][name] = theirs["gateway_attestation"][name]

    return swap


def manager(*names: str) -> Swap:
    def swap(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        one, other = (
            r["model_attestations"][0]["compose_manager_attestation"] for r in (ours, theirs)
        )
        for name in names:
            one[name] = other[name]

    return swap


def whole(name: str) -> Swap:
    def swap(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        ours[name] = theirs[name]

    return swap


def crossed(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The gateway's report as the model's, and the other way round."""
    model, gateway = ours["model_attestations"][0], ours["gateway_attestation"]
    for name in ("intel_quote", "event_log", "info", *KEY, "tls_cert_fingerprint"):
        model[name], gateway[name] = gateway[name], model[name]


SWAPS: dict[str, Swap] = {
    **{f"model-{name}": node(name) for name in NODE},
    "model-key": node(*KEY),
    "model-address": node(KEY[0]),
    "model-public-key": node(KEY[1]),
    "model-quote-and-log": node("intel_quote", "event_log", "info"),
    "model-quote-log-and-key": node("intel_quote", "event_log", "info", *KEY),
    "model-key-and-tls": node(*KEY, "tls_cert_fingerprint"),
    "model-all-but-key": node(*NODE),
    "model-all-but-gpus": node(*(set(NODE) - {"nvidia_payload"}), *KEY),
    "model-all-but-manager": node(*(set(NODE) - {"compose_manager_attestation"}), *KEY),
    "model-whole": whole("model_attestations"),
    **{f"gateway-{name}": front(name) for name in (*NODE[:3], *NODE[4:6], *KEY)},
    "gateway-whole": whole("gateway_attestation"),
    **{f"manager-{name}": manager(name) for name in MANAGER if name != "actions_hash"},
    "manager-quote-and-nonce": manager("quote", "nonce"),
}


@pytest.mark.parametrize("name", SWAPS)
def test_a_part_made_for_another_question(stage, twin, name):
    ours, theirs = copying.deepcopy((stage.endpoint.near_report(), twin.near_report()))
    SWAPS[name](ours, theirs)
    assert stage.appraise(stage.capture(report=ours, nras=None)).exit_code == 2


@pytest.mark.parametrize("name", SWAPS)
@pytest.mark.parametrize("nonce", [True, False])
def test_a_part_without_any_nonce_beside_it(stage, twin, name, nonce):
    """Whoever also deletes the nonces gains nothing: all parts must carry the same."""
    ours, theirs = copying.deepcopy((stage.endpoint.near_report(), twin.near_report()))
    SWAPS[name](ours, theirs)
    ours["gateway_attestation"].pop("request_nonce")
    ours["model_attestations"][0].pop("request_nonce")
    if name in {"model-request_nonce", "gateway-request_nonce"}:
        return
    folder = stage.capture(report=ours, nras=None, manifest={"nonce_hex": None} if nonce else {})
    assert stage.appraise(folder).exit_code == 2


# Where both answered the same nonce, these swaps leave nothing wrong: no layout of today ties GPUs
# to the machine. It must show as a warning.
NOT_TIED = {
    "model-nvidia_payload": "gpu.binding",
    "model-request_nonce": None,
    "gateway-request_nonce": None,
    "manager-nonce": None,
}
# Between machines of one operator these too: what is signed names no gateway and no node behind it.
NOT_TIED_AMONG_SIBLINGS = {
    **NOT_TIED,
    "model-all-but-gpus": "gpu.binding",
    "model-whole": None,
    "gateway-whole": None,
}


@pytest.mark.parametrize("name", SWAPS)
@pytest.mark.parametrize("whose", ["relayed", "sibling"])
def test_a_part_relayed_for_the_same_question(stage, request, whose, name):
    other = request.getfixturevalue(whose)
    tied = NOT_TIED if whose == "relayed" else NOT_TIED_AMONG_SIBLINGS
    ours, theirs = copying.deepcopy((stage.endpoint.near_report(), other.near_report()))
    SWAPS[name](ours, theirs)
    tls = other.gateway.tls_spki if name == "gateway-whole" else None
    result = stage.appraise(stage.capture(report=ours, peer_spki=tls))
    if name not in tied:
        assert result.exit_code == 2
        return
    assert (result.exit_code, result.tier) == (0, "warning")
    strict = stage.appraise(stage.capture(report=ours, peer_spki=tls), policy="strict")
    assert strict.exit_code in (1, 3)
    if tied[name] == "gpu.binding":
        finding = result.finding("gpu.binding")
        assert (finding.outcome, finding.severity) == (Outcome.ASSERTED, Severity.WARNS)
        assert "elsewhere" in finding.message


@pytest.mark.parametrize("name", ["model-whole", "gateway-whole"])
def test_one_providers_gateway_with_anothers_nodes(stage, relayed, name):
    """Both genuine, both for this very nonce, and refused by name: they have two key services."""
    ours, theirs = copying.deepcopy((stage.endpoint.near_report(), relayed.near_report()))
    SWAPS[name](ours, theirs)
    tls = relayed.gateway.tls_spki if name == "gateway-whole" else None
    nras = None if name == "model-whole" else {}
    result = stage.appraise(stage.capture(report=ours, peer_spki=tls, nras=nras))
    assert result.exit_code == 2
    assert [f.id for f in result.findings if f.exit_code == 2] == ["chain.gateway"]


def test_a_gateway_shown_as_the_model_without_its_manager(stage):
    """The GPUs' evidence is bound to nothing but the nonce, so it comes along."""
    report = copying.deepcopy(stage.endpoint.near_report())
    crossed(report, report)
    report["model_attestations"][0].pop("compose_manager_attestation")
    folder = stage.capture(report=report, peer_spki=stage.endpoint.model.tls_spki)
    result = stage.appraise(folder)
    assert result.exit_code == 1
    assert [f.id for f in result.findings if f.exit_code] == ["code.compose-manager"]
    assert "shown in its place" in result.summary


def test_a_relayed_node_cannot_sign_for_the_one_that_is_shown(stage, relayed):
    """T06: an answer counts only under the attestation of its own signer."""
    answered = stage.signed(by=relayed.model.key)
    result = stage.appraise(**answered)
    assert (result.exit_code, result.finding("key.attested").outcome) == (1, Outcome.FAILED)


def test_gateway_and_model_in_each_others_place(stage):
    report = copying.deepcopy(stage.endpoint.near_report())
    crossed(report, report)
    result = stage.appraise(stage.capture(report=report))
    # Both are genuine: only the log of the compose-manager shows which machine is the model's.
    assert result.exit_code == 2
    assert result.finding("code.compose-manager").exit_code == 2


def test_the_manager_of_another_node_of_the_same_report(stage, relayed):
    ours, theirs = copying.deepcopy((stage.endpoint.near_report(), relayed.near_report()))
    nodes = [ours["model_attestations"][0], theirs["model_attestations"][0]]
    report = {**ours, "model_attestations": nodes}
    assert stage.appraise(stage.capture(report=report, nras=None)).exit_code == 3
    one, other = (n["compose_manager_attestation"] for n in nodes)
    nodes[0]["compose_manager_attestation"], nodes[1]["compose_manager_attestation"] = other, one
    result = stage.appraise(stage.capture(report=report, nras=None))
    failed = [f.subject for f in result.findings if f.id == "code.compose-manager" and f.exit_code]
    assert failed == ["model[0] compose-manager"]
    (aside,) = [f for f in result.findings if f.id == "nodes.set-aside"]
    assert (aside.subject, aside.got) == ("model[1]", "chain.gateway")


def test_two_nodes_that_serve_different_models(stage, sibling):
    """An answer names one model: its own signer's machine must serve it, not just any."""
    ours, theirs = copying.deepcopy((stage.endpoint.near_report(), sibling.near_report()))
    nodes = [ours["model_attestations"][0], theirs["model_attestations"][0]]
    nodes[1]["model_name"] = "larger"
    report = {**ours, "model_attestations": nodes}
    folder = stage.capture(report=report, nras=None, manifest={"model": None})
    larger = stage.endpoint.answer().replace(b"simulated/tiny-1", b"larger")
    request = stage.request.replace(b"simulated/tiny-1", b"larger")
    for key, outcome in (
        (stage.endpoint.model.key, Outcome.FAILED),
        (sibling.model.key, Outcome.ASSERTED),
    ):
        signed = stage.signed(answer=larger, request=request, model="larger", by=key)
        result = stage.appraise(folder, **signed, model="larger")
        assert result.finding("model.identity").outcome is outcome
    for model, label in (("larger", "model[1]"), ("simulated/tiny-1", "model[0]")):
        result = stage.appraise(folder, model=model)
        assert result.finding("model.identity").outcome is Outcome.ASSERTED
        assert result.finding("model.reported").subject == label
    assert stage.appraise(folder, model="none").finding("model.identity").exit_code == 1


def test_nras_of_another_recording(stage, twin, relayed):
    for other, code in ((twin, {2, 3}), (relayed, {2, 3})):
        entries = json.loads(other.payload())["evidence_list"]
        answer, jwks = stage.endpoint.nvidia.nras_answer(entries, other.nonce, AT)
        folder = stage.capture()
        (folder / "0002_nras.body").write_bytes(answer)
        (folder / "0003_jwks.body").write_bytes(jwks)
        assert stage.appraise(folder).exit_code in code


def test_collateral_of_another_intel(stage):
    folder = stage.capture()
    write_capture(folder, Endpoint(at=AT, gpus=1).intel.collateral(), first=10)
    assert stage.appraise(folder).exit_code == 2


# --- the question as it was recorded -------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"include_tls_fingerprint": "false"},
        {"include_tls_fingerprint": "True"},
        {"include_tls_fingerprint": "1"},
        {"include_tls_fingerprint": ""},
        {"include_tls_fingerprint": "true "},
        {"Include_TLS_fingerprint": "true"},
        {"include_tls_fingerprint": "true&include_tls_fingerprint=false"},
        {"include_tls_fingerprint": "true&include_tls_fingerprint=true"},
    ],
)
def test_the_layout_follows_from_what_was_requested(stage, query):
    assert _code(stage, stage.capture(query=query)) == 2


def _code(stage, folder, **arguments) -> int:
    from teeverify.errors import TeeVerifyError

    try:
        return stage.appraise(folder, **arguments).exit_code
    except TeeVerifyError as error:
        return error.exit_code


@pytest.mark.parametrize("provider", ["near", "venice"])
@pytest.mark.parametrize("dialect", ["near", "near-direct", "venice", "dstack"])
def test_only_the_diagonal_of_dialects_passes(stage, provider, dialect):
    code = _code(stage, stage.capture(provider=provider), dialect=dialect)
    assert code == (0 if provider == dialect else 2)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/attestation/report",
        "https://cloud-api.near.ai.evil.example/v1/attestation/report",
        "https://evil.example/https://cloud-api.near.ai/v1/attestation/report",
        "https://cloud-api.near.ai@evil.example/v1/attestation/report",
        "https://evil.example#cloud-api.near.ai/v1/attestation/report",
        "https://api.venice.ai/v1/attestation/report",
        "https://cloud-api.near.ai/v1/attestation/report/",
        "https://cloud-api.near.ai/V1/attestation/report",
        "https://cloud-api.near.ai/v1/attestation/report/../report",
        "https://x.completions.near.ai/v1/attestation/report",
        "https://completions.near.ai/v1/attestation/report",
        "https://evilcompletions.near.ai/v1/attestation/report",
        "cloud-api.near.ai/v1/attestation/report",
        "//[cloud-api.near.ai/v1/attestation/report",
        "https://[::1",
        "",
    ],
)
def test_the_host_decides_the_dialect(stage, copy, url):
    query = f"?nonce={stage.endpoint.nonce.hex()}&include_tls_fingerprint=true"
    assert _code(stage, copy(stage.good).url(lambda _: url + query)) == 2


def test_the_time_of_the_other_recording(stage, copy):
    for stamp, code in (("2025-06-29T02:06:57Z", 3), ("2027-06-29T02:06:57Z", 3), ("", 2),
                        ("yesterday", 2), ("2026-06-29", 2), (1, 2), (None, 3)):  # fmt: skip
        assert _code(stage, copy(stage.good).manifest(captured_at=stamp)) == code


def test_two_reports_in_one_directory(stage, copy):
    """Which of them would count is not for a reader to guess."""
    recording = copy(stage.good)
    for name in ("0001_report.body", "0001_report.http.json"):
        raw = (recording.folder / name).read_bytes()
        (recording.folder / name.replace("0001", "0009")).write_bytes(raw)
    assert _code(stage, recording.folder) == 2


def test_an_answer_that_was_no_success(stage, copy):
    recording = copy(stage.good)
    file = recording.folder / "0001_report.http.json"
    file.write_text(file.read_text().replace('"status": 200', '"status": 500'))
    assert _code(stage, recording.folder) == 2


# --- the real recordings -------------------------------------------------------------------------


def _real_swaps() -> dict[str, Swap]:
    names = ("intel_quote", "event_log", "info", "nvidia_payload", "request_nonce",
             "compose_manager_attestation", "signing_address")  # fmt: skip
    return {name: node(name) for name in names} | {
        "key": node(*KEY, "signing_algo"),
        "all": node(*names, "signing_public_key", "signing_algo", "model_name"),
        "quote-log-info": node("intel_quote", "event_log", "info"),
    }


REAL = _real_swaps()


@pytest.mark.vectors
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("into", [NEAR, VENICE])
def test_between_the_recordings(cli, vectors, copy, into, name):
    """The same model on two days: some values are even equal, and still nothing mixes."""
    folders = vectors / "endpoints/captures"
    other = VENICE if into == NEAR else NEAR
    ours, theirs = copy(folders / into), copy(folders / other)
    target = ours.report()
    nodes = [
        {"model_attestations": [r.node(x)]} for r, x in ((ours, target), (theirs, theirs.report()))
    ]
    REAL[name](*nodes)
    assert cli("verify", ours.write(target)).code == 2
    assert cli("verify", ours.manifest(nonce_hex=None)).code == 2
