"""A real server process, spoken to over the wire."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.network

DONE = b"data: [DONE]\n\n"
NONCE = "5c" * 32


@contextlib.contextmanager
def connection(server):
    parts = urlsplit(server.url)
    opened = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        yield opened
    finally:
        opened.close()


def send(opened, method, path, body=None, headers=None):
    opened.request(method, path, body, headers or {})
    response = opened.getresponse()
    return response.status, response.read()


def once(server, method, path, body=None, headers=None):
    with connection(server) as opened:
        return send(opened, method, path, body, headers)


def chat_body(**members):
    request = {
        "model": "default",
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 30,
        "ignore_eos": True,
    }
    return json.dumps(request | members).encode()


def chat(server, **members):
    raw = chat_body(**members)
    status, body = once(server, "POST", "/v1/chat/completions", raw)
    assert status == 200
    return raw, body


def id_of(body):
    return re.search(rb'"id":"(chatcmpl-[0-9a-f]{32})"', body)[1].decode()


def signature(server, answer_id):
    return once(server, "GET", f"/v1/signature/{answer_id}")


@contextlib.contextmanager
def raw_socket(server):
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as opened:
        yield opened


def post(body):
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_until(opened, mark):
    data = b""
    while mark not in data:
        more = opened.recv(65536)
        if not more:
            break
        data += more
    return data


def test_health(server):
    assert once(server, "GET", "/health") == (200, b'{"status":"ok"}')


def test_it_says_that_it_is_not_vllm(server):
    status, body = once(server, "GET", "/v1/models")
    assert status == 200
    (model,) = json.loads(body)["data"]
    assert model["id"] == "default"
    assert "not vLLM" in model["description"]
    assert "not-vllm" in json.loads(chat(server)[1])["system_fingerprint"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_signed_hashes_are_of_the_bytes_on_the_wire(server, stream):
    raw, body = chat(server, stream=stream)
    assert body.endswith(DONE) is stream
    status, signed = signature(server, id_of(body))
    assert status == 200
    wanted = f"{hashlib.sha256(raw).hexdigest()}:{hashlib.sha256(body).hexdigest()}"
    assert json.loads(signed)["text"] == wanted


def test_the_report_is_the_flat_one(server):
    status, body = once(server, "GET", f"/v1/attestation/report?nonce={NONCE}&model=default")
    report = json.loads(body)
    assert status == 200
    assert report["request_nonce"] == NONCE
    assert len(json.loads(report["nvidia_payload"])["evidence_list"]) == 2
    assert set(report["endorsements"]) == {"tdx", "nvidia"}
    assert NONCE in report["intel_quote"]


def test_errors_are_json(server):
    for method, path, body, status in (
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/v1/models", None, 405),
        ("GET", "/v1/attestation/report", None, 400),
        ("GET", "/v1/signature/x", None, 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"", 400),
    ):
        got, answer = once(server, method, path, body)
        assert got == status
        assert json.loads(answer)["error"]["message"]


# --- HTTP ----------------------------------------------------------------------------------------


def test_one_connection_serves_many_requests(server):
    with connection(server) as opened:
        opened.connect()
        port = opened.sock.getsockname()[1]
        for _ in range(3):
            assert send(opened, "GET", "/health")[0] == 200
            assert send(opened, "GET", "/nowhere")[0] == 404
            assert send(opened, "POST", "/v1/chat/completions", b"{")[0] == 400
            raw = chat_body(stream=True)
            status, body = send(opened, "POST", "/v1/chat/completions", raw)
            assert status == 200
            assert send(opened, "GET", f"/v1/signature/{id_of(body)}")[0] == 200
            assert opened.sock.getsockname()[1] == port, "it was closed in between"


def test_pipelined_requests_are_answered_in_order(server):
    with raw_socket(server) as opened:
        head = b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n"
        opened.sendall(
            head % (b"/health", b"")
            + head % (b"/v1/models", b"")
            + head % (b"/x", b"connection: close\r\n")
        )
        answers = read_until(opened, b"never")
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"404"]


def test_a_chunked_request_is_hashed_as_its_content(server):
    raw = chat_body()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(raw[n : n + 9]), raw[n : n + 9]) for n in range(0, len(raw), 9)
    )
    with raw_socket(server) as opened:
        opened.sendall(head + chunks + b"0\r\n\r\n")
        answer = read_until(opened, b'"total_tokens"')
    signed = json.loads(signature(server, id_of(answer))[1])
    assert signed["text"].startswith(hashlib.sha256(raw).hexdigest())


def test_a_client_may_wait_to_be_asked_for_its_body(server):
    raw = chat_body()
    with raw_socket(server) as opened:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        opened.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode())
        assert b"100 Continue" in read_until(opened, b"\r\n\r\n")
        opened.sendall(raw)
        assert b"200 OK" in read_until(opened, b'"total_tokens"')


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
    ],
)
def test_nonsense_on_the_wire(server, nonsense):
    with raw_socket(server) as opened:
        opened.sendall(nonsense)
        assert re.match(rb"HTTP/1.1 [45]\d\d", read_until(opened, b"never"))
    assert once(server, "GET", "/health")[0] == 200


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(server):
    with raw_socket(server) as opened:
        opened.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 16777217\r\n\r\n"
        )
        assert b" 413 " in read_until(opened, b"}}")


def test_a_body_that_turns_out_too_large_is_refused(server):
    with raw_socket(server) as opened:
        opened.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(17):
            opened.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        assert b" 413 " in read_until(opened, b"}}")
        opened.sendall(b"0\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b" 200 " in read_until(opened, b'"ok"}'), "and the connection can go on"


def test_a_body_of_sixteen_mebibytes_is_read(server):
    raw = chat_body().ljust(2**24)
    status, body = once(server, "POST", "/v1/chat/completions", raw)
    assert status == 200
    signed = json.loads(signature(server, id_of(body))[1])
    assert signed["text"].startswith(hashlib.sha256(raw).hexdigest())


# --- clients that misbehave ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_client_that_leaves_in_mid_stream(server, how):
    raw = chat_body(stream=True, max_tokens=4000)
    with raw_socket(server) as opened:
        opened.sendall(post(raw))
        begun = read_until(opened, b'"content":"')
        if how == "reset":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if how == "half-close":
            opened.shutdown(socket.SHUT_WR)
            assert DONE not in read_until(opened, DONE)
    answer_id = id_of(begun)
    deadline = time.monotonic() + 10
    while f"aborted: {answer_id}" not in server.log.read_text():
        assert time.monotonic() < deadline, "the server did not notice"
        time.sleep(0.02)
    assert signature(server, answer_id)[0] == 404


def test_a_slow_reader_does_not_hold_up_another(server):
    raw = chat_body(stream=True, max_tokens=2000)
    with raw_socket(server) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        slow.sendall(post(raw))
        begun = slow.recv(1024)
        started = time.monotonic()
        chat(server, stream=True)
        assert time.monotonic() - started < 5
        rest = begun + read_until(slow, b"0\r\n\r\n")
    body = b"".join(re.findall(rb"\r\n(data: .*?\n\n)\r\n", rest, re.DOTALL))
    assert body.endswith(DONE)
    signed = json.loads(signature(server, id_of(body))[1])
    assert signed["text"].endswith(hashlib.sha256(body).hexdigest())


def test_nothing_of_a_request_is_in_the_log(server):
    canary = "canary-of-the-log"
    chat(server, messages=[{"role": "user", "content": canary}], user=canary)
    once(server, "POST", "/v1/chat/completions", f'{{"{canary}":1,"{canary}":2}}'.encode())
    once(server, "GET", f"/{canary}?{canary}", headers={"authorization": canary})
    text = server.log.read_text()
    assert "POST /v1/chat/completions 200" in text
    assert canary not in text


# --- the process ---------------------------------------------------------------------------------


def test_stopped_by_sigterm_it_ends_cleanly(serve):
    with serve(gpus=1) as server:
        chat(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert server.process.stdout.read() == "", "two lines, and no more"
        assert "Traceback" not in server.log.read_text()
        with pytest.raises(ConnectionRefusedError):
            once(server, "GET", "/health")


def test_stopped_in_mid_stream_it_lets_the_answer_end(serve):
    with serve(gpus=1) as server, raw_socket(server) as opened:
        raw = chat_body(stream=True, max_tokens=600)
        opened.sendall(post(raw))
        begun = read_until(opened, b'"content":"')
        server.process.send_signal(signal.SIGTERM)
        assert (begun + read_until(opened, b"0\r\n\r\n")).endswith(DONE + b"\r\n0\r\n\r\n")
        assert server.process.wait(10) == 0


def test_a_new_process_has_a_new_key_and_still_gives_old_signatures(serve, tmp_path):
    store = ("--store", str(tmp_path / "signatures.db"))
    reports, answers = [], []
    for _ in range(2):
        with serve(gpus=1, arguments=store) as server:
            report = once(server, "GET", f"/v1/attestation/report?nonce={NONCE}")[1]
            reports.append(json.loads(report)["signing_address"])
            answers.append(id_of(chat(server)[1]))
            signers = [json.loads(signature(server, one)[1])["signing_address"] for one in answers]
            assert signers == reports
    assert len(set(reports)) == 2


def test_the_model_can_have_another_name(serve):
    with serve(gpus=1, model="m/1:x") as server:
        chat(server, model="m/1:x")
        assert once(server, "POST", "/v1/chat/completions", chat_body())[0] == 404
        assert once(server, "GET", f"/v1/attestation/report?nonce={NONCE}&model=m/1:x")[0] == 200


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "teeverify.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--tee auto"),
        (("--simulated", "--fault", "no-such-fault"), "invalid choice"),
        (("--simulated", "--even-on-a-tee", "--port", "99999999"), "is no whole number"),
        (("--simulated", "--even-on-a-tee", "--host", "192.0.2.1"), "cannot be listened on"),
        (("--simulated", "--even-on-a-tee", "--gpus", "0"), "too few GPUs"),
        (("--simulated", "--even-on-a-tee", "--store", "/"), "cannot be opened"),
        (("--simulated", "--even-on-a-tee", "--roots-file", "/"), "cannot be written"),
    ],
)
def test_wrong_use(serve, arguments, says):
    done = run(*arguments)
    assert done.returncode == 64
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
