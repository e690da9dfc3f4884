"""Chat completions as OpenAI's clients know them: strict requests in, exact bytes out."""

from __future__ import annotations

import contextlib
import json
import math
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
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
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
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
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    include_usage: bool


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
        texts: list[str] = []
        tokens = 0
        reason: FinishReason | None = None
        async with self._pieces() as pieces:
            async for piece in pieces:
                texts.append(piece.text)
                tokens += piece.tokens
                reason = piece.finish_reason
        _require_end(reason)
        message = {"role": "assistant", "content": "".join(texts), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return json_bytes(
            {
                "id": self.id,
                "object": "chat.completion",
                **self._common,
                "choices": [choice],
                "usage": self._usage(tokens),
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
        before, after = self._around(event)
        tokens = 0
        reason: FinishReason | None = None
        role = {"role": "assistant", "content": ""}
        async with self._pieces() as pieces:
            async for piece in pieces:
                if not tokens:
                    yield _event({**event, "choices": [_choice(role)]})
                tokens += piece.tokens
                if piece.text:
                    yield before + json.dumps(piece.text).encode("ascii") + after
                reason = piece.finish_reason
        _require_end(reason)
        yield _event({**event, "choices": [_choice({}, reason)]})
        if self._request.include_usage:
            yield _event({**event, "choices": [], "usage": self._usage(tokens)})

    def _pieces(self) -> contextlib.aclosing[AsyncGenerator[Piece, None]]:
        """The engine's pieces; the work stops when the block is left."""
        request = self._request
        return contextlib.aclosing(self._engine.generate(request.messages, request.sampling))

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = self._engine.count(self._request.messages)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
        }

    @staticmethod
    def _around(event: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """What stands before and after the text in the event of a piece."""
        mark = secrets.token_hex(16)
        template = _event({**event, "choices": [_choice({"content": mark})]})
        before, _, after = template.partition(f'"{mark}"'.encode("ascii"))
        return before, after


def _require_end(reason: FinishReason | None) -> None:
    """An engine that stops without saying why has broken off, however cleanly."""
    if reason is None:
        raise EngineFailed


def _choice(delta: Mapping[str, str], reason: FinishReason | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": reason}


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"
