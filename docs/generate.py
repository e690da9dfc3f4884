"""Writes the pages that are made from the code: docs/checks.md, presets.md and layouts.md."""

from __future__ import annotations

from pathlib import Path

from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.checks.problems import PROBLEMS
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.appraisal.presets import PARAMETERS, ROWS
from teeverify.binding import LAYOUTS, PAIRS, WORDS
from teeverify.encoding.checks import Check, Problem

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
_LAYOUTS_INTRO = """\
# Layouts of report_data

Printed from the table that the program uses. All 64 bytes are compared. A layout is chosen by the
dialect and by what was requested, never by a field of the answer, and none is tried in turn; the
one exception, three spellings of a log that is hashed, is written down in {doc}`decisions`.

How GPU evidence is tied: *same-nonce* means that the GPUs answered the same nonce, or one that
follows from what the quote binds, so that GPUs elsewhere could have answered it too;
*hash-in-quote* means that the quote binds the evidence itself. That a GPU sits in the machine is
the measured code's word in any case.

"""


def anchors() -> list[str]:
    """The anchors that errors and findings link to on the page of checks."""
    return [_anchor(each) for each in (*CATALOG, *PROBLEMS)]


def _anchor(check_id: str) -> str:
    return check_id.replace(".", "-")


def checks_page() -> str:
    """The page of all checks, grouped by claim."""
    parts = [_CHECKS_INTRO]
    for claim, question in CLAIM_QUESTIONS.items():
        parts.append(f"(claim-{claim})=\n## `{claim}`: {question}\n")
        parts += [_entry(check) for check in CATALOG.values() if check.claim == claim]
    parts.append("## Errors that are no failed check\n")
    parts += [_problem(problem) for problem in PROBLEMS.values()]
    return "\n".join(parts)


def _entry(check: Check) -> str:
    return (
        f"({_anchor(check.id)})=\n### `{check.id}`\n\n"
        f"A pass proves: {check.proves}\n\nIf it fails: {check.fix}\n"
    )


def _problem(problem: Problem) -> str:
    return (
        f"({_anchor(problem.id)})=\n### `{problem.id}`\n\n"
        f"It means: {problem.means}\n\nWhat to do: {problem.fix}\n"
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


def layouts_page() -> str:
    """The page of what each layout commits to, and of which dialect shows which."""
    rows = [
        f"| `{layout.id}` | {layout.text} | {', '.join(WORDS[name] for name in layout.binds)} "
        f"| {layout.gpu_link} |"
        for layout in LAYOUTS.values()
    ]
    pairs = [
        f"| `{dialect}` | {', '.join(f'`{name}`' for name in names) or 'none'} |"
        for dialect, names in PAIRS.items()
    ]
    return "\n".join([
        _LAYOUTS_INTRO,
        "| layout | the 64 bytes | binds | GPU evidence |",
        "| --- | --- | --- | --- |",
        *rows,
        "\n## Which dialect shows which\n",
        "`hcl` belongs to no dialect: Azure's envelope is recognised by itself.\n",
        "| dialect | layouts |",
        "| --- | --- |",
        *pairs,
        "",
    ])  # fmt: skip


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not said" if value is None else str(value)


def write_pages(folder: Path) -> None:
    """Write the pages into the folder of the docs, if they changed."""
    pages = {
        "checks.md": checks_page(),
        "presets.md": presets_page(),
        "layouts.md": layouts_page(),
    }
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
