"""The training loss: the pinball loss plus penalties on the distribution of the forecasts.

A new penalty is one function `(forecast [B P Q], quantiles, hyperparameters) -> scalar` and one line of
`PENALTIES`; its weight is the hyperparameter `<name>_weight`. A penalty is given the forecasts of the whole
batch, and ascending levels; in scale "standardized" the forecast, target_mean and target_std are divided by
target_std. Returns are decimals (0.01 is one percent).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.model.heads import density_of

SCALES = ("return", "standardized")
# A median forecast of this share of target_std (1 bp at target_std 0.01) counts as 73 % positive, of twice as
# much as 88 %, of five times as much as 99.3 %. Collapsed medians lie a few bp from 0: a softer sign would
# not see them as one-sided, a harder one would have no gradient there.
SIGN_TEMPERATURE = 0.01


def quantile_loss(
    forecast: Float[Any, "B P Q"], target: Float[Any, "B P"], quantiles: Sequence[float] | Float[Any, "Q"]
) -> Float[Array, "B P Q"]:
    """The pinball loss of every forecast quantile, max(q * (y - f), (q - 1) * (y - f)), unreduced.

    In the unit of forecast and target, without a factor of 2. Koenker and Bassett (1978); eq. 25 of Lim et
    al. (2021).

    Args:
      forecast: quantiles, in any unit.
      target: outcomes, in the same unit.
      quantiles: the levels, each inside (0, 1).
    Raises:
      ValueError: the shapes do not belong together (nothing is broadcast).
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


def t_log_score(
    numbers: Float[Any, "B P R"], target: Float[Any, "B P"], density: Float[Any, "3 P"], *, own_freedom: bool
) -> Float[Array, "B P"]:
    """Negative log-likelihood of scaled targets under the Student t of a head that corrects.

    Args:
      numbers: the head's numbers.
      target: outcomes in units of the scaled target.
      density: see `Classical`.
      own_freedom: see `density_of`.
    """
    raw = numbers.transpose(2, 1, 0)
    location, log_scale, freedom = (part.T for part in density_of(raw, density, own_freedom=own_freedom))
    square = jnp.square((target - location) * jnp.exp(-log_scale)) / freedom
    constant = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - jnp.log(jnp.pi * freedom) / 2
    return log_scale + (freedom + 1) / 2 * jnp.log1p(square) - constant


def safe_std(x: Float[Any, "..."]) -> Float[Array, ""]:
    """The population standard deviation of all elements, at least one, with gradient 0 where it is exactly 0.

    `jnp.std` has a NaN gradient when all elements are equal: the collapse that the std penalty is to prevent.
    """
    # Equal elements can differ from their rounded mean in the last bit; taking one of them off first makes
    # collapse exactly 0. The least, not the first: a slice of a batch that is spread over devices is refused.
    shifted = x - jax.lax.stop_gradient(jnp.min(x))
    # Dividing by the largest deviation keeps the squares of very small and very large spreads representable.
    largest = jax.lax.stop_gradient(jnp.max(shifted))
    unit = jnp.where(largest > 0, largest, 1.0)
    variance = jnp.mean(jnp.square(shifted / unit - jnp.mean(shifted / unit)))
    return unit * _safe_sqrt(variance)


def _safe_sqrt(x: Float[Array, ""]) -> Float[Array, ""]:
    """The square root, with value and gradient 0 where x is not positive."""
    positive = x > 0  # the inner `where` keeps the infinite slope at 0 out of the backward pass
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def median_of(forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...]) -> Float[Any, "B P"]:
    """The median forecasts; 0.5 must be among the levels."""
    return forecast[:, :, quantiles.index(0.5)]


@functools.cache
def _ramp_moments(quantiles: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Means [Q-1] and covariances [Q-1 Q-1] of the ramps of `forecast_moments`, summed over a fine grid."""
    scores = [NormalDist().inv_cdf(level) for level in quantiles]
    z = np.linspace(-10.0, 10.0, 20_001)
    density = np.exp(-np.square(z) / 2)
    density /= density.sum()
    ramps = np.empty((len(scores) - 1, len(z)))
    for k in range(len(ramps)):
        low = -np.inf if k == 0 else 0.0
        high = np.inf if k == len(ramps) - 1 else 1.0
        ramps[k] = np.clip((z - scores[k]) / (scores[k + 1] - scores[k]), low, high)
    means = ramps @ density
    centered = ramps - means[:, None]
    return np.float32(means), np.float32((centered * density) @ centered.T)


def forecast_moments(
    forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...]
) -> tuple[Float[Array, "B P"], Float[Array, "B P"]]:
    """Mean and variance of each forecast distribution, by its quantiles.

    A forecast is taken to be distributed as g(Z): Z is standard normal, and g the piecewise linear function
    through the points (normal quantile of the level, forecast quantile), its first and last piece going on
    beyond the outermost levels. So tails are those of a normal distribution with the spread of the outermost
    two quantiles, and normal forecasts get their exact moments. Heavier tails are cut: at the default levels
    the standard deviation of Student's t with 5 degrees of freedom comes out 3.5 % too small.

    With d_k the steps between neighbouring quantiles, g(Z) = q_1 + sum_k d_k r_k(Z), r_k a ramp from 0 to 1:
    the mean is linear and the variance quadratic in d, with constants that follow from the levels.

    Args:
      forecast: quantiles, in any unit; a single quantile is a distribution without spread.
      quantiles: the levels, ascending.
    Returns:
      Means, in that unit, and variances, in its square.
    """
    means, covariances = _ramp_moments(quantiles)
    steps = jnp.diff(forecast)
    mean = forecast[:, :, 0] + steps @ means
    return mean, jnp.sum((steps @ covariances) * steps, axis=2)


def mean_penalty(
    forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...], hyperparameters: Hyperparameters
) -> Float[Array, ""]:
    """The squared distance of the median forecasts' mean from `target_mean`, in squared return units.

    Asks that the forecasts are right on average. A good forecaster violates it in a batch, or a time, whose
    returns have another mean; and where returns are skewed, as their median is not their mean.
    """
    return jnp.square(jnp.mean(median_of(forecast, quantiles)) - hyperparameters.target_mean)


def std_penalty(
    forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...], hyperparameters: Hyperparameters
) -> Float[Array, ""]:
    """The squared distance of the median forecasts' standard deviation from `target_std`.

    In squared return units. Asks that medians are spread as returns are. Every good forecaster violates it:
    by the law of total variance the centers of honest forecasts are spread less than the returns, and where
    little can be known much less. It buys spread against collapse, and pays for it in pinball loss.
    """
    return jnp.square(safe_std(median_of(forecast, quantiles)) - hyperparameters.target_std)


def marginal_penalty(
    forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...], hyperparameters: Hyperparameters
) -> Float[Array, ""]:
    """(mu - target_mean)^2 + (sigma - target_std)^2 of all forecasts pooled, in squared return units.

    mu and sigma are the moments of the mixture of the whole batch's forecast distributions. By the law of
    total variance mu is the mean of their means, and sigma^2 the mean of their variances plus the variance of
    their means. Asks that forecasts, taken together, are distributed as returns are. A calibrated forecaster
    satisfies it, an unconditional one too, so it does not work against collapse of the median, as `std` does.
    A good forecaster violates it where target_mean and target_std are not the moments of what is forecast,
    such as in a calm year; in small batches by chance; and where tails are heavier than the quantiles show
    (see `forecast_moments`).
    """
    means, variances = forecast_moments(forecast, quantiles)
    mu = jnp.mean(means)
    sigma = _safe_sqrt(jnp.mean(variances) + jnp.mean(jnp.square(means - mu)))
    return jnp.square(mu - hyperparameters.target_mean) + jnp.square(sigma - hyperparameters.target_std)


def directional_penalty(
    forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...], hyperparameters: Hyperparameters
) -> Float[Array, ""]:
    """target_std * (share of the commoner sign - directional_threshold)^2 above the threshold, else 0.

    The share of positive medians is the mean of sigmoid(median / (SIGN_TEMPERATURE * target_std)): smooth,
    and blind to how far from 0 a forecast is. Asks that medians do not all have one sign. A good forecaster
    violates it where the drift outweighs what can be known: an honest median of returns that rise on 54 % of
    days is above 0 on nearly all of them, more so over weeks and months. In return units: one weight means
    the same in both scales.
    """
    temperature = SIGN_TEMPERATURE * hyperparameters.target_std
    positive = jnp.mean(jax.nn.sigmoid(median_of(forecast, quantiles) / temperature))
    excess = 0.5 + jnp.abs(positive - 0.5) - hyperparameters.directional_threshold
    return hyperparameters.target_std * jnp.square(jnp.maximum(excess, 0.0))


def crossing_penalty(
    forecast: Float[Any, "B P Q"], quantiles: tuple[float, ...], hyperparameters: Hyperparameters
) -> Float[Array, ""]:
    """The mean of how far each quantile lies above the next one, 0 where it does not, in return units.

    Asks that quantiles ascend. No forecaster that knows what quantiles are violates it: the weight costs a
    good one nothing. `model.quantile_head` "monotone" has none by construction. One weight means the same in
    both scales.
    """
    crossed = jnp.maximum(-jnp.diff(forecast), 0.0)
    return jnp.sum(crossed) / max(crossed.size, 1)


Penalty = Callable[[Any, tuple[float, ...], Hyperparameters], Array]
PENALTIES: dict[str, Penalty] = {
    "mean": mean_penalty,
    "std": std_penalty,
    "marginal": marginal_penalty,
    "directional": directional_penalty,
    "crossing": crossing_penalty,
}


def total_loss(
    forecast: Float[Any, "B P Q"],
    target: Float[Any, "B P"],
    quantiles: tuple[float, ...],
    hyperparameters: Hyperparameters,
    scale: str,
    weights: Float[Any, "B #P"] | None = None,
    own: Mapping[str, tuple[Penalty, float]] = MappingProxyType({}),
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss L of a whole batch, and its terms by name.

    With QL the mean pinball loss, mu and sigma the moments of the median forecast over batch and horizon:
      "return":        L = QL + mean_weight * (mu - target_mean)^2 + std_weight * (sigma - target_std)^2 + ...
      "standardized":  the same formula with every quantity divided by target_std, multiplied back by it:
                       L = QL + target_std * (mean_weight * ((mu - target_mean) / target_std)^2 + ...).
                       QL means the same in both; weights, and L / target_std, are pure numbers.
    Every penalty of `PENALTIES` is a term of its own; at weight 0 it adds zeros to loss and gradient.

    Under `jit` with a batch spread over devices the moments are those of the whole batch. Inside
    `shard_map` or `pmap` they would be per device: gather the forecasts first.

    Args:
      forecast: quantiles of the returns, as decimals.
      target: the returns, as decimals.
      quantiles: the levels; 0.5 must be among them.
      hyperparameters: weights and targets of the penalties.
      scale: one of `SCALES`.
      weights: a weight of the pinball loss for each window, or for each of its steps; None weighs all alike.
      own: penalties beside `PENALTIES` and their weights, by name.
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
    pinball = quantile_loss(forecast, target, quantiles)
    weighed = pinball if weights is None else pinball * weights[:, :, None]
    terms = {"quantile_loss": jnp.mean(weighed)}
    median = median_of(forecast, quantiles)
    mean, std = hyperparameters.target_mean, hyperparameters.target_std
    unit = std if scale == "standardized" else 1.0
    in_units = hyperparameters._replace(target_mean=mean / unit, target_std=std / unit)
    weighted = {name: (f, getattr(hyperparameters, f"{name}_weight")) for name, f in PENALTIES.items()}
    for name, (penalty, weight) in {**weighted, **own}.items():
        terms[f"{name}_penalty"] = unit * weight * penalty(forecast / unit, quantiles, in_units)
    loss = sum(terms.values())
    terms |= {
        "mu": jnp.mean(median),
        "sigma": safe_std(median),
        "share_positive": jnp.mean(median > 0),
    }
    return loss, terms
