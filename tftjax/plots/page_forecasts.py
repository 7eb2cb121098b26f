"""The figures of a report that show forecasts. Import it late: matplotlib takes half a second."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.dates
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tftjax.evaluate.metrics import central_intervals
from tftjax.evaluate.quality import MODES
from tftjax.evaluate.significance import wilson_interval
from tftjax.plots.forecasts import ROWS_SHOWN
from tftjax.plots.theme import LIGHT, SERIES, Key, Picture, date_axis, picture

SKILL_DAYS = 126  # half a year of trading days
MIN_SKILL_DAYS = 10
# Collapse is red, and what is good is green; the rows of the timeline say it too.
MODE_COLORS = dict(zip(MODES, ("red", "red", "orange", "purple", "green", "muted"), strict=True))


def differences(
    tests: Mapping[str, Mapping[str, Any]],
    losses: Mapping[str, float],
    title: str = "Model minus each baseline",
    which: str = "differences",
) -> Picture | None:
    """Pinball losses less a baseline's, in percent of the baseline's, with 95 % intervals.

    Args:
      tests: Diebold and Mariano's, by what a line shows.
      losses: the baseline's pinball loss of each line; a line whose loss is zero is left out.
      which: the figure's name in the page.
    Returns:
      None where there is no interval.
    """
    found = {name: test for name, test in tests.items() if test["low"] is not None and losses[name] > 0}
    if not found:
        return None
    names = list(found)[::-1]

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for place, name in enumerate(names):
            unit = 100 / losses[name]
            low, mean, high = (unit * found[name][key] for key in ("low", "difference", "high"))
            color = LIGHT["green" if high < 0 else "red" if low > 0 else "muted"]
            axes.plot([low, high], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
            axes.plot(mean, place, "o", color=color, markersize=7)
        axes.axvline(0, color=LIGHT["ink"], linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("difference, % of the baseline's")
        axes.grid(False, axis="y")

    height = 26 * len(names) + 60
    return picture(
        which,
        draw,
        title=title,
        alt="; ".join(f"{n}: {100 * found[n]['difference'] / losses[n]:+.2f} %" for n in found),
        heights=(height, height),
        legend=(
            Key("better", "green", "dot"),
            Key("not told apart", "muted", "dot"),
            Key("worse", "red", "dot"),
        ),
        caption="In pinball loss. Left of the line is better than the baseline. Bars are 95 % intervals.",
    )


def fan(
    dates: pd.DatetimeIndex,
    actual: Float[np.ndarray, " N"],
    forecast: Float[np.ndarray, "N Q"],
    quantiles: Sequence[float],
    which: str,
) -> Picture:
    """The last year of forecasts as shaded central intervals, with the median and what happened.

    Args:
      actual, forecast: returns as decimals; drawn in percent.
      which: the series, in words; "" of a single one.
    """
    days = dates[-ROWS_SHOWN:].to_numpy()
    actual, forecast = 100 * actual[-ROWS_SHOWN:], 100 * forecast[-ROWS_SHOWN:]
    intervals = central_intervals(quantiles)
    opacities = [0.5 - 0.36 * rank / max(1, len(intervals) - 1) for rank in range(len(intervals))]

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for (low, high, _), opacity in reversed(list(zip(intervals, opacities, strict=True))):
            bounds = forecast[:, low], forecast[:, high]
            axes.fill_between(days, *bounds, color=LIGHT["blue"], alpha=opacity, linewidth=0)
        axes.plot(days, forecast[:, list(quantiles).index(0.5)], color=LIGHT["ink"], linewidth=1.2)
        axes.plot(days, actual, "o", color=LIGHT["orange"], markersize=1.8 if narrow else 2.6)
        axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
        axes.set_ylabel("return, %")
        date_axis(axes, narrow)

    outside = {p: np.mean((actual < forecast[:, a]) | (actual > forecast[:, b])) for a, b, p in intervals}
    said = ", ".join(f"{100 * share:.0f} % outside of the {p} % interval" for p, share in outside.items())
    return picture(
        "fan",
        draw,
        title=f"The last {len(days)} forecasts{which}",
        alt=f"Forecast intervals and actual returns, {said}.",
        heights=(320, 260),
        legend=(
            *(Key(f"{p} %", "blue", "band", o) for (_, _, p), o in zip(intervals, opacities, strict=True)),
            Key("median", "ink"),
            Key("actual", "orange", "dot"),
        ),
        caption=f"Of the days shown: {said}.",
    )


def calibration(
    histograms: Mapping[str, Mapping[str, float]], quantiles: Sequence[float], count: int
) -> Picture:
    """The share of actuals at or below each forecast quantile, less its level: zero is right.

    Args:
      histograms: by forecast, the model first, `pit_histogram` of metrics.json.
      count: of independent actuals; 0 draws no band.
    """
    levels = np.asarray(quantiles)
    shares = {name: np.cumsum(list(bins.values()))[:-1] for name, bins in histograms.items()}
    colors = dict(zip(shares, SERIES, strict=False))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=LIGHT["ink"], linewidth=1)
        if count:
            low, high = wilson_interval(next(iter(shares.values())), count)
            bounds = 100 * (low - levels), 100 * (high - levels)
            axes.fill_between(100 * levels, *bounds, color=LIGHT["blue"], alpha=0.2, linewidth=0)
        for name, share in shares.items():
            line = 100 * (share - levels)
            axes.plot(100 * levels, line, "o-", color=LIGHT[colors[name]], markersize=4, linewidth=1.5)
        axes.set_xlabel("level of the forecast quantile, %")
        axes.set_ylabel("observed minus level, points")
        axes.set_xlim(0, 100)

    model = next(iter(shares.values()))
    worst = int(np.argmax(np.abs(model - levels)))
    band = (Key("95 % band of the model", "blue", "band", 0.2),) if count else ()
    return picture(
        "calibration",
        draw,
        title="Calibration",
        alt=f"Farthest off: {100 * model[worst]:.1f} % of actuals up to the {levels[worst]:g} quantile.",
        heights=(280, 250),
        legend=(*(Key(name, color) for name, color in colors.items()), *band),
        caption="Above zero, more actuals than the level says lie at or below the quantile: it is too high.",
    )


def pit(histogram: Mapping[str, float], quantiles: Sequence[float], count: int) -> Picture:
    """The PIT histogram: how often actuals fell between two quantiles, over how often they should.

    Args:
      histogram: `pit_histogram` of metrics.json.
      count: of independent actuals; 0 draws no intervals.
    """
    edges = np.array([0.0, *quantiles, 1.0])
    expected, share = np.diff(edges), np.array(list(histogram.values()))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        axes.bar(
            100 * edges[:-1],
            share / expected,
            width=100 * expected,
            align="edge",
            color=LIGHT["blue"],
            alpha=0.45,
            edgecolor=LIGHT["blue"],
            linewidth=1,
        )
        if count:
            middle = 50 * (edges[:-1] + edges[1:])
            low, high = wilson_interval(share, count)
            axes.vlines(middle, low / expected, high / expected, color=LIGHT["ink"], linewidth=1.2)
        axes.axhline(1, color=LIGHT["ink"], linewidth=1, linestyle="--")
        axes.set_xlabel("level, %")
        axes.set_ylabel("observed / expected")
        axes.set_xlim(0, 100)
        axes.grid(False, axis="x")

    said = ", ".join(f"{bins}: {100 * value:.1f} %" for bins, value in histogram.items())
    return picture(
        "pit",
        draw,
        title="PIT histogram",
        alt=f"Share of actuals by bin of levels: {said}.",
        heights=(280, 250),
        caption="Flat at 1 is calibrated; high at both ends: too narrow; high in the middle: too wide."
        + (" Lines are 95 % intervals." if count else ""),
    )


def rolling_skill(
    losses: pd.DataFrame, names: Sequence[str], stormy: Bool[np.ndarray, " N"]
) -> Picture | None:
    """By how much the model's pinball loss is below a baseline's, over rolling days of the test rows.

    Args:
      losses: by day, of "model" and of the baselines.
      names: the baselines to draw.
      stormy: days to shade.
    Returns:
      None with too few days or no baseline.
    """
    window = min(SKILL_DAYS, len(losses) // 2)
    if window < MIN_SKILL_DAYS or not names:
        return None
    skills = {name: skill_over_time(losses, "model", name, window) for name in names}
    colors = dict(zip(names, SERIES, strict=False))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        shade(axes, losses.index, stormy)
        axes.axhline(0, color=LIGHT["ink"], linewidth=1)
        for name, skill in skills.items():
            axes.plot(skill.index, skill, color=LIGHT[colors[name]], linewidth=1.5)
        axes.set_ylabel("skill, %")
        date_axis(axes, narrow)

    said = "; ".join(
        f"above {name} in {100 * (skill > 0).mean():.0f} % of the windows, between {skill.min():+.1f} %"
        f" and {skill.max():+.1f} %"
        for name, skill in skills.items()
    )
    return picture(
        "skill",
        draw,
        title=f"Pinball skill over rolling {window} days",
        alt=f"{said}.",
        heights=(300, 250),
        legend=(
            *(Key(f"against {name}", color) for name, color in colors.items()),
            Key("high volatility", "orange", "band", 0.18),
        ),
        caption=f"Above zero the model is better. {said[0].upper()}{said[1:]}.",
    )


def skill_over_time(losses: pd.DataFrame, own: str, baseline: str, window: int) -> pd.Series:
    """By how many percent one column is below another over rolling rows; nan where that one is zero."""
    means = losses[[own, baseline]].rolling(window).mean().iloc[window - 1 :]
    return 100 * (1 - means[own] / means[baseline].where(means[baseline] > 0))


def shade(axes: Axes, dates: pd.DatetimeIndex, where: Bool[np.ndarray, " N"]) -> None:
    """Shades the stretches of days for which a condition holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]])))
    for start, stop in edges.reshape(-1, 2):
        last = dates[min(stop, len(dates) - 1)]
        axes.axvspan(dates[start], last, color=LIGHT["orange"], alpha=0.18, linewidth=0)


def quality_timeline(quality: pd.DataFrame) -> Picture | None:
    """The mode of every rolling window of one split and series, by the day it ends; None without a window.

    Args:
      quality: rows of quality.csv.
    """
    if not len(quality):
        return None
    days = matplotlib.dates.date2num(quality["date"])
    # A window stands for the days to the next one's end, over weekends too; the last one for a day.
    widths = np.append(np.diff(days), 1.0)
    shown = [mode for mode in MODES if (quality["mode"] == mode).any() or mode == "HEALTHY"][::-1]

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for place, mode in enumerate(shown):
            own = (quality["mode"] == mode).to_numpy()
            starts, stops = _stretches(own, days, widths)
            spans = list(zip(starts, stops - starts, strict=True))
            axes.broken_barh(spans, (place - 0.38, 0.76), color=LIGHT[MODE_COLORS[mode]], linewidth=0)
        axes.xaxis_date()
        axes.set_yticks(range(len(shown)), [mode.replace("_", " ").lower() for mode in shown])
        axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlim(days[0], days[-1] + 1)
        axes.grid(False, axis="y")
        date_axis(axes, narrow)

    counts = quality["mode"].value_counts(normalize=True)
    said = ", ".join(f"{mode} {100 * share:.0f} %" for mode, share in counts.items())
    height = 28 * len(shown) + 50
    return picture("quality", draw, title="Quality modes over time", alt=f"{said}.", heights=(height, height))


def _stretches(own: np.ndarray, days: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last day number of each unbroken run of a mode's windows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]))).reshape(-1, 2)
    return days[edges[:, 0]], days[edges[:, 1] - 1] + widths[edges[:, 1] - 1]
