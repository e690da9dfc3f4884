"""``teeverify demo``: `make demo` runs all of it in CI; here one attack, and what it leaves."""

from __future__ import annotations

import importlib.util

import pytest

from teeverify.cli import demo

pytestmark = pytest.mark.network
NEEDED = [name for name in demo._NEEDED if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(NEEDED), reason=f"{', '.join(NEEDED)} not installed")
def test_the_kept_receipt_verifies(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_ATTACKS", {"tampered-answer": "One byte is changed."})
    ran = cli("demo", "--keep", tmp_path / "kept")
    assert ran.code == 0, ran.out
    assert ran.out.count("exit code 2") == 2  # the vendors' roots refuse it too
    command = ran.out.splitlines()[-1].split()
    assert command[:2] == ["teeverify", "verify"]
    again = cli(*command[1:])
    assert again.code == 0
    assert again.out.startswith("SIMULATED. ")


def test_an_attack_that_is_not_refused_is_said(capsys):
    assert demo._is_refused("Nothing is wrong.", lambda: None) is False
    assert "NOT REFUSED" in capsys.readouterr().out


def test_what_lacks_is_said(cli, monkeypatch):
    monkeypatch.setattr(demo, "_NEEDED", ("no_such_package",))
    ran = cli("demo")
    assert (ran.code, ran.out) == (64, "")
    assert "pip install 'teeverify[openai,server]'" in ran.err


@pytest.mark.skipif(bool(NEEDED), reason=f"{', '.join(NEEDED)} not installed")
def test_a_folder_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    ran = cli("demo", "--keep", tmp_path / "file")
    assert ran.code == 64
    assert "the folder cannot be made" in ran.err
