"""NVIDIA's collection of Conceptual Message Wrappers: another box for the same evidence."""

from __future__ import annotations

import base64
import json

import pytest

from teeverify import Evidence, nvidia
from teeverify.errors import MalformedEvidence
from teeverify.simulator.nvidia import Nvidia

NONCE = bytes(range(32))
REPORT = "application/vnd.nvidia.spdm-measurement-transcript"
CHAIN = "application/vnd.nvidia.pem-cert-chain"
BYTES = "application/octet-stream"


@pytest.fixture(scope="module")
def devices():
    return json.loads(Nvidia().payload(NONCE, 2))["evidence_list"]


def wrapped(media, data):
    return [media, base64.urlsafe_b64encode(data).decode().rstrip("=")]


def collection(devices, **changes):
    items = {
        f"gpu_{index}": {
            "__cmwc_t": "tag:nvidia.com,2026:evidence-item/v1",
            "evidence": wrapped(REPORT, base64.b64decode(device["evidence"])),
            "certificate": wrapped(CHAIN, base64.b64decode(device["certificate"])),
            "nonce": wrapped(BYTES, NONCE),
        }
        for index, device in enumerate(devices)
    }
    kind = "tag:nvidia.com,2026:verifier-input/profiles/base/pre-1.0.0"
    return {"__cmwc_t": kind, "nonce": wrapped(BYTES, NONCE), **items, **changes}


def test_the_same_evidence_in_a_collection(devices):
    plain, found = (nvidia.parse_evidence(form) for form in (devices, collection(devices)))
    assert [each.report for each in found.devices] == [each.report for each in plain.devices]
    for one, other in zip(found.devices, plain.devices, strict=True):
        assert one.certificate_chain == other.certificate_chain
        assert set(one.hints.nonce) == {NONCE.hex()}
    assert Evidence.load(json.dumps(collection(devices)).encode()).provider == "NVIDIA GPU evidence"


def test_devices_come_in_the_order_of_their_numbers(devices):
    items = [collection(devices)[f"gpu_{n % 2}"] for n in range(11)]
    many = {"__cmwc_t": "tag:nvidia.com,2026:x"} | {
        f"gpu_{n}": items[n] for n in reversed(range(11))
    }
    found = nvidia.parse_evidence(many)
    first, second = (each.report for each in nvidia.parse_evidence(devices).devices)
    assert [each.report for each in found.devices] == [first, second] * 5 + [first]


@pytest.mark.parametrize(
    "change",
    [
        {"__cmwc_t": "tag:example.org,2026:x"},
        {"__cmwc_t": 5},
        {"gpu_0": []},
        {"gpu_0": {}},
        {"gpu_2": None},
        {"nonce": "AAAA"},
        {"nonce": [BYTES]},
        {"nonce": [BYTES, 5]},
        {"nonce": [BYTES, "AAAA", 4]},
        {"nonce": [CHAIN, "AAAA"]},
        {"nonce": [BYTES, "AAAA"]},
        {"nonce": [BYTES, "A+_A"]},
    ],
    ids=lambda c: str(c)[:40],
)
def test_another_form(devices, change):
    with pytest.raises(MalformedEvidence):
        nvidia.parse_evidence(collection(devices, **change))


@pytest.mark.parametrize("member", ["evidence", "certificate"])
@pytest.mark.parametrize("pair", [None, [], ["x"], [BYTES, "AAAA"], [REPORT, "!"], [CHAIN, "!"], 5])
def test_another_item(devices, member, pair):
    form = collection(devices)
    form["gpu_1"] = {**form["gpu_1"], member: pair}
    with pytest.raises(MalformedEvidence):
        nvidia.parse_evidence(form)


def test_a_collection_without_devices():
    with pytest.raises(MalformedEvidence):
        nvidia.parse_evidence({"__cmwc_t": "tag:nvidia.com,2026:x"})


@pytest.mark.vectors
def test_a_real_report_in_a_collection(vectors):
    folder = vectors / "nvidia" / "evidence"
    report = bytes.fromhex((folder / "gb100_575.32_blackwell.report.hex").read_text().strip())
    item = {
        "evidence": wrapped(REPORT, report),
        "certificate": wrapped(CHAIN, (folder / "gb100_575.32_blackwell.chain.pem").read_bytes()),
    }
    nonce = report[4:36]
    form = {"__cmwc_t": "tag:nvidia.com,2026:x", "nonce": wrapped(BYTES, nonce), "gpu_0": item}
    claims = nvidia.verify_evidence(
        nvidia.parse_evidence(form), None, nonce=nonce, at="2026-07-01T00:00:00Z"
    )
    assert [device.architecture for device in claims.gpus] == ["Blackwell"]
