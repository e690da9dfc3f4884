"""A fake service of the simulator on this machine, over TLS."""

from __future__ import annotations

import ssl
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from teeverify.clock import now
from teeverify.simulator.amd_service import KeyService
from teeverify.simulator.authority import Authority

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TlsService"]

_HOST = "127.0.0.1"


class TlsService:
    """Answers what a fake service answers, for as long as it is entered.

    Args:
        service: From method and target to a reply.
        folder: Where its TLS certificate and key are written.

    Attributes:
        base: ``https://HOST:PORT``.
        ca_file: PEM file of who vouches for it.
    """

    def __init__(self, service: KeyService, folder: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            """Hands every request on."""

            def do_GET(self) -> None:
                """Answer."""
                reply = service(self.command, self.path)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_POST = do_GET  # noqa: N815 -- the name that the standard library looks for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.ca_file = folder / "kds-ca.pem"
        self._server = ThreadingHTTPServer((_HOST, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(folder, self.ca_file))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.base = f"https://{_HOST}:{self._server.server_port}"

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
