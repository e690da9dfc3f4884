"""The rows and parameters of the policy table that are about one answer and its request."""

from __future__ import annotations

from teeverify.appraisal.rows import Parameter, Row

__all__ = ["ANSWER_PARAMETERS", "ANSWER_ROWS"]

ANSWER_ROWS: tuple[Row, ...] = (
    Row(
        id="key.attested",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the key that signed the answer is the one that the evidence binds",
    ),
    Row(
        id="answer.signature",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the answer's signature verifies under that key",
    ),
    Row(
        id="response.hash-equal",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the signed hash is that of the exact bytes of the answer",
    ),
    Row(
        id="answer.complete",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the answer is whole",
    ),
    Row(
        id="answer.signer-role",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="the model's own machine signed, not a gateway",
    ),
    Row(
        id="answer.fresh",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the signed text names a challenge of yours",
    ),
    Row(
        id="answer.attested-later",
        genuine="asserted",
        strict="proven",
        floor="asserted",
        asks="the evidence is not younger than the answer",
    ),
    Row(
        id="session.age",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the evidence is not older than the session may be",
    ),
    Row(
        id="request.bound",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the signed request hash is that of your request's exact bytes, and the enclave made "
        "it itself",
    ),
    Row(
        id="http.semantics",
        genuine="note",
        strict="proven",
        floor="note",
        asks="method, target, status and content type are signed",
    ),
    Row(
        id="model.identity",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the model requested, reported and signed is the same; a different one always refuses",
    ),
    Row(
        id="receipt.time",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="of a receipt: a timestamp of an authority that you named bounds when it was made",
    ),
    Row(
        id="receipt.since",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="of a receipt: today's endorsements revoke nothing that it rests on; what is revoked "
        "always refuses",
    ),
)

ANSWER_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="session.max_age_seconds",
        genuine=3600,
        strict=600,
        item=int,
        asks="how old evidence may be when the answer is made",
    ),
    Parameter(
        name="session.clock_skew_seconds",
        genuine=600,
        strict=60,
        item=int,
        asks="how far two clocks may be apart",
    ),
    Parameter(
        name="answer.allow_attested_later_days",
        genuine=0,
        strict=0,
        item=int,
        asks="how many days after the answer the evidence may have been made; then a warning",
    ),
)
