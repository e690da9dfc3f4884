"""The Intel extension of PCK certificates, in DER."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify.errors import MalformedEvidence
from teeverify.simulator.intel_pck import SimulatedPlatform
from teeverify.tdx import pck
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
    assert found.tcb.components == bytes(GOOD["components"])
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
        ("0203009c40", "020300ffff"),  # 65535 is the last allowed
        ("0203009c40", "0203800000"),  # negative
        ("0203009c40", "0203010000"),  # 65536
        ("020200ff", "0202ffff"),  # negative
        ("020200ff", "0202007f"),  # not the shortest
    ],
)
def test_values_that_are_not_der_or_out_of_range(old, new):
    value = extension()
    changed = value.replace(bytes.fromhex(old), bytes.fromhex(new), 1)
    assert changed != value
    if new == "020300ffff":
        assert parse_pck_extension(changed, platform=True).tcb.pce_svn == 65535
        return
    with pytest.raises(MalformedEvidence):
        parse_pck_extension(changed, platform=True)


def test_every_prefix_and_any_suffix_is_refused():
    value = extension()
    for size in range(len(value)):
        with pytest.raises(MalformedEvidence):
            parse_pck_extension(value[:size], platform=True)
    with pytest.raises(MalformedEvidence):
        parse_pck_extension(value + b"\0", platform=True)


def sequence(content: bytes) -> bytes:
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


PAIR = bytes.fromhex("301e060a2a864886f84d010d01010410") + bytes(16)  # the PPID


@pytest.mark.parametrize(
    ("pair", "accepted"),
    [
        (PAIR.replace(b"\x0d\x01\x01", b"\x0d\x01\x08"), True),  # a number not known yet
        (PAIR, False),  # the same twice
        (PAIR.replace(b"\x0d\x01\x01", b"\x0d\x02\x08"), False),  # another arc
        (PAIR + b"\x05\x00", False),
    ],
)
def test_one_more_field(pair, accepted):
    value = extension()
    content = value[4:]
    assert value == sequence(content)
    if accepted:
        assert parse_pck_extension(sequence(content + pair), platform=True)
    else:
        with pytest.raises(MalformedEvidence):
            parse_pck_extension(sequence(content + pair), platform=True)


def test_one_more_svn():
    value = extension()
    start = value.index(bytes.fromhex("060a2a864886f84d010d0102")) + 12
    size = int.from_bytes(value[start + 2 : start + 4], "big")
    tcb = value[start + 4 : start + 4 + size]
    more = bytes.fromhex("3010060b2a864886f84d010d010213020100")
    field = bytes.fromhex("060a2a864886f84d010d0102") + sequence(tcb + more)
    # The PPID field before it, this field, and those after it.
    before, after = value[4 : start - 12 - 4], value[start + 4 + size :]
    assert sequence(before + sequence(value[start - 12 : start + 4 + size]) + after) == value
    with pytest.raises(MalformedEvidence, match="19 fields"):
        parse_pck_extension(sequence(before + sequence(field) + after), platform=True)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_mutations_raise_nothing_else(position, value):
    data = bytearray(extension())
    data[position % len(data)] = value
    with contextlib.suppress(MalformedEvidence):
        parse_pck_extension(bytes(data), platform=True)


@given(
    st.lists(st.integers(0, 255), min_size=16, max_size=16),
    st.one_of(st.integers(0, 300), st.integers(0, 0xFFFF)),
)
def test_the_usual_form_and_the_general_one_read_the_same(components, pce_svn):
    """The quick reading is only ever quicker: element by element gives the same."""
    value = extension(components=tuple(components), pce_svn=pce_svn)
    quick = parse_pck_extension(value, platform=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pck, "_USUAL_TCB", re.compile(rb"(?!)"))
        assert parse_pck_extension(value, platform=True) == quick
    assert (quick.tcb.components, quick.tcb.pce_svn) == (bytes(components), pce_svn)


@given(st.data())
def test_no_change_makes_the_quick_reading_the_laxer_one(data):
    value = bytearray(extension())
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))

    def read():
        with contextlib.suppress(MalformedEvidence):
            return parse_pck_extension(bytes(value), platform=True)

    quick = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pck, "_USUAL_TCB", re.compile(rb"(?!)"))
        assert read() == quick
