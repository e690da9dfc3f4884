"""Decoders that refuse what Python's own let through."""

from __future__ import annotations

import base64
import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.encoding.strict import (
    MAX_JSON_BYTES,
    any_base64_bytes,
    base64_bytes,
    decimal_int,
    hex_bytes,
    json_members,
    json_value,
    utf8_text,
)
from teeverify.errors import MalformedEvidence

NAMES = {"field": "thing.part", "id": "test.strict"}


def refused(decode, value, **more):
    with pytest.raises(MalformedEvidence) as caught:
        decode(value, **NAMES, **more)
    error = caught.value
    assert error.id == "test.strict"
    assert error.field == "thing.part"
    assert "thing.part" in str(error)
    assert len(str(error)) < 400
    return error


class TestHex:
    @pytest.mark.parametrize(
        "text",
        [
            "0",
            "abc",
            "0g",
            " 00",
            "00 ",
            "00 00",
            "00\n",
            "0x00",
            "0X00",
            "-1",
            "+1",
            "\u0660\u0660",
            "\uff10\uff10",
            "\u00e90",
            "0\x00",
            "\ud800\ud800",
        ],
    )
    def test_refused(self, text):
        refused(hex_bytes, text)

    @pytest.mark.parametrize("value", [None, 0, b"00", ["00"], 1.5, True, bytearray(b"00")])
    def test_not_text(self, value):
        assert refused(hex_bytes, value).got == repr(type(value).__name__)

    def test_length(self):
        error = refused(hex_bytes, "0011", length=3)
        assert (error.need, error.have) == (3, 2)
        assert hex_bytes("0011", **NAMES, length=2) == b"\x00\x11"
        refused(hex_bytes, "00", length=0)

    def test_prefix(self):
        assert hex_bytes("0xAb", **NAMES, prefix=True) == b"\xab"
        assert hex_bytes("ab", **NAMES, prefix=True) == b"\xab"
        assert hex_bytes("0x", **NAMES, prefix=True) == b""
        for text in ("0X00", "0x0x00", "x00", "0x0"):
            refused(hex_bytes, text, prefix=True)

    def test_empty(self):
        assert hex_bytes("", **NAMES) == b""

    @given(st.binary())
    def test_round_trip(self, data):
        assert hex_bytes(data.hex(), **NAMES) == data
        assert hex_bytes(data.hex().upper(), **NAMES) == data

    @given(st.text())
    def test_any_text(self, text):
        try:
            data = hex_bytes(text, **NAMES)
        except MalformedEvidence:
            return
        assert data.hex() == text.lower()


class TestBase64:
    @pytest.mark.parametrize(
        "text",
        [
            "A",
            "AA",
            "AAA",
            "AA=",
            "AA===",
            "A===",
            "====",
            "=",
            "AAAA=",
            "AA==AA==",
            "YWJj!!==",
            "YWJj\n",
            " YWJj",
            "YW Jj",
            "YW-_",
            "YWJ\x00",
            "Y\uff37Jj",
        ],
    )
    def test_refused(self, text):
        refused(base64_bytes, text)

    @pytest.mark.parametrize(
        "text", ["A", "AAAAA", "AA==", "AAA=", "YW+/", "YWJj\n", "YW Jj", "YWJj.", "é"]
    )
    def test_url_refused(self, text):
        refused(base64_bytes, text, url=True)

    @pytest.mark.parametrize(("text", "url"), [("AB==", False), ("AAB=", False), ("AB", True)])
    def test_unused_bits(self, text, url):
        assert "unused bits" in refused(base64_bytes, text, url=url).message

    @pytest.mark.parametrize("value", [None, 0, b"AAAA", ["AAAA"], True])
    def test_not_text(self, value):
        refused(base64_bytes, value)

    def test_length(self):
        assert base64_bytes("AAAA", **NAMES, length=3) == bytes(3)
        error = refused(base64_bytes, "AAAA", length=4)
        assert (error.need, error.have) == (4, 3)

    @given(st.binary())
    def test_round_trip(self, data):
        assert base64_bytes(base64.b64encode(data).decode(), **NAMES) == data
        url = base64.urlsafe_b64encode(data).decode().rstrip("=")
        assert base64_bytes(url, **NAMES, url=True) == data

    @given(st.text(alphabet="AQgw=+/-_ \n!", max_size=12), st.booleans())
    def test_one_text_for_each_value(self, text, url):
        try:
            data = base64_bytes(text, **NAMES, url=url)
        except MalformedEvidence:
            return
        if url:
            assert base64.urlsafe_b64encode(data).decode().rstrip("=") == text
        else:
            assert base64.b64encode(data).decode() == text


class TestDecimal:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "-1",
            "+1",
            "01",
            "00",
            " 1",
            "1 ",
            "1\n",
            "1.0",
            "1e3",
            "1_000",
            "\u0663",
            "\uff11",
            "0x1",
        ],
    )
    def test_refused(self, text):
        refused(decimal_int, text)

    @pytest.mark.parametrize("value", [None, 1, 1.0, True, b"1"])
    def test_not_text(self, value):
        refused(decimal_int, value)

    def test_length(self):
        assert decimal_int("9" * 39, **NAMES) == 10**39 - 1
        refused(decimal_int, "1" + "0" * 39)
        refused(decimal_int, "1" * 10_000)

    @given(st.integers(0, 10**39 - 1))
    def test_round_trip(self, value):
        assert decimal_int(str(value), **NAMES) == value


class TestUtf8:
    @pytest.mark.parametrize("raw", [b"\xff", b"ab\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\x80"])
    def test_refused(self, raw):
        assert refused(utf8_text, raw).offset is not None

    def test_byte_order_mark(self):
        refused(utf8_text, b"\xef\xbb\xbf{}")
        assert utf8_text(b"a\xef\xbb\xbf", **NAMES) == "a\ufeff"

    @given(st.text().filter(lambda text: not text.startswith("\ufeff")))
    def test_round_trip(self, text):
        assert utf8_text(text.encode(), **NAMES) == text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            '{"a":1,}',
            "{'a':1}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "0x1",
            "nul",
            "True",
            "undefined",
            '"\t"',
            '"\\x"',
            "[1]2",
            "[1] //",
            "/**/1",
            "{}\x00",
            "\u00a0{}",
            '"',
            '"\\',
            '{"a"}',
            '{"a":}',
            "[" * 33,
        ],
    )
    def test_refused(self, text):
        refused(json_value, text)
        refused(json_value, text.encode())

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", '{"a":NaN}'])
    def test_numbers_that_json_has_not(self, text):
        refused(json_value, text)

    @pytest.mark.parametrize("text", ["1e999", "-1e999", "1" * 41, "-" + "1" * 40, "0." + "1" * 40])
    def test_numbers_out_of_range(self, text):
        refused(json_value, text)

    @pytest.mark.parametrize("text", ['{"a":%s}', '{"a":"{","b":%s}', '[{"a":%s}]', "[1,%s]"])
    def test_long_numbers_inside(self, text):
        assert json_value(text % ("1" * 40), **NAMES)
        refused(json_value, text % ("1" * 41))

    def test_longest_number(self):
        assert json_value("1" * 40, **NAMES) == int("1" * 40)

    @pytest.mark.parametrize(
        "text", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '[{"b":{"a":1,"c":2,"a":3}}]']
    )
    def test_the_same_key_twice(self, text):
        assert "twice" in refused(json_value, text).message

    @pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc00":1}', '["\\udc00\\ud800"]'])
    def test_half_a_surrogate_pair(self, text):
        assert "surrogate" in refused(json_value, text).message

    def test_surrogates_in_text_and_pairs(self):
        refused(json_value, '"\ud800"')
        assert json_value('"\\ud83d\\ude00"', **NAMES) == "\U0001f600"

    @pytest.mark.parametrize("raw", [b"\xef\xbb\xbf{}", b'"\xff"', "{}".encode("utf-16")])
    def test_not_utf8(self, raw):
        refused(json_value, raw)

    def test_depth(self):
        assert json_value("[" * 32 + "]" * 32, **NAMES)
        for deep in ("[" * 33 + "]" * 33, '{"a":' * 33 + "1" + "}" * 33, "[" * 100_000):
            assert refused(json_value, deep).have == 33
        refused(json_value, "[[]]", max_depth=1)

    def test_depth_of_texts_with_escapes(self):
        for opening, closing in (("[", "]"), ('{"\\n":', "}")):
            text = opening * 31 + '["\\n"]' + closing * 31
            assert json_value(text, **NAMES)
            error = refused(json_value, opening + text + closing)
            assert (error.need, error.have) == ("at most 32", 33)
            for size in (200, 300, 100_000):
                error = refused(json_value, opening * size + '"\\n"' + closing * size)
                assert (error.need, error.have) == ("at most 32", 33)
        refused(json_value, '["\\n",[]]', max_depth=1)

    def test_brackets_in_strings_are_not_depth(self):
        text = json.dumps(["[" * 100, '\\"' + "{" * 100, "\\"])
        assert json_value(text, **NAMES)[0] == "[" * 100

    def test_size(self):
        refused(json_value, b" " * (MAX_JSON_BYTES + 1))
        error = refused(json_value, '"12345"', max_bytes=6)
        assert (error.need, error.have) == ("at most 6", 7)
        assert json_value('"12345"', **NAMES, max_bytes=7) == "12345"
        # Bytes count, not characters.
        refused(json_value, '"éééé"', max_bytes=9)

    @pytest.mark.parametrize(
        "text",
        [
            '"' + '\\"' * 200_000,
            '"' * 400_001,
            "\\" * 400_000,
            '"\\' * 200_000,
            "{" + ",".join(f'"{n}":0' for n in range(40_000)) + ',"39999":0}',
            "[" + "1," * 200_000,
            '"' + "a" * 400_000,
        ],
        ids=["escapes", "quotes", "backslashes", "both", "keys", "numbers", "letters"],
    )
    def test_hostile_text_takes_no_longer_than_its_length(self, text):
        start = time.perf_counter()
        refused(json_value, text)
        assert time.perf_counter() - start < 5

    @given(json_values)
    def test_round_trip(self, value):
        assert json_value(json.dumps(value), **NAMES) == value
        assert json_value(json.dumps(value, ensure_ascii=False).encode(), **NAMES) == value

    @given(st.binary(max_size=60))
    def test_any_bytes(self, raw):
        try:
            value = json_value(raw, **NAMES)
        except MalformedEvidence:
            return
        assert value == json.loads(raw.decode("utf-8"))

    @given(st.text(alphabet='{}[]":,\\ue0123 ntf\n', max_size=24))
    def test_any_json_like_text(self, text):
        with contextlib.suppress(MalformedEvidence):
            json_value(text, **NAMES)


class TestMembers:
    def test_exact_bytes(self):
        text = ' {"a" : {"x": 1.0,  "y":[ ] } ,\n"b":"\\u00e9é" , "c":-0}'
        assert json_members(text, **NAMES) == {
            "a": b'{"x": 1.0,  "y":[ ] }',
            "b": '"\\u00e9é"'.encode(),
            "c": b"-0",
        }

    def test_names_with_escapes_and_brackets(self):
        assert json_members('{"\\u0061}{":1,"":{}}', **NAMES) == {"a}{": b"1", "": b"{}"}

    def test_empty(self):
        assert json_members("{ }", **NAMES) == {}

    @pytest.mark.parametrize("text", ["[]", "1", '"{}"', "null", "", "{", '{"a":1,"a":2}', "{}x"])
    def test_refused(self, text):
        refused(json_members, text)

    @given(st.dictionaries(st.text(max_size=6), json_values, max_size=5), st.integers(0, 3))
    def test_values_round_trip(self, value, indent):
        text = json.dumps(value, indent=indent or None, ensure_ascii=bool(indent % 2))
        members = json_members(text, **NAMES)
        assert {name: json.loads(raw) for name, raw in members.items()} == value
        for raw in members.values():
            assert raw in text.encode()
            assert raw == raw.strip()


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", b"\xfb\xff\xfe", bytes(range(256))])
def test_base64_of_any_writer(data):
    standard, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    for text in (standard, standard.rstrip("="), url, url.rstrip("=")):
        assert any_base64_bytes(text, field="f", id="i") == data


@pytest.mark.parametrize(
    "text", ["YQ=", "YQ===", "YWJj====", "YWI==", "=", "A-+A", "A_/A", "YR", "Y", "\u00e9", "Y Q"]
)
def test_base64_of_no_writer(text):
    with pytest.raises(MalformedEvidence):
        any_base64_bytes(text, field="f", id="i")
