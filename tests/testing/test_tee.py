"""The simulated machine: every part verifies under its own roots, and faults break one part."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import datetime, timedelta

import pytest

from teeverify import nvidia, tdx
from teeverify.binding import SigningKey
from teeverify.clock import UTC, now
from teeverify.errors import ConfigurationError, EndorsementUnavailable, TeeVerifyError
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.tee import TEE_FAULTS, SimulatedTee

NONCE = bytes(range(32))
KEY = SigningKey("ed25519", b"\x05" * 32)
GPU_FAULTS = {"stale-gpu-nonce", "broken-gpu", "swapped-gpu", "relayed-gpu"}


def report_of(tee, **arguments):
    return tee.report(NONCE, key=KEY, public_key=KEY.identifier, **arguments)


def roots_of(tee):
    return UnsafeTestRoots([tee.roots_pem()])


def verify_cpu(tee, report, at=None):
    return tdx.verify_quote(
        bytes.fromhex(report["intel_quote"]),
        tdx.Endorsements.load(json.dumps(report["endorsements"]["tdx"])),
        at=at or now(),
        roots=roots_of(tee),
    )


def verify_gpus(tee, report, at=None):
    given = report["endorsements"]["nvidia"]
    endorsements = nvidia.Endorsements(
        rims=tuple(nvidia.RimFile(name, xml.encode()) for name, xml in given["rims"].items()),
        ocsp=tuple(base64.b64decode(answer) for answer in given["ocsp"]),
    )
    moment = at or now()
    claims = nvidia.verify_evidence(
        report["nvidia_payload"], endorsements, nonce=NONCE, at=moment, roots=roots_of(tee)
    )
    measured = endorsements.verify_measurements(claims.devices, at=moment, roots=roots_of(tee))
    revocation = endorsements.verify_revocation(claims.devices, at=moment, measurements=measured)
    return claims, revocation


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_part_verifies(count):
    tee = SimulatedTee(gpus=count)
    report = report_of(tee, model="m")
    assert json.loads(json.dumps(report)) == report
    assert (report["model_name"], report["request_nonce"]) == ("m", NONCE.hex())
    claims = verify_cpu(tee, report)
    assert claims.quote.td.report_data == KEY.identifier + NONCE
    log = tdx.verify_event_log(report["event_log"], claims.quote)
    compose = report["info"]["tcb_info"]["app_compose"]
    assert tdx.verify_app_compose(compose, claims.quote, log).ties == {"mr_config_id", "event_log"}
    gpus, revocation = verify_gpus(tee, report)
    assert len(gpus.devices) == count
    assert revocation.signers_included


def test_an_ethereum_address_is_padded():
    key = SigningKey("ecdsa", b"\x01" * 20)
    tee = SimulatedTee(gpus=1)
    report = tee.report(NONCE, key=key, public_key=bytes(64))
    assert verify_cpu(tee, report).quote.td.report_data == b"\x01" * 20 + bytes(12) + NONCE
    assert report["signing_address"] == str(key)
    assert report["signing_algo"] == "ecdsa"


def test_roots_are_random_and_the_code_is_not():
    one, other = SimulatedTee(gpus=1), SimulatedTee(gpus=1)
    assert one.roots_pem() != other.roots_pem()
    with pytest.raises(TeeVerifyError):
        verify_cpu(one, report_of(other))
    assert one.guest.rtmrs == other.guest.rtmrs
    assert one.guest.mr_config_id() == other.guest.mr_config_id()


def test_it_can_be_made_at_any_time():
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    tee = SimulatedTee(at=at, gpus=1)
    report = report_of(tee, at=at)
    verify_cpu(tee, report, at)
    verify_gpus(tee, report, at)
    for other in (at - timedelta(days=2), at + timedelta(days=30)):
        with pytest.raises(EndorsementUnavailable):
            verify_cpu(tee, report, other)


def test_a_server_that_runs_for_months_has_endorsements_of_the_day():
    tee = SimulatedTee(at=now() - timedelta(days=200), gpus=1)
    verify_cpu(tee, report_of(tee))


def test_roots_in_a_file(tmp_path):
    tee = SimulatedTee(gpus=1)
    tee.write_roots(tmp_path / "roots.pem")
    assert (tmp_path / "roots.pem").read_bytes() == tee.roots_pem()
    UnsafeTestRoots.load(tmp_path / "roots.pem")
    with pytest.raises(ConfigurationError):
        tee.write_roots(tmp_path)


@pytest.mark.parametrize("fault", TEE_FAULTS)
def test_a_fault_leaves_the_other_vendors_part_sound(fault):
    tee = SimulatedTee(gpus=2, fault=fault)
    report = report_of(tee)
    if fault in GPU_FAULTS:
        verify_cpu(tee, report)
        with pytest.raises(TeeVerifyError):
            verify_gpus(tee, report)
    else:
        verify_gpus(tee, report)


@pytest.mark.parametrize(
    "arguments",
    [
        {"fault": "no-such-fault"},
        {"fault": "other-key"},
        {"gpus": 0},
        {"gpus": 1, "fault": "swapped-gpu"},
    ],
)
def test_wrong_use(arguments):
    with pytest.raises(ConfigurationError):
        SimulatedTee(**arguments)


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_nonce_has_32_bytes(nonce):
    with pytest.raises(ConfigurationError):
        SimulatedTee(gpus=1).report(nonce, key=KEY, public_key=KEY.identifier)


def test_no_two_reports_are_the_same():
    tee = SimulatedTee(gpus=1)
    quotes = {report_of(tee)["intel_quote"] for _ in range(3)}
    assert len(quotes) == 3
    assert secrets.compare_digest(NONCE.hex(), report_of(tee)["request_nonce"])
