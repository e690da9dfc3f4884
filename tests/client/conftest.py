"""A small enclave on this machine, of the simulator's parts, whose every step a test can spoil."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from teeverify import UnsafeTestRoots
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.tee import SimulatedTee

END = b"data: [DONE]\n\n"


class Tls:
    """A TLS key with a certificate for this machine, of an authority that the client believes."""

    def __init__(self, authority, folder) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        moment = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority[1].subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - timedelta(hours=1))
            .not_valid_after(moment + timedelta(hours=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key()),
                critical=False,
            )
            .sign(authority[0], hashes.SHA256())
        )
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = hashlib.sha256(spki).digest()
        chain = folder / f"{self.fingerprint.hex()[:8]}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain)


@pytest.fixture
def new_tls(tmp_path, monkeypatch):
    """Makes TLS keys with certificates that every client here believes."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of one test")])
    moment = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    authority = tmp_path / "authority.pem"
    authority.write_bytes(certificate.public_bytes(Encoding.PEM))
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(authority))
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    return lambda: Tls((key, certificate), tmp_path)


@pytest.fixture
def tls_dialect(monkeypatch):
    """``near-direct``, which binds the TLS key, with its endorsements in its report."""
    from teeverify.encoding.fields import JsonObject
    from teeverify.providers import DIALECTS
    from teeverify.providers.dstack import read_enclosed, read_flat_report

    def read(exchange):
        report = JsonObject.parse(exchange.body, path="report", id="report")
        peer = exchange.peer_spki_sha256
        names = {"role": "model", "label": "model", "tls": True}
        return (read_flat_report(report, **names, peer_spki_sha256=peer),)

    both = replace(DIALECTS["near-direct"], enclosed=read_enclosed, read=read)
    monkeypatch.setitem(DIALECTS, "near-direct", both)


class StubEnclave:
    """An enclave server, and the dishonest host before it.

    What is set to something else than the default is what the host does wrong.
    """

    def __init__(self, tee: SimulatedTee) -> None:
        self.tee = tee
        self.key = SimulatedKey()  # the attested one
        self.signer: SimulatedKey | None = None  # another one that signs
        self.words = ["Fo", "ur."]
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.signatures: dict[str, bytes] = {}
        self.statuses: list[int] = []  # what the next chat requests get instead of an answer
        self.missing_signatures = 0  # how often the signature is not there yet
        self.change_request: Callable[[bytes], bytes] = lambda body: body
        self.change_answer: Callable[[bytes], bytes] = lambda body: body
        self.change_report: Callable[[bytes], bytes] = lambda body: body
        self.cut: Callable[[bytes], list[bytes]] = lambda body: [body]
        self.headers: dict[str, str] = {}
        self.whole = True  # whether bodies get to their end
        self.pause = 0.0  # seconds before each piece
        self.next_id: str | None = None
        self.raw: Callable[[BaseHTTPRequestHandler, str], bool] = lambda handler, path: False
        self.open: set[socket.socket] = set()
        self.tls: Tls | None = None  # the key and certificate of its https
        self.attested_tls: Tls | None = None  # another one that its evidence names
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def stay_open(self) -> threading.Event:
        """Answer with a stream whose connection stays open after its end, until this is set."""
        ended = threading.Event()

        def raw(handler: BaseHTTPRequestHandler, path: str) -> bool:
            if "/chat/" not in path:
                return False
            body = self.seen[-1][3]
            name, answer, _ = self.answer(body)
            self.sign(name, body, answer)
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(answer), answer))
            handler.wfile.flush()
            ended.wait(5)
            handler.close_connection = True
            return True

        self.raw = raw
        return ended

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        stub = self

        class Handler(_Handler):
            enclave = stub

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        server = Server(("127.0.0.1", self.port), Handler)
        self.port = server.server_address[1]
        if self.tls is not None:
            server.socket = self.tls.context.wrap_socket(server.socket, server_side=True)
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """The process ends and starts again: the code is the same, the key is new."""
        self.key = SimulatedKey()

    def of(self, part: str) -> list[tuple[str, str, dict[str, str], bytes]]:
        """The requests to a route."""
        return [item for item in self.seen if part in item[1]]

    # --- the enclave ------------------------------------------------------------------------

    def report(self, query: dict[str, str]) -> bytes:
        if query.get("include_tls_fingerprint") == "true":
            return json.dumps(self._tls_report(query)).encode()
        value = self.tee.report(
            bytes.fromhex(query["nonce"]),
            key=self.key.key,
            public_key=self.key.public_bytes,
            model=query.get("model", "default"),
        )
        return json.dumps(value).encode()

    def _tls_report(self, query: dict[str, str]) -> dict[str, object]:
        """The same in the layout of NEAR's nodes, which binds the TLS key too."""
        nonce = bytes.fromhex(query["nonce"])
        value = dict(self.tee.report(nonce, key=self.key.key, public_key=self.key.public_bytes))
        shown = self.attested_tls or self.tls
        identifier = self.key.key.identifier
        quote = self.tee.intel.quote(
            report_data=hashlib.sha256(identifier + shown.fingerprint).digest() + nonce,
            rtmrs=self.tee.guest.rtmrs,
            mr_config_id=self.tee.guest.mr_config_id(),
        )
        value["intel_quote"] = quote.hex()
        value["tls_cert_fingerprint"] = shown.fingerprint.hex()
        value["model_name"] = query.get("model", "default")
        return value

    def answer(self, request: bytes) -> tuple[str, bytes, bool]:
        asked = json.loads(request)
        name = self.next_id or f"chatcmpl-{secrets.token_hex(16)}"
        head = {
            "id": name,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked.get("model", "default"),
        }
        count = asked.get("n", 1)
        if not asked.get("stream"):
            choices = [{"index": i, **self._choice(asked)} for i in range(count)]
            return name, json.dumps({**head, "choices": choices}).encode(), False
        head["object"] = "chat.completion.chunk"
        events = [
            {**head, "choices": [{"index": i, "delta": {"content": word}, "finish_reason": None}]}
            for word in self.words
            for i in range(count)
        ]
        return name, b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events) + END, True

    def _choice(self, asked: dict[str, object]) -> dict[str, object]:
        """What the model says: a call of the first tool, JSON, or its words."""
        if asked.get("tools"):
            function = {"name": asked["tools"][0]["function"]["name"], "arguments": "{}"}
            call = {"id": "call-1", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            return {"message": message, "finish_reason": "tool_calls"}
        text = "".join(self.words)
        if asked.get("response_format", {}).get("type") == "json_object":
            text = json.dumps({"answer": text})
        return {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}

    def sign(self, name: str, request: bytes, answer: bytes) -> None:
        key = self.signer or self.key
        text = ":".join(hashlib.sha256(part).hexdigest() for part in (request, answer))
        self.signatures[name] = json.dumps({
            "text": text, "signature": key.sign(text), "signing_address": str(key.key),
            "signing_algo": key.algorithm,
        }).encode()  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    enclave: StubEnclave
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *details: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.enclave.open.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # a client that left
            super().handle()

    def finish(self) -> None:
        self.enclave.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def _note(self, body: bytes = b"") -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.enclave.seen.append((self.command, self.path, headers, body))

    def do_GET(self) -> None:
        self._note()
        stub = self.enclave
        if stub.raw(self, self.path):
            return
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        other = query.get("signing_address", str(stub.key.key)) != str(stub.key.key)
        if parts.path == "/v1/attestation/report" and other:
            self._error(404)  # as the proxies of the field, for a key of another machine
        elif parts.path == "/v1/attestation/report":
            self._json(200, stub.change_report(stub.report(query)))
        elif parts.path.startswith("/v1/signature/"):
            name = parts.path.rpartition("/")[2]
            if stub.missing_signatures > 0 or name not in stub.signatures:
                stub.missing_signatures -= 1
                self._error(404)
            else:
                self._json(200, stub.signatures[name])
        elif parts.path == "/v1/models":
            models = [{"id": "default", "object": "model", "created": 1, "owned_by": "nobody"}]
            self._json(200, json.dumps({"object": "list", "data": models}).encode())
        else:
            self._error(404)

    def do_POST(self) -> None:
        body = self._body()
        self._note(body)
        stub = self.enclave
        if stub.raw(self, self.path):
            return
        if stub.statuses:
            status = stub.statuses.pop(0)
            if status:
                self._error(status)
                return
        read = stub.change_request(body)
        try:
            name, answer, stream = stub.answer(read)
        except (ValueError, AttributeError, TypeError):
            self._error(400)
            return
        stub.sign(name, read, answer)
        sent = stub.change_answer(answer)
        kind = "text/event-stream" if stream else "application/json"
        if not stream:
            self._json(200, sent, stub.headers, whole=stub.whole)
            return
        self.send_response(200)
        for header, value in {"Content-Type": kind, "Transfer-Encoding": "chunked",
                              **stub.headers}.items():  # fmt: skip
            self.send_header(header, value)
        self.end_headers()
        for piece in stub.cut(sent):
            time.sleep(stub.pause)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if stub.whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def _body(self) -> bytes:
        if "content-length" in self.headers:
            return self.rfile.read(int(self.headers["content-length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _error(self, status: int) -> None:
        self._json(status, b'{"error": {"message": "no", "type": "t", "code": null}}')

    def _json(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, whole: bool = True
    ) -> None:
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)),
                  **(headers or {})}  # fmt: skip
        for header, value in fields.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body if whole else body[:-5])
        if not whole:
            self.close_connection = True


class Middle:
    """Somebody between client and servers, who reads and may change every byte, either way.

    Args:
        urls: Base URLs of the servers; one after the other takes the next request.
    """

    def __init__(self, *urls: str) -> None:
        self.ports = [urlsplit(url).port for url in urls]
        self.taken: list[tuple[str, int]] = []  # paths, and which server took them
        self.change_request: Callable[[bytes], bytes] = lambda body: body
        self.change_answer: Callable[[bytes], bytes] = lambda body: body
        self.cut: Callable[[bytes], list[bytes]] = lambda body: [body]
        self.pick: Callable[[str, int], int] = lambda path, count: count % len(self.ports)
        self.before: Callable[[str], int | None] = lambda path: None  # a status, or 0 to hang up
        self.headers: dict[str, str] = {}
        self.whole = True
        self._turn = threading.Lock()
        middle = self

        class Handler(_MiddleHandler):
            owner = middle

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str) -> int:
        with self._turn:
            place = self.pick(path, len(self.taken))
            self.taken.append((path, place))
            return self.ports[place]


class _MiddleHandler(BaseHTTPRequestHandler):
    owner: Middle
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *details: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["content-length"])))

    def _pass_on(self, body: bytes) -> None:
        owner = self.owner
        chat = "/chat/" in self.path
        status = owner.before(self.path)
        if status is not None:
            if status:
                self._send(status, {"Content-Type": "application/json"}, b"{}", [b"{}"])
            self.close_connection = True
            return
        upstream = http.client.HTTPConnection("127.0.0.1", owner.take(self.path), timeout=30)
        try:
            kept = {n: v for n, v in self.headers.items() if n.lower() not in _HOP}
            sent = owner.change_request(body) if chat else body
            upstream.request(self.command, self.path, body=sent or None, headers=kept)
            answer = upstream.getresponse()
            raw = answer.read()
        finally:
            upstream.close()
        headers = {n: v for n, v in answer.getheaders() if n.lower() not in _HOP}
        if chat and answer.status == 200:
            raw = owner.change_answer(raw)
            headers.update(owner.headers)
            self._send(answer.status, headers, raw, owner.cut(raw), whole=owner.whole)
        else:
            self._send(answer.status, headers, raw, [raw])

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        raw: bytes,
        pieces: list[bytes],
        *,
        whole: bool = True,
    ) -> None:
        self.send_response(status)
        streamed = "event-stream" in headers.get("Content-Type", headers.get("content-type", ""))
        framing = {"Transfer-Encoding": "chunked"} if streamed else {"Content-Length": len(raw)}
        for name, value in {**headers, **framing}.items():
            self.send_header(name, str(value))
        self.end_headers()
        for piece in filter(None, pieces):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if streamed else piece)
            self.wfile.flush()
        if streamed and whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.close_connection or not whole


_HOP = ("connection", "transfer-encoding", "content-length", "host", "keep-alive", "date", "server")


@pytest.fixture
def middle():
    """Makes those who stand between, and removes them at the end."""
    made = []

    def make(*urls: str) -> Middle:
        made.append(Middle(*urls))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def tee() -> SimulatedTee:
    return SimulatedTee(gpus=2)


@pytest.fixture(scope="session")
def roots(tee) -> UnsafeTestRoots:
    return UnsafeTestRoots([tee.roots_pem()])


@pytest.fixture(name="stub")
def stub_fixture() -> type[StubEnclave]:
    return StubEnclave


@pytest.fixture
def new_enclave(monkeypatch):
    """Starts enclaves, and stops them at the end. They speak a dialect of the field."""
    monkeypatch.setattr("teeverify.client.network.endpoint.DEFAULT_DIALECT", "dstack")
    started = []

    def start(tee: SimulatedTee) -> StubEnclave:
        stub = StubEnclave(tee)
        stub.start()
        started.append(stub)
        return stub

    yield start
    for stub in started:
        stub.stop()


@pytest.fixture
def enclave(new_enclave, tee):
    return new_enclave(tee)


@pytest.fixture
def other_tee() -> SimulatedTee:
    """Another machine: other roots, and so other everything."""
    return SimulatedTee(gpus=2)


@pytest.fixture
def openai_client(enclave, roots):
    """Makes verifying OpenAI clients of the stub, and closes them."""
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    from teeverify import OpenAI

    made = []

    def make(**options):
        given = {"base_url": enclave.url, "api_key": "sk-canary", "roots": roots, **options}
        made.append(OpenAI(**given))
        return made[-1]

    yield make
    for client in made:
        client.close()


def ask(client, *, stream=False, model="default", text="What is two and two?"):
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], stream=stream
    )


@pytest.fixture(name="ask")
def ask_fixture():
    return ask
