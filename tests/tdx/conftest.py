"""A forge of the right size for TDX tests: one fake Intel, and one call to verify what it made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from teeverify import tdx
from teeverify.clock import UTC
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.intel import Intel

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=UTC)


@dataclass(frozen=True)
class Forge:
    """A fake Intel whose quotes and endorsements verify together unless told otherwise."""

    intel: Intel

    @property
    def at(self) -> datetime:
        return self.intel.at

    @property
    def roots(self) -> UnsafeTestRoots:
        return UnsafeTestRoots([self.intel.roots_pem()])

    def endorsements(
        self, changes: Mapping[str, str | None] | None = None, **overrides: Any
    ) -> tdx.Endorsements:
        form = {**self.intel.collateral(**overrides), **(changes or {})}
        return tdx.Endorsements.load(json.dumps(form))

    def verify(
        self,
        raw: bytes | None = None,
        endorsements: tdx.Endorsements | None = None,
        **options: Any,
    ) -> tdx.Claims:
        return tdx.verify_quote(
            self.intel.quote() if raw is None else raw,
            self.endorsements() if endorsements is None else endorsements,
            **{"at": self.at, "roots": self.roots, **options},
        )


@pytest.fixture(scope="session")
def forge() -> Forge:
    return Forge(Intel(at=AT))


@pytest.fixture(scope="session")
def make_forge():
    """Make a forge of its own, with overrides of the fake Intel."""

    def make(**overrides: Any) -> Forge:
        return Forge(Intel(**{"at": AT, **overrides}))

    return make
