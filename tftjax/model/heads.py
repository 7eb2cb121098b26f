"""Quantile heads: they turn the output layer's numbers into quantiles, all with the same parameters.

A new head is one function `(raw [Q P B], quantiles) -> quantiles [Q P B]` and one line of `HEADS`; its name
is `model.quantile_head` in the config.
"""

import itertools
import math
import operator
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def independent(raw: Float[Any, "Q P B"], quantiles: tuple[float, ...]) -> Float[Any, "Q P B"]:
    """Takes every number as a quantile, as in the paper; quantiles may cross."""
    return raw


def monotone(raw: Float[Any, "Q P B"], quantiles: tuple[float, ...]) -> Float[Array, "Q P B"]:
    """Takes the middle number as the median, and the others as steps away from it that are never negative.

    A step is softplus of its number, in units that make 0 the step between the normal distribution's
    quantiles: all numbers 0 are the standard normal's quantiles, whatever and however many the levels.

    Args:
      raw: the output layer's numbers.
      quantiles: the levels, ascending, 0.5 among them.
    Returns:
      Ascending quantiles; each at least the one before, to the last bit.
    """
    middle = quantiles.index(0.5)
    scores = [NormalDist().inv_cdf(level) for level in quantiles]
    units = [(high - low) / math.log(2) for low, high in itertools.pairwise(scores)]
    widths = jax.nn.softplus(raw)
    # One step added at a time, not a cumulative sum in an order of XLA's choice: so rounding keeps the order.
    down = [units[k] * widths[k] for k in reversed(range(middle))]
    up = [unit * width for unit, width in zip(units[middle:], widths[middle + 1 :], strict=True)]
    below = list(itertools.accumulate(down, operator.sub, initial=raw[middle]))
    above = list(itertools.accumulate(up, operator.add, initial=raw[middle]))
    return jnp.stack([*reversed(below[1:]), *above])


HEADS = {"independent": independent, "monotone": monotone}
