"""Figures of a sweep: its metrics by config, and its response to the weights of the penalties."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tftjax.evaluate.metrics import MetricColumn, columns
from tftjax.evaluate.significance import mean_interval
from tftjax.plots.theme import LIGHT, Drawing, Key, Picture, Theme, name_rows, picture, save
from tftjax.storage.directories import SweepDirectory

WEIGHTS = ("loss.mean_weight", "loss.std_weight")
SPLIT_COLORS = {"val": "blue", "test": "orange"}
SHIFTS = {"val": 0.14, "test": -0.14}
LEGEND = (Key("validation", "blue", "dot"), Key("test", "orange", "dot"))
RESPONSES = ("sigma", "pinball")  # a penalty raises the first at the cost of the second
TITLE_WIDTH = 34  # characters in a line of an axis's title
READING = "Dots are means over seeds with their 95 % t intervals, rings the seeds."


class MetricAxis(NamedTuple):
    """A metric, the splits that share its axis, and the axis's title."""

    column: MetricColumn
    splits: tuple[str, ...]
    title: str


def axes_of(results: pd.DataFrame) -> list[MetricAxis]:
    """An axis a metric of results.csv; of pinball loss one a split, as its level is the period's."""
    pinball, *others = columns(results, "val/")
    apart = [MetricAxis(pinball, (split,), f"{pinball.title}, {split}") for split in SPLIT_COLORS]
    return [*apart, *(MetricAxis(column, tuple(SPLIT_COLORS), column.title) for column in others)]


def metrics_drawing(results: pd.DataFrame, configs: Sequence[str]) -> Drawing:
    """`metrics_by_config` with a title."""
    by_config = partial(metrics_by_config, results=results, configs=configs)
    return Drawing(by_config, f"Metrics by config. {READING}", LEGEND)


def draw(folder: Path, results: pd.DataFrame, configs: Sequence[str]) -> None:
    """Draws metrics.png, and response.png if there are `response_curves`.

    Args:
      results: results.csv.
      configs: configs in the order of the ranking.
    Raises:
      UserError: a file cannot be written.
    """
    save(SweepDirectory(folder).metrics_picture, metrics_drawing(results, configs))
    curves = response_curves(results)
    if curves:
        title = f"Response to the penalties' weights. {READING}"
        save(
            SweepDirectory(folder).response_picture, Drawing(partial(response, curves=curves), title, LEGEND)
        )


def metrics_by_config(figure: Figure, theme: Theme, results: pd.DataFrame, configs: Sequence[str]) -> None:
    """Draws each metric by config: every seed as a ring, the mean with its 95 % t interval.

    Args:
      results: results.csv.
      configs: from the top down.
    """
    metric_axes = axes_of(results)
    # Three beside each other: of four, titles and ticks run into each other.
    rows, width = (len(metric_axes), 1) if theme.narrow else (-(-len(metric_axes) // 3), 3)
    theme.set_height(figure, rows * (30 * len(configs) + 76))
    grid = figure.subplots(rows, width, sharey=True, squeeze=False).ravel()
    for axes in grid[len(metric_axes) :]:
        axes.set_visible(False)
    for axes, (column, splits, title) in zip(grid, metric_axes, strict=False):
        for place, config in enumerate(configs[::-1]):
            members = results[results["config"] == config]
            for split in splits:
                values = column.format.factor * members[f"{split}/{column.metric}"].dropna().to_numpy()
                shift = 0.0 if len(splits) == 1 else SHIFTS[split]
                _interval(axes, values, place + shift, SPLIT_COLORS[split], horizontal=True)
        axes.set_title(textwrap.fill(title, TITLE_WIDTH))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        name_rows(axes, configs[::-1])


def metrics_picture(results: pd.DataFrame, configs: Sequence[str]) -> Picture:
    """`metrics_by_config` for the page."""
    means = 1e3 * results.groupby("config")["val/pinball"].mean()
    text = ", ".join(f"{config} {means[config]:.4f}" for config in configs)
    return picture(
        "configs",
        partial(metrics_by_config, results=results, configs=configs),
        title="Metrics by config",
        alt=f"Mean validation pinball loss, 1e-3: {text}.",
        legend=LEGEND,
        caption=READING,
    )


def _interval(axes: Axes, values: np.ndarray, at: float, color: str, *, horizontal: bool) -> None:
    """Draws a mean with its interval, and its seeds."""
    if not len(values):
        return

    def plot(numbers: Sequence[float], *form: str, **style: Any) -> None:
        places = [at] * len(numbers)
        x, y = (numbers, places) if horizontal else (places, numbers)
        axes.plot(x, y, *form, color=LIGHT[color], **style)

    mean, low, high = mean_interval(values)
    if low is not None:
        plot([low, high], linewidth=1.6)
    plot(values.tolist(), "o", markersize=4, markerfacecolor="none", markeredgewidth=0.9)
    plot([mean], "o", markersize=6)


def response_curves(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Members by the penalty whose weight varies, with a column "weight"; none where anything else varies.

    A member without any penalty belongs to every curve; one with two unequal weights to none. A curve has at
    least three weights, zero counted.
    """
    others = {column for column in results if "." in column and "/" not in column} - set(WEIGHTS)
    if others or not set(WEIGHTS) & set(results):
        return {}
    mean, std = (results.get(key) for key in WEIGHTS)
    if mean is None:
        curves = {"weight of the std penalty": results.assign(weight=std)}
    elif std is None:
        curves = {"weight of the mean penalty": results.assign(weight=mean)}
    else:
        curves = {
            "weight of the mean penalty": results.assign(weight=mean)[std == 0],
            "weight of the std penalty": results.assign(weight=std)[mean == 0],
            "weight of both": results.assign(weight=mean)[mean == std],
        }
    return {name: rows for name, rows in curves.items() if rows["weight"].nunique() > 2}


def response(figure: Figure, theme: Theme, curves: Mapping[str, pd.DataFrame]) -> None:
    """Draws the spread of the medians and pinball loss against a penalty's weight.

    Args:
      curves: at least one of `response_curves`.
    """
    pairs = [
        (name, rows, axis)
        for name, rows in curves.items()
        for metric in RESPONSES
        for axis in axes_of(rows)
        if axis.column.metric == metric
    ]
    theme.set_height(figure, 260 * len(curves), 250 * len(pairs))
    shape = (len(pairs), 1) if theme.narrow else (len(curves), len(pairs) // len(curves))
    grid = figure.subplots(*shape, squeeze=False).ravel()
    for axes, (name, rows, (column, splits, title)) in zip(grid, pairs, strict=True):
        weights = np.sort(rows["weight"].unique())
        # Zero has no place on a logarithmic axis: below the least weight the axis is linear.
        axes.set_xscale("symlog", linthresh=float(weights[weights > 0][0]))
        for split in splits:
            color, values = SPLIT_COLORS[split], column.format.factor * rows[f"{split}/{column.metric}"]
            by_weight = values.groupby(rows["weight"])
            means = by_weight.mean().dropna()
            axes.plot(means.index, means, color=LIGHT[color], linewidth=1.2)
            for weight, seeds in by_weight:
                _interval(axes, seeds.dropna().to_numpy(), weight, color, horizontal=False)
        axes.set_xticks(weights, [f"{weight:g}" for weight in weights], minor=False)
        axes.minorticks_off()
        axes.set_title(title)
        axes.set_xlabel(name)


def response_picture(curves: Mapping[str, pd.DataFrame]) -> Picture:
    """`response` for the page."""
    return picture(
        "response",
        partial(response, curves=curves),
        title="Response to the penalties' weights",
        alt=f"Spread of the medians and pinball loss against {', '.join(curves)}.",
        legend=LEGEND,
        caption=READING,
    )
