"""Volatilities known at a row: EWMA, columns that count as implied volatility, and what is "stormy"."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int

from tftjax.data.panel import Panel, blocks
from tftjax.errors import UserError

EWMA_DECAY = 0.94  # a row; RiskMetrics technical document, 4th edition, 1996
EWMA_BURN_IN = 20  # rows whose volatility is too uncertain to fit a scaler on
MIN_VOLATILITY = 1e-8  # return; keeps rows of zero returns divisible

# What implied or realised volatility is called, the better forecast first.
VOLATILITY_COLUMNS = ("VIX", "Realized_Vol_21d")
STORMY = 2 / 3  # quantile of a volatility above which a day is stormy, unless another one is said


def ewma_volatility(returns: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Root of the exponentially weighted mean of the squared returns up to each row, the row's included.

    The weights of the returns that there are sum to 1, so that the first return has no special weight. Rows
    from a missing return on are NaN.
    """
    variance = pd.Series(returns**2).ewm(alpha=1 - EWMA_DECAY).mean().to_numpy()
    variance = np.where(np.logical_or.accumulate(np.isnan(returns)), np.nan, variance)
    return np.maximum(np.sqrt(variance), MIN_VOLATILITY)


def _by_nothing(target: str, columns: Mapping[str, Float[np.ndarray, "N"]], name: str) -> None:
    """The target as it is."""


def _by_ewma(target: str, columns: Mapping[str, Float[np.ndarray, "N"]], name: str) -> Float[np.ndarray, "N"]:
    """The moving volatility of the target's returns."""
    return ewma_volatility(columns[target])


def _by_column(
    target: str, columns: Mapping[str, Float[np.ndarray, "N"]], name: str
) -> Float[np.ndarray, "N"]:
    """That column as it is; its unit does not matter, the scaler sees to it."""
    if name not in columns:
        raise UserError(
            f"data.target_scale: found 'column:{name}', expected a column of the panel:"
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


class TargetScale(NamedTuple):
    """What the target is divided by.

    Attributes:
      volatility: known at each row, of the target's name, the columns, and what follows the scale's name and
        a colon in the config.
      burn_in: rows from a series' first one on whose volatility is too uncertain to fit a scaler on.
    """

    volatility: Callable[[str, Mapping[str, Float[np.ndarray, "N"]], str], Float[np.ndarray, "N"] | None]
    burn_in: int = 1  # a return is divided by the volatility of the row before it


# By what stands in `data.target_scale` up to a colon; config/data.py has the names too, for the JSON schema.
TARGET_SCALES = {
    "none": TargetScale(_by_nothing),
    "ewma": TargetScale(_by_ewma, EWMA_BURN_IN),
    "column": TargetScale(_by_column),
}


def target_volatility(panel: Panel, rows: range, target_scale: str) -> Float64[np.ndarray, "N"] | None:
    """What the target of one series is divided by: the volatility known at each row, None for "none".

    Args:
      rows: of the series.
      target_scale: as in the config, such as "column:VIX".
    Raises:
      UserError: an unknown column, or a value that is not above 0.
    """
    frame = panel.frame.iloc[rows.start : rows.stop]
    columns = {name: frame[name].to_numpy(np.float64) for name in panel.observed}
    kind, _, name = target_scale.partition(":")
    return TARGET_SCALES[kind].volatility(panel.target, columns, name)


def volatility_column(names: Collection[str]) -> str | None:
    """The one of the observed columns that `vix_scaled` scales by; None if there is none."""
    return next((name for name in VOLATILITY_COLUMNS if name in names), None)


def carried_forward(values: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Missing values replaced by the last one before; NaN before the first."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[last]


def known_volatility(panel: Panel, column: str | None = None) -> Float64[np.ndarray, " N"]:
    """The volatility that is known at each row, series by series.

    Args:
      column: whose last value it is; None takes the moving volatility of the target.
    """
    values = panel.frame[column or panel.target].to_numpy(np.float64)
    parts = [values[rows.start : rows.stop] for _, rows in blocks(panel.frame, panel.id_column)]
    return np.concatenate([carried_forward(part) if column else ewma_volatility(part) for part in parts])


def storminess(
    volatility: Float[np.ndarray, " N"],
    reference: Float[np.ndarray, " M"],
    levels: Sequence[float] = (STORMY,),
) -> Int[np.ndarray, " N"]:
    """How many quantiles of a reference each volatility is above: what is above the last one is stormy.

    A missing volatility is above none. What differs between tables and figures is the reference, and with it
    the level: thirds of what was known before the days judged, or the median of these days themselves.

    Args:
      volatility: known before each day or window.
      reference: known before the days or windows that the quantiles are of.
      levels: of the quantiles, ascending.
    """
    return (volatility[:, None] > np.nanquantile(reference, levels)).sum(axis=1)


def stormy_days(
    panel: Panel,
    dates: pd.DatetimeIndex,
    reference: Bool[np.ndarray, " N"],
    *,
    column: str | None = None,
    level: float = STORMY,
) -> Bool[np.ndarray, " T"]:
    """Whether the volatility that was known before each day was high, in a panel of one series.

    Args:
      dates: the days asked about.
      reference: the rows before which the volatility was high in a share 1 - level of them.
      column: see `known_volatility`.
      level: see `storminess`.
    """
    before = pd.Series(known_volatility(panel, column), panel.frame.index).shift()
    return storminess(before[dates].to_numpy(), before[reference].to_numpy(), (level,)) == 1
