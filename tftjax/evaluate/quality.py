"""Modes of median forecasts over rolling windows: where they have collapsed, degraded, or are healthy.

Three structural methods look at the medians alone, in units of the target's standard deviation in the same
window: their standard deviation, their range, and the mean size of their steps from one row to the next. Each
calls a window collapsed at or below its threshold in `EvaluationConfig`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

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


def quality_modes(median: Rows, target: Rows, settings: EvaluationConfig) -> Int[np.ndarray, " W"]:
    """The mode of each window of `quality_window` consecutive rows, by its last row, as its place in MODES.

    Returns:
      [N - quality_window + 1]; empty if there are fewer rows.
    """
    length = settings.quality_window
    if len(median) < length:
        return np.empty(0, np.int64)
    x, y = (np.lib.stride_tricks.sliding_window_view(values, length) for values in (median, target))
    collapsed = structural_collapses(x, y, settings)
    accuracy, correlation = _accuracy(x, y), _correlation(x, y)
    one_sign = np.maximum((x > 0).mean(axis=1), (x < 0).mean(axis=1)) > settings.max_one_sign
    # Undefined accuracies and correlations are NaN, of which no comparison holds.
    degraded = (accuracy < settings.degraded_accuracy) | (correlation < 0)
    healthy = (collapsed == 0) & (accuracy > settings.healthy_accuracy) & (correlation > 0)
    conditions = [collapsed == 3, collapsed == 2, one_sign, degraded, healthy]
    return np.select(conditions, range(len(conditions)), len(conditions))


def structural_collapses(
    median: Float[np.ndarray, "W L"], target: Float[np.ndarray, "W L"], settings: EvaluationConfig
) -> Int[np.ndarray, " W"]:
    """The number of structural methods that call a window collapsed: 0 to 3."""
    spread = target.std(axis=1)
    deviation, range_ = median.std(axis=1), np.ptp(median, axis=1)
    step = np.abs(np.diff(median, axis=1)).mean(axis=1)
    still = range_ == 0  # rounding can give equal numbers a tiny deviation
    methods = (
        (deviation <= settings.min_std_ratio * spread) | still,
        range_ <= settings.min_range_ratio * spread,
        step <= settings.min_step_ratio * spread,
    )
    return np.sum(methods, axis=0)


def _accuracy(median: Float[np.ndarray, "W L"], target: Float[np.ndarray, "W L"]) -> Float[np.ndarray, " W"]:
    """`metrics.directional_accuracy` of each window; NaN where in no row both median and target moved."""
    directed = (median != 0) & (target != 0)
    hits = (np.sign(median) == np.sign(target)) & directed
    with np.errstate(invalid="ignore"):
        return hits.sum(axis=1) / directed.sum(axis=1)


def _correlation(
    median: Float[np.ndarray, "W L"], target: Float[np.ndarray, "W L"]
) -> Float[np.ndarray, " W"]:
    """Pearson's correlation of each window, to its sign exact; NaN where either is constant."""
    centered = []
    for values in (median, target):
        reach = np.ptp(values, axis=1, keepdims=True)
        # Scaled to 1 before squaring, so that tiny forecasts do not underflow.
        centered.append((values - values.mean(axis=1, keepdims=True)) / np.where(reach > 0, reach, np.nan))
    x, y = centered
    return (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))


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
    modes = [
        quality_modes(rng.normal(median.mean(), median.std(), len(median)), target, settings)
        for median, target in pairs
        for _ in range(draws)
    ]
    return np.concatenate(modes) if modes else np.empty(0, np.int64)
