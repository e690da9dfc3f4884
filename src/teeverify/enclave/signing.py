"""Signing an answer: once it is over, in every dialect, stored before its last byte may leave."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from teeverify.enclave.asgi import Header
from teeverify.enclave.dialects import Certificate, ServerDialect
from teeverify.enclave.errors import HttpError
from teeverify.enclave.exchange import Exchange
from teeverify.enclave.metrics import Metrics
from teeverify.enclave.store import AlreadyStored, SignatureStore, StoreError

__all__ = ["Notary"]

logger = logging.getLogger("teeverify.enclave")


class Notary:
    """Has exchanges signed in every dialect, and keeps the signatures.

    Args:
        dialects: The dialects.
        store: Where signatures wait to be fetched.
        metrics: Where it is counted.
    """

    def __init__(
        self, dialects: Sequence[ServerDialect], store: SignatureStore, metrics: Metrics
    ) -> None:
        self._dialects = dialects
        self._store = store
        self._metrics = metrics

    async def require_room(self) -> None:
        """Make sure that a signature can be kept, before the engine is asked for anything.

        Raises:
            HttpError: 503: the store is full, or does not answer.
        """
        wrong = await self.health()
        if wrong is not None:
            self._metrics.store_failures.add()
            logger.error("no answer is given: %s", wrong)
            raise HttpError.store_failed(f"no answer is given: {wrong}")

    async def health(self) -> str | None:
        """What is wrong with the store, in a few words; ``None`` where one more answer fits."""
        try:
            await self._store.ready()
        except StoreError as error:
            return str(error)
        return None

    async def certify(self, exchange: Exchange) -> Certificate:
        """Sign an exchange that is over. When this returns, its signatures can be fetched.

        Raises:
            HttpError: It cannot be signed or stored; the end of the answer must not leave.
        """
        with self._metrics.signing.time():
            asked = self._asked(exchange)
            given = [found for one in asked if (found := one.certify(exchange))]
        records = tuple(record for one in given for record in one.records)
        if records:
            exchange.certified = True
            try:
                with self._metrics.storing.time():
                    await self._store.put(records)
            except StoreError as error:
                # What is stored under this id is then another answer's: not ours to take back.
                exchange.certified = not isinstance(error, AlreadyStored)
                self._metrics.store_failures.add()
                logger.error("not stored: %s", error)  # noqa: TRY400
                raise HttpError.store_failed(
                    "the answer's signature could not be stored, so it is not given"
                ) from None
            self._metrics.signatures.add(len(records))
        return Certificate(
            records=records,
            headers=tuple(header for one in given for header in one.headers),
            trailer=b"".join(one.trailer for one in given),
        )

    def _asked(self, exchange: Exchange) -> Sequence[ServerDialect]:
        """The dialects that a request names; else those that none can name, or all there are."""
        named = [one for one in self._dialects if one.marker and exchange.header(one.marker)]
        return named or [one for one in self._dialects if not one.marker] or self._dialects

    def _says_everything(self, exchange: Exchange) -> bool:
        """Whether a dialect is asked that signs errors and broken answers too."""
        return any(one.marker for one in self._asked(exchange))

    def admit(self, exchange: Exchange) -> None:
        """Look at a request's head, before anything else is done.

        Raises:
            HttpError: It is not for this server, or has another form.
        """
        for one in self._asked(exchange):
            one.admit(exchange)

    def begin(self, exchange: Exchange) -> tuple[Header, ...]:
        """Headers that every answer to this request carries."""
        return tuple(header for one in self._asked(exchange) for header in one.begin(exchange))

    async def certify_error(self, exchange: Exchange) -> tuple[Header, ...]:
        """Sign an error of our own, where a dialect does; it leaves in any case."""
        if not self._says_everything(exchange):
            return ()
        try:
            return (await self.certify(exchange)).headers
        except HttpError:
            return ()

    async def certify_abort(self, exchange: Exchange) -> None:
        """Say of an answer that broke off that it did, where a dialect does."""
        if not self._says_everything(exchange):
            return
        try:
            await self.certify(exchange)
        except HttpError as error:
            logger.error("%s: not said to be aborted: %s", exchange.id, error)  # noqa: TRY400

    async def withdraw(self, exchange: Exchange) -> None:
        """Take back the signatures of an answer whose end did not leave, if they were stored."""
        for name in (exchange.upstream_id, exchange.id):
            if name is None:
                continue
            try:
                await self._store.withdraw(name)
            except StoreError as error:
                logger.error("%s: not taken back: %s", name, error)  # noqa: TRY400

    async def look_up(self, answer_id: str, kind: str) -> bytes | None:
        """A stored record, if it can be fetched.

        Raises:
            StoreError: The store says no.
        """
        return await self._store.get(answer_id, kind)
