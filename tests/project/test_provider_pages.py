"""The page of each provider: every dialect and layout has one, and its example runs."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from teeverify.binding import LAYOUTS
from teeverify.providers import DIALECTS

_BLOCKS = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
PAGES = (
    "0g", "azure", "chutes", "nanogpt", "near", "near-ita", "nillion", "opengradient", "panda",
    "phala", "secretvm", "tinfoil", "venice",
)  # fmt: skip


@pytest.fixture(scope="module")
def pages(repository):
    return {
        page.stem: page.read_text(encoding="utf-8")
        for page in (repository / "docs/providers").glob("*.md")
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_has_a_page(pages, dialect):
    assert any(f"`{dialect}`" in text for text in pages.values())


@pytest.mark.parametrize("page", PAGES)
def test_each_page_says_what_it_must(pages, page):
    text = pages[page]
    for words in ("**The exact bytes**", "**What it proves.**", "**What it cannot.**"):
        assert words in text
    assert _BLOCKS.search(text)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_a_page(pages, layout):
    assert any(f"`{layout}`" in text for text in pages.values())


@pytest.mark.vectors
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(pages, page, vectors, monkeypatch):
    """On the recorded answers: each printed line is the one on the page, up to an ellipsis."""
    if page == "tinfoil":
        pytest.importorskip("sigstore", reason="the extra [sigstore] is not installed")
    monkeypatch.setenv("TEEVERIFY_VECTORS", str(vectors))
    for code, expected in _BLOCKS.findall(pages[page]):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"docs/providers/{page}.md", "exec"), {})  # noqa: S102 -- our own docs
        got, want = printed.getvalue().splitlines(), expected.splitlines()
        assert len(got) == len(want)
        for line, shown in zip(got, want, strict=True):
            start, ellipsis, _ = shown.partition("…")
            assert line.startswith(start) if ellipsis else line == start
