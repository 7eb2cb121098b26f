"""Measures of quantile forecasts: plain functions of arrays, in float64; METRICS lists those of reports.

Each takes a forecast and a target, returns as decimals, and `quantiles`, the Q ascending levels with 0.5
among them. N counts windows, P steps. To add a metric: one function and one line in METRICS; metrics.json,
results.csv, the terminal, summary.md and the pages then have it.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.config.functions import call
from tftjax.errors import UserError
from tftjax.evaluate.formatting import BASIS_POINTS, CORRELATION, LOSS, PERCENT, SCORE, Format
from tftjax.evaluate.significance import wilson_interval

TAIL_LEVEL = 0.025  # of expected shortfall in the rules of Basel III

Forecast = Float[np.ndarray, "N P Q"]
Target = Float[np.ndarray, "N P"]
MetricFunction = Callable[[Forecast, Target, Sequence[float]], float | dict[str, float] | None]


def pinball_losses(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> Forecast:
    """Pinball loss of every forecast, without a factor of 2, in the unit of the target.

    max(q e, (q - 1) e) with e = target - forecast; Koenker and Bassett 1978; Lim et al. 2021, eq. 25.
    """
    levels = np.asarray(quantiles, dtype=np.float64)
    error = target[..., None] - forecast
    return np.maximum(levels * error, (levels - 1) * error)


def pinball(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Mean pinball loss over windows, steps and quantiles (Koenker and Bassett 1978)."""
    return float(pinball_losses(forecast, target, quantiles).mean())


def pinball_by_quantile(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> dict[str, float]:
    """Mean pinball loss of each quantile, keyed by its level, as "0.02" (Koenker and Bassett 1978)."""
    means = pinball_losses(forecast, target, quantiles).mean(axis=(0, 1))
    return {f"{level:g}": float(mean) for level, mean in zip(quantiles, means, strict=True)}


def central_intervals(quantiles: Sequence[float]) -> list[tuple[int, int, str]]:
    """Pairs of levels symmetric about 0.5, narrowest first: (lower's index, upper's index, percent).

    >>> central_intervals((0.1, 0.25, 0.5, 0.75, 0.9))
    [(1, 3, '50'), (0, 4, '80')]
    """
    pairs = [
        (low, high, f"{round(100 * (quantiles[high] - quantiles[low]), 6):g}")
        for low in range(len(quantiles))
        for high in range(low + 1, len(quantiles))
        if abs(quantiles[low] + quantiles[high] - 1) < 1e-9
    ]
    return pairs[::-1]


def coverage(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> dict[str, float]:
    """Share of targets inside each central interval, bounds included, keyed by its nominal percent, as "80".

    Christoffersen 1998, "Evaluating interval forecasts" (the unconditional coverage).
    """
    return {
        percent: float(((forecast[..., low] <= target) & (target <= forecast[..., high])).mean())
        for low, high, percent in central_intervals(quantiles)
    }


def coverage_bounds(covered: Mapping[str, float], count: int) -> dict[str, dict[str, float]]:
    """The 95 % interval of each coverage of `count` independent targets (Wilson 1927).

    Returns:
      `coverage_low` and `coverage_high`, keyed like `covered`.
    """
    bounds = wilson_interval(np.array(list(covered.values())), count)
    names = ("coverage_low", "coverage_high")
    return {
        name: dict(zip(covered, bound.tolist(), strict=True))
        for name, bound in zip(names, bounds, strict=True)
    }


def interval_score(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> dict[str, float]:
    """Mean score of each central interval: its width, and 2/a times the distance of targets outside.

    a is the nominal share outside; keyed by the nominal percent inside, as "80"; in the unit of the target.
    Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", eq. 43.
    """
    scores = {}
    for low, high, percent in central_intervals(quantiles):
        lower, upper = forecast[..., low], forecast[..., high]
        outside = np.maximum(lower - target, 0) + np.maximum(target - upper, 0)
        share = 1 - (quantiles[high] - quantiles[low])
        scores[percent] = float((upper - lower + 2 / share * outside).mean())
    return scores


def crps(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Continuous ranked probability score: twice the integral of the pinball loss over the levels.

    The trapezoidal rule between the given levels, with a loss of zero at 0 and 1, cuts the tails beyond the
    outer levels short, alike for every forecast of these levels. In the unit of the target. Gneiting and
    Ranjan 2011, "Comparing density forecasts using threshold- and quantile-weighted scoring rules".
    """
    levels = np.concatenate([[0.0], quantiles, [1.0]])
    weights = (levels[2:] - levels[:-2]) / 2
    return float(2 * (pinball_losses(forecast, target, quantiles).mean(axis=(0, 1)) * weights).sum())


def tail_of(
    forecast: Forecast, quantiles: Sequence[float]
) -> tuple[float, Float[np.ndarray, " N"], Float[np.ndarray, " N"]] | None:
    """The lower tail of each forecast of the first step: its level, value at risk and expected shortfall.

    The level is the lowest one of the forecast that is at least TAIL_LEVEL; the value at risk is the quantile
    there, a return, and the expected shortfall the mean of the distribution below it. The quantile function
    is piecewise linear in the normal quantile of the level, through all levels that there are, and beyond the
    outermost one its first piece goes on: a normal tail, as in `train.losses.forecast_moments`. Normal
    forecasts get their exact shortfall; heavier tails beyond the lowest level are cut. Quantiles that cross
    are sorted.

    Returns:
      None where that level is not below 0.5: such a forecast has no lower tail.
    """
    place = next(k for k, level in enumerate(quantiles) if level >= TAIL_LEVEL)
    level, normal = quantiles[place], NormalDist()
    if level >= 0.5:
        return None
    values = np.sort(forecast[:, 0], axis=-1)
    scores = np.array([normal.inv_cdf(level) for level in quantiles])
    pieces = max(place, 1)
    slopes = (np.diff(values) / np.diff(scores))[:, :pieces]
    # The mean of a + b z over a piece: a times its probability, and b times the densities' difference.
    ends = scores[min(place, 1) : place + 1]
    probabilities = np.diff([0.0, *(normal.cdf(end) for end in ends)])
    densities = -np.diff([0.0, *(normal.pdf(end) for end in ends)])
    intercepts = values[:, :pieces] - slopes * scores[:pieces]
    return level, values[:, place], (intercepts @ probabilities + slopes @ densities) / level


def expected_shortfall(
    forecast: Forecast, target: Target, quantiles: Sequence[float]
) -> dict[str, float] | None:
    """Mean expected shortfall of the first step, a return, keyed by the level, as "0.1"; see `tail_of`.

    Acerbi and Tasche 2002, "On the coherence of expected shortfall".
    """
    tail = tail_of(forecast, quantiles)
    return None if tail is None else {f"{tail[0]:g}": float(tail[2].mean())}


def fz0_scores(
    target: Float[np.ndarray, " N"],
    value_at_risk: Float[np.ndarray, " N"],
    shortfall: Float[np.ndarray, " N"],
    level: float,
) -> Float[np.ndarray, " N"]:
    """Joint score of a value at risk and an expected shortfall below 0, both returns; lower is better.

    Of all scores by which true values are the best of both, the one whose differences do not depend on the
    unit. Patton, Ziegel and Chen 2019, "Dynamic semiparametric models for expected shortfall", eq. 6; Fissler
    and Ziegel 2016, "Higher order elicitability and Osband's principle".
    """
    beyond = np.maximum(value_at_risk - target, 0)
    return -beyond / (level * shortfall) + value_at_risk / shortfall + np.log(-shortfall) - 1


def fz0(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> dict[str, float] | None:
    """Mean `fz0_scores` of the first step's lower tail, keyed by its level, as "0.1"; see `tail_of`.

    None where an expected shortfall is not below 0, for which the score is undefined.
    """
    tail = tail_of(forecast, quantiles)
    if tail is None or (tail[2] >= 0).any():
        return None
    level, value_at_risk, shortfall = tail
    return {f"{level:g}": float(fz0_scores(target[:, 0], value_at_risk, shortfall, level).mean())}


def pit_counts(forecast: Forecast, target: Target) -> Int[np.ndarray, " Q+1"]:
    """The number of targets below the first quantile, between each two, and above the last.

    A target on a quantile counts as below it, as in the definition of a quantile.
    """
    below = (forecast < target[..., None]).sum(axis=-1)
    return np.bincount(below.ravel(), minlength=forecast.shape[-1] + 1)


def pit_histogram(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> dict[str, float]:
    """Share of targets in each bin of the probability integral transform, keyed as "0.02-0.1".

    A calibrated forecast has the difference of a bin's levels as its share. Diebold, Gunther and Tay 1998.
    """
    counts = pit_counts(forecast, target)
    edges = [f"{level:g}" for level in (0, *quantiles, 1)]
    return {
        f"{low}-{high}": float(count / target.size)
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    }


def crossing_rate(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Share of forecasts (window and step) in which any quantile lies below the one before it.

    Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and probability curves without crossing".
    """
    return float((np.diff(forecast, axis=-1) < 0).any(axis=-1).mean())


def median(forecast: Forecast, quantiles: Sequence[float]) -> Target:
    """The forecasts of level 0.5."""
    return forecast[..., list(quantiles).index(0.5)]


def mae(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Mean absolute error of the median (Hyndman and Koehler 2006)."""
    return float(np.abs(target - median(forecast, quantiles)).mean())


def rmse(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Root of the mean squared error of the median (Hyndman and Koehler 2006)."""
    return float(np.sqrt(np.square(target - median(forecast, quantiles)).mean()))


def mu(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Mean of the median forecasts: the mu of the loss."""
    return float(median(forecast, quantiles).mean())


def sigma(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float:
    """Population standard deviation of the median forecasts: the sigma of the loss; 0 means collapse."""
    return float(median(forecast, quantiles).std())


def share_positive(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float | None:
    """Share of the nonzero median forecasts that are above zero; at 0 and 1 the sign says nothing.

    A median of exactly zero has no direction; None if all are.
    """
    middle = median(forecast, quantiles)
    directed = middle[middle != 0]
    return float((directed > 0).mean()) if directed.size else None


def directional_accuracy(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float | None:
    """Share of windows whose median has the target's sign, of those where neither is exactly zero.

    A median of zero has no direction: it is neither right nor wrong. None without such windows. Compare it
    with directional_base_rate, not with one half. Pesaran and Timmermann 1992.
    """
    middle = median(forecast, quantiles)
    directed = (middle != 0) & (target != 0)
    hits = np.sign(middle) == np.sign(target)
    return float(hits[directed].mean()) if directed.any() else None


def directional_base_rate(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float | None:
    """Share of the more frequent sign among nonzero targets, known only in hindsight; None without any."""
    moved = target[target != 0]
    return max(float((moved > 0).mean()), float((moved < 0).mean())) if moved.size else None


def directional_excess(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float | None:
    """directional_accuracy minus directional_base_rate: below zero, the best constant sign does better.

    The base rate is that of the windows whose median is not zero, which the accuracy is of.
    """
    accuracy = directional_accuracy(forecast, target, quantiles)
    directed = np.where(median(forecast, quantiles) != 0, target, 0.0)
    base_rate = directional_base_rate(forecast, directed, quantiles)
    return None if accuracy is None or base_rate is None else accuracy - base_rate


def correlation(forecast: Forecast, target: Target, quantiles: Sequence[float]) -> float | None:
    """Pearson's correlation of median and target; None where either is constant (it is undefined there)."""
    middle = median(forecast, quantiles)
    # Compared exactly: the rounded standard deviation of equal numbers need not be zero.
    if np.ptp(middle) == 0 or np.ptp(target) == 0:
        return None
    # Scaled to 1 before squaring, so that tiny forecasts do not underflow.
    x, y = ((v - v.mean()) / np.ptp(v) for v in (middle, target))
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


class Metric(NamedTuple):
    """A measure of forecasts, and its column in tables.

    Attributes:
      function: (forecast, target, quantiles) -> a number; or numbers by name; None where it is undefined.
      heading: the column's heading, with the unit; "{}" stands for the part. Without a heading the measure is
        in metrics.json and the tables of results alone.
      format: factor into that unit, and digits.
      better: "lower" or "higher", "nominal" if it is best at the percent that its number is named by; ""
        if it is no merit.
      part: name of the number that the column has of several; where it is missing, the first.
    """

    function: MetricFunction
    heading: str = ""
    format: Format = Format()
    better: str = ""
    part: str = ""


METRICS: dict[str, Metric] = {
    "pinball": Metric(pinball, "pinball, 1e-3", LOSS, "lower"),
    "pinball_by_quantile": Metric(pinball_by_quantile),
    "crps": Metric(crps, "CRPS, 1e-3", LOSS._replace(digits=3), "lower"),
    "coverage": Metric(coverage, "{} % interval covers, %", PERCENT, "nominal", "80"),
    "interval_score": Metric(interval_score),
    "expected_shortfall": Metric(expected_shortfall),
    "fz0": Metric(fz0, "VaR and ES at {} (FZ0)", SCORE, "lower"),
    "pit_histogram": Metric(pit_histogram),
    "crossing_rate": Metric(crossing_rate),
    "mae": Metric(mae),
    "rmse": Metric(rmse),
    "mu": Metric(mu),
    "sigma": Metric(sigma, "spread of the medians, bp", BASIS_POINTS),
    "share_positive": Metric(share_positive, "positive, %", PERCENT),
    "directional_accuracy": Metric(directional_accuracy, "direction right, %", PERCENT, "higher"),
    "directional_base_rate": Metric(directional_base_rate),
    "directional_excess": Metric(directional_excess, "minus base rate, points", PERCENT, "higher"),
    "correlation": Metric(correlation, "correlation", CORRELATION, "higher"),
}


class MetricColumn(NamedTuple):
    """A column of metrics in a table.

    Attributes:
      metric: the metric's name in results.csv without the split, such as "coverage/80".
      title: heading, with the unit.
      format: factor into that unit, and digits.
      better: see `Metric`.
    """

    metric: str
    title: str
    format: Format
    better: str = ""

    def bounds(self, values: Mapping[str, Any]) -> tuple[float | None, float | None]:
        """The value's 95 % interval among numbers by flat name, as of `coverage_bounds`; None without one."""
        name, _, part = self.metric.partition("/")
        return values.get(f"{name}_low/{part}"), values.get(f"{name}_high/{part}")

    def distance(self, value: float | None) -> float:
        """The distance of a value from the best possible one; infinite where it is unknown."""
        if value is None or not math.isfinite(value):
            return math.inf
        if self.better == "nominal":
            return abs(value - float(self.metric.rpartition("/")[2]) / 100)
        return {"lower": value, "higher": -value}.get(self.better, math.inf)


# The share of rolling windows that are healthy is no function of METRICS, as it takes windows in a row.
HEALTHY = MetricColumn("quality/HEALTHY", "healthy, %", PERCENT)


def columns(names: Iterable[str], prefix: str = "") -> list[MetricColumn]:
    """The columns of a table of metrics: of METRICS those with a heading, and the share of healthy time.

    Args:
      names: flat names of the numbers at hand, such as "coverage/80"; others have no column.
      prefix: prefix of the names that count, such as "val/".
    """
    names = dict.fromkeys(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    result = []
    for name, metric in METRICS.items():
        parts = [other.removeprefix(name) for other in names if other == name or other.startswith(f"{name}/")]
        if metric.heading and parts:
            part = f"/{metric.part}" if f"/{metric.part}" in parts else parts[0]
            title = metric.heading.format(part.removeprefix("/"))
            result.append(MetricColumn(name + part, title, metric.format, metric.better))
    return result + [HEALTHY] * (HEALTHY.metric in names)


def evaluate_forecast(
    forecast: Forecast,
    target: Target,
    quantiles: Sequence[float],
    own: Mapping[str, MetricFunction] = MappingProxyType({}),
    *,
    one_series: bool = False,
) -> dict[str, float | dict[str, float]]:
    """All METRICS of a forecast; same input, same bits.

    Args:
      own: metrics beside METRICS, by name.
      one_series: whether all windows are of one series. Its coverage has `coverage_bounds`, if windows have
        one step; returns of several series, and steps that overlap, are not independent draws.

    Returns:
      By name, a number, or numbers by level or percent. A metric that is undefined for this input, such as
      the correlation of a constant forecast, is left out: every value is a finite number.
    Raises:
      ValueError: the shapes do not fit together.
      UserError: nothing to evaluate, a number that is not finite, or a metric that fails.
    """
    if forecast.shape != (*target.shape, len(quantiles)) or target.ndim != 2:
        raise ValueError(
            f"found forecast {forecast.shape} and target {target.shape}, "
            f"expected [N P Q] and [N P] with Q = {len(quantiles)}"
        )
    if not target.size:
        raise UserError("There is no window to evaluate: the split is empty.")
    for name, array in (("forecast", forecast), ("target", target)):
        bad = np.argwhere(~np.isfinite(array))
        if bad.size:
            raise UserError(
                f"The {name} is not a finite number in {len(bad)} of {array.size} places, first in window "
                f"{bad[0][0]}, horizon {bad[0][1] + 1}. "
                "Check whether the training diverged, and the data for missing returns."
            )
    # One memory layout, so that sums round alike whatever view came in.
    forecast = np.ascontiguousarray(forecast, dtype=np.float64)
    target = np.ascontiguousarray(target, dtype=np.float64)
    values = {name: metric.function(forecast, target, quantiles) for name, metric in METRICS.items()}
    for name, function in own.items():
        values[name] = _checked(name, call("metrics", name, function, forecast, target, quantiles))
    if one_series and target.shape[1] == 1:
        values |= coverage_bounds(values["coverage"], len(target))
    return {name: value for name, value in values.items() if value is not None}


def _checked(name: str, value: Any) -> float | dict[str, float] | None:
    """The value of a metric that was handed in, as plain numbers; None where one is not finite.

    Raises:
      UserError: something other than a number, numbers by name, or None.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            numbers = {str(part): float(number) for part, number in value.items()}
            return {part: number for part, number in numbers.items() if math.isfinite(number)}
        return float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"metrics: {name!r} returned {value!r:.80}, expected a number, numbers by name, or None."
        ) from error


# Keys of metrics.json with numbers of other forecasts than the model's.
OTHERS = ("baselines", "foreign", "combination", "conformal", "encompassing")


def same_forecasts(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The forecasts that are those of another name, as all their metrics are equal to 1e-9.

    >>> same_forecasts({"a": {"pinball": 0.1}, "b": {"pinball": 0.2}, "c": {"pinball": 0.1}})
    {'c': 'a'}

    Args:
      metrics: metrics by name of a forecast.
    Returns:
      By name of such a forecast, the first name that has the same.
    """
    flat = {name: flatten(values) for name, values in metrics.items()}
    found: dict[str, str] = {}
    for (first, a), (name, b) in itertools.combinations(flat.items(), 2):
        equal = a.keys() == b.keys() and all(
            a[key] == b[key] or (a[key] and b[key] and math.isclose(a[key], b[key], rel_tol=1e-9))
            for key in a
        )
        if equal and first not in found:
            found.setdefault(name, first)
    return found


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, int | float]:
    """Nested metrics under flat names, without nulls and without those of OTHERS.

    >>> flatten({"crps": 1, "coverage": {"80": 2, "96": None}, "baselines": {"rolling": {"crps": 3}}})
    {'crps': 1, 'coverage/80': 2}
    """
    flat: dict[str, int | float] = {}
    for name, value in metrics.items():
        if name in OTHERS:
            continue
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        elif value is not None:
            flat[prefix + name] = value
    return flat
