"""What a caller gives beside evidence: an answer, or that which was kept with it, and a nonce."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from teeverify.appraisal import SignedAnswer
from teeverify.appraisal.evidence import Evidence, RecordedAnswer
from teeverify.client.sources.receipt import unsigned_answer
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.providers import DIALECTS, dialect_for
from teeverify.responses import TEXT, UNSIGNED, Form, examine_answer, known_keys
from teeverify.responses.form import Context

__all__ = [
    "given_nonce",
    "require_kind",
    "require_own_signature",
    "signed_answer",
]

_NONCE_BYTES = 32
_TPM_NONCE_BYTES = 64


def signed_answer(
    evidence: Evidence,
    dialect: str | None,
    *,
    signature: bytes | None,
    answer: bytes | None,
    request: bytes | None,
) -> SignedAnswer | None:
    """Examine the answer that the caller gave, and what was kept with the evidence else.

    Args:
        evidence: The evidence.
        dialect: The caller's choice of dialect, for evidence that is of none.
        signature: What the signature route returned.
        answer: The answer's bytes.
        request: The request's bytes.

    Returns:
        What was seen; ``None`` where there is no answer at all.
    """
    context = Context(processes=evidence.processes)
    kept = evidence.answer
    if kept is not None:
        context = replace(context, **kept.seen)
        signature = kept.signature if signature is None else signature
        answer = kept.answer if answer is None else answer
        request = kept.request if request is None else request
        if signature is None:
            return unsigned_answer(answer)
    elif signature is None and answer is None and request is None:
        return None
    return examine_answer(
        signature=signature,
        answer=answer,
        request=request,
        form=_form(evidence, dialect),
        keys=known_keys(m.public_key for m in evidence.machines if m.public_key is not None),
        context=context,
    )


def _form(evidence: Evidence, dialect: str | None) -> Form:
    """How answers are signed in the dialect of the evidence, or in the one that was named."""
    name = evidence.provider if evidence.kind == "endpoint" else dialect
    chosen = dialect_for("", name) if name in DIALECTS or evidence.kind != "endpoint" else None
    return TEXT if chosen is None else chosen.form or UNSIGNED


def require_own_signature(kept: RecordedAnswer | None, given: bytes | None) -> None:
    """Refuse another signature than a receipt's: what its timestamp bounds is its own answer.

    Raises:
        BindingMismatch: It is another one.
    """
    if given is not None and (kept is None or given != kept.signature):
        raise BindingMismatch(
            "the signature that was given is not the receipt's, so the receipt says nothing of it",
            id="receipt",
            got=hashlib.sha256(given).hexdigest(),
            want="the receipt's own, or none",
            hint="Verify the receipt without --signature, or the answer with other evidence.",
        )


def require_kind(name: str, value: object, kind: type) -> None:
    """Refuse an argument of another kind.

    Raises:
        ConfigurationError: It is neither of this kind nor left out.
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(
            f"{name} is of another kind",
            id="usage.arguments",
            got=type(value).__name__,
            want=kind.__name__,
        )


def given_nonce(value: bytes | str, evidence: Evidence) -> bytes:
    """The nonce that was given.

    Raises:
        ConfigurationError: It has another length than this evidence may carry.
    """
    # A TPM takes a nonce of any length up to its largest hash; agents on Azure use several.
    of_a_tpm = any(machine.azure is not None for machine in evidence.machines)
    try:
        data = (
            value if isinstance(value, bytes) else hex_bytes(value, field="nonce", id="usage.nonce")
        )
    except MalformedEvidence:
        data = b""
    if len(data) != _NONCE_BYTES and not (of_a_tpm and 0 < len(data) <= _TPM_NONCE_BYTES):
        raise ConfigurationError(
            "the nonce is not 32 bytes", id="usage.nonce", want="64 hex digits, without 0x"
        )
    return data
