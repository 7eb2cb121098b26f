"""Weights of rows by a column: resumed, side by side, in a final fit, in each fold, in a panel."""

from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
from tiny import assert_same_arrays, begin_run, metric_lines

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel
from tftjax.data.prepared import prepare
from tftjax.storage import checkpoint
from tftjax.sweep.plan import make_plan
from tftjax.sweep.run import load_data
from tftjax.train import engine, run
from tftjax.train.engine import MembersEngine, Training, data_shapes
from tftjax.train.step import init_state
from tftjax.walkforward.plan import folds, with_folds

ROWS, E, P = 211, 5, 2


def frame(**columns):
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2020-01-01", periods=ROWS, name="date")
    weights = np.where(np.arange(ROWS) % 7 < 3, 9.0, 0.25)
    return pd.DataFrame({"y": 0.01 * rng.normal(size=ROWS), "w": weights, **columns}, days)


def config_of(weight="w", dataset="frame", **sections):
    columns = {"target": "y", "weight": weight} | sections.pop("columns", {})
    model = {"hidden_size": 4, "encoder_length": E, "prediction_length": P, "quantiles": [0.25, 0.5]}
    train = {"batch_size": 16, "max_epochs": 3, "learning_rate": 0.01}
    data = {"dataset": str(dataset), "columns": columns} | sections
    return from_dict({"data": data, "model": model, "train": train}, "weighed")


def expected(data):
    """The weights of the train windows: means of their target rows' column, then in units of their mean."""
    targets = data.starts["train"][:, None] + E + np.arange(P)
    means = data.panel.frame["w"].to_numpy()[targets].mean(axis=1)
    return means / means.mean()


def assert_weighs(data):
    assert len(np.unique(expected(data))) > 2
    found = np.asarray(data.series.weight)[data.starts["train"] + E]
    np.testing.assert_allclose(found, expected(data), rtol=1e-6)


@pytest.fixture(scope="module")
def whole():
    config = config_of()
    return SimpleNamespace(config=config, data=prepare(load_panel(config.data, frame()), config))


@pytest.fixture(scope="module")
def fitted(whole, tmp_path_factory):
    """A run of three epochs, without evaluation, never interrupted."""
    directory = tmp_path_factory.mktemp("fitted") / "weighed"
    begin_run(directory, whole.config, whole.data.whole)
    run.fit(whole.config, whole.data, directory, quiet=True)
    return directory


def test_a_resumed_run_ends_in_the_same_bits(whole, fitted, tmp_path, monkeypatch):
    """What goes on has the weights of the panel that the run has kept."""
    directory, epoch, calls = tmp_path / "weighed", engine.BatchEngine.epoch, []

    def killed(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(self, *arguments)

    monkeypatch.setattr(engine.BatchEngine, "epoch", killed)
    begin_run(directory, whole.config, whole.data.whole)
    with pytest.raises(KeyboardInterrupt):
        run.fit(whole.config, whole.data, directory, quiet=True)
    again = prepare(read_panel(directory), whole.config)
    assert_weighs(again)
    run.fit(whole.config, again, directory, quiet=True)
    saved = [checkpoint.restore_latest(path / "checkpoints") for path in (fitted, directory)]
    assert [one.epoch for one in saved] == [3, 3]
    assert_same_arrays(saved[0].arrays, saved[1].arrays)
    assert metric_lines(fitted) == metric_lines(directory)


def test_members_that_are_vectorised_are_single_runs(whole, fitted, tmp_path):
    """Of two members one has the same weights in another data set; without weights the loss is another."""
    other = frame()
    other["w"] = 3.0 * other["w"]
    tripled = prepare(load_panel(whole.config.data, other), whole.config)
    datasets = [whole.data, tripled]
    trainings = [Training(f"m{i}", whole.config, data, tmp_path) for i, data in enumerate(datasets)]
    members = MembersEngine(trainings)
    members.vectorised = True
    members.prepare(2)
    values = jax.tree.map(np.float32, hyperparameters(whole.config))
    states = [init_state(members.program, values, whole.config.train.seed)] * 2
    losses = []
    for _ in range(3):
        results = members.epoch(states, [values] * 2, [0, 1])
        states = [state for state, _ in results]
        losses.append([float(metrics["loss"]) for _, metrics in results])
    single = [line["loss"] for line in metric_lines(fitted)]
    np.testing.assert_allclose(losses, np.transpose([single] * 2), rtol=1e-4)


def test_a_program_without_weights_is_another(whole):
    plain = config_of(None)
    without = prepare(load_panel(plain.data, frame()), plain)
    assert data_shapes(without) != data_shapes(whole.data)


def test_a_final_fit_weighs_all_rows(whole):
    config = config_of(final_fit=True)
    data = prepare(whole.data.whole, config)
    assert len(data.starts["train"]) == ROWS - E - P + 1
    assert_weighs(data)


def test_every_fold_weighs_its_own_train_rows(whole):
    dates = folds("2020-06", "2020-09", train_months=4, val_months=1, test_months=2)
    members = with_folds(make_plan([whole.config]), dates)
    data = load_data(members, mixed_data=False, panel=whole.data.whole)
    assert len(data) == 2
    for one in data.values():
        assert_weighs(one)


def test_a_panel_weighs_over_all_its_series(tmp_path):
    """And so does one in a Parquet file, whose shorter series are left out."""
    series = [frame(id=name).iloc[first:] for name, first in (("b", 0), ("a", 40), ("short", ROWS - 3))]
    for place, one in enumerate(series):
        one["w"] *= 1 + 3 * place
    table = pd.concat(series)
    config = config_of(columns={"id": "id"})
    data = prepare(load_panel(config.data, table), config)
    assert_weighs(data)
    assert [block.name for block in data.blocks] == ["a", "b"]
    table.to_parquet(tmp_path / "t.parquet")
    config = config_of(columns={"id": "id"}, dataset=tmp_path / "t.parquet")
    stored = prepare(load_panel(config.data), config)
    np.testing.assert_array_equal(stored.series.weight, data.series.weight)
