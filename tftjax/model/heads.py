"""Quantile heads: they turn the output layer's numbers into quantiles, in units of the scaled target.

A new head is one function `(raw [R P B], quantiles, classical) -> quantiles [Q P B]` and one line of `HEADS`;
its name is `model.quantile_head` in the config.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tftjax.data.scales.log_scale import FREEDOM
from tftjax.data.windows import Classical


def independent(
    raw: Float[Any, "Q P B"], quantiles: tuple[float, ...], classical: Classical | None = None
) -> Float[Any, "Q P B"]:
    """Takes every number as a quantile, as in the paper; quantiles may cross."""
    return raw


def monotone(
    raw: Float[Any, "Q P B"], quantiles: tuple[float, ...], classical: Classical | None = None
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
    raw: Float[Any, "R P B"], quantiles: tuple[float, ...], classical: Classical
) -> Float[Array, "Q P B"]:
    """Corrects a classical forecast, the quantiles z of the scaled target in the train rows.

    q_k = z_k e^s + m + d_k: numbers of zero, with which training starts, leave the classical forecast as it
    is. Quantiles may cross.

    Args:
      raw: s, m, and d of each level.
    """
    return jnp.asarray(classical.shocks)[:, :, None] * jnp.exp(raw[:1]) + raw[1:2] + raw[2:]


def student_t(
    raw: Float[Any, "R P B"], quantiles: tuple[float, ...], classical: Classical
) -> Float[Array, "Q P B"]:
    """Corrects a classical forecast, the Student t of the scaled target in the train rows.

    The parameters have no level in them: any level has its quantile, and they never cross.

    Args:
      raw: s, m, and the logarithm of a factor on the degrees of freedom above 2.
    """
    location, log_scale, freedom = density_of(raw, classical.density, own_freedom=True)
    steepness, table = _t_quantiles(quantiles)
    shocks = jnp.stack([jnp.interp(1 / freedom, steepness, row) for row in table])
    return location[None] + jnp.exp(log_scale)[None] * shocks


def density_of(
    raw: Float[Any, "R P B"], density: Float[Any, "3 P"], *, own_freedom: bool
) -> tuple[Float[Array, "P B"], Float[Array, "P B"], Float[Array, "P B"]]:
    """Location, logarithm of the scale, and degrees of freedom of the Student t after a correction.

    Args:
      raw: the numbers of a head that corrects.
      density: see `Classical`.
      own_freedom: whether the third number is of the degrees of freedom; else they stay as they are.
    """
    location, log_scale, freedom = (jnp.asarray(part)[:, None] for part in density)
    stretched = location * jnp.exp(raw[0]) + raw[1]
    if own_freedom:
        freedom = jnp.clip(2 + (freedom - 2) * jnp.exp(raw[2]), *FREEDOM)
    return stretched, log_scale + raw[0], freedom * jnp.ones_like(stretched)


@functools.cache
def _t_quantiles(quantiles: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles [Q N] of Student's t over a grid [N] of 1 / degrees of freedom, for interpolation."""
    from scipy.stats import t  # a third of a second to import

    steepness = np.linspace(1 / FREEDOM[1], 1 / FREEDOM[0], 1025)
    table = t.ppf(np.asarray(quantiles)[:, None], 1 / steepness)
    return np.float32(steepness), np.float32(table)


class Head(NamedTuple):
    """A quantile head.

    Attributes:
      quantiles: see the top of the file.
      outputs: number of numbers of the output layer, by that of the levels.
      corrects: whether numbers of zero are a forecast to start from: the output layer is then zero at first,
        and the classical forecast is given.
    """

    quantiles: Callable[..., Any]
    outputs: Callable[[int], int] = lambda num_levels: num_levels
    corrects: bool = False


HEADS = {
    "independent": Head(independent),
    "monotone": Head(monotone),
    "correction": Head(correction, lambda num_levels: num_levels + 2, corrects=True),
    "student_t": Head(student_t, lambda num_levels: 3, corrects=True),
}
