"""A fake NVIDIA for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from teeverify import nvidia
from teeverify.errors import TeeVerifyError
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.nvidia import Nvidia

NONCE = bytes(range(32))
AT = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="session")
def nonce() -> bytes:
    return NONCE


@pytest.fixture(scope="session")
def at() -> datetime:
    return AT


@pytest.fixture(scope="session")
def vendor() -> Nvidia:
    return Nvidia()


@pytest.fixture(scope="session")
def roots(vendor: Nvidia) -> UnsafeTestRoots:
    return UnsafeTestRoots([vendor.roots_pem()])


@pytest.fixture(scope="session")
def verify(roots: UnsafeTestRoots) -> Callable[..., nvidia.Claims]:
    """Verify entries under the test roots, now and for our nonce unless said otherwise."""

    def run(entries: Any, **arguments: Any) -> nvidia.Claims:
        given = {"nonce": NONCE, "at": AT, "roots": roots, **arguments}
        return nvidia.verify_evidence(entries, **given)

    return run


@pytest.fixture(scope="session")
def refused(verify) -> Callable[..., TeeVerifyError]:
    """Demand that entries are refused with this class and check id; give the error."""

    def run(entries: Any, error: type[TeeVerifyError], check: str, **arguments: Any):
        with pytest.raises(TeeVerifyError) as caught:
            verify(entries, **arguments)
        assert (type(caught.value), caught.value.id) == (error, check), caught.value
        assert check in {item.id for item in nvidia.CHECKS}
        return caught.value

    return run


@pytest.fixture(scope="session")
def entries(vendor, nonce):
    return vendor.evidence_list(nonce, 2)


@pytest.fixture(scope="session")
def devices(verify, entries):
    return verify(entries).devices


@pytest.fixture(scope="session")
def check(devices, nonce, at, roots):
    def run(answer: bytes, jwks: bytes, **arguments) -> nvidia.NrasClaims:
        given = {"nonce": nonce, "devices": devices, "at": at, "roots": roots, **arguments}
        return nvidia.verify_answer(answer, jwks, **given)

    return run


@pytest.fixture(scope="session")
def ask(check, vendor, entries, nonce, at):
    """Have NRAS answer with something overridden, and verify that."""

    def run(arguments: dict | None = None, **overrides) -> nvidia.NrasClaims:
        return check(*vendor.nras_answer(entries, nonce, at, **overrides), **(arguments or {}))

    return run


@pytest.fixture(scope="session")
def no(ask):
    """Demand that such an answer is refused with this class and check id."""

    def run(want: type[TeeVerifyError], check_id: str, *args, **overrides) -> TeeVerifyError:
        with pytest.raises(TeeVerifyError) as caught:
            ask(*args, **overrides)
        assert (type(caught.value), caught.value.id) == (want, check_id), caught.value
        assert check_id in {item.id for item in nvidia.NRAS_CHECKS}
        return caught.value

    return run
