"""What verification proved of the evidence, machine by machine."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from teeverify import nvidia, snp, tdx
from teeverify.appraisal.evidence import Evidence, Machine
from teeverify.appraisal.gpus import GpuFirmware
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.reference import KnownCode
from teeverify.binding import Layout, SigningKey
from teeverify.errors import TeeVerifyError
from teeverify.roots import Roots
from teeverify.snp import FirmwareClaims, HclClaims, VtpmClaims

__all__ = ["Examined", "ExaminedMachine", "Question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the evidence must answer.

    Attributes:
        at: The time of the appraisal.
        at_by: ``caller``, ``now``, or ``recorder`` when the source itself names it.
        nonce: The nonce that the evidence must carry, if there is one.
        nonce_by: ``caller``, ``recorder``, or ``evidence`` where nobody names one: then all parts
            must still carry the same.
        roots: The trust anchors.
        remembered: The highest numbers of endorsements seen before (``tdx.Claims.counters``), for
            an appraisal of now.
        allow_expired_rim_signers: Whether the policy lets GPU manifests of expired signers pass.
        online: Whether Intel's service was asked, or could have been, for this appraisal of now.
    """

    at: datetime
    at_by: str
    nonce: bytes | None
    nonce_by: str
    roots: Roots
    remembered: Mapping[str, int] = field(default_factory=dict)
    allow_expired_rim_signers: bool = False
    online: bool = False


@dataclass(slots=True, kw_only=True)
class ExaminedMachine:
    """One machine, with what verification proved of it."""

    machine: Machine
    cpu: tdx.Claims | None = None
    snp: snp.Claims | None = None
    vtpm: VtpmClaims | None = None
    hcl: HclClaims | None = None
    firmware_maker: FirmwareClaims | TeeVerifyError | None = None
    log: tdx.EventLogClaims | None = None
    compose: tdx.AppConfigClaims | None = None
    layout: Layout | None = None
    gpus: nvidia.Claims | None = None
    nras: nvidia.NrasClaims | None = None
    firmware: GpuFirmware = field(default_factory=lambda: GpuFirmware(missing={}))
    observations: list[Observation] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """All machines of the evidence, examined.

    Attributes:
        evidence: The evidence.
        question: What it must answer.
        machines: Its machines.
        known_code: What is remembered of this endpoint's code, if anything is.
        newest: The newest dates of signed endorsements that were ever verified here under these
            roots (``dates``).
        aside: What was seen of nodes of a list that were set aside.
        data_sets: Which data sets Intel says that there are, or what is wrong with its list;
            ``None`` where there is no list.
        appraised: What the checks of the evidence found, by what it was held against (law 13).
        tiers: The policy by which the tier is computed, by the policy's identity.
    """

    evidence: Evidence
    question: Question
    machines: tuple[ExaminedMachine, ...]
    known_code: KnownCode | None = None
    newest: Mapping[str, int] = field(default_factory=dict)
    aside: tuple[Observation, ...] = ()
    data_sets: tdx.EvaluationClaims | TeeVerifyError | None = None
    # What the appraisal made of it, and by which policy: it stays true for every further answer,
    # but not for a copy with changes, which begins with none.
    appraised: dict[Hashable, Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    tiers: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def attested_keys(self) -> tuple[tuple[SigningKey, ExaminedMachine], ...]:
        """Every key that a verified quote binds, with its machine."""
        return tuple(
            (m.machine.key, m)
            for m in self.machines
            if m.machine.key is not None and m.layout is not None and "key" in m.layout.binds
        )

    @cached_property
    def expires_at(self) -> datetime | None:
        """Until when nothing that was verified runs out."""
        bounds = [m.cpu.expires_at for m in self.machines if m.cpu is not None]
        bounds += [m.snp.expires_at for m in self.machines if m.snp is not None]
        bounds += [m.gpus.expires_at for m in self.machines if m.gpus is not None]
        bounds += [m.nras.expires_at for m in self.machines if m.nras is not None]
        for found in (m.firmware for m in self.machines):
            parts = (found.measurements, found.revocation)
            bounds += [part.expires_at for part in parts if part is not None]
        return min(bounds, default=None)

    @property
    def dates(self) -> dict[str, int]:
        """When the newest endorsements were issued, in Unix seconds, by the root they lead to."""
        claims = [
            c for machine in self.machines for c in (machine.cpu, machine.snp) if c is not None
        ]
        dates: dict[str, int] = {}
        for one in claims:
            name = f"{one.anchor_fingerprint[:16]}/issued-at"
            dates[name] = max(dates.get(name, 0), int(one.issued_at.timestamp()))
        return dates

    def observations(self) -> Iterator[Observation]:
        """Everything seen so far, machine by machine."""
        for machine in self.machines:
            yield from machine.observations
        yield from self.aside
