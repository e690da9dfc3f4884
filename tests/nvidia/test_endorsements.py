"""Recorded answers: found by their URL, and about these devices or of no use."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from teeverify import nvidia
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    StaleEvidence,
)

from ..refusals import refused

NRAS = "https://nras.attestation.nvidia.com"
OTHER = bytes(32)


@pytest.fixture(scope="session")
def recorded(vendor, entries, nonce, at):
    """Endorsements of several answers, each as ``(entries, nonce, overrides)``."""

    def run(*answers) -> nvidia.Endorsements:
        made = [
            vendor.nras_answer(about or entries, said, at, **overrides)
            for about, said, overrides in answers or [(None, nonce, {})]
        ]
        return nvidia.Endorsements(
            nras_answers=tuple(answer for answer, _ in made), jwks=tuple(jwks for _, jwks in made)
        )

    return run


@pytest.fixture(scope="session")
def say(devices, nonce, at, roots):
    def run(endorsements: nvidia.Endorsements, **arguments) -> nvidia.NrasClaims:
        given = {"devices": devices, "nonce": nonce, "at": at, "roots": roots, **arguments}
        return endorsements.verify_nras(**given)

    return run


def write(folder, name: str, url: str, body: bytes, status: int = 200) -> None:
    (folder / f"{name}.http.json").write_text(
        json.dumps({"method": "GET", "url": url, "status": status, "headers": {}})
    )
    (folder / f"{name}.body").write_bytes(body)


# --- loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v3", "v4"])
@pytest.mark.parametrize("kind", ["gpu", "switch"])
def test_exchanges_by_url(tmp_path, version, kind):
    write(tmp_path, "0001_report", "https://api.example/report", b"report")
    write(tmp_path, "0006_x", f"{NRAS}/{version}/attest/{kind}", b"answer")
    write(tmp_path, "0007_y", f"{NRAS}/.well-known/jwks.json", b"keys")
    (tmp_path / "manifest.json").write_text("{}")
    loaded = nvidia.Endorsements.load(tmp_path)
    assert (loaded.nras_answers, loaded.jwks) == ((b"answer",), (b"keys",))
    assert loaded == nvidia.Endorsements.load(str(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        "http://nras.attestation.nvidia.com/v3/attest/gpu",
        "https://nras.attestation-stg.nvidia.com/v3/attest/gpu",
        "https://nras.attestation.nvidia.com.example/v3/attest/gpu",
        "https://example/nras.attestation.nvidia.com/v3/attest/gpu",
        "https://nras.attestation.nvidia.com@example/v3/attest/gpu",
        "https://nras.attestation.nvidia.com/v3/attest/gpu/other",
        "https://nras.attestation.nvidia.com/v2/attest/gpu",
        "https://nras.attestation.nvidia.com/jwks.json",
        "",
    ],
)
def test_exchange_with_another_service(tmp_path, url):
    write(tmp_path, "0001_nras", url, b"answer")
    assert nvidia.Endorsements.load(tmp_path).nras_answers == ()


@pytest.mark.parametrize("status", [204, 400, 500])
def test_answer_that_is_none(tmp_path, status):
    write(tmp_path, "0001_nras", f"{NRAS}/v3/attest/gpu", b"answer", status)
    assert nvidia.Endorsements.load(tmp_path).nras_answers == ()


def test_plain_files(tmp_path):
    (tmp_path / "response_eat.json").write_bytes(b"answer")
    (tmp_path / "jwks.json").write_bytes(b"keys")
    (tmp_path / "request.json").write_bytes(b"request")
    loaded = nvidia.Endorsements.load(tmp_path)
    assert (loaded.nras_answers, loaded.jwks) == ((b"answer",), (b"keys",))


def test_empty_directory(tmp_path):
    assert nvidia.Endorsements.load(tmp_path) == nvidia.Endorsements()


@pytest.mark.parametrize("path", ["missing", "file", "\0"])
def test_no_directory(tmp_path, path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError) as caught:
        nvidia.Endorsements.load(f"{tmp_path}/{path}")
    assert caught.value.id == "usage.source"


@pytest.mark.parametrize(
    "record", ["", "[]", "{}", '{"url": 5}', f'{{"url": "{NRAS}/v3/attest/gpu"}}']
)
def test_record_of_another_form(tmp_path, record):
    (tmp_path / "0001.http.json").write_text(record)
    with pytest.raises(MalformedEvidence) as caught:
        nvidia.Endorsements.load(tmp_path)
    assert caught.value.id == "capture.exchange"


def test_body_that_is_missing_or_too_large(tmp_path):
    write(tmp_path, "0001", f"{NRAS}/v3/attest/gpu", b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(MalformedEvidence):
        nvidia.Endorsements.load(tmp_path)
    (tmp_path / "0001.body").unlink()
    with pytest.raises(ConfigurationError):
        nvidia.Endorsements.load(tmp_path)


def test_loaded_and_verified(tmp_path, vendor, entries, nonce, at, say):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    write(tmp_path, "0001", f"{NRAS}/v3/attest/gpu", answer)
    write(tmp_path, "0002", f"{NRAS}/.well-known/jwks.json", jwks)
    assert say(nvidia.Endorsements.load(tmp_path)).version == "2.0"


# --- choosing -----------------------------------------------------------------------------------


def test_one_answer(say, recorded, devices):
    claims = say(recorded())
    assert [item.ueid for item in claims.devices] == [device.ueid for device in devices]


def test_no_answer_and_no_keys_are_undecided(say, recorded):
    refused(EndorsementUnavailable, "nras.devices", lambda: say(nvidia.Endorsements()))
    answer = recorded().nras_answers
    no_keys = nvidia.Endorsements(nras_answers=answer)
    refused(EndorsementUnavailable, "nras.key", lambda: say(no_keys))


def test_keys_of_another_day(say, recorded):
    mixed = nvidia.Endorsements(nras_answers=recorded().nras_answers, jwks=recorded().jwks)
    refused(EndorsementUnavailable, "nras.key", lambda: say(mixed))


def test_the_right_list_of_keys_among_several(say, recorded):
    one, other = recorded(), recorded()
    both = nvidia.Endorsements(nras_answers=one.nras_answers, jwks=other.jwks + one.jwks)
    assert say(both)


def test_only_answer_is_about_something_else(say, recorded, vendor, nonce):
    other = vendor.evidence_list(OTHER, 2)
    refused(StaleEvidence, "nras.nonce", lambda: say(recorded((other, OTHER, {}))))
    foreign = [vendor.gpu(i).evidence(nonce) for i in (6, 7)]
    refused(BindingMismatch, "nras.devices", lambda: say(recorded((foreign, nonce, {}))))


def test_answers_about_other_machines_are_left_aside(say, recorded, vendor, nonce):
    foreign = [vendor.gpu(i).evidence(nonce) for i in (6, 7)]
    stale = vendor.evidence_list(OTHER, 2)
    found = say(recorded((foreign, nonce, {}), (None, nonce, {}), (stale, OTHER, {})))
    assert len(found.devices) == 2
    none = recorded((foreign, nonce, {}), (stale, OTHER, {}))
    refused(EndorsementUnavailable, "nras.devices", lambda: say(none))


def test_a_no_is_never_passed_over(say, recorded, nonce):
    error = {"error": {"code": 4013, "message": "EVIDENCE_SIGNATURE"}}
    failed = {"submods": {"GPU-1": {"measres": "fail"}}}
    for bad in (error, failed):
        for answers in (
            [(None, nonce, {}), (None, nonce, bad)],
            [(None, nonce, bad), (None, nonce, {})],
            [(None, nonce, bad)],
        ):
            refused(EndorsementInvalid, "nras.claims", lambda: say(recorded(*answers)))  # noqa: B023


def test_half_of_the_devices_is_not_enough(say, recorded, entries, nonce):
    halves = recorded((entries[:1], nonce, {}), (entries[1:], nonce, {}))
    refused(BindingMismatch, "nras.devices", lambda: say(halves))


def test_malformed_answer_beside_a_good_one(say, recorded):
    good = recorded()
    both = nvidia.Endorsements(nras_answers=(*good.nras_answers, b"[]"), jwks=good.jwks)
    refused(MalformedEvidence, "nras.token", lambda: say(both))


def test_expired_answer(say, recorded, at):
    late = at + timedelta(hours=2)
    refused(EndorsementUnavailable, "nras.claims", lambda: say(recorded(), at=late))


def test_gpus_and_switches_need_an_answer_each(say, recorded, vendor, verify, entries, nonce):
    switches = vendor.evidence_list(nonce, 1, chip="LS_10")
    devices = verify([*switches, *entries]).devices
    third = {"claims_version": "3.0"}
    both = recorded((entries, nonce, third), (switches, nonce, third))
    claims = say(both, devices=devices)
    assert [item.name for item in claims.devices] == ["SWITCH-0", "GPU-0", "GPU-1"]
    assert claims.revocation_checked
    half = recorded((entries, nonce, third))
    refused(EndorsementUnavailable, "nras.devices", lambda: say(half, devices=devices))
    older = say(recorded((entries, nonce, {}), (switches, nonce, third)), devices=devices)
    assert (older.version, older.revocation_checked) == ("2.0", False)


def test_no_devices_is_the_callers_mistake(say, recorded):
    with pytest.raises(ConfigurationError):
        say(recorded(), devices=())
