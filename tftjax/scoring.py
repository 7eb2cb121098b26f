"""What is said of a forecast in one split beyond METRICS: tests, trading, quality modes, and a verdict.

Forecasts of several series are pooled a day: a test sees days, which follow each other, not windows, which
move together. Those that ask about single returns are made for one series only. Steps beyond the first count
in losses; everything else looks at the first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.config.evaluation import EvaluationConfig
from tftjax.metrics import Forecast, Target, evaluate_forecast, median, pinball_losses, pit_counts
from tftjax.quality import quality_modes, random_modes, shares
from tftjax.significance import (
    ALPHA,
    MIN_DAYS,
    diebold_mariano,
    pesaran_timmermann,
    pit_test,
    value_at_risk_tests,
)
from tftjax.trading import POSITIONS, sharpe_ratios, trades


class Windows(NamedTuple):
    """What happened in the N windows of a split, series after series, in time order within each.

    Attributes:
        target: returns as decimals.
        day: number of each window's first target day, 0 to T - 1 in time order.
        series: the windows of each series.
    """

    target: Target
    day: Int[np.ndarray, " N"]
    series: Sequence[slice]


class Score(NamedTuple):
    """What is kept of a forecast of one split, so that it need not be.

    Attributes:
        metrics: by name, METRICS.
        losses: pinball loss of each day; their mean is the pinball loss over all windows.
        by_series: pinball loss of each series.
        share_below: of the first step's targets at or below each quantile.
    """

    metrics: dict[str, Any]
    losses: Float[np.ndarray, " T"]
    by_series: tuple[float, ...]
    share_below: Float[np.ndarray, " Q"]


def by_day(losses: Float[np.ndarray, " N"], day: Int[np.ndarray, " N"]) -> Float[np.ndarray, " T"]:
    """Losses of windows, summed by day and scaled so that the mean over days is the mean over windows."""
    sums = np.bincount(day, losses)
    return sums * (len(sums) / len(losses))


def score(windows: Windows, forecast: Forecast, quantiles: Sequence[float]) -> Score:
    """Scores a forecast; see `metrics.evaluate_forecast` for what is refused."""
    metrics = evaluate_forecast(forecast, windows.target, quantiles)
    losses = pinball_losses(forecast, windows.target, quantiles).mean(axis=(1, 2))
    return Score(
        metrics=metrics,
        losses=by_day(losses, windows.day),
        by_series=tuple(float(losses[own].mean()) for own in windows.series),
        share_below=(windows.target[:, 0, None] <= forecast[:, 0]).mean(axis=0),
    )


def modes_by_series(
    windows: Windows, forecast: Forecast, quantiles: Sequence[float], settings: EvaluationConfig
) -> list[Int[np.ndarray, "_"]]:
    """`quality.quality_modes` of the first step's medians, series by series."""
    middle = median(forecast, quantiles)[:, 0]
    return [quality_modes(middle[own], windows.target[own, 0], settings) for own in windows.series]


def judge(
    windows: Windows,
    forecast: Forecast,
    quantiles: Sequence[float],
    *,
    losses: Float[np.ndarray, " T"],
    baseline_losses: Mapping[str, Float[np.ndarray, " T"]],
    modes: Sequence[Int[np.ndarray, "_"]],
    settings: EvaluationConfig,
    periods_a_year: float,
) -> dict[str, Any]:
    """The parts of a split's metrics beyond METRICS: tests, trading, quality, quality_random.

    Args:
        losses, baseline_losses: the forecast's and each baseline's, as in `Score`.
        modes: what `modes_by_series` gives.
        periods_a_year: rows of the panel in a year.
    Returns:
        Numbers, None where undefined, in objects: see evaluate.py.
    """
    middle, actual = median(forecast, quantiles)[:, 0], windows.target[:, 0]
    tests: dict[str, Any] = {
        "days": len(losses),
        "diebold_mariano": {
            name: diebold_mariano(losses - others, windows.target.shape[1])._asdict()
            for name, others in baseline_losses.items()
        },
    }
    if len(windows.series) == 1:
        outside = {0: actual < forecast[:, 0, 0], -1: actual > forecast[:, 0, -1]}
        tests["value_at_risk"] = {
            f"{quantiles[place]:g}": value_at_risk_tests(out, min(quantiles[place], 1 - quantiles[place]))
            for place, out in outside.items()
        }
        tests["pit"] = pit_test(pit_counts(forecast[:, :1], windows.target[:, :1]), quantiles)
        tests["pesaran_timmermann"] = pesaran_timmermann(middle, actual)
    pairs = [(middle[own], actual[own]) for own in windows.series]
    return {
        "tests": tests,
        "trading": trade(windows, middle, settings.trading_cost, periods_a_year),
        "quality": shares(np.concatenate(modes)),
        "quality_random": shares(random_modes(pairs, settings)),
    }


def trade(
    windows: Windows, middle: Float[np.ndarray, " N"], cost: float, periods_a_year: float
) -> dict[str, Any]:
    """Sharpe ratios of the positions that medians lead to, an equal share in each series.

    Returns:
        `cost`, and by position what `sharpe_ratios` gives, with its `turnover`: traded a period, as a share
        of what is held.
    """
    first = np.zeros(len(middle), bool)
    first[[own.start for own in windows.series]] = True
    count = np.bincount(windows.day)
    net, turnover = {}, {}
    for name, take in POSITIONS.items():
        position = take(middle)
        traded = trades(position, first)
        net[name] = np.bincount(windows.day, position * windows.target[:, 0] - cost * traded) / count
        held = np.abs(position).sum()
        turnover[name] = float(traded.sum() / held) if held > 0 else None
    ratios = sharpe_ratios(net, periods_a_year)
    return {"cost": cost} | {name: values | {"turnover": turnover[name]} for name, values in ratios.items()}


def verdict(metrics: Mapping[str, Any]) -> str:
    """A line on one split's metrics: which baselines the model beats, by Diebold and Mariano's test.

    Args:
        metrics: of one split, as `evaluate` returns them.
    """
    tests = metrics["tests"]
    found = tests["diebold_mariano"]
    if tests["days"] < MIN_DAYS:
        return f"no verdict: {tests['days']} days are too few for a test, which takes {MIN_DAYS}"
    beaten, level, worse = [], [], []
    for name, test in found.items():
        if test["p"] is None:
            level.append(f"{name}: no difference")
        elif test["p"] >= ALPHA:
            level.append(f"{name}: {p_text(test['p'])}")
        else:
            (beaten if test["difference"] < 0 else worse).append(f"{name}: {p_text(test['p'])}")
    parts = [f"beats {len(beaten)} of {len(found)} baselines (DM p < {ALPHA:g})"]
    parts += [f"does not beat {', '.join(level)}"] if level else []
    parts += [f"is worse than {', '.join(worse)}"] if worse else []
    return "; ".join(parts)


def quality_text(metrics: Mapping[str, Any]) -> str:
    """A line on the modes of one split, the most frequent first, and what chance gives."""
    found = {name: share for name, share in metrics["quality"].items() if share is not None}
    if not found:
        return "no quality modes: fewer rows than a window"
    shown = sorted((name for name, share in found.items() if share), key=found.__getitem__, reverse=True)
    shown += [] if "HEALTHY" in shown else ["HEALTHY"]
    random = metrics["quality_random"]
    parts = [f"{name} {100 * found[name]:.0f} % (chance {100 * random[name]:.0f} %)" for name in shown]
    return f"of the time {', '.join(parts)}"


def p_text(p: float | None) -> str:
    """A p-value for reading."""
    if p is None:
        return "-"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
