"""The answer that a caller gives beside evidence, or that was kept with it."""

from __future__ import annotations

from dataclasses import replace

from teeverify.appraisal import SignedAnswer
from teeverify.appraisal.evidence import Evidence
from teeverify.client.receipt_evidence import unsigned_answer
from teeverify.providers import DIALECTS, dialect_for
from teeverify.responses import TEXT, UNSIGNED, Form, examine_answer, known_keys
from teeverify.responses.form import Context

__all__ = ["signed_answer"]


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
