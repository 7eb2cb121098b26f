"""Tests of whether a forecast's difference, violation rate or direction is more than chance.

Each takes one value a day, in time order, and gives numbers; None where the test says nothing: fewer than
MIN_DAYS days, or input for which it is undefined, such as a constant sign. Where many forecasts are compared,
a stationary bootstrap draws the same blocks of days for all, and the same every time.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

MIN_DAYS = 30  # below, the large-sample distributions of these tests are no guide
ALPHA = 0.05  # of the verdict, and of the intervals


class Difference(NamedTuple):
    """A mean difference of losses, its 95 % interval, and the two-sided test that it is zero."""

    difference: float
    low: float | None
    high: float | None
    t: float | None
    p: float | None
    lags: int


def diebold_mariano(differences: Float[np.ndarray, " N"], horizon: int = 1) -> Difference:
    """Tests a mean difference of losses, with errors that are robust to autocorrelation.

    The long-run variance is Newey and West's with Bartlett weights; the statistic is compared with
    Student's t of N - 1 degrees of freedom.

    Args:
      differences: loss of the first forecast minus that of the second, a day.
      horizon: number of steps in a day's loss; the losses of days that are nearer than that overlap.
    Source: Diebold and Mariano 1995; Newey and West 1987, lags by their rule of 1994.
    """
    from scipy import stats  # takes a third of a second to import

    differences = np.asarray(differences, np.float64)
    count = len(differences)
    lags = max(horizon - 1, math.floor(4 * (count / 100) ** (2 / 9))) if count else 0
    mean = float(np.mean(differences)) if count else 0.0
    variance = long_run_variance(differences, lags) if count >= MIN_DAYS else 0.0
    rounding = 1e-9 * float(np.abs(differences).max(initial=0.0))
    if variance <= rounding**2:  # too few days, or the same difference on all
        return Difference(mean, None, None, None, None, lags)
    error = math.sqrt(variance / count)
    half = float(stats.t.ppf(1 - ALPHA / 2, count - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean / error), count - 1))
    return Difference(mean, mean - half, mean + half, mean / error, p, lags)


def long_run_variance(values: Float[np.ndarray, " N"], lags: int) -> float:
    """Variance of the mean times N: autocovariances up to `lags` with Bartlett weights (Newey, West 1987)."""
    from statsmodels.stats.sandwich_covariance import S_hac_simple  # takes half a second to import

    return S_hac_simple(values - values.mean(), nlags=lags).item() / len(values)


def value_at_risk_tests(violations: Bool[np.ndarray, " N"], level: float) -> dict[str, int | float | None]:
    """Kupiec's and Christoffersen's tests of violations: days with a return outside of a tail quantile.

    Args:
      level: the nominal share of such days.
    Returns:
      `violations` and `expected` count days. p-values: `kupiec_p` that the share is the level (one degree
      of freedom), `independence_p` that a violation does not depend on the day before (one), `coverage_p`
      both (two).
    Source: Kupiec 1995; Christoffersen 1998, "Evaluating interval forecasts".
    """
    from scipy.stats import chi2

    count, hits = len(violations), int(violations.sum())
    result = {"violations": hits, "expected": level * count}
    if count < MIN_DAYS:
        return result | dict.fromkeys(("kupiec_p", "independence_p", "coverage_p"))
    kupiec = 2 * (_log_likelihood(hits, count, hits / count) - _log_likelihood(hits, count, level))
    result["kupiec_p"] = float(chi2.sf(max(kupiec, 0.0), 1))
    after, before = violations[1:], violations[:-1]
    pairs = [
        (int((after & (before == state)).sum()), int((before == state).sum())) for state in (False, True)
    ]
    if not pairs[0][1] or not pairs[1][1]:  # no violation, or nothing else: no day to compare with
        return result | dict.fromkeys(("independence_p", "coverage_p"))
    separate = sum(_log_likelihood(hit, days, hit / days) for hit, days in pairs)
    joint = _log_likelihood(int(after.sum()), count - 1, float(after.mean()))
    independence = max(2 * (separate - joint), 0.0)
    result["independence_p"] = float(chi2.sf(independence, 1))
    result["coverage_p"] = float(chi2.sf(max(kupiec, 0.0) + independence, 2))
    return result


def _log_likelihood(hits: int, count: int, share: float) -> float:
    """Log-likelihood of `hits` in `count` independent days of probability `share`; 0 log 0 is 0."""
    terms = ((hits, share), (count - hits, 1 - share))
    return sum(number * math.log(probability) for number, probability in terms if number)


def pit_test(counts: Int[np.ndarray, " B"], quantiles: Sequence[float]) -> dict[str, float | None]:
    """Pearson's test that the bins between the quantiles hold the shares that their levels say.

    Args:
      counts: days in each of the Q + 1 bins; see `metrics.pit_counts`.
    Returns:
      `chi2`, and `p` with Q degrees of freedom.
    Source: Pearson 1900; Diebold, Gunther and Tay 1998.
    """
    from scipy.stats import chi2

    count = int(counts.sum())
    if count < MIN_DAYS:
        return {"chi2": None, "p": None}
    expected = count * np.diff([0.0, *quantiles, 1.0])
    statistic = float((np.square(counts - expected) / expected).sum())
    return {"chi2": statistic, "p": float(chi2.sf(statistic, len(quantiles)))}


def pesaran_timmermann(
    forecast: Float[np.ndarray, " N"], target: Float[np.ndarray, " N"]
) -> dict[str, float | None]:
    """Tests whether a forecast has the target's sign more often than chance, given how often each is up.

    Forecasts of exactly zero, which have no direction, are left out.

    Returns:
      `statistic`, standard normal without skill, and its one-sided `p`; None for a constant sign.
    Source: Pesaran and Timmermann 1992, "A simple nonparametric test of predictive performance", eq. 6.
    """
    from scipy.stats import norm

    forecast, target = forecast[forecast != 0], target[forecast != 0]
    count = len(target)
    up, forecast_up = (float((values > 0).mean()) if count else 0.0 for values in (target, forecast))
    if count < MIN_DAYS or up in (0, 1) or forecast_up in (0, 1):
        return {"statistic": None, "p": None}
    right = float(((forecast > 0) == (target > 0)).mean())
    chance = up * forecast_up + (1 - up) * (1 - forecast_up)
    variance = chance * (1 - chance) / count
    variance_of_chance = (
        (2 * up - 1) ** 2 * forecast_up * (1 - forecast_up) / count
        + (2 * forecast_up - 1) ** 2 * up * (1 - up) / count
        + 4 * up * forecast_up * (1 - up) * (1 - forecast_up) / count**2
    )
    if variance <= variance_of_chance:
        return {"statistic": None, "p": None}
    statistic = (right - chance) / math.sqrt(variance - variance_of_chance)
    return {"statistic": statistic, "p": float(norm.sf(statistic))}


class Interval(NamedTuple):
    """A mean over seeds with its 95 % t interval; the bounds are None for a single seed."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Float[np.ndarray, " S"]) -> Interval:
    """The mean over seeds and its 95 % interval by Student's t (1908) of S - 1 degrees of freedom.

    It takes the seeds' values as independent and normal.

    >>> [round(float(value), 1) for value in mean_interval(np.array([0.0, 2.0]))]
    [1.0, -11.7, 13.7]
    """
    from scipy import stats  # takes a third of a second to import

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def wilson_interval(
    share: Float[np.ndarray, " Q"], count: int
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"]]:
    """95 % interval, (low, high), of a probability seen as `share` of `count` draws (Wilson 1927)."""
    from scipy.special import ndtri  # a tenth of a second to import; statsmodels, which has it too, a second

    z = -ndtri(ALPHA / 2)
    scale = 1 + z**2 / count
    center = (share + z**2 / (2 * count)) / scale
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / scale
    return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)  # rounded


# ---- Many forecasts at once: of twenty tests one by one, one finds a difference by chance ----------------

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
        p = dict(zip(leaders, _eliminated(table, block).tolist(), strict=True))
    return {name: p.get(same_as[place], 0.0) for place, name in enumerate(losses)}


def _eliminated(table: Float[np.ndarray, "T K"], block: int) -> Float[np.ndarray, " K"]:
    """P-values of the model confidence set: the worst column is taken out until one is left.

    As `MCS` of the package `arch`, in a third of its time.
    """
    means, errors = table.mean(axis=0), resampled_means(table - table.mean(axis=0), block)
    p, left, largest = np.ones(len(means)), np.arange(len(means)), 0.0
    while len(left) > 1:
        drawn = errors[:, left] - errors[:, left].mean(axis=1, keepdims=True)
        spread = np.sqrt((drawn**2).mean(axis=0))
        t = (means[left] - means[left].mean()) / spread
        largest = max(largest, float((t.max() < (drawn / spread).max(axis=1)).mean()))
        p[left[t == t.max()]] = largest
        left = left[t < t.max()]
    return p


def resampled_means(table: Float[np.ndarray, "T K"], block: int) -> Float[np.ndarray, "R K"]:
    """Means of columns over resamples of their rows by the stationary bootstrap.

    Args:
      block: mean number of rows in a block.
    Source: Politis and Romano 1994; the package `arch`.
    """
    means = np.empty((REPLICATIONS, table.shape[1]))
    for mean, rows in zip(means, _resamples(len(table), block), strict=True):
        np.add.reduce(table.take(rows, axis=0), axis=0, out=mean)
    return means / len(table)


@functools.lru_cache(maxsize=2)  # members of a sweep, and what is asked of each of them, have the same
def _resamples(count: int, block: int) -> UInt[np.ndarray, "R T"]:
    from arch.bootstrap import StationaryBootstrap  # a second to import, and only evaluation needs it

    sampler = StationaryBootstrap(block, np.empty(count), seed=0)
    smallest = np.min_scalar_type(count)
    return np.stack([sampler.update_indices().astype(smallest) for _ in range(REPLICATIONS)])


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
