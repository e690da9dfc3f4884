"""The receipt of an exchange that happened here."""

from __future__ import annotations

from dataclasses import replace

from teeverify.appraisal import AttestationResult
from teeverify.client.receipts.receipt import Receipt
from teeverify.client.session.attestation import Attestation
from teeverify.client.session.exchange import Exchange
from teeverify.providers.dialect import Dialect
from teeverify.responses.receipt import Http, Kept, ReceiptFile

__all__ = ["receipt_of_exchange"]


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
