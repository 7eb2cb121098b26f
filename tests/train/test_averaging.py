"""Averaged parameters, training for a number of steps, and windows that count less the older they are."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.data.windows import recency_weights
from tftjax.runtime import device_mesh
from tftjax.train.loop import ending
from tftjax.train.optimizer import Average, averaged, make_optimizer
from tftjax.train.step import compile_epoch, init_state, make_program, train_data

ROWS, DECAY, BATCH, MAX_STEPS = 101, 0.7, 6, 14
SIZES = {"hidden_size": 2, "num_heads": 1, "encoder_length": 5, "quantiles": (0.1, 0.5, 0.75)}
TRAIN = {"batch_size": BATCH, "learning_rate": 0.01, "max_steps": MAX_STEPS}


def frame():
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2020-01-01", periods=ROWS, name="date")
    return pd.DataFrame({"y": 0.01 * rng.normal(size=ROWS), "x": rng.normal(size=ROWS)}, days)


@pytest.fixture(scope="module")
def trained():
    """Two epochs: the first of 10 steps, the second cut at the fourth."""
    config = from_dict({"model": SIZES, "train": TRAIN | {"ema_decay": DECAY}}, "test")
    data = prepare(make_panel(frame(), target="y", observed=("y", "x")), config)
    assert len(data.starts["train"]) // BATCH == 10
    program = make_program(config, data, device_mesh())
    rates = jax.tree.map(np.float32, hyperparameters(config))
    epoch = compile_epoch(program, emitters=False)
    states, metrics = [init_state(program, rates, seed=3)], [None]
    for _ in range(2):
        state, numbers = jax.device_get(epoch(states[-1], rates, train_data(data)))
        states.append(state)
        metrics.append(numbers)
    return SimpleNamespace(config=config, states=states, metrics=metrics)


def test_training_ends_after_so_many_steps(trained):
    assert [int(state.step) for state in trained.states] == [0, 10, MAX_STEPS]
    last = trained.metrics[2]
    assert int(last["steps"]) == 4
    assert np.count_nonzero(last["losses"]) == 4
    assert last["loss"] == pytest.approx(last["losses"][:4].mean(), rel=1e-6)
    assert ending(trained.states[1], trained.config.train) is None
    assert ending(trained.states[2], trained.config.train) == "out of steps"


def test_the_average_weighs_later_parameters_more(trained):
    # One step: all weight is on its parameters. Two: 0.3 * 0.7 and 0.3, over 1 - 0.7^2.
    train, rates = trained.config.train, hyperparameters(trained.config)
    optimizer = make_optimizer(train, rates, 10, np.zeros(2, np.float32))
    params = np.array([1.0, -2.0], np.float32)
    state, seen = optimizer.init(params), []
    for step in (1, 2):
        updates, state = optimizer.update(np.array([0.5, -0.1], np.float32), state, params)
        params = params + np.asarray(updates)
        seen.append(params)
        weights = np.array([DECAY ** (step - 1 - k) for k in range(step)])
        expected = np.average(seen, axis=0, weights=weights)
        np.testing.assert_allclose(averaged(state, DECAY, jnp.int32(step)), expected, rtol=1e-5)
    assert isinstance(state[-1], Average)


def test_the_better_of_current_and_averaged_parameters_is_kept(trained):
    for state, metrics in zip(trained.states[1:], trained.metrics[1:], strict=True):
        if int(state.best_epoch) == int(state.epoch):
            average = averaged(state.opt_state, DECAY, jnp.asarray(state.step))
            expected = average if metrics["val/averaged"] else state.params
            np.testing.assert_allclose(state.best_params, expected, rtol=1e-6)
            assert state.best_loss == metrics["val/loss"]
    assert int(trained.states[1].best_epoch) == 1


def test_weights_halve_with_age():
    dates = pd.DatetimeIndex(["2018-01-01", "2019-01-01", "2020-01-01", "2021-12-31"])
    found = recency_weights(dates, np.array([0, 1, 2], np.int32), half_life=1.0)
    # Ages of 2 years but half a day, 1 year but a quarter, 0; the last row is later than the train windows.
    np.testing.assert_allclose(found / found[2], [0.25, 0.5, 1, 1], rtol=2e-3)
    assert found[:3].mean() == pytest.approx(1)


def test_old_windows_count_less_in_the_loss():
    config = from_dict({"model": SIZES, "train": TRAIN | {"half_life": 0.1}}, "test")
    panel = make_panel(frame(), target="y", observed=("y", "x"))
    data, alike = prepare(panel, config), prepare(panel, from_dict({"model": SIZES, "train": TRAIN}, "test"))
    assert alike.series.weight is None
    first = data.series.weight[data.starts["train"] + SIZES["encoder_length"]]
    assert (np.diff(first) > 0).all()
    assert first.mean() == pytest.approx(1, rel=1e-5)
