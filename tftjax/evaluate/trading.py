"""What following the median would have earned: Sharpe ratios after costs, with bootstrap intervals.

They show what a forecast is worth, not a strategy: no slippage, no financing, and returns are not in excess
of a riskless rate. N counts windows, those of a series following each other in time; T days.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from tftjax.evaluate.significance import ALPHA, MIN_DAYS

RESAMPLES = 1000
PERIODS_A_YEAR = {"daily": 252.0, "weekly": 52.0, "monthly": 12.0}

# Median forecasts [N] -> positions [N], held over the next return.
POSITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sign": np.sign,
    # A Sharpe ratio does not depend on the scale of the positions: the medians themselves will do.
    "scaled": lambda median: median,
    "buy_and_hold": np.ones_like,
}
REFERENCE = "buy_and_hold"


def trades(position: Float[np.ndarray, " N"], first: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """What is bought or sold before each return: the change of the position, the whole of a series' first."""
    return np.abs(position - np.where(first, 0.0, np.roll(position, 1)))


def sharpe_ratio(
    mean: Float[np.ndarray, "*K"], mean_square: Float[np.ndarray, "*K"], count: int, periods_a_year: float
) -> Float[np.ndarray, "*K"]:
    """Mean over sample standard deviation of `count` returns, a year; NaN where they never move.

    Sharpe 1994, "The Sharpe ratio".
    """
    variance = mean_square - mean**2
    # What rounding leaves of the variance of equal numbers is no variance.
    variance = np.where(variance > 1e-12 * mean_square, variance, np.nan)
    return mean / np.sqrt(variance * count / (count - 1)) * math.sqrt(periods_a_year)


def sharpe_ratios(net: dict[str, Float[np.ndarray, " T"]], periods_a_year: float) -> dict[str, dict]:
    """Sharpe ratios of daily returns after costs, with 95 % intervals, also of their excess over the last.

    The stationary bootstrap resamples blocks of days, T^(1/3) long on the mean, the same days for all.

    Args:
        net: returns by name, as decimals; buy_and_hold among them.
    Returns:
        By name: `sharpe`, `low`, `high`; but for buy_and_hold `excess`, `excess_low` and `excess_high`. None
        where it is undefined, bounds also with fewer than MIN_DAYS days.
    Source: Politis and Romano 1994; Hall, Horowitz and Jing 1995 (the length); the package `arch`.
    """
    from arch.bootstrap import StationaryBootstrap  # a second to import, and only evaluation needs it

    names = list(net)
    table = np.column_stack([net[name] for name in names])
    table = np.hstack([table, table**2])
    count = len(table)

    def ratios(means: np.ndarray) -> np.ndarray:
        return sharpe_ratio(*np.split(means, 2, axis=-1), count, periods_a_year)

    found = ratios(table.mean(axis=0)) if count > 1 else np.full(len(names), np.nan)
    low = high = excess_low = excess_high = np.full(len(names), np.nan)
    if count >= MIN_DAYS:
        days = StationaryBootstrap(round(count ** (1 / 3)), table, seed=np.random.default_rng(0))
        drawn = ratios(days.apply(lambda sample: sample.mean(axis=0), RESAMPLES))
        bounds = ALPHA / 2, 1 - ALPHA / 2
        low, high = np.quantile(drawn, bounds, axis=0)
        excess_low, excess_high = np.quantile(drawn - drawn[:, [names.index(REFERENCE)]], bounds, axis=0)
    result = {}
    for place, name in enumerate(names):
        values = {"sharpe": found[place], "low": low[place], "high": high[place]}
        if name != REFERENCE:
            values |= {"excess": found[place] - found[names.index(REFERENCE)]}
            values |= {"excess_low": excess_low[place], "excess_high": excess_high[place]}
        result[name] = {key: float(value) if np.isfinite(value) else None for key, value in values.items()}
    return result
