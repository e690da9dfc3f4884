"""A forge of the right size for SEV-SNP tests: one fake AMD a product, with shared CA keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from teeverify import snp
from teeverify.clock import UTC
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.amd import Amd, AmdKeys

AT = datetime(2026, 9, 1, tzinfo=UTC)
PRODUCTS = ("Milan", "Genoa", "Turin")


@dataclass(frozen=True)
class Forge:
    """A fake AMD whose reports and endorsements verify together unless told otherwise."""

    amd: Amd

    @property
    def roots(self) -> UnsafeTestRoots:
        return UnsafeTestRoots([self.amd.roots_pem()])

    def verify(
        self,
        raw: bytes | None = None,
        endorsements: snp.Endorsements | None = None,
        **options: Any,
    ) -> snp.Claims:
        return snp.verify_report(
            self.amd.report() if raw is None else raw,
            self.amd.endorsements() if endorsements is None else endorsements,
            **{"at": AT, "roots": self.roots, **options},
        )


@pytest.fixture(scope="session")
def keys() -> AmdKeys:
    """Keys of the CAs; they take seconds to make, so there is one set for the whole run."""
    return AmdKeys.new()


@pytest.fixture(scope="session")
def make_forge(keys):
    """Make a forge of its own, with overrides of the fake AMD."""

    def make(**overrides: Any) -> Forge:
        return Forge(Amd(**{"at": AT, "keys": keys, **overrides}))

    return make


@pytest.fixture(scope="session")
def forges(make_forge):
    return {product: make_forge(product=product) for product in PRODUCTS}


@pytest.fixture(scope="session")
def forge(forges):
    return forges["Milan"]


@pytest.fixture(params=PRODUCTS)
def each(request, forges):
    """The forge of every product in turn."""
    return forges[request.param]
