"""Sphinx's configuration. `make docs` turns every warning into an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import SphinxError

import teeverify

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import generate  # noqa: E402 -- lies beside this file

project = "teeverify"
author = "the teeverify contributors"
release = teeverify.__version__
html_title = f"teeverify {release}"
html_theme = "furo"
html_show_copyright = False
exclude_patterns = ["_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
smartquotes = False  # it makes one dash of the two of a flag

generate.write_pages(HERE)


def _require_anchors(app: Sphinx, error: Exception | None) -> None:
    """Every error carries a link into the page of checks: each must lead somewhere."""
    if error is not None or app.builder.format != "html":
        return
    html = (Path(app.outdir) / "checks.html").read_text(encoding="utf-8")
    missing = [anchor for anchor in generate.anchors() if f'id="{anchor}"' not in html]
    if missing:
        raise SphinxError(f"checks.html lacks the anchors {', '.join(missing)}")


def setup(app: Sphinx) -> None:
    """Check the links of errors after the build."""
    app.connect("build-finished", _require_anchors)
