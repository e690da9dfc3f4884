"""Every parameter of a policy has an effect: an impossible value makes good evidence fail (T69)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from teeverify import tdx
from teeverify.appraisal import Outcome, Policy, Severity
from teeverify.appraisal.presets import PARAMETERS

SERVICE_TD = bytes(range(1, 49))
PKS = bytes.fromhex("0000005000000000")


@dataclass(frozen=True)
class Effect:
    """One parameter at work.

    Attributes:
        name: The parameter.
        value: A value under which the evidence fails.
        good: A value under which it passes; ``None`` for the preset's own.
        make: Makes what to appraise, as arguments of ``Stage.appraise``.
        sections: What else the policy says.
    """

    name: str
    value: Any
    good: Any = None
    make: Callable[[Any], dict[str, Any]] = lambda stage: {}
    sections: tuple[tuple[str, dict[str, Any]], ...] = ()

    def policy(self, value: Any) -> Policy:
        section, _, key = self.name.partition(".")
        given: dict[str, Any] = {name: dict(content) for name, content in self.sections}
        if value is not None:
            given.setdefault(section, {})[key] = value
        return Policy.genuine().replace(**given)

    def __str__(self) -> str:
        return self.name


def _status(status: str) -> Callable[[Any], dict[str, Any]]:
    return lambda stage: {
        "source": stage.capture(collateral=stage.endpoint.intel.collateral(tcb_status=status))
    }


def _recently_out_of_date(stage: Any) -> dict[str, Any]:
    """The level that is missed is of five days ago."""
    intel = stage.endpoint.intel
    missed = (stage.endpoint.at - timedelta(days=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    levels = [intel.level("UpToDate", raise_by=1, date=missed), intel.level("OutOfDate")]
    return {"source": stage.capture(collateral=intel.collateral(tcb_info={"tcbLevels": levels}))}


def _pks(stage: Any) -> dict[str, Any]:
    return {"source": stage.near(model={"quote": {"td_attributes": PKS}})}


def _older_answer(stage: Any) -> dict[str, Any]:
    return stage.signed(answer=stage.endpoint.answer(after=timedelta(minutes=-5)))


def _listed(*names: str) -> Callable[[Any], list[str]]:
    return lambda stage: [stage.endpoint.intel.platform.ppid.hex(), *names]


def _td(stage: Any) -> tdx.TdReport:
    return tdx.parse_quote(stage.endpoint.model.quote(bytes(64))).td


def _register(name: str) -> Callable[[Any], list[str]]:
    """The values of both machines, in another case."""

    def values(stage: Any) -> list[str]:
        machines = (stage.endpoint.model, stage.endpoint.gateway)
        quotes = [tdx.parse_quote(machine.quote(bytes(64))) for machine in machines]
        managers = [tdx.parse_quote(stage.endpoint.model.quote(bytes(64)))]
        return [getattr(quote.td, name).hex().upper() for quote in (*quotes, *managers)]

    return values


def _service_td(stage: Any) -> dict[str, Any]:
    quote = {"version": 5, "body": "1.5", "mr_service_td": SERVICE_TD}
    return {"source": stage.near(model={"quote": quote})}


def _both(read: Callable[[Any], bytes]) -> Callable[[Any], list[str]]:
    """What the guests of both machines say, in another case."""
    return lambda stage: [
        read(machine.guest).hex().upper()
        for machine in (stage.endpoint.model, stage.endpoint.gateway)
    ]


def _event(name: str) -> Callable[[Any], bytes]:
    return lambda guest: bytes.fromhex(
        next(e["event_payload"] for e in guest.event_log if e["event"] == name)
    )


def _digest(text: bytes) -> list[str]:
    return [hashlib.sha256(text).hexdigest()]


EFFECTS = (
    Effect("dstack.app_ids", ["00" * 20], good=_both(lambda guest: guest.app_id)),
    Effect("dstack.compose_hashes", ["00" * 32], good=_both(lambda guest: guest.compose_hash)),
    Effect("dstack.os_images", ["00" * 32], good=_both(_event("os-image-hash"))),
    Effect("dstack.key_providers", ["00" * 32], good=_both(lambda guest: guest.key_provider_id)),
    Effect("dstack.instances", ["00" * 20], good=_both(_event("instance-id"))),
    Effect("dstack.devices", ["00" * 32], good=_digest(b"simulated device")),
    Effect("signer.key_services", ["00" * 32], good=_both(lambda guest: guest.key_provider_id)),
    Effect("model.deployments", ["00" * 32], good=_digest(b"tiny.yaml")),
    Effect("verdict.accept", "affirming"),
    Effect("tdx.accepted", []),
    Effect("tdx.tolerated", [], make=_status("ConfigurationNeeded")),
    Effect("tdx.graced", [], make=_recently_out_of_date),
    Effect("tdx.grace_days", 4, make=_recently_out_of_date),
    Effect("tdx.attributes_refused", ["pks"], make=_pks),
    Effect("platform.deny", _listed()),
    Effect("platform.allow", ["00" * 16], good=_listed("00" * 16)),
    *(
        Effect(f"tdx.{name}", ["00" * 47 + "01"], good=_register(name))
        for name in (
            "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_seam", "mr_config_id", "mr_owner",
            "mr_owner_config",
        )
    ),
    Effect("tdx.xfam", ["ff" * 8], good=lambda s: [_td(s).xfam.hex()]),
    Effect("tdx.service_tds", ["00" * 48], good=[SERVICE_TD.hex().upper()], make=_service_td),
    Effect("tdx.configuration_refused", ["smt"], good=[]),
    Effect("tdx.min_evaluation_number", 1000, good=1),
    Effect("platform.fmspc_deny", lambda s: [s.endpoint.intel.platform.fmspc]),
    Effect("platform.fmspc_allow", ["00" * 6],
           good=lambda s: [s.endpoint.intel.platform.fmspc.upper()]),
    Effect("gpu.required", True, good=False,
           make=lambda s: {"source": s.near(model={"nvidia_payload": None})}),
    Effect("gpu.count", 3, good=2),
    Effect("gpu.count_required", True),
    Effect("gpu.architectures", ["Blackwell"], good=["Hopper"]),
    Effect("gpu.measurements", ["rim"], good=["rim", "nras"]),
    Effect("gpu.links", [], good=["same-nonce"],
           sections=(("require", {"gpu.binding": "proven"}),)),
    Effect("session.max_age_seconds", 30, make=lambda s: s.signed(),
           sections=(("require", {"session.age": "asserted"}),)),
    Effect("session.clock_skew_seconds", 0, make=_older_answer),
    Effect("answer.allow_attested_later_days", 0, good=1, make=_older_answer,
           sections=(("session", {"clock_skew_seconds": 0}),)),
)  # fmt: skip
# These have tests of their own below.
APART = {
    "tdx.accepted_advisories",
    "tdx.attributes_warned",
    "tdx.newest_standard",  # tests/endorsements/test_intel.py
    "gpu.allow_expired_rim_signers",  # tests/appraisal/test_gpus.py
    *(p.name for p in PARAMETERS if p.name.startswith("snp.")),  # tests/appraisal/test_snp.py
}


def test_every_parameter_is_here():
    assert {effect.name for effect in EFFECTS} | APART == {each.name for each in PARAMETERS}


@pytest.mark.parametrize("effect", EFFECTS, ids=str)
def test_an_impossible_value_makes_good_evidence_fail(stage, effect):
    good = effect.good(stage) if callable(effect.good) else effect.good
    value = effect.value(stage) if callable(effect.value) else effect.value
    asked = effect.make(stage)
    assert stage.appraise(policy=effect.policy(good), **asked).exit_code == 0
    assert stage.appraise(policy=effect.policy(value), **asked).exit_code in (1, 2)


def test_an_advisory_counts_only_where_it_is_listed(stage):
    """With ``strict``, a status that is listed passes only with its advisories listed too."""
    source = stage.capture(
        collateral=stage.endpoint.intel.collateral(
            tcb_status="SWHardeningNeeded", advisory_ids=["INTEL-SA-00001", "INTEL-SA-00002"]
        )
    )
    for listed, outcome in (
        ([], Outcome.FAILED),
        (["INTEL-SA-00001"], Outcome.FAILED),
        (["INTEL-SA-00002", "INTEL-SA-00001"], Outcome.PROVEN),
    ):
        tdx = {"accepted": ["UpToDate", "SWHardeningNeeded"], "accepted_advisories": listed}
        result = stage.appraise(source, policy=Policy.strict().replace(tdx=tdx))
        assert result.finding("tdx.tcb-status").outcome is outcome


@pytest.mark.parametrize(
    ("lists", "severity", "words"),
    [
        ({}, Severity.WARNS, "unusual attributes: pks"),
        ({"attributes_warned": []}, Severity.WARNS, "passes over what may be a way in: pks"),
        ({"attributes_refused": ["pks"]}, Severity.REFUSES, "leave a way in: pks"),
    ],
)
def test_an_attribute_is_named_whatever_the_policy_does_with_it(stage, lists, severity, words):
    result = stage.appraise(**_pks(stage), policy=Policy.genuine().replace(tdx=lists))
    finding = result.finding("tdx.attributes", "model")
    assert finding.severity is severity
    assert words in finding.message
    assert result.tier != "affirming"


def test_a_status_accepted_by_the_user_is_not_affirmed(stage):
    """What a policy on top of ``genuine`` accepts does not change how the tier is computed."""
    policy = Policy.genuine().replace(tdx={"accepted": ["UpToDate", "OutOfDate"]})
    result = stage.appraise(**_status("OutOfDate")(stage), policy=policy)
    assert (result.exit_code, result.tier) == (0, "warning")
    assert "your policy accepts the TCB status OutOfDate" in result.summary


def test_a_grace_time_ends(stage):
    asked = _recently_out_of_date(stage)
    for days, code in ((4, 1), (5, 0)):
        policy = Policy.genuine().replace(tdx={"grace_days": days})
        assert stage.appraise(**asked, policy=policy).exit_code == code


def test_no_gpu_wanted_and_eight_expected_contradict_each_other(stage):
    source = stage.near(model={"nvidia_payload": None})
    policy = Policy.genuine().replace(gpu={"required": False, "count": 8})
    assert stage.appraise(source, policy=policy).exit_code == 1


def test_the_first_sentence_repeats_that_no_gpu_is_wanted(stage):
    source = stage.near(model={"nvidia_payload": None})
    result = stage.appraise(source, policy=Policy.genuine().replace(gpu={"required": False}))
    assert "gpu.required = false" in result.summary
    assert "GPU" not in result.summary.partition("gpu.required = false")[2]


def test_an_equal_nonce_is_never_called_a_hash(stage):
    policy = Policy.genuine().replace(gpu={"links": ["same-nonce"]})
    finding = stage.appraise(policy=policy).finding("gpu.binding")
    assert "hashed" not in finding.message
    assert finding.severity is Severity.WARNS
