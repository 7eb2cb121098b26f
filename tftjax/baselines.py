"""Classical forecasts with the shape of the model's output, to be beaten by it.

A baseline is a function (returns [R], train_rows, target_rows [N P], quantiles) -> [N P Q]. What it
estimates, it estimates on `train_rows`; for a window it may besides use the returns before the window's first
target row, `returns[: target_rows[n, 0]]`, and none later.
To add one: one function and one line in BASELINES.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from tftjax.config import UserError
from tftjax.data.scaling import EWMA_BURN_IN, ewma_volatility

Returns = Float[np.ndarray, " R"]
TargetRows = Int[np.ndarray, "N P"]
Forecast = Float[np.ndarray, "N P Q"]


def unconditional(
    returns: Returns, train_rows: range, target_rows: TargetRows, quantiles: Sequence[float]
) -> Forecast:
    """The train returns' sample quantiles, the same for every window: a forecast that looks at nothing.

    Args:
        returns: all rows of the target, as decimals.
        train_rows: rows that the quantiles are taken from.
        target_rows: row of each window's each horizon.
        quantiles: the Q levels.
    Returns:
        [N P Q] float64, as decimals.
    Raises:
        UserError: no train row, or a train return that is not finite.
    Source: Hyndman and Fan 1996, definition 7 (linear interpolation).
    """
    num_windows, prediction_length = target_rows.shape
    train = returns[train_rows.start : train_rows.stop]
    return unconditional_quantiles(train, quantiles, num_windows, prediction_length)


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


def ewma_scaled(
    returns: Returns, train_rows: range, target_rows: TargetRows, quantiles: Sequence[float]
) -> Forecast:
    """Quantiles of the train returns over their recent volatility, times the volatility before the window.

    One volatility, the last known before it, serves all horizons of a window.

    Args, Returns, Raises: see `unconditional`.
    Source: `scaling.ewma_volatility`.
    """
    volatility = ewma_volatility(returns)
    volatility = np.append(volatility[:1], volatility)  # known before each row, but for the first
    # The first rows have no past to speak of.
    first = train_rows.start + min(EWMA_BURN_IN, len(train_rows) // 2)
    scaled = returns[first : train_rows.stop] / volatility[first : train_rows.stop]
    levels = unconditional_quantiles(scaled, quantiles, *target_rows.shape)
    return levels * volatility[target_rows[:, 0], None, None]


Baseline = Callable[[Returns, range, TargetRows, Sequence[float]], Forecast]
BASELINES: dict[str, Baseline] = {
    "unconditional": unconditional,
    "ewma_scaled": ewma_scaled,
}
