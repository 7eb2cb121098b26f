"""Pictures of a sweep as PNG files. Import it where a picture is made: matplotlib takes half a second."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tftjax.errors import UserError
from tftjax.evaluate.metrics import Column, columns
from tftjax.evaluate.significance import mean_interval
from tftjax.plots.forecasts import COLORS, save
from tftjax.storage.directories import SweepDirectory
from tftjax.sweep.results import ranking

WEIGHTS = ("loss.mean_weight", "loss.std_weight")
SPLIT_COLORS = {"val": COLORS[0], "test": COLORS[1]}
SPLIT_NAMES = {"val": "validation", "test": "test"}


def draw(folder: Path, results: pd.DataFrame) -> None:
    """Draws `metrics.png`, and `response.png` where there is a response to draw.

    Args:
      results: what `results_table` returns.
    Raises:
      UserError: they cannot be written.
    """
    try:
        metrics_by_config(
            SweepDirectory(folder).metrics_picture, results, ranking(results), columns(results, "val/")
        )
        curves = response_curves(results)
        if curves:
            response(SweepDirectory(folder).response_picture, curves)
    except OSError as error:
        raise UserError(f"{folder}: the plots cannot be written ({error.strerror}).") from error


def metrics_by_config(
    path: Path, results: pd.DataFrame, configs: Sequence[str], shown: Sequence[Column]
) -> None:
    """Draws each metric by config: every seed as a ring, the mean with its 95 % t interval.

    Args:
      results: what `results_table` returns.
      configs: from the top down.
      shown: one panel each.
    """
    height = max(2.6, 1.3 + 0.36 * len(configs))
    figure = Figure(figsize=(3.1 * len(shown) + 1.5, height), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, item in zip(panels, shown, strict=True):
        for place, config in enumerate(configs):
            own = results[results["config"] == config]
            for split, shift in (("val", -0.14), ("test", 0.14)):
                values = item.factor * own[f"{split}/{item.metric}"].dropna().to_numpy()
                _interval(axes, values, place + shift, SPLIT_COLORS[split], horizontal=True)
        axes.set_xlabel(item.title, fontsize=9)
        _tidy(axes)
    panels[0].set_yticks(range(len(configs)), configs, parse_math=False)
    panels[0].set_ylim(len(configs) - 0.5, -0.5)
    handles = [
        axes.plot(
            [], [], "o-", color=SPLIT_COLORS[split], label=f"{name}: mean, 95 % interval; a ring a seed"
        )[0]
        for split, name in SPLIT_NAMES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save(figure, path)


def _interval(axes: Axes, values: np.ndarray, at: float, color: str, *, horizontal: bool) -> None:
    """A mean with its interval, and its seeds."""
    if not len(values):
        return
    mean, low, high = mean_interval(values)
    if low is not None:
        bounds = ([low, high], [at, at]) if horizontal else ([at, at], [low, high])
        axes.plot(*bounds, color=color, linewidth=1.4)
    seeds = (values, np.full(len(values), at)) if horizontal else (np.full(len(values), at), values)
    axes.plot(*seeds, "o", color=color, markersize=4, markerfacecolor="white", markeredgewidth=0.9)
    axes.plot(*((mean, at) if horizontal else (at, mean)), "o", color=color, markersize=6)


def _tidy(axes: Axes) -> None:
    axes.grid(True, color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


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
        chosen = {"weight of the std penalty": results.assign(weight=std)}
    elif std is None:
        chosen = {"weight of the mean penalty": results.assign(weight=mean)}
    else:
        chosen = {
            "weight of the mean penalty": results.assign(weight=mean)[std == 0],
            "weight of the std penalty": results.assign(weight=std)[mean == 0],
            "weight of both": results.assign(weight=mean)[mean == std],
        }
    return {name: rows for name, rows in chosen.items() if rows["weight"].nunique() > 2}


def response(path: Path, curves: Mapping[str, pd.DataFrame]) -> None:
    """Draws what a weight buys and costs: sigma and pinball against it, validation and test.

    Args:
      curves: what `response_curves` returns.
    """
    figure = Figure(figsize=(max(5.0, 3.9 * len(curves)), 5.6), dpi=130, layout="constrained")
    grid = figure.subplots(2, len(curves), sharex="col", sharey="row", squeeze=False)
    panels = {item.metric: item for item in columns(next(iter(curves.values())), "val/")}
    for column, (name, rows) in enumerate(curves.items()):
        for axes, item in zip(grid[:, column], (panels["sigma"], panels["pinball"]), strict=True):
            weights = np.sort(rows["weight"].unique())
            # Zero has no place on a logarithmic axis: below the least weight the axis is linear.
            axes.set_xscale("symlog", linthresh=float(weights[weights > 0][0]))
            for split, color in SPLIT_COLORS.items():
                by_weight = [
                    item.factor * rows[rows["weight"] == weight][f"{split}/{item.metric}"].dropna().to_numpy()
                    for weight in weights
                ]
                drawn = [(w, values) for w, values in zip(weights, by_weight, strict=True) if len(values)]
                means = [values.mean() for _, values in drawn]
                axes.plot([w for w, _ in drawn], means, color=color, linewidth=1, label=SPLIT_NAMES[split])
                for weight, values in drawn:
                    _interval(axes, values, weight, color, horizontal=False)
            axes.set_xticks(weights, [f"{weight:g}" for weight in weights], minor=False)
            axes.minorticks_off()
            _tidy(axes)
            if not column:
                axes.set_ylabel(item.title, fontsize=9)
        grid[1, column].set_xlabel(name, fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.suptitle("mean over seeds, 95 % t interval, each seed a ring", fontsize=10)
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save(figure, path)
