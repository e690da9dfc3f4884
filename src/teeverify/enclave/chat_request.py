"""What a client asks of a chat: read strictly, and refused where it cannot be done."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from teeverify.enclave.engines import Message, Sampling
from teeverify.enclave.errors import HttpError
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_value
from teeverify.errors import MalformedEvidence

__all__ = ["ChatRequest", "parse_chat"]

_ID = "server.request"
_DEFAULT_TOKENS = 128
_MAX_MESSAGES = 4096
_MAX_TEMPERATURE = 2
_MAX_CHOICES = 16
_MAX_TOOLS = 128
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ROLES = ("system", "developer", "user", "assistant", "tool")
# What would change the answer and is not done here is refused, never passed over. The values are
# those that ask for nothing.
_NOT_OFFERED: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "stop": ([],),
    "top_logprobs": (0,),
    "web_search_options": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a request asks for.

    Attributes:
        messages: The conversation.
        sampling: How tokens are chosen.
        stream: Whether the answer is to be streamed.
        include_usage: Whether a stream is to end with the numbers of tokens.
        choices: How many answers are to be made.
        as_json: Whether they are to be JSON objects.
        tool: The tool that has to be called.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    include_usage: bool
    choices: int = 1
    as_json: bool = False
    tool: str | None = None


def parse_chat(raw: bytes, *, model: str, max_tokens: int, max_bytes: int) -> ChatRequest:
    """Read a request's body.

    Args:
        raw: The bytes as received.
        model: The model that is served.
        max_tokens: The most tokens that an answer may have.
        max_bytes: The largest body that is read.

    Raises:
        HttpError: 400: not JSON, or not such a request; 404: another model.
    """
    try:
        request = JsonObject(
            json_value(raw, field="request", id=_ID, max_bytes=max_bytes), path="request", id=_ID
        )
        if request.text("model") != model:
            raise HttpError.unknown_model()
        for name, idle in _NOT_OFFERED.items():
            if name in request and request.raw(name) not in idle:
                raise HttpError.bad_request(
                    f"this engine does not offer {name!r} with this value", param=name
                )
        stream = "stream" in request and request.boolean("stream")
        return ChatRequest(
            messages=_messages(request),
            sampling=_sampling(request, max_tokens),
            stream=stream,
            include_usage=stream and _include_usage(request),
            choices=_choices(request),
            as_json=_as_json(request),
            tool=_tool(request),
        )
    except MalformedEvidence as error:
        # Without what was found: it may be a piece of a prompt.
        raise HttpError.bad_request(error.message, param=_param(error.field)) from None


def _param(path: str) -> str:
    """Where in the request, as clients know it."""
    return path.removeprefix("request.")


def _messages(request: JsonObject) -> tuple[Message, ...]:
    messages = request.objects("messages")
    if not 0 < len(messages) <= _MAX_MESSAGES:
        raise HttpError.bad_request(f"need 1 to {_MAX_MESSAGES} messages", param="messages")
    return tuple(_message(message) for message in messages)


def _message(message: JsonObject) -> Message:
    role = message.text("role")
    if role not in _ROLES:
        raise HttpError.bad_request(
            f"a role is one of {', '.join(_ROLES)}", param=_param(f"{message.path}.role")
        )
    if isinstance(message.raw("content"), list):
        parts = message.objects("content")
        if any(part.text("type") != "text" for part in parts):
            raise HttpError.bad_request(
                "this engine reads only text", param=_param(f"{message.path}.content")
            )
        return Message(role, "".join(part.text("text") for part in parts))
    if role == "assistant" and "content" not in message and "tool_calls" in message:
        return Message(role, "")
    return Message(role, message.text("content"))


def _sampling(request: JsonObject, most: int) -> Sampling:
    tokens = min(_DEFAULT_TOKENS, most)
    for name in ("max_tokens", "max_completion_tokens"):
        if name in request:
            tokens = request.integer(name)
    if not 0 < tokens <= most:
        raise HttpError.bad_request(f"an answer has 1 to {most} tokens", param="max_tokens")
    return Sampling(
        max_tokens=tokens,
        temperature=_number(request, "temperature", 1.0, most=_MAX_TEMPERATURE),
        top_p=_number(request, "top_p", 1.0, most=1),
        seed=request.integer("seed") if "seed" in request else None,
        ignore_end="ignore_eos" in request and request.boolean("ignore_eos"),
    )


def _number(request: JsonObject, name: str, default: float, *, most: int) -> float:
    value = request.raw(name)
    if value is None:
        return default
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not 0 <= value <= most:
        raise HttpError.bad_request(f"{name} is a number from 0 to {most}", param=name)
    return float(value)


def _choices(request: JsonObject) -> int:
    count = request.integer("n") if "n" in request else 1
    if not 1 <= count <= _MAX_CHOICES:
        raise HttpError.bad_request(f"n is a number from 1 to {_MAX_CHOICES}", param="n")
    return count


def _as_json(request: JsonObject) -> bool:
    if "response_format" not in request:
        return False
    kind = request.object("response_format").text("type")
    if kind not in ("text", "json_object"):
        raise HttpError.bad_request(
            "this engine writes text, or some JSON object", param="response_format"
        )
    return kind == "json_object"


def _tool(request: JsonObject) -> str | None:
    """The tool that has to be called. Left the choice, this engine calls none."""
    tools = request.objects("tools") if "tools" in request else ()
    names = [tool.object("function").text("name") for tool in tools]
    if len(names) > _MAX_TOOLS or not all(_TOOL_NAME.fullmatch(name) for name in names):
        raise HttpError.bad_request("a tool has no name that is one", param="tools")
    choice = request.raw("tool_choice")
    if choice in (None, "none", "auto"):
        return None
    if choice == "required":
        named = names[0] if names else None
    elif isinstance(choice, dict):
        named = request.object("tool_choice").object("function").text("name")
    else:
        named = None
    if named not in names:
        raise HttpError.bad_request("there is no such tool to choose", param="tool_choice")
    return named


def _include_usage(request: JsonObject) -> bool:
    if "stream_options" not in request:
        return False
    options = request.object("stream_options")
    return "include_usage" in options and options.boolean("include_usage")
