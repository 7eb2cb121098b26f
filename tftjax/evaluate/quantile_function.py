"""A forecast distribution between and beyond the levels whose quantiles it was trained on."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float


def quantiles_at(
    forecast: Float[np.ndarray, "*N Q"], quantiles: Sequence[float], levels: Sequence[float]
) -> Float[np.ndarray, "*N K"]:
    """Quantiles at other levels, by straight lines over the normal quantiles of the levels.

    Beyond the outermost levels the first and the last line go on: a normal tail with the spread of the two
    outermost quantiles, as in `train.losses.forecast_moments`. A normal forecast gets its exact quantiles;
    the tails of a heavier one are cut. At a level that was trained on it is the forecast itself.

    Args:
      forecast: quantiles that do not cross, in any unit.
      quantiles: their levels, ascending, at least two.
      levels: the levels that are asked for, between 0 and 1.
    Returns:
      Quantiles in the unit of the forecast; those of ascending levels do not cross.
    """
    scores, wanted = (np.array([*map(NormalDist().inv_cdf, part)]) for part in (quantiles, levels))
    place = np.clip(np.searchsorted(scores, wanted, side="right") - 1, 0, len(scores) - 2)
    share = (wanted - scores[place]) / (scores[place + 1] - scores[place])
    return forecast[..., place] * (1 - share) + forecast[..., place + 1] * share
