"""Signatures in Redis, for replicas behind one load balancer: any of them serves what another made.

One key an answer, written once (``SET NX EX``), whole or not at all. Redis must not evict: where it
does, a signature could be gone before its time, so such a server is refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from teeverify.enclave.store import AlreadyStored, SignatureRecord, StoreError
from teeverify.encoding.strict import json_members
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["RedisStore"]

_PREFIX = "teeverify:answer:"
_SECONDS = 2.0
_LOOK_SECONDS = 0.5
# Kept free for answers that were begun while there was room.
_RESERVE = 4 * 1024 * 1024
_LOST = (RedisError, OSError, asyncio.TimeoutError)


class RedisStore:
    """A :class:`~teeverify.enclave.store.SignatureStore` that replicas share.

    Args:
        url: ``redis://host:port/number``, ``rediss://`` or ``unix:///path``.
        ttl_seconds: How long a signature can be fetched.

    Raises:
        ConfigurationError: No such address.
    """

    def __init__(self, url: str, *, ttl_seconds: int = 3600) -> None:
        self._ttl = ttl_seconds
        self._looked_at = float("-inf")
        self._wrong: str | None = None
        try:
            self._redis = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:
            raise ConfigurationError(
                "this is no address of a Redis", id="usage.store", got=url.partition("@")[2] or url
            ) from None

    async def start(self) -> None:
        """Look whether it answers, and keeps what it is given.

        Raises:
            ConfigurationError: It does not.
        """
        await self._look()
        if self._wrong is not None:
            raise ConfigurationError(self._wrong, id="usage.store")

    async def ready(self) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        if self._wrong is not None or time.monotonic() - self._looked_at > _LOOK_SECONDS:
            await self._look()
        if self._wrong is not None:
            raise StoreError(self._wrong)

    async def put(self, records: Sequence[SignatureRecord]) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        (answer_id,) = {record.id for record in records}
        # The bodies are JSON already.
        parts = (f"{json.dumps(one.kind)}:{one.body.decode('ascii')}" for one in records)
        try:
            new = await self._redis.set(
                _PREFIX + answer_id, "{" + ",".join(parts) + "}", nx=True, ex=self._ttl
            )
        except _LOST as error:
            self._wrong = _words(error)
            raise StoreError(self._wrong) from None
        if not new:
            raise AlreadyStored("there is an answer of this id already")

    async def get(self, answer_id: str, kind: str) -> bytes | None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        try:
            found = await self._redis.get(_PREFIX + answer_id)
        except _LOST as error:
            raise StoreError(_words(error)) from None
        if found is None:
            return None
        try:
            return json_members(found, field="record", id="server.store").get(kind)
        except MalformedEvidence:
            raise StoreError("the record is none of ours") from None

    async def withdraw(self, answer_id: str) -> None:
        """See :class:`~teeverify.enclave.store.SignatureStore`."""
        try:
            await self._redis.delete(_PREFIX + answer_id)
        except _LOST as error:
            raise StoreError(_words(error)) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _look(self) -> None:
        """Note what is wrong with it, if anything is."""
        try:
            memory = await self._redis.info("memory")
        except _LOST as error:
            self._wrong = _words(error)
            return
        self._looked_at = time.monotonic()
        most = int(memory.get("maxmemory", 0))
        used = int(memory.get("used_memory", 0))
        policy = str(memory.get("maxmemory_policy", ""))
        self._wrong = None
        if most and policy != "noeviction":
            self._wrong = f"this Redis drops keys when it is full ({policy}); it needs noeviction"
        elif most and used + _RESERVE > most:
            self._wrong = "the signature store is full"


def _words(error: BaseException) -> str:
    """What went wrong, without addresses or passwords."""
    return f"the signature store does not answer ({type(error).__name__})"
