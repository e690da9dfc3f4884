"""Every route, right and wrong, without a socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time

import pytest

from teeverify.enclave.store import StoreError
from teeverify.errors import EndpointUnavailable

NONCE = "0a" * 32
REPORT = f"/v1/attestation/report?nonce={NONCE}"


def reports():
    """The report's route, each time with another nonce."""
    return (f"/v1/attestation/report?nonce={number:064x}" for number in itertools.count())


def get(world, path, method="GET", **arguments):
    return asyncio.run(world.client.request(method, path, **arguments))


def error_of(reply):
    assert reply.complete
    assert reply.headers[b"content-type"] == b"application/json"
    assert int(reply.headers[b"content-length"]) == len(reply.body)
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/health/",
        "/v1/models/default",
        "/v1/rerank",
        "/v1/signature",
        "/V1/models",
        "/v1/../health",
        "//health",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_routes(world, path, method):
    reply = get(world, path, method)
    assert reply.status == 404
    assert error_of(reply)["code"] == "unknown_url"


ROUTES = {
    "/health": "GET",
    "/v1/models": "GET",
    REPORT: "GET",
    "/v1/signature/x": "GET",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/metrics": "GET",
    "/v1/metrics": "GET",
}
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get")


@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path in ROUTES for method in METHODS if method != ROUTES[path]],
)
def test_wrong_methods(world, path, method):
    reply = get(world, path, method)
    assert reply.status == 405
    assert reply.headers[b"allow"] == ROUTES[path].encode()
    error_of(reply)


def test_health_without_a_store(world, monkeypatch):
    async def ready():
        raise StoreError("the signature store is full")

    monkeypatch.setattr(world.store, "ready", ready)
    reply = get(world, "/health")
    assert reply.status == 503
    assert reply.json() == {"status": "no store", "detail": "the signature store is full"}


def test_health(world):
    assert get(world, "/health").json() == {"status": "ok"}


def test_models_say_what_answers(world):
    listing = get(world, "/v1/models").json()
    assert listing["object"] == "list"
    (model,) = listing["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("default", "model", "teeverify")
    assert (model["engine"], model["description"]) == ("scripted", "A script.")


def test_another_protocol_is_refused(world):
    with pytest.raises(NotImplementedError):
        asyncio.run(world.app({"type": "websocket"}, None, None))


# --- the report ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ecdsa", "ed25519"])
def test_the_report_is_about_the_key_and_the_nonce(world, algorithm):
    reply = get(world, f"{REPORT}&signing_algo={algorithm}&model=default&unknown=x")
    assert reply.status == 200
    assert reply.headers[b"cache-control"] == b"no-store"
    key = world.keys.identities[algorithm]
    evidence = {"certificate": "Y2VydA==", "evidence": NONCE, "arch": "HOPPER"}
    payload = {"nonce": NONCE, "evidence_list": [evidence], "arch": "HOPPER"}
    assert reply.json() == {
        "request_nonce": NONCE,
        "signing_address": str(key),
        "signing_algo": algorithm,
        "signing_public_key": world.keys.public_keys[algorithm].hex(),
        "model_name": "default",
        "intel_quote": key.identifier.hex().ljust(64, "0") + NONCE,
        "nvidia_payload": json.dumps(payload),
        "event_log": [{"imr": 0}],
        "info": {"app_name": "scripted"},
        "vm_config": "{}",
    }


def test_ecdsa_unless_said(world):
    assert get(world, REPORT).json()["signing_address"] == str(world.keys.identities["ecdsa"])


def test_upper_case_digits_are_the_same_nonce(world):
    reply = get(world, f"/v1/attestation/report?nonce={'0A' * 32}")
    assert reply.json()["request_nonce"] == NONCE


@pytest.mark.parametrize(
    "query",
    [
        "",
        "nonce=",
        f"nonce={'0a' * 31}",
        f"nonce={'0a' * 33}",
        f"nonce=0x{'0a' * 32}",
        f"nonce={'0g' * 32}",
        f"nonce={'%C3%A9' * 32}",
        f"nonce=%20{'0a' * 32}",
        f"nonce={NONCE}&nonce={NONCE}",
        f"nonce={NONCE}&" + "&".join(f"p{number}=1" for number in range(16)),
        f"nonce={NONCE}&model=%ff",
    ],
)
def test_bad_nonces(world, query):
    reply = get(world, f"/v1/attestation/report?{query}")
    assert reply.status == 400
    error_of(reply)
    assert not world.tee.threads, "evidence was gathered all the same"


def test_an_unknown_algorithm(world):
    reply = get(world, f"{REPORT}&signing_algo=rsa")
    assert reply.status == 400
    assert error_of(reply)["type"] == "invalid_signing_algo"


@pytest.mark.parametrize("path", [REPORT, "/v1/signature/x?"])
def test_another_model(world, path):
    reply = get(world, f"{path}&model=other")
    assert reply.status == 404
    assert error_of(reply)["code"] == "model_not_found"


def test_ones_own_address_may_be_named_in_any_spelling(world):
    address = str(world.keys.identities["ecdsa"])
    for spelling in (address, address.lower(), address.removeprefix("0x")):
        assert get(world, f"{REPORT}&signing_address={spelling}").status == 200


def test_another_address_is_not_found(world):
    ed25519 = world.keys.identities["ed25519"]
    assert get(world, f"{REPORT}&signing_address={ed25519}").status == 404
    assert get(world, f"{REPORT}&signing_address=").status == 404


def test_evidence_that_cannot_be_gathered(world, log):
    world.tee.error = EndpointUnavailable("a secret of the machine", id="tee.lost")
    reply = get(world, REPORT)
    assert reply.status == 503
    error_of(reply)
    assert b"secret" not in reply.body
    assert "tee.lost" in log.text


def test_evidence_is_gathered_one_at_a_time_in_a_thread(world):
    world.tee.pause = 0.05

    async def together():
        asked = [world.client.request("GET", path) for path in itertools.islice(reports(), 4)]
        first, *_ = await asyncio.gather(world.client.request("GET", "/health"), *asked)
        return first

    started = time.monotonic()
    assert asyncio.run(together()).status == 200
    assert time.monotonic() - started >= 0.2
    assert world.tee.most_at_once == 1
    assert len(world.tee.threads) == 1


def test_the_loop_goes_on_while_evidence_is_gathered(world):
    world.tee.pause = 0.5

    async def meanwhile():
        report = asyncio.create_task(world.client.request("GET", REPORT))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        assert (await world.client.chat()).status == 200
        took = time.monotonic() - started
        assert not report.done()
        return took, await report

    took, report = asyncio.run(meanwhile())
    assert report.status == 200
    assert took < 0.4


def test_too_many_reports_at_once(world):
    world.tee.pause = 0.05

    async def together():
        paths = itertools.islice(reports(), 8)
        return await asyncio.gather(*(world.client.request("GET", path) for path in paths))

    replies = asyncio.run(together())
    assert sorted(reply.status for reply in replies) == [200] * 4 + [429] * 4
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.headers[b"retry-after"] == b"1"
    assert error_of(refused)["code"] == "busy"
    assert get(world, REPORT).status == 200, "and afterwards there is room again"


# --- signatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer_id",
    [
        f"chatcmpl-{'0' * 32}",
        "chatcmpl-x",
        "",
        "x" * 5000,
        "'; DROP TABLE signatures; --",
        "\0",
        "\ud800",
        f"chatcmpl-{'0' * 32}\n",
    ],
)
def test_an_unknown_id(world, answer_id):
    reply = get(world, f"/v1/signature/{answer_id}")
    assert reply.status == 404
    assert error_of(reply)["code"] == "signature_not_found"


def test_a_store_that_does_not_answer(world, monkeypatch):
    async def broken(*_):
        raise StoreError("disk I/O error")

    monkeypatch.setattr(world.store, "get", broken)
    reply = get(world, f"/v1/signature/chatcmpl-{'0' * 32}")
    assert reply.status == 503
    error_of(reply)


# --- our own mistakes ----------------------------------------------------------------------------


def test_a_bug_is_told_without_its_text(world, monkeypatch, log):
    async def broken(*_):
        raise ValueError("the prompt was: canary")

    monkeypatch.setattr(world.store, "get", broken)
    reply = get(world, f"/v1/signature/chatcmpl-{'0' * 32}")
    assert reply.status == 500
    assert error_of(reply)["type"] == "server_error"
    assert b"canary" not in reply.body
    assert "canary" not in log.text
    assert "ValueError at broken:" in log.text


def test_the_log_has_a_line_a_request_and_no_path(world, log):
    log.set_level(logging.INFO)
    get(world, "/canary?canary=1")
    get(world, "/v1/models?canary=1")
    assert [record.getMessage().rsplit(" ms ")[-1] for record in log.records] == [
        "there is no such route",
        "ok",
    ]
    assert "canary" not in log.text
