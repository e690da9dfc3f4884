"""A server of teeverify/1 in this process, with a simulated machine under it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from teeverify.enclave.app import EnclaveApp
from teeverify.enclave.attestation import Attester
from teeverify.enclave.dialects.flat import FlatDialect
from teeverify.enclave.dialects.teeverify import TeeverifyDialect
from teeverify.enclave.engines.embedded import Embedded
from teeverify.enclave.metrics import Metrics
from teeverify.enclave.signing import Notary
from teeverify.enclave.sqlite_store import SqliteStore
from teeverify.providers.dialect import Recorded
from teeverify.providers.teeverify import TEEVERIFY
from teeverify.responses.form import Context, Given
from teeverify.responses.statement import write_signed
from teeverify.responses.statement_form import STATEMENT
from teeverify.simulator.tee import SimulatedTee

sys.path.insert(0, str(Path(__file__).parent))

CHALLENGE = "cd" * 32
NONCE = "ab" * 32
CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    """What the application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False


def question(**members):
    asked = {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6}
    return json.dumps({**asked, **members}).encode()


class Server:
    """Called without a socket."""

    def __init__(self, *, flat=True, gpus=2, backend=None, tee=None):
        self.tee = tee or SimulatedTee(gpus=gpus)
        if backend is None:
            pytest.importorskip("numpy", reason="the extra 'server' is not installed")
            from teeverify.enclave.engines.tiny import TinyEngine

            backend = Embedded(TinyEngine(), model="default")
        self.backend = backend
        self.dialect = TeeverifyDialect(
            model="default",
            engine=self.backend.description,
            routes=tuple(self.backend.routes),
            dialects=("dstack", "teeverify/1"),
            version="0",
            ttl_seconds=3600,
        )
        self.dialect.prepare(self.tee)
        dialects = [FlatDialect("dstack", model="default")] if flat else []
        dialects.append(self.dialect)
        metrics = Metrics()
        self.store = SqliteStore()
        self.attester = Attester(self.tee, metrics)
        self.app = EnclaveApp(
            backend=self.backend,
            dialects=dialects,
            attester=self.attester,
            notary=Notary(dialects, self.store, metrics),
            metrics=metrics,
        )

    def close(self):
        self.attester.close()
        self.store.close()

    def request(self, method, path, body=b"", *, headers=None, leave=None):
        return asyncio.run(self._request(method, path, body, headers or {}, leave))

    async def _request(self, method, path, body, headers, leave):
        reply = Reply()
        route, _, query = path.partition("?")
        sent = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if sent:
                return sent.pop()
            while not (reply.complete or (leave and leave(reply))):  # noqa: ASYNC110
                await asyncio.sleep(0.0005)
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                reply.body += message.get("body", b"")
                reply.complete = not message.get("more_body", False)

        scope = {
            "type": "http",
            "method": method,
            "path": route,
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
        await self.app(scope, receive, send)
        return reply

    def chat(self, body=None, *, challenge=CHALLENGE, leave=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["content-type"] = "application/json"
        if challenge is not None:
            named["teeverify-challenge"] = challenge
        return self.request("POST", CHAT, body or question(), headers=named, leave=leave)

    def report(self, nonce=NONCE, **query):
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        path = f"/v1/attestation/report?nonce={nonce}&dialect=teeverify/1&{asked}"
        return self.request("GET", path.rstrip("&"))

    def signature(self, answer_id):
        return self.request("GET", f"/v1/signature/{answer_id}?dialect=teeverify/1")

    def machine(self):
        return read(self.report().body)

    def context(self, **seen):
        return Context(processes=(self.dialect.process,), **seen)


def read(body):
    (machine,) = TEEVERIFY.read(Recorded(path="", query={}, body=body, peer_spki_sha256=None))
    return machine


def examine(server, *, answer=None, request=None, signature=None, **seen):
    """What the form says of an exchange: the observations by id."""
    given = Given(
        signature=signature, answer=answer, request=request, context=server.context(**seen)
    )
    return STATEMENT.examine(given)


def seen_of(signed):
    return {one.id: one for one in signed.observations}


def signed_by(server, statement):
    """The statement, signed by the server's own keys: what an honest enclave never does."""
    signatures = server.dialect.keys.sign_statement(statement.digest, statement.message)
    return write_signed(statement, signatures)


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()
