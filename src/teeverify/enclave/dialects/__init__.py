"""How the server talks about itself: reports, and what is signed. One interface, a file a family.

Each dialect has keys of its own, so that nothing that one of them signs can be shown as another's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

from teeverify.enclave.asgi import Header
from teeverify.enclave.collectors import Tee
from teeverify.enclave.exchange import Exchange
from teeverify.enclave.store import SignatureRecord

__all__ = ["Certificate", "ServerDialect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a dialect says about an exchange that is over.

    Attributes:
        records: What is stored, all or none of it, before the last byte of the answer leaves.
        headers: Headers that an answer in one piece carries.
        trailer: What a stream carries after its last byte; no part of what was hashed.
    """

    records: tuple[SignatureRecord, ...]
    headers: tuple[Header, ...] = ()
    trailer: bytes = b""


class ServerDialect(Protocol):
    """One dialect."""

    @property
    def name(self) -> str:
        """Its name, as ``--dialect`` takes it."""

    @property
    def marker(self) -> bytes:
        """The header, in lower case, by which a request names it; empty where none does."""

    def admit(self, exchange: Exchange) -> None:
        """Look at a request's head, before anything else is done.

        Raises:
            HttpError: It is not for this server, or has another form.
        """

    def begin(self, exchange: Exchange) -> tuple[Header, ...]:
        """Headers that every answer carries, from its first byte on."""

    def question(self, query: Mapping[str, str]) -> Hashable:
        """Read the query of the report's route. Equal questions share one answer.

        Raises:
            HttpError: It asks for what there is not.
        """

    def report(self, question: Hashable, tee: Tee) -> bytes:
        """Gather evidence and write it down as JSON. Called in the attester's thread."""

    def record_kind(self, query: Mapping[str, str]) -> str:
        """Which of its records the query of the signature's route asks for.

        Raises:
            HttpError: There is no such kind.
        """

    def certify(self, exchange: Exchange) -> Certificate | None:
        """Sign an exchange that is over, however it ended.

        Returns:
            ``None`` where this dialect says nothing about such an exchange.

        Raises:
            HttpError: It ought to be signed and cannot be; the answer must not be given.
        """
