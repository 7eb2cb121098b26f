"""Quantile heads: they turn the output layer's numbers into quantiles, in units of the scaled target.

A new head is one function `(raw [R P B], quantiles, shocks [Q P]) -> quantiles [Q P B]` and one line of
`HEADS`; its name is `model.quantile_head` in the config.
"""

import itertools
import math
import operator
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def independent(
    raw: Float[Any, "Q P B"], quantiles: tuple[float, ...], shocks: Float[Any, "Q P"] | None = None
) -> Float[Any, "Q P B"]:
    """Takes every number as a quantile, as in the paper; quantiles may cross."""
    return raw


def monotone(
    raw: Float[Any, "Q P B"], quantiles: tuple[float, ...], shocks: Float[Any, "Q P"] | None = None
) -> Float[Array, "Q P B"]:
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


def correction(
    raw: Float[Any, "R P B"], quantiles: tuple[float, ...], shocks: Float[Any, "Q P"]
) -> Float[Array, "Q P B"]:
    """Corrects a classical forecast, the quantiles z of the scaled target in the train rows.

    q_k = z_k e^s + m + d_k: numbers of zero, with which training starts, leave the classical forecast as it
    is. Quantiles may cross.

    Args:
      raw: s, m, and d of each level.
      quantiles: the levels.
      shocks: z, of each step.
    """
    return shocks[:, :, None] * jnp.exp(raw[:1]) + raw[1:2] + raw[2:]


class Head(NamedTuple):
    """A quantile head.

    Attributes:
      quantiles: see the top of the file.
      extra: numbers of the output layer beyond one a level.
      corrects: whether numbers of zero are a forecast to start from: the output layer is then zero at first,
        and the shocks are given.
    """

    quantiles: Callable[..., Any]
    extra: int = 0
    corrects: bool = False


HEADS = {
    "independent": Head(independent),
    "monotone": Head(monotone),
    "correction": Head(correction, extra=2, corrects=True),
}
