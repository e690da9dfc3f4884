"""The command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from teeverify.cli.main import main


@dataclass(frozen=True)
class Ran:
    """One command that ran."""

    code: int
    out: str
    err: str


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
        return Ran(code, captured.out, captured.err)

    return run
