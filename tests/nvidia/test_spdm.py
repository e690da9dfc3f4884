"""The measurement report's layout: every field has one place, one size and few values."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify.errors import MalformedEvidence
from teeverify.nvidia.spdm import MAX_REPORT_BYTES, parse_report
from teeverify.simulator.spdm import ABSENT


@pytest.fixture(scope="session")
def build(vendor, nonce):
    def run(chip: str = "GH100", **overrides) -> bytes:
        entry = vendor.gpu(0, chip=chip).evidence(nonce, **overrides)
        return base64.b64decode(entry["evidence"])

    return run


def parse(raw: bytes, **arguments):
    return parse_report(raw, name="gpu[0].report", **arguments)


def malformed(raw: bytes, field: str) -> MalformedEvidence:
    with pytest.raises(MalformedEvidence) as caught:
        parse(raw)
    assert caught.value.id == "gpu.evidence"
    assert field in caught.value.field, caught.value
    return caught.value


@pytest.mark.parametrize(
    ("field", "override"),
    [
        ("request.version", {"request_version": 0x10}),
        ("request.version", {"request_version": 0x12}),
        ("request.code", {"request_code": 0x60}),
        ("request.param1", {"request_param1": 0}),
        ("request.param2", {"request_param2": 1}),
        ("request.slot_id", {"slot_id": 1}),
        ("response.version", {"response_version": 0x12}),
        ("response.code", {"response_code": 0x7F}),
        ("response.param1", {"response_param1": 1}),
        ("response.param2", {"response_param2": 1}),
        ("number_of_blocks", {"number_of_blocks": 0}),
        ("record.end", {"number_of_blocks": 63}),
        ("record.block[64]", {"number_of_blocks": 65}),
        ("record.block[63]", {"record_length": 3519}),
        ("record.end", {"record_length": 3521}),
        ("record", {"record_length": 0xFFFFFF}),
        ("record.block[0]", {"first_index": 0}),
        ("record", {"block_step": 0}),
        ("record.block[0]", {"block_specification": 2}),
        ("record.block[0]", {"block_size": 52}),
        ("record.block[0]", {"value_type": 0x81}),
        ("record.block[0]", {"value_size": 47}),
        ("record.block[1]", {"measurements": [bytes(32)] * 4}),
        ("opaque", {"opaque_length": 0xFFFF}),
        ("opaque", {"opaque_length": 3}),
        ("opaque.data[1]", {"opaque_head": b"\1\0\xff\xff"}),
        ("opaque.type[3]", {"opaque_head": b"\3\0\1\x001"}),
        ("opaque[34]", {"opaque": {34: b"\2\0"}}),
        ("opaque[34]", {"opaque": {34: b"\1"}}),
        ("opaque[3]", {"opaque": {3: b""}}),
        ("opaque[3]", {"opaque": {3: b"570\0.1"}}),
        ("opaque[3]", {"opaque": {3: b"570/../1"}}),
        ("opaque[3]", {"opaque": {3: b"\xff"}}),
        ("opaque[3]", {"opaque": {3: b"5" * 65}}),
        ("opaque[6]", {"opaque": {6: b""}}),
        ("opaque[17]", {"opaque": {17: b"G5 0\0"}}),
        ("opaque[20]", {"opaque": {20: bytes(47)}}),
        ("opaque[21]", {"opaque": {21: b"\0"}}),
        ("opaque[21]", {"opaque": {21: b"\xaa\xaa"}}),
        ("opaque[36]", {"opaque": {36: b"\3\0"}}),
        ("signature", {"signature": bytes(95)}),
        ("end", {"signature": bytes(97)}),
        ("end", {"trailing": b"\0"}),
    ],
)
def test_wrong_field_is_named(build, field, override):
    malformed(build(**override), field)


@pytest.mark.parametrize("chip", ["GH100", "LS_10"])
def test_truncated_anywhere(build, chip):
    raw = build(chip)
    for size in range(len(raw)):
        with pytest.raises(MalformedEvidence) as caught:
            parse(raw[:size])
        assert caught.value.offset is not None
        assert caught.value.offset <= size


def test_too_large_is_refused_before_reading():
    error = malformed(bytes(MAX_REPORT_BYTES + 1), "gpu[0].report")
    assert error.have == MAX_REPORT_BYTES + 1


@pytest.mark.parametrize("trailing", [b"\1", b"\0\0", b"\0" * 96])
def test_only_one_zero_byte_is_tolerated(build, trailing):
    with pytest.raises(MalformedEvidence):
        parse(build(trailing=trailing), tolerate_trailing_nul=True)


def test_trailing_nul_by_name_only(build):
    raw = build(trailing=b"\0")
    assert parse(raw, tolerate_trailing_nul=True).raw == raw[:-1]
    assert parse(raw[:-1], tolerate_trailing_nul=True).raw == raw[:-1]


def test_report_of_a_gpu(build, nonce, vendor):
    raw = build(responder_nonce=b"r" * 32, signature=b"s" * 96)
    report = parse(raw)
    assert report.raw == raw
    assert report.signed == raw[:-96]
    assert report.requester_nonce == nonce
    assert report.responder_nonce == b"r" * 32
    assert report.signature == b"s" * 96
    assert [block.index for block in report.measurements] == list(range(1, 65))
    device = vendor.gpu(0)
    assert tuple(block.value for block in report.measurements) == device.measurements
    fields = report.fields
    assert (fields.driver_version, fields.vbios_version) == ("570.172.08", "96.00.CF.00.02")
    assert (fields.project, fields.project_sku, fields.chip_sku) == ("G520", "0280", "895")
    assert fields.vbios_is_binary
    assert fields.fwid == device.fwid
    assert (fields.version, fields.feature_flag, fields.protected_pcie) == (1, "SPT", False)


def test_report_of_a_switch(build):
    report = parse(build("LS_10"))
    assert len(report.measurements) == 31
    assert report.fields.vbios_version == "96.10.55.00.01"
    assert not report.fields.vbios_is_binary
    assert report.fields.driver_version is None
    assert report.fields.fwid is None


def test_old_driver_states_less(build):
    missing = dict.fromkeys((20, 21, 34, 36), ABSENT)
    fields = parse(build(opaque=missing)).fields
    assert (fields.version, fields.fwid) == (0, None)
    assert (fields.protected_pcie, fields.feature_flag) == (None, None)


@pytest.mark.parametrize(("flag", "word"), [(b"\0\0", "SPT"), (b"\1\0", "MPT"), (b"\2\0", "PPCIE")])
def test_feature_flag(build, flag, word):
    assert parse(build(opaque={36: flag})).fields.feature_flag == word


def test_protected_pcie_on(build):
    assert parse(build(opaque={21: b"\xaa"})).fields.protected_pcie is True


def test_unknown_items_are_kept_in_order(build):
    report = parse(build(opaque_head=b"\xfe\x7f\2\0ab", opaque={999: b""}))
    kinds = [item.type for item in report.opaque]
    assert kinds[0] == 0x7FFE
    assert kinds[-1] == 999
    assert report.opaque[0].value == b"ab"


def test_text_with_and_without_zero_bytes(build):
    for value in (b"590.12", b"590.12\0", b"590.12\0\0\0\0"):
        assert parse(build(opaque={3: value})).fields.driver_version == "590.12"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_noise_gives_malformed_or_a_report(build, data):
    raw = bytearray(build(signature=bytes(96)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    # Anything but MalformedEvidence is a bug and fails the test.
    with contextlib.suppress(MalformedEvidence):
        assert parse(bytes(raw)).raw == bytes(raw)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=300))
def test_random_bytes(raw):
    with pytest.raises(MalformedEvidence):
        parse(raw)


def test_ten_megabytes_of_zeros():
    malformed(bytes(10_000_000), "gpu[0].report")


def test_responder_nonce_is_the_devices_own(build):
    assert parse(build()).responder_nonce != parse(build()).responder_nonce


def test_evidence_of_the_second_attester_is_named(build):
    """The FSP's measurements are of several types and sizes; of other specifications, nobody's."""
    error = malformed(build(value_type=0x83, block_size=7, value_size=4), "record.block[0]")
    assert "FSP" in error.hint
    assert malformed(build(block_specification=2), "record.block[0]").hint is None
