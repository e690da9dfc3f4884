"""A status that a strict policy lists by name is in the first words of the verdict."""

from __future__ import annotations

import dataclasses

import pytest

from teeverify.appraisal import Policy, examine
from teeverify.appraisal.examined import Question
from teeverify.appraisal.summary import summarise
from teeverify.client.sources import load_evidence


@pytest.mark.parametrize("status", ["UpToDate", "OutOfDate", "SWHardeningNeeded"])
def test_verified_on_firmware_that_you_accept_by_name(stage, status):
    evidence = load_evidence(stage.good)
    collateral = stage.endpoint.intel.collateral(tcb_status=status)
    folder = stage.capture(collateral=collateral)
    evidence = dataclasses.replace(
        evidence, tdx_endorsements=load_evidence(folder).tdx_endorsements
    )
    question = Question(
        at=stage.endpoint.at, at_by="caller", nonce=evidence.nonce, nonce_by="caller",
        roots=stage.roots.roots,
    )  # fmt: skip
    examined = examine(evidence, question)
    text = summarise(
        examined=examined, answer=None, policy=Policy.strict(), scope="endpoint", exit_code=0,
        tier="affirming", findings=(),
    )  # fmt: skip
    if status == "UpToDate":
        assert "Verified: " in text
    else:
        assert "Verified: " not in text
        assert f"Verified, on firmware whose status you accept by name ({status}): " in text
