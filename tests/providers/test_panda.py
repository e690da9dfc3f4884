"""Panda's published attestations, and what NEAR's gateway sends to Intel Trust Authority."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from teeverify.binding import SigningKey
from teeverify.errors import MalformedEvidence

from .conftest import failed, outcome

KEY = SigningKey("ecdsa", bytes(range(20)))
NO_GPU = {"gpu": {"required": False}}


def test_panda(field):
    result = field.appraise(field.channels.panda(), policy=field.policy(**NO_GPU))
    assert (result.exit_code, result.kind) == (0, "panda")
    for check in ("binding.report-data", "code.event-log", "code.compose"):
        assert outcome(result, check) == "proven"
    assert outcome(result, "freshness.nonce") == "absent"
    assert "public key 04" in result.claims["key"].text
    assert failed(field.appraise(field.channels.panda())) == {"gpu.required"}


def test_another_public_key(field):
    shown = field.channels.panda(public_key=b"\x04" + bytes(64))
    assert "binding.report-data" in failed(field.appraise(shown))


def test_another_configuration(field):
    shown = field.channels.panda(compose=field.channels.guest.app_compose + " ")
    assert "code.compose" in failed(field.appraise(shown))


def test_without_the_configuration(field):
    shown = field.channels.panda()
    alone = replace(shown, exchanges=shown.exchanges[:1])
    assert "code.compose" in failed(field.appraise(alone, policy=field.policy(**NO_GPU)))


@pytest.mark.parametrize("name", ["quote", "public_key"])
@pytest.mark.parametrize("value", [None, "", "zz", 1, "04" * 64])
def test_members_of_another_form(field, name, value):
    if (name, value) in {("quote", ""), ("quote", "04" * 64)}:
        return
    shown = field.channels.panda()
    body = json.dumps({**json.loads(shown.body), name: value}).encode()
    with pytest.raises(MalformedEvidence):
        field.read(shown, body=body)


def test_intels_token_counts_for_nothing(field):
    """It says what the quote says; an expired or a forged one changes nothing."""
    shown = field.channels.panda()
    for token in (None, "", "x", 1):
        body = json.dumps({**json.loads(shown.body), "token": token}).encode()
        assert field.read(shown, body=body) == field.read(shown)


# --- what goes to Intel Trust Authority ----------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, SigningKey("ed25519", bytes(range(1, 33)))])
def test_near_ita(field, key):
    result = field.appraise(field.channels.near_ita(key=key), policy=field.policy(**NO_GPU))
    assert failed(result) == {"code.compose"}  # it is not sent to Intel
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "gpu.nonce") == "proven"
    assert result.signer == key


@pytest.mark.parametrize(
    "runtime",
    [
        {"signing_address": "0x" + "11" * 20},
        {"signing_address": "0x" + bytes(range(20)).hex().upper()},
        {"caller_nonce": "11" * 32},
        {"tls_cert_fingerprint": "11" * 32},
        {"tls_cert_fingerprint": None},
    ],
    ids=str,
)
def test_other_runtime_data_than_the_quote_binds(field, runtime):
    result = field.appraise(field.channels.near_ita(key=KEY, **runtime))
    same = runtime.get("signing_address", "").lower() == "0x" + bytes(range(20)).hex()
    assert (result.exit_code == 2) is not same
    assert ("binding.report-data" in failed(result) or "freshness.nonce" in failed(result)) != same


def test_w07_every_gpu_must_answer_the_derived_nonce(field):
    """Peers kept only the first GPU's claims, from a token that nobody verified."""
    shown = field.channels.near_ita(key=KEY)
    body = json.loads(shown.body)
    other = field.channels.nvidia.gpu(1).evidence(bytes(32))
    body["nvgpu"]["evidence_list"][1] = other
    first = replace(shown.exchanges[0], body=json.dumps(body).encode())
    result = field.appraise(replace(shown, exchanges=(first,)))
    assert "gpu.nonce" in failed(result)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"tdx":{}}', b'{"tdx":{"runtime_data":"e30="}}'])
def test_no_request(field, body):
    with pytest.raises(MalformedEvidence):
        field.read(field.channels.near_ita(key=KEY), body=body)
