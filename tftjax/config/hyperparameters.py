"""The floats of a config that members of one compiled program may vary."""

import math
from typing import NamedTuple

from tftjax.config.loading import Config

# The floats of nested sections among them, by where a config has them.
NESTED_HYPERPARAMETERS = (
    "model.attention.staleness.weight",
    "model.attention.staleness.gradient_scale",
    "model.attention.staleness.scale",
    "model.attention.regime.thresholds",
    "model.attention.regime.gradient_scale",
    "model.attention.regime.balance_weight",
)


class Hyperparameters(NamedTuple):
    """The floats that may differ between the members of one compiled program."""

    learning_rate: float
    dropout_rate: float
    weight_decay: float
    max_grad_norm: float
    mean_weight: float
    std_weight: float
    target_mean: float
    target_std: float
    marginal_weight: float
    directional_weight: float
    directional_threshold: float
    crossing_weight: float
    staleness_weight: float
    staleness_gradient_scale: float
    staleness_scale: float
    regime_low: float  # the first threshold
    regime_high: float  # the second, infinity without one
    regime_gradient_scale: float
    balance_weight: float


def hyperparameters(config: Config) -> Hyperparameters:
    """Pick the floats of a config that a compiled program takes as inputs."""
    model, loss, train = config.model, config.loss, config.train
    staleness, regime = model.attention.staleness, model.attention.regime
    low, high, *_ = *regime.thresholds, math.inf, math.inf
    return Hyperparameters(
        learning_rate=train.learning_rate,
        dropout_rate=model.dropout_rate,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        mean_weight=loss.mean_weight,
        std_weight=loss.std_weight,
        target_mean=loss.target_mean,
        target_std=loss.target_std,
        marginal_weight=loss.marginal_weight,
        directional_weight=loss.directional_weight,
        directional_threshold=loss.directional_threshold,
        crossing_weight=loss.crossing_weight,
        staleness_weight=staleness.weight,
        staleness_gradient_scale=staleness.gradient_scale,
        staleness_scale=staleness.used_scale,
        regime_low=low,
        regime_high=high,
        regime_gradient_scale=regime.gradient_scale,
        balance_weight=regime.balance_weight,
    )
