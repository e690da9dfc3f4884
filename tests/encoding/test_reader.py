"""The reader: forward only, and every error says which field, where, how many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence


def reader(data, base=0):
    return Reader(data, name="tdx.quote", id="test.reader", base=base)


def refused(read):
    with pytest.raises(MalformedEvidence) as caught:
        read()
    assert caught.value.id == "test.reader"
    return caught.value


def test_takes_in_order():
    source = reader(bytes(range(16)))
    assert source.take(2, "a") == b"\x00\x01"
    assert source.u8("b") == 2
    assert source.u16("c") == 0x0403
    assert source.u32("d") == 0x08070605
    assert (source.position, source.offset, source.remaining) == (9, 9, 7)
    assert source.peek() == 9
    assert source.take(0, "none") == b""
    assert source.rest() == bytes(range(9, 16))
    assert source.peek() is None
    assert source.rest() == b""
    source.finish()


def test_truncated():
    source = reader(bytes(5), base=0x4A0)
    source.take(2, "header")
    error = refused(lambda: source.take(4, "qe_report"))
    assert error.field == "tdx.quote.qe_report"
    assert (error.offset, error.need, error.have) == (0x4A2, 4, 3)
    assert str(error) == (
        "tdx.quote.qe_report: truncated at offset 0x4a2: need 4, have 3 [test.reader]"
    )
    # What failed took nothing.
    assert source.remaining == 3


@pytest.mark.parametrize("size", [-1, -(2**63), 2**63, 10**30])
def test_sizes_that_no_buffer_has(size):
    refused(lambda: reader(bytes(4)).take(size, "field"))


@pytest.mark.parametrize("read", ["u8", "u16", "u32"])
def test_integers_of_nothing(read):
    refused(lambda: getattr(reader(b""), read)("field"))


def test_zeros():
    source = reader(bytes(4) + b"\x00\x01")
    source.zeros(4, "reserved")
    error = refused(lambda: source.zeros(2, "reserved"))
    assert "not zero" in error.message
    refused(lambda: reader(bytes(1)).zeros(2, "reserved"))
    reader(b"").zeros(0, "reserved")


def test_sub_readers_keep_absolute_offsets():
    outer = reader(bytes(10), base=100)
    outer.take(3, "header")
    inner = outer.sub(4, "body")
    assert inner.offset == 103
    assert outer.offset == 107
    inner.take(2, "first")
    error = refused(lambda: inner.take(3, "second"))
    assert error.field == "tdx.quote.body.second"
    assert (error.offset, error.have) == (105, 2)
    refused(lambda: outer.sub(4, "more"))


def test_finish():
    error = refused(reader(b"\x00").finish)
    assert "trailing data" in error.message
    assert (error.need, error.have) == (0, 1)
    reader(b"").finish()


def test_built_errors_are_not_raised():
    error = reader(b"").error("odd", "field", got="1", want="2")
    assert (error.message, error.got, error.want) == ("tdx.quote.field: odd", "1", "2")


@given(st.binary(max_size=64), st.lists(st.integers(-2, 20), max_size=12))
def test_any_reads(data, sizes):
    source = reader(data)
    taken = b""
    for size in sizes:
        if 0 <= size <= source.remaining:
            taken += source.take(size, "field")
        else:
            refused(lambda n=size: source.take(n, "field"))
    assert taken + source.rest() == data
