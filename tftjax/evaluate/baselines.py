"""Classical forecasts with the shape of the model's output, to be beaten by it.

A baseline is a function of a `Task` -> [N P Q]. What it estimates, it estimates on the task's train rows; for
a window it may besides use the rows before the window's first target row, `[: target_rows[n, 0]]`, and none
later. To add one: one function and one line in BASELINES; one in FITTED if it takes a second a series.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.data.scaling import apply, fit
from tftjax.data.volatility import (
    EWMA_BURN_IN,
    VOLATILITY_COLUMNS,
    carried_forward,
    ewma_volatility,
    volatility_column,
)
from tftjax.errors import UserError

Returns = Float[np.ndarray, " R"]

Forecast = Float[np.ndarray, "N P Q"]
ROLLING_ROWS = 252  # a year of trading days: the usual length of historical simulation
MAX_ITERATIONS = 5000  # of a quantile regression; the embedded and the FRED data take under 300


class Task(NamedTuple):
    """What is to be forecast for one series, and from what; R rows, N windows, P steps, Q levels.

    Attributes:
        returns: all rows of the target, as decimals.
        observed: the other columns that are known at the end of each row, by name; NaN where missing.
        train_rows: rows to estimate on.
        target_rows: row of each window's each step.
        quantiles: the Q levels, ascending.
    """

    returns: Float[np.ndarray, " R"]
    observed: Mapping[str, Float[np.ndarray, " R"]]
    train_rows: range
    target_rows: Int[np.ndarray, "N P"]
    quantiles: Sequence[float]


class Unavailable(Exception):
    """A baseline has no forecast of this series; says why."""


def unconditional(task: Task) -> Forecast:
    """The train returns' sample quantiles, the same for every window: a forecast that looks at nothing.

    Returns:
        [N P Q] float64, as decimals.
    Raises:
        UserError: no train row, or a train return that is not finite.
    Source: Hyndman and Fan 1996, definition 7 (linear interpolation).
    """
    train = task.returns[task.train_rows.start : task.train_rows.stop]
    return unconditional_quantiles(train, task.quantiles, *task.target_rows.shape)


def unconditional_quantiles(
    train_target: Float[np.ndarray, " M"],
    quantiles: Sequence[float],
    num_windows: int,
    prediction_length: int,
) -> Forecast:
    """Sample quantiles of `train_target`, repeated for every window and horizon; see `unconditional`."""
    bad = np.flatnonzero(~np.isfinite(train_target))
    if bad.size or not train_target.size:
        found = f"row {bad[0]} of them is {train_target[bad[0]]}" if bad.size else "there are none"
        raise UserError(
            f"The baseline needs finite train returns, but {found}. Check the data and the split."
        )
    levels = np.quantile(np.asarray(train_target, dtype=np.float64), quantiles)
    return np.tile(levels, (num_windows, prediction_length, 1))


def rolling(task: Task) -> Forecast:
    """Sample quantiles of the last 252 returns before each window, or of what there is.

    One set of quantiles serves all steps of a window.

    Source: Hendricks 1996, "Evaluation of value-at-risk models using historical data".
    """
    first, steps = task.target_rows[:, 0], task.target_rows.shape[1]
    levels = np.empty((len(first), len(task.quantiles)))
    full = first >= ROLLING_ROWS
    if full.any():
        pasts = np.lib.stride_tricks.sliding_window_view(task.returns, ROLLING_ROWS)
        levels[full] = np.quantile(pasts[first[full] - ROLLING_ROWS], task.quantiles, axis=1).T
    for window in np.flatnonzero(~full):
        levels[window] = np.quantile(task.returns[: first[window]], task.quantiles)
    return np.repeat(levels[:, None], steps, axis=1)


def ewma_scaled(task: Task) -> Forecast:
    """Quantiles of the train returns over their recent volatility, times the volatility before the window.

    Source: see `EWMA_DECAY`.
    """
    # The first rows have no past to speak of.
    start = task.train_rows.start
    first = start + min(EWMA_BURN_IN, len(task.train_rows) // 2)
    return _scaled(task, ewma_volatility(task.returns), first)


def vix_scaled(task: Task) -> Forecast:
    """Quantiles of the train returns over the VIX of the day before, times the VIX before the window.

    Where there is no VIX, the realised volatility takes its place: see `volatility_column`. A value that is
    missing is the last one known.

    Raises:
        Unavailable: neither column, or one that is not above 0.
    """
    name = volatility_column(task.observed)
    if name is None:
        raise Unavailable(f"no column {' or '.join(VOLATILITY_COLUMNS)}")
    volatility = carried_forward(task.observed[name])
    known = np.flatnonzero(~np.isnan(volatility))
    # The first return with a value before it.
    first = max(task.train_rows.start, int(known[0]) + 1 if known.size else len(volatility))
    if first >= task.train_rows.stop:
        raise Unavailable(f"{name} has no value in the train rows")
    if (volatility[first - 1 :] <= 0).any():
        raise Unavailable(f"{name} is not above 0 in every row")
    return _scaled(task, volatility, first)


def _scaled(task: Task, volatility: Float[np.ndarray, " R"], first: int) -> Forecast:
    """Quantiles of returns over the volatility of the row before, from row `first` on, times the last one.

    One volatility, the last known before it, serves all steps of a window.
    """
    before = np.append(volatility[:1], volatility)  # known before each row, but for the first
    first = max(first, 1)
    ratios = task.returns[first : task.train_rows.stop] / before[first : task.train_rows.stop]
    levels = unconditional_quantiles(ratios, task.quantiles, *task.target_rows.shape)
    return levels * before[task.target_rows[:, 0], None, None]


def garch(task: Task) -> Forecast:
    """GARCH(1,1) with filtered historical simulation: train residual quantiles times the forecast spread.

    Parameters and residuals are of the train rows, the variance is filtered forward from them. Beyond the
    first step the spread is the expected variance's root, times the same one-step quantiles: the shape of
    the later steps' distribution is approximated, its variance is not.

    Raises:
        Unavailable: the fit does not converge.
    Source: Barone-Adesi, Giannopoulos and Vosper 1999, "VaR without correlations"; `garch.py`.
    """
    return _filtered_simulation(task, asymmetric=False)


def gjr_garch(task: Task) -> Forecast:
    """GJR-GARCH(1,1), in which a loss can raise the variance more than a gain does; see `garch`."""
    return _filtered_simulation(task, asymmetric=True)


def _filtered_simulation(task: Task, *, asymmetric: bool) -> Forecast:
    start, stop = task.train_rows.start, task.train_rows.stop
    fitted = fit_garch(task.returns[start:stop], asymmetric=asymmetric)
    if fitted is None:
        raise Unavailable("the fit did not converge")
    variance = filter_variance(fitted, task.returns[start:])
    shocks = (task.returns[start:stop] - fitted.mu) / np.sqrt(variance[: stop - start])
    first = variance[task.target_rows[:, 0] - start]
    ahead = later_variances(fitted, first, shocks, task.target_rows.shape[1])
    return fitted.mu + np.sqrt(ahead)[..., None] * np.quantile(shocks, task.quantiles)


def quantile_regression(task: Task) -> Forecast:
    """Linear quantile regression of each step on the target and the observed columns before the window.

    Columns are scaled by the train rows; a missing value counts as the train mean. A column that stands
    still in the train rows is left out. Quantiles that cross are sorted (Chernozhukov, Fernandez-Val and
    Galichon 2010).

    Raises:
        Unavailable: a regression does not converge.
    Source: Koenker and Bassett 1978; `statsmodels`.
    """
    from statsmodels.regression.quantile_regression import QuantReg  # half a second to import
    from statsmodels.tools.sm_exceptions import IterationLimitWarning

    design, spread = _design(task)
    train, first = task.train_rows, task.target_rows[:, 0]
    forecast = np.empty((*task.target_rows.shape, len(task.quantiles)))
    for step in range(task.target_rows.shape[1]):
        rows = np.arange(max(train.start, 1) + step, train.stop)
        model = QuantReg(task.returns[rows] / spread, design[rows - step - 1])
        for place, level in enumerate(task.quantiles):
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")  # of standard errors, which are not used
                    warnings.simplefilter("error", IterationLimitWarning)
                    coefficients = model.fit(q=level, max_iter=MAX_ITERATIONS).params
            except (IterationLimitWarning, ValueError, np.linalg.LinAlgError) as error:
                raise Unavailable(f"the regression of the {level:g} quantile failed ({error})") from error
            forecast[:, step, place] = design[first - 1] @ coefficients * spread
    return np.sort(forecast, axis=-1)


def _design(task: Task) -> tuple[Float[np.ndarray, "R V"], float]:
    """A constant and the columns known at each row's end, scaled by train rows; the target's spread."""
    train = slice(task.train_rows.start, task.train_rows.stop)
    columns = [np.ones(len(task.returns))]
    for values in (task.returns, *task.observed.values()):
        there = values[train][~np.isnan(values[train])]
        if there.size and np.ptp(there) > 0:
            scaled = apply(fit(there[:, None]), values[:, None])[:, 0]
            columns.append(np.where(np.isnan(scaled), 0.0, scaled))
    return np.column_stack(columns), float(np.std(task.returns[train])) or 1.0


Baseline = Callable[[Task], Forecast]
BASELINES: dict[str, Baseline] = {
    "unconditional": unconditional,
    "rolling": rolling,
    "ewma_scaled": ewma_scaled,
    "vix_scaled": vix_scaled,
    "garch": garch,
    "gjr_garch": gjr_garch,
    "quantile_regression": quantile_regression,
}
FITTED = ("garch", "gjr_garch", "quantile_regression")  # up to a second a series and step
MAX_FITTED_SERIES = 20  # in panels of more series, those are left out


class Garch(NamedTuple):
    """Parameters, returns as decimals; `start` is the variance before the first row."""

    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    start: float


def fit_garch(train: Returns, *, asymmetric: bool) -> Garch | None:
    """Parameters of largest Gaussian likelihood on train returns, as decimals.

    Args:
        train: consecutive returns.
        asymmetric: whether gamma is estimated; else it is 0.
    Returns:
        The parameters, None if the fit does not converge.
    Source: the package `arch`, Kevin Sheppard.
    """
    from arch import arch_model  # a second to import, and only evaluation needs it

    scale = float(np.std(train))  # returns of spread 1 are what the optimizer is made for
    if scale == 0:
        return None
    model = arch_model(
        train / scale, mean="Constant", vol="GARCH", p=1, o=int(asymmetric), q=1, rescale=False
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what goes wrong is in the flag and in the numbers
        result = model.fit(disp="off", show_warning=False)
    found = dict(result.params)
    if result.convergence_flag or not all(np.isfinite(value) for value in found.values()):
        return None
    return Garch(
        mu=found["mu"] * scale,
        omega=found["omega"] * scale**2,
        alpha=found["alpha[1]"],
        gamma=found.get("gamma[1]", 0.0),
        beta=found["beta[1]"],
        start=scale**2,
    )


def filter_variance(garch: Garch, returns: Returns) -> Float[np.ndarray, " R+1"]:
    """One-step variance: of each row from the returns before it, and, last, of the row after the last.

    The first row has no past: its variance is `garch.start`.
    """
    variance = np.empty(len(returns) + 1)
    variance[0] = garch.start
    # Plain floats: a recursion over rows is several times faster than on numpy's numbers.
    current = garch.start
    for row, shock in enumerate((returns - garch.mu).tolist(), start=1):
        weight = garch.alpha + (garch.gamma if shock < 0 else 0.0)
        current = garch.omega + weight * shock * shock + garch.beta * current
        variance[row] = current
    return variance


def later_variances(
    garch: Garch, first: Float[np.ndarray, " N"], shocks: Float[np.ndarray, " M"], steps: int
) -> Float[np.ndarray, "N P"]:
    """Variance of each of the next `steps` rows, given that of the first.

    s_{h+1}^2 = omega + (alpha E[z^2] + gamma E[z^2; z < 0] + beta) s_h^2 in expectation.

    Args:
        first: one-step variances.
        shocks: standardised residuals z that the expectations are taken over.
    """
    squares = np.square(shocks)
    persistence = garch.alpha * squares.mean() + garch.gamma * (squares * (shocks < 0)).mean() + garch.beta
    variances = np.empty((len(first), steps))
    variances[:, 0] = first
    for step in range(1, steps):
        variances[:, step] = garch.omega + persistence * variances[:, step - 1]
    return variances
