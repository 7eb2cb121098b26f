"""The figures of a sweep's report."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tftjax.evaluate.metrics import Column, columns
from tftjax.evaluate.significance import mean_interval
from tftjax.plots.theme import LIGHT, Key, Picture, picture

SPLIT_COLORS = {"val": "blue", "test": "orange"}
LEGEND = (
    Key("validation", "blue", "dot"),
    Key("test", "orange", "dot"),
)
SHIFTS = {"val": -0.14, "test": 0.14}
RESPONSES = ("sigma", "pinball")
READING = "Dots are means over seeds with their 95 % t intervals, rings the seeds."


class Panel(NamedTuple):
    """A metric, the splits that stand in its panel, and its title."""

    shown: Column
    splits: tuple[str, ...]
    title: str


def panels_of(results: pd.DataFrame) -> list[Panel]:
    """A panel a metric that there is; of pinball loss one a split.

    The level of pinball loss is the period's: beside each other its splits would leave the configs no room.
    """
    pinball, *others = columns(results, "val/")
    apart = [Panel(pinball, (split,), f"{pinball.title}, {split}") for split in SPLIT_COLORS]
    return [*apart, *(Panel(column, tuple(SPLIT_COLORS), column.title) for column in others)]


def metrics_by_config(results: pd.DataFrame, configs: Sequence[str]) -> Picture:
    """Each metric by config, from the top down.

    Args:
      results: results.csv.
      configs: as ranked.
    """
    panels, across = panels_of(results), 4
    rows = -(-len(panels) // across)

    def draw(figure: Figure, narrow: bool) -> None:
        shape = (len(panels), 1) if narrow else (rows, across)
        grid = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid, panels, strict=False):
            for place, config in enumerate(configs):
                own = results[results["config"] == config]
                for split in panel.splits:
                    values = panel.shown.factor * own[f"{split}/{panel.shown.metric}"].dropna().to_numpy()
                    shift = 0.0 if len(panel.splits) == 1 else SHIFTS[split]
                    _interval(axes, values, place + shift, SPLIT_COLORS[split], horizontal=True)
            axes.set_title(panel.title)
            axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
            axes.grid(False, axis="y")
        grid[0].set_yticks(range(len(configs)), configs)
        grid[0].set_ylim(len(configs) - 0.4, -0.6)

    height = 30 * len(configs) + 60
    said = ", ".join(
        f"{config} {1e3 * results.loc[results['config'] == config, 'val/pinball'].mean():.4f}"
        for config in configs
    )
    return picture(
        "configs",
        draw,
        title="Metrics by config",
        alt=f"Mean validation pinball loss, 1e-3: {said}.",
        heights=(rows * height, len(panels) * height),
        legend=LEGEND,
        caption=READING,
    )


def _interval(axes: Axes, values: np.ndarray, at: float, color: str, *, horizontal: bool) -> None:
    """A mean with its interval, and its seeds."""
    if not len(values):
        return
    color, (mean, low, high) = LIGHT[color], mean_interval(values)
    seeds, places = values, np.full(len(values), at)
    if low is not None:
        bounds = ([low, high], [at, at])
        axes.plot(*(bounds if horizontal else bounds[::-1]), color=color, linewidth=1.6)
    rings = (seeds, places) if horizontal else (places, seeds)
    axes.plot(*rings, "o", color=color, markersize=4, markerfacecolor="none", markeredgewidth=0.9)
    axes.plot(*((mean, at) if horizontal else (at, mean)), "o", color=color, markersize=6)


def response(curves: Mapping[str, pd.DataFrame]) -> Picture:
    """What a penalty's weight buys and costs: sigma and pinball loss against it.

    Args:
      curves: what `sweep_plots.response_curves` returns, at least one.
    """
    panels = [panel for panel in panels_of(next(iter(curves.values()))) if panel.shown.metric in RESPONSES]
    panels.sort(key=lambda panel: RESPONSES.index(panel.shown.metric))
    shown = [(name, rows, panel) for name, rows in curves.items() for panel in panels]

    def draw(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(*((len(shown), 1) if narrow else (len(curves), 3)), squeeze=False).ravel()
        for axes, (name, rows, (item, splits, title)) in zip(grid, shown, strict=True):
            weights = np.sort(rows["weight"].unique())
            # Zero has no place on a logarithmic axis: below the least weight the axis is linear.
            axes.set_xscale("symlog", linthresh=float(weights[weights > 0][0]))
            for split in splits:
                color = SPLIT_COLORS[split]
                found = rows.groupby("weight")[f"{split}/{item.metric}"]
                means = item.factor * found.mean().dropna()
                axes.plot(means.index, means, color=LIGHT[color], linewidth=1.2)
                for weight, values in found:
                    _interval(axes, item.factor * values.dropna().to_numpy(), weight, color, horizontal=False)
            axes.set_xticks(weights, [f"{weight:g}" for weight in weights], minor=False)
            axes.minorticks_off()
            axes.set_title(title)
            axes.set_xlabel(name)

    return picture(
        "response",
        draw,
        title="Response to the penalties' weights",
        alt=f"Sigma and pinball loss against {', '.join(curves)}.",
        heights=(260 * len(curves), 250 * len(shown)),
        legend=LEGEND,
        caption=READING,
    )
