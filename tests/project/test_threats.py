"""The table of threats: no line is missing, and every check and test that it names exists."""

from __future__ import annotations

import re

import pytest

from teeverify.appraisal.checks.catalog import CATALOG

_LINE = re.compile(r"\| (T\d\d) \| [^|]+ \| ([^|]+) \| ([^|]+) \|")
_NAMES = re.compile(r"`([^`]+)`")
_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)\(", re.MULTILINE)
_BY_SUBJECT = ((1, 8), (10, 19), (20, 27), (30, 36), (40, 53), (60, 72))


@pytest.fixture(scope="module")
def lines(repository):
    text = (repository / "docs/threats.md").read_text(encoding="utf-8")
    return _LINE.findall(text)


def test_no_threat_is_missing(lines):
    numbers = [number for first, last in _BY_SUBJECT for number in range(first, last + 1)]
    assert [name for name, _, _ in lines] == [f"T{number:02}" for number in numbers]


def test_every_check_exists(lines):
    named = {name for _, checks, _ in lines for name in _NAMES.findall(checks)}
    assert named
    assert named <= set(CATALOG)


def test_every_test_exists(lines, repository):
    known: dict[str, set[str]] = {}
    for threat, _, tests in lines:
        named = _NAMES.findall(tests)
        assert named, threat
        for one in named:
            file, _, name = one.partition("::")
            if file not in known:
                text = (repository / "tests" / file).read_text(encoding="utf-8")
                known[file] = set(_TEST.findall(text))
            assert name in known[file], (threat, one)
