"""Forecasts in return units from a model, its parameters and a series: pure functions of arrays."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.data.windows import Inputs, Series, gather, rows_are_shared
from tftjax.model.layers import Dropout
from tftjax.model.tft import Selected, TemporalFusionTransformer, TFTOutput
from tftjax.runtime import MESH_AXIS, OnMesh, device_mesh

EMITTERS_FROM = 200_000  # windows: XLA's fusion emitters save 3 us of each, and cost a second to compile
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


def places_of(starts: Int[Array, " W"], length: int) -> Int[Array, " W"]:
    """Where each window begins when rows are laid end to end that successive windows share once.

    >>> places_of(jnp.array([5, 6, 9, 20, 3]), length=4).tolist()
    [0, 1, 4, 8, 12]

    Args:
      starts: first row of each window, in any order: sharing is best where they ascend.
      length: rows of a window.
    """
    ahead = jnp.diff(starts, prepend=starts[:1])
    return jnp.cumsum(jnp.where((ahead >= 0) & (ahead < length), ahead, length).at[0].set(0))


def select_once(
    model: TemporalFusionTransformer,
    parameters: dict,
    series: Series,
    starts: Int[Array, " W"],
    hyperparameters: Hyperparameters | None = None,
) -> Selected:
    """What the network makes of single rows, of the steps of windows; a row that they share is computed once.

    Rows are computed in rounds of as many as windows that follow each other have. How many there are need not
    be known when it is compiled: there are rounds for windows that share none, and those without rows are
    skipped.

    Args:
      series: one whose rows are shared, see `map_windows`.
      starts, hyperparameters: see `map_windows`.
    """
    encoder_length = model.config.encoder_length
    length = encoder_length + model.config.prediction_length
    places, num_windows = places_of(starts, length), starts.shape[0]
    at_once = num_windows + length - 1

    def select(first):
        place = first + jnp.arange(at_once)
        window = jnp.searchsorted(places, place, side="right") - 1
        row = starts[window] + jnp.minimum(place - places[window], length - 1)
        if series.position is not None:
            row = jnp.maximum(row, 0)  # a step that is not seen: any row will do
        rows, _ = gather(series._replace(weight=None), row, 1, 0)
        return model.apply({"params": parameters}, rows, hyperparameters, method=model.select)

    shapes = jax.eval_shape(select, 0)

    def select_if_any(first):
        filling = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), shapes)
        return lax.cond(first < places[-1] + length, select, lambda _: filling, first)

    most = -(-num_windows * length // at_once)
    rounds = lax.map(select_if_any, at_once * jnp.arange(most))  # each D 1 at_once
    rows = jax.tree.map(lambda part: jnp.moveaxis(part[:, :, 0], 0, 1).reshape(part.shape[1], -1), rounds)
    steps = places[None] + jnp.arange(length)[:, None]  # T W
    past, future, of_series = steps[:encoder_length], steps[encoder_length:], steps[:1]
    if series.position is not None:  # the first step may be a row of the series before
        of_series = past[-1:]
    at = Selected(past, future, past, future, of_series, of_series)

    def take(steps, parts):
        return jax.tree.map(lambda part: part.at[:, steps].get(mode="promise_in_bounds"), parts)

    return Selected(*map(take, at, rows))


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
      starts: first row of each window; successive ones that overlap share what is made of single rows, unless
        a row is another one in each (`rows_are_shared`).
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
        selected = None
        if rows_are_shared(series):  # else a row is another one in each window, as in units of its own
            selected = select_once(model, parameters, series, chunk_starts, hyperparameters)
        return of(inputs, model.apply({"params": parameters}, inputs, None, hyperparameters, selected))

    kept = lax.map(of_chunk, padded.reshape(num_chunks, chunk))
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
def compile_forecast(model: TemporalFusionTransformer, mesh: Mesh, *, emitters: bool = False) -> OnMesh:
    """`forecast_windows` as a compiled function of all but the model, windows divided over the mesh.

    The number of windows must be a multiple of the mesh's size.

    Args:
      emitters: see `compiler_options`: worth it for many windows.
    """
    everywhere, divided = PartitionSpec(), PartitionSpec(MESH_AXIS)
    decides = forecast_windows, type(model), model.config, model.head, model.cardinalities
    function, specs = functools.partial(forecast_windows, model), (everywhere, everywhere, divided)
    return OnMesh(function, decides, mesh, specs, divided, emitters=emitters)


def forecast_rows(
    model: TemporalFusionTransformer, parameters: dict, series: Series, starts: Int[np.ndarray, " W"]
) -> Float[np.ndarray, "W P Q"]:
    """Forecasts windows on all devices; see `forecast_windows`. Host arrays in and out, float64 out."""
    mesh = device_mesh()
    padded = np.pad(starts, (0, -len(starts) % mesh.size), mode="edge")
    forecast = compile_forecast(model, mesh, emitters=len(starts) >= EMITTERS_FROM)
    quantiles = forecast(parameters, series, padded)
    return np.asarray(quantiles, np.float64)[: len(starts)]
