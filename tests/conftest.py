"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=timezone.utc)
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
def need() -> Callable[[str, str], None]:
    """Says that a real part is missing, and why: see ``skip_or_fail``."""
    return skip_or_fail


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of recorded real evidence."""
    folder = Path(os.environ.get("TEEVERIFY_VECTORS", REPOSITORY / "../shared/vectors"))
    if not folder.is_dir():
        skip_or_fail("vectors", f"no recorded evidence at {folder} (TEEVERIFY_VECTORS)")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what the user's own machine remembers."""
    monkeypatch.setenv("TEEVERIFY_CACHE", str(tmp_path_factory.mktemp("cache") / "kept"))


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


class Stage:
    """A simulated provider, and a verifier under its test roots."""

    def __init__(self, folder: Path, gpus: int = 2) -> None:
        from teeverify.simulator.endpoint import Endpoint

        self.folder = folder
        self.endpoint = Endpoint(at=AT, gpus=gpus)
        self.roots = self.endpoint.roots()
        self.roots_file = folder / "roots.pem"
        self.roots_file.write_bytes(self.endpoint.roots_pem())
        self.good = self.endpoint.capture(folder / "good")
        self.request = self.endpoint.request()
        self.answer = self.endpoint.answer()
        self._captures = 0

    def capture(self, **overrides: Any) -> Path:
        """A recording in a folder of its own; see ``Endpoint.capture``."""
        self._captures += 1
        return self.endpoint.capture(self.folder / f"capture{self._captures}", **overrides)

    def near(self, *, gateway: Any = None, model: Any = None, **overrides: Any) -> Path:
        """A recording of NEAR's gateway, with overrides of its two reports."""
        report = self.endpoint.near_report(gateway=gateway or {}, model=model or {})
        return self.capture(report=report, **overrides)

    def signed(self, **changes: Any) -> dict[str, bytes]:
        """A request, an answer and its signature, as arguments of ``appraise``."""
        request = changes.pop("request", self.request)
        answer = changes.pop("answer", self.answer)
        signature = self.endpoint.sign(request, answer, **changes)
        return {"request": request, "answer": answer, "signature": signature}

    def verifier(self, **options: Any) -> Any:
        """A verifier under the test roots, offline."""
        from teeverify.client import Verifier

        return Verifier(**{"roots": self.roots, "offline": True, **options})

    def appraise(
        self, source: Any = None, *, policy: Any = "genuine", endorsements: Any = (), **asked: Any
    ) -> Any:
        """A result; of the good recording, unless another source is given."""
        verifier = self.verifier(policy=policy, endorsements=endorsements)
        return verifier.appraise(self.good if source is None else source, **asked)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """One simulated provider for the whole run."""
    return Stage(tmp_path_factory.mktemp("stage"))
