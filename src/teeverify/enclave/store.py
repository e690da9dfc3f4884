"""Where signatures wait to be fetched: written once, read until their time is up.

Each way to keep them is a file of its own: SQLite, the default, and Redis for replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AlreadyStored", "SignatureRecord", "SignatureStore", "StoreError"]


class StoreError(Exception):
    """The store could not do what was asked; nothing was stored."""


class AlreadyStored(StoreError):
    """There is an answer of this id already; nothing is written twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRecord:
    """What one dialect keeps of one answer under one of its keys.

    Attributes:
        id: The answer's id.
        kind: Dialect and algorithm, such as ``dstack/ecdsa``.
        body: What the signature's route serves.
    """

    id: str
    kind: str
    body: bytes


class SignatureStore(Protocol):
    """Signatures by answer and kind: written once, there until their time is up."""

    async def ready(self) -> None:
        """Say that the signatures of one more answer can be kept.

        Raises:
            StoreError: They cannot: the store is full, or does not answer.
        """

    async def put(self, records: Sequence[SignatureRecord]) -> None:
        """Store the records of one answer, all or none; when this returns they are safe.

        Raises:
            AlreadyStored: There is one of that id already.
            StoreError: The store says no.
        """

    async def get(self, answer_id: str, kind: str) -> bytes | None:
        """The body of a record; ``None`` where there is none, or its time is up.

        Raises:
            StoreError: The store says no.
        """

    async def withdraw(self, answer_id: str) -> None:
        """Remove the records of an answer whose end never left.

        Raises:
            StoreError: The store says no.
        """

    async def start(self) -> None:
        """Get ready, in the event loop in which it is used.

        Raises:
            ConfigurationError: It cannot be used.
        """

    async def aclose(self) -> None:
        """Finish what was asked, and close."""
