"""Receipts of a simulated machine, made without a server: any number of them, of one attestation.

Everything in them verifies under the machine's roots::

    forge = ReceiptForge(SimulatedTee(gpus=2))
    receipt = forge.receipt("a question")
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime, timedelta

from teeverify.clock import now
from teeverify.responses.receipt import Http, Kept, ReceiptFile
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.tee import SimulatedTee

__all__ = ["ReceiptForge"]

_MODEL = "default"


class ReceiptForge:
    """One attestation of a simulated machine, and answers under it.

    Args:
        tee: The machine.
        at: When it was attested; now unless a test says otherwise.
    """

    def __init__(self, tee: SimulatedTee, *, at: datetime | None = None) -> None:
        self.at = at or now()
        self.key = SimulatedKey()
        self._nonce = secrets.token_bytes(32)
        report = tee.report(
            self._nonce, key=self.key.key, public_key=self.key.public_bytes, model=_MODEL
        )
        self._report = json.dumps(report).encode("ascii")

    def receipt(
        self, question: str, *, answer_id: str | None = None, answer: str = "Four."
    ) -> ReceiptFile:
        """The receipt of one answer, made half a minute after the attestation.

        Args:
            question: What was asked.
            answer_id: The answer's id; a random one unless given.
            answer: What was answered.
        """
        made = self.at + timedelta(seconds=30)
        message = {"role": "user", "content": question}
        request = json.dumps({"model": _MODEL, "messages": [message]}).encode()
        choice = {"role": "assistant", "content": answer}
        response = json.dumps({
            "id": answer_id or f"chatcmpl-{secrets.token_hex(16)}",
            "object": "chat.completion",
            "created": int(made.timestamp()),
            "model": _MODEL,
            "choices": [{"index": 0, "message": choice, "finish_reason": "stop"}],
        }).encode()  # fmt: skip
        text = f"{hashlib.sha256(request).hexdigest()}:{hashlib.sha256(response).hexdigest()}"
        signature = {
            "text": text,
            "signature": self.key.sign(text),
            "signing_address": str(self.key.key),
            "signing_algo": self.key.algorithm,
        }
        return ReceiptFile(
            dialect="dstack",
            endpoint="https://simulated.example/v1",
            path="/v1/attestation/report",
            query={"model": _MODEL, "nonce": self._nonce.hex(), "signing_algo": "ecdsa"},
            nonce=self._nonce,
            attested_at=self.at,
            report=self._report,
            answered_at=made,
            request=Kept.of(request),
            response=Kept.of(response),
            signature=json.dumps(signature).encode(),
            http=Http(method="POST", target="/v1/chat/completions", status=200),
        )
