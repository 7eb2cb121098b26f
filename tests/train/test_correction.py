"""A network that starts from a classical forecast, and the pinball loss in units of the target's scale."""

from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.encoding import encoding_from_json, encoding_to_json
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.evaluate.metrics import pinball_losses
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import to_tree
from tftjax.runtime import device_mesh
from tftjax.train.step import compile_epoch, init_state, make_program, train_data

ROWS, QUANTILES, STEPS, ENCODER = 101, (0.1, 0.5, 0.75), 2, 5
SIZES = {"hidden_size": 4, "num_heads": 2, "encoder_length": ENCODER, "prediction_length": STEPS}


def frame():
    """Returns whose volatility is doubled and halved by turns, and known."""
    rng = np.random.default_rng(5)
    volatility = 0.01 * 2.0 ** np.sign(np.sin(np.arange(ROWS) / 5))
    ret = np.append(0.0, volatility[:-1]) * rng.standard_t(5, ROWS)
    return pd.DataFrame(
        {"y": ret, "vol": volatility}, pd.bdate_range("2020-01-01", periods=ROWS, name="date")
    )


@pytest.fixture(scope="module")
def trained():
    """An epoch of a network that corrects, in units of the target's scale, on two devices."""
    config = from_dict(
        {
            "data": {"target_scale": "column:vol"},
            "model": SIZES | {"quantiles": QUANTILES, "quantile_head": "correction"},
            "loss": {"unit": "scale", "correction_weight": 0.5},
            "train": {"batch_size": 6, "learning_rate": 0.01},
        },
        "test",
    )
    data = prepare(make_panel(frame(), target="y", observed=("y", "vol")), config)
    program = make_program(config, data, device_mesh())
    rates = jax.tree.map(np.float32, hyperparameters(config))
    start = init_state(program, rates, seed=3)
    state, metrics = jax.device_get(compile_epoch(program)(start, rates, train_data(data)))
    return SimpleNamespace(
        config=config, data=data, program=program, start=start, state=state, metrics=metrics
    )


def classical(data, split):
    """Quantiles of the train windows' returns over the known volatility, times that before each window."""
    returns, volatility = frame()["y"].to_numpy(), frame()["vol"].to_numpy()

    def rows(name):
        return data.starts[name] + ENCODER - 1

    ahead = 1 + np.arange(STEPS)
    ratios = returns[rows("train")[:, None] + ahead] / volatility[rows("train"), None]
    levels = np.quantile(ratios, QUANTILES, axis=0).T  # [P Q]
    return volatility[rows(split), None, None] * levels, returns[rows(split)[:, None] + ahead]


def forecast(trained, state, split):
    tree = to_tree(state.params, trained.program.layout)
    return forecast_rows(trained.program.model, tree, trained.data.series, trained.data.starts[split])


@pytest.mark.parametrize("split", ["val", "test"])
def test_before_the_first_step_the_forecast_is_the_classical_one(trained, split):
    expected, _ = classical(trained.data, split)
    np.testing.assert_allclose(forecast(trained, trained.start, split), expected, rtol=2e-5, atol=1e-7)


def test_training_moves_it_and_pays_for_what_it_adds(trained):
    expected, targets = classical(trained.data, "val")
    found = forecast(trained, trained.state, "val")
    assert not np.allclose(found, expected, rtol=1e-3)
    assert trained.metrics["correction_penalty"] > 0
    loss = trained.metrics["quantile_loss"] + trained.metrics["correction_penalty"]
    assert trained.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    # Validation judges forecasts, in units of the scale at each window's end, times target_std.
    volatility = frame()["vol"].to_numpy()[trained.data.starts["val"] + ENCODER - 1]
    unit = volatility * trained.data.encoding.scaler["y"].scale[0] / 0.01
    pinball = pinball_losses(found, targets, QUANTILES).mean(axis=(1, 2))
    assert trained.metrics["val/loss"] == pytest.approx((pinball / unit).mean(), rel=1e-4)


def test_the_shocks_are_stored(trained):
    again = encoding_from_json(encoding_to_json(trained.data.encoding))
    assert again.shocks == trained.data.encoding.shocks
    later = prepare(trained.data.whole, trained.config, again)
    np.testing.assert_array_equal(later.series.shocks, trained.data.series.shocks)
    assert trained.data.series.shocks.shape == (len(QUANTILES), STEPS)


def test_without_a_scale_the_start_is_the_unconditional_forecast():
    config = from_dict({"model": SIZES | {"quantiles": QUANTILES, "quantile_head": "correction"}}, "test")
    data = prepare(make_panel(frame(), target="y", observed=("y", "vol")), config)
    center, scale = data.series.center[0], data.series.scale[0]
    rows = data.starts["train"][:, None] + ENCODER + np.arange(STEPS)
    expected = np.quantile(frame()["y"].to_numpy()[rows], QUANTILES, axis=0)
    np.testing.assert_allclose(center + scale * data.series.shocks, expected, rtol=1e-4)
