"""Written DER: known answers of X.690, and what the strict reader takes it for."""

from __future__ import annotations

import pytest

from teeverify.crypto.der import DerReader
from teeverify.crypto.der_writer import element, integer, octets, sequence


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "0400"),
        (1, "0401"),
        (0x7F, "047f"),
        (0x80, "048180"),
        (0xFF, "0481ff"),
        (0x100, "04820100"),
        (0xFFFF, "0482ffff"),
        (0x10000, "0483010000"),
    ],
)
def test_lengths_in_the_shortest_form(size, head):
    written = octets(bytes(size))
    assert written == bytes.fromhex(head) + bytes(size)
    reader = DerReader(written, name="thing", id="test.der")
    assert reader.value(0x04, "octets") == bytes(size)
    reader.finish()


@pytest.mark.parametrize(
    ("value", "contents"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "0080"),
        (255, "00ff"),
        (256, "0100"),
        (32768, "008000"),
        (-1, "ff"),
        (-129, "ff7f"),
    ],
)
def test_integers(value, contents):
    written = integer(value)
    assert written[2:].hex() == contents
    assert DerReader(written, name="thing", id="test.der").integer("integer") == value


def test_elements_in_a_row():
    assert element(0xA0) == b"\xa0\x00"
    assert element(0x31, b"\x05\x00", b"\x01\x01\xff").hex() == "31050500" + "0101ff"
    assert sequence(integer(5), octets(b"ab")) == bytes.fromhex("3007020105") + b"\x04\x02ab"
