"""What a session does, apart from how it reaches the endpoint.

Evidence is about a key, not about a URL (law 7). So whoever answers at the URL is of no account:
every answer must be signed by a key that the session attested, or by one that it attests then and
there in a machine with exactly the same code.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from teeverify.appraisal import (
    AttestationResult,
    Examined,
    SignedAnswer,
    appraise_examined,
)
from teeverify.appraisal.evidence import Evidence
from teeverify.binding import SigningKey
from teeverify.client.collateral import collateral_texts
from teeverify.client.endpoint import Endpoint
from teeverify.client.exchange import Exchange
from teeverify.client.fetch import Get, Got, Steps, Wait
from teeverify.client.receipts import Receipt
from teeverify.clock import now
from teeverify.errors import (
    AppraisalFailed,
    ConfigurationError,
    EndpointUnavailable,
    ResponseNotVerified,
    SignatureUnavailable,
    TeeVerifyError,
)
from teeverify.providers.dialect import Recorded
from teeverify.responses import examine_answer
from teeverify.responses.body import read_body, requested_model
from teeverify.responses.receipt import Kept, ReceiptFile

if TYPE_CHECKING:
    from teeverify.client.verifier import Verifier

__all__ = ["Attestation", "Reply", "SessionCore", "ask"]

_MAX_REPORT = 4 * 1024 * 1024
_MAX_SIGNATURE = 64 * 1024
_NONCE_BYTES = 32
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_BUSY = (_NOT_FOUND, 425, 429, 500, 502, 503, 504)
# A server that stores the signature before the last byte has it at once; others take a moment.
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An endpoint's answer to the question for its evidence. Nothing here is verified.

    Attributes:
        evidence: The evidence.
        report: The report's exact bytes.
        query: What was asked of the report's route.
        nonce: Our nonce.
    """

    evidence: Evidence
    report: bytes
    query: Mapping[str, str]
    nonce: bytes


def ask(endpoint: Endpoint, *, model: str | None, timeout: float) -> Steps[Reply]:
    """Ask for evidence, sending nothing but a new random nonce and the model's name.

    Raises:
        EndpointUnavailable: It gives no report.
        MalformedEvidence: The report has another form.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    query = endpoint.report_query(nonce, model)
    got = yield Get(url=endpoint.report_url(query), what="report", cap=_MAX_REPORT, timeout=timeout)
    report = _report(_given(got))
    exchange = Recorded(path=endpoint.report_path, query=query, body=report, peer_spki_sha256=None)
    enclosed = endpoint.dialect.enclosed(report)
    evidence = Evidence(
        kind="endpoint",
        provider=endpoint.dialect.id,
        source=endpoint.base_url,
        machines=endpoint.dialect.read(exchange),
        requested_model=model,
        nonce=nonce,
        tdx_endorsements=enclosed.tdx,
        nvidia_endorsements=enclosed.nvidia,
        live=True,
    )
    return Reply(evidence=evidence, report=report, query=query, nonce=nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One attestation of the endpoint that satisfied the policy.

    Attributes:
        result: The result.
        examined: The evidence, examined; every answer is appraised with it.
        reply: The report, and what it answers.
        attested_at: When the report arrived.
        expires_at: When it must be replaced.
        lapses: The same by a clock that cannot be set back.
        collateral: Intel's, where the caller gave it and not the endpoint, for receipts.
    """

    result: AttestationResult
    examined: Examined
    reply: Reply
    attested_at: datetime
    expires_at: datetime
    lapses: float
    collateral: tuple[bytes, ...]

    @property
    def keys(self) -> frozenset[SigningKey]:
        """The keys that its quotes bind."""
        return frozenset(
            machine.machine.key
            for machine in self.examined.machines
            if machine.machine.key is not None and machine.layout is not None
        )

    @property
    def code(self) -> tuple[tuple[str, ...], ...]:
        """The complete code identity: all registers of all machines."""
        return tuple(
            sorted(
                (one.role, *(f"{name} {value}" for name, value in sorted(one.registers.items())))
                for one in self.result.identities
            )
        )

    @property
    def holds(self) -> bool:
        """Whether a request may still be sent under it."""
        return now() < self.expires_at and time.monotonic() < self.lapses


class SessionCore:
    """What a session knows and does, apart from how it reaches the endpoint.

    Args:
        verifier: Policy, roots and endorsements.
        endpoint: The endpoint.
        model: The model to attest the endpoint for.
        timeout: Seconds that one request may take.
    """

    def __init__(
        self, verifier: Verifier, endpoint: Endpoint, *, model: str | None, timeout: float
    ) -> None:
        if verifier.offline:
            raise ConfigurationError(
                "an offline verifier opens no session", id="usage.offline", want="offline=False"
            )
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ConfigurationError(
                "the time-out is no positive number of seconds",
                id="usage.timeout",
                got=repr(timeout)[:40],
            )
        self.endpoint = endpoint
        self.attestation: Attestation | None = None
        self._verifier = verifier
        self._model = model
        self._timeout = float(timeout)

    def ensure(self) -> Steps[Attestation]:
        """Give the attestation in force; attest anew where there is none that still holds.

        Raises:
            TeeVerifyError: The endpoint does not satisfy the policy, or runs other code now.
        """
        known = self.attestation
        if known is not None and known.holds:
            return known
        return (yield from self._renew())

    def _renew(self) -> Steps[Attestation]:
        """Attest, and admit only the complete code identity that the session began with."""
        known = self.attestation
        fresh = yield from self._attest()
        if known is not None and fresh.code != known.code:
            raise AppraisalFailed(
                "the endpoint runs other code now than when this session was opened",
                id="code.changed",
                got=_first_difference(known.code, fresh.code),
                hint="Open a new session if you accept that.",
            )
        self.attestation = fresh
        return fresh

    def _attest(self) -> Steps[Attestation]:
        """Attest once, under a new nonce."""
        started = time.monotonic()
        reply = yield from ask(self.endpoint, model=self._model, timeout=self._timeout)
        moment = now()
        examined = self._verifier.examine(reply.evidence, at=moment)
        policy = self._verifier.policy
        result = appraise_examined(
            examined, None, policy, model=self._model, verified_at=moment
        ).require()
        seconds = policy["session.max_age_seconds"]
        # It was made after it was asked for, and may be as old as that.
        taken = max(time.monotonic() - started, 0)
        ends = moment + timedelta(seconds=seconds - taken)
        return Attestation(
            result=result,
            examined=examined,
            reply=reply,
            attested_at=moment,
            expires_at=ends if result.expires_at is None else min(ends, result.expires_at),
            lapses=started + seconds,
            collateral=self._collateral(examined),
        )

    def _collateral(self, examined: Examined) -> tuple[bytes, ...]:
        given = self._verifier.given.tdx
        fmspcs = {m.cpu.fmspc for m in examined.machines if m.cpu is not None}
        return () if given is None else collateral_texts(given, fmspcs)

    def verify(self, exchange: Exchange, sent_under: Attestation) -> Steps[Receipt]:
        """Verify one answer.

        Args:
            exchange: Request, answer, and the signature if it is known.
            sent_under: The attestation that was in force when the request was sent.

        Raises:
            TeeVerifyError: It is not verified, for whatever reason.
        """
        body = read_body(exchange.response)
        if not exchange.response or (body.form == "stream" and not body.complete):
            raise ResponseNotVerified(
                "the stream broke off before its end" if exchange.response else "no answer came",
                id="answer.complete",
                want="an answer to its end",
                hint="What was received is a part of an answer; ask again.",
            )
        signature = exchange.signature
        if signature is None:
            signature = yield from self._signature(exchange, exchange.id or body.id)
        signed = examine_answer(
            signature=signature, answer=exchange.response, request=exchange.request
        )
        attestation = sent_under
        if signed.signer is not None and signed.signer not in attestation.keys:
            attestation = yield from self._attestation_of(signed.signer)
        result = self._appraise(attestation, signed).require()
        return Receipt(self._parts(attestation, exchange, signature, result), result)

    def _appraise(self, attestation: Attestation, signed: SignedAnswer) -> AttestationResult:
        return appraise_examined(
            attestation.examined, signed, self._verifier.policy, verified_at=now()
        )

    def _attestation_of(self, signer: SigningKey) -> Steps[Attestation]:
        """Attest once more: the server may have been started anew, with a new key."""
        known = self.attestation
        if known is not None and signer in known.keys:
            return known
        try:
            return (yield from self._renew())
        except TeeVerifyError as error:
            raise ResponseNotVerified(
                "the answer was signed by a key that this session did not attest, and attesting "
                f"the endpoint again did not admit it: {error.message}",
                id="key.attested",
                got=str(signer),
                want="the key that was attested, or another of exactly the same code",
                hint="Do not use this answer.",
            ) from error

    def _signature(self, exchange: Exchange, answer_id: str | None) -> Steps[bytes]:
        """Fetch an answer's signature; ask again for a while where there is none yet."""
        if answer_id is None:
            raise ResponseNotVerified(
                "the answer names no id under which its signature could be asked for",
                id="answer.signature",
                hint="Pass signature= or id=.",
            )
        get = Get(
            url=self.endpoint.signature_url(
                answer_id, requested_model(exchange.request) or self._model
            ),
            what="signature",
            cap=_MAX_SIGNATURE,
            timeout=self._timeout,
            authorization=exchange.authorization,
        )
        for pause in (*_PAUSES, None):
            try:
                got = _given((yield get))
            except EndpointUnavailable as error:
                # A connection that was closed while idle; nothing else gets better by itself.
                if pause is None or error.id != "endpoint.unreachable":
                    raise
            else:
                if got.status == _OK:
                    return got.body
                if pause is None or got.status not in _BUSY:
                    raise _no_signature(got.status)
            yield Wait(pause)
        raise _no_signature(_NOT_FOUND)

    def _parts(
        self,
        attestation: Attestation,
        exchange: Exchange,
        signature: bytes,
        result: AttestationResult,
    ) -> ReceiptFile:
        gpus = self._verifier.given.nvidia
        return ReceiptFile(
            dialect=self.endpoint.dialect.id,
            endpoint=self.endpoint.base_url,
            path=self.endpoint.report_path,
            query=attestation.reply.query,
            nonce=attestation.reply.nonce,
            attested_at=attestation.attested_at,
            report=attestation.reply.report,
            tdx=attestation.collateral,
            nras=() if gpus is None else gpus.nras_answers,
            jwks=() if gpus is None else gpus.jwks,
            answered_at=exchange.received_at,
            request=Kept.of(exchange.request),
            response=Kept.of(exchange.response),
            signature=signature,
            informative={
                "summary": result.summary,
                "tier": result.tier,
                "policy": result.policy.name,
                "policy_hash": result.policy.hash,
                "schema": result.schema,
            },
        )


def _given(got: Got | None) -> Got:
    """The answer to what was just asked for."""
    if got is None:
        raise ConfigurationError("a fetcher gave nothing", id="usage.fetch")
    return got


def _report(got: Got) -> bytes:
    """The report's bytes, where the endpoint gave one."""
    if got.status == _OK and "json" in got.content_type:
        return got.body
    hint = "Check the address, the dialect, and that the endpoint is a confidential one."
    if got.status in (_UNAUTHORIZED, _FORBIDDEN):
        hint = "It shows its evidence only to those with a key, and none is sent before that."
    raise EndpointUnavailable(
        "the endpoint gave no report",
        id="endpoint.report",
        got=f"status {got.status}, {got.content_type[:60] or 'no content type'}",
        want="status 200 and JSON",
        hint=hint,
    )


def _no_signature(status: int) -> SignatureUnavailable:
    """The error for a signature route that has none."""
    hint = "Without a signature nothing shows who made the answer; ask again."
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        hint = "The signature route wants another key than the answer: see api_key."
    return SignatureUnavailable(
        "the endpoint has no signature for this answer",
        id="answer.signature",
        got=f"status {status}",
        want="status 200",
        hint=hint,
    )


def _first_difference(
    known: tuple[tuple[str, ...], ...], fresh: tuple[tuple[str, ...], ...]
) -> str:
    """The first register that is another one, for people."""
    for before, after in zip(known, fresh, strict=False):
        for old, new in zip(before, after, strict=False):
            if old != new:
                return f"{old[:32]}… then, {new[:32]}… now"
    return f"{len(known)} machines then, {len(fresh)} now"
