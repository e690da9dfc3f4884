"""JsonObject: a member of another type, or none, is an error that names it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence


def of(value):
    return JsonObject(value, path="root", id="test.fields")


def refused(read, field):
    with pytest.raises(MalformedEvidence) as caught:
        read()
    assert caught.value.id == "test.fields"
    assert caught.value.field == field
    return caught.value


SAMPLES = {
    "text": "x",
    "integer": 5,
    "number": 1.5,
    "boolean": True,
    "object": {"a": 1},
    "array": [1],
    "objects": [{"a": 1}],
    "texts": ["a", "b"],
    "hex": "00ff",
    "base64": "AAA=",
}


@pytest.mark.parametrize("name", list(SAMPLES))
def test_right_type(name):
    value = getattr(of({"m": SAMPLES[name]}), name)("m")
    if name == "hex":
        assert value == b"\x00\xff"
    elif name == "base64":
        assert value == b"\x00\x00"
    elif name == "object":
        assert value.integer("a") == 1
        assert value.path == "root.m"
    elif name == "objects":
        assert value[0].path == "root.m[0]"
    elif name == "texts":
        assert value == ("a", "b")
    else:
        assert value == SAMPLES[name]
        assert type(value) is type(SAMPLES[name])


@pytest.mark.parametrize("name", list(SAMPLES))
@pytest.mark.parametrize("value", [{}, {"m": None}, {"M": "x"}], ids=["absent", "null", "other"])
def test_absent(name, value):
    error = refused(lambda: getattr(of(value), name)("m"), "root.m")
    assert "missing" in error.message
    assert error.got is None


WRONG = {
    "text": [1, 1.5, True, [], {}],
    "integer": ["1", 1.0, True, False, [], {}],
    "number": ["1", True, False, [], {}],
    "boolean": [1, 0, "true", "false", [], {}],
    "object": ["{}", 1, [], True],
    "array": ["[]", 1, {}, True],
    "objects": ["[]", {}, 1],
    "texts": ["a", {}, ["a", 1], [None], [["a"]]],
    "hex": [0, b"00", ["00"], True],
    "base64": [0, b"AAAA", [], True],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_another_type(name, value):
    error = refused(lambda: getattr(of({"m": value}), name)("m"), "root.m")
    assert "missing" not in error.message


def test_list_with_another_type_inside():
    refused(lambda: of({"m": [{}, 1]}).objects("m"), "root.m[1]")


def test_text_that_is_not_hex_or_base64():
    for text, says in (("0aF", "odd number of digits (3)"), ("0xg", "not hexadecimal")):
        assert says in refused(lambda text=text: of({"m": text}).hex("m"), "root.m").message
    refused(lambda: of({"m": "00"}).hex("m", 2), "root.m")
    refused(lambda: of({"m": "0x00"}).hex("m"), "root.m")
    assert of({"m": "0x00"}).hex("m", 1, prefix=True) == b"\x00"
    refused(lambda: of({"m": "AB=="}).base64("m"), "root.m")
    assert of({"m": "__8"}).base64("m", url=True) == b"\xff\xff"


@pytest.mark.parametrize("value", [None, 1, "x", [], [("a", 1)], True])
def test_no_object(value):
    refused(lambda: of(value), "root")


@pytest.mark.parametrize("raw", ["[]", "1", "{", b"\xff", '{"a":1,"a":1}', "null"])
def test_parse_refuses(raw):
    refused(lambda: JsonObject.parse(raw, path="root", id="test.fields"), "root")


def test_parse():
    parsed = JsonObject.parse(b'{"a":{"b":[{"c":"x"}]}}', path="root", id="test.fields")
    [inner] = parsed.object("a").objects("b")
    assert inner.path == "root.a.b[0]"
    assert inner.text("c") == "x"
    refused(lambda: inner.text("d"), "root.a.b[0].d")


def test_members():
    value = of({"a": 1, "b": None})
    assert "a" in value
    assert "b" not in value
    assert "c" not in value
    assert value.names() == {"a", "b"}
    assert value.raw("a") == 1
    assert value.raw("c") is None


def test_object_or_text():
    assert of({"m": {"a": 1}}).object_or_text("m").integer("a") == 1
    assert of({"m": '{"a":1}'}).object_or_text("m").integer("a") == 1
    for value in ("[]", "x", "", '"{}"', '{"a":NaN}'):
        refused(lambda v=value: of({"m": v}).object_or_text("m"), "root.m")
    for value in (1, [], None):
        refused(lambda v=value: of({"m": v}).object_or_text("m"), "root.m")


def test_array_or_text():
    assert of({"m": [1]}).array_or_text("m") == [1]
    assert of({"m": "[1]"}).array_or_text("m") == [1]
    for value in ("{}", "x", "", 1, {}, None, '"[]"'):
        refused(lambda v=value: of({"m": v}).array_or_text("m"), "root.m")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(anything, st.sampled_from([*SAMPLES, "object_or_text", "array_or_text"]))
def test_any_value(value, name):
    with contextlib.suppress(MalformedEvidence):
        getattr(of({"m": value}), name)("m")
