"""Windows divided by regime: by hand, by what was known before them, and metrics that add up."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.data.volatility import ewma_volatility
from tftjax.evaluate.metrics import pinball
from tftjax.evaluate.regimes import divisions, regime_metrics
from tftjax.storage import runs

ROWS, E, P = 101, 5, 2
RAW = {
    "model": {
        "encoder_length": E,
        "prediction_length": P,
        "quantiles": [0.1, 0.5, 0.75],
        "attention": {
            "regime": {"by": "thresholds", "column": "x", "num_regimes": 3, "thresholds": [-0.5, 1]}
        },
    }
}


def frame(name=None):
    rng = np.random.default_rng(5 if name is None else len(name))
    values = {
        "y": rng.normal(size=ROWS) * np.exp(np.sin(np.arange(ROWS) / 9)) / 100,
        "x": rng.normal(size=ROWS),
    }
    rows = pd.DataFrame(values, index=pd.bdate_range("2020-01-01", periods=ROWS))
    return rows if name is None else rows.assign(name=name)


def opened(tmp_path, rows=None, raw=None):
    """A run that needs no parameters."""
    if rows is None:
        panel = make_panel(frame(), target="y", observed=("y", "x"))
    else:
        roles = {"observed": ("y", "x"), "static_categorical": ("name",), "id_column": "name"}
        panel = make_panel(rows, target="y", **roles)
    config = from_dict(RAW if raw is None else raw, "x")
    return runs.Run(tmp_path, config, prepare(panel, config), {}, 1)


def test_by_a_column_and_thresholds(tmp_path):
    run = opened(tmp_path)
    last_rows = np.array([20, 33, 47, 90])
    run.data.panel.frame.iloc[last_rows, 1] = [-0.5, -0.4, 1.0, 1.1]
    by_volatility, by_column = divisions(run, last_rows)
    assert by_column.name == "x"
    assert by_column.labels == ("up to -0.5", "-0.5 to 1", "above 1")
    np.testing.assert_array_equal(by_column.regime, [0, 1, 1, 2])
    assert by_volatility.name == "volatility"


def test_by_thirds_of_the_train_windows_volatility(tmp_path):
    run = opened(tmp_path)
    train = run.data.starts["train"] + E - 1
    (division, _) = divisions(run, train)
    assert division.labels == ("calm", "middle", "stormy")
    np.testing.assert_allclose(np.bincount(division.regime), len(train) / 3, atol=1)
    volatility = ewma_volatility(frame()["y"].to_numpy())[train]
    assert volatility[division.regime == 0].max() < volatility[division.regime == 1].min()
    assert volatility[division.regime == 1].max() < volatility[division.regime == 2].min()


def test_what_is_forecast_does_not_tell_the_regime(tmp_path):
    run = opened(tmp_path)
    starts = run.data.starts["test"]
    last_rows = starts + E - 1
    before = divisions(run, last_rows[:1])
    changed = run.data.panel.frame.copy()
    changed.iloc[last_rows[0] + 1 :] *= 50
    data = dataclasses.replace(run.data, panel=dataclasses.replace(run.data.panel, frame=changed))
    after = divisions(dataclasses.replace(run, data=data), last_rows[:1])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.regime, other.regime)


def test_each_series_has_thirds_of_its_own(tmp_path):
    wild = frame("wilder")
    wild["y"] *= 20
    rows = pd.concat([frame("mild"), wild])
    raw = {"model": {**RAW["model"], "attention": {}}}
    run = opened(tmp_path, rows, raw)
    train = run.data.starts["train"] + E - 1
    (division,) = divisions(run, train)
    for block in run.data.blocks:
        own = division.regime[(train >= block.rows.start) & (train < block.rows.stop)]
        np.testing.assert_allclose(np.bincount(own), len(own) / 3, atol=1)


def test_metrics_of_the_parts_add_up_to_the_whole(tmp_path):
    run = opened(tmp_path)
    rows = run.data.starts["val"][:, None] + E + np.arange(P)
    returns = run.data.panel.frame["y"].to_numpy()
    rng = np.random.default_rng(0)
    levels = run.config.model.quantiles
    forecasts = {name: np.sort(rng.normal(size=(*rows.shape, 3))) / 100 for name in ("model", "flat")}
    found = regime_metrics(run, rows, forecasts)
    assert list(found) == ["volatility", "x"]
    for parts in found.values():
        counts = [part["windows"] for part in parts.values()]
        assert sum(counts) == len(rows)
        for name in forecasts:
            of = [
                part if name == "model" else part["baselines"]["flat"]
                for part in parts.values()
                if len(part) > 1
            ]
            mean = np.average([part["pinball"] for part in of], weights=[c for c in counts if c])
            assert mean == pytest.approx(pinball(forecasts[name], returns[rows], levels))


def test_an_empty_regime_has_no_metrics(tmp_path):
    run = opened(tmp_path)
    rows = run.data.starts["val"][:1, None] + E + np.arange(P)
    found = regime_metrics(run, rows, {"model": np.zeros((1, P, 3))})
    parts = found["volatility"].values()
    assert sorted(part["windows"] for part in parts) == [0, 0, 1]
    assert all(part == {"windows": 0} for part in parts if not part["windows"])
