"""GPUs and switches of one machine name each other by what their certificates hold."""

from __future__ import annotations

import pytest

from teeverify import nvidia
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence, TeeVerifyError
from teeverify.simulator.nvidia import ABSENT

ID = "gpu.switches"


@pytest.fixture(scope="session")
def machine(vendor, verify, nonce):
    def run(gpus: int = 8, switches: int = 4, changes=None):
        entries = vendor.protected_machine(nonce, gpus, switches, changes=changes)
        return verify(entries).devices

    return run


@pytest.fixture(scope="session")
def no():
    def run(devices, error: type[TeeVerifyError]) -> TeeVerifyError:
        with pytest.raises(TeeVerifyError) as caught:
            nvidia.verify_topology(devices)
        assert (type(caught.value), caught.value.id) == (error, ID), caught.value
        assert ID in {item.id for item in nvidia.TOPOLOGY_CHECKS}
        return caught.value

    return run


def test_a_whole_machine(machine, vendor):
    claims = nvidia.verify_topology(machine())
    assert claims.gpus == tuple(vendor.gpu(index).pdi.hex() for index in range(8))
    assert claims.switches == tuple(vendor.gpu(index, chip="LS_10").pdi.hex() for index in range(4))


def test_the_order_does_not_matter(machine):
    assert nvidia.verify_topology(machine()[::-1])


@pytest.mark.parametrize("left_out", [0, 7, 8, 11])
def test_one_device_is_missing(machine, no, left_out):
    """Counting to eight and four would not see which ones."""
    devices = machine()
    no([*devices[:left_out], *devices[left_out + 1 :]], BindingMismatch)


def test_a_gpu_of_another_machine(machine, vendor, verify, nonce, no):
    """It is genuine, and its own links even name our switches."""
    devices = machine()
    ports = b"".join(vendor.gpu(i, chip="LS_10").pdi[::-1] for i in range(4)) * 4
    opaque = {21: b"\xaa", 36: b"\x02\0", 22: ports.ljust(144, b"\0")}
    (foreign,) = verify([vendor.gpu(12).evidence(nonce, opaque=opaque)]).devices
    no([foreign, *devices[1:]], BindingMismatch)


def test_a_switch_of_another_machine(machine, vendor, verify, nonce, no):
    devices = machine()
    other = vendor.gpu(12, chip="LS_10")
    pdis = b"".join(vendor.gpu(index).pdi for index in range(8)) + b"\xff" * 64
    (foreign,) = verify([other.evidence(nonce, opaque={22: other.pdi, 26: pdis})]).devices
    no([*devices[:11], foreign], BindingMismatch)


@pytest.mark.parametrize("value", [bytes(8), b"\xff" * 8, b"\1" * 8, b"", bytes(9), ABSENT])
def test_a_switch_that_names_itself_otherwise(machine, no, value):
    no(machine(changes={8: {"opaque": {22: value}}}), BindingMismatch)


@pytest.mark.parametrize("reverse", [True, False])
def test_byte_order_matters(machine, vendor, no, reverse):
    """A GPU writes the identifiers of switches backwards, a switch those of GPUs forwards."""
    cards = [vendor.gpu(index).pdi for index in range(8)]
    links = [vendor.gpu(index, chip="LS_10").pdi for index in range(4)]
    if reverse:
        backwards = b"".join(pdi[::-1] for pdi in cards) + b"\xff" * 64
        no(machine(changes={8: {"opaque": {26: backwards}}}), BindingMismatch)
    else:
        no(machine(changes={0: {"opaque": {22: b"".join(links * 4)}}}), BindingMismatch)


@pytest.mark.parametrize("place", [0, 5])
def test_a_gpu_that_names_no_switches(machine, no, place):
    for value in (ABSENT, bytes(144), b""):
        no(machine(changes={place: {"opaque": {22: value}}}), BindingMismatch)


def test_a_switch_that_names_no_gpus(machine, no):
    no(machine(changes={9: {"opaque": {26: ABSENT}}}), BindingMismatch)
    no(machine(changes={9: {"opaque": {26: bytes(128)}}}), BindingMismatch)


def test_lists_of_another_length(machine, no):
    no(machine(changes={9: {"opaque": {26: bytes(63)}}}), MalformedEvidence)
    no(machine(changes={0: {"opaque": {22: bytes(143)}}}), MalformedEvidence)


def test_two_devices_with_one_identifier(machine, vendor, verify, nonce, no):
    """Serial numbers may differ above the eight bytes that are compared."""
    devices = machine()
    serial = (0x42 << 64) | int.from_bytes(vendor.gpu(0).pdi, "big")
    entry = vendor.gpu(13).evidence(nonce, brom={"serial": serial})
    (twin,) = verify([entry]).devices
    no([twin, *devices], BindingMismatch)


def test_a_device_without_identifier(machine, vendor, verify, nonce, no):
    entry = vendor.gpu(14).evidence(nonce, brom={"serial": 0x41 << 64})
    (nameless,) = verify([entry]).devices
    no([nameless, *machine()], BindingMismatch)


@pytest.mark.parametrize(("gpus", "switches"), [(8, 0), (0, 4), (0, 0)])
def test_only_one_kind(machine, gpus, switches):
    devices = machine() if (gpus, switches) != (0, 0) else ()
    devices = [*devices[:gpus], *devices[12 - switches :]] if devices else []
    with pytest.raises(ConfigurationError):
        nvidia.verify_topology(devices)


def test_what_is_no_device():
    with pytest.raises(ConfigurationError):
        nvidia.verify_topology(["x"])


def test_when_switches_are_needed(machine, verify, vendor, nonce):
    assert nvidia.needs_switches(machine(8, 4))
    assert nvidia.needs_switches(machine(8, 0))
    assert not nvidia.needs_switches(machine(7, 0))
    assert not nvidia.needs_switches(verify(vendor.evidence_list(nonce, 8)).devices)


def test_claims_are_made_by_verifying():
    with pytest.raises(ConfigurationError):
        nvidia.TopologyClaims(gpus=(), switches=(), roots_kind="embedded", seal=object())
