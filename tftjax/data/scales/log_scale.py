"""A regression of log volatility: sigma of the next row, log-linear in what is known at the end of a row.

The bar that a forecast of returns must pass: it is fitted in a tenth of a second, and on the S&P 500 its
quantiles beat those of GJR-GARCH and of the VIX.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax.data.scales.garch import Garch, filter_variance
from tftjax.data.volatility import carried_forward, ewma_volatility

Column = Float[np.ndarray, " R"]

RIDGE = 10.0  # penalty on the squared weights of columns of spread 1, in units of log-likelihood
FLOOR = 0.1  # of the moving volatility; added before a logarithm, so that a return of zero has one
FAST_DECAY = 0.8  # of the second moving volatility, which forgets a row in five
BEYOND = math.log(10)  # how far log sigma may leave the range of the train rows, where columns have gone wild
FREEDOM = 2.05, 405.0  # limits of the degrees of freedom; beyond is next to the normal
LEAST_SPREAD = 0.1  # of the root mean square; where many values are equal, a likelihood has no other limit
BURN_IN = 63  # first rows of a series, whose means are of too few rows to estimate on
MONDAY, FRIDAY = 0, 4


class LogScale(NamedTuple):
    """Parameters of the regression, of F features.

    Attributes:
      weights: of the features in units of their train rows' spread.
      center, spread: the features' means and standard deviations over the train rows.
      intercept: log sigma where every feature is at its mean.
      low, high: limits of log sigma: those of the train rows and BEYOND.
    """

    weights: Float[np.ndarray, " F"]
    center: Float[np.ndarray, " F"]
    spread: Float[np.ndarray, " F"]
    intercept: float
    low: float
    high: float


def features(
    returns: Column, dates: pd.DatetimeIndex, volatility: Column | None, garch: Garch | None
) -> dict[str, Column]:
    """What is known at the end of each row, by name; NaN where something is missing.

    Args:
      returns: returns as decimals; NaN in rows of the future, of which nothing is known.
      dates: dates of the rows; the next row's date is known beforehand.
      volatility: a column of implied or other volatility, in any unit.
      garch: parameters whose forecast of the next row is a feature.
    """
    series = pd.Series(returns)
    moving = ewma_volatility(returns)
    fast = np.sqrt(series.pow(2).ewm(alpha=1 - FAST_DECAY).mean().to_numpy())

    def mean(values: pd.Series, rows: int) -> Column:
        return values.rolling(rows, min_periods=1).mean().to_numpy()

    columns = {f"log_mean_abs_{n}": np.log(mean(series.abs(), n) + FLOOR * moving) for n in (1, 5, 21, 63)}
    losses = series.clip(upper=0).pow(2)
    columns |= {f"log_semideviation_{n}": np.log(np.sqrt(mean(losses, n)) + FLOOR * moving) for n in (5, 21)}
    columns |= {"log_ewma": np.log(moving), "log_fast_ewma": np.log(np.maximum(fast, FLOOR * moving))}
    scale = moving
    if volatility is not None:
        known = carried_forward(volatility)
        scale = np.where(known > 0, known, np.nan)
        level = pd.Series(np.log(scale))
        columns |= {"log_volatility": level.to_numpy(), "log_volatility_21": mean(level, 21)}
        columns |= {f"log_volatility_change_{n}": level.diff(n).to_numpy() for n in (1, 5)}
    ratio = returns / scale
    columns |= {"return_1": ratio, "loss_1": np.minimum(ratio, 0)}
    columns |= {f"return_{n}": series.rolling(n, min_periods=1).sum().to_numpy() / scale for n in (5, 21)}
    if garch is not None:
        columns["log_garch"] = np.log(filter_variance(garch, returns)[1:]) / 2
    return columns | _calendar(dates)


def _calendar(dates: pd.DatetimeIndex) -> dict[str, Column]:
    """Whether the next row is a Monday, a Friday, or comes after more days than its weekday explains."""
    number = dates.to_numpy().astype("datetime64[D]").astype(np.int64)
    step = np.append(np.diff(number), np.nan)
    weekday = np.append((number[1:] + 3) % 7, -1)  # day 0, 1970-01-01, was a Thursday
    usual = pd.Series(step).groupby(weekday).expanding().median().droplevel(0).sort_index().to_numpy()
    columns = {"monday": weekday == MONDAY, "friday": weekday == FRIDAY, "after_gap": step > usual}
    return {name: np.where(np.isnan(step), np.nan, values) for name, values in columns.items()}


def rows_to_fit(train: range, step: int = 0) -> Int[np.ndarray, " M"]:
    """Train rows that are `step` rows after the first of a window and have enough rows before them."""
    burn_in = max(1, min(BURN_IN, len(train) // 2))
    return np.arange(max(train.start, burn_in) + step, train.stop)


def rows_of_all(
    designs: Sequence[Float[np.ndarray, "_ F"]],
    returns: Sequence[Float[np.ndarray, " _"]],
    train_rows: Sequence[range],
    step: int = 0,
) -> tuple[Float[np.ndarray, "M F"], Float[np.ndarray, " M"]]:
    """What the regression of one or more series is fitted to: train returns, and the features before them.

    Args:
      designs: features of all rows of each series.
      returns: all returns of each series.
      train_rows: train rows of each series.
      step: number of rows from a window's first target to the one that is forecast.
    """
    rows = [rows_to_fit(train, step) for train in train_rows]
    known = [design[of_series - step - 1] for design, of_series in zip(designs, rows, strict=True)]
    targets = [values[of_series] for values, of_series in zip(returns, rows, strict=True)]
    return np.concatenate(known), np.concatenate(targets)


def matrix(columns: Mapping[str, Column]) -> Float[np.ndarray, "R F"]:
    """The features as a matrix, a row a row."""
    return np.column_stack(list(columns.values()))


def fit(
    design: Float[np.ndarray, "M F"],
    returns: Float[np.ndarray, " M"],
    ridge: float = RIDGE,
    *,
    overwrite: bool = False,
) -> LogScale | None:
    """The regression of largest penalised likelihood: returns over sigma have Student's t distribution.

    Location and degrees of freedom of the t are estimated with it. A missing feature counts as its mean.

    Args:
      design: features known before each return.
      returns: finite returns.
      ridge: penalty on the squared weights.
      overwrite: leaves the features in `design` as `standardized` gives them: half the memory, if they are
        many.
    Returns:
      None if there are not more returns than features, if all are zero, or if the fit does not converge.
    """
    size = float(np.sqrt(np.mean(np.square(returns)))) if len(returns) else 0.0
    if len(returns) <= design.shape[1] + 3 or size == 0:
        return None
    standard, missing = design if overwrite else design.copy(), ~np.isfinite(design)
    count = np.maximum(len(design) - missing.sum(axis=0), 1)
    standard[missing] = 0.0
    center = standard.sum(axis=0) / count
    standard -= center
    standard[missing] = 0.0
    spread = np.sqrt(np.einsum("rf,rf->f", standard, standard) / count)  # without an array of the squares
    spread = np.where(spread > 1e-12 * (1 + np.abs(center)), spread, 1.0)  # a constant has no weight
    standard /= spread
    found = _minimum(standard, returns / size, ridge)
    if found is None:
        return None
    intercept = float(found[0] + np.log(size))
    model = LogScale(found[3:], center, spread, intercept, -np.inf, np.inf)
    seen = np.log(sigma_of(model, standard))
    return model._replace(low=float(seen.min() - BEYOND), high=float(seen.max() + BEYOND))


def _minimum(
    design: Float[np.ndarray, "M F"],
    returns: Float[np.ndarray, " M"],
    ridge: float,
    least: float | None = None,
) -> Float[np.ndarray, " _"] | None:
    """Parameters of the least `_loss`, the intercept at least `least`; None if they are not found."""
    from scipy.optimize import minimize  # a third of a second to import

    start = np.concatenate([[-0.3, 0.0, np.log(4.0)], np.zeros(design.shape[1])])
    excess = tuple(math.log(limit - 2) for limit in FREEDOM)
    bounds = [(least, None), (None, None), excess] + [(None, None)] * design.shape[1]
    found = minimize(_loss, start, (design, returns, ridge), jac=True, method="L-BFGS-B", bounds=bounds)
    # A line search may end in rounding, next to the optimum.
    converged = found.success or np.abs(found.jac).max() < 1e-3 * len(returns)
    return found.x if converged and np.isfinite(found.x).all() else None


def fit_student_t(values: Float[np.ndarray, " M"]) -> tuple[float, float, float]:
    """Location, logarithm of the scale, and degrees of freedom of the Student t of largest likelihood.

    The scale is at least LEAST_SPREAD, the degrees of freedom are within FREEDOM. Without a fit the values'
    mean and spread stand for it.
    """
    size = float(np.sqrt(np.mean(np.square(values)))) or 1.0
    found = _minimum(np.empty((len(values), 0)), values / size, 0.0, math.log(LEAST_SPREAD))
    if found is None:
        return float(values.mean()), math.log(max(float(values.std()), LEAST_SPREAD * size)), FREEDOM[1]
    intercept, ratio, log_excess = found.tolist()
    return ratio * math.exp(intercept) * size, intercept + math.log(size), 2 + math.exp(log_excess)


def _loss(
    parameters: Float[np.ndarray, " _"],
    design: Float[np.ndarray, "M F"],
    returns: Float[np.ndarray, " M"],
    ridge: float,
) -> tuple[float, Float[np.ndarray, " _"]]:
    """Negative penalised log-likelihood and its gradient.

    Args:
      parameters: intercept, location of the ratios, log(degrees of freedom - 2), weights.
      design: standardised features.
    """
    from scipy.special import digamma, gammaln

    intercept, location, log_excess, *weights = parameters
    weights, freedom = np.asarray(weights), 2.0 + np.exp(log_excess)
    log_sigma = np.clip(intercept + design @ weights, -50, 50)
    ratio = returns * np.exp(-log_sigma)
    shock = ratio - location
    square = np.square(shock) / freedom
    log_density = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - np.log(np.pi * freedom) / 2
    likelihood = log_density - log_sigma - (freedom + 1) / 2 * np.log1p(square)
    by_shock = -(freedom + 1) / freedom * shock / (1 + square)
    by_sigma = -1 - by_shock * ratio
    by_freedom = digamma((freedom + 1) / 2) - digamma(freedom / 2) - 1 / freedom - np.log1p(square)
    by_freedom = (by_freedom + (freedom + 1) / freedom * square / (1 + square)) / 2
    slope = [by_sigma.sum(), -by_shock.sum(), by_freedom.sum() * (freedom - 2)]
    gradient = -np.concatenate([slope, design.T @ by_sigma])
    gradient[3:] += ridge * weights
    return ridge / 2 * float(weights @ weights) - float(likelihood.sum()), gradient


def standardized(model: LogScale, design: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "R F"]:
    """The features in units of their train rows' spread, 0 where one is missing."""
    values = design - model.center
    values /= model.spread
    values[~np.isfinite(values)] = 0.0
    return values


def sigma(model: LogScale, design: Float[np.ndarray, "R F"]) -> Column:
    """Sigma of the row after each, as a decimal return; a missing feature counts as its train mean."""
    return sigma_of(model, standardized(model, design))


def sigma_of(model: LogScale, standard: Float[np.ndarray, "R F"]) -> Column:
    """`sigma` by features that are `standardized`."""
    return np.exp(np.clip(model.intercept + standard @ model.weights, model.low, model.high))
