"""Comparisons of many forecasts at once: of twenty tests one by one, one finds a difference by chance.

Each takes losses a day, in time order, and says nothing of fewer than MIN_DAYS days or of a loss that is not
finite. The stationary bootstrap draws the same blocks of days for all forecasts, and the same every time.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from tftjax.evaluate.significance import ALPHA, MIN_DAYS, long_run_variance

REPLICATIONS = 1000
Losses = Mapping[str, Float[np.ndarray, " T"]]  # by forecast


def confidence_set(losses: Losses) -> dict[str, float]:
    """P-value of each forecast in the model confidence set, which holds those above ALPHA.

    The set holds the best of the forecasts with a probability of 95 %: none in it can be told from the best.
    While the losses of those that are left are told apart, by the largest t of one minus their mean, the
    worst is taken out. A forecast that another beats by the same amount on every day has a p of 0; equal
    forecasts have one p.

    Returns:
      By name; empty of a single forecast, too, and where it says nothing.
    Source: Hansen, Lunde and Nason 2011, "The model confidence set", their T_max; the package `arch`.
    """
    from arch.bootstrap import MCS  # a second to import, and only evaluation needs it

    table = np.column_stack([*losses.values()])
    if table.shape[1] < 2 or not _can_be_tested(table):
        return {}
    largest = np.abs(table).max(axis=0)
    leaders: list[int] = []
    same_as: dict[int, int | None] = {}  # the leader that a forecast equals; None of one that is worse
    for place in np.argsort(table.mean(axis=0), kind="stable").tolist():
        behind = table[:, [place]] - table[:, leaders]
        rounding = 1e-9 * np.maximum(largest[place], largest[leaders])
        steady = np.flatnonzero(np.ptp(behind, axis=0) <= rounding)
        if not len(steady):
            leaders.append(place)
            same_as[place] = place
        else:
            equal = behind[:, steady[0]].mean() <= rounding[steady[0]]
            same_as[place] = leaders[steady[0]] if equal else None
    p = {leaders[0]: 1.0}
    if len(leaders) > 1:
        table = table[:, leaders]
        block = block_length(table - table.mean(axis=1, keepdims=True))
        test = MCS(table, ALPHA, REPLICATIONS, block, "max", seed=0)
        test.compute()
        p = {leaders[place]: float(value) for place, value in test.pvalues["Pvalue"].items()}
    return {name: p.get(same_as[place], 0.0) for place, name in enumerate(losses)}


def not_told_from_best(p_values: Mapping[str, float]) -> list[str]:
    """The forecasts in the model confidence set, by what `confidence_set` returns, the largest p first."""
    inside = [name for name, p in p_values.items() if p > ALPHA]
    return sorted(inside, key=p_values.__getitem__, reverse=True)


def superior_ability(benchmark: Float[np.ndarray, " T"], losses: Losses) -> float | None:
    """P-value of Hansen's test that no forecast is better than the benchmark.

    The statistic is the largest t of the benchmark's loss minus a forecast's; of the test's three p-values it
    is the consistent one.

    Returns:
      1 where no forecast has the lower mean loss; None where it says nothing, and where all differences are
      the same on every day.
    Source: Hansen 2005, "A test for superior predictive ability"; the package `arch`.
    """
    from arch.bootstrap import SPA  # a second to import, and only evaluation needs it

    gains = benchmark[:, None] - np.column_stack([*losses.values()])
    gains = gains[:, np.ptp(gains, axis=0) > 1e-9 * np.abs(benchmark).max(initial=0.0)]
    if not gains.shape[1] or not _can_be_tested(gains):
        return None
    if gains.mean(axis=0).max() <= 0:
        return 1.0
    block = block_length(gains)
    gains = gains / np.sqrt([long_run_variance(gain, block) for gain in gains.T])
    test = SPA(np.zeros(len(gains)), -gains, block, REPLICATIONS, seed=0)
    test.compute()
    return float(test.pvalues["consistent"])


def _can_be_tested(table: Float[np.ndarray, "T K"]) -> bool:
    return len(table) >= MIN_DAYS and bool(np.isfinite(table).all())


def block_length(differences: Float[np.ndarray, "T K"]) -> int:
    """Mean number of days in a block: of the most persistent difference by its rule, at least T^(1/3).

    Source: Politis and White 2004, corrected by Patton, Politis and White 2009; Hall, Horowitz and Jing 1995.
    """
    from arch.bootstrap import optimal_block_length

    with np.errstate(all="ignore"):  # autocorrelations of a constant stretch are undefined
        lengths = optimal_block_length(differences)["stationary"]
    return max(round(len(differences) ** (1 / 3)), math.ceil(np.nan_to_num(lengths).max()))
