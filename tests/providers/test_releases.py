"""Signed releases as reference values: exactly one workflow of one repository at one tag."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from teeverify.encoding.fields import JsonObject
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    MalformedEvidence,
    SignatureInvalid,
)
from teeverify.providers.releases import Release, Workflow, tinfoil_references, verify_release

FILE = ".github/workflows/tinfoil-release-publish.yml"
CODE = Workflow(repository="tinfoilsh/confidential-gemma4-31b", file=FILE, tag="v0.0.18")
HARDWARE = Workflow(
    repository="tinfoilsh/hardware-measurements", file=".github/workflows/build.yml", tag="v0.0.35"
)
CODE_KIND = "https://tinfoil.sh/predicate/snp-tdx-multiplatform/v1"
HARDWARE_KIND = "https://tinfoil.sh/predicate/hardware-measurements/v1"


def stated(kind, predicate):
    return Release(
        workflow=CODE,
        sha256="00" * 32,
        predicate_type=kind,
        predicate=JsonObject(predicate, path="statement.predicate", id="release"),
    )


GOOD = {"snp_measurement": "aa" * 48, "tdx_measurement": {"rtmr1": "bb" * 48, "rtmr2": "cc" * 48}}
FIRMWARE = {"one": {"mrtd": "dd" * 48, "rtmr0": "ee" * 48}}


def test_what_a_release_stands_for():
    amd, intel = tinfoil_references(
        stated(CODE_KIND, GOOD), stated(HARDWARE_KIND, FIRMWARE)
    ).entries
    assert (amd.source, amd.registers) == ("release", {"measurement": ("aa" * 48,)})
    assert intel.registers == {
        "mr_td": ("dd" * 48,),
        "rtmr0": ("ee" * 48,),
        "rtmr1": ("bb" * 48,),
        "rtmr2": ("cc" * 48,),
        "rtmr3": ("00" * 48,),
    }
    assert len(tinfoil_references(stated(CODE_KIND, GOOD), None).entries) == 1


@pytest.mark.parametrize(
    ("code", "hardware"),
    [
        (stated(HARDWARE_KIND, GOOD), None),
        (stated(CODE_KIND, {}), None),
        (stated(CODE_KIND, {**GOOD, "snp_measurement": "aa"}), None),
        (stated(CODE_KIND, {"snp_measurement": "aa" * 48}), stated(HARDWARE_KIND, FIRMWARE)),
        (stated(CODE_KIND, GOOD), stated(CODE_KIND, FIRMWARE)),
        (stated(CODE_KIND, GOOD), stated(HARDWARE_KIND, {"one": {"mrtd": "dd" * 48}})),
        (stated(CODE_KIND, GOOD), stated(HARDWARE_KIND, {"one": 1})),
    ],
)
def test_statements_of_another_form(code, hardware):
    with pytest.raises(MalformedEvidence):
        tinfoil_references(code, hardware)


@pytest.fixture
def sigstore():
    return pytest.importorskip("sigstore", reason="the extra [sigstore] is not installed")


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b"\xff", b'{"sigstoreBundle":1}', b'{"attestations":[]}',
     b'{"attestations":[{"bundle":{}},{"bundle":{}}]}', b'{"attestations":[{}]}'],
)  # fmt: skip
def test_no_bundle(sigstore, raw):
    with pytest.raises(MalformedEvidence):
        verify_release(raw, CODE)


def test_no_trusted_root(sigstore, tmp_path):
    (tmp_path / "root.json").write_text("{}")
    for file in (tmp_path / "absent.json", tmp_path / "root.json"):
        with pytest.raises(ConfigurationError):
            verify_release(b'{"sigstoreBundle":{}}', CODE, trusted_root=file)


def test_without_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sigstore", None)
    with pytest.raises(ConfigurationError, match="needs the package sigstore"):
        verify_release(b"{}", CODE)


# --- recorded releases ---------------------------------------------------------------------------


@pytest.fixture
def recorded(vectors, sigstore):
    captures = vectors / "endpoints/captures"

    def body(pattern):
        (found,) = captures.glob(pattern)
        return found.read_bytes()

    return body


ENCLAVE = "tinfoil-enclave-v3-20260629/0012_*.body"
MEASUREMENTS = "tinfoil-enclave-v3-20260629/0015_*.body"


@pytest.mark.vectors
def test_recorded_releases(recorded):
    code = verify_release(recorded(ENCLAVE), CODE)
    assert recorded("tinfoil-enclave-v3-20260629/0011_*.body").decode().strip() == code.sha256
    hardware = verify_release(recorded(MEASUREMENTS), HARDWARE)
    assert recorded("tinfoil-enclave-v3-20260629/0014_*.body").decode().strip() == hardware.sha256
    assert len(tinfoil_references(code, hardware).entries) == 17
    router = replace(CODE, repository="tinfoilsh/confidential-model-router", tag="v0.0.110")
    assert verify_release(recorded("tinfoil-router-v3-20260629/0006_*.body"), router)


@pytest.mark.vectors
def test_under_a_trusted_root_that_was_given(recorded, sigstore, tmp_path):
    """The production root verifies, and nothing else does: not Sigstore's own staging."""
    stores = Path(sigstore.__file__).parent / "_store"
    for store, good in (("tuf-repo-cdn.sigstore.dev", True), ("tuf-repo-cdn.sigstage.dev", False)):
        root = stores / quote(f"https://{store}", safe="") / "trusted_root.json"
        if good:
            assert verify_release(recorded(ENCLAVE), CODE, trusted_root=root)
            continue
        with pytest.raises(SignatureInvalid):
            verify_release(recorded(ENCLAVE), CODE, trusted_root=root)


@pytest.mark.vectors
def test_the_release_in_a_bundle(vectors, sigstore):
    workflow = Workflow(
        repository="tinfoilsh/confidential-model-router",
        file=".github/workflows/build.yml",
        tag="v0.0.38",
    )
    raw = (vectors / "endpoints/tinfoil-v2/attestation-bundle.json").read_bytes()
    release = verify_release(raw, workflow)
    assert release.sha256 == json.loads(raw)["digest"]
    measurement = tinfoil_references(release, None).entries[0].registers["measurement"][0]
    assert measurement.startswith("09ef32ac")


@pytest.mark.vectors
@pytest.mark.parametrize(
    "change",
    [
        {"repository": "tinfoilsh/confidential-gemma4-31"},
        {"repository": "tinfoilsh/confidential-gemma4-31b/"},
        {"repository": "evil/confidential-gemma4-31b"},
        {"file": ".github/workflows/other.yml"},
        {"file": ""},
        {"tag": "v0.0.1"},
        {"tag": "v0.0.19"},
        {"tag": ""},
    ],
    ids=str,
)
def test_signed_by_somebody_else(recorded, change):
    with pytest.raises(ChainInvalid) as caught:
        verify_release(recorded(ENCLAVE), replace(CODE, **change))
    assert caught.value.id == "release"


def changed(raw, change):
    value = json.loads(raw)
    change(value["attestations"][0]["bundle"])
    return json.dumps(value).encode()


def _payload(bundle):
    envelope = bundle["dsseEnvelope"]
    text = base64.b64decode(envelope["payload"]).replace(b'measurement":"a', b'measurement":"b')
    envelope["payload"] = base64.b64encode(text).decode()


def _signature(bundle):
    signature = bundle["dsseEnvelope"]["signatures"][0]
    raw = bytearray(base64.b64decode(signature["sig"]))
    raw[-1] ^= 1
    signature["sig"] = base64.b64encode(raw).decode()


@pytest.mark.vectors
@pytest.mark.parametrize(
    "change",
    [
        _payload,
        _signature,
        lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
        lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
        lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[]),
        lambda bundle: bundle["verificationMaterial"]["tlogEntries"][0].update(
            integratedTime="1"
        ),
        lambda bundle: bundle["verificationMaterial"].pop("certificate"),
        lambda bundle: bundle.update(mediaType="x"),
    ],
)  # fmt: skip
def test_a_bundle_that_was_changed(recorded, change):
    with pytest.raises((SignatureInvalid, MalformedEvidence)):
        verify_release(changed(recorded(ENCLAVE), change), CODE)


@pytest.mark.vectors
def test_w04_a_payload_counts_only_under_its_signature(recorded):
    """A peer read the statement without certificate, signature or log."""
    other = json.loads(recorded(MEASUREMENTS))["attestations"][0]["bundle"]["dsseEnvelope"]

    def swap(bundle):
        bundle["dsseEnvelope"]["payload"] = other["payload"]

    with pytest.raises((SignatureInvalid, MalformedEvidence)):
        verify_release(changed(recorded(ENCLAVE), swap), CODE)


@pytest.mark.vectors
def test_w12_all_registers_are_compared(vectors, recorded):
    """A peer's pin compared MRTD alone; here firmware, kernel, image and RTMR3 must be equal."""
    from teeverify import Verifier
    from teeverify.appraisal import ReferenceValues

    folder = vectors / "endpoints/captures/tinfoil-enclave-v3-20260629"
    references = tinfoil_references(
        verify_release(recorded(ENCLAVE), CODE), verify_release(recorded(MEASUREMENTS), HARDWARE)
    )
    verifier = Verifier(offline=True)
    result = verifier.appraise(folder, expect=references)
    finding = result.finding("code.identity")
    assert (result.exit_code, finding.outcome.value) == (0, "proven")
    assert finding.got == "tinfoilsh/confidential-gemma4-31b v0.0.18 on medium_2d_new"
    for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        entries = tuple(
            replace(each, registers={**each.registers, name: ("11" * 48,)})
            for each in references.entries
        )
        other = verifier.appraise(folder, expect=ReferenceValues(entries=entries))
        assert (other.exit_code, other.finding("code.identity").outcome.value) == (1, "failed")
