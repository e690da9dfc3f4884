"""The receipt of what somebody recorded."""

from __future__ import annotations

from pathlib import Path

from teeverify.appraisal import AttestationResult
from teeverify.client.receipts.collateral import endorsements_beside
from teeverify.client.receipts.receipt import Receipt
from teeverify.clock import now
from teeverify.endorsements import is_directory
from teeverify.errors import ConfigurationError
from teeverify.providers.capture import load_capture, recorded_report
from teeverify.responses.receipt import Kept, ReceiptFile

__all__ = ["receipt_of_recording"]


def receipt_of_recording(
    folder: str | Path,
    result: AttestationResult,
    *,
    dialect: str | None,
    request: bytes,
    answer: bytes,
    signature: bytes,
) -> Receipt:
    """Put a recording and an answer together, as a client would have kept them.

    Args:
        folder: The recorded directory with the signer's evidence.
        result: What its appraisal gave.
        dialect: The caller's choice of dialect.
        request: The request's exact bytes.
        answer: The answer's exact bytes.
        signature: What the signature route returned.

    Raises:
        ConfigurationError: It is no recording, or one without a nonce.
        MalformedEvidence: A recorded file has another form.
    """
    path = Path(folder)
    if not is_directory(path):
        raise _lacking("a recorded directory")
    chosen, recorded = recorded_report(path, dialect)
    evidence = load_capture(path, dialect=dialect)
    nonce = evidence.nonce
    if nonce is None:
        raise _lacking("a recording that names the nonce")
    return Receipt(
        ReceiptFile(
            dialect=chosen.id,
            endpoint=evidence.source,
            path=recorded.path,
            query=recorded.query,
            nonce=nonce,
            attested_at=evidence.recorded_at or result.as_of,
            report=recorded.body,
            peer_spki_sha256=recorded.peer_spki_sha256,
            beside=recorded.beside,
            **endorsements_beside(evidence, recorded.body, chosen),
            answered_at=now(),
            request=Kept.of(request),
            response=Kept.of(answer),
            signature=signature,
            informative={"summary": result.summary, "tier": result.tier},
        ),
        result,
    )


def _lacking(want: str) -> ConfigurationError:
    return ConfigurationError(
        "no receipt can be made of this",
        id="usage.receipt",
        want=f"{want}, with --answer, --request and --signature",
    )
