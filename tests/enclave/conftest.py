"""An application with scripted parts, and a client that calls it without a socket."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from teeverify.enclave.app import EnclaveApp
from teeverify.enclave.attestation import Attester
from teeverify.enclave.dialects.flat import FlatDialect
from teeverify.enclave.engines import EngineFailed, Piece
from teeverify.enclave.engines.embedded import Embedded
from teeverify.enclave.keys import SigningKeys
from teeverify.enclave.metrics import Metrics
from teeverify.enclave.signing import Notary
from teeverify.enclave.sqlite_store import SqliteStore


class ScriptedEngine:
    """Says what it was told to say; an exception in the script is raised there."""

    fingerprint = "scripted"
    description = "A script."
    max_tokens = 100

    def __init__(self):
        self.script = ["Hel", "lo", "!"]
        self.pause = 0.0
        self.ends = True
        self.asked = []
        self.closed_early = 0

    def count(self, messages):
        return sum(len(message.text) for message in messages)

    async def generate(self, messages, sampling):
        self.asked.append((messages, sampling))
        finished = False
        try:
            for number, part in enumerate(self.script, 1):
                await asyncio.sleep(self.pause)
                if isinstance(part, Exception):
                    raise part
                finished = number == len(self.script)
                yield Piece(part, 1, "stop" if finished and self.ends else None)
        finally:
            self.closed_early += not finished

    def close(self):
        pass


@dataclass
class ScriptedQuote:
    quote: bytes
    event_log: list = field(default_factory=lambda: [{"imr": 0}])
    info: dict = field(default_factory=lambda: {"app_name": "scripted"})
    vm_config: str = "{}"


@dataclass
class ScriptedDevice:
    evidence: str
    certificate: str = "Y2VydA=="
    arch: str = "HOPPER"
    kind: int = 1


class ScriptedTee:
    """Gives evidence that is what it was asked for; notes how much is gathered at once, and how."""

    platform = "tdx"

    def __init__(self):
        self.pause = 0.0
        self.error = None
        self.most_at_once = 0
        self.asked = 0
        self.threads = set()
        self._now = 0
        self._lock = threading.Lock()

    def devices(self, nonce):
        with self._lock:
            self._now += 1
            self.asked += 1
            self.most_at_once = max(self.most_at_once, self._now)
        self.threads.add(threading.current_thread())
        time.sleep(self.pause)
        with self._lock:
            self._now -= 1
        if self.error is not None:
            raise self.error
        return [ScriptedDevice(nonce.hex())]

    def quote(self, report_data):
        return ScriptedQuote(report_data)

    def endorsements(self):
        return None


@dataclass
class Reply:
    """What the application sent."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self):
        return b"".join(self.parts)

    def json(self):
        return json.loads(self.body)


class Client:
    """Calls an ASGI application."""

    def __init__(self, app):
        self.app = app

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | list[bytes] = b"",
        *,
        headers: dict[bytes, bytes] | None = None,
        leave: Callable[[Reply], bool] | None = None,
        on_part: Callable[[bytes], object] | None = None,
        silent: bool = False,
    ) -> Reply:
        """Send one request.

        Args:
            method: Method.
            path: Path and query.
            body: The body, in parts where it is a list.
            headers: Its headers.
            leave: The client leaves once this is true of what it got.
            on_part: Awaited for each part of the answer.
            silent: The body never ends.
        """
        reply = Reply()
        parts = list(body) if isinstance(body, list) else [body]
        route, _, query = path.partition("?")

        async def receive():
            if silent and not parts:
                await asyncio.Event().wait()
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts) or silent}
            while not (reply.complete or (leave is not None and leave(reply))):  # noqa: ASYNC110
                await asyncio.sleep(0.0005)
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                assert not reply.status, "two answers to one request"
                reply.status = message["status"]
                reply.headers = dict(message["headers"])
            else:
                assert not reply.complete, "more after the end"
                reply.parts.append(message.get("body", b""))
                reply.complete = not message.get("more_body", False)
                if on_part is not None:
                    await on_part(message.get("body", b""))

        scope = {
            "type": "http",
            "method": method,
            "path": route,
            "query_string": query.encode(),
            "headers": list((headers or {}).items()),
        }
        await self.app(scope, receive, send)
        return reply

    async def chat(self, body=None, **arguments):
        """Ask; ``body`` are the bytes, or members to change."""
        raw = body if isinstance(body, (bytes, list)) else chat_body(**(body or {}))
        return await self.request("POST", "/v1/chat/completions", raw, **arguments)

    async def signature(self, answer_id, algorithm="ecdsa"):
        return await self.request("GET", f"/v1/signature/{answer_id}?signing_algo={algorithm}")


def chat_body(**members):
    request = {"model": "default", "messages": [{"role": "user", "content": "Say hello."}]}
    return json.dumps(request | members).encode()


def answer_id(body: bytes) -> str:
    """The id in an answer, plain or streamed."""
    first = body.removeprefix(b"data: ").partition(b"\n\n")[0]
    return json.loads(first)["id"]


@dataclass
class World:
    """One application and its parts."""

    engine: ScriptedEngine
    tee: ScriptedTee
    dialect: FlatDialect
    store: SqliteStore
    metrics: Metrics
    app: EnclaveApp

    @property
    def keys(self) -> SigningKeys:
        return self.dialect.keys

    @property
    def client(self):
        return Client(self.app)

    body = staticmethod(chat_body)
    answer_id = staticmethod(answer_id)
    engine_failed = EngineFailed


@pytest.fixture
def store(tmp_path):
    opened = SqliteStore(tmp_path / "signatures.db")
    yield opened
    opened.close()


@pytest.fixture
def make_world(store):
    """Makes worlds; of several dialects, with other backends, with API keys."""
    attesters = []

    def make(*, dialects=("dstack",), backend=None, rate=1000, **options):
        engine, tee, metrics = ScriptedEngine(), ScriptedTee(), Metrics()
        spoken = [
            FlatDialect(one, model="default") if isinstance(one, str) else one for one in dialects
        ]
        attesters.append(Attester(tee, metrics, most_waiting=4, rate=rate))
        app = EnclaveApp(
            backend=backend or Embedded(engine, model="default"),
            dialects=spoken,
            attester=attesters[-1],
            notary=Notary(spoken, store, metrics),
            metrics=metrics,
            **options,
        )
        return World(engine, tee, spoken[0], store, metrics, app)

    yield make
    for attester in attesters:
        attester.close()


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture
def log(caplog):
    """The server's log, from everything on."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture(scope="session")
def serve():
    """Starts real servers: arguments of :func:`teeverify.testing.server.running`.

    Where no dialect is named they speak one of the field, whose answers any client can check.
    """
    for package in ("numpy", "uvicorn"):
        pytest.importorskip(package, reason="the extra 'server' is not installed")
    from teeverify.testing.server import running

    def serve(*, arguments=(), **options):
        named = arguments if "--dialect" in arguments else ("--dialect", "dstack", *arguments)
        return running(arguments=named, **options)

    return serve


@pytest.fixture(scope="session")
def server(serve):
    """A real server in a process of its own."""
    with serve(gpus=2) as started:
        yield started


@pytest.fixture(scope="session")
def own_server(serve):
    """The same, which speaks what is spoken unless told."""
    with serve(gpus=1, arguments=("--dialect", "teeverify/1")) as started:
        yield started
