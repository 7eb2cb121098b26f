"""Classical forecasts with the shape of the model's output, to be beaten by it.

A baseline is a function of a `Task` that returns a `Forecast`. It estimates its parameters on the task's
train rows; for a window it may besides use the rows before the window's first target row,
`[: target_rows[n, 0]]`, and none later. To add one: one function and one line in BASELINES; one in FITTED if
it takes a second a series.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.data.encoding import apply_scaler, fit_scaler
from tftjax.data.volatility import (
    EWMA_BURN_IN,
    VOLATILITY_COLUMNS,
    carried_forward,
    ewma_volatility,
    volatility_column,
)
from tftjax.errors import UserError
from tftjax.evaluate.metrics import Forecast

Returns = Float[np.ndarray, " R"]

ROLLING_ROWS = 252  # a year of trading days: the usual length of historical simulation
MAX_ITERATIONS = 5000  # of a quantile regression; the embedded and the FRED data take under 300


class Task(NamedTuple):
    """The data of one series and the rows to forecast; R rows, N windows, P steps, Q levels.

    Attributes:
      returns: all rows of the target, as decimals.
      observed: the other columns that are known at the end of each row, by name; NaN where missing.
      train_rows: rows to estimate on.
      target_rows: the row of each step of each window.
      quantiles: ascending levels.
    """

    returns: Returns
    observed: Mapping[str, Returns]
    train_rows: range
    target_rows: Int[np.ndarray, "N P"]
    quantiles: Sequence[float]


class Unavailable(Exception):
    """Raised by a baseline without a forecast of this series; the message says why."""


def unconditional(task: Task) -> Forecast:
    """The train returns' sample quantiles, the same for every window: a forecast that looks at nothing.

    Raises:
      UserError: no train row, or a train return that is not finite.
    """
    train = task.returns[task.train_rows.start : task.train_rows.stop]
    return unconditional_quantiles(train, task.quantiles, *task.target_rows.shape)


def unconditional_quantiles(
    train_target: Float[np.ndarray, " M"], quantiles: Sequence[float], num_windows: int, num_steps: int
) -> Forecast:
    """Sample quantiles of `train_target`, repeated for every window and step.

    Source: Hyndman and Fan 1996, definition 7 (linear interpolation).
    """
    bad = np.flatnonzero(~np.isfinite(train_target))
    if bad.size or not train_target.size:
        problem = f"row {bad[0]} of them is {train_target[bad[0]]}" if bad.size else "there are none"
        raise UserError(
            f"The baseline needs finite train returns, but {problem}. Check the data and the split."
        )
    levels = np.quantile(np.asarray(train_target, dtype=np.float64), quantiles)
    return np.tile(levels, (num_windows, num_steps, 1))


def rolling(task: Task) -> Forecast:
    """Sample quantiles of the last 252 returns before each window, or of fewer where the data begin.

    All steps of a window have the same quantiles.

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
    burn_in = min(EWMA_BURN_IN, len(task.train_rows) // 2)
    return _scaled(task, ewma_volatility(task.returns), task.train_rows.start + burn_in)


def vix_scaled(task: Task) -> Forecast:
    """Quantiles of the train returns over the VIX of the row before, times the VIX before the window.

    Without a VIX, the realised volatility takes its place: see `volatility_column`. The last known value
    stands for a missing one.

    Raises:
      Unavailable: neither column, or one that is not above 0.
    """
    name = volatility_column(task.observed)
    if name is None:
        raise Unavailable(f"no column {' or '.join(VOLATILITY_COLUMNS)}")
    volatility = carried_forward(task.observed[name])
    known = np.flatnonzero(~np.isnan(volatility))
    first_with_past = int(known[0]) + 1 if known.size else len(volatility)
    first = max(task.train_rows.start, first_with_past)
    if first >= task.train_rows.stop:
        raise Unavailable(f"{name} has no value in the train rows")
    if (volatility[first - 1 :] <= 0).any():
        raise Unavailable(f"{name} is not above 0 in every row")
    return _scaled(task, volatility, first)


def _scaled(task: Task, volatility: Float[np.ndarray, " R"], first: int) -> Forecast:
    """Quantiles of returns over the volatility of the row before, times the last volatility before a window.

    Args:
      first: row of the first return that is estimated on.
    """
    before = np.append(volatility[:1], volatility)  # known before each row, but for the first
    first = max(first, 1)
    ratios = task.returns[first : task.train_rows.stop] / before[first : task.train_rows.stop]
    levels = unconditional_quantiles(ratios, task.quantiles, *task.target_rows.shape)
    return levels * before[task.target_rows[:, 0], None, None]


def garch(task: Task) -> Forecast:
    """GARCH(1,1) with filtered historical simulation: train residual quantiles times the forecast spread.

    Parameters and residuals are of the train rows, the variance is filtered forward from them. Later steps
    have their own expected variance and the quantiles of one step, which approximate the shape alone.

    Raises:
      Unavailable: the fit does not converge.
    Source: Barone-Adesi, Giannopoulos and Vosper 1999, "VaR without correlations".
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

    Columns are scaled by the train rows; a missing value counts as the train mean. A column that is constant
    in the train rows is left out. Quantiles that cross are sorted (Chernozhukov, Fernandez-Val and Galichon
    2010).

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
        known = values[train][~np.isnan(values[train])]
        if known.size and np.ptp(known) > 0:
            columns.append(np.nan_to_num(apply_scaler(fit_scaler(known[:, None]), values[:, None])[:, 0]))
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
    """Parameters for returns as decimals; `start` is the variance of the first row."""

    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    start: float


def fit_garch(train: Returns, *, asymmetric: bool) -> Garch | None:
    """Parameters of largest Gaussian likelihood on train returns, by the package `arch`.

    Args:
      train: consecutive returns, as decimals.
      asymmetric: whether gamma is estimated; else it is 0.
    Returns:
      None if the fit does not converge.
    """
    from arch import arch_model  # a second to import, and only evaluation needs it

    scale = float(np.std(train))  # the optimizer is made for returns of spread 1
    if scale == 0:
        return None
    model = arch_model(
        train / scale, mean="Constant", vol="GARCH", p=1, o=int(asymmetric), q=1, rescale=False
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # failures are in the flag and in the numbers
        result = model.fit(disp="off", show_warning=False)
    parameters = dict(result.params)
    if result.convergence_flag or not np.isfinite(list(parameters.values())).all():
        return None
    return Garch(
        mu=parameters["mu"] * scale,
        omega=parameters["omega"] * scale**2,
        alpha=parameters["alpha[1]"],
        gamma=parameters.get("gamma[1]", 0.0),
        beta=parameters["beta[1]"],
        start=scale**2,
    )


def filter_variance(garch: Garch, returns: Returns) -> Float[np.ndarray, " R+1"]:
    """One-step variance of each row from the returns before it, and of the row after the last.

    >>> garch = Garch(mu=0.0, omega=1.0, alpha=0.5, gamma=1.0, beta=0.25, start=4.0)
    >>> filter_variance(garch, np.array([2.0, -2.0])).tolist()
    [4.0, 4.0, 8.0]
    """
    variance = [garch.start]
    # Plain floats: a recursion over rows is several times faster than on numpy's numbers.
    for shock in (returns - garch.mu).tolist():
        weight = garch.alpha + (garch.gamma if shock < 0 else 0.0)
        variance.append(garch.omega + weight * shock * shock + garch.beta * variance[-1])
    return np.array(variance)


def later_variances(
    garch: Garch, first: Float[np.ndarray, " N"], shocks: Float[np.ndarray, " M"], steps: int
) -> Float[np.ndarray, "N P"]:
    """Expected variance of each of the next `steps` rows, given that of the first.

    s_{h+1}^2 = omega + (alpha E[z^2] + gamma E[z^2; z < 0] + beta) s_h^2.

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
