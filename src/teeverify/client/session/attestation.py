"""One attestation of an endpoint: how it is asked for, and what is kept of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from teeverify.appraisal import AttestationResult, Examined
from teeverify.appraisal.encryption import Encryption
from teeverify.appraisal.evidence import Evidence
from teeverify.appraisal.reference import CompleteCode, complete_code
from teeverify.binding import Process, SigningKey
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch import Get, Got
from teeverify.client.network.steps import Steps
from teeverify.client.receipts.collateral import endorsements_beside
from teeverify.clock import now
from teeverify.encoding.fields import JsonObject
from teeverify.errors import EndpointUnavailable, MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.routes import Ask, Asking, Told
from teeverify.responses import known_keys
from teeverify.responses.signed_text import KnownKeys

__all__ = ["Attestation", "Reply", "ask", "bound_tls_key"]

_MAX_REPORT = 4 * 1024 * 1024
_MAX_REASON = 200
_NONCE_BYTES = 32
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An endpoint's answer to the question for its evidence. Nothing here is verified.

    Attributes:
        evidence: The evidence.
        report: The report's exact bytes.
        path: Path of the report's route.
        beside: The answers of further routes that belong to it.
        query: What was asked of the report's route.
        nonce: Our nonce.
        nonce_random: The random value that it was derived from, where it was.
    """

    evidence: Evidence
    report: bytes
    path: str
    beside: Mapping[str, bytes]
    query: Mapping[str, str]
    nonce: bytes
    nonce_random: bytes | None = None


def ask(
    endpoint: Endpoint, *, model: str | None, timeout: float, signer: SigningKey | None = None
) -> Steps[Reply]:
    """Ask for evidence, sending nothing but a new random nonce and the model's name.

    Args:
        endpoint: The endpoint.
        model: The model to attest it for.
        timeout: Seconds that this may take.
        signer: The key whose machine is asked for, where several answer at one address.

    Raises:
        EndpointUnavailable: It gives no report; ``endpoint.other-machine`` where the machine that
            answered has another key.
        MalformedEvidence: The report has another form.
    """
    random = secrets.token_bytes(_NONCE_BYTES)
    derive = endpoint.dialect.nonce
    nonce = random if derive is None else derive(random)
    questions = endpoint.dialect.questions
    if questions is None:
        exchange = yield from _one(endpoint, nonce, model, timeout, signer)
    else:
        asking = Asking(host=endpoint.host, nonce=nonce, model=model)
        exchange = yield from _several(endpoint, questions(asking), timeout)
    report = exchange.body
    enclosed = endpoint.dialect.enclosed(report)
    evidence = Evidence(
        kind="endpoint",
        provider=endpoint.dialect.id,
        source=endpoint.base_url,
        machines=endpoint.dialect.machines(exchange),
        requested_model=model,
        nonce=nonce if endpoint.dialect.fresh else None,
        tdx_endorsements=enclosed.tdx,
        nvidia_endorsements=enclosed.nvidia,
        live=True,
    )
    return Reply(
        evidence=evidence,
        report=report,
        path=exchange.path,
        beside=exchange.beside,
        query=exchange.query,
        nonce=nonce,
        nonce_random=None if derive is None else random,
    )


def _one(
    endpoint: Endpoint, nonce: bytes, model: str | None, timeout: float, signer: SigningKey | None
) -> Steps[Recorded]:
    """Ask the one route of a report."""
    query = endpoint.report_query(nonce, model)
    if signer is not None:
        query["signing_address"] = str(signer)
    got: Got = yield Get(
        url=endpoint.report_url(query),
        what="report",
        cap=_MAX_REPORT,
        timeout=timeout,
        last=True,
    )
    return Recorded(
        path=endpoint.report_path,
        query=query,
        body=_report(got, of_one=signer is not None),
        peer_spki_sha256=got.peer,
    )


def _several(
    endpoint: Endpoint, questions: Generator[Ask, Told, Recorded], timeout: float
) -> Steps[Recorded]:
    """Ask whatever the dialect asks, one question after the other."""
    try:
        ask = next(questions)
        while True:
            got: Got = yield Get(
                url=endpoint.url_of(ask), what=ask.what, cap=_MAX_REPORT, timeout=timeout
            )
            body = _report(got, of_one=False, json=ask.json)
            ask = questions.send(Told(body=body, peer_spki_sha256=got.peer))
    except StopIteration as done:
        recorded: Recorded = done.value
        return recorded


def _report(got: Got, *, of_one: bool, json: bool = True) -> bytes:
    """The report's bytes, where the endpoint gave one."""
    if got.status == _OK and (not json or "json" in got.content_type):
        return got.body
    hint = "Check the address, the dialect, and that the endpoint is a confidential one."
    if got.status in (_UNAUTHORIZED, _FORBIDDEN):
        hint = "It shows its evidence only to those with a key, and none is sent before that."
    raise EndpointUnavailable(
        "the endpoint gave no report",
        id="endpoint.other-machine" if of_one and got.status == _NOT_FOUND else "endpoint.report",
        got=f"status {got.status}, {_reason(got) or got.content_type[:60] or 'no content type'}",
        want="status 200 and JSON",
        hint=hint,
    )


def _reason(got: Got) -> str:
    """What an endpoint says of its error, where it says it as OpenAI's do; nobody signs that."""
    try:
        error = JsonObject.parse(got.body, path="answer", id="endpoint.report").object("error")
        return ascii(error.text("message")[:_MAX_REASON])
    except MalformedEvidence:
        return ""


def bound_tls_key(examined: Examined) -> bytes | None:
    """The TLS key that evidence binds for the machine at the endpoint, if it binds one."""
    for role in ("gateway", "model"):
        for seen in examined.machines:
            if seen.machine.role == role:
                bound = seen.layout is not None and "tls_spki_sha256" in seen.layout.binds
                return seen.machine.tls_spki_sha256 if bound else None
    return None


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """One attestation of the endpoint that satisfied the policy.

    Attributes:
        result: The result.
        examined: The evidence, examined; every answer is appraised with it.
        reply: The report, and what it answers.
        attested_at: When the report arrived.
        expires_at: When it must be replaced.
        lapses: The same by a clock that cannot be set back.
        dialect: The dialect of the report.
        encryption: How requests under it are encrypted, if they are.
    """

    result: AttestationResult
    examined: Examined
    reply: Reply
    attested_at: datetime
    expires_at: datetime
    lapses: float
    dialect: Dialect
    encryption: Encryption | None = None

    @cached_property
    def keys(self) -> frozenset[SigningKey]:
        """The keys that its quotes bind."""
        return frozenset(
            machine.machine.key
            for machine in self.examined.machines
            if machine.machine.key is not None and machine.layout is not None
        )

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """What the quotes bind of processes of teeverify's own server."""
        shown = (m.machine.commits.process for m in self.examined.machines if m.layout is not None)
        return tuple(process for process in shown if process is not None)

    @cached_property
    def collateral(self) -> dict[str, Any]:
        """The endorsements beside the report, as receipts keep them; made for the first one."""
        return endorsements_beside(self.examined.evidence, self.reply.report, self.dialect)

    @cached_property
    def public_keys(self) -> KnownKeys:
        """The public keys beside the bound addresses, where the report gives them."""
        shown = (m.machine.public_key for m in self.examined.machines if m.layout is not None)
        return known_keys(key for key in shown if key is not None)

    @property
    def tls_key(self) -> bytes | None:
        """The TLS key that the evidence binds for the machine at the endpoint, if it binds one."""
        return bound_tls_key(self.examined)

    @cached_property
    def code(self) -> CompleteCode:
        """The complete code identity of all machines."""
        return complete_code(self.result.identities)

    @property
    def holds(self) -> bool:
        """Whether a request may still be sent under it."""
        return now() < self.expires_at and time.monotonic() < self.lapses
