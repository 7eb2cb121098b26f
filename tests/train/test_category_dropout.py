"""Categories hidden in training: which, how many, and what the model learns of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.hyperparameters import hyperparameters, static_settings
from tftjax.config.loading import from_dict
from tftjax.config.train import TrainConfig
from tftjax.data.checks import check_hidden
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.model.parameters import to_tree
from tftjax.train.step import decided_by, hide_categories, init_state, make_program, train_data, train_step

CODES = np.tile(np.arange(1, 1002, dtype=np.int32), (2, 1))


def hidden(rate, seed=0, first=0, codes=CODES):
    return np.asarray(
        jax.jit(hide_categories, static_argnames=("rate", "whole"))(
            codes, rate=rate, key=jax.random.key(seed), first=first, whole=CODES.shape[1]
        )
    )


def test_a_share_of_each_variable_is_hidden_and_the_rest_stays():
    found = hidden(0.3)
    is_hidden = found == 0
    np.testing.assert_array_equal(found[~is_hidden], CODES[~is_hidden])
    # Of 1001 draws with probability 0.3 the share is within four standard errors, 0.06.
    assert (np.abs(is_hidden.mean(axis=1) - 0.3) < 0.06).all()
    assert abs(is_hidden.all(axis=0).mean() - 0.09) < 0.04  # each variable by itself
    assert (hidden(0.3, seed=1) != found).any()
    assert not hidden(1.0).any()


def test_what_is_hidden_is_the_same_however_a_batch_is_divided():
    shares = [hidden(0.5, first=first, codes=CODES[:, first : first + 143]) for first in range(0, 1001, 143)]
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), hidden(0.5))


@pytest.mark.parametrize(
    ("static", "categories", "series"), [(0.9999, 0.5, [True, False, False]), (1.0, 0.0, [True])]
)
def test_a_step_trains_the_codes_of_the_unseen_where_some_are_hidden(static, categories, series):
    """Of series: where they are always hidden, there is no other code, and a known one is forecast as unseen.

    Of observed and known categories: where none is hidden, their code of unseen ones learns nothing.
    """
    rng = np.random.default_rng(2)
    days = pd.bdate_range("2001-01-01", periods=41)
    columns = {"y": rng.normal(0, 0.01, 41), "rating": rng.choice(["A", "B"], 41), "week": np.arange(41) % 3}
    frame = pd.concat([pd.DataFrame(columns | {"id": name}, days) for name in "ab"])
    roles = {"static_categorical": ("id",), "id_column": "id"}
    roles |= {"observed_categorical": ("rating",), "known_categorical": ("week",)}
    panel = make_panel(frame, target="y", observed=("y",), **roles)
    train = {"batch_size": 6, "static_dropout": static, "category_dropout": categories}
    config = from_dict({"model": {"hidden_size": 4, "encoder_length": 3}, "train": train}, "test")
    data = prepare(panel, config)
    program = make_program(config, data, jax.make_mesh((1,), ("devices",), devices=jax.devices()[:1]))
    rates = jax.tree.map(np.float32, hyperparameters(config))
    starts = jnp.asarray(data.starts["train"][[0, 7, 11, -1, -5, -8]])  # three of each series
    before = init_state(program, rates, seed=3)
    step = jax.jit(lambda *arrays: train_step(*arrays, program))
    after, _ = step(before, starts, rates, train_data(data))
    trees = [to_tree(state.params, program.layout) for state in (before, after)]

    def moved(kind):
        tables = [tree[f"embedding_{kind}_categorical"]["embedding"] for tree in trees]
        return np.abs(tables[1] - tables[0]).max(axis=1) > 0

    assert moved("static").tolist() == series
    for kind in ("observed", "known"):
        assert moved(kind)[0] == (categories > 0)


def test_a_category_is_hidden_at_all_steps_of_a_window_alike():
    """By hand: the same draws, looked up one by one."""
    sizes, rate, key = (3, 5), 0.4, jax.random.key(5)
    rng = np.random.default_rng(3)
    codes = np.array([rng.integers(0, size, (7, 101)) for size in sizes], np.int32)
    hide = jax.jit(hide_categories, static_argnames=("whole", "cardinalities"))
    found = hide(codes, jnp.float32(rate), key, 0, 101, sizes)
    kept = np.asarray(jax.random.uniform(key, (8, 101))) >= rate
    for (variable, step, window), code in np.ndenumerate(codes):
        expected = code if kept[(0, 3)[variable] + code, window] else 0
        assert found[variable, step, window] == expected
    halves = [hide(codes[..., part], jnp.float32(rate), key, part.start, 101, sizes) for part in CUT]
    np.testing.assert_array_equal(np.concatenate(halves, axis=-1), found)
    np.testing.assert_array_equal(hide(codes, jnp.float32(0.0), key, 0, 101, sizes), codes)


CUT = slice(0, 43), slice(43, 101)


def categories_program(rate, **changes):
    """Data with an observed and a known category, a config, and what an epoch's program is decided by."""
    rng = np.random.default_rng(2)
    columns = {"y": rng.normal(0, 0.01, 41), "rating": rng.choice(["A", "B"], 41), "week": np.arange(41) % 3}
    frame = pd.DataFrame(columns, pd.bdate_range("2001-01-01", periods=41))
    roles = {"observed_categorical": ("rating",), "known_categorical": ("week",)}
    panel = make_panel(frame, target="y", observed=("y",), **roles)
    content = {"model": {"hidden_size": 4, "encoder_length": 3}}
    config = from_dict(content | {"train": {"batch_size": 6, "category_dropout": rate} | changes}, "test")
    data = prepare(panel, config)
    mesh = jax.make_mesh((1,), ("devices",), devices=jax.devices()[:1])
    return config, data, make_program(config, data, mesh)


def test_rates_above_zero_share_a_program_and_zero_has_one_without():
    config, _, program = categories_program(0.1)
    other, _, without = (categories_program(rate)[0] for rate in (0.3, 0.0, 0.0))
    assert static_settings(config) == static_settings(other) != static_settings(without)
    assert hyperparameters(other).category_dropout == 0.3
    assert decided_by(program) != decided_by(program._replace(config=without))


def test_a_rate_without_categories_is_refused():
    config, data, _ = categories_program(0.1)
    panel = make_panel(data.panel.frame[["y"]], target="y", observed=("y",))
    with pytest.raises(UserError, match=r"category_dropout: found 0\.1, and no observed or known column"):
        check_hidden(panel, config.train)
    check_hidden(panel, TrainConfig())
    check_hidden(data.panel, config.train)
    with pytest.raises(UserError, match=r"known_dropout: found 0\.2, and no known column of numbers"):
        check_hidden(panel, TrainConfig(known_dropout=0.2))
