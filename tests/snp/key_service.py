"""A fake AMD's key service on this machine, over TLS, which can be told to be busy."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from teeverify.clock import now
from teeverify.simulator.amd import Amd
from teeverify.simulator.authority import Authority

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KeyService"]

_HOST = "127.0.0.1"


class KeyService:
    """Answers what AMD's key service answers, for as long as it is entered.

    Args:
        vendors: The fake AMDs, one a product.
        folder: Where its TLS certificate and key are written.

    Attributes:
        base: ``https://HOST:PORT``.
        ca_file: PEM file of who vouches for it.
        asked: Paths and queries that were asked for, in order.
        busy: How many of the next questions are answered with 429.
    """

    def __init__(self, vendors: Iterable[Amd], folder: Path) -> None:
        self.asked: list[str] = []
        self.busy = 0
        known = tuple(vendors)
        service = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one question."""

            def do_GET(self) -> None:
                """Answer by the path of the URL."""
                service.asked.append(self.path)
                body = service.answer(self.path, known)
                busy, service.busy = service.busy > 0, max(service.busy - 1, 0)
                status = 429 if busy else 404 if body is None else 200
                sent = (body or b"") if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.ca_file = folder / "kds-ca.pem"
        self._server = ThreadingHTTPServer((_HOST, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(folder, self.ca_file))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.base = f"https://{_HOST}:{self._server.server_port}"

    @staticmethod
    def answer(path: str, vendors: Iterable[Amd]) -> bytes | None:
        """What the first of them that knows it answers."""
        found = (vendor.kds(path) for vendor in vendors)
        return next((body for body in found if body is not None), None)

    def __enter__(self) -> Self:
        """Start to answer."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to answer."""
        self._server.shutdown()
        self._server.server_close()


def _certificate(folder: Path, ca_file: Path) -> Path:
    """Write a CA's certificate, and a file with the server's certificate and key."""
    start, end = now() - timedelta(days=1), now() + timedelta(days=1)
    root = Authority.root("teeverify simulator TLS", not_before=start, not_after=end)
    name = x509.SubjectAlternativeName([x509.IPAddress(ip_address(_HOST))])
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
    server = root.issue(
        _HOST, not_before=start, not_after=end, extensions=[(name, False), (usage, False)]
    )
    key = server.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    ca_file.write_bytes(root.pem)
    own = folder / "kds.pem"
    own.write_bytes(server.pem + key)
    own.chmod(0o600)
    return own
