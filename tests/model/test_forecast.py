"""Forecasts are the same however many windows are computed together, whether or not they share rows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.test_tft import BOTH, KNOWN_CODES, STATIC_CODES, config, parameters
from tiny import ROOT

from tftjax.config import loading
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.model import AttentionConfig, RegimeConfig, StalenessConfig
from tftjax.data.loading import load_panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.data.windows import Series, gather
from tftjax.model import forecast, layers
from tftjax.model.parameters import build_model, init_parameters, parameter_layout, to_tree
from tftjax.model.tft import TemporalFusionTransformer

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
def test_forecasts_do_not_depend_on_the_chunk(balanced, monkeypatch):
    model, arrays = balanced

    def forecasts(size):
        monkeypatch.setattr(forecast, "CHUNK", size)
        return np.asarray(jax.jit(functools.partial(forecast.forecast_windows, model))(*arrays))

    few = forecasts(8)
    for chunk in (64, 101, 256):
        np.testing.assert_allclose(forecasts(chunk), few, rtol=0, atol=1e-7, err_msg=str(chunk))


@pytest.mark.slow
def test_the_gradient_of_many_windows_is_the_sum_of_those_of_a_few(balanced):
    model, (parameters, series, starts) = balanced
    lengths = model.config.encoder_length, model.config.prediction_length
    weights = np.random.default_rng(5).standard_normal((NUM_WINDOWS, 1, 7)).astype(np.float32)

    def weighted(parameters, starts, weights, series):
        inputs, _ = gather(series, starts, *lengths)
        return (forecast.forecast_batch(model, parameters, inputs)[0] * weights).sum()

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

    compiled = jax.jit(forecast.forecast_windows, static_argnums=0)

    def forecasts(panel):
        """By scalers of its own train rows, which take the scale's logarithm to the same numbers."""
        model, arrays = random_model(settings, prepare(panel, settings))
        return np.asarray(compiled(model, *arrays))

    np.testing.assert_allclose(forecasts(twice), 2 * forecasts(panel), rtol=1e-3, atol=1e-6)


E, P = 5, 3
LENGTHS = (23, 0, 19, 11)  # of the series; one is empty
VARIABLES, AGED = 3, ("attention", "variable_selection")
# In a row, in several series, a window ahead or about that, backwards, and repeated, as filling is.
STARTS = np.array([0, 1, 2, 3, 4, 5, 15, 23, 24, 26, 33, 42, 44, 45, 10, 2, 3, 3, 3], np.int32)
VARIANTS = {
    "nothing known": {},
    "missing, two layers": {"known": BOTH, "missing": True, "layers": 2, "weighted": True},
    "stale steps, thresholds": {"known": ("real",), "staleness": "attention", "regime": "thresholds"},
    "stale variables": {"known": ("categorical",), "staleness": "variable_selection", "missing": True},
    "static, router": {"known": BOTH, "static": BOTH, "regime": "router"},
}
# Some at a time, of which a few share no rows; all windows at once; one by one.
CUTS = [(variant, 7) for variant in VARIANTS] + [("nothing known", 64), ("nothing known", 1)]
REGIMES = {"none": {}, "thresholds": {"column": "x", "thresholds": (-0.5,)}, "router": {}}


@functools.cache
def small(known=(), static=(), missing=False, staleness="none", regime="none", layers=1, weighted=False):
    """A model with random parameters and some short series: model, parameters, series."""
    rng, rows = np.random.default_rng(5), sum(LENGTHS)

    def reals(count, size=rows):
        return rng.standard_normal((count, size), np.float32)

    def codes(cardinalities, size):
        drawn = [rng.integers(0, count, size) for count in cardinalities]
        return np.array(drawn, np.int32).reshape(len(cardinalities), size)

    known_codes = KNOWN_CODES if "categorical" in known else ()
    static_codes = STATIC_CODES if "categorical" in static else ()
    present = rng.random((VARIABLES, rows)) > 0.3
    present[0] = True
    series = Series(
        observed=reals(VARIABLES),
        known_real=reals(2 if "real" in known else 0),
        known_categorical=codes(known_codes, rows),
        static_real=reals(2 if "real" in static else 0, len(LENGTHS)),
        static_categorical=codes(static_codes, len(LENGTHS)),
        target=reals(1)[0],
        row_series=np.repeat(np.arange(len(LENGTHS), dtype=np.int32), LENGTHS),
        center=reals(1, len(LENGTHS))[0],
        scale=np.exp(reals(1, len(LENGTHS))[0]),
        present=present if missing else None,
        age=20 * np.abs(reals(1 if staleness == "attention" else VARIABLES)) if staleness in AGED else None,
        regime=reals(1)[0] if regime == "thresholds" else None,
        weight=np.abs(reals(1)[0]) if weighted else None,
    )
    attention = AttentionConfig(
        staleness=StalenessConfig(mode=staleness), regime=RegimeConfig(by=regime, **REGIMES[regime])
    )
    model_config = config(attention=attention, lstm_layers=layers)
    model = TemporalFusionTransformer(model_config, known_codes, static_codes)
    tree = parameters(model, gather(series, STARTS[:2], E, P)[0])
    return model, jax.tree.map(jnp.float32, tree), series


@functools.partial(jax.jit, static_argnums=0)
def window_by_window(model, tree, series, values=None):
    """The returns and the outputs of all windows, rows not shared."""
    inputs, _ = gather(series, STARTS, E, P)
    return forecast.forecast_batch(model, tree, inputs, None, values)


def outputs(inputs, output):
    return forecast.to_returns(inputs, output), output


@pytest.mark.parametrize(("variant", "chunk"), CUTS)
def test_rows_that_windows_share_change_no_output(variant, chunk, monkeypatch):
    model, tree, series = small(**VARIANTS[variant])
    monkeypatch.setattr(forecast, "CHUNK", chunk)
    usual = hyperparameters(loading.Config(model=model.config))
    values = usual._replace(staleness_weight=usual.staleness_weight + 2.0)  # a member's own
    shared = jax.jit(functools.partial(forecast.map_windows, model, of=outputs))
    found = shared(tree, series, STARTS, hyperparameters=values)
    expected = window_by_window(model, tree, series, values)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * np.abs(two).max())
    quantiles = np.asarray(expected[0])
    assert min(np.abs(np.diff(quantiles[:14], axis=0)).max(axis=(1, 2))) > 1e-3  # windows differ


def test_on_all_devices_windows_are_the_same():
    model, tree, series = small()
    assert len(STARTS) % jax.device_count()  # some are filling
    found = forecast.forecast_rows(model, tree, series, STARTS)
    np.testing.assert_allclose(found, window_by_window(model, tree, series)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_places_by_hand(compiled):
    wrap = functools.partial(jax.jit, static_argnames="length") if compiled else lambda f: f
    places_of = wrap(forecast.places_of)
    # One row further 3 rows are shared, 3 rows further one, 4 further or further back none.
    starts = jnp.array([3, 4, 5, 6, 10, 13, 13, 40, 12])
    assert places_of(starts, length=4).tolist() == [0, 1, 2, 3, 7, 10, 10, 14, 18]
    assert places_of(starts[:1], length=4).tolist() == [0]


@pytest.mark.parametrize("static", [(), BOTH])
@pytest.mark.parametrize("moving", [False, True])
def test_rows_are_shared_unless_a_volatility_makes_them_others_in_each_window(static, moving, monkeypatch):
    model, tree, series = small(known=BOTH, static=static)
    volatility = np.exp(np.random.default_rng(8).standard_normal(sum(LENGTHS), np.float32))
    series = series._replace(volatility=volatility if moving else None)
    seen, selection = [], layers.VariableSelection.__call__

    def watched(module, x, *others):
        if module.name == "encoder_selection":
            seen.append(x.rows[0].shape[2:])
        return selection(module, x, *others)

    monkeypatch.setattr(layers.VariableSelection, "__call__", watched)
    jax.eval_shape(functools.partial(forecast.forecast_windows, model), tree, series, STARTS)
    # 19 windows: the encoder's steps of each, or as many rows as 19 have that follow each other.
    assert set(seen) == ({(E, 19)} if moving else {(1, 19 + E + P - 1)})


def test_shared_rows_let_nothing_of_the_future_through():
    model, tree, series = small(known=("real",))
    starts = jnp.asarray(STARTS[:9])

    def of_rows(observed, known_real):
        changed = series._replace(observed=observed, known_real=known_real)
        return forecast.forecast_windows(model, tree, changed, starts).sum(axis=2)  # W P

    observed, known = jax.jit(jax.jacrev(of_rows, argnums=(0, 1)))(series.observed, series.known_real)
    ahead = (np.arange(sum(LENGTHS)) - STARTS[:9, None])[:, None]  # of a window's first row: W 1 N
    step = np.arange(P)[None, :, None]
    in_past = np.broadcast_to((ahead >= 0) & (ahead < E), observed[:, :, 0].shape)
    for v in range(VARIABLES):
        np.testing.assert_array_equal(observed[:, :, v] != 0, in_past)
    for v in range(2):
        np.testing.assert_array_equal(known[:, :, v] != 0, (ahead >= 0) & (ahead <= E + step))
