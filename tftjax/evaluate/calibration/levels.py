"""Quantiles of a forecast at any level, and the level of any value: plain functions of arrays.

Between its levels a forecast is a straight line over the normal quantiles of the levels; beyond the outermost
ones the first and the last line go on: a normal tail with the spread of the two outermost quantiles, as in
`train.losses.forecast_moments`. A normal forecast is exact; the tails of a heavier one are cut.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float


def normal_quantiles(levels: Sequence[float]) -> Float[np.ndarray, " Q"]:
    """The standard normal's quantiles at levels between 0 and 1."""
    return np.array([*map(NormalDist().inv_cdf, levels)])


def quantiles_at(
    forecast: Float[np.ndarray, "*N Q"], quantiles: Sequence[float], levels: Sequence[float]
) -> Float[np.ndarray, "*N K"]:
    """Quantiles at other levels; at a level that was trained on it is the forecast itself.

    Args:
      forecast: quantiles that do not cross, in any unit.
      quantiles: their levels, ascending, at least two.
      levels: the levels that are asked for, between 0 and 1.
    Returns:
      Quantiles in the unit of the forecast; those of ascending levels do not cross.
    """
    scores, wanted = normal_quantiles(quantiles), normal_quantiles(levels)
    place = np.clip(np.searchsorted(scores, wanted, side="right") - 1, 0, len(scores) - 2)
    share = (wanted - scores[place]) / (scores[place + 1] - scores[place])
    return forecast[..., place] * (1 - share) + forecast[..., place + 1] * share


def normal_scores(
    forecast: Float[np.ndarray, "*N Q"], quantiles: Sequence[float], values: Float[np.ndarray, "*N"]
) -> Float[np.ndarray, "*N"]:
    """The normal quantile of each value's level in its forecast (its PIT): what `quantiles_at` undoes.

    Args:
      forecast: see `quantiles_at`.
      quantiles: see `quantiles_at`.
      values: in the unit of the forecast.
    Returns:
      Standard normal if the forecast is right; infinite beyond two outermost quantiles that are equal.
    """
    scores = normal_quantiles(quantiles)
    place = np.clip((forecast <= values[..., None]).sum(axis=-1) - 1, 0, len(scores) - 2)
    low, high = (np.take_along_axis(forecast, k[..., None], axis=-1)[..., 0] for k in (place, place + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (values - low) / (high - low)
    # 0 / 0: a value on quantiles that are equal has any of their levels, such as the lower.
    return scores[place] + np.where(values == low, 0.0, share) * (scores[place + 1] - scores[place])
