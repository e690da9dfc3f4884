"""Golden values: every one that NVIDIA demands is met, or the device is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from teeverify import nvidia
from teeverify.errors import (
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
    TeeVerifyError,
)
from teeverify.simulator.authority import new_key

OTHER = b"\xee" * 48
PRESENT, SUBJECT = "rim.present", "rim.subject"
CONFLICT, GOLDEN = "rim.conflict", "rim.golden-values"
NVDEC = 35


@pytest.fixture(scope="session")
def compare(at, roots):
    def run(devices, rims, **arguments) -> nvidia.MeasurementClaims:
        given = {"at": at, "roots": roots, **arguments}
        return nvidia.compare_measurements(devices, rims.get, **given)

    return run


@pytest.fixture(scope="session")
def no(compare):
    def run(error: type[TeeVerifyError], check_id: str, *args, **arguments) -> TeeVerifyError:
        with pytest.raises(TeeVerifyError) as caught:
            compare(*args, **arguments)
        assert (type(caught.value), caught.value.id) == (error, check_id), caught.value
        assert check_id in {item.id for item in nvidia.RIM_CHECKS}
        return caught.value

    return run


@pytest.fixture(scope="session")
def measured(vendor, verify, nonce):
    """Verified devices of a chip, the first of which measures something else somewhere."""

    def run(values=None, chip="GH100", **overrides):
        device = vendor.gpu(chip=chip)
        measurements = list(device.measurements)
        for index, value in (values or {}).items():
            measurements[index] = value
        return verify([device.evidence(nonce, measurements=measurements, **overrides)]).devices

    return run


@pytest.fixture(scope="session")
def rims(vendor):
    return vendor.rims()


@pytest.mark.parametrize("count", [1, 8])
def test_good_devices(vendor, verify, nonce, compare, rims, count):
    devices = verify(vendor.evidence_list(nonce, count)).devices
    claims = compare(devices, rims)
    assert len(claims.devices) == count
    for one in claims.devices:
        assert one.compared == (*range(13), *range(21, 35), *range(36, 41))
        assert one.skipped == (NVDEC,)
        assert one.not_compared == (*range(13, 21), *range(41, 64))
        assert set(one.rims) == set(rims) == set(claims.rims)
    assert claims.expired_signers == ()


@pytest.mark.parametrize("chip", ["GB100", "GB20X", "LS_10"])
def test_other_chips(vendor, verify, nonce, compare, chip):
    rims = vendor.rims(
        chip, **({} if chip != "GB20X" else {p: {"product": "GB202"} for p in ("driver", "vbios")})
    )
    claims = compare(verify([vendor.gpu(chip=chip).evidence(nonce)]).devices, rims)
    assert claims.devices[0].rims == tuple(rims)
    if chip == "LS_10":
        assert claims.devices[0].compared == tuple(range(31))


# --- golden values ------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 7, 9, 12, 21, 40])
def test_one_measurement_is_another(no, measured, rims, index):
    error = no(TcbRejected, GOLDEN, measured({index: OTHER}), rims)
    assert f"index {index}" in error.got
    assert ("power-cycle" in error.hint) == (index == 9)


@pytest.mark.parametrize("index", [13, 20, 41, 63])
def test_a_measurement_without_golden_value_may_be_anything(compare, measured, rims, index):
    claims = compare(measured({index: OTHER}), rims)
    assert index in claims.devices[0].not_compared


def test_a_manifest_counts_from_0_and_spdm_from_1(compare, no, vendor, measured):
    """Trap 7: the same values, moved by one, are refused."""
    shifted = [[value] for value in (*vendor.golden("GH100")[1:], OTHER)]
    rims = vendor.rims(driver={"values": shifted}, vbios={"values": shifted})
    no(TcbRejected, GOLDEN, measured(), rims)
    assert measured()[0].measurements[0].index == 1


def test_a_demanded_measurement_is_missing(no, vendor, verify, nonce, rims):
    device = vendor.gpu()
    entry = device.evidence(nonce, measurements=device.measurements[:40])
    error = no(TcbRejected, GOLDEN, verify([entry]).devices, rims)
    assert "40 (not measured)" in error.got


@pytest.mark.parametrize("place", [0, 1, 3])
def test_any_of_the_alternatives(compare, vendor, measured, place):
    values = [[value] for value in vendor.golden("GH100")]
    alternatives = [bytes([number]) * 48 for number in range(3)]
    alternatives.insert(place, values[23][0])
    values[23] = alternatives
    assert compare(measured(), vendor.rims(driver={"values": values}))


def test_none_of_the_alternatives(no, vendor, measured):
    values = [[value] for value in vendor.golden("GH100")]
    values[23] = [bytes([number]) * 48 for number in range(4)]
    no(TcbRejected, GOLDEN, measured(), vendor.rims(driver={"values": values}))


def test_zeros_are_a_golden_value_too(compare, no, vendor, measured):
    values = [[value] for value in vendor.golden("GH100")]
    values[8] = [bytes(48)]
    rims = vendor.rims(vbios={"values": values})
    assert compare(measured({8: bytes(48)}), rims)
    no(TcbRejected, GOLDEN, measured(), rims)


def test_the_second_gpu_fails_the_list(no, vendor, verify, nonce, rims):
    """Trap 1: one good device does not cover for another."""
    spoilt = vendor.gpu(1)
    measurements = (OTHER, *spoilt.measurements[1:])
    entries = [vendor.gpu(0).evidence(nonce), spoilt.evidence(nonce, measurements=measurements)]
    for order in (entries, entries[::-1]):
        error = no(TcbRejected, GOLDEN, verify(order).devices, rims)
        assert f"gpu[{order.index(entries[1])}]" in error.message


# --- the decoder that is switched off (index 35) --------------------------------------------------


def test_the_decoder_is_skipped_only_where_it_is_off(compare, no, measured, rims):
    assert compare(measured({NVDEC: OTHER}), rims).devices[0].skipped == (NVDEC,)
    no(TcbRejected, GOLDEN, measured({NVDEC: OTHER}, opaque={11: b"\xaa"}), rims)


def test_the_decoder_is_compared_where_it_is_on(compare, measured, rims):
    claims = compare(measured(opaque={11: b"\xaa"}), rims)
    assert NVDEC in claims.devices[0].compared
    assert claims.devices[0].skipped == ()


def test_the_decoder_is_compared_where_the_report_is_silent(
    no, compare, vendor, verify, nonce, rims
):
    from teeverify.simulator.nvidia import ABSENT

    device = vendor.gpu()
    values = [*device.measurements[:NVDEC], OTHER, *device.measurements[NVDEC + 1 :]]
    good = device.evidence(nonce, opaque={11: ABSENT})
    bad = device.evidence(nonce, opaque={11: ABSENT}, measurements=values)
    assert compare(verify([good]).devices, rims).devices[0].skipped == ()
    no(TcbRejected, GOLDEN, verify([bad]).devices, rims)


@pytest.mark.parametrize("value", [b"\x00", b"\x01", b"\x54", b"\xff", b"\x55\x55", b""])
def test_any_other_status_of_the_decoder(refused, vendor, nonce, value):
    entry = vendor.gpu().evidence(nonce, opaque={11: value})
    refused([entry], MalformedEvidence, "gpu.evidence")


def test_a_switch_has_no_decoder(vendor, verify, nonce, no):
    """The rule is one of GPUs: a switch's index is compared whatever its item 11 says."""
    switch = vendor.gpu(chip="LS_10")
    rims = vendor.rims("LS_10", bios={"values": [[OTHER]] * 36, "active": (35,)})
    entry = switch.evidence(nonce, opaque={11: b"\x55"})
    no(TcbRejected, GOLDEN, verify([entry]).devices, rims)


# --- which manifests ----------------------------------------------------------------------------


def test_ids_are_made_of_what_was_signed(vendor, verify, nonce):
    """The names beside the evidence are no part of them."""
    entry = vendor.gpu().evidence(nonce)
    (device,) = verify([entry]).devices
    assert nvidia.rim_ids(device) == (
        "NV_GPU_DRIVER_GH100_570.172.08",
        "NV_GPU_VBIOS_G520_0280_895_9600CF0002",
    )


@pytest.mark.parametrize(
    ("chip", "ids"),
    [
        ("GB100", ("NV_GPU_CC_DRIVER_GB100_570.172.08", "NV_GPU_VBIOS_G525_0220_886_970088000F")),
        ("GB20X", ("NV_GPU_CC_DRIVER_GB202_570.172.08", "NV_GPU_VBIOS_G153_0210_895_9802810001")),
        ("LS_10", ("NV_SWITCH_BIOS_5612_0002_890_9610550001",)),
    ],
)
def test_ids_of_other_chips(vendor, verify, nonce, chip, ids):
    (device,) = verify([vendor.gpu(chip=chip).evidence(nonce)]).devices
    assert nvidia.rim_ids(device) == vendor.gpu(chip=chip).rim_ids == ids


@pytest.mark.parametrize("opaque", [{17: b"G5-20"}, {18: b"a"}, {3: b"570..1"}, {3: b"r570"}])
def test_ids_that_would_be_no_names(no, vendor, verify, nonce, rims, opaque):
    devices = verify([vendor.gpu().evidence(nonce, opaque=opaque)]).devices
    no(MalformedEvidence, PRESENT, devices, rims)


@pytest.mark.parametrize("kind", [15, 17, 18])
def test_ids_of_a_board_without_a_name(no, vendor, verify, nonce, rims, kind):
    from teeverify.simulator.nvidia import ABSENT

    devices = verify([vendor.gpu().evidence(nonce, opaque={kind: ABSENT})]).devices
    no(MalformedEvidence, PRESENT, devices, rims)


@pytest.mark.parametrize("left_out", [0, 1])
def test_one_is_missing(no, measured, rims, left_out):
    name = list(rims)[left_out]
    error = no(EndorsementUnavailable, PRESENT, measured(), {k: rims[k] for k in rims if k != name})
    assert error.want == name
    assert error.exit_code == 3


@pytest.mark.parametrize("part", ["driver", "vbios"])
@pytest.mark.parametrize(
    "changes",
    [
        {"product": "GB100"},
        {"product": "LS10"},
        {"product": "GH100X"},
        {"version": "570.172.09"},
        {"version": "570.172.080"},
        {"edition": "SWITCH"},
        {"edition": "gpu"},
    ],
    ids=str,
)
def test_a_manifest_of_something_else_under_this_id(no, vendor, measured, part, changes):
    """Trap 6: the service may give the manifest of another product, rightly signed."""
    no(EndorsementInvalid, SUBJECT, measured(), vendor.rims(**{part: changes}))


def test_driver_and_vbios_swapped(no, measured, rims):
    first, second = rims
    no(EndorsementInvalid, SUBJECT, measured(), {first: rims[second], second: rims[first]})


def test_versions_are_compared_without_letter_case(compare, vendor, verify, nonce):
    devices = verify([vendor.gpu().evidence(nonce)]).devices
    rims = vendor.rims(vbios={"version": "96.00.cf.00.02"})
    assert compare(devices, rims)


@pytest.mark.parametrize("index", [0, 7, 35])
def test_driver_and_vbios_demand_the_same(no, vendor, measured, index):
    rims = vendor.rims(driver={"active": (0, 7, 35)}, vbios={"active": (index, 50)})
    no(EndorsementInvalid, CONFLICT, measured(), rims)


@pytest.mark.parametrize("part", ["driver", "vbios"])
def test_a_manifest_that_demands_nothing(no, vendor, measured, part):
    """NVIDIA's own tool only warns."""
    no(EndorsementInvalid, CONFLICT, measured(), vendor.rims(**{part: {"active": ()}}))


def test_a_manifest_that_demands_only_what_is_skipped(no, vendor, measured):
    rims = vendor.rims(driver={"active": (35,)}, vbios={"active": (99,), "values": [[OTHER]] * 100})
    no(TcbRejected, GOLDEN, measured(), rims)


def test_a_forged_manifest_among_good_ones(no, vendor, measured):
    no(
        SignatureInvalid,
        "rim.signature",
        measured(),
        vendor.rims(vbios={"signer": new_key("p384")}),
    )


# --- time ---------------------------------------------------------------------------------------


def test_an_expired_signer(no, compare, measured, rims, at):
    late = at + timedelta(days=365)
    no(EndorsementUnavailable, "rim.chain", measured(), rims, at=late)
    claims = compare(measured(), rims, at=late, allow_expired_signers=True)
    assert claims.expired_signers == tuple(sorted(rims))
    assert claims.expires_at > late


# --- arguments and doors ------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [(), ("x",), (None,)])
def test_what_is_no_device(compare, rims, devices):
    with pytest.raises(ConfigurationError):
        compare(devices, rims)


def test_devices_under_other_roots(measured, rims, at):
    with pytest.raises(ConfigurationError):
        nvidia.compare_measurements(measured(), rims.get, at=at)


def test_through_endorsements(measured, rims, at, roots, tmp_path):
    for name, xml in rims.items():
        (tmp_path / f"{name}.xml").write_bytes(xml)
    endorsements = nvidia.Endorsements.load(tmp_path)
    devices = measured()
    assert endorsements.verify_measurements(devices, at=at, roots=roots).devices
    assert not endorsements.is_empty


def test_two_different_files_under_one_id(measured, rims, at, roots):
    files = tuple(nvidia.RimFile(name, xml) for name, xml in rims.items())
    twice = nvidia.Endorsements(rims=files + files)
    assert twice.verify_measurements(measured(), at=at, roots=roots)
    other = nvidia.RimFile(files[0].id, b"other")
    with pytest.raises(EndorsementInvalid) as caught:
        nvidia.Endorsements(rims=(*files, other)).verify_measurements(
            measured(), at=at, roots=roots
        )
    assert caught.value.id == PRESENT


def test_one_manifest_alone(measured, rims, at, roots):
    (device,) = measured({0: OTHER})
    driver, vbios = (nvidia.verify_rim(xml, at=at, roots=roots) for xml in rims.values())
    assert len(nvidia.compare_manifest(device, driver).compared) == 20
    with pytest.raises(TcbRejected):
        nvidia.compare_manifest(device, vbios)
    with pytest.raises(ConfigurationError):
        nvidia.compare_manifest(device, rims)


def test_claims_are_made_by_comparing():
    with pytest.raises(ConfigurationError):
        nvidia.MeasurementClaims(
            devices=(), rims={}, expires_at=None, expired_signers=(), roots_kind="embedded",
            seal=object(),
        )  # fmt: skip
