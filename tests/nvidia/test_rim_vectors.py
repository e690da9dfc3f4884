"""NVIDIA's own manifests and the devices that they are about; each verdict is the manifest's."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from teeverify import nvidia
from teeverify.clock import parse_time
from teeverify.encoding.xml import canonical, parse_xml
from teeverify.errors import (
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
    TeeVerifyError,
)

from ..refusals import refused

pytestmark = pytest.mark.vectors
TODAY = "2026-11-22T00:00:00Z"
PAST = "2025-01-10T00:00:00Z"
DSIG = "{http://www.w3.org/2000/09/xmldsig#}"
# Name, product, version, active values, a time at which the signer was valid.
GENUINE = [
    ("NV_GPU_DRIVER_GH100_550.144.03", "GH100", "550.144.03", 21, TODAY),
    ("NV_SWITCH_BIOS_5612_0002_890_9610550001", "LS10", "96.10.55.00.01", 31, TODAY),
    ("NV_GPU_VBIOS_1010_0200_882_96005E0001", "GH100", "96.00.5E.00.01", 12, PAST),
    ("NV_GPU_VBIOS_1010_0205_862_96005E0004", "GH100", "96.00.5E.00.04", 12, PAST),
    ("NV_GPU_VBIOS_1010_0205_862_9600740020", "GH100", "96.00.74.00.20", 12, PAST),
    ("NV_GPU_DRIVER_GH100_545.00_testonly", "GH100", "545.00", 21, PAST),
    ("MISMATCH_NV_GPU_VBIOS_1010_0200_882_96005E0001", "GH100", "96.00.5E.00.01", 12, PAST),
]
NAMES = [name for name, *_ in GENUINE]


def manifest(vectors: Path, name: str) -> bytes:
    return (vectors / f"nvidia/rim/{name}.xml").read_bytes()


def device(vectors: Path, name: str, at: str = TODAY) -> nvidia.DeviceClaims:
    folder = vectors / "nvidia/evidence"
    report = (folder / f"{name}.report.hex").read_text()
    chain = (folder / f"{name}.chain.pem").read_text()
    entries = [{"evidence": report, "certificate": chain}]
    return nvidia.verify_evidence(entries, nonce=report[8:72], at=at).devices[0]


@pytest.mark.parametrize(("name", "product", "version", "active", "at"), GENUINE)
def test_genuine_manifest(vectors, name, product, version, active, at):
    claims = nvidia.verify_rim(manifest(vectors, name), at=at)
    assert (claims.product, claims.version) == (product, version)
    assert (len(claims.active), len(claims.values)) == (active, 64)
    assert claims.roots_kind == "embedded"


@pytest.mark.parametrize("name", [name for name, *_, at in GENUINE if at == PAST])
def test_expired_today_unless_allowed(vectors, name):
    raw = manifest(vectors, name)
    refused(EndorsementUnavailable, "rim.chain", lambda: nvidia.verify_rim(raw, at=TODAY))
    assert nvidia.verify_rim(raw, at=TODAY, allow_expired_signer=True).signer_expired


def test_forged_and_spoilt(vectors):
    for name, error, check in (
        ("NEG_forged_keyvalue", MalformedEvidence, "rim.form"),
        ("NEG_incorrect_signature_driver", SignatureInvalid, "rim.signature"),
    ):
        raw = manifest(vectors, name)
        for at in (PAST, TODAY):
            refused(error, check, lambda raw=raw, at=at: nvidia.verify_rim(raw, at=at))


@pytest.mark.parametrize("name", NAMES)
def test_canonical_form_as_lxml(vectors, name):
    etree = pytest.importorskip("lxml.etree")
    raw = manifest(vectors, name)
    root, theirs = parse_xml(raw, field="rim", id="rim.form"), etree.fromstring(raw)
    assert canonical(root) == etree.tostring(theirs, method="c14n", with_comments=False)
    ours = {one.name: one for one in root.walk()}["ds:SignedInfo"]
    info = theirs.find(f".//{DSIG}SignedInfo")
    assert canonical(ours) == etree.tostring(info, method="c14n", with_comments=False)


@pytest.mark.parametrize("name", [*NAMES, "NEG_incorrect_signature_driver"])
def test_signxml_agrees(vectors, name):
    """The same verdict, and the same golden values, as another implementation of the standard."""
    if not hasattr(verification, "ExtensionPolicy"):
        pytest.skip("signxml's newest release needs cryptography 45 and does not say so")
    signxml = pytest.importorskip("signxml")
    raw = manifest(vectors, name)
    ours = parse_xml(raw, field="rim", id="rim.form")
    texts = [one.text for one in ours.walk() if one.local == "X509Certificate"]
    leaf = x509.load_der_x509_certificate(base64.b64decode(texts[0]))
    at = next((at for one, *_, at in GENUINE if one == name), TODAY)
    try:
        expected = signxml.SignatureConfiguration(verification_time=parse_time(at))
    except TypeError:  # older releases look at no dates of a certificate that they are given
        expected = signxml.SignatureConfiguration()

    def verify():
        verifier = signxml.XMLVerifier()
        return verifier.verify(raw, x509_cert=leaf, expect_config=expected).signed_xml

    if name.startswith("NEG"):
        with pytest.raises(signxml.exceptions.InvalidSignature):
            verify()
        return
    signed = verify()
    theirs = {
        int(one.get("index")): one.get("active") == "True"
        for one in signed.iter()
        if str(one.tag).endswith("}Resource")
    }
    claims = nvidia.verify_rim(raw, at=at)
    assert {value.index: value.active for value in claims.values} == theirs


@pytest.mark.parametrize("name", NAMES[:2])
def test_flipped_bytes(vectors, name):
    raw = manifest(vectors, name)
    for place in range(0, raw.rindex(b"<ds:X509Certificate>"), 211):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        with pytest.raises(TeeVerifyError) as caught:
            nvidia.verify_rim(bytes(flipped), at=TODAY)
        assert caught.value.id in ("rim.form", "rim.chain", "rim.signature")


# --- devices ------------------------------------------------------------------------------------


def test_switch_with_all_31_measurements(vectors):
    found = device(vectors, "ls10_96.10.55.00.01_switch")
    (name,) = nvidia.rim_ids(found)
    claims = nvidia.compare_measurements([found], lambda one: manifest(vectors, one), at=TODAY)
    assert claims.devices[0].compared == tuple(range(31))
    assert (claims.devices[0].skipped, claims.devices[0].not_compared) == ((), ())
    assert tuple(claims.rims) == (name,)


def test_vbios_part_of_an_h100_with_12_of_12(vectors):
    found = device(vectors, "h100_535.86.09_nofwid", PAST)
    name = nvidia.rim_ids(found)[1]
    rim = nvidia.verify_rim(manifest(vectors, name), at=PAST)
    assert len(nvidia.compare_manifest(found, rim).compared) == 12


@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        ("h100_535.86.09_nofwid", "MISMATCH_NV_GPU_VBIOS_1010_0200_882_96005E0001"),
        ("h100_580.159.03", "NV_GPU_VBIOS_1010_0205_862_9600740020"),
    ],
)
def test_another_revision_differs_at_index_9(vectors, evidence, name):
    found = device(vectors, evidence, PAST)
    rim = nvidia.verify_rim(manifest(vectors, name), at=PAST)
    error = refused(TcbRejected, "rim.golden-values", lambda: nvidia.compare_manifest(found, rim))
    assert "index 9" in error.got
    assert "power-cycle" in error.hint


@pytest.mark.parametrize(
    ("evidence", "ids"),
    [
        ("h100_535.86.09_nofwid",
         ("NV_GPU_DRIVER_GH100_535.86.09", "NV_GPU_VBIOS_1010_0200_882_96005E0001")),
        ("h100_580.159.03",
         ("NV_GPU_DRIVER_GH100_580.159.03", "NV_GPU_VBIOS_1010_0205_862_9600740020")),
        ("gb100_575.32_blackwell",
         ("NV_GPU_CC_DRIVER_GB100_575.32", "NV_GPU_VBIOS_G525_0220_886_970088000F")),
    ],
)  # fmt: skip
def test_ids(vectors, evidence, ids):
    assert nvidia.rim_ids(device(vectors, evidence)) == ids


def test_without_their_driver_manifests_devices_stay_undecided(vectors):
    found = device(vectors, "h100_535.86.09_nofwid", PAST)
    endorsements = nvidia.Endorsements.load(vectors / "nvidia/rim")
    error = refused(
        EndorsementUnavailable,
        "rim.present",
        lambda: endorsements.verify_measurements([found], at=PAST),
    )
    assert error.want == "NV_GPU_DRIVER_GH100_535.86.09"


# --- topology -----------------------------------------------------------------------------------


def machine(vectors: Path) -> tuple[nvidia.DeviceClaims, ...]:
    folder = vectors / "nvidia/evidence"
    entries = json.loads((folder / "ppcie_8x_h100_gpu.json").read_text())
    entries += json.loads((folder / "ppcie_4x_ls10_switch.json").read_text())
    return nvidia.verify_evidence(entries, nonce=entries[0]["nonce"], at=TODAY).devices


def test_eight_gpus_and_four_switches_name_each_other(vectors):
    devices = machine(vectors)
    claims = nvidia.verify_topology(devices)
    assert (len(set(claims.gpus)), len(set(claims.switches))) == (8, 4)
    assert nvidia.needs_switches(devices)


def test_a_switch_of_another_box(vectors):
    devices = machine(vectors)
    other = device(vectors, "ls10_96.10.55.00.01_switch")
    with pytest.raises(TeeVerifyError) as caught:
        nvidia.verify_topology([*devices[:11], other])
    assert caught.value.id == "gpu.switches"


def test_one_device_left_out(vectors):
    devices = machine(vectors)
    for place in range(12):
        with pytest.raises(TeeVerifyError) as caught:
            nvidia.verify_topology([*devices[:place], *devices[place + 1 :]])
        assert caught.value.id == "gpu.switches"
