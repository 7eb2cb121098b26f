"""A network that starts from a classical forecast, and the pinball loss in units of the target's scale."""

import json
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.encoding import encoding_from_json, encoding_to_json
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.evaluate.metrics import pinball_losses
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import to_tree
from tftjax.runtime import device_mesh
from tftjax.train.engine import data_shapes, stack_data
from tftjax.train.losses import t_log_score
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
    """The pinball loss, in units of the target's scale."""
    return train("correction", {"unit": "scale", "correction_weight": 0.5})


@pytest.fixture(scope="module", params=["correction", "student_t"])
def likely(request):
    """The likelihood of a Student t."""
    return train(request.param, {"objective": "likelihood", "correction_weight": 0.5})


def train(head, loss):
    """An epoch of a network that corrects, on two devices."""
    config = from_dict(
        {
            "data": {"target_scale": "column:vol"},
            "model": SIZES | {"quantiles": QUANTILES, "quantile_head": head},
            "loss": loss,
            "train": {"batch_size": 6, "learning_rate": 0.01},
        },
        "test",
    )
    data = prepare(make_panel(frame(), target="y", observed=("y", "vol")), config)
    program = make_program(config, data, device_mesh())
    rates = jax.tree.map(np.float32, hyperparameters(config))
    start = init_state(program, rates, seed=3)
    state, metrics = jax.device_get(compile_epoch(program, emitters=False)(start, rates, train_data(data)))
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
    assert again.classical == trained.data.encoding.classical
    later = prepare(trained.data.whole, trained.config, again)
    for found, expected in zip(later.series.classical, trained.data.series.classical, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert trained.data.series.classical.shocks.shape == (len(QUANTILES), STEPS)


def test_without_a_scale_the_start_is_the_unconditional_forecast():
    config = from_dict({"model": SIZES | {"quantiles": QUANTILES, "quantile_head": "correction"}}, "test")
    data = prepare(make_panel(frame(), target="y", observed=("y", "vol")), config)
    center, scale = data.series.center[0], data.series.scale[0]
    rows = data.starts["train"][:, None] + ENCODER + np.arange(STEPS)
    expected = np.quantile(frame()["y"].to_numpy()[rows], QUANTILES, axis=0)
    np.testing.assert_allclose(center + scale * data.series.classical.shocks, expected, rtol=1e-4)


def test_the_density_is_that_of_the_scaled_targets(trained):
    _, targets = classical(trained.data, "train")
    rows = trained.data.starts["train"] + ENCODER - 1
    center, scale = trained.data.series.center[0], trained.data.series.scale[0]
    scaled = (targets / frame()["vol"].to_numpy()[rows, None] - center) / scale
    location, log_scale, freedom = trained.data.series.classical.density
    for step in range(STEPS):
        best = stats.t.logpdf(scaled[:, step], freedom[step], location[step], np.exp(log_scale[step])).sum()
        for worse in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
            moved = location[step] + worse[0], np.exp(log_scale[step] + worse[1])
            assert stats.t.logpdf(scaled[:, step], freedom[step], *moved).sum() < best


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("own_freedom", [False, True])
def test_the_log_score_is_scipys(jit, own_freedom):
    rng = np.random.default_rng(2)
    numbers, target = 0.3 * rng.normal(size=(7, 2, 5)).astype(np.float32), rng.normal(size=(7, 2))
    density = np.float32([[0.2, 0.0], [0.1, -0.4], [5.0, 4.0]])
    score = partial(t_log_score, density=density, own_freedom=own_freedom)
    found = (jax.jit(score) if jit else score)(jnp.asarray(numbers), jnp.asarray(target, jnp.float32))
    s, m, n = numbers[..., 0], numbers[..., 1], numbers[..., 2]
    freedom = 2 + (density[2] - 2) * (np.exp(n) if own_freedom else 1)
    location = density[0] * np.exp(s) + m
    expected = -stats.t.logpdf(target, freedom * np.ones_like(s), location, np.exp(density[1] + s))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_likelihood_is_minimised_and_quantiles_are_validated(likely):
    metrics, head = likely.metrics, likely.config.model.quantile_head
    loss = metrics["log_score"] + metrics["correction_penalty"]
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    found, (_, targets) = forecast(likely, likely.state, "val"), classical(likely.data, "val")
    assert metrics["val/loss"] == pytest.approx(pinball_losses(found, targets, QUANTILES).mean(), rel=1e-4)
    kernel = to_tree(likely.state.params, likely.program.layout)["output_correction"]["kernel"]
    moved = (kernel != 0).any(axis=0)
    # The likelihood says nothing on the single levels of a correction.
    assert moved.tolist() == [True, True] + [False] * 3 if head == "correction" else moved.all()


def test_a_likelihood_needs_a_density():
    with pytest.raises(UserError, match=r"expected objective 'pinball', or set model\.quantile_head to"):
        from_dict({"loss": {"objective": "likelihood"}}, "test")
    head = {"functions": {"head": {"own": "0" * 64}}, "model": {"quantile_head": "student_t"}}
    with pytest.raises(UserError, match=r"expected no head, or model\.quantile_head 'independent'"):
        from_dict(head, "test")


def test_members_of_a_sweep_may_correct(trained):
    """Their data are stacked, and what a program takes from them is JSON."""
    shapes = data_shapes(trained.data)
    assert json.loads(json.dumps(shapes))["classical"] == [[len(QUANTILES), STEPS], [3, STEPS]]
    stacked = stack_data([trained.data, trained.data])
    assert stacked.series.classical.shocks.shape == (2, len(QUANTILES), STEPS)
