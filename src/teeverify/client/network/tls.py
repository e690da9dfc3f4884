"""Which key is at the other end of a TLS connection.

What is compared is the key, not the certificate: SHA-256 of the SubjectPublicKeyInfo, as dialects
put it into their evidence. A name in a certificate says nothing about who holds the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.crypto.foreign import FOREIGN_ERRORS

__all__ = ["OtherKey", "fingerprint", "peer_of", "watch", "watch_in_loop"]


class OtherKey(Exception):
    """A new connection leads to a key that is not attested; nothing was written to it.

    Args:
        peer: The key's fingerprint; ``None`` where there is none.
    """

    def __init__(self, peer: bytes | None) -> None:
        super().__init__("another TLS key")
        self.peer = peer


def fingerprint(certificate: bytes) -> bytes | None:
    """SHA-256 of a certificate's SubjectPublicKeyInfo; ``None`` where it cannot be read."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except FOREIGN_ERRORS:
        return None
    return hashlib.sha256(spki).digest()


def peer_of(response: Any) -> bytes | None:  # noqa: ANN401 -- an answer of httpx2 or httpx
    """The key at the other end of the connection that brought an answer."""
    return _peer(response.extensions.get("network_stream"))


def _peer(stream: Any) -> bytes | None:  # noqa: ANN401 -- a connection of httpcore
    tls = None if stream is None else stream.get_extra_info("ssl_object")
    certificate = None if tls is None else tls.getpeercert(True)  # noqa: FBT003 -- some take it by place only
    return None if certificate is None else fingerprint(certificate)


class _Watch:
    """Looks at each new TLS connection to a host before anything is written to it.

    A proxy's own TLS connection is none to the host: what goes through it is encrypted once more.
    """

    def __init__(self, host: str, admitted: Callable[[bytes | None], bool]) -> None:
        self._host = host
        self._admitted = admitted
        self._to_host = False

    def refused(self, event: str, info: dict[str, Any]) -> Any:  # noqa: ANN401
        """The connection that must be closed, and with it the request; else ``None``."""
        if event.endswith("start_tls.started"):
            self._to_host = info.get("server_hostname") == self._host
        elif event.endswith("start_tls.complete") and self._to_host:
            stream = info["return_value"]
            return None if self._admitted(_peer(stream)) else stream
        return None


def watch(host: str, admitted: Callable[[bytes | None], bool]) -> Callable[..., None]:
    """What httpcore calls on its way, for blocking clients.

    Args:
        host: The endpoint's host.
        admitted: Whether a key may be talked to.
    """
    watched = _Watch(host, admitted)

    def trace(event: str, info: dict[str, Any]) -> None:
        stream = watched.refused(event, info)
        if stream is not None:
            peer = _peer(stream)
            stream.close()
            raise OtherKey(peer)

    return trace


def watch_in_loop(host: str, admitted: Callable[[bytes | None], bool]) -> Callable[..., Any]:
    """As :func:`watch`, for clients of an event loop."""
    watched = _Watch(host, admitted)

    async def trace(event: str, info: dict[str, Any]) -> None:
        """Called by the transport at each of its steps."""
        stream = watched.refused(event, info)
        if stream is not None:
            peer = _peer(stream)
            await stream.aclose()
            raise OtherKey(peer)

    return trace
