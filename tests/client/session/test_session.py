"""``connect`` and the session: whose answers count, and until when."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
import requests

import teeverify
from teeverify import (
    AppraisalFailed,
    ConfigurationError,
    EndpointUnavailable,
    EvidenceError,
    ResponseNotVerified,
    SignatureUnavailable,
    TeeVerifyError,
)
from teeverify.client.session import attestation, core, signature
from teeverify.errors import MalformedEvidence, SignatureInvalid, StaleEvidence
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.tee import SimulatedTee

pytestmark = pytest.mark.network
REQUEST = json.dumps({"model": "default", "messages": []}).encode()


@pytest.fixture
def connect(enclave, roots):
    return lambda **options: teeverify.connect(enclave.url, **{"roots": roots, **options})


def post(enclave, body=REQUEST, **headers):
    given = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
    return requests.post(f"{enclave.url}/chat/completions", data=body, headers=given, timeout=10)


# --- opening ----------


def test_connect_attests_now_under_a_nonce_of_ours(connect, enclave):
    session = connect(model="default", api_key="sk-canary")
    result = session.result
    assert result.satisfied
    assert result.scope == "endpoint"
    assert result.finding("freshness.nonce").outcome.value == "proven"
    assert result.finding("time").outcome.value == "proven"
    assert session.signer == enclave.key.key
    ((_, path, headers, _),) = enclave.seen
    assert "nonce=" in path
    assert "authorization" not in headers
    assert "sk-canary" not in repr(enclave.seen) + repr(session) + str(vars(session.result))


def test_every_attestation_has_its_own_nonce(connect, enclave):
    connect()
    connect()
    assert len({path for _, path, _, _ in enclave.seen}) == 2


def test_without_the_test_roots_nothing_simulated_opens(enclave, monkeypatch):
    for name in ("TEEVERIFY_ROOTS", "TEEVERIFY_UNSAFE_TEST_ROOTS", "TEEVERIFY_POLICY"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(EvidenceError):
        teeverify.connect(enclave.url)


def test_roots_of_another_run_do_not_open(enclave, other_tee):
    other = teeverify.UnsafeTestRoots([other_tee.roots_pem()])
    with pytest.raises(EvidenceError):
        teeverify.connect(enclave.url, roots=other)


def test_strict_refuses_simulated_evidence(connect):
    with pytest.raises(AppraisalFailed) as refused:
        connect(policy="strict")
    assert refused.value.result.exit_code == 1


def test_a_report_for_an_older_nonce_is_refused(connect, enclave):
    old = enclave.report({"nonce": "ab" * 32})
    enclave.change_report = lambda report: old
    with pytest.raises(StaleEvidence):
        connect()


@pytest.mark.parametrize("fault", ["stale-quote", "stale-gpu-nonce", "debug-td", "revoked-pck"])
def test_faulty_evidence_opens_nothing(fault, new_enclave):
    enclave = new_enclave(SimulatedTee(gpus=2, fault=fault))
    with pytest.raises(EvidenceError) as refused:
        teeverify.connect(enclave.url, roots=_roots(enclave))
    assert refused.value.result is not None


def test_another_model_than_the_one_asked_for(connect, enclave):
    def other(report):
        return json.dumps({**json.loads(report), "model_name": "smaller"}).encode()

    enclave.change_report = other
    with pytest.raises(AppraisalFailed) as refused:
        connect(model="default")
    assert refused.value.id == "model.identity"


@pytest.mark.parametrize(
    ("status", "body", "kind", "error"),
    [
        (500, b"{}", "application/json", EndpointUnavailable),
        (401, b"{}", "application/json", EndpointUnavailable),
        (404, b"{}", "application/json", EndpointUnavailable),
        (200, b"<html>Log in</html>", "text/html", EndpointUnavailable),
        (200, b"", "application/json", MalformedEvidence),
        (200, b"[]", "application/json", MalformedEvidence),
        (200, b"{}", "application/json", MalformedEvidence),
        (200, b'{"signing_address":1}', "application/json", MalformedEvidence),
    ],
)
def test_what_is_no_report(connect, enclave, status, body, kind, error):
    def raw(handler, path):
        handler._json(status, body, {"Content-Type": kind})
        return True

    enclave.raw = raw
    with pytest.raises(error):
        connect()


def test_a_dead_server(connect, enclave):
    enclave.stop()
    with pytest.raises(EndpointUnavailable) as refused:
        connect()
    assert refused.value.retryable
    assert "refused" in str(refused.value).lower()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", None, 1e300])
def test_a_wrong_time_out(connect, timeout):
    with pytest.raises(ConfigurationError):
        connect(timeout=timeout)


def test_an_offline_verifier_opens_no_session(enclave):
    with pytest.raises(ConfigurationError, match="offline"):
        teeverify.Verifier(offline=True).connect(enclave.url)
    assert enclave.seen == []


def test_each_member_of_the_report_is_needed(connect, enclave):
    """T70: what is absent is not passed over."""
    sound = json.loads(enclave.report({"nonce": "00" * 32}))
    kept = {"signing_public_key", "request_nonce", "vm_config", "model_name", "signing_algo"}
    for name in sound.keys() - kept:
        enclave.change_report = lambda report, name=name: json.dumps(
            {key: value for key, value in json.loads(report).items() if key != name}
        ).encode()
        with pytest.raises(TeeVerifyError):
            connect()


# --- one live source ----------


def test_an_endpoint_is_a_source(enclave, roots):
    result = teeverify.verify(enclave.url, roots=roots, model="default")
    assert result.scope == "endpoint"
    assert result.finding("freshness.nonce").outcome.value == "proven"


@pytest.mark.parametrize(
    "fixed", [{"nonce": "00" * 32}, {"at": "2026-01-01T00:00:00Z"}, {"offline": True}]
)
def test_a_live_source_has_no_chosen_nonce_or_time(enclave, roots, fixed):
    with pytest.raises(ConfigurationError):
        teeverify.verify(enclave.url, roots=roots, **fixed)
    assert enclave.seen == []


def test_a_live_source_is_not_only_shown(enclave):
    with pytest.raises(ConfigurationError):
        teeverify.Evidence.load(enclave.url)


# --- answers ----------


def test_bytes_are_verified(connect, enclave):
    session = connect(api_key="sk-canary")
    answer = post(enclave).content
    receipt = session.verify_response(request=REQUEST, response=answer)
    assert receipt.signer == enclave.key.key
    assert receipt.result.scope == "answer"
    assert receipt.parts.response.raw == answer
    ((_, _, headers, _),) = enclave.of("/signature/")
    assert headers["authorization"] == "Bearer sk-canary"


def test_a_response_of_requests_is_verified(connect, enclave):
    assert connect().verify_response(response=post(enclave)).parts.request.raw == REQUEST


def test_a_response_of_httpx2_is_verified(connect, enclave):
    httpx2 = pytest.importorskip("httpx2", reason="the extra 'openai' is not installed")
    with httpx2.Client(headers={"Accept-Encoding": "identity"}) as client:
        answer = client.post(f"{enclave.url}/chat/completions", content=REQUEST)
        assert connect().verify_response(response=answer).parts.request.raw == REQUEST
        streamed = json.dumps({"model": "default", "stream": True}).encode()
        with client.stream("POST", f"{enclave.url}/chat/completions", content=streamed) as open_one:
            with pytest.raises(ConfigurationError, match="read"):
                connect().verify_response(response=open_one)
            open_one.read()
            assert connect().verify_response(response=open_one).id


def test_a_streamed_body_is_verified(connect, enclave):
    request = json.dumps({"model": "default", "stream": True}).encode()
    assert connect().verify_response(request=request, response=post(enclave, request).content)


def test_a_signature_in_hand_is_not_fetched(connect, enclave, tmp_path):
    session = connect()
    answer = post(enclave).content
    signature = enclave.signatures[json.loads(answer)["id"]]
    (tmp_path / "signature.json").write_bytes(signature)
    session.verify_response(request=REQUEST, response=answer, signature=signature)
    again = connect()
    again.verify_response(request=REQUEST, response=answer, signature=tmp_path / "signature.json")
    assert enclave.of("/signature/") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"Four", b"Five"),
        lambda body: body + b"\n",
        lambda body: body[:-1],
        lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode(),
        lambda body: b"",
        lambda body: b"\xff" + body,
    ],
)
def test_a_changed_answer_is_refused(connect, enclave, change):
    session = connect()
    answer = post(enclave).content
    name = json.loads(answer)["id"]
    with pytest.raises(ResponseNotVerified) as refused:
        session.verify_response(request=REQUEST, response=change(answer), id=name)
    assert refused.value.exit_code == 2


def test_a_changed_request_is_refused(connect, enclave):
    session = connect()
    answer = post(enclave).content
    with pytest.raises(ResponseNotVerified) as refused:
        session.verify_response(request=REQUEST + b" ", response=answer)
    assert refused.value.id == "request.bound"


def test_two_answers_swapped(connect, enclave):
    session = connect()
    one, two = post(enclave).content, post(enclave).content
    with pytest.raises(ResponseNotVerified):
        session.verify_response(request=REQUEST, response=one, id=json.loads(two)["id"])


@pytest.mark.parametrize("field", ["text", "signature", "signing_address", "signing_algo"])
def test_a_changed_signature_is_refused(connect, enclave, field):
    session = connect()
    answer = post(enclave).content
    signature = json.loads(enclave.signatures[json.loads(answer)["id"]])
    flipped = signature[field][:-1] + ("0" if signature[field][-1] != "0" else "1")
    for value in (flipped, "", None, 7):
        changed = json.dumps({**signature, field: value}).encode()
        if field == "signing_algo" and value is None:
            continue  # the field's proxies leave it out, and mean ecdsa
        with pytest.raises((EvidenceError, ResponseNotVerified)):
            session.verify_response(request=REQUEST, response=answer, signature=changed)


def test_an_error_is_no_answer(connect, enclave):
    enclave.statuses = [500]
    with pytest.raises(ResponseNotVerified):
        connect().verify_response(response=post(enclave))


def test_a_compressed_answer_is_refused(connect, enclave):
    import gzip

    enclave.change_answer = gzip.compress
    enclave.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(ResponseNotVerified) as refused:
        connect().verify_response(response=post(enclave))
    assert refused.value.id == "answer.encoding"


@pytest.mark.parametrize("response", [None, "text", 7, object()])
def test_what_is_no_response(connect, response):
    with pytest.raises(ConfigurationError):
        connect().verify_response(request=REQUEST, response=response)


@pytest.mark.parametrize("request_", [None, "text", 7])
def test_what_is_no_request(connect, request_):
    with pytest.raises(ConfigurationError):
        connect().verify_response(request=request_, response=b"{}")


def test_an_answer_without_an_id(connect):
    with pytest.raises(ResponseNotVerified, match="id"):
        connect().verify_response(request=REQUEST, response=b"{}")


# --- the signature route ----------


def test_a_signature_that_comes_late_is_waited_for(connect, enclave):
    session = connect()
    answer = post(enclave)
    enclave.missing_signatures = 3
    assert session.verify_response(response=answer)
    assert len(enclave.of("/signature/")) == 4


def test_a_signature_that_never_comes(connect, enclave, monkeypatch):
    monkeypatch.setattr(signature, "_PAUSES", (0.01, 0.01))
    session = connect()
    answer = post(enclave)
    enclave.missing_signatures = 1000
    with pytest.raises(SignatureUnavailable) as refused:
        session.verify_response(response=answer)
    assert refused.value.exit_code == 3
    assert len(enclave.of("/signature/")) == 3


def test_a_signature_route_that_refuses_is_not_asked_again(connect, enclave):
    session = connect()
    answer = post(enclave)

    def raw(handler, path):
        handler._error(401)
        return True

    enclave.raw = raw
    with pytest.raises(SignatureUnavailable, match="key"):
        session.verify_response(response=answer)
    assert len(enclave.of("/signature/")) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"error_code": "x"}', b"\xff"])
def test_what_is_no_signature(connect, enclave, body):
    session = connect()
    answer = post(enclave)
    enclave.signatures[answer.json()["id"]] = body
    with pytest.raises(TeeVerifyError) as refused:
        session.verify_response(response=answer)
    assert refused.value.exit_code in (2, 3)


# --- keys ----------


def test_a_wrong_key_is_refused(connect, enclave):
    session = connect()
    enclave.signer = SimulatedKey()
    with pytest.raises(ResponseNotVerified) as refused:
        session.verify_response(response=post(enclave))
    assert refused.value.id == "key.attested"
    assert refused.value.exit_code == 2
    assert refused.value.result is not None
    assert 1 < len(enclave.of("/report")) < 12  # it looked for a machine that has this key


def test_a_key_of_the_other_kind_is_refused(connect, enclave):
    session = connect()
    enclave.signer = SimulatedKey("ed25519")
    with pytest.raises(ResponseNotVerified):
        session.verify_response(response=post(enclave))


def test_a_bad_signature_does_not_make_the_session_attest_again(connect, enclave):
    session = connect()
    answer = post(enclave)
    other = SimulatedKey()
    signature = json.loads(enclave.signatures[answer.json()["id"]])
    forged = {**signature, "signing_address": str(other.key)}
    with pytest.raises(SignatureInvalid):
        session.verify_response(response=answer, signature=json.dumps(forged).encode())
    assert len(enclave.of("/report")) == 1


def test_a_restarted_server_is_attested_again(connect, enclave):
    session = connect()
    first = session.signer
    enclave.restart()
    receipt = session.verify_response(response=post(enclave))
    assert receipt.signer == enclave.key.key != first
    assert session.signer == enclave.key.key
    assert len(enclave.of("/report")) == 2
    session.verify_response(response=post(enclave))
    assert len(enclave.of("/report")) == 2


def test_a_restarted_server_with_other_code_is_refused(connect, enclave, tee, roots):
    session = connect()
    enclave.restart()
    enclave.tee = tee.with_other_code()
    with pytest.raises(AppraisalFailed) as refused:
        session.verify_response(response=post(enclave))
    assert refused.value.id == "code.changed"
    assert session.signer != enclave.key.key


def test_a_new_key_whose_evidence_is_bad_is_refused(connect, enclave):
    session = connect()
    enclave.restart()
    enclave.change_report = lambda report: report.replace(
        b'"intel_quote": "0400', b'"intel_quote": "0500'
    )
    with pytest.raises(ResponseNotVerified):
        session.verify_response(response=post(enclave))


def test_a_new_key_that_cannot_be_attested_is_refused(connect, enclave):
    """Not "undecided": the answer at hand is signed by a key that nothing attests."""
    session = connect()
    enclave.restart()
    answer = post(enclave)
    signature = enclave.signatures[answer.json()["id"]]
    enclave.stop()
    with pytest.raises(ResponseNotVerified):
        session.verify_response(response=answer, signature=signature)


def test_two_enclaves_behind_one_address(connect, enclave):
    """T06: answers of both count, each under its own attestation, as the code is the same."""
    session = connect()
    for _ in range(3):
        enclave.restart()
        receipt = session.verify_response(response=post(enclave))
        assert receipt.signer == enclave.key.key
        assert receipt.verify(roots=_roots(enclave)).signer == enclave.key.key


def _roots(enclave):
    return teeverify.UnsafeTestRoots([enclave.tee.roots_pem()])


# --- expiry ----------


def test_the_session_ends_with_the_policy_or_the_evidence(connect):
    session = connect()
    oldest = session.result.verified_at + timedelta(hours=1)
    assert session.expires_at <= oldest
    assert session.expires_at <= session.result.expires_at
    policy = teeverify.Policy.genuine().replace(session={"max_age_seconds": 60})
    short = connect(policy=policy)
    assert short.expires_at <= short.result.verified_at + timedelta(seconds=60)


@pytest.mark.parametrize("bound", ["policy", "evidence"])
def test_an_expired_session_attests_again(connect, enclave, monkeypatch, bound):
    seconds = 100_000 if bound == "evidence" else 600
    policy = teeverify.Policy.genuine().replace(
        session={"max_age_seconds": seconds, "clock_skew_seconds": 10_000}
    )
    session = connect(policy=policy)
    ends = session.expires_at
    if bound == "evidence":
        assert ends == session.result.expires_at
    monkeypatch.setattr(attestation, "now", lambda: ends - timedelta(seconds=1))
    session.attest()
    assert len(enclave.of("/report")) == 1
    monkeypatch.setattr(attestation, "now", lambda: ends)
    enclave.restart()
    session.attest()
    assert len(enclave.of("/report")) == 2
    assert session.signer == enclave.key.key


def test_a_clock_that_is_set_back_does_not_prolong_a_session(connect, enclave, monkeypatch):
    session = connect()
    monkeypatch.setattr(core.time, "monotonic", lambda: 10.0**9)
    session.attest()
    assert len(enclave.of("/report")) == 2


def test_other_code_after_expiry_is_refused(connect, enclave, tee, monkeypatch):
    policy = teeverify.Policy.genuine().replace(session={"max_age_seconds": 0})
    session = connect(policy=policy)
    enclave.tee = tee.with_other_code()
    with pytest.raises(AppraisalFailed) as refused:
        session.attest()
    assert refused.value.id == "code.changed"


def test_threads_share_one_attestation(enclave, roots):
    from teeverify.client.network.endpoint import Endpoint
    from teeverify.client.network.fetch_requests import RequestsFetch
    from teeverify.client.network.steps import Blocking
    from teeverify.client.session import AttestedSession
    from teeverify.client.session.core import SessionCore

    runner = Blocking(RequestsFetch(trust_env=False))
    made = SessionCore(
        teeverify.Verifier(roots=roots),
        Endpoint.parse(enclave.url),
        model=None,
        timeout=30,
        lock=runner.new_lock(),
    )
    session = AttestedSession(made, runner)
    with pytest.raises(ConfigurationError):
        _ = session.result
    threads = [threading.Thread(target=session.attest) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(enclave.of("/report")) == 1


def test_the_other_recovery_id_is_refused(connect, enclave):
    """As in a receipt, whose reader may have no public key to begin with."""
    session = connect()
    answer = post(enclave)
    signature = json.loads(enclave.signatures[answer.json()["id"]])
    other = {"1b": "1c", "1c": "1b"}[signature["signature"][-2:]]
    flipped = {**signature, "signature": signature["signature"][:-2] + other}
    with pytest.raises(SignatureInvalid):
        session.verify_response(response=answer, signature=json.dumps(flipped).encode())
