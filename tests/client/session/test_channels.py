"""Live endpoints whose evidence binds the TLS key: attested over a real connection."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from teeverify.client import Receipt, Verifier
from teeverify.client.connect import fetch_evidence
from teeverify.client.session.exchange import Exchange
from teeverify.clock import now
from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import Authority, new_key
from teeverify.simulator.channels import Channels

pytestmark = pytest.mark.network
GPU_NOTE = {"gpu.measurements": "note", "gpu.revocation": "note"}


@pytest.fixture(scope="module")
def channels():
    made = Channels(at=now(), gpus=1)
    made.tls = certified(made, made.tls.key)
    return made


CA = Authority.root("Simulated Web CA")


def certified(channels, key):
    """A web certificate of a key for this machine."""
    names = channels.alternative_names(["localhost"])
    return CA.issue("localhost", key=key, extensions=[names])


class Served:
    """A machine that shows its evidence over TLS with a key of its own."""

    def __init__(self, channels, tls, folder) -> None:
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                served.asked.append(self.path)
                body, kind = served.answer(urlsplit(self.path))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.channels = channels
        key = tls.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = folder / "chain.pem"
        chain.write_bytes(tls.pem + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://localhost:{self.server.server_port}"

    def answer(self, url):
        nonce = parse_qs(url.query).get("nonce")
        if nonce:
            self.channels.nonce = bytes.fromhex(nonce[0])
        if url.path == "/.well-known/tinfoil-attestation" and nonce:
            return self.channels.tinfoil().body, "application/json"
        shown = self.channels.secretvm(gpu_nonce=b"\7" * 32)
        answers = {"/cpu": shown.exchanges[0].body, "/gpu": shown.exchanges[1].body}
        return answers[url.path], "text/plain"


@pytest.fixture
def serve(channels, tmp_path, monkeypatch):
    running = []

    def start(tls=None):
        tls = tls or channels.tls
        folder = tmp_path / str(len(running))
        folder.mkdir()
        (folder / "ca.pem").write_bytes(CA.pem)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
        running.append(Served(channels, tls, folder))
        return running[-1]

    yield start
    for each in running:
        each.server.shutdown()
        each.server.server_close()


def verifier(channels):
    from teeverify import tdx
    from teeverify.appraisal import Policy

    return Verifier(
        roots=channels.roots(),
        policy=Policy.genuine().replace(require=GPU_NOTE),
        endorsements=[tdx.Endorsements.load(json.dumps(channels.intel.collateral()))],
    )


@pytest.mark.parametrize(
    ("dialect", "root", "fresh"), [("tinfoil", "/v1", "proven"), ("secretvm", "", "asserted")]
)
def test_the_very_connection_is_bound(channels, serve, dialect, root, fresh):
    served = serve()
    result = verifier(channels).appraise(served.url + root, dialect=dialect)
    assert (result.exit_code, result.scope, result.kind) == (0, "endpoint", dialect)
    assert result.finding("endpoint.bound").outcome.value == "proven"
    assert result.finding("endpoint.bound").got == channels.fingerprint.hex()
    assert result.finding("freshness.nonce").outcome.value == fresh
    assert "Whoever ends the TLS connection" not in result.summary


@pytest.mark.parametrize(("dialect", "root"), [("tinfoil", "/v1"), ("secretvm", "")])
def test_a_note_keeps_all_that_was_asked(channels, serve, tmp_path, dialect, root):
    """Some dialects show their evidence on several routes: a program that asks nobody needs all."""
    session = verifier(channels).connect(serve().url + root, dialect=dialect)
    exchange = Exchange(request=b"{}", response=b'{"id": "1"}', received_at=now())
    kept = session._core.note(exchange, session.attest())
    beside = kept.parts.beside
    assert list(beside) == (["gpu"] if dialect == "secretvm" else [])
    (tmp_path / "roots.pem").write_bytes(channels.roots_pem())
    (tmp_path / "intel.json").write_text(json.dumps(channels.intel.collateral()))
    for include in ("bytes", "hashes"):
        kept.save(tmp_path / "note.json", include=include)
        again = Receipt.load(tmp_path / "note.json")
        assert (again.parts.digest, again.parts.beside) == (kept.parts.digest, beside)
        command = [sys.executable, "-m", "teeverify.cli.main", "verify", "--offline", "--json"]
        command += ["--unsafe-test-roots", str(tmp_path / "roots.pem")]
        command += ["--endorsements", str(tmp_path / "intel.json"), str(tmp_path / "note.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        shown = {f["id"]: f["outcome"] for f in json.loads(done.stdout)["findings"]}
        for check in ("tdx.quote-signature", "binding.report-data", "gpu.report-signature"):
            if check in {f.id for f in kept.result.findings}:
                assert shown[check] == "proven", done.stdout


def test_w10_somebody_between(channels, serve):
    """Genuine evidence, passed on by whoever ends the connection."""
    relay = serve(certified(channels, new_key("p384")))
    for dialect, root, check in (
        ("tinfoil", "/v1", "endpoint.bound"),
        ("secretvm", "", "binding.report-data"),
    ):
        result = verifier(channels).appraise(relay.url + root, dialect=dialect)
        assert result.exit_code == 2
        assert result.finding(check).outcome.value == "failed"


def test_what_was_asked(channels, serve):
    served = serve()
    evidence = fetch_evidence(served.url + "/v1", dialect="tinfoil")
    assert evidence.live
    (path,) = served.asked
    assert path == f"/.well-known/tinfoil-attestation?nonce={evidence.nonce.hex()}"
    evidence = fetch_evidence(served.url, dialect="secretvm")
    assert evidence.nonce is None
    assert served.asked[1:] == ["/cpu", "/gpu"]


@pytest.mark.parametrize("dialect", ["chutes-resold", "tinfoil-bundle", "panda", "near-ita"])
def test_what_is_read_from_files_only(dialect):
    with pytest.raises(ConfigurationError, match="recordings only"):
        fetch_evidence("https://localhost/v1", dialect=dialect)


def test_nothing_is_sent_where_no_answer_is_signed(channels, serve):
    """A client for answers refuses the routes of a dialect that signs none."""
    from teeverify.client.network.endpoint import Endpoint

    endpoint = Endpoint.parse("https://inference.tinfoil.sh/v1")
    assert endpoint.dialect.id == "tinfoil"
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        endpoint.route("POST", "https://inference.tinfoil.sh/v1/chat/completions")
