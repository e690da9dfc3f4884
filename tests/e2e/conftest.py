"""The command line as a function, and recordings with one thing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from teeverify.cli.main import main


@dataclass(frozen=True)
class Ran:
    """One command that ran."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The first sentence, whole."""
        return " ".join(self.out.partition("\nAs of")[0].split())

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    def findings(self, check: str) -> list[dict[str, Any]]:
        return [f for f in self.json["findings"] if f["id"] == check]


@pytest.fixture
def cli(capsys) -> Callable[..., Ran]:
    """Run the command line in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        assert code != 70, captured.err
        return Ran(code, captured.out, captured.err)

    return run


@dataclass(frozen=True)
class Recording:
    """A copy of a recorded directory that can be changed."""

    folder: Path

    @property
    def report_file(self) -> Path:
        (found,) = [
            *self.folder.glob("*attestation_report.body"),
            *self.folder.glob("*tee_attestation.body"),
            *self.folder.glob("0001_report.body"),
        ]
        return found

    def report(self) -> dict[str, Any]:
        return json.loads(self.report_file.read_bytes())

    def node(self, report: dict[str, Any]) -> dict[str, Any]:
        """The model's own report."""
        return report["model_attestations"][0] if "model_attestations" in report else report

    def edit(self, change: Callable[[dict[str, Any]], object]) -> Path:
        """Change the model's report in place."""
        report = self.report()
        change(self.node(report))
        return self.write(report)

    def write(self, report: object) -> Path:
        self.report_file.write_text(json.dumps(report))
        return self.folder

    def manifest(self, **changes: object) -> Path:
        file = self.folder / "manifest.json"
        members = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({k: v for k, v in members.items() if v is not None}))
        return self.folder

    def url(self, change: Callable[[str], str]) -> Path:
        """Change the URL under which the report was recorded."""
        file = self.report_file.with_suffix("").with_suffix(".http.json")
        head = json.loads(file.read_text())
        file.write_text(json.dumps({**head, "url": change(head["url"])}))
        return self.folder


@pytest.fixture
def copy(tmp_path) -> Callable[[Path], Recording]:
    """Copy a recording, without exchanges that no dialect reads."""

    def make(source: Path) -> Recording:
        number = len(list(tmp_path.iterdir()))
        folder = tmp_path / f"{source.name}-{number}"
        ignored = shutil.ignore_patterns("*rekor*", "*trust-server*")
        return Recording(shutil.copytree(source, folder, ignore=ignored))

    return make
