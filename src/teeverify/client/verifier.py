"""The verifier: policy, roots and endorsements held once, and its verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from teeverify.appraisal import (
    AttestationResult,
    Evidence,
    Examined,
    Policy,
    Question,
    ReferenceValues,
    appraise_examined,
    examine,
)
from teeverify.appraisal.evidence import Scope
from teeverify.client.hindsight import Retrospect
from teeverify.client.memory import EndpointMemory
from teeverify.client.replays import Replays
from teeverify.client.sources.files import given_bytes
from teeverify.client.sources.given import (
    given_nonce,
    require_kind,
    require_own_signature,
    signed_answer,
)
from teeverify.client.sources.load import Source, is_url, load_evidence
from teeverify.client.vendors.amd import AmdEndorsements
from teeverify.client.vendors.given import EndorsementSource, in_place, load_given
from teeverify.client.vendors.intel import IntelEndorsements
from teeverify.client.vendors.nvidia import NvidiaEndorsements
from teeverify.client.vendors.services import Services
from teeverify.clock import now, parse_time
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import (
    ConfigurationError,
)
from teeverify.roots import EMBEDDED, TimestampRoots, UnsafeTestRoots

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from teeverify.client.session.session import AttestedSession

__all__ = ["Arguments", "Verifier", "appraise", "verify"]


class Arguments(TypedDict, total=False):
    """The arguments of :meth:`Verifier.appraise`, which every verb takes."""

    nonce: bytes | str | None
    at: datetime | str | None
    expect: ReferenceValues | None
    answer: bytes | str | Path | None
    request: bytes | str | Path | None
    signature: bytes | str | Path | None
    scope: Scope | None
    model: str | None
    dialect: str | None
    allow_attested_later: int | None


class Verifier:
    """Verifies evidence and answers under one policy.

    Args:
        policy: ``genuine``, ``strict``, a path of a TOML file, or a :class:`Policy`.
        roots: Test roots, the only other ones than those that ship with the package.
        endorsements: The vendors' collateral: files, directories, or what was loaded before. What
            is given here for a vendor replaces what was recorded beside the evidence.
        offline: Open no socket. What is needed and not at hand is then missing all the same.
        intel: Where Intel's endorsements are fetched from, and kept, when they are missing and
            the appraisal is of now; Intel's own service unless given.
        amd: The same for AMD's.
        nvidia: The same for NVIDIA's; evidence is posted to its attestation service (NRAS) only
            where the policy takes that service's word and its manifests cannot be had.
        timestamp_roots: Whose timestamps of receipts count; none unless given.
        memory: What is remembered of endpoints between runs; in the user's cache unless named.

    Raises:
        ConfigurationError: A policy or endorsement that cannot be read.
    """

    def __init__(  # noqa: PLR0913 -- each may be chosen
        self,
        *,
        policy: str | Path | Policy = "genuine",
        roots: UnsafeTestRoots | None = None,
        endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
        offline: bool = False,
        intel: IntelEndorsements | None = None,
        amd: AmdEndorsements | None = None,
        nvidia: NvidiaEndorsements | None = None,
        timestamp_roots: TimestampRoots | None = None,
        memory: EndpointMemory | None = None,
    ) -> None:
        if roots is not None and not isinstance(roots, UnsafeTestRoots):
            raise ConfigurationError(
                "roots must be UnsafeTestRoots", id="usage.roots", got=type(roots).__name__
            )
        self.policy = Policy.of(policy)
        self.offline = offline
        self._roots = EMBEDDED if roots is None else roots.roots
        self.given = load_given(endorsements)
        self.memory = EndpointMemory() if memory is None else memory
        self.replays = Replays()
        self._services = Services(self.policy, offline=offline, intel=intel, amd=amd, nvidia=nvidia)
        self._of_nvidia = Remembering()
        self._retrospect = Retrospect(self.given, timestamp_roots)

    def appraise(  # noqa: PLR0913 -- the question in all its parts
        self,
        source: Source = None,
        *,
        nonce: bytes | str | None = None,
        at: datetime | str | None = None,
        expect: ReferenceValues | None = None,
        answer: bytes | str | Path | None = None,
        request: bytes | str | Path | None = None,
        signature: bytes | str | Path | None = None,
        scope: Scope | None = None,
        model: str | None = None,
        dialect: str | None = None,
        allow_attested_later: int | None = None,
    ) -> AttestationResult:
        """Appraise evidence, or an answer with its signature and the evidence of its signer.

        Args:
            source: Evidence: a recorded directory, a file, bytes, :class:`Evidence`, or the base
                URL of an endpoint, which is then attested now.
            nonce: The 32 bytes (or 64 hex digits) that you asked the evidence to carry.
            at: The time of the appraisal; without it the recorded time, or else now.
            expect: The code that you expect, in place of the policy's.
            answer: The answer's exact bytes, or a path of them.
            request: The request's exact bytes, or a path of them.
            signature: What the signature route returned, or a path of it.
            scope: What you want appraised; ``evidence`` for a bare component.
            model: The model that you asked for.
            dialect: The provider's dialect, where no recorded URL tells it.
            allow_attested_later: Days by which evidence may be younger than the answer.

        Returns:
            The result, also when it is a refusal: look at ``satisfied``, or call ``require()``.

        Raises:
            ConfigurationError: A wrong argument.
            MalformedEvidence: The source has no known form.
        """
        if scope not in (None, "answer", "endpoint", "evidence"):
            raise ConfigurationError(
                "no such scope",
                id="usage.scope",
                got=repr(scope)[:40],
                want="answer, endpoint or evidence",
            )
        require_kind("expect", expect, ReferenceValues)
        require_kind("model", model, str)
        require_kind("dialect", dialect, str)
        if is_url(source):
            found = self._fetch(source, model=model, dialect=dialect, fixed=(nonce, at))
        else:
            found = load_evidence(source, dialect=dialect)
        evidence = self._with_endorsements(found)
        moment = now()
        question = self._question(evidence, nonce=nonce, at=at, moment=moment)
        if evidence.held is None:
            evidence = self._services.complete(evidence, question, moment)
        given = given_bytes(signature, "signature")
        if evidence.held is not None:
            require_own_signature(evidence.answer, given)
        signed = signed_answer(
            evidence,
            dialect,
            signature=given,
            answer=given_bytes(answer, "answer"),
            request=given_bytes(request, "request"),
        )
        if signed is None and evidence.kind == "none":
            raise ConfigurationError("there is nothing to verify", id="usage.source")
        hindsight = None
        if evidence.held is None:
            examined = self._examined(evidence, question, moment)
            examined = examined if self.offline else self.memory.recall(examined, self.policy)
        else:
            examined, hindsight = self._retrospect.look_back(
                evidence, evidence.held, question, moment, complete=self._services.complete
            )
        result = appraise_examined(
            examined,
            signed,
            self._policy(expect, allow_attested_later),
            scope_asked=scope,
            model=model,
            verified_at=moment,
            hindsight=hindsight,
        )
        self.memory.learn(examined, result)
        return result

    def verify(self, source: Source = None, **arguments: Unpack[Arguments]) -> AttestationResult:
        """As :meth:`appraise`, but raise unless the policy is satisfied.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, with ``result`` set.
        """
        return self.appraise(source, **arguments).require()

    def connect(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        dialect: str | None = None,
        timeout: float | None = None,
        encrypt: bool = False,
    ) -> AttestedSession:
        """Attest an endpoint now; see :func:`teeverify.connect` for the arguments.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, unless the policy is
                satisfied.
        """
        from teeverify.client import connect  # noqa: PLC0415 -- it makes verifiers itself

        return connect.open_session(
            self,
            base_url,
            model=model,
            api_key=api_key,
            dialect=dialect,
            timeout=connect.DEFAULT_TIMEOUT if timeout is None else timeout,
            encrypt=encrypt,
        )

    def _fetch(
        self, url: str, *, model: str | None, dialect: str | None, fixed: tuple[object, object]
    ) -> Evidence:
        """Evidence of a live endpoint, whose nonce and time are never anybody's choice."""
        from teeverify.client import connect  # noqa: PLC0415 -- it makes verifiers itself

        if self.offline or fixed != (None, None):
            raise ConfigurationError(
                "a live endpoint is attested now and under a new nonce",
                id="usage.source",
                got="offline" if self.offline else "a nonce or a time",
                want="a recorded source for --offline, --nonce and --at",
            )
        return connect.fetch_evidence(url, model=model, dialect=dialect)

    def examine(self, evidence: Evidence, *, at: datetime) -> Examined:
        """Examine evidence once, for whoever appraises several answers with it.

        Args:
            evidence: The evidence, fetched at this time.
            at: Now.
        """
        found = self._with_endorsements(evidence)
        question = self._question(found, nonce=None, at=None, moment=at)
        examined = self._examined(self._services.complete(found, question, at), question, at)
        return self.memory.recall(examined, self.policy)

    def _examined(self, evidence: Evidence, question: Question, moment: datetime) -> Examined:
        """Examine, under the numbers seen before; then remember the higher ones of genuine CPUs."""
        store = self._services.store(evidence, question, moment)
        if store is None:
            return examine(evidence, question)
        online = self._services.asks_intel(question, moment)
        examined = examine(evidence, replace(question, remembered=store.counters(), online=online))
        for machine in examined.machines:
            if machine.cpu is not None:
                store.raise_counters(machine.cpu.counters)
        return examined

    def _policy(self, expect: ReferenceValues | None, later: int | None) -> Policy:
        policy = self.policy
        if expect is not None:
            policy = replace(policy, references=expect)
        if later is not None:
            changed = policy.replace(answer={"allow_attested_later_days": later})
            policy = replace(changed, name=policy.name)
        return policy

    def _with_endorsements(self, evidence: Evidence) -> Evidence:
        if evidence.held is not None:
            return evidence  # to a receipt's own, what was given is added
        return in_place(evidence, self.given, self._of_nvidia)

    def _question(
        self,
        evidence: Evidence,
        *,
        nonce: bytes | str | None,
        at: datetime | str | None,
        moment: datetime,
    ) -> Question:
        when, by = moment, "now"
        if at is not None:
            when, by = parse_time(at), "caller"
        elif evidence.recorded_at is not None:
            when, by = evidence.recorded_at, "recorder"
        return Question(
            at=when,
            at_by=by,
            nonce=given_nonce(nonce, evidence) if nonce is not None else evidence.nonce,
            nonce_by="caller" if nonce is not None or evidence.live else "recorder",
            roots=self._roots,
            allow_expired_rim_signers=self.policy["gpu.allow_expired_rim_signers"],
        )


def appraise(
    source: Source = None,
    *,
    policy: str | Path | Policy = "genuine",
    roots: UnsafeTestRoots | None = None,
    endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
    offline: bool = False,
    **arguments: Unpack[Arguments],
) -> AttestationResult:
    """As :func:`verify`, but a result that does not satisfy the policy is returned too.

    Raises:
        ConfigurationError: A wrong argument.
        MalformedEvidence: The source has no known form.
    """
    verifier = Verifier(policy=policy, roots=roots, endorsements=endorsements, offline=offline)
    return verifier.appraise(source, **arguments)


def verify(
    source: Source = None,
    *,
    policy: str | Path | Policy = "genuine",
    roots: UnsafeTestRoots | None = None,
    endorsements: EndorsementSource | Sequence[EndorsementSource] = (),
    offline: bool = False,
    **arguments: Unpack[Arguments],
) -> AttestationResult:
    """Verify once, and raise unless the policy is satisfied.

    Args:
        source: A receipt, a recorded directory, a file, bytes, :class:`Evidence`, or the base URL
            of an endpoint, which is then attested now.
        policy: ``genuine``, ``strict``, a path of a TOML file, or a :class:`Policy`.
        roots: Test roots, for simulated evidence only.
        endorsements: The vendors' collateral, in place of what was recorded beside the evidence.
        offline: Open no socket.
        **arguments: The bytes or paths ``answer``, ``request``, ``signature``; ``nonce``, ``at``,
            ``expect``, ``scope``, ``model``, ``dialect``, ``allow_attested_later`` (days): see
            :meth:`Verifier.appraise`.

    Raises:
        TeeVerifyError: The class that belongs to the worst finding, with ``result`` set.

    Example:
        ``teeverify.verify("capture/", policy="genuine", offline=True).summary``
    """
    verifier = Verifier(policy=policy, roots=roots, endorsements=endorsements, offline=offline)
    return verifier.verify(source, **arguments)
