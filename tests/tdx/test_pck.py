"""The Intel extension of PCK certificates, in DER."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teeverify.errors import MalformedEvidence
from teeverify.simulator.intel_pck import SimulatedPlatform
from teeverify.tdx.pck import parse_pck_extension

GOOD = {
    "fmspc": "90c06f000000",
    "pce_id": "0000",
    "components": (3, 3, 2, 2, 4, 1, 0, 5, 255, 128, 127, 0, 0, 0, 0, 0),
    "pce_svn": 40000,
    "ppid": bytes(range(16)),
    "platform_instance_id": bytes(range(16, 32)),
    "configuration": (True, False, True),
}


def extension(**overrides) -> bytes:
    return SimulatedPlatform(**{**GOOD, **overrides}).extension()


def test_every_field():
    found = parse_pck_extension(extension(), platform=True)
    assert found.fmspc.hex() == GOOD["fmspc"]
    assert found.pce_id.hex() == GOOD["pce_id"]
    assert found.tcb.components == GOOD["components"]
    assert found.tcb.pce_svn == 40000
    assert found.tcb.cpu_svn == bytes(GOOD["components"])
    assert found.ppid == GOOD["ppid"]
    assert found.sgx_type == 1
    assert found.platform_instance_id == GOOD["platform_instance_id"]
    assert (found.dynamic_platform, found.cached_keys, found.smt_enabled) == (True, False, True)


def test_a_processor_ca_states_less():
    value = extension(platform_instance_id=None, configuration=None)
    found = parse_pck_extension(value, platform=False)
    assert found.platform_instance_id is None
    assert found.smt_enabled is None
    with pytest.raises(MalformedEvidence, match="Platform CA"):
        parse_pck_extension(value, platform=True)


@pytest.mark.parametrize(
    "overrides",
    [
        {"fmspc": "90c06f0000"},
        {"pce_id": "000000"},
        {"ppid": bytes(15)},
        {"platform_instance_id": bytes(17)},
        {"components": (0,) * 15},
        {"components": (0,) * 17},
        {"components": (256, *([0] * 15))},
        {"pce_svn": 65536},
        {"pce_svn": -1},
        {"sgx_type": 3},
        {"configuration": (True, True)},
    ],
)
def test_fields_of_another_form(overrides):
    with pytest.raises(MalformedEvidence) as caught:
        parse_pck_extension(extension(**overrides), platform=True)
    assert caught.value.id == "tdx.pck-chain"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0101ff", "010101"),  # TRUE is FF
        ("0a0101", "020101"),  # an INTEGER where an ENUMERATED must be
        ("0203009c40", "0204009c40"),
        ("0202009c40"[:6] + "80", "020180"),  # negative
    ],
)
def test_values_that_are_not_der(old, new):
    value = extension()
    changed = value.replace(bytes.fromhex(old), bytes.fromhex(new), 1)
    if changed == value:
        pytest.skip("not in this encoding")
    with pytest.raises(MalformedEvidence):
        parse_pck_extension(changed, platform=True)


def test_every_prefix_and_any_suffix_is_refused():
    value = extension()
    for size in range(len(value)):
        with pytest.raises(MalformedEvidence):
            parse_pck_extension(value[:size], platform=True)
    with pytest.raises(MalformedEvidence):
        parse_pck_extension(value + b"\0", platform=True)


def test_a_field_twice_or_of_another_arc_is_refused():
    # SEQUENCE of the PPID field twice.
    ppid = bytes.fromhex("301e060a2a864886f84d010d01010410") + bytes(16)
    other = bytes.fromhex("301e060a2a864886f84d010d02010410") + bytes(16)
    for fields in (ppid + ppid, other):
        value = bytes([0x30, len(fields)]) + fields
        with pytest.raises(MalformedEvidence):
            parse_pck_extension(value, platform=False)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_mutations_raise_nothing_else(position, value):
    data = bytearray(extension())
    data[position % len(data)] = value
    try:
        parse_pck_extension(bytes(data), platform=True)
    except MalformedEvidence:
        pass
