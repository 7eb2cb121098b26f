"""Classical forecasts with the shape of the model's output, to be beaten by it.

A baseline is a function of a `Task` that returns a `Forecast`. It estimates its parameters on the task's
train rows; for a window it may besides use the rows before the window's first target row,
`[: target_rows[n, 0]]`, and none later; dates are known beforehand. To add one: one function and one line in
BASELINES; one in FITTED if it takes a second a series. One of POOLED is a function of all series' tasks.
"""

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax.data.encoding import apply_scaler, fit_scaler
from tftjax.data.scales import garch as garch_models
from tftjax.data.scales import log_scale as regression
from tftjax.data.volatility import EWMA_BURN_IN, VOLATILITY_COLUMNS, carried_forward, ewma_volatility
from tftjax.errors import UserError
from tftjax.evaluate.metrics import Forecast

Returns = Float[np.ndarray, " R"]
Design = Float[np.ndarray, "_ F"]

ROLLING_ROWS = 252  # a year of trading days: the usual length of historical simulation
MAX_ITERATIONS = 5000  # of a quantile regression; the embedded and the FRED data take under 300
TREES = 60  # a booster
BOOSTING = {  # settings of LightGBM: little is left to learn beyond sigma, and much noise to mistake for it
    "objective": "quantile",
    "num_leaves": 4,
    "learning_rate": 0.02,
    "min_data_in_leaf": 500,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


class Task(NamedTuple):
    """The data of one series and the rows to forecast; R rows, N windows, P steps, Q levels.

    Attributes:
      returns: all rows of the target, as decimals.
      observed: the other columns that are known at the end of each row, by name; NaN where missing.
      train_rows: rows to estimate on.
      target_rows: the row of each step of each window.
      quantiles: ascending levels.
      dates: dates of all rows.
      volatility: name of the observed column that counts as implied volatility, if any.
    """

    returns: Returns
    observed: Mapping[str, Returns]
    train_rows: range
    target_rows: Int[np.ndarray, "N P"]
    quantiles: Sequence[float]
    dates: pd.DatetimeIndex
    volatility: str | None


class Unavailable(Exception):
    """Raised by a baseline without a forecast of this series; the message says why."""


class NotInstalled(Unavailable):
    """Raised by a baseline whose library is an extra that is not installed: no reason for a warning."""


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

    The VIX is the task's column of volatility, whatever its name. The last known value stands for a missing
    one.

    Raises:
      Unavailable: no such column, or one that is not above 0.
    """
    name = _volatility_of(task)
    volatility = carried_forward(task.observed[name])
    known = np.flatnonzero(~np.isnan(volatility))
    first_with_past = int(known[0]) + 1 if known.size else len(volatility)
    first = max(task.train_rows.start, first_with_past)
    if first >= task.train_rows.stop:
        raise Unavailable(f"{name} has no value in the train rows")
    if (volatility[first - 1 :] <= 0).any():
        raise Unavailable(f"{name} is not above 0 in every row")
    return _scaled(task, volatility, first)


def _volatility_of(task: Task) -> str:
    if task.volatility is None:
        names = " or ".join(VOLATILITY_COLUMNS)
        raise Unavailable(f"no column {names}, and data.volatility names no other")
    return task.volatility


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
    return _by_garch(task, "garch")


def gjr_garch(task: Task) -> Forecast:
    """GJR-GARCH(1,1), in which a loss can raise the variance more than a gain does; see `garch`."""
    return _by_garch(task, "gjr_garch")


def gjr_garch_t(task: Task) -> Forecast:
    """GJR-GARCH(1,1) with shocks of Student's t, and its quantiles; see `garch`."""
    return _by_garch(task, "gjr_garch", "t")


def gjr_garch_skewt(task: Task) -> Forecast:
    """GJR-GARCH(1,1) with shocks of a skewed Student t (Hansen 1994), and its quantiles; see `garch`."""
    return _by_garch(task, "gjr_garch", "skewt")


def egarch(task: Task) -> Forecast:
    """EGARCH(1,1), in which log variance answers to size and sign of a shock (Nelson 1991); see `garch`."""
    return _by_garch(task, "egarch")


def _by_garch(task: Task, kind: str, residuals: str = "normal") -> Forecast:
    """Quantiles of a GARCH model; under normal likelihood those of its train residuals."""
    start, stop = task.train_rows.start, task.train_rows.stop
    fitted = garch_models.fit_garch(task.returns[start:stop], kind, residuals)
    if fitted is None:
        raise Unavailable("the fit did not converge")
    variance = garch_models.filter_variance(fitted, task.returns[start:])
    shocks = (task.returns[start:stop] - fitted.mu) / np.sqrt(variance[: stop - start])
    first = variance[task.target_rows[:, 0] - start]
    ahead = garch_models.later_variances(fitted, first, shocks, task.target_rows.shape[1])
    levels = garch_models.residual_quantiles(fitted, task.quantiles)
    levels = np.quantile(shocks, task.quantiles) if levels is None else levels
    return fitted.mu + np.sqrt(ahead)[..., None] * levels


def log_scale(task: Task) -> Forecast:
    """Train quantiles of returns over a sigma that is log-linear in all that is known of volatility.

    One regression a step; see `data/scales/log_scale.py`.

    Raises:
      Unavailable: fewer train rows than features, or the fit does not converge.
    """
    return _log_linear([task], [regression.matrix(_volatility_features(task, _fit_gjr(task)))])[0]


def gjr_vix(task: Task) -> Forecast:
    """`log_scale` with two features: sigma of GJR-GARCH and the column of volatility.

    Raises:
      Unavailable: no column of volatility, or a fit does not converge.
    """
    _volatility_of(task)
    columns = _volatility_features(task, _fit_gjr(task))
    if "log_garch" not in columns:
        raise Unavailable("the fit of GJR-GARCH did not converge")
    two = {name: columns[name] for name in ("log_garch", "log_volatility")}
    return _log_linear([task], [regression.matrix(two)])[0]


def lightgbm(task: Task) -> Forecast:
    """Sigma of `log_scale` times quantiles of returns over it, by gradient boosting on the same features.

    Raises:
      NotInstalled: the library is an extra.
      Unavailable: it cannot be loaded; or see `log_scale`.
    Source: Ke et al. 2017, "LightGBM: a highly efficient gradient boosting decision tree".
    """
    try:
        library = importlib.import_module("lightgbm")
    except ImportError as error:
        raise NotInstalled("needs the extra: pip install 'tftjax[lightgbm]'") from error
    except OSError as error:  # the system has no OpenMP
        raise Unavailable(f"the library cannot be loaded ({error})") from error
    design = regression.matrix(_volatility_features(task, _fit_gjr(task)))
    return _log_linear([task], [design], fit_shocks=partial(_boosted, library))[0]


def _fit_gjr(task: Task) -> garch_models.Garch | None:
    return garch_models.fit_garch(task.returns[task.train_rows.start : task.train_rows.stop], "gjr_garch")


def _volatility_features(task: Task, garch: garch_models.Garch | None) -> dict[str, Returns]:
    volatility = None if task.volatility is None else task.observed[task.volatility]
    return regression.features(task.returns, task.dates, volatility, garch)


def pooled_log_scale(tasks: Sequence[Task]) -> list[Forecast]:
    """`log_scale` by one regression of all series together, in panels of several; each has its own level.

    A series' level is the mean of its log |return| over the train rows. Its returns are divided by the level
    and its features count from their means over these rows, so that the regression tells how far sigma is
    from the level. The residuals of all series together give the quantiles.

    Raises:
      Unavailable: fewer train rows than features, or the fit does not converge.
    """
    scaled, units = zip(*map(_in_own_units, tasks), strict=True)
    garches = [_fit_gjr(task) for task in scaled]
    first = next((place for place, garch in enumerate(garches) if garch is not None), 0)
    names = list(_volatility_features(scaled[first], garches[first]))  # one that does not converge has fewer

    def design(task: Task, garch: garch_models.Garch | None) -> Design:
        columns = pd.DataFrame(_volatility_features(task, garch))
        columns -= columns.iloc[regression.rows_to_fit(task.train_rows)].mean()
        return columns.reindex(columns=names).to_numpy()

    return _log_linear(tasks, map(design, scaled, garches), units)


def _in_own_units(task: Task) -> tuple[Task, float]:
    """A task whose returns and column of volatility are about 1 in the train rows; the returns' unit."""
    rows = regression.rows_to_fit(task.train_rows)
    sizes = np.abs(task.returns) + regression.FLOOR * ewma_volatility(task.returns)
    unit = float(np.exp(np.log(sizes[rows]).mean()))
    observed = dict(task.observed)
    if task.volatility is not None:
        values = observed[task.volatility]
        known = values[rows][values[rows] > 0]
        observed[task.volatility] = values / (np.median(known) if known.size else np.nan)
    return task._replace(returns=task.returns / unit, observed=observed), unit


def _of_all_rows(
    known: Design, shocks: Returns, quantiles: Sequence[float]
) -> Callable[[Design], Float[np.ndarray, " Q"]]:
    """The quantiles of all shocks, whatever the features."""
    levels = np.quantile(shocks, quantiles)
    return lambda before: levels


def _boosted(
    library: ModuleType, known: Design, shocks: Returns, quantiles: Sequence[float]
) -> Callable[[Design], Float[np.ndarray, "_ Q"]]:
    """Quantiles of shocks by trees on the features, a booster a level; sorted, as they may cross."""
    boosters = [
        library.train(BOOSTING | {"alpha": level}, library.Dataset(known, shocks, params=BOOSTING), TREES)
        for level in quantiles
    ]
    return lambda before: np.sort(np.column_stack([booster.predict(before) for booster in boosters]))


def _log_linear(
    tasks: Sequence[Task],
    designs: Iterable[Design],
    units: Sequence[float] = (1.0,),
    fit_shocks: Callable[[Design, Returns, Sequence[float]], Callable[[Design], np.ndarray]] = _of_all_rows,
) -> list[Forecast]:
    """Quantiles of returns over sigma, by a regression a step of all tasks together.

    Args:
      designs: features of each task, the same ones; each is looked at once, as those of a large panel are
        more than all else.
      units: what the returns of each task count in.
      fit_shocks: gives quantiles of shocks by features, from those of the train rows.
    """
    forecasts = [np.empty((*task.target_rows.shape, len(task.quantiles))) for task in tasks]
    of_train, before = _train_rows_and_others(tasks, designs)
    for step in reversed(range(forecasts[0].shape[1])):  # the first one, which has all rows, at last
        rows = [regression.rows_to_fit(task.train_rows, step) for task in tasks]
        pairs = zip(tasks, rows, strict=True)
        # A later step has the first of these rows, in a task of few train rows none.
        kept = [
            np.arange(len(regression.rows_to_fit(task.train_rows))) < len(of_task) for task, of_task in pairs
        ]
        known = of_train[np.concatenate(kept)] if step else of_train
        pairs = zip(tasks, rows, units, strict=True)
        returns = np.concatenate([task.returns[of_task] / unit for task, of_task, unit in pairs])
        raw = known if fit_shocks is _of_all_rows else known.copy()
        model = regression.fit(known, returns, overwrite=True)
        if model is None:
            raise Unavailable(
                f"the fit of {known.shape[1]} features to {len(returns)} train rows did not converge"
            )
        shocks = returns / regression.sigma_of(model, known)
        quantiles_of = fit_shocks(raw, shocks, tasks[0].quantiles)
        for forecast, design, unit in zip(forecasts, before, units, strict=True):
            forecast[:, step] = unit * regression.sigma(model, design)[:, None] * quantiles_of(design)
    return forecasts


def _train_rows_and_others(tasks: Sequence[Task], designs: Iterable[Design]) -> tuple[Design, list[Design]]:
    """The features before all train returns of a first step, and those before the windows of each task."""
    # Two arrays for all tasks: many small ones would leave holes in memory that nothing fits into.
    rows = [regression.rows_to_fit(task.train_rows) - 1 for task in tasks]
    windows = [task.target_rows[:, 0] - 1 for task in tasks]
    stops, ends = (np.cumsum([len(part) for part in parts]) for parts in (rows, windows))
    for place, design in enumerate(designs):
        if place == 0:
            of_train, before = (np.empty((last[-1], design.shape[1])) for last in (stops, ends))
        of_train[stops[place] - len(rows[place]) : stops[place]] = design[rows[place]]
        before[ends[place] - len(windows[place]) : ends[place]] = design[windows[place]]
    return of_train, np.split(before, ends[:-1])


def quantile_regression(task: Task) -> Forecast:
    """Linear quantile regression of each step on the target and the observed columns before the window.

    Columns are scaled by the train rows; a missing value counts as the train mean. A column that is constant
    in the train rows is left out. Quantiles that cross are sorted (Chernozhukov, Fernandez-Val and Galichon
    2010).

    Raises:
      Unavailable: a regression does not converge.
    Source: Koenker and Bassett 1978; `statsmodels`.
    """
    return _quantile_regression(task, {"target": task.returns, **task.observed})


def volatility_regression(task: Task) -> Forecast:
    """`quantile_regression` on levels of volatility: moving, of GJR-GARCH, and the column of volatility.

    A CAViaR without its own past (Engle and Manganelli 2004): each quantile has its own weights.

    Raises:
      Unavailable: a regression does not converge.
    """
    columns = _volatility_features(task, _fit_gjr(task))
    names = ("log_ewma", "log_garch", "log_volatility")
    return _quantile_regression(task, {name: np.exp(columns[name]) for name in names if name in columns})


def _quantile_regression(task: Task, columns: Mapping[str, Returns]) -> Forecast:
    from statsmodels.regression.quantile_regression import QuantReg  # half a second to import
    from statsmodels.tools.sm_exceptions import IterationLimitWarning

    design, spread = _design(task, columns)
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


def _design(task: Task, columns: Mapping[str, Returns]) -> tuple[Float[np.ndarray, "R V"], float]:
    """A constant and the columns known at each row's end, scaled by train rows; the target's spread."""
    train = slice(task.train_rows.start, task.train_rows.stop)
    scaled = [np.ones(len(task.returns))]
    for values in columns.values():
        known = values[train][~np.isnan(values[train])]
        if known.size and np.ptp(known) > 0:
            scaled.append(np.nan_to_num(apply_scaler(fit_scaler(known[:, None]), values[:, None])[:, 0]))
    return np.column_stack(scaled), float(np.std(task.returns[train])) or 1.0


Baseline = Callable[[Task], Forecast]
BASELINES: dict[str, Baseline] = {
    "unconditional": unconditional,
    "rolling": rolling,
    "ewma_scaled": ewma_scaled,
    "vix_scaled": vix_scaled,
    "garch": garch,
    "gjr_garch": gjr_garch,
    "gjr_garch_t": gjr_garch_t,
    "gjr_garch_skewt": gjr_garch_skewt,
    "egarch": egarch,
    "gjr_vix": gjr_vix,
    "log_scale": log_scale,
    "lightgbm": lightgbm,
    "quantile_regression": quantile_regression,
    "volatility_regression": volatility_regression,
}
PooledBaseline = Callable[[Sequence[Task]], list[Forecast]]
POOLED: dict[str, PooledBaseline] = {"pooled_log_scale": pooled_log_scale}  # of panels of several series
FITTED = tuple(BASELINES)[4:]  # up to a second a series and step
MAX_FITTED_SERIES = 100  # in panels of more series, those are left out; of so many they take minutes
