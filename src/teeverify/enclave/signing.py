"""Signing an answer: hash what leaves, sign both hashes, store, and only then let the end go.

The signed text is the one of the dstack proxies, ``sha256(request):sha256(response)`` in lower-case
hex. Both hashes are made here, of the bytes themselves: nothing that a caller says is ever signed.
"""

from __future__ import annotations

import hashlib
import logging

from teeverify.enclave.keys import SigningKeys
from teeverify.enclave.store import SignatureRecord, SignatureStore, StoreError

__all__ = ["Exchange", "Notary"]

logger = logging.getLogger("teeverify.enclave")


class Exchange:
    """One answer on its way out.

    Args:
        answer_id: The answer's id.
        request_sha256: Hash of the request's bytes, as received.

    Attributes:
        certified: Whether it was signed, and perhaps stored.
        delivered: Whether all of it has left.
    """

    def __init__(self, answer_id: str, request_sha256: bytes) -> None:
        self.id = answer_id
        self.certified = False
        self.delivered = False
        self._request = request_sha256
        self._response = hashlib.sha256()

    def leaving(self, data: bytes) -> bytes:
        """Take note of bytes that leave now, unchanged."""
        self._response.update(data)
        return data

    def text(self) -> str:
        """The text to sign, over all that has left."""
        return f"{self._request.hex()}:{self._response.hexdigest()}"


class Notary:
    """Signs answers with both keys and keeps the signatures.

    Args:
        keys: The signing keys.
        store: Where signatures wait to be fetched.
    """

    def __init__(self, keys: SigningKeys, store: SignatureStore) -> None:
        self._keys = keys
        self._store = store

    async def certify(self, exchange: Exchange) -> None:
        """Sign a whole answer. When this returns, its signatures can be fetched.

        Raises:
            StoreError: They could not be stored; the end of the answer must not leave.
        """
        text = exchange.text()
        exchange.certified = True
        await self._store.put(
            [
                SignatureRecord(
                    id=exchange.id,
                    algorithm=signature.key.algorithm,
                    text=text,
                    signature=signature.text,
                    address=str(signature.key),
                )
                for signature in self._keys.sign(text)
            ]
        )

    async def withdraw(self, exchange: Exchange) -> None:
        """Take back the signatures of an answer whose end did not leave, if they were stored."""
        try:
            await self._store.withdraw(exchange.id)
        except StoreError as error:
            logger.error("%s: not taken back: %s", exchange.id, error)  # noqa: TRY400

    async def look_up(self, answer_id: str, algorithm: str) -> SignatureRecord | None:
        """The signature of an answer, if it can be fetched.

        Raises:
            StoreError: The store says no.
        """
        return await self._store.get(answer_id, algorithm)
