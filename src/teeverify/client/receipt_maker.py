"""Receipts, put together: of an exchange that happened here, or of what somebody recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from teeverify.appraisal import AttestationResult
from teeverify.client.attestation import Attestation
from teeverify.client.exchange import Exchange
from teeverify.client.receipt_evidence import endorsements_beside
from teeverify.client.receipts import Receipt
from teeverify.clock import now
from teeverify.endorsements import is_directory
from teeverify.errors import ConfigurationError
from teeverify.providers.capture import load_capture, recorded_report
from teeverify.providers.dialect import Dialect
from teeverify.responses.receipt import Http, Kept, ReceiptFile

__all__ = ["receipt_of_exchange", "receipt_of_recording"]


def receipt_of_exchange(
    attestation: Attestation,
    exchange: Exchange,
    signature: bytes | None,
    result: AttestationResult,
    policy_hash: str,
) -> Receipt:
    """Put together what a session saw and verified.

    Args:
        attestation: The attestation under which the answer was verified.
        exchange: Request and answer.
        signature: The signature; ``None`` where only a channel authenticated the answer.
        result: What the appraisal gave.
        policy_hash: Hash of the policy.
    """
    reply, dialect = attestation.reply, attestation.dialect
    seen = (m.machine.peer_spki_sha256 for m in attestation.examined.machines)
    return Receipt(
        ReceiptFile(
            dialect=dialect.id,
            endpoint=reply.evidence.source,
            path=reply.path,
            beside=reply.beside,
            query=reply.query,
            nonce=reply.nonce,
            attested_at=attestation.attested_at,
            report=reply.report,
            peer_spki_sha256=next((one for one in seen if one is not None), None),
            **attestation.collateral,
            answered_at=exchange.received_at,
            request=Kept.of(exchange.request),
            response=Kept.of(exchange.response),
            signature=signature,
            challenge=exchange.challenge,
            http=_http(exchange, dialect),
            informative={
                "summary": result.summary,
                "tier": result.tier,
                "policy": result.policy.name,
                "policy_hash": policy_hash,
                "schema": result.schema,
            },
        ),
        result,
    )


def _http(exchange: Exchange, dialect: Dialect) -> Http:
    """The HTTP exchange; without the query, which may hold a key, unless that is signed."""
    http, form = exchange.http, dialect.form
    if http.target is None or (form is not None and form.carrying is not None):
        return http
    return replace(http, target=http.target.partition("?")[0])


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
