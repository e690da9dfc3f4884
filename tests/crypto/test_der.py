"""The DER reader: one form a value, and every error says where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.crypto.der import (
    BOOLEAN,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    DerReader,
    contents_of,
    end_of,
    ends_of,
    span_of,
)
from teeverify.errors import MalformedEvidence


def reader(data, base=0):
    return DerReader(data, name="thing", id="test.der", base=base)


def refused(read):
    with pytest.raises(MalformedEvidence) as caught:
        read()
    assert caught.value.id == "test.der"
    assert caught.value.field.startswith("thing")
    return caught.value


def test_elements(tools):
    inner = tools.tlv(2, b"\x05")
    outer = reader(tools.tlv(0x30, inner, tools.tlv(4, b"ab")))
    assert outer.next_tag() == SEQUENCE
    sequence = outer.nested(SEQUENCE, "sequence")
    outer.finish()
    assert outer.next_tag() is None
    assert sequence.remaining == 7
    assert sequence.integer("number") == 5
    assert sequence.optional(BOOLEAN, "flag") is None
    assert sequence.any("octets") == (OCTET_STRING, b"ab")
    assert sequence.optional(BOOLEAN, "flag") is None
    sequence.finish()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_encoded_keeps_every_byte(tools, size):
    element = tools.tlv(4, bytes(size))
    source = reader(element + b"\x05\x00")
    assert source.encoded(OCTET_STRING, "octets") == element
    assert source.remaining == 2
    assert reader(element).value(OCTET_STRING, "octets") == bytes(size)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "04",
        "0401",
        "0480",
        "0480" + "00" * 128,
        "04800000",
        "1f00",
        "bf00",
        "048000",
        "04810161",  # shorter forms exist
        "04817f" + "00" * 127,
        "0482008000",
        "04820080" + "00" * 128,
        "0485000000000161",
        "04ff",
        "048400ffffff",
        "0484ffffffff",
        "1f0401",
        "bf8101",
    ],
)
def test_lengths_and_tags_that_are_not_der(data):
    refused(lambda: reader(bytes.fromhex(data)).any("field"))


def test_another_tag():
    error = refused(lambda: reader(b"\x02\x01\x05").value(OCTET_STRING, "field"))
    assert (error.got, error.want) == ("0x02", "0x04")


@pytest.mark.parametrize(
    ("data", "value"),
    [("020100", 0), ("02017f", 127), ("02020080", 128), ("020180", -128), ("0202ff7f", -129)],
)
def test_integers(data, value):
    assert reader(bytes.fromhex(data)).integer("n") == value


@pytest.mark.parametrize("data", ["0200", "02020001", "0202ffff", "0202007f", "0202ff80"])
def test_integers_that_are_not_der(data):
    refused(lambda: reader(bytes.fromhex(data)).integer("n"))


def test_booleans():
    assert reader(b"\x01\x01\xff").boolean("b") is True
    assert reader(b"\x01\x01\x00").boolean("b") is False
    for contents in (b"", b"\x01", b"\xff\xff"):
        refused(lambda c=contents: reader(bytes([1, len(c)]) + c).boolean("b"))


def test_bit_strings():
    assert reader(b"\x03\x02\x00\xaa").bit_string("bits") == b"\xaa"
    assert reader(b"\x03\x01\x00").bit_string("bits") == b""
    for contents in (b"", b"\x01\xaa", b"\x08\x00"):
        refused(lambda c=contents: reader(bytes([3, len(c)]) + c).bit_string("bits"))


def test_offsets_are_those_of_the_outer_buffer(tools):
    source = reader(tools.tlv(0x30, tools.tlv(0x30, b"\x02\x01")), base=100)
    inner = source.nested(SEQUENCE, "one").nested(SEQUENCE, "two")
    error = refused(lambda: inner.integer("n"))
    assert error.field == "thing.one.two.n"
    assert error.offset == 106


def test_nothing_may_be_left():
    refused(reader(b"\x05\x00").finish)


@given(st.binary(max_size=40))
def test_any_bytes(data):
    try:
        source = reader(data)
        while source.remaining:
            source.any("field")
    except MalformedEvidence:
        pass


@given(st.integers(-(2**200), 2**200))
def test_integer_round_trip(value):
    body = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    if value < 0:
        body = value.to_bytes(((value + 1).bit_length() // 8) + 1, "big", signed=True)
    assert reader(bytes([INTEGER, len(body)]) + body).integer("n") == value


@given(st.lists(st.integers(0, 70000).map(bytes), max_size=4))
def test_where_elements_are(tools, contents):
    data, ends = b"\x00", []
    for one in contents:
        start, data = len(data), data + tools.tlv(4, one)
        ends.append(len(data))
        assert span_of(data, start) == (len(data) - len(one), len(data))
        assert (contents_of(data, start), end_of(data, start)) == span_of(data, start)
    assert ends_of(data, 1, len(contents)) == ends
