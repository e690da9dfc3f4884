"""Chat requests are read strictly, and what is not offered is refused."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.enclave.chat_request import parse_chat
from teeverify.enclave.errors import HttpError

MAX_BYTES = 500_000
MESSAGES = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]


def parse(raw=None, **members):
    if raw is None:
        raw = json.dumps({"model": "default", "messages": MESSAGES} | members).encode()
    return parse_chat(raw, model="default", max_tokens=100, max_bytes=MAX_BYTES)


def refused(status, raw=None, **members):
    with pytest.raises(HttpError) as caught:
        parse(raw, **members)
    assert caught.value.status == status
    assert "canary" not in caught.value.message
    return caught.value


def test_the_least():
    request = parse()
    assert [(message.role, message.text) for message in request.messages] == [("user", "Hello")]
    assert not request.stream
    assert not request.include_usage
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (1.0, 1.0, None)
    assert not sampling.ignore_end


def test_everything():
    request = parse(
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        temperature=0,
        top_p=0.5,
        seed=-3,
        ignore_eos=True,
        user="somebody",
        n=1,
        stop=None,
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        logprobs=False,
    )
    assert request.stream
    assert request.include_usage
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (5, 0.0, 0.5)
    assert (sampling.seed, sampling.ignore_end) == (-3, True)


@pytest.mark.parametrize(
    ("members", "choices", "as_json", "tool"),
    [
        ({"n": 3}, 3, False, None),
        ({"response_format": {"type": "json_object"}}, 1, True, None),
        ({"tools": TOOLS}, 1, False, None),
        ({"tools": TOOLS, "tool_choice": "auto"}, 1, False, None),
        ({"tools": TOOLS, "tool_choice": "required"}, 1, False, "look_up"),
        ({"tools": TOOLS, "tool_choice": {"function": {"name": "look_up"}}}, 1, False, "look_up"),
    ],
)
def test_choices_json_and_tools(members, choices, as_json, tool):
    request = parse(**members)
    assert (request.choices, request.as_json, request.tool) == (choices, as_json, tool)


def test_a_message_that_called_a_tool_says_nothing():
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert parse(messages=[*MESSAGES, called]).messages[1].text == ""


def test_the_newer_name_of_max_tokens_wins():
    assert parse(max_tokens=5, max_completion_tokens=7).sampling.max_tokens == 7


def test_usage_is_only_for_streams():
    assert not parse(stream_options={"include_usage": True}).include_usage


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_roles(role):
    assert parse(messages=[{"role": role, "content": ""}]).messages[0].role == role


def test_text_in_parts():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert parse(messages=[{"role": "user", "content": parts}]).messages[0].text == "one two"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"canary",
        b"[]",
        b"null",
        b'"canary"',
        b"{",
        b'{"model":"default"}',
        b'{"messages":[]}',
        b'{"model":"default","model":"canary","messages":[]}',
        b'{"model":"default","messages":[],"temperature":NaN}',
        b'\xef\xbb\xbf{"model":"default"}',
        b'{"model":"\xff"}',
        b'{"model":"default","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"model":"default","messages":[{"role":"user","content":"' + b"x" * MAX_BYTES + b'"}]}',
        b'{"model":"default","messages":[{"role":"user","content":"x"}],"seed":' + b"9" * 50 + b"}",
    ],
)
def test_what_is_no_request(raw):
    refused(400, raw)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "canary"}, "messages"),
        ({"messages": ["canary"]}, "messages[0]"),
        ({"messages": MESSAGES * 5000}, "messages"),
        ({"messages": [{"content": "canary"}]}, "messages[0].role"),
        ({"messages": [{"role": "canary", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"canary": 1}}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "1"}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"seed": 1.0}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, None),
        ({"ignore_eos": 1}, "ignore_eos"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"stop": "canary"}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": {"name": "no name"}}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"function": {"name": "other"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "canary"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"audio": {}}, "audio"),
    ],
)
def test_what_cannot_be_served(members, param):
    error = refused(400, **members)
    if param is not None:
        assert error.param == param


@pytest.mark.parametrize("model", ["other", "", "Default", "default "])
def test_another_model(model):
    assert refused(404, model=model).code == "model_not_found"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_understood_or_refused(raw):
    with contextlib.suppress(HttpError):
        parse(raw)


@given(
    st.dictionaries(
        st.sampled_from(
            ["model", "messages", "stream", "max_tokens", "temperature", "top_p", "seed", "stop"]
        ),
        JSON | st.just(MESSAGES),
    )
)
def test_whatever_is_asked_is_understood_or_refused(members):
    with contextlib.suppress(HttpError):
        request = parse(**members)
        assert 0 < request.sampling.max_tokens <= 100
        assert 0 <= request.sampling.temperature <= 2


def test_the_largest_depth_and_size_are_caps_of_the_parser():
    assert refused(400, b" " * (MAX_BYTES + 1)).param == "request"
