"""The client against a server of teeverify/1, with somebody dishonest between them."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from teeverify import Verifier
from teeverify.appraisal.observation import Outcome
from teeverify.binding.teeverify1 import challenge_of
from teeverify.client.receipts import Receipt
from teeverify.errors import ConfigurationError, ResponseNotVerified, TeeVerifyError
from teeverify.testing.server import running

from .conftest import CHAT, question

pytestmark = pytest.mark.network
openai = pytest.importorskip("openai")
MESSAGES = [{"role": "user", "content": "Hi"}]
BEACON = "be" * 32


@dataclass
class Passed:
    """One answer on its way."""

    status: int
    headers: dict
    body: bytes


@dataclass
class Between:
    """What sits between client and enclave, and may change what passes."""

    enclave: str
    change: object = None
    requests: list = field(default_factory=list)

    def serve(self, handler, method):
        size = int(handler.headers.get("content-length", 0))
        body = handler.rfile.read(size)
        self.requests.append((method, handler.path, dict(handler.headers), body))
        passed = self.ask(method, handler.path, body, dict(handler.headers))
        if self.change is not None:
            passed = self.change(self, method, handler.path, body, passed) or passed
        handler.send_response(passed.status)
        for name, value in passed.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(passed.body)))
        handler.end_headers()
        handler.wfile.write(passed.body)

    def ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection(urlsplit(self.enclave).netloc, timeout=30)
        kept = {n: v for n, v in headers.items() if n.lower() not in ("host", "content-length")}
        connection.request(method, path, body or None, kept)
        answer = connection.getresponse()
        passed = Passed(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        for name in ("transfer-encoding", "content-length", "date", "server"):
            for spelt in list(passed.headers):
                if spelt.lower() == name:
                    del passed.headers[spelt]
        return passed


@pytest.fixture(scope="module")
def enclave():
    arguments = ("--dialect", "dstack", "--dialect", "teeverify/1")
    with running(gpus=1, arguments=arguments) as server:
        yield server


@pytest.fixture
def between(enclave):
    made = Between(enclave.url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            made.serve(self, "GET")

        def do_POST(self):
            made.serve(self, "POST")

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


OPEN = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPEN:
        OPEN.pop().close()


def enclave_client(enclave, url, **arguments):
    from teeverify import OpenAI

    given = {"api_key": "x", "roots": enclave.roots, "policy": "genuine", "max_retries": 0}
    OPEN.append(OpenAI(base_url=url, **{"dialect": "teeverify/1", **given, **arguments}))
    return OPEN[-1]


def ask(client, *, stream=False, **arguments):
    reply = client.chat.completions.create(
        model="default", messages=MESSAGES, max_tokens=6, stream=stream, **arguments
    )
    if not stream:
        return reply.choices[0].message.content
    return "".join(c.choices[0].delta.content or "" for c in reply if c.choices)


@pytest.mark.parametrize("stream", [False, True])
def test_answers_are_verified(enclave, between, stream):
    client = enclave_client(enclave, between.url)
    assert ask(client, stream=stream)
    found = {f.id: f.outcome for f in client.receipts.last.result.findings}
    for name in ("answer.fresh", "http.semantics", "request.bound", "answer.complete"):
        assert found[name] is Outcome.PROVEN
    assert found["gpu.binding"] is Outcome.PROVEN
    assert b": teeverify/1" not in client.receipts.last.parts.response.raw


def test_held_back_streams_too(enclave, between):
    client = enclave_client(enclave, between.url, hold_until_verified=True)
    assert ask(client, stream=True)


def test_each_attempt_has_a_challenge_of_its_own(enclave, between):
    client = enclave_client(enclave, between.url)
    for _ in range(3):
        ask(client)
    sent = [
        {name.lower(): value for name, value in headers.items()}["teeverify-challenge"]
        for method, _, headers, _ in between.requests
        if method == "POST"
    ]
    assert len(set(sent)) == 3


# --- somebody dishonest --------------------------------------------------------------------------


def refused(client, *, stream=False, **arguments):
    with pytest.raises(TeeVerifyError) as caught:
        ask(client, stream=stream, **arguments)
    return caught.value.id


def on_chat(change):
    def changed(between, method, path, body, passed):
        return change(between, body, passed) if path == CHAT else None

    return changed


def test_an_old_answer_to_the_same_request(enclave, between):
    client = enclave_client(enclave, between.url)
    kept = []
    between.change = on_chat(lambda b, body, passed: kept.append(passed))
    ask(client)
    between.change = on_chat(lambda b, body, passed: kept[0])
    assert refused(client) == "answer.fresh"


def test_an_old_stream(enclave, between):
    client = enclave_client(enclave, between.url)
    kept = []
    between.change = on_chat(lambda b, body, passed: kept.append(passed))
    ask(client, stream=True)
    between.change = on_chat(lambda b, body, passed: kept[0])
    assert refused(client, stream=True) == "answer.fresh"


def test_an_error_shown_as_an_answer(enclave, between):
    """The request is refused by the enclave, and its signed error shown with status 200."""

    def change(b, body, passed):
        challenge = b.requests[-1][2]
        headers = {
            k: v for k, v in challenge.items() if k.lower().startswith(("teev", "content-t"))
        }
        error = b.ask("POST", CHAT, body[:-1], headers)
        assert error.status == 400
        return Passed(200, error.headers, error.body)

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) in ("http.semantics", "request.bound")


def test_an_answer_to_another_question(enclave, between):
    def change(b, body, passed):
        headers = b.requests[-1][2]
        return b.ask("POST", CHAT, body.replace(b"Hi", b"Ho"), headers)

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) == "request.bound"


def test_another_route(enclave, between):
    """The enclave answers on a target of another spelling."""

    def change(b, body, passed):
        return b.ask("POST", CHAT + "?x=1", body, b.requests[-1][2])

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) == "http.semantics"


def test_another_content_type(enclave, between):
    def change(b, body, passed):
        return Passed(200, {**passed.headers, "content-type": "application/json; x=1"}, passed.body)

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) == "http.semantics"


@pytest.mark.parametrize(
    "move",
    [
        lambda body: body.replace(b"data:", b"data: ", 1),
        lambda body: body.replace(b"\n: teeverify/1", b"\n\n: teeverify/1"),
        lambda body: body.replace(b"data: [DONE]\n\n", b"data: [DONE]\n"),
        lambda body: body + b"\n",
        lambda body: body + b"data: {}\n\n",
        lambda body: body + body[body.rindex(b": teeverify/1") :],
        lambda body: body[: body.rindex(b": teeverify/1")],
        lambda body: body[:-1],
    ],
)
@pytest.mark.parametrize("hold", [False, True])
def test_moved_boundaries_of_a_stream(enclave, between, move, hold):
    def change(b, body, passed):
        return Passed(200, passed.headers, move(passed.body))

    between.change = on_chat(change)
    client = enclave_client(enclave, between.url, hold_until_verified=hold)
    found = refused(client, stream=True)
    assert found in ("answer.signature", "answer.complete", "response.hash-equal")
    assert len(client.receipts) == 0


def test_one_byte_of_a_plain_answer(enclave, between):
    def change(b, body, passed):
        return Passed(200, passed.headers, passed.body.replace(b'"object"', b'"0bject"'))

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) == "response.hash-equal"


def test_the_statement_of_another_answer(enclave, between):
    def change(b, body, passed):
        other = b.ask("POST", CHAT, body, b.requests[-1][2])
        return Passed(200, {**other.headers}, passed.body)

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) == "response.hash-equal"


def test_a_signature_of_a_foreign_dialect(enclave, between):
    """Statement and headers are taken away; a flat signature is served in their place."""

    def change(b, method, path, body, passed):
        if path == CHAT:
            flat = b.ask("POST", CHAT, body, {"content-type": "application/json"})
            b.flat = json.loads(flat.body)["id"]
            return Passed(200, {**flat.headers, "teeverify-id": "tv1-" + "0" * 32}, flat.body)
        if path.startswith("/v1/signature/"):
            return b.ask("GET", f"/v1/signature/{b.flat}?dialect=dstack", b"", {})
        return None

    between.change = change
    assert refused(enclave_client(enclave, between.url)) == "answer.signature"


def test_headers_that_are_lost_are_asked_for(enclave, between):
    def change(b, body, passed):
        kept = {n: v for n, v in passed.headers.items() if "statement" not in n.lower()}
        return Passed(200, kept, passed.body)

    between.change = on_chat(change)
    client = enclave_client(enclave, between.url)
    assert ask(client)
    assert any(path.startswith("/v1/signature/tv1-") for _, path, _, _ in between.requests)


def test_without_its_challenge_nothing_is_signed_for_us(enclave, between):
    """Whoever takes the challenge away gets a flat signature, which counts for nothing here."""

    def change(b, body, passed):
        return b.ask("POST", CHAT, body, {"content-type": "application/json"})

    between.change = on_chat(change)
    assert refused(enclave_client(enclave, between.url)) == "answer.signature"


def test_a_report_of_a_flat_dialect_is_no_report(enclave, between):
    def change(b, method, path, body, passed):
        if "/attestation/report" not in path:
            return None
        return b.ask("GET", path.replace("teeverify%2F1", "dstack"), b"", {})

    between.change = change
    assert refused(enclave_client(enclave, between.url)) == "report"


def test_errors_are_the_sdks(enclave, between):
    client = enclave_client(enclave, between.url)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=-1)


# --- a request of one's own -----------------------------------------------------------------------


def post(url, challenge, body):
    import requests

    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    return requests.post(
        f"{url}/chat/completions", body, headers={**headers, **challenge.headers}, timeout=30
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_verifies_what_was_asked_otherwise(enclave, stream):
    session = Verifier(roots=enclave.roots).connect(enclave.url, dialect="teeverify/1")
    challenge = session.challenge()
    body = question(stream=stream)
    response = post(enclave.url, challenge, body)
    receipt = session.verify_response(response=response, challenge=challenge)
    assert receipt.result.finding("answer.fresh").outcome is Outcome.PROVEN
    assert receipt.result.finding("http.semantics").outcome is Outcome.PROVEN
    with pytest.raises(TeeVerifyError) as caught:
        session.verify_response(response=response, challenge=session.challenge())
    assert caught.value.id == "answer.fresh"
    with pytest.raises(TeeVerifyError) as caught:
        session.verify_response(response=response, challenge=challenge)
    assert caught.value.id == "answer.replayed"
    raw = post(enclave.url, challenge, body)
    name = raw.headers["teeverify-id"]
    alone = session.verify_response(response=raw.content, request=body, id=name)
    assert alone.result.finding("answer.fresh").outcome is Outcome.ABSENT


def test_sessions_of_other_dialects_have_no_challenge(enclave):
    with pytest.raises(ConfigurationError):
        Verifier(roots=enclave.roots).connect(enclave.url, dialect="dstack").challenge()


# --- receipts ------------------------------------------------------------------------------------


@pytest.fixture
def receipt(enclave, between):
    client = enclave_client(enclave, between.url)
    ask(client, stream=True, extra_headers={"Teeverify-Beacon": BEACON})
    return client.receipts.last


def test_receipts_verify_offline(enclave, receipt):
    loaded = Receipt.load(receipt.to_bytes(include="bytes"))
    result = loaded.verify(roots=enclave.roots)
    found = {f.id: f for f in result.findings}
    for name in ("answer.signature", "http.semantics", "request.bound", "answer.complete"):
        assert found[name].outcome is Outcome.PROVEN
    assert found["answer.fresh"].outcome is Outcome.ASSERTED
    assert BEACON in found["answer.fresh"].by
    assert loaded.signer == receipt.result.signer
    hashes = Receipt.load(receipt.to_bytes())
    answer, request = receipt.parts.response.raw, receipt.parts.request.raw
    hashes.verify(roots=enclave.roots, answer=answer, request=request)
    with pytest.raises(TeeVerifyError):
        hashes.verify(roots=enclave.roots, answer=answer + b"\n", request=request)


@pytest.mark.parametrize(
    ("name", "value"), [("status", 201), ("target", "/v1/completions"), ("challenge", "00" * 32)]
)
def test_receipts_that_say_something_else(enclave, receipt, name, value):
    from dataclasses import replace

    parts = receipt.parts
    if name == "challenge":
        parts = replace(parts, challenge=replace(parts.challenge, challenge=bytes(32)))
    else:
        parts = replace(parts, http=replace(parts.http, **{name: value}))
    with pytest.raises(TeeVerifyError) as caught:
        Receipt.load(Receipt(parts).to_bytes(include="bytes")).verify(roots=enclave.roots)
    assert caught.value.id in ("http.semantics", "answer.fresh")


def test_what_a_contract_needs(receipt):
    evm = receipt.evm()
    assert repr(evm) == f"<EvmAnswer: digest {evm.digest.hex()}, quote of {len(evm.quote)} bytes>"
    beacon = bytes.fromhex(BEACON)
    assert evm.beacon == beacon
    challenge = challenge_of(evm.challenge_random, evm.attestation_sha256, beacon)
    assert evm.answer[2] == challenge
    assert (len(evm.binding), len(evm.signature)) == (262, 65)


def test_no_beacon_for_dialects_that_show_none(enclave):
    flat = enclave_client(enclave, enclave.url, dialect="dstack")
    with pytest.raises(ConfigurationError):
        ask(flat, extra_headers={"Teeverify-Beacon": BEACON})
    with pytest.raises(ConfigurationError):
        ask(enclave_client(enclave, enclave.url), extra_headers={"Teeverify-Beacon": "x"})


def test_sequence_numbers_count_once(enclave):
    replays = Verifier(roots=enclave.roots).replays
    replays.one_statement(b"i" * 32, 1, b"a")
    replays.one_statement(b"i" * 32, 1, b"a")
    replays.one_statement(b"i" * 32, 2, b"b")
    with pytest.raises(ResponseNotVerified):
        replays.one_statement(b"i" * 32, 2, b"a")
