"""Writes the pages that are made from the code: docs/checks.md and docs/presets.md."""

from __future__ import annotations

from pathlib import Path

from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.appraisal.presets import PARAMETERS, ROWS
from teeverify.encoding.checks import Check

_CHECKS_INTRO = """\
# Checks

Everything that teeverify checks, by the claim that it decides. The id is what a finding and an
error carry, and what `teeverify explain ID` takes. A check that is not a row of
{doc}`the presets <presets>` must always pass: no policy can relax it.
"""
_PRESETS_INTRO = """\
# The presets, row by row

Printed from the table that the program uses; `teeverify policy show strict` prints the same. What
the levels mean is on the page {doc}`policy`.
"""


def anchors() -> list[str]:
    """The anchors that errors and findings link to on the page of checks."""
    return [_anchor(check_id) for check_id in CATALOG]


def _anchor(check_id: str) -> str:
    return check_id.replace(".", "-")


def checks_page() -> str:
    """The page of all checks, grouped by claim."""
    parts = [_CHECKS_INTRO]
    for claim, question in CLAIM_QUESTIONS.items():
        parts.append(f"(claim-{claim})=\n## `{claim}`: {question}\n")
        parts += [_entry(check) for check in CATALOG.values() if check.claim == claim]
    return "\n".join(parts)


def _entry(check: Check) -> str:
    return (
        f"({_anchor(check.id)})=\n### `{check.id}`\n\n"
        f"A pass proves: {check.proves}\n\nIf it fails: {check.fix}\n"
    )


def presets_page() -> str:
    """The page of what each preset demands."""
    rows = [
        f"| [`{row.id}`](checks.md#{_anchor(row.id)}) | {row.asks} | {row.genuine} | {row.strict} "
        f"| {row.floor} |"
        for row in ROWS
    ]
    values = [
        f"| `{parameter.name}` | {parameter.asks} | {_value(parameter.genuine)} "
        f"| {_value(parameter.strict)} |"
        for parameter in PARAMETERS
    ]
    return "\n".join([
        _PRESETS_INTRO,
        "## What is demanded of each check\n",
        "| check | what is asked | `genuine` | `strict` | your policy, at least |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "\n## The values that checks compare with\n",
        "| parameter | meaning | `genuine` | `strict` |",
        "| --- | --- | --- | --- |",
        *values,
        "",
    ])  # fmt: skip


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not said" if value is None else str(value)


def write_pages(folder: Path) -> None:
    """Write both pages into the folder of the docs, if they changed."""
    for name, text in {"checks.md": checks_page(), "presets.md": presets_page()}.items():
        page = folder / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
