"""Volatilities known at a row: EWMA, columns that count as implied volatility, and what is "stormy"."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int

from tftjax.data.panel import Panel, blocks
from tftjax.errors import UserError

EWMA_DECAY = 0.94  # a row; RiskMetrics technical document, 4th edition, 1996
EWMA_BURN_IN = 20  # rows whose volatility is too uncertain to fit a scaler on
MIN_VOLATILITY = 1e-8  # return; keeps rows of zero returns divisible

# Columns of implied or realised volatility, the better forecast first.
VOLATILITY_COLUMNS = ("VIX", "Realized_Vol_21d")
STORMY = 2 / 3  # quantile of a volatility above which a day is stormy, by default


def ewma_volatility(returns: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Root of the exponentially weighted mean of the squared returns up to each row, the row's included.

    The weights of the returns up to a row sum to 1, so that the first return has no special weight. Rows from
    a missing return on are NaN.

    >>> ewma_volatility(np.array([0.01, -0.01])).round(6).tolist()
    [0.01, 0.01]
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
    # Rows of the future have no value yet, nor a target.
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
    """A divisor of the target.

    Attributes:
      volatility: maps the target's name, the columns, and the text after the colon of `data.target_scale` to
        the volatility known at each row.
      burn_in: number of a series' first rows whose volatility is too uncertain to fit a scaler on.
    """

    volatility: Callable[[str, Mapping[str, Float[np.ndarray, "N"]], str], Float[np.ndarray, "N"] | None]
    burn_in: int = 1  # a return is divided by the volatility of the row before it


# By the text of `data.target_scale` up to a colon; config/data.py has the names too, for the JSON schema.
TARGET_SCALES = {
    "none": TargetScale(_by_nothing),
    "ewma": TargetScale(_by_ewma, EWMA_BURN_IN),
    "column": TargetScale(_by_column),
}


def target_volatility(panel: Panel, rows: range, target_scale: str) -> Float64[np.ndarray, "N"] | None:
    """The divisor of one series' target: the volatility known at each row, None for "none".

    Args:
      rows: rows of the series.
      target_scale: `data.target_scale`, such as "column:VIX".

    Raises:
      UserError: an unknown column, or a value that is not above 0.
    """
    frame = panel.frame.iloc[rows.start : rows.stop]
    columns = {name: frame[name].to_numpy(np.float64) for name in panel.observed}
    kind, _, name = target_scale.partition(":")
    return TARGET_SCALES[kind].volatility(panel.target, columns, name)


def volatility_column(panel: Panel, chosen: str | None) -> str | None:
    """The observed column that counts as implied volatility; None without one.

    Args:
      chosen: `data.volatility`; None takes the first of VOLATILITY_COLUMNS that there is.
    Raises:
      UserError: `chosen` is no observed column but the target.
    """
    names = panel.observed[1:]
    if chosen is not None and chosen not in names:
        raise UserError(
            f"data.volatility: found {chosen!r}, expected one of the observed columns:"
            f" {', '.join(names) or 'there are none'}. Correct the name, or leave it out."
        )
    return chosen or next((name for name in VOLATILITY_COLUMNS if name in names), None)


def carried_forward(values: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Missing values replaced by the last one before; NaN before the first.

    >>> carried_forward(np.array([np.nan, 2.0, np.nan])).tolist()
    [nan, 2.0, 2.0]
    """
    return pd.Series(values).ffill().to_numpy()


def known_volatility(panel: Panel, column: str | None = None) -> Float64[np.ndarray, " N"]:
    """The volatility that is known at each row, series by series.

    Args:
      column: column whose last value is taken; None takes the moving volatility of the target.
    """
    values = panel.frame[column or panel.target].to_numpy(np.float64)
    parts = [values[rows.start : rows.stop] for _, rows in blocks(panel.frame, panel.id_column)]
    return np.concatenate([carried_forward(part) if column else ewma_volatility(part) for part in parts])


def storminess(
    volatility: Float[np.ndarray, " N"],
    reference: Float[np.ndarray, " M"],
    levels: Sequence[float] = (STORMY,),
) -> Int[np.ndarray, " N"]:
    """Number of quantiles of a reference that each volatility is above; one above the last is stormy.

    A missing volatility is above none. Tables and figures differ in the reference, and with it in the level:
    thirds of the volatilities before the days judged, or the median of these days themselves.

    Args:
      volatility: volatility known before each day or window.
      reference: volatilities that the quantiles are taken of.
      levels: levels of the quantiles, ascending.
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
    """Marks the days before which the known volatility was high, in a panel of one series.

    Args:
      dates: days of the answer.
      reference: marks the rows whose volatilities before them the quantile is taken of.
      column: see `known_volatility`.
      level: see `storminess`.
    """
    before = pd.Series(known_volatility(panel, column), panel.frame.index).shift()
    return storminess(before[dates].to_numpy(), before[reference].to_numpy(), (level,)) == 1
