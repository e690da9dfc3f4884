"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def required() -> frozenset[str]:
    """Real parts whose absence is a failure here (CI sets TEEVERIFY_REQUIRE)."""
    return frozenset(filter(None, os.environ.get("TEEVERIFY_REQUIRE", "").split(",")))


def skip_or_fail(part: str, reason: str) -> None:
    """Skip where a real part is optional, fail where CI requires it."""
    if part in required():
        pytest.fail(f"{part} is required here: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of recorded real evidence."""
    folder = Path(os.environ.get("TEEVERIFY_VECTORS", REPOSITORY / "../shared/vectors"))
    if not folder.is_dir():
        skip_or_fail("vectors", f"no recorded evidence at {folder} (TEEVERIFY_VECTORS)")
    return folder


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a network (law 5); those marked ``network`` may reach this machine."""
    local_allowed = request.node.get_closest_marker("network") is not None

    def guard(owner: object, name: str, place: int) -> None:
        original = getattr(owner, name)

        def guarded(*args: object, **kwargs: object) -> object:
            address = args[place] if args else kwargs.get("host")
            if local_allowed and _is_local(address):
                return original(*args, **kwargs)
            # What this raises cannot be swallowed by an `except Exception` in the code under test.
            pytest.fail(f"a test without permission used the network: {name} {address!r}")

        monkeypatch.setattr(owner, name, guarded)

    for method in ("connect", "connect_ex", "sendto"):
        guard(socket.socket, method, -1)
    for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        guard(socket, function, 0)


def _is_local(address: object) -> bool:
    """Whether an address, host name or path of a unix socket is of this machine."""
    host = address[0] if isinstance(address, tuple) else address
    return host in ("localhost", "127.0.0.1", "::1", None) or str(host).startswith("/")
