"""Checks, claims and presets agree with each other, and with the docs made of them."""

from __future__ import annotations

import importlib.util

import pytest

from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.observation import CLAIM_NAMES
from teeverify.appraisal.presets import PARAMETERS, ROWS


@pytest.fixture(scope="module")
def generate(repository):
    spec = importlib.util.spec_from_file_location("generate", repository / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_check_belongs_to_one_of_the_twelve_claims():
    assert len(CLAIM_NAMES) == 12
    assert {check.claim for check in CATALOG.values()} <= set(CLAIM_NAMES)


def test_every_row_of_the_presets_is_a_check():
    assert [row.id for row in ROWS if row.id not in CATALOG] == []


def test_ids_make_distinct_anchors(generate):
    assert len(set(generate.anchors())) == len(CATALOG)


@pytest.mark.parametrize("check", CATALOG.values(), ids=lambda check: check.id)
def test_every_check_says_what_it_proves_and_what_to_do(check):
    for sentence in (check.proves, check.fix):
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_the_docs_have_every_check_row_and_parameter(generate):
    checks, presets = generate.checks_page(), generate.presets_page()
    assert [check_id for check_id in CATALOG if f"### `{check_id}`" not in checks] == []
    assert [row.id for row in ROWS if f"| [`{row.id}`]" not in presets] == []
    assert [each.name for each in PARAMETERS if f"| `{each.name}` |" not in presets] == []


def test_errors_link_to_the_anchors(generate):
    from teeverify.errors import EvidenceError

    links = {EvidenceError("x", id=check_id).docs for check_id in CATALOG}
    assert links == {f"checks.html#{anchor}" for anchor in generate.anchors()}
