"""The embedded engine behind the interface of an upstream: chat completions, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

from teeverify.clock import now
from teeverify.enclave.asgi import json_bytes
from teeverify.enclave.chat import DONE, Chat
from teeverify.enclave.chat_request import ChatRequest, parse_chat
from teeverify.enclave.engines import Engine, EngineBusy, EngineFailed
from teeverify.enclave.engines.backend import Answer, Asked, BrokenOff
from teeverify.enclave.errors import HttpError
from teeverify.enclave.framing import ANSWERS, Framing

__all__ = ["Embedded"]

_ROUTE = "/v1/chat/completions"
_PARSED_INLINE = 64 * 1024
_NO_END = b": no end\n\n"  # a comment, which no client takes for an event
_JSON = b"application/json"
_STREAM = b"text/event-stream; charset=utf-8"


class Embedded:
    """A :class:`~teeverify.enclave.engines.backend.Backend` around an engine of this process.

    Args:
        engine: What answers.
        model: The name under which it answers.
        truncated: Whether streams end, as if all were well, without their last event: a fault to
            be tested against.
    """

    def __init__(self, engine: Engine, *, model: str, truncated: bool = False) -> None:
        self._engine = engine
        self._model = model
        self._terminal = _NO_END if truncated else DONE
        self._created = int(now().timestamp())
        framing = Framing(_NO_END.strip()) if truncated else ANSWERS[_ROUTE]
        self.routes: Mapping[str, Framing] = {**ANSWERS, _ROUTE: framing}
        self.description: Mapping[str, object] = {
            "kind": "embedded",
            "location": "process",
            "model": model,
            "weights": engine.fingerprint,
        }

    async def open(self, asked: Asked) -> Answer:
        """Begin an answer; see :class:`Backend`. It can answer the route of chats alone."""
        if asked.path != _ROUTE:
            why = f"this engine is for tests, and answers {_ROUTE} alone"
            raise HttpError(404, why, code="unknown_url")
        limits = {"max_tokens": self._engine.max_tokens, "max_bytes": max(len(asked.body), 1)}
        if len(asked.body) <= _PARSED_INLINE:
            request = parse_chat(asked.body, model=self._model, **limits)
        else:
            request = await asyncio.to_thread(parse_chat, asked.body, model=self._model, **limits)
        chat = Chat(request, self._engine, model=self._model)
        parts = self._parts(chat, request)
        return Answer(status=200, content_type=_STREAM if request.stream else _JSON, parts=parts)

    async def models(self) -> bytes:
        """The one model; see :class:`Backend`."""
        model = {
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "teeverify",
            "engine": self._engine.fingerprint,
            "description": self._engine.description,
        }
        return json_bytes({"object": "list", "data": [model]})

    async def metrics(self) -> bytes:
        """It has none; see :class:`Backend`."""
        return b""

    async def health(self) -> str | None:
        """Nothing is ever wrong with it; see :class:`Backend`."""
        return None

    async def start(self) -> None:
        """It is ready; see :class:`Backend`."""

    async def close(self) -> None:
        """Stop; see :class:`Backend`."""
        self._engine.close()

    async def _parts(self, chat: Chat, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        try:
            if not request.stream:
                yield await chat.whole()
                return
            async with contextlib.aclosing(chat.events()) as events:
                async for event in events:
                    yield event
            yield self._terminal
        except EngineBusy:
            raise HttpError.busy("too many answers are being made") from None
        except EngineFailed:
            raise BrokenOff("it stopped before the end") from None
