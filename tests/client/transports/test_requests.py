"""``teeverify.RequestsAdapter``: what ``requests`` returns was verified, and what is not raises."""

from __future__ import annotations

import gzip
import io
import json

import pytest
import requests

from teeverify import (
    ConfigurationError,
    EndpointUnavailable,
    EvidenceError,
    RequestsAdapter,
    ResponseNotVerified,
)
from teeverify.client.transports import requests as module
from teeverify.simulator.keys import SimulatedKey

pytestmark = pytest.mark.network
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is two and two?"}]}


@pytest.fixture
def mounted(enclave, roots):
    """Makes sessions whose answers are verified, and closes them."""
    made = []

    def mount(**wishes):
        session = requests.Session()
        session.trust_env = False
        session.adapter = RequestsAdapter(enclave.url, **{"roots": roots, **wishes})
        for scheme in ("http://", "https://"):
            session.mount(scheme, session.adapter)
        session.ask = lambda **options: session.post(
            f"{enclave.url}/chat/completions",
            json={**ASK, "stream": options.get("stream", False)},
            headers={"Authorization": "Bearer sk-canary"},
            timeout=10,
            **options,
        )
        made.append(session)
        return session

    yield mount
    for session in made:
        session.close()


def change(body):
    return body.replace(b"ur.", b"rk.")


def test_plain(mounted, enclave):
    session = mounted()
    answer = session.ask()
    assert answer.json()["choices"][0]["message"]["content"] == "Four."
    receipt = session.adapter.receipts[answer.json()["id"]]
    assert receipt.parts.response.raw == answer.content
    assert receipt.parts.request.raw == enclave.of("/chat/")[0][3]
    assert enclave.of("/chat/")[0][2]["accept-encoding"] == "identity"


def test_streamed(mounted):
    session = mounted()
    lines = [line for line in session.ask(stream=True).iter_lines() if line]
    assert lines[-1] == b"data: [DONE]"
    assert len(lines) == 3
    assert len(session.adapter.receipts) == 1


def test_text_flows_before_the_verdict(mounted, enclave):
    enclave.cut = lambda body: body.splitlines(keepends=True)
    enclave.pause = 0.05
    session = mounted()
    lines = session.ask(stream=True).iter_lines()
    assert b"Fo" in next(lines)
    assert enclave.of("/signature/") == []
    list(lines)
    assert len(session.adapter.receipts) == 1


def test_streams_that_are_held_back(mounted, enclave):
    session = mounted(hold_until_verified=True)
    answer = session.ask(stream=True)
    assert len(session.adapter.receipts) == 1
    assert answer.content.endswith(b"[DONE]\n\n")
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        session.ask(stream=True)


def test_a_stream_read_to_its_last_event_and_closed(mounted, enclave):
    """As programs do that stop at [DONE]."""
    session = mounted()
    for changed in (False, True):
        if changed:
            enclave.change_answer = change
        answer = session.ask(stream=True)
        lines = answer.iter_lines(chunk_size=1)
        while next(lines) != b"data: [DONE]":
            pass
        if changed:
            with pytest.raises(ResponseNotVerified):
                answer.close()
        else:
            answer.close()
    assert len(session.adapter.receipts) == 1


def test_a_stream_that_is_left_early(mounted, enclave):
    enclave.change_answer = change
    session = mounted()
    with session.ask(stream=True) as answer:
        next(answer.iter_lines())
    assert len(session.adapter.receipts) == 0
    assert enclave.of("/signature/") == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_changed_answer(mounted, enclave, stream):
    enclave.change_answer = change
    session = mounted()
    with pytest.raises(ResponseNotVerified):
        list(session.ask(stream=stream).iter_lines())
    assert len(session.adapter.receipts) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key(mounted, enclave, stream):
    enclave.signer = SimulatedKey()
    session = mounted()
    with pytest.raises(ResponseNotVerified) as refused:
        list(session.ask(stream=stream).iter_lines())
    assert refused.value.id == "key.attested"


@pytest.mark.parametrize("stream", [False, True])
def test_a_compressed_answer(mounted, enclave, stream):
    enclave.change_answer = gzip.compress
    enclave.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(ResponseNotVerified) as refused:
        mounted().ask(stream=stream)
    assert refused.value.id == "answer.encoding"


def test_a_stream_that_breaks_off(mounted, enclave):
    enclave.whole = False
    enclave.change_answer = lambda body: body[:100]
    with pytest.raises(ResponseNotVerified) as refused:
        list(mounted().ask(stream=True).iter_lines())
    assert refused.value.id == "answer.complete"


def test_a_connection_that_stays_open(mounted, enclave, monkeypatch):
    monkeypatch.setattr(module, "MAX_DRAIN_SECONDS", 0.2)
    ended = enclave.stay_open()
    session = mounted()
    answer = session.ask(stream=True)
    lines = answer.iter_lines(chunk_size=1)
    while next(lines) != b"data: [DONE]":
        pass
    answer.close()
    assert len(session.adapter.receipts) == 1
    ended.set()


def test_nothing_leaves_before_the_policy_is_satisfied(mounted, enclave):
    with pytest.raises(EvidenceError):
        mounted(roots=None).ask()
    assert {path.partition("?")[0] for _, path, _, _ in enclave.seen} == {"/v1/attestation/report"}
    assert "canary" not in repr(enclave.seen)


def test_what_nobody_signs_and_other_hosts(mounted, enclave):
    session = mounted()
    for url in (f"{enclave.url}/embeddings", "http://127.0.0.1:1/v1/chat/completions"):
        with pytest.raises(ConfigurationError):
            session.post(url, json=ASK, timeout=10)
    assert enclave.seen == []


def test_the_list_of_models(mounted, enclave):
    session = mounted()
    models = session.get(f"{enclave.url}/models", timeout=10)
    assert models.json()["data"][0]["id"] == "default"
    assert len(session.adapter.receipts) == 0


def test_errors_are_the_endpoints_own(mounted, enclave):
    enclave.statuses = [400]
    assert mounted().ask().status_code == 400


def test_redirects_are_not_followed(mounted, enclave):
    def raw(handler, path):
        if "/chat/" not in path:
            return False
        handler._json(307, b"", {"Location": "http://127.0.0.1:1/v1/chat/completions"})
        return True

    enclave.raw = raw
    with pytest.raises(EndpointUnavailable) as refused:
        mounted().ask(allow_redirects=True)
    assert refused.value.id == "endpoint.redirect"


@pytest.mark.parametrize(
    "body",
    [
        lambda: json.dumps(ASK),
        lambda: json.dumps(ASK).encode(),
        lambda: io.BytesIO(json.dumps(ASK).encode()),
        lambda: iter([json.dumps(ASK).encode()[:9], json.dumps(ASK).encode()[9:]]),
    ],
    ids=["text", "bytes", "file", "pieces"],
)
def test_every_form_of_a_body(mounted, enclave, body):
    session = mounted()
    answer = session.post(f"{enclave.url}/chat/completions", data=body(), timeout=10)
    receipt = session.adapter.receipts[answer.json()["id"]]
    assert receipt.parts.request.raw == json.dumps(ASK).encode()


def test_random_values_in_requests(mounted, enclave):
    session = mounted(salt_requests=True)
    for _ in range(2):
        session.ask()
    sent = [body for _, _, _, body in enclave.of("/chat/")]
    assert len(set(sent)) == 2
    assert {body.rstrip() for body in sent} == {sent[0].rstrip()}
    assert len(sent[0]) - len(sent[0].rstrip()) == 128
    found = session.adapter.receipts.last.result.finding("answer.fresh")
    assert found.outcome.value == "asserted"
