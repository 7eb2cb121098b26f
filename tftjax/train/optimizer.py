"""The optimizer: clipping by global norm, Adam or AdamW, a learning-rate schedule."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.config.train import TrainConfig


def unit_schedule(train: TrainConfig, steps_per_epoch: int | Int32[Array, ""]) -> optax.Schedule:
    """The learning rate over steps, as a share of its peak.

    `warmup_cosine` rises linearly over `warmup_epochs` or `warmup_share` and falls to zero at the end of the
    run, `max_steps` or `max_epochs` (Loshchilov and Hutter 2017). The peak itself is a hyperparameter,
    multiplied in by `make_optimizer`.
    """
    if train.schedule == "constant":
        return optax.constant_schedule(1.0)
    warmup = train.warmup_share * train.max_epochs or train.warmup_epochs
    by_epoch = optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=1.0, warmup_steps=warmup, decay_steps=train.max_epochs
    )
    if train.max_steps is None:
        return lambda step: by_epoch(step / steps_per_epoch)
    whole_run = jnp.minimum(train.max_steps, steps_per_epoch * train.max_epochs)
    return lambda step: by_epoch(step / whole_run * train.max_epochs)


def make_optimizer(
    train: TrainConfig,
    hyperparameters: Hyperparameters,
    steps_per_epoch: int | Int32[Array, ""],
    decayed: np.ndarray,
    gradient_scale: np.ndarray | None = None,
    update_scale: np.ndarray | None = None,
) -> optax.GradientTransformation:
    """Makes the optimizer for one flat parameter vector.

    Hyperparameters and steps_per_epoch may be traced, so that they can differ between members of one program.

    Args:
      decayed: 1 for entries of the vector that AdamW decays (kernels), 0 for the others, shape [N].
      gradient_scale: factor on each entry's gradient before the clip, shape [N]; None is 1.
      update_scale: factor on each entry's update, shape [N]; None is 1.
    """
    links = [] if gradient_scale is None else [_scale_by(gradient_scale)]
    links += [optax.clip_by_global_norm(hyperparameters.max_grad_norm), optax.scale_by_adam()]
    if train.optimizer == "adamw":
        links.append(_decay(hyperparameters.weight_decay, decayed))
    links.append(optax.scale_by_schedule(unit_schedule(train, steps_per_epoch)))
    links.append(optax.scale(-hyperparameters.learning_rate))
    if update_scale is not None:
        links.append(_scale_by(update_scale))
    if train.ema_decay:
        links.append(_average(train.ema_decay))
    return optax.chain(*links)


class Average(NamedTuple):
    """The exponential average of the parameters after each step, times the sum of its weights."""

    total: Float[Array, " N"]


def _average(decay: float) -> optax.GradientTransformation:
    """Leaves updates as they are and averages the parameters that they lead to; the last link of a chain."""

    def update(updates, state, params):
        after = optax.apply_updates(params, updates)
        return updates, Average(decay * state.total + (1 - decay) * after)

    return optax.GradientTransformation(lambda params: Average(jnp.zeros_like(params)), update)


def averaged(opt_state: Any, decay: float, step: Int32[Array, ""]) -> Float[Array, " N"]:
    """The exponential average of the parameters after each of `step` steps, its weights summing to 1.

    Source: Polyak and Juditsky 1992; the division by the weights' sum as in Kingma and Ba 2015.
    """
    (average,) = (link for link in opt_state if isinstance(link, Average))
    return average.total / (1 - decay**step)


def _decay(rate, decayed: np.ndarray) -> optax.GradientTransformation:
    """Decoupled weight decay (Loshchilov and Hutter 2019) with a mask over the flat vector."""
    mask = jnp.asarray(decayed, jnp.float32)
    return optax.stateless(lambda updates, params: updates + rate * mask * params)


def _scale_by(vector: np.ndarray) -> optax.GradientTransformation:
    constant = jnp.asarray(vector, jnp.float32)
    return optax.stateless(lambda updates, params: updates * constant)
