"""Conformal calibration of quantile forecasts: plain functions of arrays.

Each quantile is shifted by a number of the forecast's own spreads, so that a stormy day is widened by more
than a calm one. The shift is a quantile of the scores: how many spreads the outcome lies above the forecast
quantile, in validation rows ("split"); or that follows the outcomes as they become known ("adaptive").
N counts windows, P steps, Q levels.

Sources: Romano, Patterson and Candes 2019, "Conformalized quantile regression", whose theorem 2 has a score
for each side; Lei et al. 2018, "Distribution-free predictive inference for regression", for scores that are
divided by a scale; Gibbs and Candes 2021, "Adaptive conformal inference under distribution shift"; and
Angelopoulos, Candes and Tibshirani 2023, "Conformal PID control for time series prediction", for quantile
tracking.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped

from tftjax.config.evaluation import conformal_rows, outermost
from tftjax.errors import UserError
from tftjax.evaluate.calibration.levels import normal_quantiles

# Rows in which a shift goes about two thirds of the way to a new level of the scores: a year of trading days.
# It then scatters like the quantile of twice as many scores.
MEMORY = 250

Quantiles = Float[np.ndarray, "N P Q"]
Shifts = Float[np.ndarray, "P Q"]
Days = Shaped[np.ndarray, " N"]


def spreads(forecast: Quantiles, quantiles: Sequence[float]) -> Float[np.ndarray, "N P 1"]:
    """The standard deviation of the normal distribution with a forecast's outer quantiles; of one level 1.

    Args:
      forecast: ascending quantiles.
    """
    if len(quantiles) == 1:
        return np.ones_like(forecast)
    low, high = normal_quantiles((quantiles[0], quantiles[-1]))
    return (forecast[..., -1:] - forecast[..., :1]) / (high - low)


def scores(forecast: Quantiles, target: Float[np.ndarray, "N P"], quantiles: Sequence[float]) -> Quantiles:
    """How many of the forecast's spreads each target lies above each of its quantiles, sorted if they cross.

    NaN where the target is unknown, and where all quantiles are equal: such a forecast has no scale.
    """
    forecast = np.sort(forecast, axis=-1)
    spread = spreads(forecast, quantiles)
    return (target[..., None] - forecast) / np.where(spread > 0, spread, np.nan)


def split_shifts(forecast: Quantiles, target: Float[np.ndarray, "N P"], quantiles: Sequence[float]) -> Shifts:
    """The shift of each step and level, in spreads, that validation rows call for.

    Of n scores the one of rank ceil((n + 1) q), for levels q below 0.5 that of rank floor((n + 1) q): of
    exchangeable rows, a next outcome lies below a shifted upper quantile with a probability of at least its
    level, and below a lower one with at most its level, by less than 1 / (n + 1).

    Args:
      forecast, target: of the validation rows, in one unit.
    Raises:
      UserError: too few rows for an outer level.
    """
    found = scores(forecast, target, quantiles)
    needed = conformal_rows(quantiles)
    shifts = np.empty(found.shape[1:])
    for step in range(found.shape[1]):
        known = np.sort(found[~np.isnan(found[:, step, 0]), step], axis=0)
        count = len(known)
        if count < needed:
            raise UserError(
                f"conformal calibration: found {count} validation windows with a spread, expected at least"
                f" {needed} for the quantile {outermost(quantiles):g}. Take more rows for validation"
                " (data.split), leave outer levels out of model.quantiles, or do without"
                " (evaluation.conformal 'none')."
            )
        for place, level in enumerate(quantiles):
            rank = (count + 1) * level  # rounded: 50 * 0.02 is a little more than 1
            rank = math.floor(rank + 1e-9) if level < 0.5 else math.ceil(rank - 1e-9)
            shifts[step, place] = known[rank - 1, place]
    return shifts


def tracked_shifts(
    start: Shifts,
    found: Quantiles,
    made: Days,
    known: Shaped[np.ndarray, "N P"],
    quantiles: Sequence[float],
) -> Quantiles:
    """The shift of each window, step and level, which follows the outcomes that are known when it is made.

    After the outcomes of a day the shift c of level q goes by a pace times (q - share of them that lay at or
    below the shifted quantile when they were forecast): the gradient of the pinball loss of the scores. So
    the share of outcomes below comes to q whatever the outcomes are. The pace is the inverse of MEMORY times
    the standard normal's density at q, as an outer quantile has less density around it.

    Args:
      start: the shifts before the first outcome, in spreads.
      found: `scores` of the windows; NaN where an outcome is not known, and nothing is learned.
      made: the day after whose close each window is forecast.
      known: the day whose close makes the outcome of each step known; later than `made`.
      quantiles: the levels.
    """
    levels, middles = np.asarray(quantiles), normal_quantiles(quantiles)
    pace = math.sqrt(2 * math.pi) * np.exp(middles**2 / 2) / MEMORY
    shifts = np.empty_like(found)
    for step in range(found.shape[1]):
        shift = start[step].copy()
        outcome = np.flatnonzero(~np.isnan(found[:, step, 0]))
        learned = _by_day(known[outcome, step], outcome)
        asked = _by_day(made, np.arange(len(made)))
        for day in sorted(learned.keys() | asked.keys()):
            if day in learned:
                of = learned[day]
                below = found[of, step] <= shifts[of, step]
                shift = shift + pace * (levels - below.mean(axis=0))
            if day in asked:
                shifts[asked[day], step] = shift
    return shifts


def _by_day(days: Days, windows: Shaped[np.ndarray, " N"]) -> dict[object, np.ndarray]:
    """The windows of each day."""
    if not len(windows):
        return {}
    order = np.argsort(days, kind="stable")
    distinct, first = np.unique(days[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(windows[order], first[1:]), strict=True))


def shifted(
    forecast: Quantiles, shifts: Float[np.ndarray, "*N P Q"], quantiles: Sequence[float]
) -> Quantiles:
    """A forecast whose quantiles are shifted by numbers of its spreads, and sorted where they cross then.

    Source: Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and probability curves without crossing":
    sorting makes no pinball loss larger.
    """
    forecast = np.sort(forecast, axis=-1)
    return np.sort(forecast + shifts * spreads(forecast, quantiles), axis=-1)
