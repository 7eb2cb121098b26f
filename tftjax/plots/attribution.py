"""Figures of what forecasts depend on: shuffled inputs, integrated gradients, swapped inputs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tftjax.plots.theme import LIGHT, Drawing, Key, Theme, name_rows, save, series_keys

BAR = Key("rise of the pinball loss", "blue", "band", 0.45)
SHOWN_INPUTS = 12  # of a figure with a plot an input, those that move the forecast most


def draw(folder: Path, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Draws a PNG file for each table that has a figure.

    Args:
      name: of what is attributed, for titles.
      tables: tables of `interpret/attribution.py` by name.
    Raises:
      UserError: a file cannot be written.
    """
    for figure, drawing in DRAWINGS.items():
        save(folder / f"{figure}.png", drawing(tables[figure], name))


def permutation_drawing(table: pd.DataFrame, name: str) -> Drawing:
    """`permutation` with a title.

    Args:
      name: of what is attributed.
    """
    whose, _ = _spread(table)
    keys = (BAR, Key(f"one standard deviation over {whose}", "ink"))
    return Drawing(partial(permutation, table=table), f"{name}: inputs shuffled by block, test windows", keys)


def _spread(table: pd.DataFrame) -> tuple[str, pd.Series]:
    """What the spread of a table of permutations is over, and the spread."""
    if table["sd_of_seeds"].isna().all():
        return "shuffles", table["sd_of_shuffles"]
    return "seeds", table["sd_of_seeds"]


def permutation(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws how much the loss rises where each input is shuffled, with its standard deviation.

    Args:
      table: rows of permutation.csv.
    """
    theme.set_height(figure, 24 * len(table) + 60)
    rows = table.assign(spread=_spread(table)[1]).sort_values("rise_percent")
    axes, places = figure.subplots(), np.arange(len(rows))
    axes.barh(places, rows["rise_percent"], height=0.62, color=LIGHT[BAR.color], alpha=BAR.opacity)
    bounds = rows["rise_percent"] - rows["spread"], rows["rise_percent"] + rows["spread"]
    axes.hlines(places, *bounds, color=LIGHT["ink"], linewidth=1.4)
    axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
    name_rows(axes, list(rows["variable"]))
    axes.set_xlabel("rise of the pinball loss, %")


def gradients_drawing(table: pd.DataFrame, name: str) -> Drawing:
    """`gradients` with a title; see `permutation_drawing`."""
    return Drawing(partial(gradients, table=table), f"{name}: integrated gradients, test windows")


def gradients(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the mean absolute attribution of each input and step: a map an output.

    Args:
      table: rows of gradients.csv.
    """
    outputs = dict(iter(table.groupby("output", sort=False)))
    names = list(dict.fromkeys(table["variable"]))
    theme.set_height(figure, (22 * len(names) + 70) * len(outputs))
    grid = figure.subplots(len(outputs), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (output, rows) in zip(grid, outputs.items(), strict=True):
        values = 1e4 * rows.pivot(index="variable", columns="step", values="mean_absolute").loc[names[::-1]]
        steps = values.columns.to_numpy()
        mesh = axes.pcolormesh(steps, np.arange(len(names)), values, cmap="cividis", rasterized=True)
        figure.colorbar(mesh, ax=axes, label="bp")
        name_rows(axes, names[::-1])
        axes.set_title(f"{output} of the first step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(False)
    grid[-1].set_xlabel("step: 0 is the last known row")


def dependence_drawing(table: pd.DataFrame, name: str) -> Drawing:
    """`dependence` with a title; see `permutation_drawing`."""
    keys = series_keys([f"{level:g}" for level in table["quantile"].unique()])
    title = f"{name}: mean quantiles by the last value of an input, test windows"
    return Drawing(partial(dependence, table=table), title, keys)


def dependence(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws mean quantiles over the last value of an input: a plot an input, the strongest first.

    Args:
      table: rows of dependence.csv.
    """
    moves = table.groupby(["variable", "quantile"])["mean"].agg(np.ptp).groupby("variable").max()
    names = list(moves.sort_values(ascending=False).index[:SHOWN_INPUTS])
    columns = 1 if theme.narrow else 3
    count = -(-len(names) // columns)
    theme.set_height(figure, 170 * count + 40)
    grid = figure.subplots(count, columns, sharey=True, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        own = table[table["variable"] == name]
        of_quantiles = dict(iter(own.groupby("quantile")))
        for rows, key in zip(of_quantiles.values(), series_keys(of_quantiles), strict=True):
            axes.plot(rows["z"], 100 * rows["mean"], linewidth=1.3, **key.line)
        axes.set_title(name)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("value, in standard deviations")
    for axes in grid[::columns]:
        axes.set_ylabel("return, %")


DRAWINGS = {
    "permutation": permutation_drawing,
    "gradients": gradients_drawing,
    "dependence": dependence_drawing,
}
