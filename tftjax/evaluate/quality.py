"""Modes of median forecasts over rolling windows: where they have collapsed, degraded, or are healthy.

Three structural methods look at the medians alone, in units of the target's standard deviation in the same
window: their standard deviation, their range, and the mean size of their steps from one row to the next. Each
calls a window collapsed at or below its threshold in `EvaluationConfig`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from tftjax.config.evaluation import EvaluationConfig

Rows = Float[np.ndarray, " N"]

# The first that holds is the window's mode.
MODES = (
    "STRONG_COLLAPSE",  # by all three structural methods
    "WEAK_COLLAPSE",  # by two of them
    "UNIDIRECTIONAL",  # more than 98 % of the medians have one sign
    "DEGRADED",  # right in under 48 % of the signs, or correlated negatively with the target
    "HEALTHY",  # collapsed by no method, right in over 52 % of the signs, and correlated positively
    "NEUTRAL",  # the rest
)
RANDOM_DRAWS = 50  # random forecasts, over all series together


class Rolling(NamedTuple):
    """A series in windows of consecutive rows.

    Attributes:
      rows: the whole series.
      range: of each window.
      deviation: standard deviation of each window.
      shape: each window less its mean, scaled to a range of 1, so that tiny numbers do not underflow when
        squared; NaN where it is constant.
      square: sum of the squares of `shape`.
    """

    rows: Rows
    range: Float[np.ndarray, " W"]
    deviation: Float[np.ndarray, " W"]
    shape: Float[np.ndarray, "W L"]
    square: Float[np.ndarray, " W"]


def rolling(values: Rows, length: int) -> Rolling:
    """What is asked of a series alone; of the target once for many medians.

    Args:
      length: rows of a window; at most as many as there are.
    """
    windows = sliding_window_view(values, length)
    centered = windows - windows.mean(axis=1, keepdims=True)
    deviation, range_ = np.sqrt((centered * centered).mean(axis=1)), np.ptp(windows, axis=1)
    shape = centered / np.where(range_ > 0, range_, np.nan)[:, None]
    return Rolling(values, range_, deviation, shape, (shape * shape).sum(axis=1))


def quality_modes(median: Rows, target: Rows, settings: EvaluationConfig) -> Int[np.ndarray, " W"]:
    """The mode of each window of `quality_window` consecutive rows, by its last row, as its place in MODES.

    Returns:
      [N - quality_window + 1]; empty if there are fewer rows.
    """
    if len(median) < settings.quality_window:
        return np.empty(0, np.int64)
    return _modes(median, rolling(target, settings.quality_window), settings)


def _modes(median: Rows, target: Rolling, settings: EvaluationConfig) -> Int[np.ndarray, " W"]:
    length = settings.quality_window
    x = rolling(median, length)
    collapsed = structural_collapses(x, target.deviation, settings)
    most = np.maximum(_counts(median > 0, length), _counts(median < 0, length))
    directed = (median != 0) & (target.rows != 0)
    hits = (np.sign(median) == np.sign(target.rows)) & directed
    with np.errstate(invalid="ignore"):
        accuracy = _counts(hits, length) / _counts(directed, length)
    # To its sign exact.
    correlation = (x.shape * target.shape).sum(axis=1) / np.sqrt(x.square * target.square)
    # Undefined accuracies and correlations are NaN, of which no comparison holds.
    degraded = (accuracy < settings.degraded_accuracy) | (correlation < 0)
    healthy = (collapsed == 0) & (accuracy > settings.healthy_accuracy) & (correlation > 0)
    one_sign = most / length > settings.max_one_sign
    conditions = [collapsed == 3, collapsed == 2, one_sign, degraded, healthy]
    return np.select(conditions, range(len(conditions)), len(conditions))


def _counts(condition: Bool[np.ndarray, " N"], length: int) -> Int[np.ndarray, " W"]:
    """The number of rows in each window on which a condition holds."""
    total = np.concatenate([[0], np.cumsum(condition)])
    return total[length:] - total[:-length]


def structural_collapses(
    median: Rolling, spread: Float[np.ndarray, " W"], settings: EvaluationConfig
) -> Int[np.ndarray, " W"]:
    """The number of structural methods that call a window collapsed: 0 to 3.

    Args:
      spread: the target's standard deviation in each window.
    """
    steps = np.abs(np.diff(median.rows))
    step = sliding_window_view(steps, median.shape.shape[1] - 1).mean(axis=1)
    still = median.range == 0  # rounding can give equal numbers a tiny deviation
    methods = (
        (median.deviation <= settings.min_std_ratio * spread) | still,
        median.range <= settings.min_range_ratio * spread,
        step <= settings.min_step_ratio * spread,
    )
    return np.sum(methods, axis=0)


def shares(modes: Int[np.ndarray, " W"]) -> dict[str, float | None]:
    """Share of windows in each mode; None without a window."""
    return {name: float((modes == place).mean()) if len(modes) else None for place, name in enumerate(MODES)}


def random_modes(
    pairs: Sequence[tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]], settings: EvaluationConfig
) -> Int[np.ndarray, " W"]:
    """Modes that chance gives: of independent normal draws with the mean and sigma of each series' medians.

    The draws are the same every time.

    Args:
      pairs: medians and targets of each series.
    """
    rng = np.random.default_rng(0)
    draws = max(1, RANDOM_DRAWS // max(len(pairs), 1))
    modes = [np.empty(0, np.int64)]
    for median, target in pairs:
        drawn = rng.normal(median.mean(), median.std(), (draws, len(median)))
        if len(median) >= settings.quality_window:
            rolled = rolling(target, settings.quality_window)
            modes += [_modes(one, rolled, settings) for one in drawn]
    return np.concatenate(modes)
