"""Observed values that are missing: masked, so that what stands in their place has no effect."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from model.test_tft import B, build, parameters

from tftjax import predict
from tftjax.config import loading
from tftjax.data.alignment import resample
from tftjax.data.encoding import fit_encoding
from tftjax.data.loading import load_panel
from tftjax.data.panel import make_panel, read_panel, write_panel
from tftjax.data.windows import gather, make_series
from tftjax.errors import UserError
from tftjax.storage import runs
from tftjax.train import run as train

MISSING = (1, 2, 1)  # variable, step, window


@functools.cache
def masked():
    """A model, its parameters, and a batch in which one observed value is missing."""
    model, inputs = build(static=(), lstm_layers=1)
    present = np.ones(inputs.observed.shape, bool)
    present[MISSING] = False
    return (
        model,
        jax.tree.map(jnp.float32, parameters(model, inputs)),
        inputs._replace(present=jnp.asarray(present)),
    )


@functools.cache
def compiled():
    """The model as a compiled function of parameters and inputs."""
    model, _, _ = masked()
    return jax.jit(lambda params, inputs: model.apply({"params": params}, inputs))


@pytest.mark.slow
def test_a_missing_value_has_no_weight_and_no_effect():
    _, params, inputs = masked()
    call = compiled()
    out = call(params, inputs)
    variable, step, window = MISSING
    assert out.encoder_selection[window, step, variable] == 0
    np.testing.assert_allclose(out.encoder_selection.sum(-1), 1.0, rtol=1e-5)
    assert (np.delete(np.asarray(out.encoder_selection[window, step]), variable) > 0).all()
    other = call(params, inputs._replace(observed=inputs.observed.at[MISSING].set(1e6)))
    for one, two in zip(jax.tree.leaves(out), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(one, two)
    # The same change of a value that is there is seen, in that window alone.
    seen = call(params, inputs._replace(observed=inputs.observed.at[0, 2, 0].add(1.0)))
    differs = np.abs(np.asarray(seen.quantiles - out.quantiles)).max(axis=(1, 2)) > 0
    assert differs.tolist() == [window == 0 for window in range(B)]


def test_the_gradient_of_a_missing_value_is_zero():
    model, params, inputs = masked()

    def total(observed):
        return model.apply({"params": params}, inputs._replace(observed=observed)).quantiles.sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(inputs.observed))
    assert gradient[MISSING] == 0
    assert np.isfinite(gradient).all()
    assert np.count_nonzero(gradient) == gradient.size - 1


def test_without_a_missing_value_the_mask_changes_nothing():
    _, params, inputs = masked()
    all_there = inputs._replace(present=jnp.ones_like(inputs.present))
    with_mask = compiled()(params, all_there)
    without = compiled()(params, inputs._replace(present=None))
    for one, two in zip(jax.tree.leaves(with_mask), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def holes_panel():
    days = pd.bdate_range("2004-01-01", periods=7).as_unit("ns")
    y = np.arange(7) / 100
    x = np.array([np.nan, 2.0, np.nan, 6.0, 4.0, np.nan, 4.0])
    return make_panel(pd.DataFrame({"y": y, "x": x}, days), target="y", observed=("y", "x"))


def test_scalers_are_fitted_on_the_values_that_there_are():
    panel = holes_panel()
    encoding = fit_encoding(panel, [range(0, 5)])
    np.testing.assert_allclose(np.ravel(encoding.scaler["x"]), [4.0, np.sqrt(8 / 3)])
    series = make_series(panel, encoding)
    present = ~np.isnan(panel.frame["x"].to_numpy())
    np.testing.assert_array_equal(series.present, [[True] * 7, present])
    np.testing.assert_array_equal(series.observed[1][~present], 0)
    inputs, _ = gather(series, np.array([1, 3], np.int32), 3, 1)
    np.testing.assert_array_equal(inputs.present[1].T, [[True, False, True], [True, True, False]])
    with pytest.raises(UserError, match=r"column 'x': found no value in the train rows, expected some"):
        fit_encoding(panel, [range(0, 1)])


def test_a_series_without_a_value_takes_the_others_scaler():
    days = pd.bdate_range("2004-01-01", periods=3)
    parts = [("a", [1.0, 3.0, 2.0]), ("b", [np.nan] * 3), ("c", [5.0, 9.0, 7.0])]
    y = [0.1, 0.2, 0.4]
    frame = pd.concat([pd.DataFrame({"y": y, "x": values, "id": name}, days) for name, values in parts])
    panel = make_panel(frame, target="y", observed=("y", "x"), static_categorical=("id",), id_column="id")
    scaler = fit_encoding(panel, [range(0, 3), range(3, 6), range(6, 9)]).scaler["x"]
    np.testing.assert_allclose(scaler.center, [2.0, 4.5, 7.0])
    np.testing.assert_allclose(scaler.scale, np.sqrt(2 / 3) * np.array([1.0, 1.5, 2.0]))


def test_weeks_have_the_last_value_that_there_is():
    days = pd.bdate_range("2004-01-05", periods=10)
    x = [1.0, 2.0, 3.0, 4.0, np.nan, 6.0, np.nan, np.nan, np.nan, np.nan]
    frame = pd.DataFrame({"y": [0.1, 0.0, 0.0, 0.0, -0.5, *[0.0] * 5], "x": x}, days)
    weeks, _, _ = resample(frame, pd.DataFrame(index=days), "y", "weekly")
    assert weeks["x"].tolist() == [4.0, 6.0]
    np.testing.assert_allclose(weeks["y"], [1.1 * 0.5 - 1, 0.0])
    with pytest.raises(UserError, match=r"y: found -1.5 on 2004-01-05, expected .*data.return_unit"):
        resample(frame.assign(y=-1.5), pd.DataFrame(index=days), "y", "weekly")


def test_a_panel_with_holes_is_read_as_it_was_written(tmp_path):
    panel = holes_panel()
    write_panel(tmp_path, panel)
    again = read_panel(tmp_path)
    pd.testing.assert_frame_equal(again.frame, panel.frame, check_freq=False)


@pytest.fixture
def path(tmp_path):
    """A table in which x begins late and has a hole; its last row has one too."""
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2004-01-01", periods=97, name="date").strftime("%Y-%m-%d")
    frame = pd.DataFrame({"y": rng.normal(0, 0.01, 97), "x": rng.normal(5, 2, 97)}, days).round(5)
    frame.iloc[[*range(11), 53, 96], 1] = np.nan
    frame.to_csv(tmp_path / "table.csv")
    return tmp_path / "table.csv"


def settings(path, **data):
    content = {"dataset": str(path), "columns": {"target": "y", "observed": ["x"]}, **data}
    model = {"hidden_size": 4, "encoder_length": 7}
    training = {"batch_size": 8, "max_epochs": 2}
    return loading.from_dict({"data": content, "model": model, "train": training}, "test")


def test_missing_values_are_refused_unless_asked_for(path):
    with pytest.raises(UserError, match=r"line 55 .*column 'x': found no value.*set data.missing to 'mask'"):
        load_panel(settings(path).data)
    panel = load_panel(settings(path, missing="mask").data)
    assert len(panel.frame) == 97
    assert panel.messages[-1] == "no value, and masked: x in 13.4% of the rows"


def test_the_target_may_not_be_missing(path):
    text = path.read_text().splitlines()
    text[40] = text[40].split(",")[0] + ",," + text[40].split(",")[2]
    path.write_text("\n".join(text))
    with pytest.raises(UserError, match=r"line 41 .*column 'y': found no value"):
        load_panel(settings(path, missing="mask").data)


def test_the_volatility_of_the_target_may_not_be_missing(path):
    panel = load_panel(settings(path, missing="mask").data)
    with pytest.raises(UserError, match=r"column 'x' has no value in row 0"):
        fit_encoding(panel, [range(0, 60)], "column:x")


@pytest.mark.slow
@pytest.mark.usefixtures("quick_evaluation")
def test_a_run_with_missing_values(path, tmp_path):
    metrics = train.train(settings(path, missing="mask"), tmp_path / "run", quiet=True)
    assert np.isfinite(metrics["test"]["pinball"])
    run = runs.open_run(tmp_path / "run")
    table = predict.predict(run, predict.load_rows(run, str(path), None))
    assert np.isfinite(table.to_numpy()).all()
    stored = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert stored["test"]["pinball"] == metrics["test"]["pinball"]
