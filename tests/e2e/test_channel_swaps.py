"""Parts of two machines of one provider: each genuine, the whole not (T03, T06, T20)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from teeverify.appraisal import Policy
from teeverify.client import Verifier
from teeverify.errors import TeeVerifyError
from teeverify.simulator.amd import AmdKeys
from teeverify.simulator.channels import Channels
from teeverify.simulator.dstack import Dstack

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=timezone.utc)
MAKERS = {
    "tinfoil": lambda c: c.tinfoil(),
    "tinfoil-snp": lambda c: c.tinfoil(platform="sev-snp"),
    "tinfoil-v2": lambda c: c.tinfoil_v2(),
    "chutes": lambda c: c.chutes(1),
    "secretvm": lambda c: c.secretvm(),
    "secretvm-snp": lambda c: c.secretvm(platform="sev-snp"),
    "nilcc": lambda c: c.nilcc(),
    "panda": lambda c: c.panda(),
}
# What may be another's, and why: nothing in it is bound, or read.
HARMLESS = {
    "tinfoil-v2": {"format"},  # the same text in both
    "chutes": {"failed_instance_ids"},  # nobody reads it
    "nilcc": {"report", "gpu_token", "environment"},  # nobody reads them
    "panda": {"token", "compose_hash"},  # a second opinion; the hash that counts is the quoted one
}


@pytest.fixture(scope="module")
def twins():
    """Two machines with keys, boots and GPUs of their own, under one set of vendors."""
    one = Channels(at=AT, gpus=1, amd_keys=AmdKeys.new())
    other = Channels(at=AT, gpus=1)
    other.intel, other.nvidia, other.nonce = one.intel, one.nvidia, one.nonce
    other.__dict__["amd"] = one.amd
    other.guest = Dstack(images=[f"other@sha256:{'cd' * 32}"])
    return one, other


@pytest.fixture
def appraise(twins, tmp_path):
    policy = Policy.genuine().replace(
        gpu={"required": False}, snp={"vmpls": ["0", "1"]}, require={"gpu.measurements": "note"}
    )
    verifier = Verifier(policy=policy, roots=twins[0].roots(), offline=True)

    def run(shown):
        folder = twins[0].capture(tmp_path / "capture", shown, nras=None)
        try:
            return verifier.appraise(folder, dialect=shown.dialect).exit_code
        except TeeVerifyError as error:
            return error.exit_code

    return run


def members(shown):
    try:
        return list(json.loads(shown.body))
    except ValueError:
        return []


@pytest.mark.parametrize("name", MAKERS)
def test_each_alone_is_good(twins, appraise, name):
    for machine in twins:
        assert appraise(MAKERS[name](machine)) == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_member_of_the_other(twins, appraise, name):
    """Every member of the report, each alone."""
    mine, theirs = (MAKERS[name](machine) for machine in twins)
    accepted = set()
    for member in members(mine):
        own, other = json.loads(mine.body), json.loads(theirs.body)
        if own[member] == other[member]:
            continue
        body = json.dumps({**own, member: other[member]}, separators=(",", ":")).encode()
        if appraise(replace(mine, exchanges=(replace(mine.exchanges[0], body=body),
                                             *mine.exchanges[1:]))) == 0:  # fmt: skip
            accepted.add(member)
    assert accepted <= HARMLESS.get(name, set())


@pytest.mark.parametrize("name", MAKERS)
def test_an_answer_of_the_other(twins, appraise, name):
    """The report, or what stands beside it."""
    mine, theirs = (MAKERS[name](machine) for machine in twins)
    for index in range(len(mine.exchanges)):
        exchanges = list(mine.exchanges)
        exchanges[index] = replace(exchanges[index], body=theirs.exchanges[index].body)
        assert appraise(replace(mine, exchanges=tuple(exchanges))) == 2


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("chutes", "panda")])
def test_the_connection_of_the_other(twins, appraise, name):
    mine, theirs = (MAKERS[name](machine) for machine in twins)
    spki = theirs.exchanges[0].peer_spki
    swapped = tuple(replace(each, peer_spki=spki) for each in mine.exchanges)
    assert appraise(replace(mine, exchanges=swapped)) == 2
