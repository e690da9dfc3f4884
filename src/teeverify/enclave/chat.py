"""Chat completions as OpenAI's clients know them: an engine's words in exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from typing import Any

from teeverify.clock import now
from teeverify.enclave.asgi import json_bytes
from teeverify.enclave.chat_request import ChatRequest
from teeverify.enclave.engines import Engine, EngineFailed, FinishReason, Piece, Sampling

__all__ = ["DONE", "Chat"]

DONE = b"data: [DONE]\n\n"
# In JSON mode, and as a tool's arguments, the engine's words stand as the one member of an object.
_BEFORE_TEXT, _AFTER_TEXT = '{"text": "', '"}'


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
