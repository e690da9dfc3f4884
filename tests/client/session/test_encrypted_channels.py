"""EHBP end to end: bodies sealed to the attested HPKE key, and notes in place of receipts."""

from __future__ import annotations

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import teeverify
from teeverify import ConfigurationError, Receipt, ResponseNotVerified, tdx
from teeverify.appraisal import Policy
from teeverify.clock import now
from teeverify.simulator.authority import Authority
from teeverify.simulator.channels import Channels
from teeverify.simulator.sealing import FrameSealing, KeyRefused

pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
GPU_NOTE = {"gpu.measurements": "note", "gpu.revocation": "note"}
QUESTION, WORDS = "What is two and two?", ("Fo", "ur.")
CA = Authority.root("Simulated Web CA")


@pytest.fixture(scope="module")
def channels():
    made = Channels(at=now(), gpus=1)
    made.tls = CA.issue(
        "localhost", key=made.tls.key, extensions=[made.alternative_names(["localhost"])]
    )
    return made


class Machine:
    """A machine with an HPKE key in its evidence; what is set otherwise, its host does wrong."""

    def __init__(self, channels, folder) -> None:
        self.channels = channels
        self.sealing = FrameSealing()
        channels.hpke_key = self.sealing.public
        self.sent: list[bytes] = []
        self.asked: list[bytes] = []
        self.change_headers = lambda headers: headers
        self.change_answer = lambda answer: answer
        machine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                nonce = parse_qs(urlsplit(self.path).query)["nonce"][0]
                channels.nonce = bytes.fromhex(nonce)
                machine.reply(self, 200, "application/json", channels.tinfoil().body, {})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                machine.chat(self, body)

            def log_message(self, *arguments):
                pass

        key = channels.tls.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "chain.pem").write_bytes(channels.tls.pem + key)
        (folder / "ca.pem").write_bytes(CA.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "chain.pem")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://localhost:{self.server.server_port}/v1"

    def chat(self, handler, body) -> None:
        self.sent.append(body)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        try:
            opened = self.sealing.open(self.change_headers(headers), body)
        except KeyRefused:
            self.reply(handler, 422, "application/problem+json", b"{}", {})
            return
        if opened is None:
            self.reply(handler, 200, "application/json", self.answer(stream=False), {})
            return
        self.asked.append(opened.body)
        stream = json.loads(opened.body).get("stream", False)
        sealed = self.change_answer(opened.seal(self.answer(stream=stream), stream))
        kind = "text/event-stream" if stream else "application/json"
        self.reply(handler, 200, kind, sealed, opened.headers)

    def answer(self, *, stream) -> bytes:
        head = {"id": f"chatcmpl-{len(self.sent)}", "created": int(time.time()), "model": "m"}
        if not stream:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return json.dumps({**head, "object": "chat.completion", "choices": choices}).encode()
        chunks = [{**head, "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": {"content": word}}]} for word in WORDS]  # fmt: skip
        return b"".join(b"data: %s\n\n" % json.dumps(c).encode() for c in chunks) + (
            b"data: [DONE]\n\n"
        )

    def reply(self, handler, status, kind, body, headers) -> None:
        handler.send_response(status)
        sizes = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        for name, value in sizes.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def machine(channels, tmp_path, monkeypatch):
    made = Machine(channels, tmp_path)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client(machine, channels):
    made = []

    def make(**options):
        given = {
            "base_url": machine.url,
            "api_key": "k",
            "dialect": "tinfoil",
            "roots": channels.roots(),
            "policy": Policy.genuine().replace(require=GPU_NOTE),
            "endorsements": [tdx.Endorsements.load(json.dumps(channels.intel.collateral()))],
            "encrypt": True,
            **options,
        }
        made.append(teeverify.OpenAI(**given))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask(client, *, stream=False, **more):
    messages = [{"role": "user", "content": QUESTION}]
    return client.chat.completions.create(model="m", messages=messages, stream=stream, **more)


def test_a_plain_answer(machine, client):
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert ask(client(), tools=tools).choices[0].message.content == "Four."
    assert QUESTION.encode() not in machine.sent[0]
    assert QUESTION.encode() in machine.asked[0]


@pytest.mark.parametrize("held", [False, True])
def test_a_streamed_answer(machine, client, held):
    one = client(hold_until_verified=held)
    words = [c.choices[0].delta.content for c in ask(one, stream=True)]
    assert tuple(words) == WORDS
    assert len(one.receipts) == 1


def test_both_ways_are_confidential_and_nothing_is_signed(machine, client):
    one = client()
    ask(one)
    result = one.receipts.last.result
    for row in ("confidential.request", "confidential.answer", "endpoint.bound"):
        assert result.finding(row).outcome.value == "proven"
    assert result.scope == "endpoint"  # decryption is no origin
    assert result.claims["answer"].outcome.value == "absent"
    assert result.finding("answer.unsigned").outcome.value == "absent"


def test_a_note_never_verifies_the_answer(machine, client, channels, tmp_path):
    one = client()
    ask(one)
    note = one.receipts.last
    assert note.parts.signature is None
    note.save(tmp_path / "note.json", include="bytes")
    loaded = Receipt.load(tmp_path / "note.json")
    with pytest.raises(Exception, match="only the one who was there knows") as caught:
        loaded.verify(roots=channels.roots(), policy=Policy.genuine().replace(require=GPU_NOTE))
    result = caught.value.result
    assert result.exit_code == 1
    # The attestation in it is verified anew.
    assert result.finding("binding.report-data").outcome.value == "proven"
    assert result.finding("tdx.quote-signature").outcome.value == "proven"


def test_a_plain_answer_is_refused(machine, client):
    machine.change_headers = lambda headers: {
        n: v for n, v in headers.items() if not n.startswith("ehbp")
    }
    one = client()
    with pytest.raises(ResponseNotVerified) as caught:
        ask(one)
    assert caught.value.id == "e2ee.plaintext"
    assert len(one.receipts) == 0


def test_another_asker_cannot_put_his_key_in(machine, client):
    """The key follows from the request: with another one in the header nothing opens."""
    other = FrameSealing().public.hex()
    machine.change_headers = lambda headers: {**headers, "ehbp-encapsulated-key": other}
    with pytest.raises(Exception, match="422"):
        ask(client())
    assert machine.asked == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_changed_answer(machine, client, stream):
    machine.change_answer = lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])
    with pytest.raises(ResponseNotVerified) as caught:
        list(ask(client(), stream=True)) if stream else ask(client())
    assert caught.value.id == "e2ee.open"


def test_an_answer_that_was_cut_between_frames(machine, client):
    """The frames say nothing of their end: the stream's own last event does."""

    def cut(raw):
        size = int.from_bytes(raw[:4], "big")
        return raw[: 4 + size]

    machine.change_answer = cut
    with pytest.raises(ResponseNotVerified) as caught:
        list(ask(client(hold_until_verified=True), stream=True))
    assert caught.value.id == "answer.complete"


def test_a_new_key_is_attested_and_asked_once_more(machine, client, channels):
    one = client()
    ask(one)
    machine.sealing = FrameSealing()
    channels.hpke_key = machine.sealing.public
    assert ask(one).choices[0].message.content == "Four."
    assert len(machine.sent) == 3


def test_without_encryption_nothing_is_sent(machine, client):
    with pytest.raises(ConfigurationError) as caught:
        ask(client(encrypt=False))
    assert caught.value.id == "usage.route"
    assert machine.sent == []


def test_strict_refuses_answers_without_signatures(client):
    with pytest.raises(ConfigurationError) as caught:
        client(policy="strict")
    assert caught.value.id == "usage.e2ee"
