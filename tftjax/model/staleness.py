"""Penalties on logits by the age of low-frequency values: of steps in attention, of variables in selection.

To add a decay: one function and one line of `DECAYS`, and its name in `StalenessConfig`.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.config.model import StalenessConfig
from tftjax.model.layers import zeros


def linear(age: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """a"""
    return age


def exponential(age: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 - 2^-a: the share lost with a half-life of 1."""
    return 1.0 - jnp.exp2(-age)


def log(age: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + a)"""
    return jnp.log1p(age)


def step(age: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """0 up to 1, then 1."""
    return (age > 1.0).astype(jnp.float32)


# Of the age divided by the scale; 0 for what is new, and never falling.
DECAYS: dict[str, Callable[[Any], Array]] = {
    "linear": linear,
    "exponential": exponential,
    "log": log,
    "step": step,
}


def learned_weight(raw: Float[Any, "*shape"], hyperparameters: Hyperparameters) -> Float[Array, "*shape"]:
    """The weights of a penalty, positive whatever is learned: `weight * softplus(g * raw) / softplus(0)`.

    With raw at its start, 0, or with g (`gradient_scale`) 0, it is `weight`. The factor g stands inside, not
    on the gradient: Adam divides a gradient by its own size, so that a factor there would do next to nothing.

    Args:
      raw: the parameters.
      hyperparameters: holds `staleness_weight` and `staleness_gradient_scale`.
    """
    factor = jax.nn.softplus(hyperparameters.staleness_gradient_scale * raw) / math.log(2.0)
    return hyperparameters.staleness_weight * factor


class StepStaleness(nn.Module):
    """Penalty on attention to each step by its age: `w * decay(age / scale)`, for each head or for all alike.

    A step's age is the mean of the low-frequency columns' days since release; prediction steps have age 0, as
    nothing is observed there.

    Attributes:
      config: decay, and whether each of the heads has a weight.
    """

    config: StalenessConfig
    num_heads: int
    prediction_length: int

    @nn.compact
    def __call__(self, age: Float[Array, "1 E B"], hyperparameters: Hyperparameters) -> Float[Array, "H T B"]:
        raw = self.param("raw_weight", zeros, (self.num_heads if self.config.per_head else 1,))
        weight = jnp.broadcast_to(learned_weight(raw, hyperparameters), (self.num_heads,))
        cost = DECAYS[self.config.decay](age / hyperparameters.staleness_scale)
        cost = jnp.pad(cost, ((0, 0), (0, self.prediction_length), (0, 0)))
        return weight[:, None, None] * cost


class VariableStaleness(nn.Module):
    """Penalty on selecting each variable by its age: `w_v * (decay(a_v / scale) - decay(1 / scale))`.

    a_v is the age in units of what is usual for the variable: at its usual age it costs nothing, fresh values
    gain. A variable without an age has a_v = 1 and never costs anything.
    """

    config: StalenessConfig

    @nn.compact
    def __call__(self, age: Float[Array, "V E B"], hyperparameters: Hyperparameters) -> Float[Array, "V E B"]:
        weight = learned_weight(self.param("raw_weight", zeros, (age.shape[0],)), hyperparameters)
        decay, scale = DECAYS[self.config.decay], hyperparameters.staleness_scale
        cost = decay(age / scale) - decay(jnp.asarray(1.0 / scale))
        # Exactly 0: the same function of the same number can differ in the last bit, and Adam makes steps of
        # full length of the smallest gradients.
        return weight[:, None, None] * jnp.where(age == 1.0, 0.0, cost)
