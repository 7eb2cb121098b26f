"""Forecasts in return units from a model, its parameters and a series: pure functions of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tftjax.data.windows import Inputs, Series, gather
from tftjax.model.layers import Dropout
from tftjax.model.tft import TemporalFusionTransformer

CHUNK = 512  # windows at a time: enough for long operations, small enough for the cache of a core


def forecast_batch(
    model: TemporalFusionTransformer,
    parameters: dict,
    inputs: Inputs,
    center: Float[Array, ""],
    scale: Float[Array, ""],
    noise: Dropout | None = None,
) -> Float[Array, "B P Q"]:
    """Forecasts a batch of windows.

    Args:
      center, scale: mean and standard deviation of the train target, return.
      noise: dropout while training; None forecasts without.
    Returns:
      Quantiles of the return, as decimals.
    """
    return center + scale * model.apply({"params": parameters}, inputs, noise).quantiles


def forecast_windows(
    model: TemporalFusionTransformer,
    parameters: dict,
    series: Series,
    starts: Int[Array, " W"],
    center: Float[Array, ""],
    scale: Float[Array, ""],
) -> Float[Array, "W P Q"]:
    """Forecasts any number of windows, a chunk at a time; to be jitted.

    Args:
      starts: first row of each window.
    Returns:
      Quantiles of the return, as decimals.
    """
    num_windows = starts.shape[0]
    num_chunks = -(-num_windows // CHUNK)
    chunk = -(-num_windows // num_chunks)
    padded = jnp.pad(starts, (0, num_chunks * chunk - num_windows), mode="edge")

    def forecast_chunk(chunk_starts):
        lengths = model.config.encoder_length, model.config.prediction_length
        inputs, _ = gather(series, chunk_starts, *lengths)
        return forecast_batch(model, parameters, inputs, center, scale)

    quantiles = jax.lax.map(forecast_chunk, padded.reshape(num_chunks, chunk))
    return quantiles.reshape(num_chunks * chunk, *quantiles.shape[2:])[:num_windows]


_jitted = jax.jit(forecast_windows, static_argnums=0)


def forecast_rows(
    model: TemporalFusionTransformer,
    parameters: dict,
    series: Series,
    starts: Int[np.ndarray, " W"],
    center: np.float32,
    scale: np.float32,
) -> Float[np.ndarray, "W P Q"]:
    """Compiles and runs `forecast_windows`, and returns its result on the host in float64."""
    return np.asarray(_jitted(model, parameters, series, starts, center, scale), np.float64)
