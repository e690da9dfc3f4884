"""The mixing matrix: every part of every recording in every other one.

Each part is genuine, and each whole is not. A cell must be refused by a finding that names the
part, although it is given everything else that the part needs; the few cells that must be accepted
are listed with their reason. Cells are reduced to one machine, so that only the part can refuse.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from teeverify import Verifier, nvidia, tdx
from teeverify.appraisal.evidence import Evidence, Machine
from teeverify.binding import layout_of
from teeverify.client.sources import load_evidence
from teeverify.clock import UTC
from teeverify.simulator.dstack import Dstack
from teeverify.simulator.endpoint import Endpoint
from teeverify.simulator.machine import SimulatedMachine

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=UTC)
RECORDED = {
    "near": ("nearcloud-20260629", None),
    "venice": ("venice-20260610", None),
    "nanogpt": ("nanogpt-20260610", None),
    "phala": ("phalacloud-chutes-20260610", "chutes-resold"),
    "chutes": ("chutes-20260629", None),
    "tinfoil": ("tinfoil-enclave-v3-20260629", None),
    "router": ("tinfoil-router-v3-20260629", None),
}
PAIRS = sorted(permutations(RECORDED, 2))

Part = Callable[[Evidence, Evidence], "Evidence | None"]


def machine_of(evidence: Evidence) -> Machine:
    """The first machine that runs a model; of a router alone, the router."""
    models = [machine for machine in evidence.machines if machine.role == "model"]
    return dataclasses.replace((models or list(evidence.machines))[0], node=None, managed=False)


def reduced(evidence: Evidence) -> Evidence:
    """One machine, so that nothing else refuses."""
    return dataclasses.replace(evidence, machines=(machine_of(evidence),))


def with_machine(ours: Evidence, theirs: Evidence, **changes: Any) -> Evidence:
    """Our machine with parts of theirs, and all collateral that either of both needs."""
    collateral = [e.tdx_endorsements for e in (ours, theirs) if e.tdx_endorsements is not None]
    return dataclasses.replace(
        ours,
        machines=(dataclasses.replace(ours.machines[0], **changes),),
        tdx_endorsements=tdx.Endorsements.union(*collateral) if collateral else None,
        snp_endorsements=ours.snp_endorsements or theirs.snp_endorsements,
    )


def quote(ours: Evidence, theirs: Evidence) -> Evidence:
    machine = theirs.machines[0]
    return with_machine(
        ours, theirs, quote=machine.quote, snp_report=machine.snp_report,
        snp_certificates=machine.snp_certificates,
    )  # fmt: skip


def gpus(ours: Evidence, theirs: Evidence) -> Evidence | None:
    if ours.machines[0].gpus is theirs.machines[0].gpus is None:
        return None
    return with_machine(ours, theirs, gpus=theirs.machines[0].gpus)


def event_log(ours: Evidence, theirs: Evidence) -> Evidence | None:
    log = theirs.machines[0].event_log
    if log is None or ours.machines[0].quote is None:
        return None  # there is none, or the machine has no registers for it
    return with_machine(ours, theirs, event_log=log)


def compose(ours: Evidence, theirs: Evidence) -> Evidence | None:
    text = theirs.machines[0].app_compose
    if text is None or ours.machines[0].quote is None:
        return None
    return with_machine(ours, theirs, app_compose=text)


def address(ours: Evidence, theirs: Evidence) -> Evidence | None:
    key = theirs.machines[0].key
    if key is None or "key" not in layout_of(ours.machines[0].layout).binds:
        return None  # the dialect has no place for one
    return with_machine(ours, theirs, key=key, public_key=None)


def nras(ours: Evidence, theirs: Evidence) -> Evidence | None:
    if ours.machines[0].gpus is None or theirs.nvidia_endorsements is None:
        return None
    answers = theirs.nvidia_endorsements.nras_answers
    return with_nvidia(ours, theirs, nras_answers=answers)


def with_nvidia(ours: Evidence, theirs: Evidence, **changes: Any) -> Evidence:
    """With the keys of both, so that the answer alone can refuse."""
    own = ours.nvidia_endorsements or nvidia.Endorsements()
    other = theirs.nvidia_endorsements or nvidia.Endorsements()
    given = dataclasses.replace(own, jwks=(*own.jwks, *other.jwks))
    return dataclasses.replace(ours, nvidia_endorsements=dataclasses.replace(given, **changes))


def collateral(ours: Evidence, theirs: Evidence) -> Evidence | None:
    if ours.machines[0].quote is None or theirs.machines[0].quote is None:
        return None  # Intel's is of no use to an AMD machine, and none was recorded with one
    return dataclasses.replace(ours, tdx_endorsements=theirs.tdx_endorsements)


def jwks(ours: Evidence, theirs: Evidence) -> Evidence | None:
    if ours.machines[0].gpus is None or theirs.machines[0].gpus is None:
        return None
    keys = theirs.nvidia_endorsements.jwks if theirs.nvidia_endorsements else ()
    own = ours.nvidia_endorsements or nvidia.Endorsements()
    return dataclasses.replace(ours, nvidia_endorsements=dataclasses.replace(own, jwks=keys))


PARTS: Mapping[str, Part] = {
    "quote": quote, "gpus": gpus, "event_log": event_log, "compose": compose,
    "address": address, "nras": nras, "collateral": collateral, "jwks": jwks,
}  # fmt: skip
NAMED_BY = {
    "quote": {"binding.report-data", "freshness.nonce", "tdx.", "snp.", "code.event-log"},
    "gpus": {"gpu.nonce", "gpu.required", "binding.report-data"},
    "event_log": {"code.event-log"},
    "compose": {"code.compose"},
    "address": {"binding.report-data"},
    "nras": {"nras.", "gpu.measurements"},
    "collateral": {"tdx."},
    "jwks": {"nras.key"},
}


def refusing(result: Any) -> set[tuple[str, str]]:
    """What refuses, by finding and outcome."""
    return {(f.id, f.outcome.value) for f in result.findings if f.exit_code}


def named(part: str, refused: set[tuple[str, str]]) -> bool:
    """Whether one of the findings that refuse names the part."""
    return any(check.startswith(name) for check, _ in refused for name in NAMED_BY[part])


# --- the recordings ------------------------------------------------------------------------------

# All these machines are of one model of platform (FMSPC 90c06f000000).
_10TH, _29TH = ("nanogpt", "phala", "venice"), ("chutes", "near", "tinfoil")
ACCEPTED: dict[tuple[str, str, str], str] = {
    **{
        ("collateral", out_of, into): "one model of platform, and data of the same day"
        for day in (_10TH, _29TH)
        for out_of, into in permutations(day, 2)
    },
    **{
        ("collateral", out_of, into): "one model of platform, and data still in date"
        for out_of in _10TH
        for into in _29TH
    },
    **{
        ("jwks", out_of, into): "the same list: NVIDIA changes its keys every day"
        for day in (_10TH, _29TH)
        for out_of, into in permutations(day, 2)
    },
}
"""Cells by part, from and into; all others are refused: newer collateral is not yet valid."""


@pytest.fixture(scope="module")
def recordings(vectors: Path) -> dict[str, Evidence]:
    captures = vectors / "endpoints/captures"
    found = {
        name: reduced(load_evidence(captures / folder, dialect=dialect))
        for name, (folder, dialect) in RECORDED.items()
    }
    # Its own nonce in place of the one that was asked for, which already refuses by itself.
    own = found["phala"].machines[0].nonce
    return {**found, "phala": dataclasses.replace(found["phala"], nonce=own)}


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier(offline=True)


@pytest.fixture(scope="module")
def before(recordings, verifier) -> dict[str, set[tuple[str, str]]]:
    """What refuses each recording as it is."""
    return {name: refusing(verifier.appraise(each)) for name, each in recordings.items()}


@pytest.mark.vectors
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_every_recording_in_every_other(recordings, verifier, before, part):
    accepted, cells = set(), 0
    for into, out_of in PAIRS:
        mixed = PARTS[part](recordings[into], recordings[out_of])
        if mixed is None:
            continue
        cells += 1
        refused = refusing(verifier.appraise(mixed))
        if not named(part, refused):
            assert refused <= before[into]
            accepted.add((part, out_of, into))
    assert accepted == {cell for cell in ACCEPTED if cell[0] == part}
    assert cells >= 6


@pytest.mark.vectors
def test_the_accepted_cells_have_a_reason():
    assert all(ACCEPTED.values())
    assert {part for part, _, _ in ACCEPTED} <= {"collateral", "jwks"}


@pytest.mark.vectors
@pytest.mark.parametrize("name", RECORDED)
def test_one_recorded_answer_under_every_recording(vectors, verifier, name):
    """Signed by the key that the capture of Venice attests, and by no other."""
    chat = vectors / "endpoints/signed-chats/near-docs-2026-06"
    folder, dialect = RECORDED[name]
    result = verifier.appraise(
        reduced(load_evidence(vectors / "endpoints/captures" / folder, dialect=dialect)),
        answer=chat / "response.sse", request=chat / "request.bin",
        signature=chat / "signature.json", allow_attested_later=14, dialect=dialect,
    )  # fmt: skip
    if name == "venice":
        assert (result.exit_code, result.finding("key.attested").exit_code) == (0, 0)
        return
    refused = {f.id for f in result.findings if f.exit_code}
    assert result.exit_code
    assert refused & {"key.attested", "answer.signature"}


# --- the same on forged evidence -----------------------------------------------------------------

FORGED = ("near", "venice", "dstack", "phala", "nanogpt", "0g")
FORGED_PAIRS = sorted(permutations(FORGED, 2))


class Operator(Endpoint):
    """A provider with machines and GPUs of its own, certified by the same vendors."""

    def __init__(self, other: Endpoint | None, number: int) -> None:
        super().__init__(at=AT, gpus=1)
        self.number = number
        if other is not None:
            self.intel, self.nvidia = other.intel, other.nvidia
            for name in ("model", "gateway"):
                images = [f"{name}{number}@sha256:{'cd' * 32}"]
                guest = Dstack(images=images, key_provider_id=bytes([number]) * 32)
                setattr(self, name, SimulatedMachine(intel=other.intel, guest=guest))

    def model_report(self, **overrides: Any) -> dict[str, Any]:
        device = self.nvidia.gpu(10 + self.number)
        payload = json.dumps({"evidence_list": [device.evidence(self.nonce)]})
        return super().model_report(**{"nvidia_payload": payload, **overrides})


@pytest.fixture(scope="module")
def operators() -> dict[str, Operator]:
    first = Operator(None, 0)
    others = [Operator(first, number) for number in range(1, len(FORGED))]
    return dict(zip(FORGED, [first, *others], strict=True))


@pytest.fixture(scope="module")
def forged(operators, tmp_path_factory) -> dict[str, Evidence]:
    folder = tmp_path_factory.mktemp("mixing")
    return {
        name: reduced(
            load_evidence(
                each.capture(folder / name, provider=name),
                dialect=name if name in ("dstack", "0g") else None,
            )
        )
        for name, each in operators.items()
    }


@pytest.fixture(scope="module")
def forger(operators) -> Verifier:
    return Verifier(offline=True, roots=operators["near"].roots())


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_every_forged_recording(forged, forger, part):
    """One vendor and one model of platform: its collateral fits everywhere, and nothing else."""
    before = {name: refusing(forger.appraise(each)) for name, each in forged.items()}
    assert set(map(frozenset, before.values())) == {frozenset()}
    for into, out_of in FORGED_PAIRS:
        mixed = PARTS[part](forged[into], forged[out_of])
        assert mixed is not None
        refused = refusing(forger.appraise(mixed))
        assert named(part, refused) is (part != "collateral")
        assert refused or part == "collateral"


@pytest.mark.parametrize("into", FORGED)
def test_every_forged_answer_under_every_recording(operators, forged, forger, into):
    for out_of, other in operators.items():
        request, answer = other.request(), other.answer()
        signature = other.sign(request, answer, model=None)
        result = forger.appraise(forged[into], request=request, answer=answer, signature=signature)
        refused = {f.id for f in result.findings if f.exit_code}
        assert refused == (set() if into == out_of else {"key.attested"})
        own = operators[into]
        moved = own.sign(own.request(), own.answer(after=other.at - own.at), model=None)
        if into != out_of:
            broken = forger.appraise(forged[into], request=request, answer=answer, signature=moved)
            assert {"response.hash-equal"} <= {f.id for f in broken.findings if f.exit_code}


def test_collateral_and_keys_of_another_vendor(forged, forger, tmp_path):
    """Where the vendors differ, even these parts are refused."""
    foreign = reduced(load_evidence(Operator(None, 7).capture(tmp_path / "foreign")))
    for part in ("collateral", "jwks"):
        assert named(part, refusing(forger.appraise(PARTS[part](forged["near"], foreign))))
