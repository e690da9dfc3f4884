"""The verifier's arguments: every wrong one is the caller's mistake, and nothing is verified."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path

import pytest

import teeverify
from teeverify import Policy, ReferenceValues, Verifier, nvidia, tdx
from teeverify.errors import ConfigurationError, EvidenceError, MalformedEvidence, TeeVerifyError

ANYTHING = (5, 5.0, True, [], {}, object(), b"x", bytearray(32), "\0", datetime(2026, 1, 1))  # noqa: DTZ001
TAKES = {
    "source": (str, bytes, Path),
    "nonce": (str, bytes),
    "at": (str, datetime),
    "answer": (str, bytes),
    "request": (str, bytes),
    "signature": (str, bytes),
    "model": (str,),
    "dialect": (str,),
    "scope": (),
    "expect": (),
    "allow_attested_later": (int,),
}


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: type(value).__name__)
def test_an_argument_of_another_kind(stage, name, value):
    asked = {"source": stage.good, name: value}
    if type(value) in TAKES[name]:
        try:
            stage.verifier().appraise(**asked)
        except TeeVerifyError:
            return
        return
    with pytest.raises(ConfigurationError):
        stage.verifier().appraise(**asked)


@pytest.mark.parametrize("name", ["policy", "roots"])
@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: type(value).__name__)
def test_a_verifier_made_of_something_else(name, value):
    with pytest.raises(ConfigurationError):
        Verifier(**{name: value})


@pytest.mark.parametrize(
    "value", [5, object(), b"x", [5], [b"x"], [[]], "/no/such/path", "\0", ["/no/such/path"]]
)
def test_endorsements_that_are_none(value):
    with pytest.raises(ConfigurationError):
        Verifier(endorsements=value)


def test_a_directory_without_endorsements(tmp_path):
    with pytest.raises(ConfigurationError):
        Verifier(endorsements=tmp_path)


def test_nothing_to_verify():
    with pytest.raises(ConfigurationError):
        Verifier().appraise()


def test_an_unknown_argument(stage):
    with pytest.raises(TypeError):
        stage.verifier().appraise(stage.good, nonces=b"")


@pytest.mark.parametrize(
    "nonce",
    ["", "00" * 31, "00" * 33, "0x" + "00" * 32, "00" * 31 + "0g", b"", b"0" * 31, "0" * 63],
)
def test_a_nonce_of_another_length(stage, nonce):
    with pytest.raises(ConfigurationError):
        stage.appraise(nonce=nonce)


def test_nonce_and_time_in_all_their_spellings(stage):
    nonce, at = stage.endpoint.nonce, stage.endpoint.at
    for spelling in (nonce, nonce.hex(), nonce.hex().upper()):
        for moment in (at, "2026-06-29T02:06:57Z", "2026-06-29T04:06:57+02:00"):
            result = stage.appraise(nonce=spelling, at=moment)
            assert result.exit_code == 0
            assert (result.finding("freshness.nonce").by, result.finding("time").by) == (None, None)


# --- endorsements: what the caller gives replaces what was recorded ------------------------------


def test_what_is_given_replaces_what_was_recorded(stage):
    """ADR 7: a recorded piece never rescues a wrong one that was asked for by name."""
    intel = stage.endpoint.intel
    other = stage.capture(collateral=intel.collateral(tcb_status="Revoked"))
    assert stage.appraise(endorsements=other).exit_code == 2
    assert stage.appraise(other, endorsements=stage.good).exit_code == 0
    assert stage.appraise(other, endorsements=tdx.Endorsements.load(stage.good)).exit_code == 0


def test_it_replaces_vendor_by_vendor(stage):
    without = stage.capture(nras=None)
    gpus = nvidia.Endorsements.load(stage.good)
    assert stage.appraise(without, endorsements=gpus).exit_code == 0
    refusing = nvidia.Endorsements.load(stage.capture(nras={"submod": {"measres": "fail"}}))
    assert stage.appraise(endorsements=refusing).exit_code == 2
    assert stage.appraise(endorsements=[refusing, gpus]).exit_code == 2


def test_a_refusal_of_nvidia_is_never_passed_over(stage):
    """Of several answers about these GPUs every one must say yes, in any order."""
    good = nvidia.Endorsements.load(stage.good)
    bad = nvidia.Endorsements.load(stage.capture(nras={"submods": {"GPU-1": {"measres": "fail"}}}))
    for pair in ([good, bad], [bad, good]):
        assert stage.appraise(endorsements=pair).exit_code == 2


# --- one verifier for many -----------------------------------------------------------------------


def test_one_verifier_for_good_and_bad(stage):
    """Nothing that one source proved helps another, in any order."""
    verifier = stage.verifier(endorsements=stage.good)
    bad = stage.near(model={"quote": {"corrupt": "body"}})
    debug = stage.near(model={"quote": {"debug": True}})
    codes = [verifier.appraise(s).exit_code for s in (stage.good, bad, stage.good, debug, bad)]
    assert codes == [0, 2, 0, 2, 2]
    for at, code in (("2027-01-01T00:00:00Z", 3), (None, 0), ("2020-01-01T00:00:00Z", 3)):
        assert verifier.appraise(stage.good, at=at).exit_code == code


def test_evidence_can_be_appraised_again(stage):
    evidence = teeverify.Evidence.load(stage.good)
    verifier = stage.verifier()
    one, other = verifier.appraise(evidence), verifier.appraise(evidence, nonce=bytes(32))
    assert (one.exit_code, other.exit_code) == (0, 2)
    assert verifier.appraise(evidence).exit_code == 0


def test_evidence_made_up_in_python(stage):
    """Whatever is built by hand is appraised by the same rules: no machine, no verdict."""
    policy = Policy.genuine().replace(gpu={"required": False})
    evidence = teeverify.Evidence.load(stage.good)
    empty = dataclasses.replace(evidence, machines=())
    assert stage.appraise(empty, policy=policy).exit_code == 1
    gateway, model, manager = evidence.machines
    for machines in ((manager,), (dataclasses.replace(model, quote=None),),
                     (dataclasses.replace(model, layout=""),),
                     (dataclasses.replace(model, event_log=None),),
                     (dataclasses.replace(model, role="component", layout=""),)):  # fmt: skip
        made = dataclasses.replace(evidence, machines=machines)
        assert stage.appraise(made, policy=policy).exit_code != 0
    with pytest.raises(ConfigurationError):
        stage.appraise(
            dataclasses.replace(evidence, machines=(dataclasses.replace(gateway, layout="x"),))
        )


def test_a_key_that_no_layout_binds(stage):
    """A compose-manager's layout binds a log, no key, whatever stands beside it."""
    evidence = teeverify.Evidence.load(stage.good)
    gateway, model, manager = evidence.machines
    mine = dataclasses.replace(manager, key=stage.endpoint.gateway.key.key)
    made = dataclasses.replace(evidence, machines=(model, mine))
    result = stage.appraise(made, **stage.signed(by=stage.endpoint.gateway.key))
    assert result.exit_code == 1
    assert result.finding("key.attested").exit_code == 1
    del gateway


def test_expected_code_replaces_the_policys(stage):
    other = {"name": "v", "source": "release", "mr_td": "00" * 48}
    policy = Policy.genuine().replace(code=[other])
    assert stage.appraise(policy=policy).exit_code == 1
    assert stage.appraise(policy=policy, expect=ReferenceValues()).exit_code == 0
    assert stage.appraise(expect=ReferenceValues.from_list([other])).exit_code == 1


def test_allowing_later_evidence_is_in_the_hash(stage):
    plain, allowed = stage.appraise(), stage.appraise(allow_attested_later=3)
    assert plain.policy.hash != allowed.policy.hash
    assert plain.policy.name == allowed.policy.name == "genuine"


# --- the verbs -----------------------------------------------------------------------------------


def test_verify_raises_what_appraise_returns(stage):
    options = {"roots": stage.roots, "offline": True}
    assert teeverify.verify(stage.good, **options).satisfied
    assert teeverify.appraise(stage.good, **options, nonce=bytes(32)).exit_code == 2
    with pytest.raises(EvidenceError) as caught:
        teeverify.verify(stage.good, **options, nonce=bytes(32))
    assert caught.value.result.exit_code == 2
    for verb in (teeverify.verify, teeverify.appraise):
        with pytest.raises(MalformedEvidence):
            verb(b"rubbish", **options)


def test_no_socket_is_opened(stage, monkeypatch):
    """Offline or not: recorded evidence names URLs, and none is followed (T60)."""
    import socket

    def refuse(*_, **__):
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    for offline in (True, False):
        assert stage.verifier(offline=offline).appraise(stage.good).exit_code == 0
