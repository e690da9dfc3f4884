"""Fake providers whose evidence binds the keys of a channel, and a verifier under their roots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from teeverify.appraisal import AttestationResult, Policy
from teeverify.client import Verifier
from teeverify.clock import UTC
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Recorded
from teeverify.simulator.amd import AmdKeys
from teeverify.simulator.channels import Channels, Shown

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=UTC)


@dataclass
class Field:
    """What the tests of these providers do: record, read, appraise."""

    channels: Channels
    folder: Path
    captures: int = 0

    def capture(self, shown: Shown, **options: Any) -> Path:
        self.captures += 1
        return self.channels.capture(self.folder / f"capture{self.captures}", shown, **options)

    def appraise(
        self,
        shown: Shown,
        *,
        policy: Any = None,
        dialect: str | None = None,
        asked: Any = None,
        **options: Any,
    ) -> AttestationResult:
        """Record and appraise; GPU firmware is not asked for unless a policy says so."""
        options = {"nras": None, **options}
        folder = self.capture(shown, **options)
        verifier = Verifier(
            roots=self.channels.roots(), offline=True, policy=policy or self.policy()
        )
        return verifier.appraise(folder, dialect=dialect or shown.dialect, **(asked or {}))

    @staticmethod
    def policy(**sections: Any) -> Policy:
        """``genuine``, but without a word on the GPUs' firmware."""
        require = {"gpu.measurements": "note", **sections.pop("require", {})}
        return Policy.genuine().replace(require=require, **sections)

    @staticmethod
    def read(shown: Shown, **changes: Any) -> Any:
        """Read without a directory."""
        dialect = DIALECTS[shown.dialect]
        first = shown.exchanges[0]
        names = list(dialect.beside)
        recorded = Recorded(
            path=dialect.report_path,
            query=first.query,
            body=first.body,
            peer_spki_sha256=None,
            beside={
                name: each.body for name, each in zip(names, shown.exchanges[1:], strict=False)
            },
        )
        return dialect.read(replace(recorded, **changes))


def failed(result: AttestationResult) -> set[str]:
    """The checks that refuse."""
    return {f.id for f in result.findings if f.severity.value == "refuses"}


def outcome(result: AttestationResult, check: str, subject: str | None = None) -> str:
    """How one check is known."""
    return result.finding(check, subject).outcome.value


@pytest.fixture(scope="session")
def field(tmp_path_factory) -> Field:
    channels = Channels(at=AT, amd_keys=AmdKeys.new())
    assert channels.amd  # so that its root is among the roots from the start
    return Field(channels=channels, folder=tmp_path_factory.mktemp("field"))
