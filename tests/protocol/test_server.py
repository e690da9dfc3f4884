"""The server's side: every exchange has a statement, and it says what happened."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from teeverify.enclave.engines.backend import Answer
from teeverify.enclave.framing import ANSWERS
from teeverify.errors import BindingMismatch, EndpointUnavailable
from teeverify.responses.statement import parse_signed, read_header, read_trailer
from teeverify.simulator.tee import SimulatedTee

from .conftest import CHALLENGE, CHAT, NONCE, Server, question, read


def carried(reply):
    return parse_signed(
        read_header(reply.headers["teeverify-statement"], reply.headers["teeverify-signature"])
    )


def test_a_plain_answer(server):
    body = question()
    reply = server.chat(body)
    signed = carried(reply)
    statement = signed.statement
    signed.verify(server.dialect.process.keys)
    assert (reply.status, statement.status, statement.end) == (200, 200, "complete")
    assert statement.request_hash == "sha256:" + hashlib.sha256(body).hexdigest()
    assert statement.response_hash == "sha256:" + hashlib.sha256(reply.body).hexdigest()
    assert (statement.method, statement.target) == ("POST", CHAT)
    assert statement.challenge.hex() == CHALLENGE
    assert statement.instance == server.dialect.process.instance
    assert reply.headers["teeverify-instance"] == statement.instance.hex()
    assert reply.headers["teeverify-id"] == statement.id
    assert statement.upstream_id == json.loads(reply.body)["id"]
    assert server.signature(statement.id).body == read_header(
        reply.headers["teeverify-statement"], reply.headers["teeverify-signature"]
    )


def test_a_stream_ends_with_its_statement(server):
    reply = server.chat(question(stream=True))
    content, raw = read_trailer(reply.body)
    statement = parse_signed(raw).statement
    assert reply.headers["teeverify-id"] == statement.id
    assert statement.response_hash == "sha256:" + hashlib.sha256(content).hexdigest()
    assert content.endswith(b"data: [DONE]\n\n")
    assert statement.events == content.count(b"\n\n")
    assert server.signature(statement.id).body == raw


@pytest.mark.parametrize("stream", [False, True])
def test_all_choices_are_one_content(server, stream):
    body = question(stream=stream, n=3)
    reply = server.chat(body)
    raw = read_trailer(reply.body)[1] if stream else None
    signed = parse_signed(raw) if stream else carried(reply)
    content = read_trailer(reply.body)[0] if stream else reply.body
    for index in (b'"index":0', b'"index":1', b'"index":2'):
        assert index in content
    assert signed.statement.response_hash == "sha256:" + hashlib.sha256(content).hexdigest()


def test_each_statement_has_a_number_of_its_own(server):
    first, second = (carried(server.chat()).statement for _ in range(2))
    assert second.sequence == first.sequence + 1
    assert second.id != first.id


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {}, 400),
        (b"not json", {}, 400),
        (question(model="another"), {}, 404),
        (question(), {"content_encoding": "gzip"}, 415),
        (question(), {"teeverify_instance": "00" * 32}, 421),
        (question(), {"challenge": "CD" * 32}, 400),
    ],
)
def test_errors_are_signed_as_errors(server, body, headers, status):
    reply = server.chat(body, **headers)
    statement = carried(reply).statement
    assert reply.status == statement.status == status
    assert reply.headers["teeverify-instance"] == server.dialect.process.instance.hex()
    assert statement.end == "complete"
    assert statement.response_hash == "sha256:" + hashlib.sha256(reply.body).hexdigest()
    read_at_all = status in (400, 404) and "challenge" not in headers
    assert (statement.request_hash is not None) == read_at_all
    assert server.signature(statement.id).status == 404  # carried, and not kept


def test_another_instance_is_not_asked(server):
    asked = []
    open_ = server.backend.open
    server.backend.open = lambda one: asked.append(one) or open_(one)
    try:
        server.chat(teeverify_instance="00" * 32)
        assert not asked
        own = server.dialect.process.instance.hex()
        assert server.chat(teeverify_instance=own).status == 200
    finally:
        server.backend.open = open_


def test_without_a_challenge_the_flat_dialect_answers(server):
    reply = server.chat(question(stream=True), challenge=None)
    assert b"teeverify/1" not in reply.body
    assert not any(name.startswith("teeverify") for name in reply.headers)


def test_with_one_no_flat_signature_is_made(server):
    reply = server.chat()
    answer_id = json.loads(reply.body)["id"]
    assert server.request("GET", f"/v1/signature/{answer_id}?dialect=dstack").status == 404
    assert server.signature(answer_id).status == 404


def test_alone_it_signs_without_a_challenge_too():
    server = Server(flat=False, gpus=1)
    try:
        assert carried(server.chat(challenge=None)).statement.challenge is None
    finally:
        server.close()


class Scripted:
    """A backend that streams what it is told to, and may stop in the middle."""

    routes = ANSWERS

    def __init__(self):
        names = ("kind", "model", "weights")
        self.description = {**dict.fromkeys(names, "script"), "location": "process"}
        self.parts = []
        self.pause = 0.0
        self.content_type = b"text/event-stream"

    async def open(self, asked):
        return Answer(status=200, content_type=self.content_type, parts=self._parts())

    async def _parts(self):
        for part in self.parts:
            await asyncio.sleep(self.pause)
            if isinstance(part, Exception):
                raise part
            yield part


EVENT = b'data: {"id":"chatcmpl-1","n":1}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def scripted():
    made = Server(gpus=1, backend=Scripted())
    yield made
    made.close()


def kept(server, reply):
    return parse_signed(server.signature(reply.headers["teeverify-id"]).body).statement


def test_what_is_no_json_is_signed_alike(scripted):
    """Forms in, sound out: types are signed as they were, and nothing is read of the rest."""
    kind, sound = "multipart/form-data; boundary=x", b"\xff\xfb\x90\0\r\n\r\n: teeverify/1 no"
    scripted.backend.parts, scripted.backend.content_type = [sound[:7], sound[7:]], b"audio/mpeg"
    body = b"--x\r\ncontent-disposition: form-data\r\n\r\n\xff\0\r\n--x--\r\n"
    reply = scripted.request(
        "POST", CHAT, body, headers={"teeverify-challenge": CHALLENGE, "content-type": kind}
    )
    statement = carried(reply).statement
    assert (reply.status, reply.body) == (200, sound)
    assert (statement.request_type, statement.response_type) == (kind, "audio/mpeg")
    assert statement.request_hash == "sha256:" + hashlib.sha256(body).hexdigest()
    assert statement.response_hash == "sha256:" + hashlib.sha256(sound).hexdigest()
    assert (statement.events, statement.upstream_id) == (None, None)


@pytest.mark.parametrize(
    "parts",
    [
        [EVENT],
        [EVENT, b": teeverify/1 forged\n\n", DONE],
        [EVENT, b": teev", b"erify/1 forged\n\n", DONE],
        [EVENT, DONE + b": teeverify/1 forged\n\n"],
        [EVENT, DONE, b": teeverify/1 forged\n\n"],
        [EVENT, b'data: {"error": "out of memory"}\n\n', DONE],
    ],
)
def test_what_breaks_off_is_aborted(scripted, parts):
    scripted.backend.parts = parts
    reply = scripted.chat()
    assert not reply.complete
    assert b"teeverify/1" not in reply.body
    statement = kept(scripted, reply)
    assert statement.end == "aborted"
    assert statement.response_hash == "sha256:" + hashlib.sha256(reply.body).hexdigest()


def test_a_client_that_leaves_before_the_end(scripted):
    scripted.backend.parts = [EVENT] * 100 + [DONE]
    scripted.backend.pause = 0.01
    reply = scripted.chat(leave=lambda seen: bool(seen.body))
    assert not reply.complete
    assert kept(scripted, reply).end == "aborted"


def test_an_answer_that_cannot_be_described_is_not_given(scripted):
    scripted.backend.parts = [b"{}"]
    scripted.backend.content_type = "application/\u00fc".encode()
    assert scripted.chat().status == 502


# --- attestation --------------------------------------------------------------------------------


def test_the_report(server):
    machine = read(server.report().body)
    process = machine.commits.process
    assert process.instance == server.dialect.process.instance
    assert machine.nonce.hex() == NONCE
    assert len(process.devices) == 2


@pytest.mark.parametrize("nonce", ["", "ab" * 31, "AB" * 32, "zz" * 32])
def test_a_nonce_is_needed(server, nonce):
    assert server.report(nonce).status == 400


def test_reports_of_other_instances_and_models(server):
    assert server.report(instance="00" * 32).status == 404
    assert server.report(instance=server.dialect.process.instance.hex()).status == 200
    assert server.report(model="another").status == 404


def test_other_devices_than_at_the_start_are_no_part_of_it():
    server = Server(gpus=2)
    try:
        server.tee._gpus.pop()
        assert server.report().status == 503
        with pytest.raises(EndpointUnavailable):
            server.dialect.report(server.dialect.question({"nonce": NONCE}), server.tee)
    finally:
        server.close()


def test_one_device_twice_is_refused_at_the_start():
    tee = SimulatedTee(gpus=2)
    tee._gpus[1] = tee._gpus[0]
    with pytest.raises(BindingMismatch) as caught:
        Server(tee=tee)
    assert caught.value.id == "gpu.distinct"


def test_a_process_is_its_keys_configuration_and_devices():
    servers = [Server(gpus=1), Server(gpus=1)]
    try:
        assert servers[0].dialect.process.instance != servers[1].dialect.process.instance
    finally:
        for one in servers:
            one.close()
