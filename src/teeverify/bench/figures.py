"""Plots with intervals, as SVG text that stands by itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from teeverify.bench.document import Figure
from teeverify.bench.packages import require_package
from teeverify.encoding.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLOURS = ("#4a7fc1", "#d07a35", "#549654", "#8d6fb8")  # to be seen on white and on black


def draw(figure: Figure) -> str:
    """One figure as an ``<svg>`` element, in the colour of the text around it.

    Raises:
        ConfigurationError: The packages of ``[bench]`` are missing.
    """
    require_package("matplotlib", extra="bench")
    import matplotlib as mpl  # noqa: PLC0415 -- an extra

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the backend is chosen

    # Text as text, whatever is in it; element names that do not change from run to run.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": figure.title, "text.parse_math": False}
    ):
        canvas, axes = plt.subplots(figsize=(9, 1.1 + 0.3 * len(figure.groups)))
        apart = 0.5 / max(1, len(figure.series))
        for number, (name, values) in enumerate(figure.series.items()):
            _draw_series(axes, values, number, name=printable(name), shift=number * apart)
        centre = apart * (len(figure.series) - 1) / 2
        places = [group + centre for group in range(len(figure.groups))]
        axes.set_yticks(places, [printable(group) for group in figure.groups])
        axes.set_ylim(len(figure.groups) - 0.4, centre - 0.6)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")  # no overhead is < 0
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        axes.set_xlabel(figure.unit)
        axes.set_title(printable(figure.title), loc="left", weight="bold")
        if len(figure.series) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        canvas.tight_layout()
        text = io.StringIO()
        canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        plt.close(canvas)
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace("#000000", "currentColor")


def _draw_series(
    axes: Axes,
    values: Sequence[tuple[float, float, float] | None],
    number: int,
    *,
    name: str,
    shift: float,
) -> None:
    known = [(group, *value) for group, value in enumerate(values) if value is not None]
    axes.errorbar(
        [middle for _, middle, _, _ in known],
        [group + shift for group, *_ in known],
        xerr=[
            [max(0.0, middle - low) for _, middle, low, _ in known],
            [max(0.0, high - middle) for _, middle, _, high in known],
        ],
        fmt="o", markersize=5, capsize=3, color=_COLOURS[number % len(_COLOURS)], label=name,
    )  # fmt: skip
