"""NVIDIA's endorsements of devices, from the cache where they are current, else fetched."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from teeverify import nvidia
from teeverify.appraisal import Evidence, Policy, Question
from teeverify.appraisal.bindings import gpu_nonce
from teeverify.crypto.certificates import Certificate
from teeverify.crypto.ocsp import parse_response, require_nonce, verify_ocsp
from teeverify.endorsements import Answer
from teeverify.endorsements.fetch import Fetcher, require_https
from teeverify.endorsements.several import Problems, ask_each
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementInvalid,
    EvidenceError,
    StaleEvidence,
    TeeVerifyError,
    Unavailable,
)
from teeverify.nvidia import services
from teeverify.nvidia.eat import parse_answer
from teeverify.nvidia.jwks import KeySet
from teeverify.nvidia.services import Hosts, NrasVersion
from teeverify.nvidia.services import Question as Asked
from teeverify.roots import Roots

__all__ = ["Fetched", "NvidiaEndorsements"]

AskNras: TypeAlias = Literal["needed", "always", "never"]
_TIMEOUT = 15.0
_NONCE_BYTES = 32
# NRAS replaces its keys once a day; asking for them more often than this is no use.
_JWKS_SECONDS = 60.0
_JWKS_LIVES_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What is at hand once NVIDIA's services were asked.

    Attributes:
        endorsements: What there was, and what was fetched.
        nras_posted: Whether the answers of NRAS in it are to evidence that was posted here.
        problems: What could not be had, and why.
    """

    endorsements: nvidia.Endorsements
    nras_posted: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """The devices of one machine, verified."""

    evidence: nvidia.Evidence
    claims: nvidia.Claims
    at: datetime
    roots: Roots


class NvidiaEndorsements:
    """Where NVIDIA's endorsements come from.

    Manifests and OCSP answers are kept on disk, and verified again each time they are read. What
    NRAS says counts only for evidence that was posted here, so it is never kept.

    Args:
        hosts: Mirrors of NVIDIA's services; NVIDIA's own unless named. They are the caller's
            choice, never the evidence's.
        nras: Whether evidence is posted to NVIDIA's remote attestation service: ``needed`` where
            its manifests could not be had and the policy takes its word; ``always`` for a second
            opinion, which must then agree; ``never``.
        nras_version: Which interface of that service.
        fetcher: Fetches; with time-out and authorities of its own.
        cache: Folder of kept answers; the user's cache unless named.

    Raises:
        ConfigurationError: A wrong host or option, or a cache that cannot be used.
    """

    def __init__(
        self,
        *,
        hosts: Hosts | None = None,
        nras: AskNras = "needed",
        nras_version: NrasVersion = "v4",
        fetcher: Fetcher | None = None,
        cache: str | Path | Store | None = None,
    ) -> None:
        self.hosts = Hosts() if hosts is None else hosts
        for host in (self.hosts.rim, self.hosts.ocsp, self.hosts.nras):
            require_https(host)
        if nras not in ("needed", "always", "never") or nras_version not in ("v3", "v4"):
            raise ConfigurationError(
                "no such way to ask NRAS",
                id="usage.nras",
                got=f"{nras!r}, {nras_version!r}"[:80],
                want="needed, always or never; v3 or v4",
            )
        self.nras = nras
        self._version: NrasVersion = nras_version
        self.fetcher = Fetcher(timeout=_TIMEOUT) if fetcher is None else fetcher
        folder = default_folder() if cache is None else cache
        self.store = folder if isinstance(folder, Store) else Store(folder)
        self._jwks: tuple[float, bytes] | None = None

    def complete_evidence(self, evidence: Evidence, question: Question, policy: Policy) -> Evidence:
        """Add what is missing for all machines of evidence.

        Args:
            evidence: The evidence.
            question: What it must answer, now.
            policy: Whether it takes NRAS's word, and manifests of expired signers.

        Raises:
            ConfigurationError: The caller's own mistake, or a cache that cannot be used.
        """
        for machine in evidence.machines:
            if machine.gpus is None:
                continue
            try:
                parsed = nvidia.parse_evidence(machine.gpus)
                own = parsed.devices[0].report.requester_nonce
                nonce = gpu_nonce(machine, question.nonce, own=own)
            except EvidenceError:
                continue  # the examination says what is wrong
            found = self.complete(
                parsed,
                evidence.nvidia_endorsements,
                nonce=nonce,
                at=question.at,
                roots=question.roots,
                nras_counts="nras" in policy["gpu.measurements"],
                nras_posted=evidence.nras_posted,
                allow_expired_signers=question.allow_expired_rim_signers,
            )
            notes = [f"not fetched: {problem}" for problem in found.problems]
            evidence = replace(
                evidence,
                nvidia_endorsements=found.endorsements,
                nras_posted=found.nras_posted,
                notes=(*evidence.notes, *notes),
            )
        return evidence

    def complete(  # noqa: PLR0913 -- the question in its parts
        self,
        evidence: nvidia.Evidence,
        given: nvidia.Endorsements | None,
        *,
        nonce: bytes,
        at: datetime,
        roots: Roots,
        nras_counts: bool = True,
        nras_posted: bool = False,
        allow_expired_signers: bool = False,
        refresh: bool = False,
    ) -> Fetched:
        """Add what is missing for the devices of one machine.

        They are verified first: what is asked for is made of what they signed. Where they do not
        verify, nothing is asked.

        Args:
            evidence: The evidence.
            given: What is at hand.
            nonce: The nonce that it must carry.
            at: The time at which all must be current: now.
            roots: The trust anchors.
            nras_counts: Whether the policy takes NRAS's word.
            nras_posted: Whether what is at hand of NRAS answers evidence that was posted here.
            allow_expired_signers: Whether it takes manifests whose signer has expired.
            refresh: Ask for everything anew.

        Raises:
            ConfigurationError: The caller's own mistake, or a cache that cannot be used.
        """
        known = nvidia.Endorsements() if given is None else given
        try:
            claims = nvidia.verify_evidence(evidence, known, nonce=nonce, at=at, roots=roots)
            ids = dict.fromkeys(one for d in claims.devices for one in nvidia.rim_ids(d))
        except (EvidenceError, Unavailable):
            return Fetched(endorsements=known)  # the examination says what is wrong
        machine = _Machine(evidence=evidence, claims=claims, at=at, roots=roots)
        problems = Problems()
        allow = allow_expired_signers
        missing = [name for name in ids if name not in {rim.id for rim in known.rims}]
        completed = self._with_rims(machine, known, missing, problems, refresh=refresh)
        if missing and not refresh and _contradicted(machine, completed, allow=allow):
            # NVIDIA revises manifests: one that was kept must not refuse what a newer one takes.
            completed = self._with_rims(machine, known, missing, problems, refresh=True)
        known = completed
        known = self._with_ocsp(machine, known, problems, allow=allow, refresh=refresh)
        lacking = ids.keys() - {rim.id for rim in known.rims}
        wanted = self.nras == "always" or (self.nras == "needed" and nras_counts and lacking)
        # Somebody else's answer that is at hand is not asked past: it might be a no.
        if wanted and (nras_posted or not known.nras_answers):
            said = problems.note(partial(self._ask_nras, machine))
            if said is not None:
                nras_posted = True
                known = replace(
                    known,
                    nras_answers=(*known.nras_answers, *said[0]),
                    jwks=tuple(dict.fromkeys((*known.jwks, *said[1]))),
                )
        return Fetched(endorsements=known, nras_posted=nras_posted, problems=problems.texts)

    # --- manifests --------------------------------------------------------------------------

    def _with_rims(
        self,
        machine: _Machine,
        known: nvidia.Endorsements,
        names: Sequence[str],
        problems: Problems,
        *,
        refresh: bool,
    ) -> nvidia.Endorsements:
        rims = ask_each(
            [partial(self._one_rim, name, machine, known, refresh=refresh) for name in names],
            problems,
        )
        return replace(known, rims=(*known.rims, *(rim for found in rims for rim in found)))

    def _one_rim(
        self, name: str, machine: _Machine, known: nvidia.Endorsements, *, refresh: bool
    ) -> tuple[nvidia.RimFile, ...]:
        question = services.rim_question(name, self.hosts)
        kept = None if refresh else self.store.load(question.kept_as)
        if kept is not None:
            with contextlib.suppress(TeeVerifyError):
                rims = nvidia.Endorsements.of(kept).rims
                for rim in rims:
                    nvidia.verify_rim(
                        rim.xml, at=machine.at, roots=machine.roots, memory=known.memory
                    )
                return rims
        answer = self.fetcher.get(question.url, what=question.what, id=question.id)
        # What is about another manifest is not kept; what is genuine, each verification says.
        rims = nvidia.Endorsements.of(answer).rims
        self.store.save(answer)
        return rims

    # --- revocation -------------------------------------------------------------------------

    def _with_ocsp(
        self,
        machine: _Machine,
        known: nvidia.Endorsements,
        problems: Problems,
        *,
        allow: bool,
        refresh: bool,
    ) -> nvidia.Endorsements:
        devices, at = machine.claims.devices, machine.at
        compared = None
        with contextlib.suppress(EvidenceError, Unavailable):
            compared = known.verify_measurements(
                devices, at=at, roots=machine.roots, allow_expired_signers=allow
            )
        with contextlib.suppress(EvidenceError, Unavailable):
            known.verify_revocation(devices, at=at, measurements=compared)
            return known
        pairs = [
            pair
            for pair in nvidia.certificates_to_ask(devices, compared)
            if not any(_says_good(raw, *pair, at) for raw in known.ocsp)
        ]
        answers = ask_each(
            [partial(self._one_status, *pair, at, refresh=refresh) for pair in pairs], problems
        )
        return replace(known, ocsp=(*known.ocsp, *answers))

    def _one_status(
        self, certificate: Certificate, issuer: Certificate, at: datetime, *, refresh: bool
    ) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        question = services.ocsp_question(certificate, issuer, nonce, self.hosts)
        kept = None if refresh else self.store.load(question.kept_as)
        if kept is not None and _says_good(kept.body, certificate, issuer, at):
            return kept.body
        body = self._post(question)
        answer = parse_response(body, what=question.what)
        require_nonce(answer, nonce)
        if answer.about(certificate, issuer) is None:
            raise EndorsementInvalid(
                f"{question.what}: the answer is about another certificate", id="ocsp.responder"
            )
        self.store.save(Answer(url=question.kept_as, headers={}, body=body))
        return body

    def _post(self, question: Asked) -> bytes:
        return self.fetcher.post(
            question.url,
            question.body or b"",
            content_type=question.content_type,
            what=question.what,
            id=question.id,
        )

    # --- NVIDIA's own word ------------------------------------------------------------------

    def _ask_nras(self, machine: _Machine) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Post GPUs and switches apart; gives the answers, and the lists of keys for them."""
        kinds = [one for one in (machine.claims.gpus, machine.claims.switches) if one]
        answers = tuple(self._one_word(machine, devices) for devices in kinds)
        return answers, tuple(dict.fromkeys(map(self._keys_of, answers)))

    def _one_word(self, machine: _Machine, devices: Sequence[nvidia.DeviceClaims]) -> bytes:
        posted = [machine.evidence.devices[device.index] for device in devices]
        question = services.nras_question(
            posted, devices, machine.claims.nonce, self.hosts, version=self._version
        )
        body = self._post(question)
        answer = parse_answer(body)
        if answer.claimed_nonce != machine.claims.nonce.hex():
            raise StaleEvidence(
                "NRAS answered about another nonce than the one that was posted", id="nras.nonce"
            )
        named = answer.claimed_ueids
        if named and not named & {device.ueid for device in devices}:
            raise BindingMismatch(
                "NRAS answered about other devices than those that were posted", id="nras.devices"
            )
        return body

    def _keys_of(self, answer: bytes) -> bytes:
        """The list of NRAS's keys; asked for once more where it has not the one that signed."""
        kid = parse_answer(answer).overall.header.text("kid")
        if self._jwks is not None:
            made, listed = self._jwks
            age = time.monotonic() - made
            if age < _JWKS_SECONDS or (age < _JWKS_LIVES_SECONDS and kid in KeySet(listed)):
                return listed
        question = services.jwks_question(self.hosts)
        found = self.fetcher.get(question.url, what=question.what, id=question.id).body
        KeySet(found)  # what cannot be read is not kept
        self._jwks = (time.monotonic(), found)
        return found


def _contradicted(machine: _Machine, known: nvidia.Endorsements, *, allow: bool) -> bool:
    """Whether a device contradicts a manifest that is at hand."""
    try:
        known.refute_measurements(
            machine.claims.devices,
            at=machine.at,
            roots=machine.roots,
            allow_expired_signers=allow,
        )
    except EvidenceError:
        return True
    return False


def _says_good(raw: bytes, certificate: Certificate, issuer: Certificate, at: datetime) -> bool:
    """Whether an answer is about a certificate, current, and says that it is good."""
    try:
        verify_ocsp(parse_response(raw, what="OCSP answer"), certificate, issuer, at=at)
    except TeeVerifyError:
        return False
    return True
