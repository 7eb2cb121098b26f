"""Forecasts and their gradients are the same however many windows are computed together."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from tiny import ROOT

from tftjax.config import loading
from tftjax.data.loading import load_panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.data.windows import gather
from tftjax.model import forecast
from tftjax.model.parameters import build_model, init_parameters, parameter_layout, to_tree

NUM_WINDOWS = 256


SETTINGS = loading.load(ROOT / "configs" / "balanced_01.json")


def random_model(settings, data):
    """A model with random parameters: the model, and the arrays that forecast_windows takes."""
    model = build_model(settings, *cardinalities(data.panel, data.encoding))
    starts = data.starts["test"][:NUM_WINDOWS]
    inputs, _ = gather(data.series, starts, settings.model.encoder_length, settings.model.prediction_length)
    layout = parameter_layout(model, inputs)
    vector = init_parameters(layout, seed=3)
    vector += 0.1 * np.random.default_rng(3).standard_normal(vector.shape, np.float32)
    return model, (to_tree(vector, layout), data.series, starts)


@pytest.fixture(scope="module")
def balanced():
    """The main job's model."""
    return random_model(SETTINGS, prepare(load_panel(SETTINGS.data), SETTINGS))


# Sizes on both sides of 32,769 outputs of an operation: beyond, jaxlib 0.10.2 on a CPU gets some products
# that are summed over a leading axis wrong (github.com/jax-ml/jax/issues/39103).
@pytest.mark.parametrize("chunk", [64, 101, 256])
def test_forecasts_do_not_depend_on_the_chunk(balanced, chunk, monkeypatch):
    model, arrays = balanced

    def forecasts(size):
        monkeypatch.setattr(forecast, "CHUNK", size)
        return np.asarray(jax.jit(functools.partial(forecast.forecast_windows, model))(*arrays))

    np.testing.assert_allclose(forecasts(chunk), forecasts(8), rtol=0, atol=1e-7)


@pytest.mark.slow
def test_the_gradient_of_many_windows_is_the_sum_of_those_of_a_few(balanced, monkeypatch):
    model, (parameters, series, starts) = balanced
    monkeypatch.setattr(forecast, "CHUNK", NUM_WINDOWS)
    weights = np.random.default_rng(5).standard_normal((NUM_WINDOWS, 1, 7)).astype(np.float32)

    def weighted(parameters, starts, weights, series):
        return (forecast.forecast_windows(model, parameters, series, starts) * weights).sum()

    compiled = jax.jit(jax.grad(weighted))

    def gradient(first, count):
        some = slice(first, first + count)
        tree = compiled(parameters, starts[some], weights[some], series)
        return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])

    summed = sum(gradient(first, 8) for first in range(0, NUM_WINDOWS, 8))
    error = gradient(0, NUM_WINDOWS) - summed
    assert np.linalg.norm(error) < 1e-5 * np.linalg.norm(summed)


def test_with_a_moving_volatility_a_return_series_twice_as_wild_gets_forecasts_twice_as_wide():
    data = SETTINGS.data.model_copy(update={"target_scale": "ewma"})
    settings = SETTINGS.model_copy(update={"data": data})
    panel = load_panel(data)
    twice = dataclasses.replace(
        panel, frame=panel.frame.assign(SP500_Returns=2 * panel.frame["SP500_Returns"])
    )

    def forecasts(panel):
        """By scalers of its own train rows, which take the scale's logarithm to the same numbers."""
        model, arrays = random_model(settings, prepare(panel, settings))
        return np.asarray(jax.jit(functools.partial(forecast.forecast_windows, model))(*arrays))

    np.testing.assert_allclose(forecasts(twice), 2 * forecasts(panel), rtol=1e-3, atol=1e-6)
