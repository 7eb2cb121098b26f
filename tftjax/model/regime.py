"""Attention heads by market regime: which regime a window is in, and gates on the heads that depend on it.

The gates start neutral: a model with them starts as the model without. To add a kind of gate: one function
and one line of `GATES`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.config.model import RegimeConfig
from tftjax.model.layers import Dense, zeros


def by_thresholds(
    value: Float[Array, " B"], num_regimes: int, hyperparameters: Hyperparameters
) -> Float[Array, "R B"]:
    """1 for the regime that a window is in, by how many thresholds its value is above; 0 for the others."""
    low, high = hyperparameters.regime_low, hyperparameters.regime_high
    above = (value > low).astype(jnp.int32) + (value > high).astype(jnp.int32)
    return jax.nn.one_hot(above, num_regimes, axis=0)


class Router(nn.Module):
    """Soft regimes that are learned: probabilities from the static context and the encoder's last state."""

    num_regimes: int

    @nn.compact
    def __call__(
        self, encoded: Float[Array, "D B"], context: Float[Array, "D 1 B"] | None
    ) -> Float[Array, "R B"]:
        state = encoded[:, None]
        if context is not None:
            state = jnp.concatenate([state, context])
        return jax.nn.softmax(Dense(self.num_regimes, name="logits")(state)[:, 0], axis=0)


def free(gate: Float[Any, "H B"]) -> Float[Array, "H B"]:
    """1 + z: may amplify a head, silence it, or turn its sign."""
    return 1.0 + gate


def shares(gate: Float[Any, "H B"]) -> Float[Array, "H B"]:
    """H times the softmax of z: the heads' mean stays a mean, whose weights sum to 1."""
    # Not H * softmax: a mean of ones is exactly 1, a sum of H rounded 1/H need not be.
    unit = jnp.exp(gate - gate.max(axis=0, keepdims=True))
    return unit / unit.mean(axis=0, keepdims=True)


# Of z, by whether `renormalise` is set; 1 at z = 0.
GATES = {False: free, True: shares}


class RegimeGates(nn.Module):
    """A factor on each head's attention, by regime; between regimes, their mean by probability.

    What is learned is multiplied by `regime_gradient_scale`: until gates and attention agree on an effect
    neither has much of a gradient, and gates that move slowly are overtaken by other ways to the same end.

    Attributes:
      config: how the gates are made of what is learned.
    """

    config: RegimeConfig
    num_heads: int

    @nn.compact
    def __call__(self, regime: Float[Array, "R B"], hyperparameters: Hyperparameters) -> Float[Array, "H B"]:
        gate = self.param("gate", zeros, (regime.shape[0], self.num_heads))
        gate = hyperparameters.regime_gradient_scale * gate
        return GATES[self.config.renormalise](jnp.einsum("rh,rb->hb", gate, regime))


def balance_penalty(regime: Float[Array, "B R"]) -> Float[Array, ""]:
    """The unevenness with which a router uses its regimes: R * sum_r(p_r^2) - 1, p_r their batch means.

    0 where all are used alike, R - 1 where one is used alone. A router that is right to prefer a regime pays
    for it too. After the importance loss of Shazeer et al. 2017, arXiv 1701.06538: that of equal means.
    """
    mean = regime.mean(axis=0)
    return regime.shape[1] * jnp.square(mean).sum() - 1.0
