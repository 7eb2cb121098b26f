"""The figures of a report that show the training, and what the model looks at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tftjax.plots.theme import LIGHT, SERIES, Key, Picture, picture
from tftjax.plots.training import PANELS

# Those of monitor_plot that watch for collapse: two lines at most, so that they can be told apart.
WATCHED = tuple(panel for panel in PANELS if len(panel.lines) <= 2)


def monitor(records: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Picture:
    """The course of training in the numbers that tell of collapse, epochs with warnings shaded."""
    epochs = [record["epoch"] for record in records]
    warned = [record["epoch"] for record in records if record.get("warnings")]

    def draw(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(*((len(WATCHED), 1) if narrow else (2, 3)), sharex=True)
        for axes, panel in zip(grid.ravel(), WATCHED, strict=True):
            for (name, (label, factor)), color in zip(panel.lines.items(), SERIES, strict=False):
                if all(name in record for record in records):
                    values = [factor * record[name] for record in records]
                    marker = "o" if len(records) == 1 else None
                    axes.plot(epochs, values, color=LIGHT[color], label=label, linewidth=1.5, marker=marker)
            axes.set_title(panel.title)
            for epoch in warned:
                axes.axvspan(epoch - 0.5, epoch + 0.5, color=LIGHT["red"], alpha=0.14, linewidth=0)
            if best_epoch is not None:
                axes.axvline(best_epoch, color=LIGHT["ink"], linewidth=1, linestyle=":")
            if panel.log:
                axes.set_yscale("log", nonpositive="mask")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_locator(NullLocator())
            if len(axes.get_lines()) > 1 and len(panel.lines) > 1:
                axes.legend()
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
            axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        figure.supxlabel("epoch", color=LIGHT["muted"], fontsize=11)

    last = records[-1]
    return picture(
        "monitor",
        draw,
        title="Collapse monitor",
        alt=f"{len(records)} epochs, {len(warned)} of them with warnings; at the end validation sigma"
        f" {1e4 * last.get('val/sigma', np.nan):.1f} bp.",
        heights=(430, 980),
        legend=(Key("best epoch", "ink", "dash"), Key("epoch with a warning", "red", "band", 0.14)),
    )


def importance(table: pd.DataFrame) -> Picture:
    """Selection weights of the variables: mean and the range from the 10th to the 90th percentile of windows.

    Args:
      table: rows of importance.csv of one split.
    """
    kinds = {kind: rows.sort_values("mean") for kind, rows in table.groupby("kind", sort=False)}
    sizes = [len(rows) for rows in kinds.values()]

    def draw(figure: Figure, narrow: bool) -> None:
        panels = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=sizes, sharex=True)[:, 0]
        for axes, (kind, rows) in zip(panels, kinds.items(), strict=True):
            places = np.arange(len(rows))
            axes.barh(places, 100 * rows["mean"], height=0.62, color=LIGHT["blue"], alpha=0.45)
            axes.hlines(places, 100 * rows["p10"], 100 * rows["p90"], color=LIGHT["ink"], linewidth=1.4)
            axes.set_yticks(places, rows["variable"])
            axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
            axes.set_title(kind)
            axes.grid(False, axis="y")
        panels[-1].set_xlabel("selection weight, %")

    first = next(iter(kinds.values())).iloc[::-1]
    means = zip(first["variable"], first["mean"], strict=True)
    said = ", ".join(f"{name} {100 * mean:.0f} %" for name, mean in means)
    height = 24 * sum(sizes) + 36 * len(sizes) + 40
    return picture(
        "importance",
        draw,
        title="Variables selected",
        alt=f"{next(iter(kinds))}: {said}.",
        heights=(height, height),
        caption="Bars are means over the test windows, lines reach from the 10th to the 90th percentile. A"
        " weight says what the model looks at, not what helps it.",
    )


def attention(table: pd.DataFrame) -> Picture:
    """Attention to each step, of the first horizon: mean and percentiles over windows.

    Args:
      table: rows of attention_by_lag.csv of one split.
    """
    first = table[table["horizon"] == 1]

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        bounds = 100 * first["p10"], 100 * first["p90"]
        axes.fill_between(first["step"], *bounds, color=LIGHT["blue"], alpha=0.2, linewidth=0)
        axes.plot(first["step"], 100 * first["mean"], color=LIGHT["blue"], linewidth=1.5)
        axes.set_xlabel("step: 0 is the last known row")
        axes.set_ylabel("attention, %")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))

    most = first.loc[first["mean"].idxmax()]
    return picture(
        "attention",
        draw,
        title="Attention by step",
        alt=f"Most attention, {100 * most['mean']:.1f} % on average, goes to step {int(most['step'])}.",
        heights=(260, 230),
        legend=(Key("mean", "blue"), Key("10th to 90th percentile", "blue", "band", 0.2)),
    )
