"""A run with series held out: what it is judged on, its forecasts of unknown series, and what it refuses."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from pages import Reader
from tiny import without_training

import tftjax
from tftjax import predict
from tftjax.config.loading import from_dict
from tftjax.errors import UserError
from tftjax.evaluate.baselines import BASELINES, Task
from tftjax.evaluate.scoring import baseline_forecasts, divisions, target_rows
from tftjax.predict import score
from tftjax.storage import runs
from tftjax.train import run as train

ROWS = 307
DAYS = pd.bdate_range("2001-01-01", periods=ROWS)
SECTORS = {"a": "oil", "b": "food", "c": "oil", "d": "food"}


def rows_of(name, sector=None, rows=ROWS):
    rng = np.random.default_rng(ord(name))
    sigma = 0.01 * np.exp(0.5 * np.sin(np.arange(ROWS) / 23))
    frame = pd.DataFrame({"date": DAYS, "stock": name, "ret": (sigma * rng.normal(size=ROWS)).round(6)})
    return frame.assign(sector=sector or SECTORS[name])[ROWS - rows :]


def table_of(*names, **changes):
    return pd.concat([rows_of(name, **changes) for name in names], ignore_index=True)


def config_of(path, dropout=0.5, **data):
    columns = {"id": "stock", "target": "ret", "static_categorical": ["sector"]}
    content = {"data": {"dataset": str(path), "columns": columns, "target_scale": "pooled_log_scale", **data}}
    content["model"] = {"hidden_size": 4, "encoder_length": 5, "quantile_head": "correction"}
    content["train"] = {"batch_size": 64, "max_epochs": 1, "static_dropout": dropout}
    return from_dict(content, "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on a, b and d; c is held out for the test."""
    folder = tmp_path_factory.mktemp("unseen")
    table_of(*"abcd").to_csv(folder / "table.csv", index=False)
    with without_training("gjr_garch"):
        train.train(config_of(folder / "table.csv", unseen=["c"]), folder / "run", quiet=True)
    return runs.open_run(folder / "run")


def forecast(run, data=None, as_of=None):
    return predict.predict(run, predict.load_rows(run, data, as_of))


def with_settings(run, *, dropout=0.5, scale=None):
    """The run as if it had been trained with other settings."""
    train_config = run.config.train.model_copy(update={"static_dropout": dropout})
    encoding = run.data.encoding
    encoding = encoding if scale is None else encoding._replace(target_scale=scale)
    data = dataclasses.replace(run.data, encoding=encoding)
    return dataclasses.replace(run, config=run.config.model_copy(update={"train": train_config}), data=data)


def test_the_test_rows_are_of_the_unseen_series(run):
    evaluation = run.directory / "evaluation"
    by_series = pd.read_csv(evaluation / "by_series.csv")
    assert by_series.groupby("split")["series"].agg(list).to_dict() == {"test": ["c"], "val": ["a", "b", "d"]}
    rows = target_rows(run, "test")[:, 0]
    assert run.data.panel.frame["stock"].iloc[rows].unique().tolist() == ["c"]
    metrics = tftjax.load(run.directory).metrics
    np.testing.assert_allclose(
        by_series.query("split == 'test'")["model"], metrics.loc[("test", "model"), "pinball"]
    )


def test_the_page_of_a_run_with_unseen_series(run):
    page = Reader(tftjax.load(run.directory).report().read_text(encoding="utf-8"))
    loss = pd.read_csv(run.directory / "evaluation" / "by_series.csv").query("split == 'test'")["model"]
    *_, row = (row for row in page.rows if row[0] == "c")  # after those of the next steps
    assert row[1] == f"{1e3 * loss.item():.4f}"
    assert tftjax.load(run.directory).importance().index.get_level_values("kind").nunique() > 1


def test_baselines_learn_from_the_earlier_rows_of_the_unseen_series(run):
    block = next(block for block in run.data.blocks if block.name == "c")
    first = block.rows.start
    returns = rows_of("c")["ret"].to_numpy()
    earlier = range(block.earlier.start - first, block.earlier.stop - first)
    assert earlier == range(int(0.7 * ROWS))
    rows = target_rows(run, "test") - first
    task = Task(returns, {}, earlier, rows, run.config.model.quantiles, DAYS, None)
    for name in ("unconditional", "gjr_garch"):
        np.testing.assert_array_equal(baseline_forecasts(run, name)["test"], BASELINES[name](task))


def test_regimes_of_an_unseen_series_are_by_its_earlier_rows(run):
    rows = target_rows(run, "test")[:, 0] - 1
    (division,) = divisions(run, rows)
    variance = pd.Series(rows_of("c")["ret"].to_numpy() ** 2).ewm(alpha=0.06).mean().to_numpy()
    before = variance[4 : int(0.7 * ROWS) - 1]  # last encoder rows of windows whose targets are earlier ones
    first = next(block for block in run.data.blocks if block.name == "c").rows.start
    bounds = np.quantile(np.sqrt(before), (1 / 3, 2 / 3))
    expected = (np.sqrt(variance)[rows - first, None] > bounds).sum(axis=1)
    np.testing.assert_array_equal(division.regime, expected)


def test_the_forecast_of_an_unseen_series_is_the_evaluation_s(run, caplog):
    """From its rows alone, or beside others; once, the series is named."""
    evaluated = pd.read_csv(run.directory / "evaluation" / "predictions.csv", index_col="date")
    levels = [f"{level:g}" for level in run.config.model.quantiles]
    expected = np.sort(evaluated[evaluated["series"] == "c"].loc[str(DAYS[290].date()), levels].astype(float))
    for names in ("c", "ac"):
        caplog.clear()
        found = forecast(run, table_of(*names), DAYS[289].date())
        np.testing.assert_allclose(found[found["series"] == "c"][levels].iloc[0], expected, atol=1e-6)
        assert sum("1 series were not in training" in line for line in caplog.messages) == 1
    assert found["series"].tolist() == ["a", "c"]


def test_a_series_of_which_nothing_is_known(run, caplog, tmp_path):
    rows = rows_of("c").assign(stock="new")
    table = forecast(run, rows)
    assert table["series"].tolist() == ["new"]
    assert "1 series were not in training, forecast as unseen: new" in caplog.text
    levels = [f"{level:g}" for level in run.config.model.quantiles]
    pd.testing.assert_frame_equal(table[levels], forecast(run, rows.assign(stock="c"))[levels])
    # By the name that Python users take, from a file.
    rows.to_csv(tmp_path / "new.csv", index=False)
    by_name = tftjax.load(run.directory).predict(tmp_path / "new.csv")
    pd.testing.assert_frame_equal(by_name, table)
    caplog.clear()
    forecast(run, rows.assign(sector="shoes"))
    assert (
        "static categories that were not in training count as unknown: shoes (sector of new)" in caplog.text
    )


def test_a_short_history_is_refused_or_left_out(run, caplog):
    short = rows_of("c", rows=74).assign(stock="new")
    with pytest.raises(UserError, match=r"found 74 rows to .*'pooled_log_scale': expected at least 75 rows"):
        forecast(run, short)
    assert forecast(run, pd.concat([rows_of("a"), short]))["series"].tolist() == ["a"]
    assert "left out 1 series with fewer than 75 rows: new" in caplog.text
    assert len(forecast(run, rows_of("c", rows=75).assign(stock="new"))) == 1


def test_a_missing_column_is_refused(run):
    with pytest.raises(UserError, match="sector"):
        forecast(run, rows_of("c").drop(columns="sector"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"dropout": 0.0}, r"the embedding of an unknown id is not trained \(train\.static_dropout is 0\)"),
        ({"scale": "gjr"}, r"data\.target_scale 'gjr' is fitted to each series"),
    ],
)
def test_a_run_that_cannot_forecast_unseen_series_says_why(run, settings, reason, caplog):
    other = with_settings(run, **settings)
    panel = predict.load_rows(run, table_of("a", "c"), None)
    kept = predict.forecastable(other, panel)
    assert kept.frame["stock"].unique().tolist() == ["a"]
    assert "left out 1 series that the run was not trained on: c" in caplog.text
    with pytest.raises(UserError, match=rf"found the series c, and none .*\(a, b, d\), .*others: {reason}"):
        predict.forecastable(other, predict.load_rows(run, table_of("c"), None))


def test_an_unknown_category_of_a_known_series_is_refused_where_it_is_not_trained(run):
    panel = predict.load_rows(run, rows_of("a", sector="shoes"), None)
    with pytest.raises(UserError, match="series 'a', static column 'sector': found 'shoes', which no train"):
        predict.forecastable(with_settings(run, dropout=0.0), panel)


def test_without_a_scale_it_is_said_what_the_spread_is(run, caplog):
    predict.forecastable(with_settings(run, scale="none"), predict.load_rows(run, table_of("c"), None))
    assert "forecast as unseen, with the spread of the median series (data.target_scale is 'none'): c" in (
        caplog.text
    )


def test_logged_forecasts_of_an_unseen_series_are_scored(run):
    """Beside the quantiles of all train rows, as there are none of the series."""
    panel = predict.load_rows(run, table_of("a", "c"), None)
    levels = [f"{level:g}" for level in run.config.model.quantiles]
    logged = pd.DataFrame({"as_of": [DAYS[299]] * 2, "date": [DAYS[300]] * 2, "series": ["a", "c"]})
    logged = logged.assign(made=DAYS[299], **dict.fromkeys(levels, 0.0))
    found = score.score([run], logged, panel)
    train_rows = {name: rows_of(name)["ret"].to_numpy()[: int(0.7 * ROWS)] for name in "abd"}
    of_all = np.concatenate([*train_rows.values()])
    expected = [np.quantile(values, run.config.model.quantiles) for values in (train_rows["a"], of_all)]
    np.testing.assert_allclose(found.baseline[:, 0], expected)
    np.testing.assert_allclose(found.rows["actual"], [rows_of(name)["ret"].iloc[300] for name in "ac"])
