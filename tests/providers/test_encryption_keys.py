"""Keys to which requests could be encrypted: bound by the evidence that shows them, or not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from teeverify.errors import MalformedEvidence
from teeverify.simulator.endpoint import Endpoint

CONFIG = bytes.fromhex("01002021ea1b4a759d2c3ca62363741a03ea54fd5844e468801fd219234d71f8e9180f0008")
CHECK = "encryption.key-bound"


@pytest.fixture(scope="module")
def provider(stage):
    """A provider whose signing keys are Ed25519, so that they can sign an OHTTP key."""
    return Endpoint(at=stage.endpoint.at, gpus=1, algorithm="ed25519")


def shown(key, config=CONFIG, **changes):
    """What a report shows beside itself: signed by a fake machine's key, or by a private key."""
    if isinstance(key, Ed25519PrivateKey):
        signer, signature = key.public_key().public_bytes_raw().hex(), key.sign(config).hex()
    else:
        signer, signature = str(key.key), key._ed25519.sign(config).hex()
    attestation = {
        "signing_algo": "ed25519",
        "signing_key": signer,
        "key_config": config.hex(),
        "signature": signature,
        **changes,
    }
    kept = {name: value for name, value in attestation.items() if value is not None}
    return {"ohttp_attestation": kept, "ohttp_key_config": CONFIG.hex()}


def appraise(provider, report, folder):
    from teeverify.client import Verifier

    capture = provider.capture(folder, report=report)
    return Verifier(roots=provider.roots(), offline=True).appraise(capture)


def test_a_public_key_beside_an_ed25519_key(provider, tmp_path):
    """It is not signed; but what contradicts the bound key is wrong."""
    key = provider.model.key
    for number, (shown_key, code) in enumerate([(key.public_bytes.hex(), 0), ("11" * 32, 2)]):
        report = provider.near_report(model={"signing_public_key": shown_key})
        result = appraise(provider, report, tmp_path / str(number))
        assert (result.exit_code, result.finding("binding.report-data", "model").exit_code) == (
            code, code)  # fmt: skip
    report = provider.near_report(model={"signing_public_key": "11" * 31})
    with pytest.raises(MalformedEvidence):
        appraise(provider, report, tmp_path / "short")


def found(result):
    return {f.subject: f.outcome.value for f in result.findings if f.id == CHECK}


def test_signed_by_the_attested_keys(provider, tmp_path):
    report = provider.near_report(model=shown(provider.model.key), **shown(provider.gateway.key))
    result = appraise(provider, report, tmp_path / "capture")
    assert result.exit_code == 0
    assert found(result) == {"gateway": "proven", "model": "proven"}
    assert "Whoever ends the TLS connection could read the request." in result.summary


def test_signed_by_somebody_else(provider, tmp_path):
    """A good signature of a key that nothing binds: whoever swapped the key made it."""
    for other in (Ed25519PrivateKey.generate(), provider.gateway.key):
        report = provider.near_report(model=shown(other))
        result = appraise(provider, report, tmp_path / str(id(other)))
        assert found(result) == {"model": "absent"}
        assert result.exit_code == 0  # nothing was encrypted to it


def test_w06_a_key_beside_an_ecdsa_report_is_not_bound(stage):
    """Scripts took the encryption key from the report, whatever the quote says."""
    own = Ed25519PrivateKey.generate()
    result = stage.appraise(stage.near(model=shown(own)))
    assert found(result) == {"model": "absent"}


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["ohttp_attestation"].update(signature="00" * 64),
        lambda report: report["ohttp_attestation"].update(key_config="00"),
        lambda report: report["ohttp_attestation"].update(signing_key="11" * 32),
        lambda report: report.update(ohttp_key_config="00" * 40),
    ],
)
def test_a_signature_that_does_not_hold(provider, tmp_path, change):
    key = shown(provider.model.key)
    change(key)
    result = appraise(provider, provider.near_report(model=key), tmp_path / "capture")
    assert (result.exit_code, found(result)) == (2, {"model": "failed"})


@pytest.mark.parametrize(
    "changes",
    [{"signing_algo": "ecdsa"}, {"signing_algo": None}, {"signing_key": "00"},
     {"signature": None}, {"signature": "00"}, {"key_config": 1}, {"key_config": None}],
    ids=str,
)  # fmt: skip
def test_members_of_another_form(provider, tmp_path, changes):
    """Of the gateway: no report. Of a node: that node is broken."""
    bad = shown(provider.gateway.key, **changes)
    with pytest.raises(MalformedEvidence):
        appraise(provider, provider.near_report(**bad), tmp_path / "capture")


def test_no_key_is_shown(stage):
    assert found(stage.appraise()) == {}
