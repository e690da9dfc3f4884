"""What makes the answers: one interface, and the small engine that ships with the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

__all__ = ["Engine", "EngineBusy", "EngineFailed", "FinishReason", "Message", "Piece", "Sampling"]

FinishReason: TypeAlias = Literal["stop", "length"]


class EngineBusy(Exception):
    """The engine's queue is full."""


class EngineFailed(Exception):
    """The engine broke off: what came so far is no whole answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat.

    Attributes:
        role: ``system``, ``user``, ``assistant``...
        text: What it says.
    """

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_tokens: Most tokens of an answer.
        temperature: 0 takes the likeliest token each time.
        top_p: Choose among the likeliest tokens that together have this probability.
        seed: Makes sampling repeatable; ``None`` for a random one.
        ignore_end: Go on to ``max_tokens``, for load tests.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    ignore_end: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens of an answer.

    Attributes:
        text: Their text.
        tokens: How many they are.
        finish_reason: Why the answer ends with them, or ``None`` while it goes on.
    """

    text: str
    tokens: int
    finish_reason: FinishReason | None


class Engine(Protocol):
    """Makes answers, token by token, without blocking the event loop."""

    @property
    def fingerprint(self) -> str:
        """What answers carry as ``system_fingerprint``: engine, version and weights."""

    @property
    def description(self) -> str:
        """One sentence for ``/v1/models``: what this is, and what it is not."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that an answer may have."""

    def count(self, messages: Sequence[Message]) -> int:
        """How many tokens a prompt has."""

    def generate(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[Piece, None]:
        """Answer a chat. Closing the iterator stops the work.

        Raises:
            EngineBusy: The queue is full; nothing was begun.
            EngineFailed: It broke off.
        """

    def close(self) -> None:
        """Stop; whatever is being made breaks off."""
