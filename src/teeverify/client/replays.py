"""What one verifier has seen of signed texts: none counts twice, and no key counts twice either."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from teeverify.binding import SigningKey
from teeverify.errors import ResponseNotVerified
from teeverify.responses.once import UsedOnce

__all__ = ["Replays"]

_MOST_TEXTS = 65536


class Replays:
    """What must not come twice, in whatever session: texts, statements' numbers, secret numbers."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._statements: OrderedDict[bytes, bytes] = OrderedDict()
        self._used: OrderedDict[tuple[SigningKey, bytes], bytes] = OrderedDict()
        self._leaked: set[SigningKey] = set()
        self._lock = threading.Lock()

    def first_time(self, signed: bytes) -> None:
        """Take down what was signed.

        Args:
            signed: What names the answer and its signer.

        Raises:
            ResponseNotVerified: It was accepted before.
        """
        name = hashlib.sha256(signed).digest()
        with self._lock:
            if name in self._seen:
                raise ResponseNotVerified(
                    "this answer was given before: it is repeated, not made for this request",
                    id="answer.replayed",
                    want="a signed text that was not seen before",
                    hint="Do not use it twice. Ask again.",
                )
            self._seen[name] = None
            while len(self._seen) > _MOST_TEXTS:
                self._seen.popitem(last=False)

    def one_statement(self, instance: bytes, sequence: int, statement: bytes) -> None:
        """Take down which statement of a process has which number.

        Args:
            instance: The process.
            sequence: The number.
            statement: Hash of the statement.

        Raises:
            ResponseNotVerified: Another one has this number: somebody counts twice.
        """
        name = hashlib.sha256(instance + sequence.to_bytes(8, "big")).digest()
        with self._lock:
            if self._statements.setdefault(name, statement) != statement:
                raise ResponseNotVerified(
                    "the enclave signed two statements of the same number",
                    id="answer.replayed",
                    got=f"number {sequence}",
                    want="one statement a number",
                    hint="Do not use this answer, nor the other one.",
                )
            while len(self._statements) > _MOST_TEXTS:
                self._statements.popitem(last=False)

    def secret_number(self, signer: SigningKey, value: UsedOnce) -> None:
        """Take down what a key made of the secret random number of one signature.

        Args:
            signer: The key.
            value: What shows of the number, and what it was used for.

        Raises:
            ResponseNotVerified: It used the number for another text before: its private key can be
                computed from the two, so that from now on nothing which it signs is believed.
        """
        with self._lock:
            if self._used.setdefault((signer, value.r), value.signed) != value.signed:
                self._leaked.add(signer)
            if signer in self._leaked:
                raise ResponseNotVerified(
                    "the enclave's signing key is no secret: it signed two different texts with "
                    "one random number, from which anybody can compute it",
                    id="key.leaked",
                    got=str(signer),
                    want="another random number for every signature",
                    hint="Do not use this answer, nor any other under this key.",
                )
            while len(self._used) > _MOST_TEXTS:
                self._used.popitem(last=False)
