"""Each fault breaks one thing, here in a dialect of the field, and is refused for that alone."""

from __future__ import annotations

import json

import pytest

from teeverify import TeeVerifyError, Verifier, errors
from teeverify.appraisal.observation import Outcome
from teeverify.providers import DIALECTS
from teeverify.simulator.host import HOST_FAULTS, RESTART
from teeverify.simulator.tee import TEE_FAULTS
from teeverify.testing import FAULTS, Fault

SPEAKS = ("--dialect", "dstack")
# What a flat dialect shows otherwise than our own protocol, of which the table is.
FLAT = {
    "stale-quote": Fault("freshness.nonce", "StaleEvidence"),
    "other-key": Fault("key.attested", "ResponseNotVerified"),
}
# The table is about live answers; of recorded ones nobody can say that they were asked for.
RECORDED = {"other-key": "AppraisalFailed"}
BESIDE = {"wrong-nonce": {"gpu.nonce"}}
STREAM_ONLY = ("truncated-stream", "missing-chunk")
ENCLAVE_FAULTS = {"other-key", "truncated-stream", RESTART}


def appraise(conversation):
    """The verdict of the project's own verifier on what came over the wire."""
    enclosed = DIALECTS["dstack"].enclosed(conversation.report)
    verifier = Verifier(
        roots=conversation.server.roots,
        policy=conversation.server.policy,
        endorsements=[enclosed.tdx, enclosed.nvidia],
        offline=True,
    )
    return verifier.appraise(
        conversation.report,
        dialect="dstack",
        nonce=conversation.nonce,
        model=conversation.server.model,
        answer=conversation.answer,
        request=conversation.request,
        signature=conversation.signature,
    )


def refusing(result):
    return {finding.id for finding in result.findings if finding.exit_code == result.exit_code}


@pytest.fixture(scope="module", params=sorted(FAULTS))
def faulty(request, serve):
    with serve(fault=request.param, gpus=2, arguments=SPEAKS) as server:
        yield request.param, server


def test_the_table_has_exactly_the_faults_that_there_are():
    assert set(FAULTS) == {*TEE_FAULTS, *HOST_FAULTS, *ENCLAVE_FAULTS}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_table_names_exceptions(fault):
    found = getattr(errors, FAULTS[fault].exception)
    assert issubclass(found, TeeVerifyError)
    assert FAULTS[fault] == (FAULTS[fault].finding, FAULTS[fault].exception)


@pytest.mark.network
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_sound_server_is_accepted(flat_server, converse, stream):
    result = appraise(converse(flat_server, stream=stream))
    assert result.satisfied, result.summary
    assert result.simulated
    assert result.scope == "answer"
    failed = [one.id for one in result.findings if one.outcome is Outcome.FAILED]
    assert failed == []


@pytest.mark.network
def test_a_client_of_the_field_refuses_a_faulty_server(faulty):
    """First of all: what starts anew does so once."""
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    fault, server = faulty
    asked = {"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 20}
    with server.openai(dialect="dstack", max_retries=0) as client:
        with pytest.raises(TeeVerifyError) as caught:
            list(client.chat.completions.create(model="default", stream=True, **asked))
        assert (caught.value.id, type(caught.value).__name__) == FLAT.get(fault, FAULTS[fault])


@pytest.mark.network
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_what_a_faulty_server_said_is_refused(faulty, converse, stream):
    fault, server = faulty
    if fault == RESTART:
        return  # of the first start nothing was recorded
    conversation = converse(server, stream=stream)
    if fault == "no-signature":
        assert conversation.signature is None
        return
    result = appraise(conversation)
    if fault in STREAM_ONLY and not stream:
        assert result.satisfied
        return
    assert not result.satisfied
    want = FLAT.get(fault, FAULTS[fault])
    assert refusing(result) == {want.finding, *BESIDE.get(fault, ())}, result.summary
    with pytest.raises(TeeVerifyError) as caught:
        result.require()
    assert caught.value.id == want.finding
    assert type(caught.value).__name__ == RECORDED.get(fault, want.exception)


@pytest.mark.network
def test_json_that_was_written_again_is_diagnosed(serve, converse):
    with serve(fault="reserialised-json", gpus=1, arguments=SPEAKS) as server:
        conversation = converse(server)
    json.loads(conversation.answer)
    assert "JSON" in appraise(conversation).error().hint


@pytest.mark.network
def test_evidence_of_another_question_is_refused(flat_server, converse):
    conversation = converse(flat_server)
    conversation.nonce = bytes(32)
    result = appraise(conversation)
    assert {"freshness.nonce", "gpu.nonce"} <= refusing(result)


@pytest.mark.network
def test_an_answer_of_another_server_is_refused(flat_server, converse, serve):
    own = converse(flat_server)
    with serve(gpus=2, arguments=SPEAKS) as server:
        other = converse(server)
    own.answer, own.request, own.signature = other.answer, other.request, other.signature
    assert refusing(appraise(own)) == {FLAT["other-key"].finding}


@pytest.mark.network
def test_the_roots_of_one_run_are_not_those_of_another(flat_server, converse, serve):
    conversation = converse(flat_server)
    with serve(gpus=1, arguments=SPEAKS) as other:
        conversation.server = other
    result = appraise(conversation)
    assert not result.satisfied
    assert "tdx.pck-chain" in refusing(result) or "tdx.root-crl" in refusing(result)


@pytest.mark.network
def test_without_test_roots_nothing_simulated_is_accepted(flat_server, converse):
    conversation = converse(flat_server)
    enclosed = DIALECTS["dstack"].enclosed(conversation.report)
    verifier = Verifier(endorsements=[enclosed.tdx, enclosed.nvidia], offline=True)
    result = verifier.appraise(conversation.report, dialect="dstack", nonce=conversation.nonce)
    assert result.exit_code == 2
    assert not result.simulated
