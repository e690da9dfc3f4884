"""What this system brings for TLS, for whoever wants to know. Opens nothing."""

from __future__ import annotations

import ssl

__all__ = ["system_authorities", "tls_library"]


def tls_library() -> str:
    """The library and its version."""
    return ssl.OPENSSL_VERSION


def system_authorities() -> str | None:
    """Where the system keeps its certificate authorities; ``None`` if it keeps none."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath
