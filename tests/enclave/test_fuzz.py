"""Whatever is sent, no error of ours comes, nothing hangs, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings

from .wire import CHAT, chat_body, connected

pytestmark = pytest.mark.network
FEW = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(params=["server", "own_server"], ids=["dstack", "teeverify/1"])
def fuzzed(request):
    return request.getfixturevalue(request.param)


async def _fetch(url, method, path, body=b""):
    async with connected(url) as wire:
        return await wire.fetch(method, path, body)


def test_schemathesis_finds_no_error_of_ours(fuzzed):
    """Requests made from the server's own description, right and wrong."""
    schemathesis = pytest.importorskip("schemathesis", reason="it is not installed")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    root = fuzzed.url.removesuffix("/v1")
    schema = schemathesis.openapi.from_url(f"{root}/openapi.json")
    wanted = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        seen.add(operation.path)

        @FEW
        @given(case=operation.as_strategy())
        def check(case):
            case.call_and_validate(checks=wanted, timeout=20)

        check()
    assert {"/v1/chat/completions", "/v1/attestation/report", "/v1/signature/{id}"} <= seen
    assert "internal error" not in fuzzed.log.read_text()


PIECES = [
    *b"GET;POST; ;/health;/v1/chat/completions; HTTP/1.1; HTTP/1.0; HTTP/9.9;host: x;5;-1".split(
        b";"
    ),
    *b"content-length: ;18446744073709551616;transfer-encoding: chunked;ffff;%00;..;{;: ".split(
        b";"
    ),
    *b"transfer-encoding: gzip;expect: 100-continue;upgrade: websocket".split(b";"),
    *(b"connection: close", b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"\0", b"\xff", b"a" * 70_000),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"/v1/attestation/report?nonce="),
    *(b"teeverify-challenge: ", b"cd" * 32, b"teeverify-instance: ", b"\r\n" * 2),
]


async def _throw(url, data):
    """Send bytes, say that no more come, and read all answers."""
    async with connected(url) as wire:
        try:
            wire._writer.write(data)
            wire._writer.write_eof()
            return await asyncio.wait_for(wire._reader.read(), 40)
        except OSError:  # it was refused, and closed, before all of it was sent
            return b""


@pytest.mark.parametrize("seed", range(4))
def test_malformed_http(fuzzed, seed):
    chance = random.Random(seed)
    body = chat_body(stream=True, max_tokens=3)
    head = b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"
    named = b"teeverify-challenge: %b\r\n" % (b"cd" * 32)
    whole = head % (CHAT.encode(), named, len(body)) + body

    def nonsense():
        if chance.random() < 0.5:
            return b"".join(chance.choices(PIECES, k=chance.randrange(1, 14)))
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        return bytes(damaged[: chance.randrange(len(damaged) + 1)])

    async def many():
        answers = [await _throw(fuzzed.url, nonsense()) for _ in range(60)]
        assert (await _fetch(fuzzed.url, "GET", "/health"))[0] == 200
        return answers

    answers = b"".join(asyncio.run(many()))
    statuses = set(re.findall(rb"HTTP/1\.[01] (\d{3})", answers))
    assert statuses
    assert not [status for status in statuses if status.startswith(b"5") and status != b"501"]
    text = fuzzed.log.read_text()
    assert "internal error" not in text
    assert "Traceback" not in text


def test_websockets_are_not_spoken(server):
    upgrade = (
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b"101 Switching" not in asyncio.run(_throw(server.url, upgrade))


def test_the_description_names_every_route_and_no_other(fuzzed):
    status, raw = asyncio.run(_fetch(fuzzed.url, "GET", "/openapi.json"))
    assert status == 200
    for path, methods in json.loads(raw)["paths"].items():
        for method in ("GET", "POST"):
            got = asyncio.run(_fetch(fuzzed.url, method, path.replace("{id}", "x")))[0]
            assert (got == 405) is (method.lower() not in methods), (method, path)
