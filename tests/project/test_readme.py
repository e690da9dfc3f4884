"""The README's snippets, run as a reader would (conventions: docs/contributing.md)."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(
    r"^(?P<note><!-- not run: [^\n]+ -->\n)?^```(?P<kind>python|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
EVIDENCE = "../shared/vectors"
WRONG_USE_OR_BUG = (64, 70)


@dataclass(frozen=True)
class Command:
    """One command of a console block, and what the block shows below it."""

    line: str
    shown: str


def blocks(kind: str) -> list:
    """The texts of all blocks of a kind that are to be run, each with its line as the test's id."""
    if not README.exists():
        return []
    readme = README.read_text(encoding="utf-8")
    return [
        pytest.param(
            match["text"],
            id=f"line-{readme.count(chr(10), 0, match.start()) + 1}",
            marks=[pytest.mark.vectors] if EVIDENCE in match["text"] else [],
        )
        for match in BLOCK.finditer(readme)
        if match["kind"] == kind and not match["note"]
    ]


def commands(block: str) -> list[Command]:
    """Cut a console block into its commands."""
    joined = re.sub(r"\\\n(> )?\s*", " ", block)
    pieces = re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]
    return [Command(*(piece.partition("\n")[::2])) for piece in pieces]


@pytest.fixture
def evidence(request):
    """Puts the recorded evidence's real folder into a snippet that reads it."""

    def put(snippet: str) -> str:
        if EVIDENCE not in snippet:
            return snippet
        return snippet.replace(EVIDENCE, str(request.getfixturevalue("vectors").resolve()))

    return put


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block, evidence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = compile(evidence(block), "README.md", "exec")
    exec(code, {"__name__": "__main__"})  # noqa: S102 -- our own README


@pytest.mark.parametrize("block", blocks("console"))
def test_console(block, evidence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_console(block, evidence, capsys)


def run_console(block, evidence, capsys):
    from teeverify.cli.main import main

    status = 0
    for command in commands(block):
        if command.line == "echo $?" and command.shown.strip():
            assert status == int(command.shown)
        if not command.line.startswith("teeverify "):
            continue
        status = main(shlex.split(evidence(command.line), comments=True)[1:])
        printed = capsys.readouterr()
        assert status not in WRONG_USE_OR_BUG, printed.err
        assert_begins(printed.out, command.shown)


def assert_begins(printed: str, shown: str) -> None:
    """The output begins as shown; a `…` stands for any text, and line breaks for spaces."""
    pieces = [" ".join(piece.split()) for piece in shown.split("…")]
    rest = " ".join(printed.split())
    assert rest.startswith(pieces[0])
    for piece in pieces:
        assert piece in rest
        rest = rest.partition(piece)[2] if piece else rest


def test_there_are_snippets_to_run():
    assert blocks("python")
    assert any("$ teeverify " in block.values[0] for block in blocks("console"))


def test_a_console_block_is_cut_into_commands():
    block = (
        "$ teeverify verify x \\\n    --offline   # why\nGenuine, …\n$ echo $?\n0\n$ make demo\n"
    )
    assert [(c.line.split()[-1], c.shown) for c in commands(block)] == [
        ("why", "Genuine, …\n"),
        ("$?", "0\n"),
        ("demo", ""),
    ]


def test_output_that_differs_from_the_readme_is_found():
    assert_begins("Genuine, but you\nhave not", "Genuine, but you have …")
    assert_begins("Genuine, but 12…34 is\nold: one, two, three", "Genuine, … is old: … three")
    for wrong in ("Genuine, but", "Refused: … he", "Refused: … was … it", "… it … it"):
        with pytest.raises(AssertionError):
            assert_begins("Refused: it was", wrong)
