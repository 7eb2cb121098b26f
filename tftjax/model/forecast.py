"""Forecasts in return units from a model, its parameters and a series: pure functions of arrays."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.data.windows import Inputs, Series, gather
from tftjax.model.layers import Dropout
from tftjax.model.tft import TemporalFusionTransformer, TFTOutput
from tftjax.runtime import MESH_AXIS, OnMesh, device_mesh

CHUNK = 64  # windows at a time: as fast as larger chunks, in less memory


def to_returns(inputs: Inputs, output: TFTOutput) -> Float[Array, "B P Q"]:
    """Takes a forecast out of the units of the scaled target: quantiles of the return, as decimals."""
    return inputs.center[:, None, None] + inputs.scale[:, None, None] * output.quantiles


def forecast_batch(
    model: TemporalFusionTransformer,
    parameters: dict,
    inputs: Inputs,
    noise: Dropout | None = None,
    hyperparameters: Hyperparameters | None = None,
) -> tuple[Float[Array, "B P Q"], TFTOutput]:
    """Forecasts a batch of windows.

    Args:
      noise: dropout while training; None forecasts without.
      hyperparameters: the member's values; None takes those of the model's config.
    Returns:
      Quantiles of the return, as decimals, and the model's output.
    """
    output = model.apply({"params": parameters}, inputs, noise, hyperparameters)
    return to_returns(inputs, output), output


def map_windows(
    model: TemporalFusionTransformer,
    parameters: dict,
    series: Series,
    starts: Int[Array, " W"],
    of: Callable[[Inputs, TFTOutput], Any],
    hyperparameters: Hyperparameters | None = None,
) -> Any:
    """Applies the model to any number of windows, a chunk at a time; to be jitted.

    Args:
      starts: first row of each window.
      of: makes arrays whose first axis is the window of the inputs and the output of a chunk.
      hyperparameters: see `forecast_batch`.
    Returns:
      The arrays of all windows.
    """
    num_windows = starts.shape[0]
    num_chunks = -(-num_windows // CHUNK)
    chunk = -(-num_windows // num_chunks)
    padded = jnp.pad(starts, (0, num_chunks * chunk - num_windows), mode="edge")

    def of_chunk(chunk_starts):
        lengths = model.config.encoder_length, model.config.prediction_length
        inputs, _ = gather(series, chunk_starts, *lengths)
        return of(inputs, model.apply({"params": parameters}, inputs, None, hyperparameters))

    kept = jax.lax.map(of_chunk, padded.reshape(num_chunks, chunk))
    return jax.tree.map(lambda x: x.reshape(num_chunks * chunk, *x.shape[2:])[:num_windows], kept)


def forecast_windows(
    model: TemporalFusionTransformer,
    parameters: dict,
    series: Series,
    starts: Int[Array, " W"],
    hyperparameters: Hyperparameters | None = None,
) -> Float[Array, "W P Q"]:
    """Forecasts windows as quantiles of the return, as decimals; arguments as of `map_windows`."""
    return map_windows(model, parameters, series, starts, to_returns, hyperparameters)


@functools.cache
def compile_forecast(model: TemporalFusionTransformer, mesh: Mesh) -> OnMesh:
    """`forecast_windows` as a compiled function of all but the model, windows divided over the mesh.

    The number of windows must be a multiple of the mesh's size.
    """
    everywhere, divided = PartitionSpec(), PartitionSpec(MESH_AXIS)
    sizes = model.known_cardinalities, model.static_cardinalities
    decides = forecast_windows, type(model), model.config, model.head, sizes
    function, specs = functools.partial(forecast_windows, model), (everywhere, everywhere, divided)
    return OnMesh(function, decides, mesh, specs, divided)


def forecast_rows(
    model: TemporalFusionTransformer, parameters: dict, series: Series, starts: Int[np.ndarray, " W"]
) -> Float[np.ndarray, "W P Q"]:
    """Forecasts windows on all devices; see `forecast_windows`. Host arrays in and out, float64 out."""
    mesh = device_mesh()
    padded = np.pad(starts, (0, -len(starts) % mesh.size), mode="edge")
    quantiles = compile_forecast(model, mesh)(parameters, series, padded)
    return np.asarray(quantiles, np.float64)[: len(starts)]
