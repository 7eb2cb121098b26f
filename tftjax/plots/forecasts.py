"""Figures of forecasts, their calibration, their losses and their quality."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib.dates
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tftjax.evaluate.formatting import RETURNS, Unit
from tftjax.evaluate.metrics import central_intervals
from tftjax.evaluate.quality import MODES
from tftjax.evaluate.significance import wilson_interval
from tftjax.plots.chart import Band, Chart, Line, opacities
from tftjax.plots.theme import LIGHT, Drawing, Key, Picture, Theme, date_axis, name_rows, picture, series_keys

ROWS_SHOWN = 252  # a year of trading days
SKILL_DAYS = 126  # half a year of trading days
MIN_SKILL_DAYS = 10
STORMY = Key("high volatility", "orange", "band", 0.18)
MODE_COLORS = dict(zip(MODES, ("red", "red", "orange", "purple", "green", "muted"), strict=True))


def fan_data(
    dates: pd.DatetimeIndex,
    actual: Float[np.ndarray, " N"],
    forecast: Float[np.ndarray, "N Q"],
    quantiles: Sequence[float],
    unit: Unit = RETURNS,
    rows: int = ROWS_SHOWN,
) -> Chart:
    """The last forecasts of a series: central intervals, median and actual values.

    Args:
      dates: date of each value that was forecast.
      actual, forecast: returns as decimals, or levels.
      quantiles: ascending levels, 0.5 among them.
      unit: the unit in which they are drawn.
      rows: number of forecasts.
    """
    actual, forecast = unit.factor * actual[-rows:], unit.factor * forecast[-rows:]
    *bands, median, dots = fan_keys(quantiles)
    intervals = zip(bands, central_intervals(quantiles), strict=True)
    areas = [Band(key, forecast[:, low], forecast[:, high]) for key, (low, high, _) in intervals]
    lines = (Line(median, forecast[:, list(quantiles).index(0.5)]), Line(dots, actual))
    return Chart(dates[-rows:], unit.title, lines, areas[::-1], form=unit.form)


def fan_drawing(chart: Chart, title: str) -> Drawing:
    """`fan_chart` with a title."""
    return Drawing(partial(fan_chart, chart=chart), title, _fan_legend(chart))


def _fan_legend(chart: Chart) -> list[Key]:
    return [*(band.key for band in reversed(chart.bands)), *(line.key for line in chart.lines)]


def fan_chart(figure: Figure, theme: Theme, chart: Chart) -> None:
    """Draws `fan_data`: intervals as shaded bands, the median as a line, actual values as dots."""
    theme.set_height(figure, 320, 260)
    days, axes = chart.x.to_numpy(), figure.subplots()
    # The widest first and palest: the opacity of a narrower one adds to those below it.
    for (key, low, high), alpha in zip(chart.bands, opacities(chart.bands), strict=True):
        axes.fill_between(days, low, high, color=LIGHT[key.color], alpha=alpha, linewidth=0)
    median, actual = chart.lines
    axes.plot(days, median.values, color=LIGHT[median.key.color], linewidth=1.2)
    axes.plot(days, actual.values, "o", color=LIGHT["orange"], markersize=1.8 if theme.narrow else 3)
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
    axes.set_ylabel(chart.y_title)
    date_axis(axes, theme)


def _intervals(quantiles: Sequence[float]) -> list[tuple[tuple[int, int, str], float]]:
    """The central intervals, the narrowest first, each with the opacity of its band."""
    intervals = central_intervals(quantiles)
    return list(zip(intervals, np.linspace(0.5, 0.14, len(intervals)).tolist(), strict=True))


def fan_keys(quantiles: Sequence[float]) -> list[Key]:
    """The legend of `fan_chart`."""
    bands = [Key(f"{percent} %", "blue", "band", o) for (_, _, percent), o in _intervals(quantiles)]
    return [*bands, Key("median", "ink"), Key("actual", "orange", "dot")]


def fan_picture(charts: Mapping[str, Chart], title_end: str = "") -> Picture:
    """`fan_chart` of the first series for the page, which lets its reader choose another.

    Args:
      charts: `fan_data` by name of a series; "" if there is one only.
      title_end: the end of the title, such as the step.
    """
    (series, first), *_ = charts.items()
    actual = first.lines[1].values
    outside = {
        band.key.label: np.mean((actual < band.low) | (actual > band.high)) for band in reversed(first.bands)
    }
    text = ", ".join(f"{100 * share:.0f} % outside of the {name} interval" for name, share in outside.items())
    named = f", series {series}" if series else ""
    return picture(
        "fan",
        partial(fan_chart, chart=first),
        title=f"The last {len(first.x)} forecasts{named}{title_end}: {first.y_title}",
        alt=f"Forecast intervals and actual values, {text}.",
        legend=_fan_legend(first),
        caption=f"Of these {len(first.x)} dates alone: {text}.",
    )._replace(charts=charts, of_first=True)


def calibration(
    figure: Figure,
    theme: Theme,
    shares: Mapping[str, Float[np.ndarray, " Q"]],
    quantiles: Sequence[float],
    count: int,
) -> None:
    """Draws the share of actuals at or below each forecast quantile, less its level: zero is right.

    On a wide figure the shares themselves stand to the left: the diagonal is right. The model has a 95 %
    Wilson band.

    Args:
      shares: shares by forecast, the model's first.
      count: number of independent actuals; 0 draws no band.
    """
    theme.set_height(figure, 280, 250)
    levels = np.asarray(quantiles)
    *left, right = figure.subplots(1, 1 if theme.narrow else 2, squeeze=False)[0]
    for axes in left:
        axes.plot([0, 100], [0, 100], color=LIGHT["ink"], linewidth=1)
        axes.set_ylabel("actuals at or below the forecast, %")
        axes.set_ylim(0, 100)
    right.axhline(0, color=LIGHT["ink"], linewidth=1)
    right.set_ylabel("observed minus level, points")
    for axes, base in (*((axes, 0) for axes in left), (right, levels)):
        if count:
            low, high = wilson_interval(next(iter(shares.values())), count)
            bounds = 100 * (low - base), 100 * (high - base)
            axes.fill_between(100 * levels, *bounds, color=LIGHT["blue"], alpha=0.2, linewidth=0)
        for share, key in zip(shares.values(), series_keys(shares), strict=True):
            line = 100 * (share - base)
            axes.plot(100 * levels, line, marker="o", markersize=4, linewidth=1.5, **key.line)
        axes.set_xlabel("level of the forecast quantile, %")
        axes.set_xlim(0, 100)


def calibration_data(shares: Mapping[str, Float[np.ndarray, " Q"]], quantiles: Sequence[float]) -> Chart:
    """The differences of `calibration`, in points: zero is right."""
    levels = 100 * np.asarray(quantiles)
    lines = [
        Line(key, 100 * share - levels)
        for share, key in zip(shares.values(), series_keys(shares), strict=True)
    ]
    return Chart(levels, "observed minus level, points", lines, x_title="level of the forecast quantile, %")


def calibration_drawing(
    shares: Mapping[str, Float[np.ndarray, " Q"]],
    quantiles: Sequence[float],
    count: int,
    title: str,
) -> Drawing:
    """`calibration` with a title."""
    draw = partial(calibration, shares=shares, quantiles=quantiles, count=count)
    return Drawing(draw, title, calibration_keys(list(shares), count))


def calibration_keys(names: Sequence[str], count: int) -> list[Key]:
    """The legend of `calibration`."""
    band = [Key("95 % band of the model", "blue", "band", 0.2)] if count else []
    return [*series_keys(names), *band]


def calibration_picture(
    histograms: Mapping[str, Mapping[str, float]], quantiles: Sequence[float], count: int
) -> Picture:
    """`calibration` for the page.

    Args:
      histograms: `pit_histogram` of metrics.json by forecast, the model's first.
    """
    shares = {name: np.cumsum(list(bins.values()))[:-1] for name, bins in histograms.items()}
    model = next(iter(shares.values()))
    worst = int(np.argmax(np.abs(model - np.asarray(quantiles))))
    return picture(
        "calibration",
        partial(calibration, shares=shares, quantiles=quantiles, count=count),
        title="Calibration",
        alt=f"Farthest off: {100 * model[worst]:.1f} % of actuals up to the {quantiles[worst]:g} quantile.",
        legend=calibration_keys(list(shares), count),
        caption="Above zero, more actuals than the level says lie at or below the quantile: it is too high.",
    )


def pit_histogram(
    figure: Figure, theme: Theme, share: Float[np.ndarray, " N"], quantiles: Sequence[float], count: int
) -> None:
    """Draws the share of actuals between each two quantiles over the expected share.

    Args:
      share: share of actuals in each bin.
      count: number of independent actuals; 0 draws no intervals.
    """
    theme.set_height(figure, 280, 250)
    edges = np.array([0.0, *quantiles, 1.0])
    expected = np.diff(edges)
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


def pit_picture(histogram: Mapping[str, float], quantiles: Sequence[float], count: int) -> Picture:
    """The `pit_histogram` of metrics.json for the page."""
    text = ", ".join(f"{bins}: {100 * value:.1f} %" for bins, value in histogram.items())
    share = np.array(list(histogram.values()))
    return picture(
        "pit",
        partial(pit_histogram, share=share, quantiles=quantiles, count=count),
        title="PIT histogram",
        alt=f"Share of actuals by bin of levels: {text}.",
        caption="Flat at 1 is calibrated; high at both ends: too narrow; high in the middle: too wide."
        + (" Lines are 95 % intervals." if count else ""),
    )


def differences(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws differences with their intervals, the first on top.

    Args:
      table: low, difference and high of each row, in percent; the index names the rows.
    """
    theme.set_height(figure, 26 * len(table) + 60)
    axes = figure.subplots()
    for place, row in enumerate(table[::-1].itertuples()):
        color = LIGHT["green" if row.high < 0 else "red" if row.low > 0 else "muted"]
        axes.plot([row.low, row.high], [place] * 2, color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot(row.difference, place, "o", color=color, markersize=7)
    axes.axvline(0, color=LIGHT["ink"], linewidth=1)
    axes.set_xlabel("difference, % of the baseline's")
    name_rows(axes, list(table.index[::-1]))


def differences_picture(
    tests: Mapping[str, Mapping[str, Any]],
    losses: Mapping[str, float],
    title: str = "Model minus each baseline",
    figure_name: str = "differences",
) -> Picture | None:
    """`differences` for the page: pinball losses less a baseline's; None without an interval.

    Args:
      tests: Diebold and Mariano's test of each line.
      losses: the baseline's pinball loss of each line; a line whose loss is zero is left out.
      figure_name: unique in the page.
    """
    rows = {
        name: {key: 100 * test[key] / losses[name] for key in ("low", "difference", "high")}
        for name, test in tests.items()
        if test["low"] is not None and losses[name] > 0
    }
    if not rows:
        return None
    return picture(
        figure_name,
        partial(differences, table=pd.DataFrame.from_dict(rows, orient="index")),
        title=title,
        alt="; ".join(f"{name}: {row['difference']:+.2f} %" for name, row in rows.items()),
        legend=(
            Key("better", "green", "dot"),
            Key("not told apart", "muted", "dot"),
            Key("worse", "red", "dot"),
        ),
        caption="In pinball loss. Left of the line is better than the baseline. Bars are 95 % intervals.",
    )


def rolling_skill(figure: Figure, theme: Theme, chart: Chart) -> None:
    """Draws `skill_data`."""
    theme.set_height(figure, 300, 250)
    axes = figure.subplots()
    for first, last in chart.shaded:
        axes.axvspan(chart.x[first], chart.x[last], color=LIGHT["orange"], alpha=0.18, linewidth=0)
    axes.axhline(0, color=LIGHT["ink"], linewidth=1)
    for key, values in chart.lines:
        axes.plot(chart.x, values, linewidth=1.5, **key.line)
    axes.set_ylabel(chart.y_title)
    date_axis(axes, theme)


def skill_data(
    losses: pd.DataFrame, names: Sequence[str], stormy: Bool[np.ndarray, " N"], window: int
) -> Chart:
    """The model's skill against baselines over rolling days.

    Args:
      losses: pinball loss of "model" and of the baselines by test day.
      names: the baselines.
      stormy: the days to shade.
      window: days over which losses are averaged.
    """
    days = losses.index
    lines = [
        Line(key, skill_over_time(losses, "model", name, window).reindex(days).to_numpy())
        for name, key in zip(names, series_keys(f"against {name}" for name in names), strict=True)
    ]
    spans = [(start, min(stop, len(days) - 1)) for start, stop in stretches(stormy)]
    return Chart(days, "skill, %", lines, shaded=spans, shade=STORMY)


def rolling_skill_picture(
    losses: pd.DataFrame, names: Sequence[str], stormy: Bool[np.ndarray, " N"]
) -> Picture | None:
    """`rolling_skill` for the page; None with too few days or no baseline.

    Args:
      losses: pinball loss of "model" and of the baselines by test day.
      names: the baselines to draw.
      stormy: the days to shade.
    """
    window = min(SKILL_DAYS, len(losses) // 2)
    if window < MIN_SKILL_DAYS or not names:
        return None
    chart = skill_data(losses, names, stormy, window)
    lines = [line for line in chart.lines if np.isfinite(line.values).any()]
    chart = chart._replace(lines=lines)
    skills = {line.key.label.removeprefix("against "): pd.Series(line.values).dropna() for line in lines}
    if not skills:
        return None
    text = "; ".join(
        f"above {name} in {100 * (skill > 0).mean():.0f} % of the windows, between {skill.min():+.1f} %"
        f" and {skill.max():+.1f} %"
        for name, skill in skills.items()
    )
    return picture(
        "skill",
        partial(rolling_skill, chart=chart),
        title=f"Pinball skill over rolling {window} dates",
        alt=f"{text}.",
        legend=(*(line.key for line in chart.lines), STORMY),
        caption=f"Above zero the model is better. {text[0].upper()}{text[1:]}.",
    )._replace(charts={"": chart})


def skill_over_time(losses: pd.DataFrame, forecast: str, baseline: str, window: int) -> pd.Series:
    """Gain of one column over another over rolling rows, in percent; nan where the other is zero."""
    means = losses[[forecast, baseline]].rolling(window).mean().iloc[window - 1 :]
    return 100 * (1 - means[forecast] / means[baseline].where(means[baseline] > 0))


def stretches(condition: Bool[np.ndarray, " N"]) -> list[tuple[int, int]]:
    """First row, and row after the last, of each unbroken stretch on which a condition holds.

    >>> stretches(np.array([True, False, True, True]))
    [(0, 1), (2, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], condition, [False]]))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def shade(axes: Axes, dates: pd.DatetimeIndex, condition: Bool[np.ndarray, " N"]) -> None:
    """Shades the stretches of days on which a condition holds."""
    for start, stop in stretches(condition):
        last = dates[min(stop, len(dates) - 1)]
        axes.axvspan(dates[start], last, color=LIGHT["orange"], alpha=0.18, linewidth=0)


def quality_timeline(figure: Figure, theme: Theme, quality: pd.DataFrame) -> None:
    """Draws the mode of every rolling window of one split and series, by the day it ends.

    Args:
      quality: rows of quality.csv, at least one.
    """
    days = matplotlib.dates.date2num(quality["date"])
    # A window lasts to the next one's end, over weekends too; the last one for a day.
    ends = np.append(days[1:], days[-1] + 1)
    modes = [mode for mode in MODES if (quality["mode"] == mode).any() or mode == "HEALTHY"][::-1]
    theme.set_height(figure, 28 * len(modes) + 50)
    axes = figure.subplots()
    for place, mode in enumerate(modes):
        rows = stretches((quality["mode"] == mode).to_numpy())
        spans = [(days[start], ends[stop - 1] - days[start]) for start, stop in rows]
        axes.broken_barh(spans, (place - 0.38, 0.76), color=LIGHT[MODE_COLORS[mode]], linewidth=0)
    axes.xaxis_date()
    axes.set_xlim(days[0], days[-1] + 1)
    name_rows(axes, [mode.replace("_", " ").lower() for mode in modes])
    date_axis(axes, theme)


def quality_picture(quality: pd.DataFrame) -> Picture | None:
    """`quality_timeline` for the page; None without a window."""
    if not len(quality):
        return None
    counts = quality["mode"].value_counts(normalize=True)
    text = ", ".join(f"{mode} {100 * share:.0f} %" for mode, share in counts.items())
    return picture(
        "quality", partial(quality_timeline, quality=quality), title="Quality modes over time", alt=f"{text}."
    )
