"""Pictures of what a run selects and attends to. Import it where a picture is made: matplotlib takes long."""

from pathlib import Path

import matplotlib.dates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tftjax.plots.forecasts import COLORS, save

SMOOTHED = 21  # windows, a month of trading days: single days hide what changes slowly
MAX_COLUMNS = 1200  # of the picture of attention over time: more would fall on the same pixels
MARKERS = ("o", "s", "^", "D")
LINES = (*COLORS, "#7a7a7a", "#b8433a", "#2aa3a3", "#c9a227")


def draw(directory: Path, name: str, tables: dict[str, pd.DataFrame]) -> None:
    """Draws a PNG for each table that says something in a picture.

    Args:
      name: the run's, for titles.
      tables: those of `interpret`, by file name; of several series the first is drawn over time.
    """
    over_time = {key: _first_series(tables[key]) for key in ("importance_over_time", "regime_shift")}
    importance(directory / "importance.png", tables["importance"], name)
    importance_over_time(directory / "importance_over_time.png", over_time["importance_over_time"], name)
    attention_by_lag(directory / "attention_by_lag.png", tables["attention_by_lag"], name)
    first_horizon = _first_series(tables["attention_over_time"]).query("horizon == 1")
    attention_over_time(directory / "attention_over_time.png", first_horizon, name)
    heads = _first_series(tables["heads_over_time"]).query("horizon == 1")
    heads_over_time(directory / "heads_over_time.png", heads, name)
    shift(directory / "regime_shift.png", over_time["regime_shift"], name)


def _first_series(table: pd.DataFrame) -> pd.DataFrame:
    return table if "series" not in table else table[table["series"] == table["series"].iloc[0]]


def importance(path: Path, table: pd.DataFrame, name: str) -> None:
    """Bars of the mean selection weight on test windows, with what lies between the 10 and 90 % points.

    Marks are means by regime: of the run's own regimes if it has any, or else by volatility.
    """
    own = table[table["split"] == table["split"].iloc[-1]]
    division = table.columns[-1].rpartition(": ")[0]
    regimes = [column for column in table if column.startswith(f"{division}: ")]
    kinds = list(dict.fromkeys(own["kind"]))
    figure = Figure(figsize=(4.2 * len(kinds), 1.6 + 0.32 * 14), dpi=130, layout="constrained")
    figure.suptitle(f"{name}: importance of variables, {own['split'].iloc[0]} windows", parse_math=False)
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        rows = own[own["kind"] == kind].sort_values("mean")
        places = np.arange(len(rows))
        axes.barh(places, rows["mean"], color=COLORS[0], alpha=0.75)
        axes.hlines(places, rows["p10"], rows["p90"], color=COLORS[1], linewidth=2)
        for number, regime in enumerate(regimes):
            style = {"marker": MARKERS[number % len(MARKERS)], "color": LINES[2 + number % 6], "zorder": 3}
            axes.scatter(rows[regime], places, s=22, edgecolor="white", linewidth=0.5, label=regime, **style)
        axes.set_yticks(places, rows["variable"], parse_math=False)
        axes.set_title(f"{kind} inputs", fontsize=10)
        axes.set_xlabel("selection weight; line: 10 to 90 % of windows", fontsize=8)
        _tidy(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save(figure, path)


def importance_over_time(path: Path, table: pd.DataFrame, name: str) -> None:
    """The weights of the encoder's variables by date, smoothed over a month."""
    figure, axes = _figure(f"{name}: encoder variables over time, mean of {SMOOTHED} windows")
    columns = [column for column in table if column.startswith("encoder: ")]
    ranked = table[columns].mean().sort_values(ascending=False).index
    smooth = table[ranked].rolling(SMOOTHED, min_periods=1).mean()
    for number, column in enumerate(ranked):
        style = ("-", "--", ":")[number // len(LINES) % 3]
        axes.plot(_dates(table), smooth[column], style, color=LINES[number % len(LINES)], linewidth=1.1)
    axes.set_ylabel("selection weight")
    labels = [column.removeprefix("encoder: ") for column in ranked]
    _over_time(axes, table)
    figure.legend(axes.lines[: len(labels)], labels, loc="outside right", frameon=False, fontsize=8)
    save(figure, path)


def attention_by_lag(path: Path, table: pd.DataFrame, name: str) -> None:
    """Attention to each step for the first horizon on test windows: percentiles, and each head's mean."""
    own = table[(table["split"] == table["split"].iloc[-1]) & (table["horizon"] == 1)]
    figure, axes = _figure(f"{name}: attention by step, first horizon, {own['split'].iloc[0]} windows")
    axes.fill_between(own["step"], own["p10"], own["p90"], color=COLORS[0], alpha=0.2, label="10 to 90 %")
    axes.plot(own["step"], own["p50"], "o-", color=COLORS[0], markersize=3, label="median")
    for number, column in enumerate(column for column in own if column.startswith("head ")):
        axes.plot(own["step"], own[column], "--", color=LINES[1 + number % 7], linewidth=1, label=column)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step: 0 is the last row known, 1 the first forecast")
    axes.set_ylabel("attention")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right", frameon=False, fontsize=8)
    save(figure, path)


def attention_over_time(path: Path, table: pd.DataFrame, name: str) -> None:
    """Attention to each step by date, first horizon; means of neighbours where windows are many."""
    figure, axes = _figure(f"{name}: attention over time, first horizon")
    steps = [column for column in table if column.removeprefix("-").isdigit()]
    values = table[steps].to_numpy()
    count = min(len(values), MAX_COLUMNS)
    groups = np.array_split(np.arange(len(values)), count)
    shown = np.stack([values[rows].mean(axis=0) for rows in groups])
    dates = _dates(table).to_numpy()[[rows[0] for rows in groups]]
    # In the logarithm: one step often has ten times the weight of the others. What is masked stays blank.
    shown = np.where(shown > 0, shown, np.nan)
    norm = LogNorm(np.nanquantile(shown, 0.01), np.nanmax(shown))
    places = [int(step) for step in steps]
    mesh = axes.pcolormesh(dates, places, shown.T, cmap="cividis", norm=norm, rasterized=True)
    figure.colorbar(mesh, ax=axes, label="attention")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("step")
    _over_time(axes, table)
    axes.grid(False)
    save(figure, path)


def heads_over_time(path: Path, table: pd.DataFrame, name: str) -> None:
    """How far back each head looks by date, first horizon, smoothed over a month."""
    figure, axes = _figure(f"{name}: how far back each head looks, mean of {SMOOTHED} windows")
    for number, (head, own) in enumerate(table.groupby("head")):
        smooth = own["mean_lag"].rolling(SMOOTHED, min_periods=1).mean()
        axes.plot(_dates(own), smooth, color=LINES[number % len(LINES)], linewidth=1.1, label=f"head {head}")
    axes.set_ylabel("mean lag, rows before the step forecast")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right", frameon=False, fontsize=8)
    _over_time(axes, table)
    save(figure, path)


def shift(path: Path, table: pd.DataFrame, name: str) -> None:
    """How far the attention of each day is from its mean pattern."""
    figure, axes = _figure(f"{name}: distance of the attention from its mean pattern (regime shifts)")
    axes.plot(_dates(table), table["distance"], color=COLORS[0], alpha=0.3, linewidth=0.7)
    smooth = table["distance"].rolling(SMOOTHED, min_periods=1).mean()
    axes.plot(_dates(table), smooth, color=COLORS[1], linewidth=1.3, label=f"mean of {SMOOTHED} windows")
    axes.set_ylabel("distance, 0 to 1")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    _over_time(axes, table)
    save(figure, path)


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 14 / 3), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.grid(True, color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _dates(table: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(table["date"])


def _over_time(axes: Axes, table: pd.DataFrame) -> None:
    """Marks where splits begin, and writes dates short."""
    dates = _dates(table)
    for split in dict.fromkeys(table["split"]):
        first = dates[(table["split"] == split).to_numpy()][0]
        axes.axvline(first, color="#444444", linewidth=0.7, linestyle=":")
        axes.annotate(f" {split}", (first, 1), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
    locator = matplotlib.dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    axes.margins(x=0.01)
