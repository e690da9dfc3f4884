"""``teeverify capture``: what is kept of an endpoint, and that it verifies offline later."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from teeverify import Policy, Verifier, connect
from teeverify.cli.main import main
from teeverify.client.recorder import record
from teeverify.clock import now
from teeverify.errors import (
    ConfigurationError,
    EndpointUnavailable,
    MalformedEvidence,
    ResponseNotVerified,
)
from teeverify.providers import DIALECTS
from teeverify.simulator.endpoint import Endpoint

pytestmark = pytest.mark.network

MODEL = "simulated/tiny-1"
SIGNED = ("near", "near-direct", "venice", "phala", "nanogpt", "0g", "dstack")


class Provider:
    """A provider on this machine: each dialect at its own path, for whatever nonce is asked."""

    def __init__(self, at: datetime) -> None:
        self.endpoint = Endpoint(at=at, gpus=1)
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.status = 200

    def report(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        endpoint = self.endpoint
        endpoint.nonce = bytes.fromhex(query["nonce"])
        tls = query.get("include_tls_fingerprint") == "true"
        manager = {"compose_manager_attestation": endpoint.compose_manager()}
        makers = {
            "/near/v1/attestation/report": endpoint.near_report,
            "/near-direct/v1/attestation/report": lambda: endpoint.model_report(tls=tls, **manager),
            "/venice/api/v1/tee/attestation": endpoint.venice_report,
            "/phala/v1/attestation/report": endpoint.wrapped_report,
            "/nanogpt/api/v1/tee/attestation": endpoint.model_report,
            "/0g/v1/proxy/attestation/report": endpoint.model_report,
            "/dstack/v1/attestation/report": self.enclosing,
        }
        return makers[path]() if path in makers else None

    def complete(self, request: bytes) -> bytes:
        """A plain answer as Phala's proxy sends it; what it signs is another serialisation."""
        at = int(self.endpoint.at.timestamp())
        message = {"role": "assistant", "content": "Vier, gr\u00fc\u00dfe."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        value = {"id": "chatcmpl-7", "object": "chat.completion", "created": at, "model": MODEL,
                 "choices": [choice]}  # fmt: skip
        self.signed = json.dumps(value).encode()
        self.signature = self.endpoint.sign(request, self.signed, model=None)
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def enclosing(self) -> dict[str, Any]:
        """With the endorsements inside, as our own server shows them."""
        endpoint = self.endpoint
        report = endpoint.model_report()
        entries = json.loads(report["nvidia_payload"])["evidence_list"]
        answer, jwks = endpoint.nvidia.nras_answer(entries, endpoint.nonce, endpoint.at)
        nras = {"answer": answer.decode(), "jwks": jwks.decode()}
        return {**report, "endorsements": {"tdx": endpoint.intel.collateral(), "nras": nras}}


@pytest.fixture
def provider() -> Iterator[tuple[Provider, str]]:
    shown = Provider(now())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            shown.asked.append((parts.path, query, dict(self.headers)))
            signature = "/signature/" in parts.path
            report = None if signature else shown.report(parts.path, query)
            body = shown.signature if signature else json.dumps(report).encode()
            self.send_response(404 if report is None and not signature else shown.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "session=SECRET-COOKIE")
            self.send_header("X-Api-Key", "SECRET-HEADER")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["Content-Length"]))
            body = shown.complete(request)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            del arguments

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield shown, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def endorsed(provider, tmp_path) -> Any:
    """The vendors' endorsements, beside what the endpoint shows."""
    shown, _ = provider
    folder = tmp_path / "endorsements"
    shown.endpoint.capture(folder, nras=None)
    (folder / "0001_report.body").unlink()
    (folder / "0001_report.http.json").unlink()
    return Verifier(roots=shown.endpoint.roots(), endorsements=folder)


def everything(folder) -> str:
    return "".join(file.read_bytes().decode("latin-1") for file in folder.iterdir())


@pytest.mark.parametrize("dialect", SIGNED)
def test_each_dialect_is_recorded_and_verified_offline_later(provider, endorsed, tmp_path, dialect):
    shown, root = provider
    base = f"{root}/{dialect}{DIALECTS[dialect].root}"
    folder = tmp_path / "recorded"
    found = record(base, folder, model=MODEL, dialect=dialect, verifier=endorsed)
    assert (found.dialect, found.folder) == (dialect, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["provider"], manifest["model"]) == (dialect, MODEL)
    assert manifest["nonce_hex"] == shown.endpoint.nonce.hex()
    offline = Verifier(offline=True, roots=shown.endpoint.roots())
    result = offline.appraise(folder, dialect=dialect)
    missing = {f.id for f in result.findings if f.exit_code}
    # What nobody recorded is missing, and nothing else is wrong.
    assert (result.exit_code, missing) == ((0, set()) if dialect == "dstack" else (
        3, {"gpu.measurements"}))  # fmt: skip
    assert result.finding("freshness.nonce").outcome.value == "asserted"
    mine = offline.appraise(folder, dialect=dialect, nonce=manifest["nonce_hex"])
    assert mine.finding("freshness.nonce").outcome.value == "proven"
    assert offline.appraise(folder, dialect=dialect, nonce=bytes(32)).exit_code == 2


def test_no_secret_and_no_cookie_is_kept(provider, endorsed, tmp_path):
    _, root = provider
    folder = tmp_path / "recorded"
    record(f"{root}/dstack/v1", folder, model=MODEL, dialect="dstack", verifier=endorsed)
    text = everything(folder)
    for word in ("SECRET", "ookie", "Authorization", "X-Api-Key"):
        assert word not in text
    for file in folder.glob("*.http.json"):
        head = json.loads(file.read_text())
        assert set(head) <= {"method", "url", "status", "headers", "peer_spki_sha256"}
        assert {name.lower() for name in head["headers"]} <= {"content-type"}


def test_each_recording_asks_anew(provider, endorsed, tmp_path):
    shown, root = provider
    for name in ("one", "two"):
        record(f"{root}/dstack/v1", tmp_path / name, dialect="dstack", verifier=endorsed)
    nonces = [query["nonce"] for _, query, _ in shown.asked]
    assert len(set(nonces)) == len(nonces) == 2
    assert all("authorization" not in {n.lower() for n in headers} for *_, headers in shown.asked)


def test_what_is_asked_is_the_dialects(provider, endorsed, tmp_path):
    shown, root = provider
    record(f"{root}/near/v1", tmp_path / "near", dialect="near", verifier=endorsed)
    (_, query, _) = shown.asked[0]
    assert (query["signing_algo"], query["include_tls_fingerprint"]) == ("ecdsa", "true")
    record(f"{root}/nanogpt/api/v1", tmp_path / "nano", dialect="nanogpt", verifier=endorsed)
    assert set(shown.asked[1][1]) == {"nonce"}


def test_a_folder_that_is_in_use(provider, endorsed, tmp_path):
    _, root = provider
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    for folder in (tmp_path / "used", tmp_path / "used/file"):
        with pytest.raises(ConfigurationError):
            record(f"{root}/dstack/v1", folder, dialect="dstack", verifier=endorsed)


def test_what_is_no_report_is_not_kept(provider, endorsed, tmp_path):
    shown, root = provider
    with pytest.raises(EndpointUnavailable):
        record(f"{root}/nowhere/v1", tmp_path / "a", dialect="dstack", verifier=endorsed)
    shown.endpoint.model_report = lambda **_: {}
    with pytest.raises(MalformedEvidence):
        record(f"{root}/nanogpt/api/v1", tmp_path / "b", dialect="nanogpt", verifier=endorsed)
    assert not list((tmp_path / "a").iterdir())


def test_a_recorded_key_of_the_connection(tmp_path, stage):
    """The fingerprint alone says as much as the key, and must agree with it."""
    spki = stage.endpoint.gateway
    folder = stage.capture()
    (file,) = folder.glob("*_report.http.json")
    head = json.loads(file.read_text())
    del head["peer_spki_der_base64"]
    for fingerprint, code in ((spki.tls_fingerprint.hex(), 0), ("00" * 32, 2)):
        file.write_text(json.dumps({**head, "peer_spki_sha256": fingerprint}))
        assert stage.appraise(folder).exit_code == code
    both = stage.capture()
    (file,) = both.glob("*_report.http.json")
    head = json.loads(file.read_text())
    file.write_text(json.dumps({**head, "peer_spki_sha256": "00" * 32}))
    with pytest.raises(MalformedEvidence):
        stage.appraise(both)


def test_the_command(provider, tmp_path, capsys):
    shown, root = provider
    folder = tmp_path / "recorded"
    place = [f"{root}/dstack/v1", str(folder), "--dialect", "dstack"]
    assert main(["capture", *place, "--model", MODEL]) == 0
    out = capsys.readouterr().out
    assert "nothing was verified" in out
    assert "teeverify verify" in out
    roots = tmp_path / "roots.pem"
    roots.write_bytes(shown.endpoint.roots_pem())
    arguments = ["--unsafe-test-roots", str(roots), "--offline", "--dialect", "dstack"]
    assert main(["verify", str(folder), *arguments]) == 0
    assert main(["capture", *place]) == 64
    assert main(["capture", f"{root}/nowhere/v1", str(tmp_path / "x")]) == 3


# --- Phala's plain answers -----------------------------------------------------------------------


LIVE = Policy.genuine().replace(require={"gpu.measurements": "note", "gpu.revocation": "note"})


def test_phalas_signed_form_is_handed_over_and_kept(provider, endorsed, tmp_path):
    openai = pytest.importorskip("openai")
    assert openai
    from teeverify import OpenAI

    shown, root = provider
    with OpenAI(
        base_url=f"{root}/phala/v1", api_key="key", dialect="phala", policy=LIVE,
        roots=shown.endpoint.roots(), endorsements=tmp_path / "endorsements",
    ) as client:  # fmt: skip
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "Two and two?"}]
        )
        assert raw.content == shown.signed
        assert raw.parse().choices[0].message.content == "Vier, gr\u00fc\u00dfe."
        receipt = client.receipts.last
    assert receipt.parts.response.raw == shown.signed
    found = receipt.result.finding("response.hash-equal")
    assert (found.outcome.value, found.severity.value) == ("proven", "warns")
    receipt.save(tmp_path / "receipt.json", include="bytes")
    again = Verifier(offline=True, roots=shown.endpoint.roots(), policy=LIVE).appraise(
        tmp_path / "receipt.json"
    )
    assert again.finding("response.hash-equal").severity.value == "informs"
    assert again.finding("answer.signature").outcome.value == "proven"


def test_another_dialect_accepts_no_other_form(provider, endorsed, tmp_path):
    shown, root = provider
    session = connect(
        f"{root}/dstack/v1", dialect="dstack", policy=LIVE, roots=shown.endpoint.roots(),
        endorsements=tmp_path / "endorsements",
    )  # fmt: skip
    request = b'{"model": "simulated/tiny-1"}'
    answer = shown.complete(request)
    with pytest.raises(ResponseNotVerified) as caught:
        session.verify_response(request=request, response=answer, signature=shown.signature)
    assert caught.value.id == "response.hash-equal"
    kept = session.verify_response(
        request=request, response=shown.signed, signature=shown.signature
    )
    assert kept.result.satisfied
