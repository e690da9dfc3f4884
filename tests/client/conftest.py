"""A small enclave on this machine, of the simulator's parts, whose every step a test can spoil."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from teeverify import UnsafeTestRoots
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.tee import SimulatedTee

END = b"data: [DONE]\n\n"


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
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        stub = self

        class Handler(_Handler):
            enclave = stub

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        server = Server(("127.0.0.1", self.port), Handler)
        self.port = server.server_address[1]
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
        value = self.tee.report(
            bytes.fromhex(query["nonce"]),
            key=self.key.key,
            public_key=self.key.public_bytes,
            model=query.get("model", "default"),
        )
        return json.dumps(value).encode()

    def answer(self, request: bytes) -> tuple[str, bytes, bool]:
        asked = json.loads(request)
        name = self.next_id or f"chatcmpl-{secrets.token_hex(16)}"
        head = {
            "id": name,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked.get("model", "default"),
        }
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(self.words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return name, json.dumps({**head, "choices": [choice]}).encode(), False
        head["object"] = "chat.completion.chunk"
        events = [
            {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
            for word in self.words
        ]
        return name, b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events) + END, True

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
        if parts.path == "/v1/attestation/report":
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
        name, answer, stream = stub.answer(read)
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


@pytest.fixture(scope="session")
def tee() -> SimulatedTee:
    return SimulatedTee(gpus=2)


@pytest.fixture(scope="session")
def roots(tee) -> UnsafeTestRoots:
    return UnsafeTestRoots([tee.roots_pem()])


@pytest.fixture
def new_enclave():
    """Starts enclaves, and stops them at the end."""
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
