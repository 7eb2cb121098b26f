"""Figures of a run's variable selection and attention."""

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from tftjax.plots.chart import Band, Chart, Line
from tftjax.plots.theme import (
    LIGHT,
    MARKERS,
    SERIES,
    Draw,
    Drawing,
    Key,
    Picture,
    Theme,
    date_axis,
    name_rows,
    picture,
    save,
    series_keys,
)

SMOOTHED = 21  # windows, a month of trading days
MAX_COLUMNS = 1200  # columns in the picture of attention over time: more would fall on the same pixels
BANDS = (Key("mean", "blue"), Key("10th to 90th percentile", "blue", "band", 0.2))


def draw(directory: Path, name: str, tables: dict[str, pd.DataFrame]) -> None:
    """Draws a PNG file for each of the tables that have a figure.

    Args:
      name: the run's name, for titles.
      tables: tables of `interpret` by file name; of several series the first is drawn over time.
    Raises:
      UserError: a file cannot be written.
    """

    def write(file: str, figure: Draw, title: str, legend: Sequence[Key] = ()) -> None:
        save(directory / f"{file}.png", Drawing(figure, f"{name}: {title}", legend))

    save(directory / "importance.png", importance_drawing(_last_split(tables["importance"]), name))
    save(directory / "attention_by_lag.png", attention_drawing(_last_split(tables["attention_by_lag"]), name))

    over_time = {
        file: table if "series" not in table else table[table["series"] == table["series"].iloc[0]]
        for file, table in tables.items()
        if "date" in table
    }
    table = over_time["importance_over_time"]
    title = f"encoder variables over time, mean of {SMOOTHED} windows"
    keys = series_keys([column.removeprefix("encoder: ") for column in _ranked(table)])
    write("importance_over_time", partial(importance_over_time, table=table), title, keys)
    table = over_time["attention_over_time"].query("horizon == 1")
    write(
        "attention_over_time", partial(attention_over_time, table=table), "attention over time, first horizon"
    )
    table = over_time["heads_over_time"].query("horizon == 1")
    title = f"how far back each head looks, mean of {SMOOTHED} windows"
    keys = series_keys([f"head {head}" for head in sorted(table["head"].unique())])
    write("heads_over_time", partial(heads_over_time, table=table), title, keys)
    title = "distance of the attention from its mean pattern (regime shifts)"
    keys = [Key("by window", "blue", opacity=0.3), Key(f"mean of {SMOOTHED} windows", "orange")]
    write("regime_shift", partial(shift_over_time, table=over_time["regime_shift"]), title, keys)


def importance_drawing(table: pd.DataFrame, name: str) -> Drawing:
    """`importance` with a title.

    Args:
      name: the run's name.
    """
    title = f"{name}: importance of variables, {table['split'].iloc[0]} windows"
    keys = regime_keys(_regimes(table))
    return Drawing(partial(importance, table=table), title, [*IMPORTANCE_KEYS, *keys])


def attention_drawing(table: pd.DataFrame, name: str) -> Drawing:
    """`attention_by_lag` with a title; see `importance_drawing`."""
    title = f"{name}: attention by step, first horizon, {table['split'].iloc[0]} windows"
    return Drawing(partial(attention_by_lag, table=table), title, [*BANDS, *head_keys(table)])


def _last_split(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == table["split"].iloc[-1]]


IMPORTANCE_KEYS = (Key("mean", "blue", "band", 0.45), Key("10th to 90th percentile", "ink"))


def importance(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the mean selection weight of each variable, and the span from the 10th to the 90th percentile.

    Marks are means by regime: by the run's gates if it has any, or else by volatility.

    Args:
      table: rows of importance.csv of one split.
    """
    kinds = {kind: rows.sort_values("mean") for kind, rows in table.groupby("kind", sort=False)}
    sizes = [len(rows) + 0.2 for rows in kinds.values()]  # as `name_rows` sets them: bars of one width
    theme.set_height(figure, 24 * len(table) + 36 * len(sizes) + 40)
    grid = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=sizes, sharex=True)[:, 0]
    regimes = _regimes(table)
    for axes, (kind, rows) in zip(grid, kinds.items(), strict=True):
        places = np.arange(len(rows))
        axes.barh(places, 100 * rows["mean"], height=0.62, color=LIGHT["blue"], alpha=0.45)
        axes.hlines(places, 100 * rows["p10"], 100 * rows["p90"], color=LIGHT["ink"], linewidth=1.4)
        for regime, key in zip(regimes, regime_keys(regimes), strict=True):
            style = {"marker": MARKERS[key.shape], "color": LIGHT[key.color], "zorder": 3}
            axes.scatter(100 * rows[regime], places, s=36, edgecolor="white", linewidth=0.5, **style)
        name_rows(axes, list(rows["variable"]))
        axes.set_title(kind)
    grid[-1].set_xlabel("selection weight, %")


def importance_data(table: pd.DataFrame) -> list[Chart]:
    """The numbers of `importance`, a chart a kind; regimes left out."""
    charts = []
    for kind, rows in table.groupby("kind", sort=False):
        rows = rows.sort_values("mean", ascending=False)
        keys = {"mean": IMPORTANCE_KEYS[0], "p10": Key("10th percentile", "ink", "dot")}
        keys["p90"] = keys["p10"]._replace(label="90th percentile")
        lines = [Line(key, 100 * rows[name].to_numpy()) for name, key in keys.items()]
        charts.append(Chart(list(rows["variable"]), "selection weight, %", lines, x_title=str(kind)))
    return charts


def _regimes(table: pd.DataFrame) -> list[str]:
    """The columns of the last division into regimes, if there is any."""
    division = table.columns[-1].rpartition(": ")[0]
    return [column for column in table if division and column.startswith(f"{division}: ")]


def regime_keys(regimes: Sequence[str]) -> list[Key]:
    """The marks of regimes."""
    marks = zip(itertools.cycle(SERIES[1:]), itertools.cycle(MARKERS), strict=False)
    return [Key(regime, *mark) for regime, mark in zip(regimes, marks, strict=False)]


def importance_picture(table: pd.DataFrame) -> Picture:
    """`importance` for the page."""
    kind, rows = next(iter(table.groupby("kind", sort=False)))
    ranked = rows.sort_values("mean").iloc[::-1]
    means = zip(ranked["variable"], ranked["mean"], strict=True)
    return picture(
        "importance",
        partial(importance, table=table),
        title="Variables selected",
        alt=f"{kind}: {', '.join(f'{name} {100 * mean:.0f} %' for name, mean in means)}.",
        caption="Bars are means over the test windows, lines reach from the 10th to the 90th percentile. A"
        " weight shows where the model looks, not whether it helps.",
    )


def importance_over_time(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the weights of the encoder's variables by date, smoothed over a month."""
    theme.set_height(figure, 320)
    axes = figure.subplots()
    ranked = _ranked(table)
    smooth = table[ranked].rolling(SMOOTHED, min_periods=1).mean()
    for column, key in zip(ranked, series_keys(ranked), strict=True):
        axes.plot(_dates(table), smooth[column], linewidth=1.1, **key.line)
    axes.set_ylabel("selection weight")
    _over_time(axes, theme, table)


def _ranked(table: pd.DataFrame) -> list[str]:
    """The encoder's columns of importance_over_time.csv, the heaviest first."""
    return list(table.filter(regex="^encoder: ").mean().sort_values(ascending=False).index)


def attention_by_lag(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the attention to each step for the first horizon: mean, percentiles, and each head's mean.

    Args:
      table: rows of attention_by_lag.csv of one split.
    """
    theme.set_height(figure, 260, 230)
    first = table[table["horizon"] == 1]
    axes = figure.subplots()
    bounds = 100 * first["p10"], 100 * first["p90"]
    axes.fill_between(first["step"], *bounds, color=LIGHT["blue"], alpha=0.2, linewidth=0)
    axes.plot(first["step"], 100 * first["mean"], color=LIGHT["blue"], linewidth=1.5)
    for key in head_keys(first):
        axes.plot(first["step"], 100 * first[key.label], linewidth=1, **key.line)
    axes.set_xlabel("step: 0 is the last known row")
    axes.set_ylabel("attention, %")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def attention_data(table: pd.DataFrame) -> Chart:
    """The numbers of `attention_by_lag`."""
    first = table[table["horizon"] == 1]
    mean, band = BANDS
    lines = [Line(mean, 100 * first["mean"].to_numpy())]
    lines += [Line(key, 100 * first[key.label].to_numpy()) for key in head_keys(first)]
    bands = [Band(band, *(100 * first[name].to_numpy() for name in ("p10", "p90")))]
    return Chart(first["step"].to_numpy(), "attention, %", lines, bands, "step: 0 is the last known row")


def head_keys(table: pd.DataFrame) -> list[Key]:
    """The lines of the heads in a table of attention; their labels are its columns."""
    heads = table.filter(regex="^head ").columns
    return [key._replace(shape="dashed") for key in series_keys(heads, SERIES[1:])]


def attention_picture(table: pd.DataFrame) -> Picture:
    """`attention_by_lag` for the page."""
    first = table[table["horizon"] == 1]
    most = first.loc[first["mean"].idxmax()]
    return picture(
        "attention",
        partial(attention_by_lag, table=table),
        title="Attention by step",
        alt=f"Most attention, {100 * most['mean']:.1f} % on average, goes to step {int(most['step'])}.",
        legend=BANDS,
    )


def attention_over_time(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the attention to each step by date; means of neighbours where windows are many.

    Args:
      table: rows of attention_over_time.csv of one horizon.
    """
    theme.set_height(figure, 320)
    axes = figure.subplots()
    steps = [column for column in table if column.removeprefix("-").isdigit()]
    values = table[steps].to_numpy()
    groups = np.array_split(np.arange(len(values)), min(len(values), MAX_COLUMNS))
    means = np.stack([values[rows].mean(axis=0) for rows in groups])
    dates = _dates(table).to_numpy()[[rows[0] for rows in groups]]
    # In the logarithm: one step often has ten times the weight of the others. Masked steps stay blank.
    means = np.where(means > 0, means, np.nan)
    norm = LogNorm(np.nanquantile(means, 0.01), np.nanmax(means))
    places = [int(step) for step in steps]
    mesh = axes.pcolormesh(dates, places, means.T, cmap="cividis", norm=norm, rasterized=True)
    ticks = LogLocator(subs=(1, 2, 5))
    figure.colorbar(mesh, ax=axes, label="attention", ticks=ticks, format="{x:g}").minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("step")
    _over_time(axes, theme, table)
    axes.grid(False)


def heads_over_time(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the mean lag of each head's attention by date, smoothed over a month.

    Args:
      table: rows of heads_over_time.csv of one horizon.
    """
    theme.set_height(figure, 320)
    axes = figure.subplots()
    heads = dict(iter(table.groupby("head")))
    for rows, key in zip(heads.values(), series_keys(heads), strict=True):
        smooth = rows["mean_lag"].rolling(SMOOTHED, min_periods=1).mean()
        axes.plot(_dates(rows), smooth, linewidth=1.1, **key.line)
    axes.set_ylabel("mean lag, rows before the step forecast")
    axes.set_ylim(bottom=0)
    _over_time(axes, theme, table)


def shift_over_time(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws the distance of each day's attention from its mean pattern.

    Args:
      table: rows of regime_shift.csv of one series.
    """
    theme.set_height(figure, 320)
    axes = figure.subplots()
    axes.plot(_dates(table), table["distance"], color=LIGHT["blue"], alpha=0.3, linewidth=0.7)
    smooth = table["distance"].rolling(SMOOTHED, min_periods=1).mean()
    axes.plot(_dates(table), smooth, color=LIGHT["orange"], linewidth=1.3)
    axes.set_ylabel("distance, 0 to 1")
    axes.set_ylim(bottom=0)
    _over_time(axes, theme, table)


def _dates(table: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(table["date"])


def _over_time(axes: Axes, theme: Theme, table: pd.DataFrame) -> None:
    """Marks the first day of each split, and writes dates short."""
    dates = _dates(table)
    for split in dict.fromkeys(table["split"]):
        first = dates[(table["split"] == split).to_numpy()][0]
        axes.axvline(first, color=LIGHT["ink"], linewidth=1, linestyle=":")
        axes.annotate(f" {split}", (first, 1), xycoords=("data", "axes fraction"), va="bottom")
    date_axis(axes, theme)
