"""One answer with everything that is needed to verify it again, offline, elsewhere."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from teeverify.appraisal import AttestationResult, Policy
from teeverify.binding import SigningKey
from teeverify.client.receipts.evm import EvmAnswer, evm_answer, statement_signer
from teeverify.client.sources.files import read_bytes
from teeverify.client.sources.receipt import evidence_of
from teeverify.client.vendors.given import EndorsementSource
from teeverify.client.verifier import Arguments, Verifier
from teeverify.crypto.timestamp import parse_timestamp
from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, SignatureUnavailable
from teeverify.render.html import render_card
from teeverify.responses import parse_signature
from teeverify.responses.body import read_body
from teeverify.responses.receipt import ReceiptFile, write_receipt
from teeverify.responses.receipt_reader import read_receipt
from teeverify.responses.statement_form import STATEMENT
from teeverify.roots import TimestampRoots, UnsafeTestRoots

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Receipt"]

_ID = "receipt"


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
        raw = source if isinstance(source, bytes) else read_bytes(source, what="receipt")
        return cls(read_receipt(json_value(raw, field="receipt", id=_ID)))

    def save(self, path: str | Path, *, include: Literal["bytes", "hashes"] = "hashes") -> None:
        """Write the receipt to a file that only its owner can read.

        Args:
            path: Where to.
            include: ``bytes`` to put request and answer in it. With ``hashes`` whoever verifies it
                must have them (``answer=``, ``request=``); but a text that can be guessed is not
                hidden by its hash.

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

    def to_bytes(self, *, include: Literal["bytes", "hashes"] = "hashes") -> bytes:
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
        timestamp_roots: TimestampRoots | None = None,
        offline: bool = True,
        **arguments: Unpack[Arguments],
    ) -> AttestationResult:
        """Verify it again: as of then, and in the light of today.

        Takes the arguments of :class:`Verifier` and of :meth:`Verifier.verify`: your policy and
        your roots decide, never anything in the receipt. What it lacks is never fetched.

        Args:
            policy: See :class:`Verifier`.
            roots: See :class:`Verifier`.
            endorsements: More collateral than the receipt holds; today's lists among it are what
                it is compared with.
            timestamp_roots: Whose timestamps you trust.
            offline: Do not fetch today's lists either.
            arguments: See :meth:`Verifier.appraise`.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, with ``result`` set.
        """
        verifier = Verifier(
            policy=policy,
            roots=roots,
            endorsements=endorsements,
            offline=offline,
            timestamp_roots=timestamp_roots,
        )
        return verifier.verify(evidence_of(self.parts, source="receipt"), **arguments)

    def with_timestamp(self, token: bytes) -> Receipt:
        """The receipt with one timestamp more; its id, and what it proves, stay the same.

        Args:
            token: An RFC 3161 authority's answer, or the token in it, over :attr:`receipt_id`.

        Raises:
            MalformedEvidence: It is no timestamp, or one of something else.
        """
        kept = parse_timestamp(token, of=self.parts.digest).token
        parts = replace(self.parts, timestamps=(*self.parts.timestamps, kept))
        return Receipt(parts, self.result)

    @property
    def receipt_id(self) -> str:
        """The hash of the receipt's core, in hex: what a timestamp is of."""
        return self.parts.digest.hex()

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
        if self.parts.signature is None:
            raise SignatureUnavailable(
                "the receipt has no signature: only the channel authenticated the answer",
                id="answer.signature",
            )
        if self.parts.dialect == STATEMENT.id:
            return statement_signer(self.parts)
        return parse_signature(self.parts.signature).key

    @property
    def time(self) -> datetime:
        """When the answer had arrived, by its maker's clock."""
        return self.parts.answered_at

    def evm(self) -> EvmAnswer:
        """What a contract on an Ethereum chain needs to check it; verify it yourself first.

        Raises:
            ConfigurationError: It is of another dialect than ``teeverify/1``, or signed without
                secp256k1.
            MalformedEvidence: A part cannot be read.
        """
        return evm_answer(self.parts)

    def _repr_html_(self) -> str:
        """The card that notebooks show; of a receipt that was only read, that it was not verified.

        It holds the answer's text, which is this program's own.
        """
        if self.result is None:
            return f"<p>{html.escape(repr(self))}</p>"
        raw = self.to_bytes(include="bytes")
        return render_card(self.result, receipt=raw, answer=self.parts.response.raw)

    def __repr__(self) -> str:
        """What its maker saw, or that nothing was verified."""
        if self.result is not None:
            return f"<Receipt: {self.result.summary}>"
        return "<unverified Receipt: call verify()>"
