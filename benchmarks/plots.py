"""Pictures of results: for each column a panel of bars, one bar a channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.report import OURS, Column, Results, quantity

OWN_COLOUR = "#1f6f8b"
PEER_COLOUR = "#b4bcc2"
TEXT_COLOUR = "#333333"

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "shmipc",  # so that the same figures give the same file
}


def draw(results: Results, titles: Mapping[Column, str], path: Path) -> None:
    """Write the picture, in the format that the path's suffix names.

    There is a panel for each column, under its title.
    """
    with matplotlib.rc_context(STYLE):
        height = 1.2 + 0.32 * len(results.names)
        layout = ConstrainedLayoutEngine(wspace=0.08)
        figure = Figure(figsize=(9, height), layout=layout, facecolor="white")
        figure.suptitle(results.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        for panel, (column, title) in zip(panels, titles.items(), strict=True):
            panel.set_title(f"{title}\n({_better(column)} is better)")
            _bars(panel, results, column)
        panels[0].invert_yaxis()  # they share it: the first name on top
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(panel: Axes, results: Results, column: Column) -> None:
    """Draw the medians of one column, each with its figure: there is no need of an axis then."""
    values = [_median(results, name, column) for name in results.names]
    colours = [OWN_COLOUR if name.startswith(OURS) else PEER_COLOUR for name in results.names]
    bars = panel.barh(results.names, values, color=colours, height=0.7)
    panel.bar_label(bars, [_label(value) for value in values], padding=4)
    panel.margins(x=0.12)
    panel.set_xticks([])
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "bottom"]].set_visible(False)


def _median(results: Results, name: str, column: Column) -> float:
    """Return 0, which shows as no bar, for what has no value."""
    values = results.values.get((name, column))
    return median(values) if values else 0.0


def _label(value: float) -> str:
    """Return the figure beside a bar; in full, where a table has k and M."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 1000 else quantity(value)


def _better(column: Column) -> str:
    return "longer" if column.unit.better is max else "shorter"
