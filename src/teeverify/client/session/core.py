"""What a session does, apart from how it reaches the endpoint.

Evidence is about a key, not about a URL (law 7). So whoever answers at the URL is of no account:
every answer must be signed by a key that the session attested, or by one that it attests then and
there in a machine with exactly the same code.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from teeverify.appraisal import AttestationResult, Examined, SignedAnswer, appraise_examined
from teeverify.appraisal.encryption import Encryption
from teeverify.appraisal.reference import CompleteCode, complete_code, first_difference
from teeverify.binding import SigningKey
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.steps import Alone, Steps, wait, work
from teeverify.client.receipts.receipt import Receipt
from teeverify.client.session.attestation import Attestation, ask, bound_tls_key
from teeverify.client.session.challenge import context_of
from teeverify.client.session.encryption import Sealer
from teeverify.client.session.exchange import Exchange, require_whole, taken_apart
from teeverify.client.session.receipt import receipt_of_exchange
from teeverify.client.session.signature import fetch_signature
from teeverify.client.verifier import Verifier
from teeverify.clock import now
from teeverify.errors import (
    AppraisalFailed,
    BindingMismatch,
    ConfigurationError,
    EndpointUnavailable,
    ResponseNotVerified,
    TeeVerifyError,
)
from teeverify.responses import UNSIGNED, examine_answer
from teeverify.responses.body import Body
from teeverify.responses.once import used_once

__all__ = ["SessionCore"]

# Several machines may answer at one address: how often one of them is asked for, and how many
# others are attested on the way.
_SEEK_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.05, 0.1, 0.1, 0.2, 0.4)
_MOST_OTHERS = 4
_MOST_HELD = 64


class SessionCore:
    """What a session knows and does, apart from how it reaches the endpoint.

    Args:
        verifier: Policy, roots and endorsements.
        endpoint: The endpoint.
        model: The model to attest the endpoint for.
        timeout: Seconds that one request may take.
        lock: So that one attestation serves all who wait for it; of the runner's kind.
        encrypt: Whether each request is encrypted to the attested key.
    """

    def __init__(
        self,
        verifier: Verifier,
        endpoint: Endpoint,
        *,
        model: str | None,
        timeout: float,
        lock: Any,  # noqa: ANN401 -- of threading or of anyio
        encrypt: bool = False,
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
        self.attestation: Attestation | None = None  # the newest
        self._held: tuple[Attestation, ...] = ()  # all that may still hold, newest first
        self._code: CompleteCode | None = None
        self._verifier = verifier
        self._policy_hash = verifier.policy.hash
        self._sealer = Sealer(
            endpoint.dialect, wanted=encrypt, strict=verifier.policy.extends == "strict"
        )
        self._model = model
        self._timeout = float(timeout)
        self._lock = lock

    # --- attestations -----------------------------------------------------------------------

    @property
    def unsigned(self) -> bool:
        """Whether nobody signs answers in this dialect."""
        return self.endpoint.dialect.form is None

    def held(self) -> tuple[Attestation, ...]:
        """The attestations in force, newest first: one a machine at this address."""
        return tuple(one for one in self._held if one.holds)

    def ensure(self) -> Steps[Attestation]:
        """Give the attestation in force; attest anew where there is none that still holds.

        Raises:
            TeeVerifyError: The endpoint does not satisfy the policy, or runs other code now.
        """
        held = self.held()
        if held:
            return held[0]
        first: Attestation = yield Alone(self._lock, self._first())
        return first

    def _first(self) -> Steps[Attestation]:
        held = self.held()  # somebody may have attested while we waited
        return held[0] if held else (yield from self._admit(None))

    def renewed(self) -> Steps[Attestation]:
        """Attest anew, though there is an attestation in force: its key was refused.

        Raises:
            TeeVerifyError: The endpoint does not satisfy the policy, or runs other code now.
        """
        fresh: Attestation = yield Alone(self._lock, self._admit(None))
        return fresh

    def of_tls_key(self, peer: bytes | None) -> Steps[Attestation]:
        """The attestation of the machine at the other end of a TLS connection.

        Raises:
            TeeVerifyError: No machine with that key could be attested.
        """
        found = yield Alone(self._lock, self._seek(lambda one: one.tls_key == peer, None))
        if found is None:
            raise BindingMismatch(
                "the TLS connection does not end in an attested machine",
                id="endpoint.bound",
                got="no key" if peer is None else peer.hex(),
                want=", ".join(one.tls_key.hex() for one in self.held() if one.tls_key),
                hint="Nothing was sent. Somebody may be between you and the enclave.",
            )
        return found  # type: ignore[no-any-return]

    def _seek(
        self, wanted: Callable[[Attestation], bool], signer: SigningKey | None
    ) -> Steps[Attestation | None]:
        """Attest until a machine is found, for several may answer at one address."""
        others = 0
        for pause in _SEEK_PAUSES:
            known = next((one for one in self.held() if wanted(one)), None)
            if known is not None or others == _MOST_OTHERS:
                return known
            yield wait(pause)
            try:
                fresh = yield from self._admit(signer)
            except EndpointUnavailable as error:
                if error.id != "endpoint.other-machine":
                    raise
            else:
                if wanted(fresh):
                    return fresh
                others += 1
        return None

    def _admit(self, signer: SigningKey | None) -> Steps[Attestation]:
        """Attest, and admit only the complete code identity that the session began with."""
        fresh = yield from self._attest(signer)
        self._require_same(fresh.code)
        known = self.attestation
        if known is not None and (known.tls_key is None) != (fresh.tls_key is None):
            raise BindingMismatch(
                "the endpoint's machines do not all bind their TLS keys",
                id="endpoint.bound",
                want="the same of every machine of a session",
            )
        self._code = fresh.code
        self.attestation = fresh
        others = [one for one in self.held() if one.keys != fresh.keys]
        self._held = (fresh, *others)[:_MOST_HELD]
        return fresh

    def _require_same(self, code: CompleteCode) -> None:
        """Refuse other code than the session began with, whichever of a list's nodes runs it."""
        if self._code is not None and code != self._code:
            raise AppraisalFailed(
                "the endpoint runs other code now than when this session was opened",
                id="code.changed",
                got=first_difference(self._code, code),
                hint="Open a new session if you accept that.",
            )

    def _attest(self, signer: SigningKey | None) -> Steps[Attestation]:
        """Attest once, under a new nonce."""
        started = time.monotonic()
        reply = yield from ask(
            self.endpoint, model=self._model, timeout=self._timeout, signer=signer
        )
        moment = now()

        def appraise() -> tuple[Examined, AttestationResult]:
            """Verify and appraise; what is missing is fetched meanwhile."""
            examined = self._verifier.examine(reply.evidence, at=moment)
            result = appraise_examined(
                examined,
                None,
                self._verifier.policy,
                model=self._model,
                verified_at=moment,
                encryption=self._intended(examined),
            )
            self._verifier.memory.learn(examined, result.require())
            return examined, result

        examined, result = yield work(appraise)
        seconds = self._verifier.policy["session.max_age_seconds"]
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
            dialect=self.endpoint.dialect,
            encryption=self._intended(examined),
        )

    def _intended(self, examined: Examined) -> Encryption | None:
        bound = self.endpoint.scheme != "http" and bound_tls_key(examined) is not None
        return self._sealer.intends(bound=bound)

    # --- answers ----------------------------------------------------------------------------

    def verify(self, exchange: Exchange, sent_under: Attestation) -> Steps[Receipt]:
        """Verify one answer.

        Args:
            exchange: Request, answer, and the signature if it is known.
            sent_under: The attestation that was in force when the request was sent.

        Raises:
            TeeVerifyError: It is not verified, for whatever reason.
        """
        form = self.endpoint.dialect.form or UNSIGNED
        body: Body | None = None
        if form.carrying is None:
            body = require_whole(exchange)
            name = body.id
        else:
            exchange, name = taken_apart(exchange, form.carrying)
        signature = exchange.signature
        if signature is None:
            signature = yield from fetch_signature(
                self.endpoint,
                exchange,
                exchange.id or name,
                model=exchange.model or self._model,
                timeout=self._timeout,
            )
        if form.carrying is not None:
            sent_under = yield from self._of_process(form.carrying.instance(signature), sent_under)
        signed = examine_answer(
            signature=signature,
            answer=exchange.response,
            request=exchange.request,
            form=form,
            keys=sent_under.public_keys,
            body=body,
            # Encrypted, it is not the request that the model was read from.
            model=exchange.model if exchange.encryption is None else None,
            context=context_of(exchange, sent_under),
        )
        if signed.signed_form is not None:
            exchange = replace(exchange, response=signed.signed_form)
        signed = replace(signed, salted=exchange.salted)
        attestation = yield from self._attestation_of(signed.signer, sent_under)
        result = self._appraise(attestation, signed, exchange.encryption).require()
        self._require_same(complete_code(result.identities))
        if signed.sequence is not None and signed.statement is not None:
            self._verifier.replays.one_statement(*signed.sequence, signed.statement)
        self._verifier.replays.first_time(signed.statement or _signed_text(signed, exchange))
        once = used_once(signature, form.id)
        if once is not None and signed.signer is not None:
            self._verifier.replays.secret_number(signed.signer, once)
        return self._receipt(attestation, exchange, signature, result)

    def note(self, exchange: Exchange, sent_under: Attestation) -> Receipt:
        """Keep an answer that only its encryption authenticated: to the asker, and to nobody else.

        Args:
            exchange: Request and answer, opened.
            sent_under: The attestation of the key that the request was encrypted to.

        Returns:
            A note of it, without a signature: whoever verifies it later is told that nobody but
            the one who was there knows what was answered.

        Raises:
            TeeVerifyError: The answer is a part of one, or the attestation does not hold.
        """
        require_whole(exchange)
        result = self._appraise(sent_under, None, exchange.encryption).require()
        return self._receipt(sent_under, exchange, None, result)

    def _receipt(
        self,
        attestation: Attestation,
        exchange: Exchange,
        signature: bytes | None,
        result: AttestationResult,
    ) -> Receipt:
        policy_hash = self._policy_hash
        return receipt_of_exchange(attestation, exchange, signature, result, policy_hash)

    def _appraise(
        self, attestation: Attestation, signed: SignedAnswer | None, encryption: Encryption | None
    ) -> AttestationResult:
        return appraise_examined(
            attestation.examined,
            signed,
            self._verifier.policy,
            verified_at=now(),
            encryption=encryption,
        )

    def _attestation_of(
        self, signer: SigningKey | None, sent_under: Attestation
    ) -> Steps[Attestation]:
        """The attestation of a signer's own machine: the server may have been started anew."""
        if signer is None or signer in sent_under.keys:
            return sent_under
        found = yield from self._found(lambda one: signer in one.keys, signer, str(signer))
        return found or sent_under  # whose appraisal says that it is another key's

    def _of_process(self, instance: bytes, sent_under: Attestation) -> Steps[Attestation]:
        """The attestation of the process that a statement names: several may answer here."""

        def wanted(one: Attestation) -> bool:
            return any(process.instance == instance for process in one.processes)

        if wanted(sent_under):
            return sent_under
        found = yield from self._found(wanted, None, f"instance {instance.hex()}")
        return found or sent_under  # whose examination says that it is another process's

    def _found(
        self, wanted: Callable[[Attestation], bool], signer: SigningKey | None, named: str
    ) -> Steps[Attestation | None]:
        """An attestation that is held, or is made now."""
        known = next((one for one in self.held() if wanted(one)), None)
        if known is not None:
            return known
        try:
            found = yield Alone(self._lock, self._seek(wanted, signer))
        except AppraisalFailed as error:
            if error.id == "code.changed":
                raise
            raise _not_attested(named, error) from error
        except TeeVerifyError as error:
            raise _not_attested(named, error) from error
        return found  # type: ignore[no-any-return]


def _signed_text(signed: SignedAnswer, exchange: Exchange) -> bytes:
    """What was signed: by whom, and over which bytes. Another signature makes it no other text."""
    hashes = (hashlib.sha256(raw).hexdigest() for raw in (exchange.request, exchange.response))
    return ":".join((str(signed.signer), *hashes)).encode("utf-8")


def _not_attested(signer: str, error: TeeVerifyError) -> ResponseNotVerified:
    return ResponseNotVerified(
        "the answer was signed by a key that this session did not attest, and attesting "
        f"the endpoint again did not admit it: {error.message}",
        id="key.attested",
        got=signer,
        want="the key that was attested, or another of exactly the same code",
        hint="Do not use this answer.",
    )
