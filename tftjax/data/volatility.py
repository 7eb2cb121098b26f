"""Volatilities known at a row: EWMA, columns that count as implied volatility, and what is "stormy"."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64

from tftjax.data.panel import Panel
from tftjax.errors import UserError

EWMA_DECAY = 0.94  # a row; RiskMetrics technical document, 4th edition, 1996
EWMA_BURN_IN = 20  # rows whose volatility is too uncertain to fit a scaler on
MIN_VOLATILITY = 1e-8  # return; keeps rows of zero returns divisible

# What implied or realised volatility is called, the better forecast first.
VOLATILITY_COLUMNS = ("VIX", "Realized_Vol_21d")
STORMY = 2 / 3  # quantile of the volatility before the validation rows above which a day is stormy


def ewma_volatility(returns: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Root of the exponentially weighted mean of the squared returns up to each row, the row's included.

    The weights of the returns that there are sum to 1, so that the first return has no special weight. Rows
    from a missing return on are NaN.
    """
    variance = np.empty(len(returns))
    total = weight = 0.0
    for row, value in enumerate(returns):
        total, weight = EWMA_DECAY * total + value**2, EWMA_DECAY * weight + 1.0
        variance[row] = total / weight
    return np.maximum(np.sqrt(variance), MIN_VOLATILITY)


def target_volatility(
    target_scale: str, target: str, columns: Mapping[str, Float[np.ndarray, "N"]]
) -> Float[np.ndarray, "N"] | None:
    """What `data.target_scale` divides the target by: the volatility known at each row, None without one.

    Args: target_scale: "none", "ewma" (of the target's returns), or "column:NAME" (that column as it is; its
        unit does not matter, the scaler sees to it); target: the target's name; columns: the panel's.
    Raises: UserError for an unknown name or column, or a value that is not above 0.
    """
    if target_scale == "none":
        return None
    if target_scale == "ewma":
        return ewma_volatility(columns[target])
    name = target_scale.removeprefix("column:")
    if name not in columns:
        raise UserError(
            f"data.target_scale: found {target_scale!r}, expected a column of the panel:"
            f" {', '.join(map(str, columns))}. Correct the name."
        )
    values = columns[name]
    # Rows of the future have no value yet, nor has the target there.
    gone = np.isnan(values) & ~np.isnan(columns[target])
    if gone.any():
        raise UserError(
            f"data.target_scale: column {name!r} has no value in row {int(np.argmax(gone))}, expected one in"
            " every row. Fill it, begin later (data.start), or choose another column."
        )
    if np.any(values <= 0):
        row = int(np.argmax(values <= 0))
        raise UserError(
            f"data.target_scale: column {name!r} is {values[row]:g} in row {row}, expected values above 0."
            " Choose another column, such as a volatility."
        )
    return values


def volatility_of(panel: Panel, rows: range, target_scale: str) -> Float64[np.ndarray, "N"] | None:
    frame = panel.frame.iloc[rows.start : rows.stop]
    columns = {name: frame[name].to_numpy(np.float64) for name in panel.observed}
    return target_volatility(target_scale, panel.target, columns)


def volatility_column(names: Collection[str]) -> str | None:
    """The one of the observed columns that `vix_scaled` scales by; None if there is none."""
    return next((name for name in VOLATILITY_COLUMNS if name in names), None)


def carried_forward(values: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Missing values replaced by the last one before; NaN before the first."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[last]


def stormy_days(panel: Panel, dates: pd.DatetimeIndex, first_judged: pd.Timestamp) -> Bool[np.ndarray, " N"]:
    """Whether the volatility that was known before each day was high, in a panel of one series.

    It is the moving volatility of the returns; high is above its quantile STORMY in the rows before
    `first_judged`, the first validation day.
    """
    returns = panel.frame[panel.target].to_numpy(np.float64)
    volatility = pd.Series(ewma_volatility(returns), index=panel.frame.index).shift()
    return (volatility[dates] > volatility[: first_judged - pd.Timedelta(days=1)].quantile(STORMY)).to_numpy()
