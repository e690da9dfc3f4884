"""A "no" says what is missing or wrong, and what to do; good news is no reason for a refusal."""

from __future__ import annotations

import pytest

from teeverify.appraisal import Outcome, Policy, Severity
from teeverify.appraisal.checks import CATALOG

# One of these stands in every sentence about what somebody only says.
RESERVED = ("word", "nobody", "not ", "no vendor", "could have", "alone", "anyone")


def refusals(result):
    return [f for f in result.findings if f.severity is Severity.REFUSES]


@pytest.fixture(scope="module")
def results(stage):
    """Refusals for want of proof, for what is wrong, and for what could not be had."""
    return {
        "strict": stage.appraise(policy="strict"),
        "answer": stage.appraise(policy="strict", **stage.signed()),
        "nras": stage.appraise(stage.capture(nras={}), policy="strict"),
        "stale": stage.appraise(nonce=bytes(32)),
        "bare": stage.appraise(stage.endpoint.model.quote(bytes(64)), at=stage.endpoint.at),
    }


@pytest.mark.parametrize("name", ["strict", "answer", "nras", "stale", "bare"])
def test_every_refusal_says_what_to_do(results, name):
    found = refusals(results[name])
    assert found
    for finding in found:
        told = finding.hint is not None
        assert told != finding.message.startswith("Not reached: "), finding


@pytest.mark.parametrize("name", ["strict", "answer", "nras"])
def test_what_is_only_said_is_told_as_that(results, name):
    said = [f for f in refusals(results[name]) if f.outcome is Outcome.ASSERTED]
    assert said
    for finding in said:
        assert any(word in finding.message for word in RESERVED), finding.message


def test_a_finding_that_passes_tells_nobody_to_do_anything(results):
    for result in results.values():
        passed = [f for f in result.findings if f.outcome is Outcome.PROVEN]
        assert passed
        assert {f.hint for f in passed} == {None}


def test_a_hint_of_its_own_is_kept(stage):
    found = stage.appraise(nonce=bytes(32)).finding("freshness.nonce")
    assert found.hint != CATALOG["freshness.nonce"].fix


def test_no_fix_restates_the_failure_first():
    """What to do begins with a deed, or with who must do it."""
    for check in CATALOG.values():
        assert not check.fix.startswith(("Where it fails", "The signature is", "A gateway"))


def test_under_a_policy_that_takes_words_the_row_warns(stage):
    policy = Policy.genuine().replace(require={"model.identity": "asserted"})
    found = stage.appraise(policy=policy).finding("model.identity")
    assert (found.severity, found.hint) == (Severity.WARNS, None)
