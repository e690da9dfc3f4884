"""Canaries in every place where a secret is, and then a search through all that anything puts out.

A real server before an engine, its store, log and metrics; the SDK, good and bad; the whole command
line on what was kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import secrets
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from teeverify import TeeVerifyError
from teeverify.cli.main import main
from teeverify.testing.server import running

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
PROMPT, ANSWER, TOKEN = "prompt-canary-1", "answer-canary-2", "sk-canary-3"
WRONG_TOKEN, ENGINE_KEY, PROXY = "sk-canary-4", "engine-canary-5", "proxy-canary-6"
CANARIES = (PROMPT, ANSWER, TOKEN, WRONG_TOKEN, ENGINE_KEY, PROXY)
DIALECTS = ("dstack", "teeverify/1")
ASK = {"model": "default", "messages": [{"role": "user", "content": PROMPT}]}


class Engine(BaseHTTPRequestHandler):
    """Answers with the canary; to a temperature of 2, with an error that quotes the question."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *details):
        pass

    def do_GET(self):
        self._send(200, b'{"object": "list", "data": [{"id": "default", "object": "model"}]}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = json.loads(body)
        head = {"id": f"chatcmpl-{secrets.token_hex(16)}", "created": int(time.time()),
                "model": "default"}  # fmt: skip
        if asked.get("temperature") == 2:
            echo = {"error": {"message": body.decode(), "type": "server_error", "code": None}}
            self._send(500, json.dumps(echo).encode())
        elif asked.get("stream"):
            chunk = {**head, "object": "chat.completion.chunk",
                     "choices": [{"index": 0, "delta": {"content": ANSWER}}]}  # fmt: skip
            raw = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
            self._send(200, raw, "text/event-stream")
        else:
            message = {"role": "assistant", "content": ANSWER}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(200, json.dumps({**head, "object": "chat.completion",
                                        "choices": [choice]}).encode())  # fmt: skip

    def _send(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def engine():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


class Place:
    """A server, and what it leaves behind."""

    def __init__(self, server, folder, dialect) -> None:
        self.server, self.folder, self.dialect = server, folder, dialect

    def left(self):
        """All that it wrote: log, and the store with what belongs to it."""
        kept = [self.server.log, *self.folder.glob("store.sqlite*")]
        assert len(kept) > 1
        return b"".join(file.read_bytes() for file in kept).decode("latin-1")


@pytest.fixture(scope="module", params=DIALECTS)
def place(engine, request, tmp_path_factory):
    pytest.importorskip("starlette", reason="the extra 'server' is not installed")
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text(TOKEN)
    (folder / "engine-key").write_text(ENGINE_KEY)
    arguments = (
        "--upstream", engine, "--upstream-key-file", str(folder / "engine-key"),
        "--api-key-file", str(folder / "keys"), "--store", str(folder / "store.sqlite"),
        "--dialect", request.param, "--log", "json",
    )  # fmt: skip
    with running(gpus=1, arguments=arguments) as server:
        yield Place(server, folder, request.param)


def found_in(text):
    return [canary for canary in CANARIES if canary in text]


def shown_of(error):
    """Everything that an error says and holds, with its causes."""
    shown = []
    while error is not None:
        if isinstance(error, TeeVerifyError):
            shown += [str(error), repr(error), repr(vars(error)), repr(error.args)]
            shown += traceback.format_exception_only(type(error), error)
            with contextlib.suppress(
                TypeError, AttributeError, pickle.PicklingError, TeeVerifyError
            ):
                shown.append(pickle.dumps(error).decode("latin-1"))
            if error.result is not None:
                shown += [error.result.to_json(), error.result._repr_html_()]
        error = error.__cause__ or error.__context__
    return "".join(shown)


def client_of(place, **options):
    given = {"api_key": TOKEN, "dialect": place.dialect, "max_retries": 0, **options}
    return place.server.openai(**given)


def refused(client, **bad):
    """What an error says of a request that gets no answer."""
    with pytest.raises((TeeVerifyError, openai.OpenAIError)) as caught:
        client.chat.completions.create(**{**ASK, **bad})
    return shown_of(caught.value)


def ask_all(place):
    """Good and bad requests of the SDK: the receipts, and what errors of ours say."""
    said = []
    with client_of(place) as client:
        client.chat.completions.create(**ASK)
        for _ in client.chat.completions.create(**ASK, stream=True):
            pass
        wrong = ({"temperature": 2}, {"model": "other"})
        said += [refused(client, **bad) for bad in wrong]
        receipts = [client.receipts[name] for name in client.receipts]
    with client_of(place, api_key=WRONG_TOKEN) as client:
        said.append(refused(client))
    assert len(receipts) == 2
    return receipts, "".join(said)


def test_the_server_keeps_and_says_nothing(place):
    ask_all(place)
    root = place.server.url.removesuffix("/v1")
    routes = ("/metrics", "/health", "/v1/models", "/openapi.json", "/v1/nowhere")
    said = "".join(
        requests.get(root + route, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20).text
        for route in routes
    )
    assert found_in(place.left() + said) == []
    assert "chat/completions" in place.left() + said, "it does say what it did"


def test_no_logger_of_ours_says_anything_with_everything_turned_on(place, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    receipts, said = ask_all(place)
    # Who turns on the SDK's own log, or that of its transport, asks for requests in it.
    others = ("openai", "httpcore2", "httpx2")
    ours = [record for record in caplog.records if not record.name.startswith(others)]
    said += "".join(logging.Formatter().format(record) for record in ours)
    said += repr(receipts) + "".join(capfd.readouterr())
    said += "".join(repr(one.parts) + repr(one.result) + one.result.to_json() for one in receipts)
    cache = Path(os.environ["TEEVERIFY_CACHE"])
    said += "".join(file.read_text("latin-1") for file in cache.rglob("*") if file.is_file())
    assert found_in(said) == []
    assert any(record.name.startswith(others) for record in caplog.records), "it is turned on"


@pytest.fixture
def cli(monkeypatch, capfd):
    """The command, in an environment full of secrets."""
    monkeypatch.setenv("TEEVERIFY_API_KEY", TOKEN)
    monkeypatch.setenv("OPENAI_API_KEY", WRONG_TOKEN)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*arguments):
        capfd.readouterr()
        assert main([str(each) for each in arguments]) in (0, 1, 2, 3, 64)
        return "".join(capfd.readouterr())

    return run


def test_every_face_of_what_was_kept(place, cli, tmp_path):
    """Of hashes, none shows a text; of bytes, only the page that embeds the whole receipt."""
    receipts, _ = ask_all(place)
    key = tmp_path / "key.pem"
    key.write_bytes(_private_key())
    roots = ("--unsafe-test-roots", place.server.roots_file, "--offline")
    for include in ("hashes", "bytes"):
        kept = tmp_path / f"{include}.json"
        receipts[0].save(kept, include=include)
        other = tmp_path / f"other-{include}.json"
        receipts[1].save(other, include=include)
        answer = tmp_path / "answer"
        answer.write_bytes(receipts[0].parts.response.raw)
        page, ear = tmp_path / f"{include}.html", tmp_path / f"{include}.ear"
        said = "".join((
            cli("verify", kept, *roots),
            cli("verify", kept, *roots, "--json", "--answer", answer),
            cli("verify", kept, *roots, "--all", "--policy", "strict"),
            cli("verify", kept, *roots, "--answer", place.server.roots_file),
            cli("verify", kept, *roots, "--html", page, "--ear", ear, "--ear-key", key),
            cli("verify", kept, other, *roots, "--all", "--workers", 1),
            cli("show", kept),
            cli("diff", kept, other),
            cli("explain", "answer.signature"),
            cli("timestamp", kept),
        ))  # fmt: skip
        said += ear.read_text("latin-1")
        if include == "hashes":
            said += page.read_text() + kept.read_text()
        assert found_in(said) == []


def test_the_commands_say_nothing_of_the_environment(place, cli, tmp_path):
    roots = ("--unsafe-test-roots", place.server.roots_file, "--dialect", place.dialect)
    said = cli("doctor") + cli("providers") + cli("policy", "show", "strict")
    said += cli("verify", place.server.url, *roots, "--model", "default")
    said += cli("capture", place.server.url, tmp_path / "capture", *roots[2:])
    said += "".join(
        f.read_text("latin-1") for f in (tmp_path / "capture").rglob("*") if f.is_file()
    )
    asked = cli("ask", place.server.url, PROMPT, "--model", "default", *roots,
                "--save", tmp_path / "receipt.json")  # fmt: skip
    assert ANSWER in asked, "which was asked for"
    said += asked.replace(ANSWER, "")
    assert found_in(said) == []
    assert (tmp_path / "receipt.json").stat().st_mode & 0o077 == 0


def _private_key():
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_what_opens_an_encrypted_answer_is_in_no_repr():
    """Keys of one request, which the objects hold that callers get."""
    from teeverify.e2ee.ehbp import SealedBody

    sealed = SealedBody(body=b"", headers={}, secret=b"secret-canary-7", encapsulated=b"")
    assert "canary" not in repr(sealed)
