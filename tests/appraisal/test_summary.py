"""The first sentence: a reader must never believe more than was proven (docs/verdicts.md)."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest

from teeverify.appraisal import Policy
from teeverify.simulator.endpoint import MODEL
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.machine import SimulatedMachine

NOT_FOR_A_WARNING = ("verified", "trusted", "secure", "safe", "guarantee", "✔", "proven")
SOFT = dict.fromkeys(
    (
        "gpu.revocation",
        "endpoint.bound",
        "confidential.request",
        "signer.origin",
        "answer.fresh",
        "session.age",
        "request.bound",
        "model.identity",
        "code.images-pinned",
    ),
    "note",
)


@pytest.fixture(scope="module")
def say(stage):
    """The sentence as it would read under the vendors' roots, with the exit code."""

    def run(source=None, *, policy="genuine", endorsements=(), **asked):
        verifier = stage.verifier(policy=policy, endorsements=endorsements)
        verifier._roots = dataclasses.replace(verifier._roots, kind="embedded")
        result = verifier.appraise(stage.good if source is None else source, **asked)
        return result.exit_code, result.summary

    return run


def _later(stage):
    return stage.signed(answer=stage.endpoint.answer(after=timedelta(days=-8)))


def _untimed(stage):
    return stage.signed(answer=json.dumps({"model": MODEL}).encode())


def _bare(stage):
    quote = stage.endpoint.model.quote(bytes(64))
    return {"source": quote, "endorsements": stage.good, "at": stage.endpoint.at}


def _status(status):
    return lambda s: {
        "source": s.capture(collateral=s.endpoint.intel.collateral(tcb_status=status))
    }


# What is appraised; the exit code; and words that the sentence must have.
SAID = {
    "endpoint": (lambda s: {}, 0, ["not said which code you expect", "honest or not",
                                   "ends the TLS connection could read"]),
    "no-tls-key": (lambda s: {"source": s.capture(provider="venice")}, 0,
                   ["only answers signed by its key count"]),
    "recorded": (lambda s: {}, 0, ["the time, the nonce and NVIDIA's answer", "recorder's word"]),
    "own-nonce-and-time": (lambda s: {"nonce": s.endpoint.nonce, "at": s.endpoint.at}, 0,
                           ["(NRAS) is the recorder's word"]),
    "no-nonce": (lambda s: {"source": s.capture(manifest={"nonce_hex": None})}, 0,
                 ["no nonce of yours"]),
    "answer": (lambda s: s.signed(), 0, ["this answer was signed by key"]),
    "no-request": (lambda s: {**s.signed(), "request": None}, 0,
                   ["the request was not given", "to a request not given"]),
    "request": (lambda s: s.signed(), 0, ["that the request was this one is the endpoint's word"]),
    "gateway": (lambda s: s.signed(by=s.endpoint.gateway.key), 0,
                ["signed by the gateway, which has no GPU"]),
    "later": (lambda s: {**_later(s), "allow_attested_later": 14}, 0,
              ["8 days after the answer"]),
    "configuration": (_status("ConfigurationNeeded"), 0, ["configuration lowers its security"]),
    "evidence": (lambda s: {**_bare(s), "scope": "evidence"}, 0, ["tied to nothing"]),
    "bare": (_bare, 1, ["tied to nothing", "--for evidence"]),
    "not-what-was-asked": (lambda s: {"scope": "answer"}, 1, ["without an answer"]),
    "strict": (lambda s: {"policy": "strict"}, 1, ["not said which code you expect"]),
    "too-late": (_later, 1, ["8 days", "--allow-attested-later"]),
    "untimed": (_untimed, 1, ["does not say when it was made"]),
    "foreign-key": (lambda s: s.signed(by=SimulatedKey()), 1, ["nothing here attests its key"]),
    "out-of-date": (_status("OutOfDate"), 1, ["lacks Intel's security fixes of 2026-02-11",
                                              "seen or changed", "Only its operator"]),
    "no-gpu": (lambda s: {"source": s.near(model={"nvidia_payload": None})}, 1,
               ["no GPU was verified", "gpu.required = false"]),
    "model": (lambda s: {"model": "larger"}, 1, ["another model answered"]),
    "bare-with-nonce": (lambda s: {**_bare(s), "scope": "evidence", "nonce": b"\1" * 32}, 2,
                        ["nothing shows that it answers your nonce",
                         "Got 0000000000000000…0000, want 0101010101010101…0101."]),
    "stale": (lambda s: {"nonce": bytes(32)}, 2, ["does not answer your question"]),
    "other-answer": (lambda s: {**s.signed(), "answer": b"{}"}, 2,
                     ["the signature is real but belongs to another answer", "Do not use"]),
    "re-encoded": (lambda s: {**s.signed(), "answer": s.answer + b"\n"}, 2,
                   ["They differ only in the line breaks at the end"]),
    "other-request": (lambda s: {**s.signed(), "request": b"{}"}, 2,
                      ["belongs to another request", "Do not use this answer"]),
    "unsigned": (lambda s: {"answer": s.answer}, 2, ["no signature covers this answer",
                                                     "Do not use this answer"]),
    "debug": (lambda s: {"source": s.near(model={"quote": {"debug": True}})}, 2, ["debug mode"]),
    "a-year-later": (lambda s: {"at": "2027-06-29T00:00:00Z"}, 3, ["out of date", "Got ",
                                                                   "neither verified nor refuted"]),
    "no-nras": (lambda s: {"source": s.capture(nras=None)}, 3, ["no NRAS answer",
                                                                "neither verified nor refuted"]),
    "no-signature-kept": (lambda s: {"answer": s.answer, "signature": b'{"error_code":"x"}'}, 3,
                          ["has no signature for this answer"]),
}  # fmt: skip
FIRST = {
    0: "Genuine, but ",
    1: "Refused by your policy (",
    2: "Refused: ",
    3: "Undecided: ",
}


@pytest.mark.parametrize("name", SAID)
def test_the_first_sentence(stage, say, name):
    make, code, words = SAID[name]
    got, sentence = say(**make(stage))
    assert got == code
    assert sentence.startswith(FIRST[code])
    for word in words:
        assert word in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ".." not in sentence
    assert "  " not in sentence


@pytest.mark.parametrize("name", [name for name in SAID if SAID[name][1] == 0])
def test_a_warning_is_never_called_more(stage, say, name):
    _, sentence = say(**SAID[name][0](stage))
    assert not [word for word in NOT_FOR_A_WARNING if word in sentence.lower()]


@pytest.mark.parametrize("name", [name for name in SAID if SAID[name][1] in (2, 3)])
def test_what_is_wrong_or_missing_is_never_called_genuine(stage, say, name):
    _, sentence = say(**SAID[name][0](stage))
    assert "genuine" not in sentence.lower()


@pytest.mark.parametrize("name", SAID)
def test_simulated_comes_first(stage, name):
    make, code, _ = SAID[name]
    asked = make(stage)
    result = stage.appraise(**asked)
    assert result.summary.startswith("SIMULATED. ")
    assert ("proves nothing about any hardware" in result.summary) is (code == 0)


# --- of which machine it speaks ------------------------------------------------------------------


def test_the_gateways_signature_is_not_of_a_machine_with_gpus(stage, say):
    _, sentence = say(**stage.signed(by=stage.endpoint.gateway.key))
    assert "signed by the gateway" in sentence
    assert "genuine NVIDIA" not in sentence


def test_gpus_of_other_nodes_are_not_counted(stage, say):
    endpoint = stage.endpoint
    node = SimulatedMachine(intel=endpoint.intel)
    entries = [endpoint.nvidia.gpu(20).evidence(endpoint.nonce)]
    payload = json.dumps({"evidence_list": entries})
    report = endpoint.near_report()
    manager = {"compose_manager_attestation": endpoint.compose_manager(machine=node)}
    words = {"model_name": MODEL, "nvidia_payload": payload, **manager}
    more = node.report(endpoint.nonce, tls=True, **words)
    report["model_attestations"].append(more)
    folder = stage.capture(report=report, nras=None)
    policy = Policy.genuine().replace(require={"gpu.measurements": "note"})
    for key, count in ((endpoint.model.key, "2 genuine NVIDIA"), (node.key, "1 genuine NVIDIA")):
        _, sentence = say(folder, policy=policy, **stage.signed(by=key))
        assert count in sentence
        assert str(key.key)[-4:] in sentence


def test_the_key_that_is_named_is_the_signers(stage, say):
    key = SimulatedKey()
    _, sentence = say(**stage.signed())
    assert stage.endpoint.model.key.key.short in sentence
    assert key.key.short not in sentence


# --- what a policy cannot hide -------------------------------------------------------------------


def test_what_was_not_shown_is_said_in_the_tier(stage, say):
    """However much a policy lets pass, nothing of today is called verified."""
    policy = Policy.genuine().replace(require=SOFT)
    code, sentence = say(policy=policy, nonce=stage.endpoint.nonce, at=stage.endpoint.at)
    assert (code, sentence[:13]) == (0, "Genuine, but ")


@pytest.mark.parametrize("name", ["lax", "genuine", "Verified: all good ("])
def test_the_name_of_a_policy_is_only_a_name(stage, say, tmp_path, name):
    file = tmp_path / f"{name}.toml"
    file.write_text("extends = 'strict'")
    code, sentence = say(policy=file)
    assert code == 1
    assert sentence.startswith(f"Refused by your policy ({name}.toml): ")
