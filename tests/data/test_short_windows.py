"""Windows with fewer rows of the past than the encoder has: what lacks has no effect."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from model.test_forecast import VARIANTS, outputs, small
from model.test_tft import applied, build, config, parameters

from tftjax.config.loading import from_dict
from tftjax.config.model import ModelConfig
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.data.windows import gather, windows_alone
from tftjax.errors import UserError
from tftjax.interpret.weights import _over_seen
from tftjax.model import forecast
from tftjax.model.tft import TemporalFusionTransformer
from tftjax.train.step import shortened

E, P, FEWEST = 5, 3, 2
LENGTHS = (23, 0, 19, 11)  # of the series of `small`
# First rows of windows whose last rows of the past are 1 and 4 of the first series, the first two of the
# third, one further in, and the second of the last.
STARTS = np.array([-3, 0, 19, 20, 30, 39], np.int32)
ROWS = [2, 5, 1, 2, 5, 2]  # of the past


def panel_of(lengths=(31, 7)):
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2001-01-01", periods=max(lengths))
    parts = [
        pd.DataFrame({"y": rng.normal(0, 0.01, length), "id": name}, days[-length:])
        for name, length in zip("ab", lengths, strict=True)
    ]
    roles = {"static_categorical": ("id",), "id_column": "id"}
    return make_panel(pd.concat(parts), target="y", observed=("y",), **roles)


def settings(fewest=FEWEST, **train):
    sizes = {"hidden_size": 4, "encoder_length": E, "prediction_length": 1, "min_encoder_length": fewest}
    data = {"split_dates": {"val": "2001-02-07", "test": "2001-02-09"}, "purge": 0}
    return from_dict({"data": data, "model": sizes, "train": {"batch_size": 6} | train}, "test")


def test_windows_by_hand():
    """Of 31 and 7 rows, the last two days of which test, the two before which validate."""
    data = prepare(panel_of(), settings())
    assert data.starts["train"].tolist() == [*range(-3, 22), 28]  # first targets 2 to 26, and row 33
    assert data.starts["val"].tolist() == [22, 23, 29, 30]
    assert data.starts["test"].tolist() == [24, 25, 31, 32]
    np.testing.assert_array_equal(data.series.position, [*range(31), *range(7)])
    whole = prepare(panel_of(), settings(None))
    assert whole.series.position is None
    assert whole.starts["train"].tolist() == list(range(22))  # the second series has no train window
    inputs, targets = jax.jit(gather, static_argnums=(2, 3))(data.series, np.array([-3, 28, 33]), E, 1)
    np.testing.assert_array_equal(inputs.seen.T, [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [1] * 5])
    observed = data.series.observed[0]
    rows = [[0, 0, 0, 0, 1], [31, 31, 31, 31, 32], [33, 34, 35, 36, 37]]
    np.testing.assert_array_equal(inputs.observed[0, :, :2].T, observed[rows[:2]])
    np.testing.assert_array_equal(inputs.static_categorical[0, :2], [1, 2])
    np.testing.assert_array_equal(targets[:2, 0], data.series.target[[2, 33]])


def test_a_row_changes_no_window_before_it():
    panel, cut = panel_of(), 20
    later = panel.frame["y"].where(np.arange(38) != cut, 5.0)
    data = prepare(panel, settings())
    other = prepare(dataclasses.replace(panel, frame=panel.frame.assign(y=later)), settings(), data.encoding)
    starts = data.starts["train"]
    one, two = (gather(of.series, starts, E, 1) for of in (data, other))
    same = [bool((a == b).all()) for a, b in zip(one[0].observed[0].T, two[0].observed[0].T, strict=True)]
    assert same == [not start <= cut < start + E for start in starts]


@functools.cache
def short(variant):
    """A model with parameters, and series of which windows may begin before the first row."""
    model, tree, series = small(**VARIANTS[variant])
    position = np.concatenate([np.arange(length, dtype=np.int32) for length in LENGTHS])
    return model, tree, series._replace(position=position)


@functools.cache
def window_by_window(variant):
    """The inputs of the windows, their returns and outputs, rows not shared."""
    model, tree, series = short(variant)
    inputs, _ = gather(series, STARTS, E, P)
    return inputs, *jax.jit(lambda i: forecast.forecast_batch(model, tree, i))(inputs)


@pytest.mark.parametrize("variant", ["static, router", "missing, two layers"])
def test_a_short_window_is_a_whole_one_of_a_shorter_encoder(variant):
    """Independent of any mask: the same parameters, with as many encoder steps as there are rows."""
    model, tree, series = short(variant)
    inputs, _, found = window_by_window(variant)
    assert np.asarray(inputs.seen).sum(axis=0).tolist() == ROWS
    for rows in (1, 2):
        lacking = model.config.model_copy(update={"encoder_length": rows})
        sizes = model.known_cardinalities, model.static_cardinalities
        shorter = TemporalFusionTransformer(lacking, *sizes)
        which = np.flatnonzero(np.array(ROWS) == rows)
        whole, _ = gather(series._replace(position=None), STARTS[which] + E - rows, rows, P)
        expected = applied(shorter, tree, whole)
        np.testing.assert_allclose(found.quantiles[which], expected.quantiles, rtol=1e-4, atol=1e-5)
        attention = found.attention[which]
        assert not attention[..., : E - rows].any()
        np.testing.assert_allclose(attention[..., E - rows :], expected.attention, rtol=1e-4, atol=1e-6)


def test_what_stands_in_a_masked_step_has_no_effect():
    model, inputs = build()
    seen = np.ones(inputs.observed.shape[1:], bool)
    seen[:3, 0] = False
    inputs, tree = (
        inputs._replace(seen=jnp.asarray(seen)),
        jax.tree.map(jnp.float32, parameters(model, inputs)),
    )

    def total(observed, known_real):
        changed = inputs._replace(observed=observed, known_real=known_real)
        return model.apply({"params": tree}, changed).quantiles.sum()

    observed, known = jax.jit(jax.grad(total, argnums=(0, 1)))(inputs.observed, inputs.known_real)
    np.testing.assert_array_equal(np.asarray(observed != 0), np.broadcast_to(seen, observed.shape))
    known = np.asarray(known)
    assert not known[:, :3, 0].any()
    assert known[:, 3:, 0].all()
    assert known[:, :, 1].all()


@pytest.mark.parametrize("variant", ["static, router", "nothing known"])
def test_rows_that_short_windows_share_change_no_output(variant):
    model, tree, series = short(variant)
    found = jax.jit(functools.partial(forecast.map_windows, model, of=outputs))(tree, series, STARTS)
    inputs, expected, _ = window_by_window(variant)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    alone, places = windows_alone(series, STARTS, E, P)
    laid_out, _ = gather(alone, places, E, P)
    for one, two in zip(jax.tree.leaves(laid_out), jax.tree.leaves(inputs), strict=True):
        np.testing.assert_array_equal(one, two)


def test_importance_is_the_mean_over_the_steps_that_there_are():
    weights = np.arange(6 * E * 2.0).reshape(6, E, 2)
    expected = [window[E - rows :].mean(axis=0) for window, rows in zip(weights, ROWS, strict=True)]
    np.testing.assert_allclose(_over_seen(weights, short("nothing known")[2], STARTS), expected)


def test_windows_are_cut_at_random():
    cut = jax.jit(shortened, static_argnums=(3, 4, 5))
    kept = np.asarray(cut(jnp.float32(0.5), jax.random.key(1), 0, 2003, 2003, (FEWEST, E)))
    rows = kept.sum(axis=0)
    assert (np.sort(kept, axis=0) == kept).all()  # the last ones stay
    # Half of the windows keep 2, 3, 4 or 5 rows, within four standard errors.
    assert (np.abs(np.bincount(rows, minlength=6) / 2003 - [0, 0, 1 / 8, 1 / 8, 1 / 8, 5 / 8]) < 0.045).all()
    parts = [cut(jnp.float32(0.5), jax.random.key(1), first, 1001, 2003, (FEWEST, E)) for first in (0, 1002)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), np.delete(kept, 1001, axis=1))
    assert cut(jnp.float32(0.0), jax.random.key(1), 0, 7, 7, (FEWEST, E)).all()


def test_settings_that_cannot_be():
    with pytest.raises(UserError, match=r"min_encoder_length: found 6, expected at most .* \(5\)"):
        settings(6)
    with pytest.raises(UserError, match=r"short_windows 0, or set model\.min_encoder_length below"):
        settings(None, short_windows=0.5)
    assert settings(short_windows=0.5).model.fewest_rows == FEWEST
    assert config().fewest_rows == E == ModelConfig(encoder_length=E).fewest_rows
