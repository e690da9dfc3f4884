"""What an operator sees: options, keys, limits, metrics, and one clear line for each mistake."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from teeverify.cli.serve import serve as serve_command
from teeverify.cli.serve_options import add_options, complete
from teeverify.errors import ConfigurationError

from .wire import connected

NONCE = "0e" * 32


def options(*flags, environment=None):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return complete(parser.parse_args(["--simulated", *flags]), environment or {})


# --- flags, environment, file --------------------------------------------------------------------


def test_defaults():
    found = options()
    assert (found.host, found.port, found.model) == ("127.0.0.1", 0, None)
    assert (found.dialect, found.ttl, found.drain) == (["teeverify/1"], 3600, 30)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nttl = 10\nmodel = "file"\ndialect = ["near", "phala"]\n')
    environment = {"TEEVERIFY_SERVE_PORT": "2", "TEEVERIFY_SERVE_TTL": "20", "OTHER": "x"}
    found = options("--config", str(file), "--port", "3", environment=environment)
    assert (found.port, found.ttl, found.model) == (3, 20, "file")
    assert found.dialect == ["near", "phala"]


def test_a_list_in_the_environment():
    found = options(environment={"TEEVERIFY_SERVE_DIALECT": "near,dstack"})
    assert found.dialect == ["near", "dstack"]


@pytest.mark.parametrize(
    "environment",
    [
        {"TEEVERIFY_SERVE_PORT": "x"},
        {"TEEVERIFY_SERVE_TTL": ""},
        {"TEEVERIFY_SERVE_HOST": ""},
        {"TEEVERIFY_SERVE_DIALECT": ""},
        {"TEEVERIFY_SERVE_NO_SUCH": "1"},
        {"TEEVERIFY_SERVE_SIMULATED": "1"},
        {"TEEVERIFY_SERVE_EVEN_ON_A_TEE": "1"},
        {"TEEVERIFY_SERVE_UNSAFE_REMOTE_UPSTREAM": "1"},
        {"TEEVERIFY_SERVE_FAULT": "debug-td"},
        {"TEEVERIFY_SERVE_CONFIG": "x"},
    ],
)
def test_an_environment_that_is_wrong_or_opens_a_door(environment):
    with pytest.raises(ConfigurationError) as caught:
        options(environment=environment)
    assert caught.value.id == "usage.serve"


@pytest.mark.parametrize(
    "text",
    [
        "port = true",
        'port = "x"',
        "port = []",
        "port = 1.5",
        'host = ""',
        'host = "\\u0000"',
        "ttl = inf",
        "wait = nan",
        "attestation_rate = 0",
        "dialect = []",
        "dialect = 1",
        "dialect = [[1]]",
        "unknown = 1",
        "simulated = true",
        "even_on_a_tee = true",
        "no toml",
        "\udcff",
    ],
)
def test_a_file_that_is_wrong_or_opens_a_door(tmp_path, text):
    file = tmp_path / "serve.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError):
        options("--config", str(file))


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError):
            options("--config", str(path))


# --- mistakes: one line each ---------------------------------------------------------------------


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "teeverify.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SIMULATED = ("--simulated", "--even-on-a-tee", "--gpus", "1")


@pytest.mark.network
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--upstream", "http://127.0.0.1:9/v1"), 3, "gives no list of models"),
        (("--upstream", "unix:/no/such.sock"), 3, "gives no list of models"),
        (("--upstream", "http://192.0.2.1/v1"), 64, "--unsafe-remote-upstream"),
        (("--upstream", "http://127.0.0.1:9/v1", "--engine", "tiny"), 64, "one engine is enough"),
        (("--vllm", "/no/such/folder", "--vllm-command", "true"), 64, "no such folder"),
        (("--vllm", "meta-llama/Llama", "--vllm-command", "true"), 64, "A name of a hub"),
        (("--vllm", "/", "--vllm-command", "no-such-program"), 64, "no such program"),
        (("--dialect", "venice"), 64, "no such dialect"),
        (("--api-key-file", "/no/such/file"), 64, "cannot be read"),
        (("--store", "redis://127.0.0.1:9/0"), 64, "does not answer"),
        (("--ttl", "0"), 64, "'0' is no whole number from 1 to 315360000"),
        (("--ttl", "9" * 23), 64, "is no whole number from 1"),
        (("--host", ""), 64, "an empty text says nothing"),
        (("--store", ""), 64, "an empty text says nothing"),
        (("--fault", "nope"), 64, "invalid choice: 'nope'"),
        (("--wait", "1"), 64, "got --wait; want --upstream"),
        (("--upstream-silence", "5"), 64, "got --upstream-silence; want --upstream or --vllm"),
        (("--vllm-command", "vllm"), 64, "got --vllm-command; want --vllm"),
        (("--switches",), 64, "got --switches; want --nvidia-sdk"),
        (("--nvidia-sdk", "/x"), 64, "got --nvidia-sdk; want --tee"),
        (("--tls", "--tls-name", "a b"), 64, "got 'a b'; want a DNS name or an IP address"),
        (("--tls-name", "example.org"), 64, "got --tls-name; want --tls"),
        (("--upstream-key-file", "/x"), 64, "got --upstream-key-file; want --upstream"),
        (("--vllm-argument=--x",), 64, "got --vllm-argument; want --vllm"),
        (("--port", "70000"), 64, "is no whole number from 0 to 65535"),
        (("--host", "203.0.113.9"), 64, "cannot be listened on"),
        (("--store", "/no/such/folder/s.db"), 64, "cannot be opened"),
        (("--store-bytes", "-1"), 64, "is no whole number from 1"),
        (("--log", "xml"), 64, "form of a log"),
        (("--port", "x"), 64, "'x' is no whole number"),
        (("--simulate",), 64, "unrecognized arguments"),
    ],
)
def test_a_mistake(serve, arguments, code, says):
    pytest.importorskip("redis", reason="the extra 'redis' is not installed")
    done = run(*SIMULATED, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    (line,) = done.stderr.splitlines()
    assert re.match("teeverify( serve)?: ", line)


@pytest.mark.parametrize("flag", ["--gpus", "--roots-file", "--even-on-a-tee"])
def test_what_only_a_simulated_machine_takes(flag):
    value = [] if flag == "--even-on-a-tee" else ["0"]
    found = options(flag, *value)
    found.simulated, found.tee = False, "auto"
    with pytest.raises(ConfigurationError) as caught:
        serve_command(found)
    assert (caught.value.got, caught.value.want) == (flag, "--simulated")


def test_the_help_ends_with_the_servers_own_exit_codes():
    done = run("--help")
    assert done.returncode == 0
    codes = " ".join(done.stdout.split()).rpartition("exit codes: ")[2]
    assert codes.startswith("0 stopped by SIGTERM")
    page = (Path(__file__).parents[2] / "docs/server.md").read_text()
    documented = re.findall(r"^\| (\d+) \| ", page, re.MULTILINE)
    assert re.findall(r"(?:^|; )(\d+) ", codes) == documented


@pytest.mark.network
def test_a_busy_port(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(*SIMULATED, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 64
    assert "cannot be listened on: Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_tee():
    done = run()
    assert done.returncode == 64
    assert "--simulated" in done.stderr
    assert done.stderr.count("\n") == 1


# --- keys ----------------------------------------------------------------------------------------


def get(world, path, method="GET", **arguments):
    return asyncio.run(world.client.request(method, path, **arguments))


CLOSED = [
    ("GET", "/v1/models"),
    ("GET", "/metrics"),
    ("GET", "/v1/metrics"),
    ("GET", "/v1/signature/x"),
    ("POST", "/v1/chat/completions"),
]


@pytest.fixture
def guarded(make_world):
    return make_world(api_keys=[hashlib.sha256(key).digest() for key in (b"first", b"second")])


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize(
    "shown",
    [None, b"", b"Bearer", b"Bearer ", b"Bearer third", b"first", b"Basic first", b"Bearer firstx"],
)
def test_without_a_key_nothing_is_served(guarded, method, path, shown):
    headers = {} if shown is None else {b"authorization": shown}
    reply = get(guarded, path, method, body=guarded.body(), headers=headers)
    assert reply.status == 401
    assert reply.headers[b"www-authenticate"] == b"Bearer"
    assert not guarded.engine.asked


@pytest.mark.parametrize("shown", [b"Bearer first", b"bearer second", b"Bearer  first "])
def test_any_of_the_keys_opens(guarded, shown):
    headers = {b"authorization": shown}
    assert get(guarded, "/v1/models", headers=headers).status == 200
    body = guarded.body()
    assert get(guarded, "/v1/chat/completions", "POST", body=body, headers=headers).status == 200


@pytest.mark.parametrize(
    "path", ["/health", "/openapi.json", f"/v1/attestation/report?nonce={NONCE}"]
)
def test_who_is_to_decide_needs_no_key(guarded, path):
    assert get(guarded, path).status == 200


@pytest.mark.network
def test_keys_in_a_file(serve, tmp_path):
    file = tmp_path / "keys"
    file.write_text("one\n\n  two \n")

    async def ask(url, key):
        async with connected(url) as wire:
            return (await wire.fetch("GET", "/v1/models", authorization=f"Bearer {key}"))[0]

    with serve(gpus=1, arguments=("--api-key-file", str(file))) as server:
        statuses = [asyncio.run(ask(server.url, key)) for key in ("one", "two", "three", "")]
        assert statuses == [200, 200, 401, 401]
        assert "two" not in server.log.read_text()
    file.write_text("\n")
    done = run(*SIMULATED, "--api-key-file", str(file))
    assert (done.returncode, "holds no key" in done.stderr) == (64, True)


# --- limits of attestation -----------------------------------------------------------------------


def report(number):
    return f"/v1/attestation/report?nonce={number:064x}"


def test_reports_beyond_the_rate_have_to_wait(make_world):
    world = make_world(rate=0.5)
    replies = [get(world, report(number)) for number in range(3)]
    assert [reply.status for reply in replies] == [200, 429, 429]
    assert replies[1].headers[b"retry-after"] == b"2"
    assert get(world, "/v1/models").status == 200, "nothing else waits"


def test_the_same_question_at_the_same_time_is_asked_of_the_machine_once(world):
    world.tee.pause = 0.05

    async def together():
        return await asyncio.gather(*(world.client.request("GET", report(1)) for _ in range(20)))

    bodies = {reply.body for reply in asyncio.run(together())}
    assert len(bodies) == 1
    assert world.tee.asked == 1
    assert get(world, report(1)).status == 200
    assert world.tee.asked == 2, "nothing is kept for later"


def test_one_who_leaves_does_not_take_the_report_from_the_others(world):
    world.tee.pause = 0.1

    async def together():
        first = asyncio.create_task(world.client.request("GET", report(1)))
        second = asyncio.create_task(world.client.request("GET", report(1)))
        await asyncio.sleep(0.02)
        first.cancel()
        return await second

    assert asyncio.run(together()).status == 200


# --- metrics and logs ----------------------------------------------------------------------------


def metric(world, name):
    line = re.compile(rf"^{name}(?:{{.*}})? (\S+)$", re.MULTILINE)
    return sum(map(float, line.findall(get(world, "/metrics").body.decode())))


def test_what_is_counted(world):
    world.engine.script = ["x"]
    get(world, "/v1/chat/completions", "POST", body=world.body())
    world.engine.script = ["x", world.engine_failed()]
    get(world, "/v1/chat/completions", "POST", body=world.body(stream=True))
    get(world, report(1))
    get(world, "/canary")
    refused = [("/v1/chat/completions", b"{}", 400), ("/v1/embeddings", world.body(), 404)]
    for path, body, status in refused:
        assert get(world, path, "POST", body=body).status == status
    assert metric(world, "teeverify_signatures_total") == 2
    assert metric(world, "teeverify_aborted_total") == 1
    assert metric(world, "teeverify_in_flight") == 0
    assert metric(world, "teeverify_attestation_seconds_count") == 1
    assert metric(world, "teeverify_signing_seconds_count") == 1
    assert metric(world, "teeverify_storing_seconds_count") == 1
    text = get(world, "/metrics").body.decode()
    assert 'requests_total{route="POST /v1/chat/completions",status="200"} 2' in text
    assert 'requests_total{route="(no route)",status="404"} 1' in text
    assert "canary" not in text


def test_every_line_is_one_that_prometheus_reads(world):
    get(world, report(1))
    line = re.compile(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"\n]*"(,\w+="[^"\n]*")*\})? [0-9.e+-]+')
    text = get(world, "/metrics").body.decode()
    assert [one for one in text.splitlines() if not line.fullmatch(one)] == []


@pytest.mark.network
def test_the_log_as_json(serve):
    async def ask(url):
        async with connected(url) as wire:
            await wire.fetch("GET", "/v1/models")

    with serve(gpus=1, arguments=("--log", "json")) as server:
        asyncio.run(ask(server.url))
        log = server.log
        deadline = time.monotonic() + 5
        while not (lines := [json.loads(line) for line in log.read_text().splitlines()]):
            assert time.monotonic() < deadline
    assert {"time", "level", "logger", "message"} == set(lines[-1])
    assert "GET /v1/models 200" in lines[-1]["message"]


# --- patience ------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("begun", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_arrive(monkeypatch, begun):
    """Half a head holds a connection only so long; a served request is another matter."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    from teeverify.enclave import http

    monkeypatch.setattr(http, "_HEAD_SECONDS", 0.3)

    async def slow(_scope, _receive, send):
        await asyncio.sleep(0.8)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def go():
        config = uvicorn.Config(slow, http=http.PatientProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server._serve([listening]))
            address = listening.getsockname()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b" 200 " in await asyncio.wait_for(reader.read(), 5)
            writer.close()
            server.should_exit = True
            await serving

    asyncio.run(go())
