"""The receipts that a client keeps."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator

from teeverify.client.receipts.receipt import Receipt
from teeverify.errors import ConfigurationError, ResponseNotVerified

__all__ = ["Receipts"]

_MAX_RECEIPTS = 1024
_MAX_REMEMBERED = 65536


class Receipts:
    """The receipts of a client, by the id of the answer; only the newest are kept."""

    def __init__(self) -> None:
        self._receipts: OrderedDict[str, Receipt] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._last: Receipt | None = None
        self._lock = threading.Lock()

    def add(self, receipt: Receipt) -> None:
        """Keep the receipt of a verified answer.

        Raises:
            ResponseNotVerified: An answer with this id was given before: a repeat is no answer to
                a new request.
        """
        parts = receipt.parts
        # An answer without an id may be the same each time; what is signed of it is not.
        name = receipt.id or hashlib.sha256(parts.signature or parts.response.sha256).hexdigest()
        with self._lock:
            if name in self._seen:
                raise ResponseNotVerified(
                    "this answer was given before: it is repeated, not made for this request",
                    id="answer.fresh",
                    got=repr(name)[:80],
                    want="an id that was not seen before",
                )
            self._seen[name] = None
            self._receipts[name] = receipt
            self._last = receipt
            while len(self._receipts) > _MAX_RECEIPTS:
                self._receipts.popitem(last=False)
            while len(self._seen) > _MAX_REMEMBERED:
                self._seen.popitem(last=False)

    @property
    def last(self) -> Receipt:
        """The receipt of the answer that was verified last, in any thread.

        Raises:
            ConfigurationError: No answer was verified yet.
        """
        with self._lock:
            if self._last is None:
                raise ConfigurationError("no answer was verified yet", id="usage.receipt")
            return self._last

    def __getitem__(self, answer_id: str) -> Receipt:
        """The receipt of an answer.

        Raises:
            ConfigurationError: None: it was not verified, or not read to its end, or is too old.
        """
        with self._lock:
            found = self._receipts.get(answer_id)
        if found is None:
            raise ConfigurationError(
                "there is no receipt of such an answer",
                id="usage.receipt",
                got=repr(answer_id)[:80],
                hint="A stream has one once it was read to its end.",
            )
        return found

    def __contains__(self, answer_id: object) -> bool:
        """Whether there is a receipt of an answer."""
        with self._lock:
            return answer_id in self._receipts

    def __len__(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._receipts)

    def __iter__(self) -> Iterator[str]:
        """The ids of the answers, oldest first."""
        with self._lock:
            return iter(list(self._receipts))
