"""Sharpe ratios of following the median, after costs, with bootstrap intervals.

They show the worth of a forecast, not of a strategy: no slippage, no financing, no riskless rate. N counts
windows, those of a series following each other in time; T days.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from tftjax.evaluate.significance import ALPHA, MIN_DAYS, resampled_means

# Median forecasts [N] -> positions [N], held over the next return. A median of exactly zero is no direction:
# nothing is held, and what was held is sold at a cost.
POSITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sign": np.sign,
    "scaled": lambda median: median,  # a Sharpe ratio does not depend on the scale of the positions
    "buy_and_hold": np.ones_like,
}
REFERENCE = "buy_and_hold"


def trades(position: Float[np.ndarray, " N"], first: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The size of each trade before a return: the change of the position, the whole of a series' first.

    >>> trades(np.array([1.0, -1.0, 2.0]), np.array([True, False, True])).tolist()
    [1.0, 2.0, 2.0]
    """
    return np.abs(position - np.where(first, 0.0, np.roll(position, 1)))


def sharpe_ratio(
    mean: Float[np.ndarray, "*K"], mean_square: Float[np.ndarray, "*K"], count: int, periods_a_year: float
) -> Float[np.ndarray, "*K"]:
    """Mean over sample standard deviation of `count` returns, a year; NaN where they never move.

    Sharpe 1994, "The Sharpe ratio".
    """
    variance = mean_square - mean**2
    # Equal numbers have a variance of rounding errors only.
    variance = np.where(variance > 1e-12 * mean_square, variance, np.nan)
    return mean / np.sqrt(variance * count / (count - 1)) * math.sqrt(periods_a_year)


def sharpe_ratios(net: dict[str, Float[np.ndarray, " T"]], periods_a_year: float) -> dict[str, dict]:
    """Sharpe ratios of returns after costs, and their excess over buy and hold, with 95 % intervals.

    The stationary bootstrap resamples blocks of days, T^(1/3) long on the mean, the same days for all.

    Args:
      net: returns of each position, as decimals; buy_and_hold among them.
    Returns:
      By position `sharpe`, `low`, `high`; but for buy_and_hold also `excess`, `excess_low` and `excess_high`.
      None where they are undefined, bounds also with fewer than MIN_DAYS days.
    Source: Politis and Romano 1994; Hall, Horowitz and Jing 1995 (the length).
    """
    names = list(net)
    reference = names.index(REFERENCE)
    returns = np.column_stack(list(net.values()))
    table, count = np.hstack([returns, returns**2]), len(returns)

    def ratios(means: np.ndarray) -> np.ndarray:
        return sharpe_ratio(*np.split(means, 2, axis=-1), count, periods_a_year)

    undefined = np.full(len(names), np.nan)
    sharpe = ratios(table.mean(axis=0)) if count > 1 else undefined
    low = high = excess_low = excess_high = undefined
    if count >= MIN_DAYS:
        drawn = ratios(resampled_means(table, round(count ** (1 / 3))))
        bounds = ALPHA / 2, 1 - ALPHA / 2
        low, high = np.quantile(drawn, bounds, axis=0)
        excess_low, excess_high = np.quantile(drawn - drawn[:, [reference]], bounds, axis=0)
    values = {"sharpe": sharpe, "low": low, "high": high}
    values |= {"excess": sharpe - sharpe[reference], "excess_low": excess_low, "excess_high": excess_high}
    return {
        name: {
            key: float(numbers[place]) if np.isfinite(numbers[place]) else None
            for key, numbers in values.items()
            if name != REFERENCE or not key.startswith("excess")
        }
        for place, name in enumerate(names)
    }
