"""Receipts: one answer with everything that is needed to verify it again, offline, elsewhere."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from teeverify import nvidia, tdx
from teeverify.appraisal import AttestationResult, Policy
from teeverify.appraisal.evidence import Evidence, RecordedAnswer
from teeverify.binding import SigningKey
from teeverify.encoding.strict import json_value
from teeverify.errors import (
    ConfigurationError,
    MalformedEvidence,
    ResponseNotVerified,
    SignatureUnavailable,
)
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Enclosed, Recorded
from teeverify.responses import parse_signature
from teeverify.responses.body import read_body
from teeverify.responses.receipt import ReceiptFile, read_receipt, write_receipt
from teeverify.roots import UnsafeTestRoots

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from teeverify.client.endorsements import EndorsementSource
    from teeverify.client.verifier import Arguments

__all__ = ["Receipt", "Receipts", "evidence_of"]

_ID = "receipt"
_MAX_RECEIPTS = 1024
_MAX_REMEMBERED = 65536


@dataclass(frozen=True, slots=True)
class Receipt:
    """One answer, its request and signature, and the evidence of its signer.

    What a receipt says of itself is its holder's word: :meth:`verify` believes none of it.

    Attributes:
        parts: What it holds.
        result: What its maker's own appraisal gave; ``None`` for a receipt that was read.
    """

    parts: ReceiptFile
    result: AttestationResult | None = None

    @classmethod
    def load(cls, source: str | Path | bytes) -> Receipt:
        """Read a receipt, and verify nothing.

        Args:
            source: A path, or the receipt's bytes.

        Raises:
            ConfigurationError: It is not there, or cannot be read.
            MalformedEvidence: It is no whole receipt of this version.
        """
        from teeverify.client.sources import read_bytes  # noqa: PLC0415 -- reads receipts too

        raw = source if isinstance(source, bytes) else read_bytes(source, what="receipt")
        return cls(read_receipt(json_value(raw, field="receipt", id=_ID)))

    def save(self, path: str | Path, *, include: Literal["bytes", "hashes"] = "bytes") -> None:
        """Write the receipt to a file that only its owner can read.

        Args:
            path: Where to.
            include: ``bytes`` to put request and answer in it. With ``hashes`` whoever verifies it
                must have them; but a text that can be guessed is not hidden by its hash.

        Raises:
            ConfigurationError: It cannot be written, or would be too large to be read again.
        """
        raw = self.to_bytes(include=include)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"the receipt cannot be written: {getattr(error, 'strerror', None) or 'no path'}",
                id="usage.receipt",
                got=str(path)[:200],
            ) from None

    def to_bytes(self, *, include: Literal["bytes", "hashes"] = "bytes") -> bytes:
        """The receipt's file; see :meth:`save`.

        Raises:
            ConfigurationError: It would be too large to be read again, or a wrong ``include``.
        """
        if include not in ("bytes", "hashes"):
            raise ConfigurationError(
                "no such form of a receipt",
                id="usage.receipt",
                got=repr(include)[:40],
                want="bytes or hashes",
            )
        return write_receipt(self.parts, bodies=include == "bytes")

    def verify(
        self,
        *,
        policy: str | Path | Policy = "genuine",
        roots: UnsafeTestRoots | None = None,
        endorsements: EndorsementSource | tuple[EndorsementSource, ...] = (),
        **arguments: Unpack[Arguments],
    ) -> AttestationResult:
        """Verify it again, with nothing but what it holds and what you give.

        Takes the arguments of :meth:`Verifier.verify`: your policy and your roots decide, never
        anything in the receipt.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, with ``result`` set.
        """
        from teeverify.client.verifier import Verifier  # noqa: PLC0415 -- reads receipts too

        verifier = Verifier(policy=policy, roots=roots, endorsements=endorsements, offline=True)
        return verifier.verify(evidence_of(self.parts, source="receipt"), **arguments)

    @property
    def id(self) -> str | None:
        """The answer's id; ``None`` where only its hash was kept."""
        raw = self.parts.response.raw
        return None if raw is None else read_body(raw).id

    @property
    def signer(self) -> SigningKey:
        """The key that is said to have signed.

        Raises:
            MalformedEvidence: The signature cannot be read.
            SignatureUnavailable: There is none in it.
        """
        return parse_signature(self.parts.signature).key

    @property
    def time(self) -> datetime:
        """When the answer had arrived, by its maker's clock."""
        return self.parts.answered_at

    def __repr__(self) -> str:
        """What its maker saw, or that nothing was verified."""
        if self.result is not None:
            return f"<Receipt: {self.result.summary}>"
        return "<unverified Receipt: call verify()>"


def evidence_of(parts: ReceiptFile, *, source: str) -> Evidence:
    """The evidence and the answer in a receipt, as untrusted as in any other file.

    Args:
        parts: The receipt.
        source: Where it came from, for people.

    Raises:
        MalformedEvidence: A part has another form, or is not about this answer.
    """
    if parts.query.get("nonce") != parts.nonce.hex():
        raise MalformedEvidence(
            "receipt.attestation.query: not the question with this nonce",
            id=_ID,
            field="receipt.attestation.query",
        )
    chosen = DIALECTS.get(parts.dialect)
    if chosen is None:
        raise MalformedEvidence(
            "receipt.dialect: none that is known here",
            id=_ID,
            field="receipt.dialect",
            got=repr(parts.dialect)[:40],
            want=", ".join(DIALECTS),
        )
    _require_same_answer(parts)
    exchange = Recorded(
        path=parts.path, query=parts.query, body=parts.report, peer_spki_sha256=None
    )
    enclosed = chosen.enclosed(parts.report)
    beside = _beside(parts)
    return Evidence(
        kind="endpoint",
        provider=chosen.id,
        source=source,
        machines=chosen.read(exchange),
        requested_model=parts.query.get("model"),
        nonce=parts.nonce,
        recorded_at=parts.attested_at,
        tdx_endorsements=beside.tdx or enclosed.tdx,
        nvidia_endorsements=beside.nvidia or enclosed.nvidia,
        answer=RecordedAnswer(
            signature=parts.signature, answer=parts.response.raw, request=parts.request.raw
        ),
    )


def _require_same_answer(parts: ReceiptFile) -> None:
    """Hashes whose bytes are not there must at least be the signed ones."""
    try:
        signed = parse_signature(parts.signature)
    except (MalformedEvidence, SignatureUnavailable):
        return  # said in its place, when the signature is verified
    for name, kept, stated in (
        ("request", parts.request, signed.request_sha256),
        ("response", parts.response, signed.response_sha256),
    ):
        if kept.raw is None and kept.sha256.hex() != stated:
            raise MalformedEvidence(
                f"receipt.answer.{name}: not the hash that was signed",
                id=_ID,
                field=f"receipt.answer.{name}",
                got=kept.sha256.hex(),
                want=stated,
            )


def _beside(parts: ReceiptFile) -> Enclosed:
    """The endorsements that its maker supplied beside those in the report."""
    several = [tdx.Endorsements.load(raw) for raw in parts.tdx]
    return Enclosed(
        tdx=tdx.Endorsements.union(*several) if several else None,
        nvidia=nvidia.Endorsements(nras_answers=parts.nras, jwks=parts.jwks)
        if parts.nras
        else None,
    )


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
        name = receipt.id or receipt.parts.response.sha256.hex()
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
