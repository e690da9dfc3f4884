"""Plots with intervals, as SVG text that stands by itself."""

from __future__ import annotations

import io

from teeverify.bench.document import Figure
from teeverify.bench.packages import require_package

__all__ = ["draw"]

_COLOURS = ("#3b6ea8", "#c4692b", "#4d8f4d", "#7d5ba6")


def draw(figure: Figure) -> str:
    """One figure as an ``<svg>`` element.

    Raises:
        ConfigurationError: The packages of ``[bench]`` are missing.
    """
    require_package("matplotlib", extra="bench")
    import matplotlib as mpl  # noqa: PLC0415 -- an extra

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the backend is chosen

    # Text as text; element names that do not change from run to run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.title}):
        canvas, axes = plt.subplots(figsize=(8, 1.2 + 0.45 * _bars(figure)))
        height = 0.8 / max(1, len(figure.series))
        for number, (name, values) in enumerate(figure.series.items()):
            places, middles, errors = [], [], []
            for group, value in enumerate(values):
                if value is not None:
                    places.append(group + number * height)
                    middles.append(value[0])
                    errors.append((max(0.0, value[0] - value[1]), max(0.0, value[2] - value[0])))
            axes.barh(places, middles, height=0.9 * height, color=_COLOURS[number % 4], label=name)
            axes.errorbar(
                middles, places, xerr=list(zip(*errors, strict=True)) or None,
                fmt="none", ecolor="black", capsize=3,
            )  # fmt: skip
        centre = height * (len(figure.series) - 1) / 2
        axes.set_yticks([group + centre for group in range(len(figure.groups))], figure.groups)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(figure.unit)
        axes.set_title(figure.title, loc="left")
        axes.legend(loc="best", frameon=False)
        canvas.tight_layout()
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None})
        plt.close(canvas)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _bars(figure: Figure) -> int:
    return max(1, len(figure.groups) * len(figure.series))
