"""Evidence for the signing keys: gathered in a thread, one at a time, for one nonce each.

Devices answer one question at a time, and slowly; streams must not wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from teeverify.binding import SigningKey
from teeverify.binding.keys import KeyAlgorithm
from teeverify.enclave.asgi import json_bytes
from teeverify.enclave.errors import HttpError
from teeverify.enclave.keys import SigningKeys

__all__ = ["Attester", "Tee"]


class Tee(Protocol):
    """A confidential machine that can attest a key."""

    def report(
        self, nonce: bytes, *, key: SigningKey, public_key: bytes, model: str
    ) -> Mapping[str, object]:
        """The dialect's report for a nonce. Takes its time; called from one thread at a time."""


class Attester:
    """Makes reports about the signing keys.

    Args:
        tee: The machine.
        keys: The keys that it attests.
        model: The model that they answer for.
        most_waiting: How many reports may be asked for at once; further ones are turned away.
    """

    def __init__(self, tee: Tee, keys: SigningKeys, *, model: str, most_waiting: int = 64) -> None:
        self._tee = tee
        self._keys = keys
        self._model = model
        self._most = most_waiting
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attestation")

    def attests(self, algorithm: KeyAlgorithm, address: str) -> bool:
        """Whether an address that a caller names is that of the attested key."""
        own = str(self._keys.identities[algorithm])
        return address.removeprefix("0x").lower() == own.removeprefix("0x").lower()

    async def report(self, nonce: bytes, algorithm: KeyAlgorithm) -> bytes:
        """Gather evidence now.

        Args:
            nonce: The 32 bytes that it must carry.
            algorithm: Which of the keys is attested.

        Returns:
            The report as JSON.

        Raises:
            HttpError: 429: too many wait.
        """
        if self._waiting >= self._most:
            raise HttpError.busy("too many attestation reports are being made")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._gather, nonce, algorithm)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what is being gathered, and stop."""
        self._thread.shutdown(cancel_futures=True)

    def _gather(self, nonce: bytes, algorithm: KeyAlgorithm) -> bytes:
        report = self._tee.report(
            nonce,
            key=self._keys.identities[algorithm],
            public_key=self._keys.public_keys[algorithm],
            model=self._model,
        )
        return json_bytes(dict(report))
