"""Chat completions as OpenAI's clients know them: strict requests in, exact bytes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from teeverify.clock import now
from teeverify.enclave.asgi import json_bytes
from teeverify.enclave.engines import (
    Engine,
    EngineFailed,
    FinishReason,
    Message,
    Piece,
    Sampling,
)
from teeverify.enclave.errors import HttpError
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_value
from teeverify.errors import MalformedEvidence

__all__ = ["DONE", "Chat", "ChatRequest", "parse_chat"]

DONE = b"data: [DONE]\n\n"
_ID = "server.request"
_DEFAULT_TOKENS = 128
_MAX_MESSAGES = 4096
_MAX_TEMPERATURE = 2
_MAX_CHOICES = 16
_MAX_TOOLS = 128
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# In JSON mode, and as a tool's arguments, the engine's words stand as the one member of an object.
_BEFORE_TEXT, _AFTER_TEXT = '{"text": "', '"}'
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


class Chat:
    """One answer being made.

    Args:
        request: What was asked.
        engine: What answers.
        model: The name under which it answers.
    """

    def __init__(self, request: ChatRequest, engine: Engine, *, model: str) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self._request = request
        self._engine = engine
        self._common: dict[str, Any] = {
            "created": int(now().timestamp()),
            "model": model,
            "system_fingerprint": engine.fingerprint,
        }

    async def whole(self) -> bytes:
        """Make the whole answer.

        Raises:
            EngineBusy: Nothing was begun.
            EngineFailed: It broke off.
        """
        writers = [_Writer(self._request) for _ in range(self._request.choices)]
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for index, piece in pieces:
                writers[index].take(piece)
        choices = [
            {
                "index": index,
                "message": writer.message(),
                "logprobs": None,
                "finish_reason": writer.end(),
            }
            for index, writer in enumerate(writers)
        ]
        return json_bytes(
            {
                "id": self.id,
                "object": "chat.completion",
                **self._common,
                "choices": choices,
                "usage": self._usage(sum(writer.tokens for writer in writers)),
            }
        )

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Make the answer as server-sent events, all but the terminal one.

        Raises:
            EngineBusy: Nothing was begun.
            EngineFailed: It broke off.
        """
        event = {"id": self.id, "object": "chat.completion.chunk", **self._common}
        if self._request.include_usage:
            event["usage"] = None
        writers = [_Writer(self._request) for _ in range(self._request.choices)]
        around = [self._around(event, index) for index in range(len(writers))]
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for index, piece in pieces:
                writer = writers[index]
                if not writer.tokens:
                    yield _event({**event, "choices": [_choice(writer.begin(), index=index)]})
                text = writer.take(piece)
                if text:
                    before, after = around[index]
                    yield before + json.dumps(text).encode("ascii") + after
                if piece.finish_reason is not None:
                    yield _event({**event, "choices": [_choice({}, writer.end(), index=index)]})
        for writer in writers:
            writer.end()
        if self._request.include_usage:
            tokens = sum(writer.tokens for writer in writers)
            yield _event({**event, "choices": [], "usage": self._usage(tokens)})

    async def _pieces(self) -> AsyncGenerator[tuple[int, Piece], None]:
        """The engine's pieces with the choice that they belong to, as they come."""
        request = self._request
        async with contextlib.AsyncExitStack() as stack:
            made = [
                await stack.enter_async_context(
                    contextlib.aclosing(self._engine.generate(request.messages, each))
                )
                for each in _samplings(request)
            ]
            if len(made) == 1:
                async for piece in made[0]:
                    yield 0, piece
                return
            nexts = {asyncio.ensure_future(anext(each)): at for at, each in enumerate(made)}
            stack.push_async_callback(_cancel, nexts)
            while nexts:
                done, _ = await asyncio.wait(nexts, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=nexts.__getitem__):
                    at = nexts.pop(task)
                    with contextlib.suppress(StopAsyncIteration):
                        piece = task.result()
                        nexts[asyncio.ensure_future(anext(made[at]))] = at
                        yield at, piece

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = self._engine.count(self._request.messages)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
        }

    def _around(self, event: Mapping[str, Any], index: int) -> tuple[bytes, bytes]:
        """What stands before and after the text in the event of a piece."""
        mark = secrets.token_hex(16)
        delta: dict[str, Any] = {"content": mark}
        if self._request.tool is not None:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": mark}}]}
        template = _event({**event, "choices": [_choice(delta, index=index)]})
        before, _, after = template.partition(f'"{mark}"'.encode("ascii"))
        return before, after


class _Writer:
    """Puts one choice together: text, JSON, or the call of a tool."""

    def __init__(self, request: ChatRequest) -> None:
        self.tokens = 0
        self._tool = request.tool
        self._wrapped = request.as_json or request.tool is not None
        self._call_id = f"call_{secrets.token_hex(12)}"
        self._texts: list[str] = []
        self._reason: FinishReason | None = None

    def take(self, piece: Piece) -> str:
        """Add a piece; give the text that is new."""
        text = piece.text
        if self._wrapped:
            text = json.dumps(text)[1:-1]
            text = text if self.tokens else _BEFORE_TEXT + text
            text = text if piece.finish_reason is None else text + _AFTER_TEXT
        self.tokens += piece.tokens
        self._texts.append(text)
        self._reason = piece.finish_reason
        return text

    def begin(self) -> dict[str, Any]:
        """The first delta of a stream."""
        if self._tool is None:
            return {"role": "assistant", "content": ""}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"index": 0, **self._call("")}],
        }

    def message(self) -> dict[str, Any]:
        """The message of a whole answer."""
        text = "".join(self._texts)
        if self._tool is None:
            return {"role": "assistant", "content": text, "refusal": None}
        calls = [self._call(text)]
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": calls}

    def end(self) -> str:
        """Why it ended.

        Raises:
            EngineFailed: It did not: an engine that stops without saying why has broken off.
        """
        if self._reason is None:
            raise EngineFailed
        return "tool_calls" if self._tool is not None and self._reason == "stop" else self._reason

    def _call(self, arguments: str) -> dict[str, Any]:
        function = {"name": self._tool, "arguments": arguments}
        return {"id": self._call_id, "type": "function", "function": function}


def _samplings(request: ChatRequest) -> list[Sampling]:
    """One for each choice: the same seed must not make them all alike."""
    first = request.sampling
    return [
        first if first.seed is None else replace(first, seed=first.seed + at)
        for at in range(request.choices)
    ]


async def _cancel(tasks: Iterable[asyncio.Future[Piece]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _choice(
    delta: Mapping[str, Any], reason: str | None = None, *, index: int = 0
) -> dict[str, Any]:
    return {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": reason}


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"
