"""Checks, claims and presets agree with each other, and with the docs made of them."""

from __future__ import annotations

import ast
import importlib.util

import pytest

from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.checks.problems import PROBLEMS
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
    assert len(set(generate.anchors())) == len(CATALOG) + len(PROBLEMS)


@pytest.mark.parametrize("check", CATALOG.values(), ids=lambda check: check.id)
def test_every_check_says_what_it_proves_and_what_to_do(check):
    for sentence in (check.proves, check.fix):
        assert sentence[0].isupper()
        assert sentence.endswith(".")


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda problem: problem.id)
def test_every_error_says_what_it_means_and_what_to_do(problem):
    for sentence in (problem.means, problem.fix):
        assert sentence[0].isupper()
        assert sentence.endswith(".")


# What these calls name with ``id`` is no error.
NO_ERRORS = {"Check", "Dialect", "Form", "Identity", "Layout", "Problem", "RimFile", "Row"}
NOT_OURS = ("simulator/", "bench/", "testing/")


def test_every_error_that_is_raised_has_its_place_in_the_docs(modules):
    """An id in the source that is no check is one of the problems: else its link leads nowhere."""
    found = {
        (value, module.name)
        for module in modules
        if not module.name.startswith(NOT_OURS)
        for value in _ids(module)
    }
    known = {*CATALOG, *PROBLEMS}
    assert sorted(f"{value} in {name}" for value, name in found if value not in known) == []


def _ids(module):
    """The texts that calls give as ``id``, also by a constant of the module."""
    constants = {
        target.id: node.value.value
        for node in module.nodes[0].body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        for keyword in node.keywords:
            if keyword.arg == "id" and called not in NO_ERRORS:
                value = keyword.value
                if isinstance(value, ast.Constant):
                    yield value.value
                elif isinstance(value, ast.Name) and value.id in constants:
                    yield constants[value.id]


def test_the_docs_have_every_check_row_and_parameter(generate):
    checks, presets = generate.checks_page(), generate.presets_page()
    assert [check_id for check_id in CATALOG if f"### `{check_id}`" not in checks] == []
    assert [row.id for row in ROWS if f"| [`{row.id}`]" not in presets] == []
    assert [each.name for each in PARAMETERS if f"| `{each.name}` |" not in presets] == []


def test_errors_link_to_the_anchors(generate):
    from teeverify.errors import EvidenceError

    links = {EvidenceError("x", id=check_id).docs for check_id in (*CATALOG, *PROBLEMS)}
    assert links == {f"checks.html#{anchor}" for anchor in generate.anchors()}
