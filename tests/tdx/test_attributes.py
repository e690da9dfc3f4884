"""TD_ATTRIBUTES by name."""

from __future__ import annotations

import pytest

from teeverify import tdx

BITS = {
    "debug": (0,),
    "profiling": (4, 5, 6),
    "icssd": (16,),
    "service_td_extension": (17,),
    "lass": (27,),
    "sept_ve_disable": (28,),
    "migratable": (29,),
    "pks": (30,),
    "kl": (31,),
    "tpa": (62,),
    "perfmon": (63,),
}
RESERVED = {*range(1, 4), *range(7, 16), *range(23, 27), *range(32, 62)}


@pytest.mark.parametrize("bit", range(64))
def test_each_bit_is_one_thing(bit):
    found = tdx.TdAttributes.from_bytes((1 << bit).to_bytes(8, "little"))
    assert {name for name in BITS if getattr(found, name)} == {
        name for name, bits in BITS.items() if bit in bits
    }
    assert found.reserved_bits == ((bit,) if bit in RESERVED else ())


def test_all_and_none():
    assert set(tdx.TdAttributes.from_bytes(b"\xff" * 8).reserved_bits) == RESERVED
    nothing = tdx.TdAttributes.from_bytes(bytes(8))
    assert not nothing.reserved_bits
    assert not any(getattr(nothing, name) for name in BITS)


def test_claims_show_them(forge):
    raw = forge.intel.quote(td_attributes=(1 << 29 | 1 << 63).to_bytes(8, "little"))
    attributes = forge.verify(raw).td_attributes
    assert attributes.migratable
    assert attributes.perfmon
    assert not attributes.sept_ve_disable


def test_service_td(forge):
    bound = forge.intel.quote(version=5, body="1.5", mr_service_td=b"\x01" * 48)
    assert forge.verify(bound).mr_service_td == b"\x01" * 48
    assert forge.verify(forge.intel.quote(version=5, body="1.5")).mr_service_td == bytes(48)
