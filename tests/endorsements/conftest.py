"""Vendors' services on this machine, over TLS, that answer as they are told."""

from __future__ import annotations

import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_encode
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from teeverify.clock import now
from teeverify.simulator.intel import Intel
from teeverify.simulator.nvidia import Nvidia
from teeverify.simulator.nvidia_services import NvidiaServices


@dataclass
class Reply:
    """One answer: ``pause`` seconds between its bytes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0


class Pccs:
    """Answers by path; what was asked is kept."""

    def __init__(self, folder: Path) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.sent: list[dict[str, str]] = []
        self.ca_file = folder / "ca.pem"
        key_file = _certificate(folder, self.ca_file)
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                service.sent.append(dict(self.headers.items()))
                waiting = service.replies.get(urlsplit(self.path).path, [Reply(404)])
                reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                try:
                    for byte in range(0, len(reply.body), 1 if reply.pause else 1 << 20):
                        time.sleep(reply.pause)
                        step = 1 if reply.pause else 1 << 20
                        self.wfile.write(reply.body[byte : byte + step])
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                """Clients hang up on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, intel: Intel, **overrides: Any) -> None:
        """Answer as a PCCS that holds this fake Intel's collateral."""
        form = intel.collateral(**overrides)
        tee = json.loads(form["tcb_info"])["id"].lower()

        def signed(name: str, member: str, header: str) -> list[Reply]:
            text, signature = form[name], form[f"{name}_signature"]
            body = f'{{"{member}":{text},"signature":"{signature}"}}'.encode()
            return [
                Reply(body=body, headers={header: percent_encode(form[f"{name}_issuer_chain"])})
            ]

        self.replies = {
            f"/{tee}/certification/v4/tcb": signed("tcb_info", "tcbInfo", "TCB-Info-Issuer-Chain"),
            f"/{tee}/certification/v4/qe/identity": signed(
                "qe_identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"
            ),
            "/sgx/certification/v4/pckcrl": [Reply(body=bytes.fromhex(form["pck_crl"]))],
            "/tdx/certification/v4/tcbevaluationdatanumbers": [data_sets(intel)],
            "/sgx/certification/v4/rootcacrl": [Reply(body=form["root_ca_crl"].encode())],
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def data_sets(intel: Intel, **overrides: Any) -> Reply:
    """The answer about data sets."""
    body, chain = intel.evaluation_numbers(**overrides)
    header = "TCB-Evaluation-Data-Numbers-Issuer-Chain"
    return Reply(body=body, headers={header: percent_encode(chain)})


class NvidiaHost:
    """NVIDIA's services at one address, over real HTTP; what was asked is kept."""

    def __init__(self, folder: Path, services: NvidiaServices) -> None:
        self.services = services
        self.asked: list[str] = []
        self.sent: list[dict[str, str]] = []
        self.pause = 0.0
        self.ca_file = folder / "ca.pem"
        key_file = _certificate(folder, self.ca_file)
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET", b"")

            def do_POST(self) -> None:
                self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, method: str, body: bytes) -> None:
                host.asked.append(f"{method} {self.path}")
                host.sent.append(dict(self.headers.items()))
                made = host.services.reply(method, self.path, body)
                self.send_response(made.status)
                headers = {"Content-Type": made.content_type, **made.headers}
                for name, value in {"Content-Length": str(len(made.body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for byte in made.body if host.pause else [made.body]:
                        time.sleep(host.pause)
                        self.wfile.write(bytes([byte]) if host.pause else byte)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                """Clients hang up on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def counted(self) -> dict[str, int]:
        """How often each service was asked."""
        kinds = {"rim": "/v1/rim/", "jwks": "jwks.json", "nras": "/attest/"}
        found = dict.fromkeys([*kinds, "ocsp"], 0)
        for line in self.asked:
            found[next((name for name, part in kinds.items() if part in line), "ocsp")] += 1
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _certificate(folder: Path, certificate_file: Path) -> Path:
    """A certificate of this machine's name, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file = folder / "key.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return key_file


@pytest.fixture(scope="session")
def intel() -> Intel:
    """A fake Intel of now."""
    return Intel(at=now().replace(microsecond=0))


@pytest.fixture
def pccs(tmp_path, intel):
    folder = tmp_path / "pccs"
    folder.mkdir()
    service = Pccs(folder)
    service.serve(intel)
    yield service
    service.close()


@pytest.fixture
def reply():
    """Make one answer."""
    return Reply


@pytest.fixture(scope="session")
def vendor() -> Nvidia:
    """A fake NVIDIA of now."""
    return Nvidia(at=now())


@pytest.fixture
def nvidia_host(tmp_path, vendor):
    folder = tmp_path / "nvidia"
    folder.mkdir()
    host = NvidiaHost(folder, NvidiaServices(vendor))
    yield host
    host.close()
