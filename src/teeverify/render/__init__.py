"""One result, many faces. Every face starts with the result's first sentence."""

from teeverify.render.escape import printable
from teeverify.render.terminal import render_finding, render_result, render_table

__all__ = ["printable", "render_finding", "render_result", "render_table"]
