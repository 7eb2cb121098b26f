"""Known numbers that lack values: an indicator in their place; lags that are not known at all steps ahead."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from model.test_layers import CLOSE, normal
from model.test_tft import build, parameters

from tftjax.config.loading import from_dict
from tftjax.data.checks import check_lags
from tftjax.data.encoding import fit_encoding
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel, write_panel
from tftjax.data.tables.future import read_future, steps_ahead
from tftjax.data.windows import gather, make_series
from tftjax.errors import UserError
from tftjax.model import forecast
from tftjax.model.layers import RealEmbedding
from tftjax.model.tft import TemporalFusionTransformer

ROWS, E, P = 17, 5, 3
SIZES = [np.nan, 2.0, 4.0, np.nan, *np.arange(5.0, 18.0)]


def table(later=0.0, since=ROWS):
    rows = np.arange(ROWS)
    y = rows**2 / 1e4 + later * (rows >= since)
    return pd.DataFrame({"date": pd.bdate_range("2004-01-01", periods=ROWS), "y": y, "size": SIZES})


def settings(missing_known="mask", known=("size", "lag_1")):
    columns = {"target": "y", "known_real": list(known)}
    return from_dict(
        {"data": {"dataset": "frame", "columns": columns, "missing_known": missing_known}}, "t"
    ).data


@pytest.fixture(scope="module")
def panel():
    return load_panel(settings(), table())


def test_a_missing_value_and_a_lag_beyond_its_step_are_unknown(panel, tmp_path):
    encoding = fit_encoding(panel, [range(0, 9)])
    np.testing.assert_allclose(np.ravel(encoding.scaler["size"].center), np.nanmean(SIZES[1:10]))
    series = make_series(panel, encoding)
    np.testing.assert_array_equal(series.known_present[0], ~np.isnan(SIZES[1:]))
    assert series.known_real[0, 2] == 0
    inputs, _ = jax.jit(gather, static_argnums=(2, 3))(series, np.array([0, 3], np.int32), E, P)
    size, lag = np.asarray(inputs.known_present)
    np.testing.assert_array_equal(size.T, [[True, True, False, *[True] * 5], [True] * 8])
    np.testing.assert_array_equal(lag.T, [[*[True] * 6, False, False]] * 2)
    check_lags(panel, P)
    write_panel(tmp_path, panel)
    again = make_series(read_panel(tmp_path), encoding)
    for one, two in zip(jax.tree.leaves(again), jax.tree.leaves(series), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_vectors_of_values_and_of_missing_ones():
    x, present = normal(2, 3, 4), np.random.default_rng(1).random((2, 3, 4)) > 0.4
    module = RealEmbedding(5, indicator=True)
    tree = {"kernel": normal(2, 1, 5), "bias": normal(2, 5), "missing": normal(2, 5) + 1}
    embedded = jax.jit(lambda x: module.apply({"params": tree}, x, jnp.asarray(present)).vectors())(x)
    for v, t, b in np.ndindex(2, 3, 4):
        there = x[v, t, b] * tree["kernel"][v, 0] + tree["bias"][v]
        expected = there if present[v, t, b] else tree["missing"][v]
        np.testing.assert_allclose(embedded[v, :, t, b], expected, **CLOSE)


def test_what_stands_in_place_of_a_missing_value_has_no_effect():
    model, inputs = build(static=(), lstm_layers=1)
    present = np.ones(inputs.known_real.shape, bool)
    present[1, 6, 0] = present[0, 2, 1] = False
    inputs = inputs._replace(known_present=jnp.asarray(present))
    tree = jax.tree.map(jnp.float32, parameters(model, inputs))

    def total(known_real, tree):
        return model.apply({"params": tree}, inputs._replace(known_real=known_real)).quantiles.sum()

    known, of = jax.jit(jax.grad(total, argnums=(0, 1)))(inputs.known_real, tree)
    np.testing.assert_array_equal(np.asarray(known) != 0, present)
    assert (
        np.abs(of["embedding_known_real"]["missing"]).min(axis=1).all()
    )  # what a missing one means is learned


def test_later_targets_change_no_forecast(panel):
    """The lag of one row is the target itself at the second step: masked there, in shared rows too."""
    encoding = fit_encoding(panel, [range(0, 9)])
    model = TemporalFusionTransformer(build(known=("real",), static=(), lstm_layers=1)[0].config)
    starts, last = np.arange(8, dtype=np.int32), 9  # rows of the panel; the first of the table is dropped
    tree = parameters(model, gather(make_series(panel, encoding), starts[:1], E, P)[0])
    tree = jax.tree.map(jnp.float32, tree)
    call = jax.jit(functools.partial(forecast.forecast_windows, model))
    changed = load_panel(settings(), table(later=1.0, since=last + 2))
    one, two = (np.asarray(call(tree, make_series(of, encoding), starts)) for of in (panel, changed))
    differs = np.abs(one - two).max(axis=(1, 2)) > 0
    assert differs.tolist() == (starts + E - 1 > last).tolist()


def test_steps_ahead_without_values(panel):
    ahead = steps_ahead(panel, 2)
    assert ahead["size"].isna().all()
    assert ahead.index.equals(pd.bdate_range("2004-01-26", periods=2))
    # A file may have some of them, or dates alone.
    given = pd.DataFrame({"date": ["2004-01-26", "2004-01-27"], "size": [3.0, None]})
    assert read_future(given, panel)["size"].tolist()[0] == 3.0
    assert list(read_future(given[["date"]], panel)) == []
    beyond = pd.concat([table(), given[["date", "size"]]])
    found = load_panel(settings(), beyond)
    np.testing.assert_array_equal(steps_ahead(found, 3)["size"], [3.0, np.nan, np.nan])


def test_they_are_refused_unless_asked_for():
    with pytest.raises(UserError, match=r"row 3 .*'size': found no value.*set data.missing_known to 'mask'"):
        load_panel(settings("refuse"), table())
    filled = load_panel(settings("refuse"), table().fillna(1.0))
    with pytest.raises(UserError, match=r"columns size are needed .* with data\.missing_known 'mask'"):
        steps_ahead(filled, 2)
    with pytest.raises(UserError, match=r"'lag_1' with .* 3: .* or data\.missing_known 'mask'"):
        check_lags(filled, P)
    with pytest.raises(UserError, match=r"known_dropout 0, or set data\.missing_known to 'mask'"):
        from_dict({"train": {"known_dropout": 0.1}}, "t")
