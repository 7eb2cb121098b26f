"""The training loss: the pinball loss plus penalties on the distribution of the median forecast.

A new penalty is one function `(median [B P], hyperparameters) -> scalar` and one line of `PENALTIES`; its
weight is the hyperparameter `<name>_weight`. In scale "standardized" it is given the median, target_mean and
target_std divided by target_std. Returns are decimals (0.01 is one percent).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tftjax.config import Hyperparameters

SCALES = ("return", "standardized")


def quantile_loss(
    forecast: Float[Any, "B P Q"], target: Float[Any, "B P"], quantiles: Sequence[float] | Float[Any, "Q"]
) -> Float[Array, "B P Q"]:
    """Return the pinball loss of every forecast quantile, unreduced and without a factor of 2.

    Args:
      forecast: forecast quantiles, f[B P Q], in any unit.
      target: what happened, f[B P], in the same unit.
      quantiles: the Q levels, each inside (0, 1).
    Returns:
      max(q * (y - f), (q - 1) * (y - f)), f[B P Q], in that unit.
    Raises:
      ValueError: the shapes do not belong together (nothing is broadcast).
    Source: Koenker and Bassett (1978); eq. 25 of Lim et al. (2021).
    """
    levels = jnp.asarray(quantiles, forecast.dtype)
    if forecast.ndim != 3 or target.shape != forecast.shape[:2] or levels.shape != forecast.shape[2:]:
        raise ValueError(
            f"quantile_loss got forecast {forecast.shape}, target {target.shape} and {levels.shape} "
            "quantiles; it needs [B P Q], [B P] and [Q]"
        )
    error = target[:, :, None] - forecast
    levels = levels[None, None, :]
    return jnp.maximum(levels * error, (levels - 1.0) * error)


def safe_std(x: Float[Any, "..."]) -> Float[Array, ""]:
    """Return the population standard deviation of all elements, with gradient 0 where it is exactly 0.

    `jnp.std` has a NaN gradient when all elements are equal, which is the collapse that the std penalty is
    there for. The inner `where` keeps the square root's infinite slope out of the backward pass; the outer
    one restores the value.

    Args:
      x: values of any shape, at least one.
    Returns:
      The standard deviation over all of x, a scalar in the unit of x.
    """
    # Equal elements can differ from their rounded mean in the last bit; taking one of them off first makes
    # collapse exactly 0. The least, not the first: a slice of a batch that is spread over devices is refused.
    shifted = x - jax.lax.stop_gradient(jnp.min(x))
    # Dividing by the largest deviation keeps the squares of very small and very large spreads representable.
    largest = jax.lax.stop_gradient(jnp.max(shifted))
    unit = jnp.where(largest > 0, largest, 1.0)
    variance = jnp.mean(jnp.square(shifted / unit - jnp.mean(shifted / unit)))
    positive = variance > 0
    return unit * jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)


def mean_penalty(median: Float[Any, "B P"], hyperparameters: Hyperparameters) -> Float[Array, ""]:
    """Return the squared distance of the median forecasts' mean from `target_mean`, in squared return units.

    Args:
      median: the median forecasts of the whole batch, f[B P], in the unit of `target_mean`.
      hyperparameters: holds `target_mean`.
    """
    return jnp.square(jnp.mean(median) - hyperparameters.target_mean)


def std_penalty(median: Float[Any, "B P"], hyperparameters: Hyperparameters) -> Float[Array, ""]:
    """Return the squared distance of the median forecasts' standard deviation from `target_std`.

    Args:
      median: the median forecasts of the whole batch, f[B P], in the unit of `target_std`.
      hyperparameters: holds `target_std`.
    """
    return jnp.square(safe_std(median) - hyperparameters.target_std)


PENALTIES: dict[str, Callable[[Any, Hyperparameters], Array]] = {
    "mean": mean_penalty,
    "std": std_penalty,
}


def total_loss(
    forecast: Float[Any, "B P Q"],
    target: Float[Any, "B P"],
    quantiles: tuple[float, ...],
    hp: Hyperparameters,
    scale: str,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Return the loss L of a whole batch, and its terms by name.

    With QL the mean pinball loss, mu and sigma the moments of the median forecast over batch and horizon:
      "return":        L = QL + mean_weight * (mu - target_mean)^2 + std_weight * (sigma - target_std)^2
      "standardized":  the same formula with every quantity divided by target_std, multiplied back by it:
                       L = QL + target_std * (mean_weight * ((mu - target_mean) / target_std)^2 + ...).
                       QL means the same in both; weights, and L / target_std, are pure numbers.

    Under `jit` with a batch spread over devices the moments are those of the whole batch. Inside
    `shard_map` or `pmap` they would be per device: gather the forecasts first.

    Args:
      forecast: forecast quantiles, f[B P Q], returns as decimals.
      target: returns, f[B P].
      quantiles: the Q levels; 0.5 must be among them.
      hp: the weights and targets; `<name>_weight` for every name in PENALTIES.
      scale: "return" or "standardized".
    Returns:
      The loss in return units, and scalars: `quantile_loss`, `<name>_penalty` (weighted; these add up to
      the loss), `mu`, `sigma` (returns) and `share_positive` (the share of median forecasts above 0).
    Raises:
      ValueError: unknown scale, no quantile 0.5, or shapes that do not belong together.
    """
    if scale not in SCALES:
        raise ValueError(f"loss.scale is {scale!r}; known: {', '.join(SCALES)}")
    if 0.5 not in quantiles:
        raise ValueError(f"the penalties need the median: put 0.5 among the quantiles, which are {quantiles}")
    terms = {"quantile_loss": jnp.mean(quantile_loss(forecast, target, quantiles))}
    median = forecast[:, :, quantiles.index(0.5)]
    unit = hp.target_std if scale == "standardized" else 1.0
    in_units = hp._replace(target_mean=hp.target_mean / unit, target_std=hp.target_std / unit)
    for name, penalty in PENALTIES.items():
        weight = getattr(hp, f"{name}_weight")
        terms[f"{name}_penalty"] = unit * weight * penalty(median / unit, in_units)
    loss = sum(terms.values())
    terms |= {
        "mu": jnp.mean(median),
        "sigma": safe_std(median),
        "share_positive": jnp.mean(median > 0),
    }
    return loss, terms
