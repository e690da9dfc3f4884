"""The fixture of the plugin, here whether or not its entry point is installed."""

from __future__ import annotations

import http.client
import json
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from teeverify.testing.plugin import teeverify_server  # noqa: F401 -- a fixture


@dataclass
class Conversation:
    """Everything that one client got from one server."""

    server: object
    nonce: bytes
    report: bytes
    request: bytes
    answer: bytes
    signature: bytes | None


def _send(server, method, path, body=None):
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="session")
def converse():
    """Ask a server for a report, an answer and its signature, over plain HTTP."""

    def go(server, *, stream=False, nonce=None, **members):
        nonce = secrets.token_bytes(32) if nonce is None else nonce
        status, report = _send(server, "GET", f"/v1/attestation/report?nonce={nonce.hex()}")
        assert status == 200
        messages = [{"role": "user", "content": "Say something."}]
        asked = {"model": server.model, "messages": messages, "max_tokens": 40, "stream": stream}
        request = json.dumps(asked | {"ignore_eos": True} | members).encode()
        status, answer = _send(server, "POST", "/v1/chat/completions", request)
        assert status == 200
        answer_id = re.search(rb'"id": ?"([^"]+)"', answer)[1].decode()
        status, signature = _send(server, "GET", f"/v1/signature/{answer_id}")
        return Conversation(
            server, nonce, report, request, answer, signature if status == 200 else None
        )

    return go


def _need_the_extra():
    for package in ("numpy", "uvicorn"):
        pytest.importorskip(package, reason="the extra 'server' is not installed")


def pytest_runtest_setup(item):
    """The plugin's own fixture fails where the server cannot run; here that is no failure."""
    if "teeverify_server" in item.fixturenames:
        _need_the_extra()


@pytest.fixture(scope="session")
def serve():
    """Starts servers: arguments of :func:`teeverify.testing.start`."""
    _need_the_extra()
    from teeverify.testing import start

    return start


@pytest.fixture(scope="session")
def flat_server(serve):
    """A sound server of a dialect of the field."""
    with serve(arguments=("--dialect", "dstack")) as server:
        yield server
