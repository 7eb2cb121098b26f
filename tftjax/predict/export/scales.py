"""Scales of the target in jax, row by row as those of data/scales, for a program that is exported.

Arrays are [B R]: a series a row, float64, NaN before a series' first row and in rows of the future.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from tftjax.data.encoding import Encoding
from tftjax.data.scales import log_scale
from tftjax.data.scales.garch import Garch
from tftjax.data.scales.target import FALLBACK, FEATURES, LOG_SCALE, scale_of
from tftjax.data.volatility import EWMA_DECAY, MIN_VOLATILITY
from tftjax.errors import UserError

Rows = Float[Array, "B R"]

CALENDAR = ("monday", "friday", "after_gap")  # features of `log_scale` that the loader makes of the dates
EXPORTED = ("none", "ewma", "column", "gjr", "log_scale", "pooled_log_scale")
FORGOTTEN = 1e-11  # weight of what a recursion held before the rows that are looked at
NO_GARCH = Garch(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Source(NamedTuple):
    """What a scale may use of B series; see `data.scales.target.Source`.

    Attributes:
      returns: the target, as decimals.
      columns: the observed columns by name.
      calendar: the features of CALENDAR, by name.
      number: the number of each series among those in training.
    """

    returns: Rows
    columns: Mapping[str, Rows]
    calendar: Mapping[str, Rows]
    number: Int[Array, " B"]


def check_exported(encoding: Encoding) -> None:
    """Refuses a scale that has no function here.

    Raises:
      UserError: names the setting.
    """
    kind = encoding.target_scale.partition(":")[0]
    if kind not in EXPORTED:
        raise UserError(
            f"data.target_scale: found {encoding.target_scale!r}, which cannot be exported, expected one of"
            f" {', '.join(EXPORTED)}. Train with one of them, or forecast with tftjax predict."
        )


def needs_calendar(encoding: Encoding) -> bool:
    """Whether the scale, or the features beside it, need the features of CALENDAR."""
    return any("weights" in one or FEATURES in one for one in encoding.scales)


def memory(encoding: Encoding) -> int:
    """Number of rows after which a scale has forgotten those before, to FORGOTTEN."""
    if encoding.target_scale == "none":
        return 0
    garch = [one if "beta" in one else one.get("garch") or {} for one in encoding.scales]
    decay = max(EWMA_DECAY, *(abs(one.get("beta", 0.0)) for one in garch))
    return int(np.ceil(np.log(FORGOTTEN) / np.log(decay))) + log_scale.BURN_IN


def with_scale(encoding: Encoding, source: Source) -> dict[str, Rows]:
    """The logarithm of the target's scale, and the features where they are columns, by name."""
    if encoding.target_scale == "none":
        return {}
    scale, parameters = scale_of(encoding.target_scale), encoding.scales
    own = jnp.zeros_like(source.number) if scale.shared else source.number
    sigma = ewma(source.returns)
    fitted = [one for one in parameters if "fallback" not in one]
    if encoding.target_scale.startswith("column:"):
        column = source.columns[parameters[0]["column"]]
        sigma = jnp.where(column > 0, column, jnp.nan)
    elif encoding.target_scale != "ewma" and fitted:
        apply = _by_gjr if encoding.target_scale == "gjr" else _by_log_scale
        filled = [fitted[0] if "fallback" in one else one for one in parameters]
        falls_back = np.array([FALLBACK.items() <= one.items() for one in parameters])
        sigma = jnp.where(jnp.asarray(falls_back)[own][:, None], sigma, apply(source, filled, own))
    columns = {LOG_SCALE: jnp.log(jnp.maximum(sigma, MIN_VOLATILITY))}
    if FEATURES in parameters[0]:
        features = [one[FEATURES] for one in parameters]
        means = [one["means"] for one in features]
        for name, values in _features(source, features[0]["volatility"]).items():
            columns[name] = jnp.where(jnp.isfinite(values), values, _taken(means, name, own))
    return columns


def ewma(returns: Rows, decay: float = EWMA_DECAY) -> Rows:
    """`data.volatility.ewma_volatility`."""

    def step(sums, value):
        square = jnp.where(jnp.isnan(value), 0.0, value**2)
        sums = decay * sums[0] + square, decay * sums[1] + ~jnp.isnan(value)
        return sums, sums[0] / sums[1]

    start = jnp.zeros_like(returns[:, 0]), jnp.zeros_like(returns[:, 0])
    variance = lax.scan(step, start, returns.T)[1].T
    return jnp.where(jnp.isnan(returns), jnp.nan, jnp.maximum(jnp.sqrt(variance), MIN_VOLATILITY))


def _taken(parameters: Sequence[Mapping[str, Any]], name: str, own: Int[Array, " B"]) -> Array:
    """A parameter of each series, [B 1]."""
    return jnp.asarray(np.array([one[name] for one in parameters], np.float64))[own][:, None]


def _by_gjr(source: Source, parameters: Sequence[Mapping[str, Any]], own: Int[Array, " B"]) -> Rows:
    """Sigma of GJR-GARCH of the row after each: `data.scales.garch.filter_variance`."""
    names = ("mu", "omega", "alpha", "gamma", "beta", "start")
    mu, omega, alpha, gamma, beta, start = (_taken(parameters, name, own)[:, 0] for name in names)

    def step(variance, value):
        shock = value - mu
        following = omega + (alpha + gamma * (shock < 0)) * shock * shock + beta * variance
        variance = jnp.where(jnp.isnan(value), variance, following)
        return variance, variance

    variance = lax.scan(step, start, source.returns.T)[1].T
    return jnp.where(jnp.isnan(source.returns), jnp.nan, jnp.sqrt(variance))


def _rolling(values: Rows, rows: int) -> Float[Array, "B R N"]:
    """The last values up to each row, NaN before the first."""
    places = np.arange(values.shape[1])[:, None] + np.arange(rows)
    return jnp.pad(values, ((0, 0), (rows - 1, 0)), constant_values=jnp.nan)[:, places]


def shifted(values: Rows, rows: int) -> Rows:
    """The values of some rows before, NaN where there is none."""
    return jnp.pad(values, ((0, 0), (rows, 0)), constant_values=jnp.nan)[:, : values.shape[1]]


def _carried_forward(values: Rows) -> Rows:
    """The last value known in each row."""
    place = jnp.where(jnp.isnan(values), 0, jnp.arange(values.shape[1]))
    return jnp.take_along_axis(values, lax.cummax(place, axis=1), axis=1)


def _features(source: Source, volatility: str | None, log_garch: Rows | None = None) -> dict[str, Rows]:
    """`data.scales.log_scale.features`."""
    returns, moving = source.returns, ewma(source.returns)

    def mean(values: Rows, rows: int) -> Rows:
        return jnp.nanmean(_rolling(values, rows), axis=2)

    floor = log_scale.FLOOR * moving
    columns = {f"log_mean_abs_{n}": jnp.log(mean(jnp.abs(returns), n) + floor) for n in (1, 5, 21, 63)}
    losses = jnp.minimum(returns, 0.0) ** 2
    columns |= {f"log_semideviation_{n}": jnp.log(jnp.sqrt(mean(losses, n)) + floor) for n in (5, 21)}
    fast = jnp.maximum(ewma(returns, log_scale.FAST_DECAY), floor)
    columns |= {"log_ewma": jnp.log(moving), "log_fast_ewma": jnp.log(fast)}
    scale = moving
    if volatility is not None:
        known = _carried_forward(source.columns[volatility])
        scale = jnp.where(known > 0, known, jnp.nan)
        level = jnp.log(scale)
        columns |= {"log_volatility": level, "log_volatility_21": mean(level, 21)}
        columns |= {f"log_volatility_change_{n}": level - shifted(level, n) for n in (1, 5)}
    ratio = returns / scale
    columns |= {"return_1": ratio, "loss_1": jnp.minimum(ratio, 0.0)}
    columns |= {f"return_{n}": jnp.nansum(_rolling(returns, n), axis=2) / scale for n in (5, 21)}
    if log_garch is not None:
        columns["log_garch"] = log_garch
    return columns | dict(source.calendar)


def _by_log_scale(source: Source, parameters: Sequence[Mapping[str, Any]], own: Int[Array, " B"]) -> Rows:
    """Sigma of the regression of the row after each: `data.scales.log_scale.sigma`."""
    log_garch = None
    if any(one["garch"] for one in parameters):
        # A series whose GARCH did not converge has one feature less: give it the column, with no weight.
        place = len(CALENDAR)
        parameters = [one if one["garch"] else _with_empty(one, place) for one in parameters]
        log_garch = jnp.log(_by_gjr(source, [one["garch"] for one in parameters], own))
    features = _features(source, parameters[0]["volatility"], log_garch)
    values = jnp.stack(list(features.values()), axis=2)
    center, spread, weights = (_taken(parameters, name, own) for name in ("center", "spread", "weights"))
    standard = (values - center) / spread
    answer = (jnp.where(jnp.isfinite(standard), standard, 0.0) * weights).sum(axis=2)
    intercept, low, high = (_taken(parameters, name, own) for name in ("intercept", "low", "high"))
    sigma = jnp.exp(jnp.clip(intercept + answer, low, high))
    return jnp.where(jnp.isnan(source.returns), jnp.nan, sigma)


def _with_empty(parameters: Mapping[str, Any], from_end: int) -> dict[str, Any]:
    """Parameters of a regression with one more feature, which has no weight."""
    filled = {
        name: np.insert(parameters[name], len(parameters[name]) - from_end, value)
        for name, value in (("weights", 0.0), ("center", 0.0), ("spread", 1.0))
    }
    return {**parameters, **filled, "garch": NO_GARCH._asdict()}
