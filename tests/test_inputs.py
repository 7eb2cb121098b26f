"""A run with every kind of input: it trains, and forecasts what is new, short, unseen or unknown."""

import numpy as np
import pandas as pd
import pytest
from tiny import few_baselines

import tftjax
from tftjax import predict
from tftjax.config.loading import from_dict
from tftjax.errors import UserError
from tftjax.predict.export import forecast as loader
from tftjax.predict.export.folder import export
from tftjax.storage import runs
from tftjax.train import run as train

ROWS, E, FEWEST = 149, 7, 3
DAYS = pd.bdate_range("2001-01-01", periods=ROWS)
RATES = {"static_dropout": 0.3, "category_dropout": 0.1, "short_windows": 0.3, "known_dropout": 0.2}


def table_of(*names, rows=ROWS):
    parts = []
    for name in names:
        rng = np.random.default_rng(ord(name))
        part = {"date": DAYS, "stock": name, "ret": rng.normal(0, 0.01, ROWS), "vix": rng.normal(20, 3, ROWS)}
        part |= {"rating": rng.choice(["A", "B"], ROWS), "size": rng.normal(size=ROWS)}
        parts.append(pd.DataFrame(part)[ROWS - rows :])
    return pd.concat(parts, ignore_index=True)


def config_of(path):
    columns = {"id": "stock", "target": "ret", "observed": ["vix"], "observed_categorical": ["rating"]}
    columns |= {"known_real": ["size", "lag_1", "lag_2_of_vix", "relative_index"]}
    data = {"dataset": str(path), "columns": columns, "missing_known": "mask"}
    model = {"hidden_size": 4, "encoder_length": E, "min_encoder_length": FEWEST, "prediction_length": 2}
    training = {"batch_size": 32, "max_epochs": 1, **RATES}
    return from_dict({"data": data, "model": model, "train": training}, "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    # The last series begins with the test rows.
    pd.concat([table_of(*"ab"), table_of("c", rows=21)]).to_csv(folder / "table.csv", index=False)
    with few_baselines():
        train.train(config_of(folder / "table.csv"), folder / "run", quiet=True)
    return runs.open_run(folder / "run")


def forecast(run, rows):
    return predict.predict(run, predict.load_rows(run, rows, None))


def test_it_learns_from_windows_that_are_not_whole(run):
    starts = run.data.starts
    assert (starts["train"] < 0).sum() == E - FEWEST
    assert np.isfinite(tftjax.load(run.directory).metrics["pinball"]).all()
    importance = tftjax.load(run.directory).importance()
    names = importance.xs("encoder", level="kind").index.get_level_values("variable").unique()
    assert set(names) == {"ret", "vix", "rating", "size", "lag_1", "lag_2_of_vix", "relative_index"}


def test_the_forecast_of_a_short_series_is_that_of_its_last_rows(run, caplog):
    """Of a new listing: two rows go into lags, the fewest that a window needs stay."""
    short = table_of("d", rows=FEWEST + 2)
    alone = forecast(run, short)
    assert "1 series were not in training" in caplog.text
    assert np.isfinite(alone.iloc[:, 1:].to_numpy(float)).all()
    beside = forecast(run, pd.concat([table_of("a"), short]))
    levels = list(alone.columns[1:])
    np.testing.assert_allclose(beside.query("series == 'd'")[levels], alone[levels], atol=1e-6)
    longer = forecast(run, table_of("d", rows=E + 2))
    assert np.abs(longer[levels].to_numpy() - alone[levels].to_numpy()).max() > 1e-6
    with pytest.raises(UserError, match=r"found 2 rows .* at least 3 rows of the past \(model\.min_enc"):
        forecast(run, table_of("d", rows=FEWEST + 1))


def test_what_is_unknown_is_said(run, caplog):
    rows = table_of("a")
    rows.loc[ROWS - 2, "rating"] = "C"
    found = forecast(run, rows)
    assert "categories that were not in training count as unknown: C (rating of a)" in caplog.text
    assert "known columns without a value in the steps ahead count as unknown: size" in caplog.text
    assert np.abs(found.iloc[:, 1:] - forecast(run, table_of("a")).iloc[:, 1:]).to_numpy(float).max() > 0
    ahead = pd.DataFrame({"date": pd.bdate_range(DAYS[-1], periods=3)[1:], "stock": "a", "size": [1.0, -1.0]})
    caplog.clear()
    given = predict.forecast_seeds([run], predict.load_rows(run, rows, None, ahead))
    assert "known columns" not in caplog.text
    assert np.abs(found.iloc[:, 1:] - given.iloc[:, 1:]).to_numpy(float).max() > 0


def test_its_export_forecasts_the_same(run, tmp_path):
    """Of a new category, a known number that is missing ahead, and a short series that is unseen."""
    pytest.importorskip("flatbuffers")
    rows = pd.concat([table_of("a"), table_of("d", rows=FEWEST + 2)], ignore_index=True)
    rows.loc[ROWS - 2, "rating"] = "C"
    expected = forecast(run, rows)
    model = loader.load(export([run], tmp_path / "model"))
    ahead = {"date": expected.index, "stock": expected["series"], "size": [None] * len(expected)}
    with pytest.warns(UserWarning, match="counts as unknown") as warned:
        found = pd.DataFrame(model(rows, ahead))
    assert [str(one.message) for one in warned] == [
        "a: rating C not in A, B: counts as unknown",
        "d: stock d not in a, b: counts as unknown",
    ]
    assert found["series"].tolist() == expected["series"].tolist() == ["a", "a", "d", "d"]
    levels = list(expected.columns[1:])
    np.testing.assert_allclose(found[levels], expected[levels], rtol=0, atol=1e-6)
