"""One result, many faces. Every face starts with the result's first sentence."""

from teeverify.render.difference import differences, render_difference
from teeverify.render.escape import printable
from teeverify.render.html import embedded_receipt, is_report, render_card, render_report
from teeverify.render.terminal import (
    WIDTH,
    render_check,
    render_finding,
    render_problem,
    render_result,
    render_table,
    wrap,
)

__all__ = [
    "WIDTH",
    "differences",
    "embedded_receipt",
    "is_report",
    "printable",
    "render_card",
    "render_check",
    "render_difference",
    "render_finding",
    "render_problem",
    "render_report",
    "render_result",
    "render_table",
    "wrap",
]
