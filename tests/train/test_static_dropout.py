"""Static categories hidden in training: which, how many, and what the model learns of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.model.parameters import to_tree
from tftjax.train.step import hide_categories, init_state, make_program, train_data, train_step

CODES = np.tile(np.arange(1, 1002, dtype=np.int32), (2, 1))
TABLE = "embedding_static_categorical"


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


@pytest.mark.parametrize(("rate", "trained"), [(0.9999, [True, False, False]), (1.0, [True])])
def test_a_step_trains_the_code_of_unseen_series_where_all_are_hidden(rate, trained):
    """Where they are always hidden, there is no other code: a known series is forecast as an unseen one."""
    rng = np.random.default_rng(2)
    days = pd.bdate_range("2001-01-01", periods=41)
    parts = [pd.DataFrame({"y": rng.normal(0, 0.01, 41), "id": name}, days) for name in "ab"]
    roles = {"static_categorical": ("id",), "id_column": "id"}
    panel = make_panel(pd.concat(parts), target="y", observed=("y",), **roles)
    content = {"model": {"hidden_size": 4, "encoder_length": 3}}
    config = from_dict(content | {"train": {"batch_size": 6, "static_dropout": rate}}, "test")
    data = prepare(panel, config)
    program = make_program(config, data, jax.make_mesh((1,), ("devices",), devices=jax.devices()[:1]))
    rates = jax.tree.map(np.float32, hyperparameters(config))
    starts = jnp.asarray(data.starts["train"][[0, 7, 11, -1, -5, -8]])  # three of each series
    before = init_state(program, rates, seed=3)
    step = jax.jit(lambda *arrays: train_step(*arrays, program))
    after, _ = step(before, starts, rates, train_data(data))
    tables = [to_tree(state.params, program.layout)[TABLE]["embedding"] for state in (before, after)]
    assert (np.abs(tables[1] - tables[0]).max(axis=1) > 0).tolist() == trained
