"""The report as one HTML file: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from teeverify.bench.document import Section, Table
from teeverify.bench.figures import draw
from teeverify.bench.report import compose
from teeverify.bench.results import Result
from teeverify.encoding.text import printable

__all__ = ["write_html"]

_STYLE = """
:root { color-scheme: light dark; --line: #d5d5d5; --accent: #3b6ea8; --quiet: #555 }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --accent: #7fa8d8; --quiet: #aaa }
  body { color: #e6e6e6; background: #161616 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: .85rem }
.wide { overflow-x: auto }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
th { color: var(--quiet); font-weight: 600 }
td { font-variant-numeric: tabular-nums }
p { max-width: 52rem }
svg { width: 100%; min-width: 40rem; max-width: 56rem; height: auto }
svg text { fill: currentColor }
h2 { margin-top: 2.5rem; border-bottom: 2px solid var(--accent) }
h3 { margin: 1.5rem 0 0; font-size: 1rem }
"""
_STRONG = re.compile(r"\*\*(.+?)\*\*")


def write_html(results: Sequence[Result], path: Path) -> None:
    """Write the report with its figures.

    Raises:
        ConfigurationError: The packages of ``[bench]`` are missing.
    """
    sections = compose(results)
    body = "\n".join(_section(section, level) for level, section in enumerate(sections))
    title = _text(sections[0].title)
    path.write_text(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>{body}</body></html>\n",
        encoding="utf-8",
    )


def _section(section: Section, level: int) -> str:
    tag = "h1" if level == 0 else "h2"
    parts = [f"<{tag}>{_text(section.title)}</{tag}>"]
    parts += [f"<p>{_paragraph(text)}</p>" for text in section.text]
    parts += [f"<div class='wide'>{draw(figure)}</div>" for figure in section.figures]
    parts += [_table(table) for table in section.tables]
    return "\n".join(parts)


def _paragraph(text: str) -> str:
    return _STRONG.sub(r"<strong>\1</strong>", _text(text))


def _text(text: str) -> str:
    return html.escape(printable(text, limit=len(text)))


def _table(table: Table) -> str:
    header = "".join(f"<th>{_text(cell)}</th>" for cell in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    title = f"<h3>{_text(table.title)}</h3>" if table.title else ""
    return (
        f"{title}<div class='wide'><table><thead><tr>{header}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
