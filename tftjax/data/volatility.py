"""Volatilities known at a row: EWMA, columns that count as implied volatility, and what is "stormy"."""

from collections.abc import Iterable, Sequence

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
STORMY = 2 / 3  # quantile of a volatility above which a day is stormy


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


def volatility_column(panel: Panel, chosen: str | None) -> str | None:
    """The observed column that counts as implied volatility; None without one.

    Args:
      chosen: `data.volatility`; None takes the first of VOLATILITY_COLUMNS that there is, in letters of any
        case.
    Raises:
      UserError: `chosen` is no observed column but the target.
    """
    names = panel.observed[1:]
    if chosen is not None and chosen not in names:
        raise UserError(
            f"data.volatility: found {chosen!r}, expected one of the observed columns:"
            f" {', '.join(names) or 'there are none'}. Correct the name, or leave it out."
        )
    return chosen or named_volatility(names)


def named_volatility(names: Iterable[str]) -> str | None:
    """The first of VOLATILITY_COLUMNS among names, in letters of any case; None without one.

    >>> named_volatility(["realized_vol_21d", "vix"]), named_volatility(["flow"])
    ('vix', None)
    """
    known = [name.lower() for name in VOLATILITY_COLUMNS]
    named = [name for name in names if name.lower() in known]
    return min(named, key=lambda name: known.index(name.lower()), default=None)


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
    levels: Sequence[float],
) -> Int[np.ndarray, " N"]:
    """Number of quantiles of a reference that each volatility is above; one above the last is stormy.

    A missing volatility is above none. Tables and figures differ in the reference: the volatilities before
    the days judged, or those of these days themselves.

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
) -> Bool[np.ndarray, " T"]:
    """Marks the days before which the known volatility was high, in a panel of one series.

    Args:
      dates: days of the answer.
      reference: marks the rows whose volatilities before them the quantile is taken of.
      column: see `known_volatility`.
    """
    before = pd.Series(known_volatility(panel, column), panel.frame.index).shift()
    return storminess(before[dates].to_numpy(), before[reference].to_numpy(), (STORMY,)) == 1
