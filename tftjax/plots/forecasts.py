"""Pictures of forecasts as PNG files of 1200 x 700 pixels.

Import it where a picture is made, not at the top of an entry point: matplotlib takes half a second. Figures
are made without pyplot, so that nothing global is left behind.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.dates
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tftjax.evaluate.metrics import central_intervals
from tftjax.evaluate.significance import wilson_interval

ROWS_SHOWN = 252  # a year of trading days
COLORS = ("#1f5fa8", "#d97706", "#3f8f4f", "#8a4fa0")  # told apart by colour-blind readers too


def fan_chart(
    path: str | Path,
    dates: pd.DatetimeIndex,
    actual: Float[np.ndarray, " N"],
    forecast: Float[np.ndarray, "N Q"],
    quantiles: Sequence[float],
    title: str,
) -> None:
    """Draw the last 252 forecasts as shaded central intervals, with their median and what happened.

    Args:
        path: the PNG to write.
        dates: date of each forecast return.
        actual, forecast: returns as decimals; drawn in percent.
        quantiles: the Q levels, ascending, 0.5 among them.
        title: plain text.
    """
    days = dates[-ROWS_SHOWN:].to_numpy()
    actual, forecast = 100 * actual[-ROWS_SHOWN:], 100 * forecast[-ROWS_SHOWN:]
    figure, (axes,) = _figure(title, columns=1)
    intervals = central_intervals(quantiles)
    # The widest first and palest, so that the narrower ones lie on top of it.
    for rank, (low, high, percent) in reversed(list(enumerate(intervals))):
        shade = 0.25 + 0.6 * (rank + 1) / len(intervals)
        bounds = forecast[:, low], forecast[:, high]
        axes.fill_between(
            days, *bounds, color=_tint(COLORS[0], shade), linewidth=0, label=f"{percent} % interval"
        )
    middle = forecast[:, list(quantiles).index(0.5)]
    axes.plot(days, middle, color="#0b2f5c", linewidth=1.2, label="median forecast")
    axes.plot(days, actual, "o", color=COLORS[1], markersize=2.6, label="actual")
    axes.axhline(0, color="#444444", linewidth=0.6)
    locator = matplotlib.dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    axes.set_ylabel("return, %")
    axes.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=len(intervals) + 2, frameon=False, fontsize=9)
    save(figure, path)


def calibration(
    path: str | Path,
    shares: Mapping[str, Float[np.ndarray, " Q"]],
    count: int,
    quantiles: Sequence[float],
    title: str,
) -> None:
    """Draw the share of actuals at or below each forecast quantile against its level: the diagonal is right.

    On the left the shares, on the right their distance from the level, both with 95 % Wilson bands. The bands
    take actuals as independent, which overlapping horizons are not: pass one horizon.

    Args:
        path: the PNG to write.
        shares: name, as the legend shows it -> shares; the model first, then baselines.
        count: how many actuals they are shares of.
        quantiles: the Q levels, ascending.
        title: plain text.
    """
    levels = np.asarray(quantiles)
    figure, (left, right) = _figure(title, columns=2)
    left.plot([0, 100], [0, 100], color="#444444", linewidth=0.8, linestyle="--", label="calibrated")
    right.axhline(0, color="#444444", linewidth=0.8, linestyle="--")
    for (name, share), color in zip(shares.items(), itertools.cycle(COLORS), strict=False):
        low, high = wilson_interval(share, count)
        for axes, base in ((left, 0), (right, levels)):
            values = [100 * (line - base) for line in (share, low, high)]
            axes.fill_between(100 * levels, values[1], values[2], color=color, alpha=0.18, linewidth=0)
            axes.plot(100 * levels, values[0], "o-", color=color, markersize=4, linewidth=1.3, label=name)
    left.set_ylabel("actuals at or below the forecast, %")
    right.set_ylabel("observed minus nominal, percentage points")
    for axes in (left, right):
        axes.set_xlabel("level of the forecast quantile, %")
        axes.set_xlim(0, 100)
    left.set_ylim(0, 100)
    handles, labels = left.get_legend_handles_labels()
    labels[1:] = [f"{label} (95 % band)" for label in labels[1:]]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    save(figure, path)


def _figure(title: str, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8, 14 / 3), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    row = list(figure.subplots(1, columns, squeeze=False)[0])
    for axes in row:
        axes.grid(True, color="#e3e3e3", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    return figure, row


def _tint(color: str, share_white: float) -> tuple[float, ...]:
    rgb = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return tuple(part + (1 - part) * share_white for part in rgb)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG; the same picture is the same file, whatever matplotlib's version."""
    figure.savefig(path, format="png", metadata={"Software": None})
