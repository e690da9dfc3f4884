"""Real evidence and real NRAS exchanges; each verdict is that of their manifest."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from teeverify import nvidia
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    EvidenceError,
    MalformedEvidence,
    SignatureInvalid,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.roots import vendors

from ..refusals import refused

pytestmark = pytest.mark.vectors
AT = "2026-11-22T00:00:00Z"
PPCIE_NONCE = "4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e"
EVIDENCE = [
    ("gb100_575.32_blackwell", "GB100", "575.32", "97.00.88.00.0F", "match"),
    ("h100_580.159.03", "GH100", "580.159.03", "96.00.74.00.20", "match"),
    ("h100_535.86.09_nofwid", "GH100", "535.86.09", "96.00.5E.00.01", "not-present"),
    ("ls10_96.10.55.00.01_switch", "LS_10", None, "96.10.55.00.01", "not-present"),
]
CAPTURES = ["nearcloud-20260629", "venice-20260610"]


def load(path: Path):
    return json.loads(path.read_text())


def single(vectors: Path, name: str) -> tuple[list[dict[str, str]], str]:
    """A report and its chain as they lie there, and the nonce in the report."""
    folder = vectors / "nvidia/evidence"
    report = (folder / f"{name}.report.hex").read_text()
    chain = (folder / f"{name}.chain.pem").read_text()
    return [{"evidence": report, "certificate": chain}], report[8:72]


def verify(entries, nonce, at=AT, endorsements=None) -> nvidia.Claims:
    return nvidia.verify_evidence(entries, endorsements, nonce=nonce, at=at)


# --- evidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "chip", "driver", "vbios", "fwid"), EVIDENCE)
def test_genuine_device(vectors, name, chip, driver, vbios, fwid):
    entries, nonce = single(vectors, name)
    device = verify(entries, nonce).devices[0]
    assert (device.chip, device.driver_version, device.vbios_version) == (chip, driver, vbios)
    assert device.fwid_state == fwid
    assert device.roots_kind == "embedded"
    refused(StaleEvidence, "gpu.nonce", lambda: verify(entries, bytes(32)))


def test_eight_gpus_in_ppcie_mode(vectors):
    entries = load(vectors / "nvidia/evidence/ppcie_8x_h100_gpu.json")
    claims = verify(entries, PPCIE_NONCE)
    assert len({device.ueid for device in claims.gpus}) == 8
    assert {device.feature_flag for device in claims.gpus} == {"PPCIE"}
    assert {device.protected_pcie for device in claims.gpus} == {True}
    assert {device.driver_version for device in claims.gpus} == {"590.12"}
    assert {device.board for device in claims.gpus} == {"H100"}


def test_their_four_switches(vectors):
    gpus = load(vectors / "nvidia/evidence/ppcie_8x_h100_gpu.json")
    switches = load(vectors / "nvidia/evidence/ppcie_4x_ls10_switch.json")
    assert len(verify(switches, PPCIE_NONCE).switches) == 4
    claims = verify(gpus + switches, PPCIE_NONCE)
    assert (len(claims.gpus), len(claims.switches)) == (8, 4)
    relabelled = [entry | {"arch": "HOPPER"} for entry in switches]
    refused(BindingMismatch, "gpu.device-type", lambda: verify(relabelled, PPCIE_NONCE))


def test_chain_on_hold_passes_without_ocsp(vectors):
    entries = load(vectors / "nvidia/evidence/h100_570.86.10_certhold.json")
    nonce = nvidia.parse_evidence(entries).devices[0].report.requester_nonce
    assert verify(entries, nonce).devices[0].driver_version == "570.86.10"


def test_switch_with_an_invalid_signature(vectors):
    entries, nonce = single(vectors, "NEG_ls10_invalid_signature")
    refused(SignatureInvalid, "gpu.report-signature", lambda: verify(entries, nonce))


def test_trailing_nul(vectors):
    entries, nonce = single(vectors, "EDGE_h100_580.95.05_trailing_nul")
    error = refused(MalformedEvidence, "gpu.evidence", lambda: verify(entries, nonce))
    assert (error.need, error.have) == (0, 1)
    parsed = nvidia.parse_evidence(entries, tolerate_trailing_nul=True)
    assert verify(parsed, nonce).devices[0].driver_version == "580.95.05"


def test_two_gpus_of_which_the_second_was_tampered_with(vectors):
    entries = load(vectors / "nvidia/derived/NEG_two_gpus_second_tampered.json")
    error = refused(SignatureInvalid, "gpu.report-signature", lambda: verify(entries, PPCIE_NONCE))
    assert "gpu[1]" in str(error)


def test_the_same_gpu_twice(vectors):
    entries = load(vectors / "nvidia/derived/NEG_same_gpu_twice.json")
    refused(BindingMismatch, "gpu.distinct", lambda: verify(entries, PPCIE_NONCE))


@pytest.mark.parametrize("name", [row[0] for row in EVIDENCE])
def test_flipped_bytes(vectors, name):
    entries, nonce = single(vectors, name)
    raw = bytes.fromhex(entries[0]["evidence"])
    for offset in range(0, len(raw), 101):
        changed = bytearray(raw)
        changed[offset] ^= 0x10
        with pytest.raises(EvidenceError):
            verify([entries[0] | {"evidence": changed.hex()}], nonce)


def test_chains_of_two_boxes_swapped(vectors):
    entries = load(vectors / "nvidia/evidence/ppcie_8x_h100_gpu.json")
    swapped = [entries[0] | {"certificate": entries[1]["certificate"]}]
    refused(SignatureInvalid, "gpu.report-signature", lambda: verify(swapped, PPCIE_NONCE))


def test_genuine_chain_under_other_roots(vectors):
    entries, nonce = single(vectors, "h100_580.159.03")
    other = vectors / "nvidia/certs/nvidia_corim_signing_root_ca.pem"
    refused(
        ChainInvalid,
        "gpu.chain",
        lambda: nvidia.verify_evidence(entries, nonce=nonce, at=AT, roots=[other.read_bytes()]),
    )
    own = vectors / "nvidia/certs/nvidia_device_identity_ca.pem"
    claims = nvidia.verify_evidence(entries, nonce=nonce, at=AT, roots=[own.read_bytes()])
    assert claims.roots_kind == "custom"


def test_before_the_certificates_were_made(vectors):
    entries, nonce = single(vectors, "h100_580.159.03")
    refused(
        EndorsementUnavailable, "gpu.chain", lambda: verify(entries, nonce, "2020-01-01T00:00:00Z")
    )


def test_embedded_roots_are_those_of_the_vendor(vectors):
    for root, name in (
        (vendors.NVIDIA_DEVICE_IDENTITY, "nvidia_device_identity_ca.pem"),
        (vendors.NVIDIA_CORIM_SIGNING, "nvidia_corim_signing_root_ca.pem"),
    ):
        found = x509.load_pem_x509_certificate((vectors / "nvidia/certs" / name).read_bytes())
        assert found.subject.public_bytes().hex() == root.subject_hex
        assert found.fingerprint(SHA256()).hex() == root.certificate_sha256
    chain = load(vectors / "nvidia/certs/nras_jwks_x5c_chain_20260608.json")
    texts = chain["x5c"] if isinstance(chain, dict) else chain
    last = x509.load_der_x509_certificate(base64.b64decode(texts[-1]))
    assert last.fingerprint(SHA256()).hex() == (
        vendors.NVIDIA_NRAS_INTERMEDIATE_004.certificate_sha256
    )


# --- NRAS ---------------------------------------------------------------------------------------


def exchange(vectors: Path, name: str):
    folder = vectors / "nvidia/nras" / name
    request = load(folder / "request.json")
    return request, nvidia.Endorsements.load(folder)


@pytest.mark.parametrize(
    ("name", "count", "at"),
    [
        ("h200_1gpu_pass", 1, "2026-06-29T02:10:00Z"),
        ("h200_8gpu_pass", 8, "2026-06-29T02:10:00Z"),
    ],
)
def test_recorded_yes(vectors, name, count, at):
    request, recorded = exchange(vectors, name)
    claims = verify(request, request["nonce"], at)
    said = recorded.verify_nras(devices=claims.devices, nonce=request["nonce"], at=at)
    assert len(said.devices) == count
    assert said.version == "2.0"
    assert not said.revocation_checked
    assert {device.board for device in claims.devices} == {"H200"}
    for late in ("2026-06-29T04:30:00Z", "2027-06-29T02:10:00Z"):
        with pytest.raises(EndorsementUnavailable):
            recorded.verify_nras(devices=claims.devices, nonce=request["nonce"], at=late)


def test_recorded_no(vectors):
    """NRAS was asked with another nonce than the GPUs', answered 200, and said no."""
    at = "2026-06-29T02:10:00Z"
    request, recorded = exchange(vectors, "h200_8gpu_nonce_mismatch")
    listed = request["evidence_list"]
    refused(StaleEvidence, "gpu.nonce", lambda: verify(listed, request["nonce"], at))
    signed = nvidia.parse_evidence(listed).devices[0].report.requester_nonce
    claims = verify(listed, signed, at)
    for nonce in (request["nonce"], signed):
        error = refused(
            EndorsementInvalid,
            "nras.claims",
            lambda: recorded.verify_nras(devices=claims.devices, nonce=nonce, at=at),  # noqa: B023
        )
        assert "4010 NONCE_NOT_MATCHING" in error.got


def test_answer_about_another_machine(vectors):
    at = "2026-06-29T02:10:00Z"
    request, recorded = exchange(vectors, "h200_8gpu_pass")
    other, _ = exchange(vectors, "h200_1gpu_pass")
    claims = verify(other, other["nonce"], at)
    refused(
        StaleEvidence,
        "nras.nonce",
        lambda: recorded.verify_nras(devices=claims.devices, nonce=other["nonce"], at=at),
    )
    whole = verify(request, request["nonce"], at)
    refused(
        BindingMismatch,
        "nras.devices",
        lambda: recorded.verify_nras(devices=whole.devices[:7], nonce=request["nonce"], at=at),
    )


@pytest.mark.parametrize(
    ("path", "error", "check"),
    [
        ("nvidia/nras/eat_v3claims_1gpu_prod.json", EndorsementUnavailable, "nras.key"),
        ("nvidia/nras/eat_v3claims_2gpu_prod.json", EndorsementUnavailable, "nras.key"),
        ("nvidia/nras/eat_v3claims_switch_stg.json", EndorsementInvalid, "nras.token"),
        ("endpoints/nras-samples/single-gpu.json", EndorsementUnavailable, "nras.key"),
        ("endpoints/nras-samples/eight-gpu.json", EndorsementUnavailable, "nras.key"),
    ],
)
def test_keys_that_were_rotated_out_and_staging(vectors, path, error, check):
    at = "2026-06-29T02:10:00Z"
    request, recorded = exchange(vectors, "h200_1gpu_pass")
    claims = verify(request, request["nonce"], at)
    refused(
        error,
        check,
        lambda: nvidia.verify_answer(
            (vectors / path).read_bytes(),
            recorded.jwks[0],
            nonce=request["nonce"],
            devices=claims.devices,
            at=at,
        ),
    )


def test_flipped_characters_of_a_recorded_answer(vectors):
    at = "2026-06-29T02:10:00Z"
    request, recorded = exchange(vectors, "h200_1gpu_pass")
    claims = verify(request, request["nonce"], at)
    answer = recorded.nras_answers[0]
    for offset in range(0, len(answer), 23):
        changed = bytearray(answer)
        changed[offset] ^= 1
        with pytest.raises(TeeVerifyError):
            nvidia.verify_answer(
                bytes(changed),
                recorded.jwks[0],
                nonce=request["nonce"],
                devices=claims.devices,
                at=at,
            )


# --- whole captures -----------------------------------------------------------------------------


def capture(vectors: Path, name: str):
    folder = vectors / "endpoints/captures" / name
    manifest = load(folder / "manifest.json")
    report = load(next(folder.glob("0001_*.body")))
    machine = report["model_attestations"][0] if "model_attestations" in report else report
    return machine["nvidia_payload"], manifest, nvidia.Endorsements.load(folder)


@pytest.mark.parametrize("name", CAPTURES)
def test_capture(vectors, name):
    payload, manifest, recorded = capture(vectors, name)
    at, nonce = manifest["captured_at"], manifest["nonce_hex"]
    claims = verify(payload, nonce, at, recorded)
    assert len({device.ueid for device in claims.gpus}) == 8
    assert {device.chip for device in claims.gpus} == {"GH100"}
    said = recorded.verify_nras(devices=claims.devices, nonce=nonce, at=at)
    assert [device.ueid for device in said.devices] == [device.ueid for device in claims.devices]


@pytest.mark.parametrize("name", CAPTURES)
def test_gpu_list_of_the_other_capture(vectors, name):
    _, manifest, recorded = capture(vectors, name)
    other = next(one for one in CAPTURES if one != name)
    payload, theirs, _ = capture(vectors, other)
    at, nonce = manifest["captured_at"], manifest["nonce_hex"]
    refused(StaleEvidence, "gpu.nonce", lambda: verify(payload, nonce, at))
    claims = verify(payload, theirs["nonce_hex"], at)
    refused(
        StaleEvidence,
        "nras.nonce",
        lambda: recorded.verify_nras(devices=claims.devices, nonce=theirs["nonce_hex"], at=at),
    )


def test_one_gpu_of_a_capture_twice_and_one_broken(vectors):
    payload, manifest, _ = capture(vectors, CAPTURES[0])
    document = json.loads(payload)
    entries, nonce = document["evidence_list"], manifest["nonce_hex"]
    refused(BindingMismatch, "gpu.distinct", lambda: verify([*entries, entries[3]], nonce))
    raw = bytearray(base64.b64decode(entries[5]["evidence"]))
    raw[-1] ^= 1
    broken = entries[5] | {"evidence": base64.b64encode(raw).decode()}
    listed = [*entries[:5], broken, *entries[6:]]
    error = refused(SignatureInvalid, "gpu.report-signature", lambda: verify(listed, nonce))
    assert "gpu[5]" in str(error)


def test_jwks_of_the_other_capture(vectors):
    payload, manifest, recorded = capture(vectors, CAPTURES[0])
    _, _, other = capture(vectors, CAPTURES[1])
    at, nonce = manifest["captured_at"], manifest["nonce_hex"]
    claims = verify(payload, nonce, at)
    mixed = nvidia.Endorsements(nras_answers=recorded.nras_answers, jwks=other.jwks)
    refused(
        EndorsementUnavailable,
        "nras.key",
        lambda: mixed.verify_nras(devices=claims.devices, nonce=nonce, at=at),
    )


def test_every_other_recorded_gpu_list_is_genuine(vectors):
    """All containers that recorded providers use; the nonce is the one that they carry."""
    found = 0
    for path in sorted((vectors / "endpoints").rglob("*")):
        if path.suffix not in (".body", ".json", ".txt") or not path.is_file():
            continue
        try:
            document = json.loads(path.read_bytes())
        except ValueError:
            continue
        for container in containers(document):
            evidence = nvidia.parse_evidence(container)
            nonce = evidence.devices[0].report.requester_nonce
            assert verify(evidence, nonce).devices[0].architecture == "Hopper"
            found += 1
    assert found >= 14


def containers(value):
    if isinstance(value, list):
        for item in value:
            yield from containers(item)
    if not isinstance(value, dict):
        return
    if "evidence_list" in value or "evidences" in value:
        yield value
        return
    for name, item in value.items():
        if name in ("nvidia_payload", "gpu_evidence") and item:
            yield item
        else:
            yield from containers(item)
