"""Panels of several series: each keeps to its own rows, scalers and baselines."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Reader
from tiny import begin_run

from tftjax import predict
from tftjax.config import loading
from tftjax.config.data import DataConfig
from tftjax.config.functions import Functions
from tftjax.data.checks import check_series_units
from tftjax.data.encoding import encoding_from_json, encoding_to_json, fit_encoding
from tftjax.data.loading import load_panel
from tftjax.data.panel import blocks, join_series, make_panel, read_panel, split_series, write_panel
from tftjax.data.prepared import prepare
from tftjax.data.raw import cells
from tftjax.data.splits import Block, Splits, make_blocks, starts_of
from tftjax.data.windows import gather, make_series
from tftjax.errors import UserError
from tftjax.evaluate.baselines import BASELINES, POOLED, Task
from tftjax.evaluate.calibration.calibrated import Calibration, calibrate, outcomes_of
from tftjax.evaluate.scoring import baseline_forecasts, score_baselines, split_windows, target_rows
from tftjax.files import write_json
from tftjax.report.__main__ import main as report_main
from tftjax.storage import runs
from tftjax.train import run as train

pytestmark = pytest.mark.usefixtures("quick_evaluation")

COLUMNS = {"date": "day", "id": "index", "target": "ret", "observed": ["x"], "known_categorical": ["month"]}
LENGTHS = {"A": 47, "B": 61, "C": 5}  # C is too short for a window


def rows_of(name, length, last="2004-03-31"):
    days = pd.bdate_range(end=last, periods=length)
    rng = np.random.default_rng(ord(name))
    frame = pd.DataFrame({"day": days.strftime("%Y-%m-%d"), "index": name})
    frame["ret"] = (rng.normal(0, 0.01, length) * (1 + (name == "B"))).round(6)
    frame["x"] = rng.normal(5, 2, length).round(3)
    return frame


def make_table():
    """Three series, their rows sorted by date, as most vendors sort them."""
    frame = pd.concat([rows_of(name, length) for name, length in LENGTHS.items()])
    return frame.sort_values(["day", "index"], ignore_index=True)


@pytest.fixture
def table():
    return make_table()


def settings(path, **data):
    content = {"data": {"dataset": str(path), "columns": COLUMNS, **data}}
    content["model"] = {"hidden_size": 4, "encoder_length": 7, "prediction_length": 2}
    content["train"] = {"batch_size": 8, "max_epochs": 2}
    return loading.from_dict({"name": "several", **content}, "test")


@pytest.fixture
def path(table, tmp_path):
    table.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.fixture(scope="module")
def several(quick_evaluation, tmp_path_factory):
    """The directory of a run on the table."""
    folder = tmp_path_factory.mktemp("several")
    make_table().to_csv(folder / "table.csv", index=False)
    train.train(settings(folder / "table.csv"), folder / "several", quiet=True)
    return folder / "several"


def test_rows_are_put_series_after_series(path, table):
    panel = load_panel(settings(path).data)
    assert panel.id_column == "index"
    assert panel.static_categorical == ("index",)
    assert blocks(panel.frame, "index") == (
        ("A", range(0, 47)),
        ("B", range(47, 108)),
        ("C", range(108, 113)),
    )
    for part, name in zip(split_series(panel), LENGTHS, strict=True):
        rows_of_name = table[table["index"] == name]
        np.testing.assert_array_equal(part.frame["ret"], rows_of_name["ret"])
        assert part.frame.index.strftime("%Y-%m-%d").tolist() == rows_of_name["day"].tolist()
    joined = join_series(split_series(panel))
    assert joined.fingerprint == panel.fingerprint


def test_a_date_twice_in_a_series_names_series_and_line(path, table):
    table.loc[20] = table.loc[18]
    table.to_csv(path, index=False)
    message = (
        rf"table.csv, line 22, column 'day': found {table.day[18]} (a second time|after \S+) in the series"
    )
    with pytest.raises(UserError, match=message):
        load_panel(settings(path).data)


def test_a_date_ahead_names_the_line(path, table):
    table.loc[len(table)] = ["2999-01-01", "A", 0.01, 5.0]
    table.to_csv(path, index=False)
    with pytest.raises(
        UserError, match=rf"line {len(table) + 1}, column 'day': found 2999-01-01, expected a"
    ):
        load_panel(settings(path).data)


def test_a_hole_names_series_and_line(path, table):
    row = table.index[(table["index"] == "B") & (table.index > 60)][0]
    table.loc[row, "x"] = np.nan
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match=rf"series 'B', line {row + 2} .*column 'x': found no value"):
        load_panel(settings(path).data)


def test_rows_of_a_series_in_two_places_are_refused():
    frame = pd.DataFrame(
        {"y": [0.1, 0.2, 0.3], "id": ["a", "b", "a"]}, pd.bdate_range("2004-01-01", periods=3)
    )
    with pytest.raises(UserError, match="rows of one id in several places"):
        make_panel(frame, target="y", observed=("y",), static_categorical=("id",), id_column="id")


def panel_of(**series):
    """A panel with the columns y and id, from the returns of each series by day."""
    frame = pd.concat([pd.DataFrame({"y": values, "id": name}) for name, values in series.items()])
    return make_panel(frame, target="y", observed=("y",), static_categorical=("id",), id_column="id")


def returns(days):
    return pd.Series(np.random.default_rng(len(days)).normal(0, 0.01, len(days)), days)


def test_splits_fall_on_the_same_dates():
    days = pd.bdate_range("2004-01-01", periods=20)
    panel = panel_of(a=returns(days), b=returns(days[8:]), c=returns(days[15:]))
    # The calendar has 20 days: validation begins with day 10, test with day 15.
    half = DataConfig(split=(0.5, 0.25, 0.25))
    b_of_two = Block("b", range(20, 32), Splits(range(20, 22), range(22, 27), range(27, 32)))
    kept, series = make_blocks(panel, half, 1, 1)
    assert series == (
        Block("a", range(0, 20), Splits(range(0, 10), range(10, 15), range(15, 20))),
        b_of_two,
    )
    assert kept.messages[-1] == "left out 1 of 3 series, which have no train window of 1 + 1 rows: c"
    assert starts_of(series, "train", 1, 1).tolist() == [*range(0, 9), 20]
    assert starts_of(series, "val", 1, 1).tolist() == [*range(9, 14), *range(21, 26)]
    kept, series = make_blocks(panel, half, 2, 1)  # b has two train rows, a window three
    assert kept.messages[-1].endswith("2 + 1 rows: b, c")
    assert kept.frame["id"].tolist() == ["a"] * 20
    with pytest.raises(UserError, match=r"found no train window of 11 encoder rows .* in any of 3 series"):
        make_blocks(panel, half, 11, 1)


def test_blocks_are_counted_over_the_series_that_stay():
    days = pd.bdate_range("2004-01-01", periods=20)
    panel = panel_of(a=returns(days[15:]), b=returns(days[8:]), c=returns(days))
    kept, series = make_blocks(panel, DataConfig(split=(0.5, 0.25, 0.25)), 1, 1)
    assert [block.name for block in series] == ["b", "c"]
    assert series[0] == Block("b", range(0, 12), Splits(range(0, 2), range(2, 7), range(7, 12)))
    assert series[1] == Block("c", range(12, 32), Splits(range(12, 22), range(22, 27), range(27, 32)))
    assert len(kept.frame) == 32


def test_a_run_is_opened_with_the_splits_that_it_was_trained_with(path, table, tmp_path):
    # C, which is left out, has days of its own: without them fractions would fall on other dates.
    of_c = pd.DataFrame({"day": pd.date_range("2004-03-06", periods=20).strftime("%Y-%m-%d"), "index": "C"})
    pd.concat([table[table["index"] != "C"], of_c.assign(ret=0.01, x=1.0)]).to_csv(path, index=False)
    config = settings(path, split=[0.5, 0.2, 0.3])
    data = prepare(load_panel(config.data), config)
    assert [block.name for block in data.blocks] == ["A", "B"]
    begin_run(tmp_path / "run", config, data.whole)
    again = prepare(read_panel(tmp_path / "run"), config)
    assert again.blocks == data.blocks
    begin_run(tmp_path / "run", config, data.whole, resume=True)


def test_windows_that_only_left_out_series_have_do_not_count():
    days = pd.bdate_range("2004-01-01", periods=40)
    panel = panel_of(a=returns(days[:20]), b=returns(days[20:]))
    with pytest.raises(UserError, match=r"data\.split: found 0 test rows at most in each of 1 series"):
        make_blocks(panel, DataConfig(split=(0.4, 0.1, 0.5)), 2, 1)


def test_a_series_that_never_moves_is_left_out():
    days = pd.bdate_range("2004-01-01", periods=20)
    panel = panel_of(a=returns(days), b=pd.Series(0.0, days))
    kept, series = make_blocks(panel, DataConfig(), 2, 1)
    assert [block.name for block in series] == ["a"]
    assert kept.messages[-1] == "left out 1 of 2 series, whose target never moves in the train rows: b"


def test_one_series_in_percent_is_found():
    returns = {"a": np.array([0.01, -0.01]), "b": np.array([1.0, -1.0]), "c": np.array([0.02, -0.01])}
    with pytest.raises(
        UserError, match="series 'b': the train target's standard deviation is 1, that of the"
    ):
        check_series_units(returns)
    check_series_units({name: returns[name] for name in "ac"})


def test_a_week_is_in_one_split_whatever_its_last_trading_day():
    fridays = pd.bdate_range("2004-01-02", periods=20, freq="W-FRI")
    for mix in (fridays, fridays - pd.Timedelta(days=1)):
        panel = panel_of(a=returns(fridays), b=returns(mix))
        panel = dataclasses.replace(panel, about={"frequency": "weekly"})
        _, series = make_blocks(panel, DataConfig(split=(0.5, 0.25, 0.25)), 2, 1)
        assert [len(part) for block in series for part in block.splits] == [10, 5, 5] * 2


def test_a_stretch_without_trading_does_not_spoil_the_scaler():
    moving = returns(pd.bdate_range("2004-01-01", periods=211))
    still = moving.copy()
    still.iloc[:100] = 0.0
    panel = panel_of(a=moving, b=still)
    encoding = fit_encoding(panel, [range(0, 150), range(211, 361)], "ewma")
    assert (encoding.scaler["y"].scale < 2).all()


def test_the_volatility_of_a_series_is_its_own():
    panel = two_series()
    encoding = fit_encoding(panel, [range(0, 7), range(7, 12)], "ewma")
    series = make_series(panel, encoding)
    volatility = np.sqrt(pd.Series((np.arange(5) / 50) ** 2).ewm(alpha=0.06, adjust=True).mean().to_numpy())
    np.testing.assert_allclose(series.volatility[8:], volatility[1:], rtol=1e-6)
    scaled = (np.arange(5) / 50)[2:] / volatility[1:4]  # the first rows have no volatility before them
    np.testing.assert_allclose(encoding.scaler["y"].scale[1], scaled.std(), rtol=1e-6)
    np.testing.assert_allclose(series.observed[0, 7:], np.arange(5) / 50 / scaled.std(), rtol=1e-5)
    inputs, _ = gather(series, np.array([8], np.int32), 2, 1)
    np.testing.assert_allclose(inputs.scale, volatility[2] * scaled.std(), rtol=1e-5)
    np.testing.assert_allclose(inputs.center, volatility[2] * scaled.mean(), rtol=1e-5)


def test_a_large_table_is_read_in_parts(path, monkeypatch, table):
    whole = load_panel(settings(path).data)
    monkeypatch.setattr(cells, "ROWS_A_PART", 23)
    assert load_panel(settings(path).data).fingerprint == whole.fingerprint
    table.astype({"ret": object}).replace({"ret": {table.ret[70]: "oops"}}).to_csv(path, index=False)
    with pytest.raises(UserError, match="line 72, column 'ret': found the text 'oops'"):
        load_panel(settings(path).data)


def panel_of_two(frame):
    roles = {"static_real": ("size",), "static_categorical": ("id",), "id_column": "id"}
    return make_panel(frame, target="y", observed=("y", "x"), **roles)


def two_series():
    days = pd.bdate_range("2004-01-01", periods=7)
    first = pd.DataFrame({"y": np.arange(7) / 100, "x": 1.0 + np.arange(7), "size": 3.0, "id": "a"}, days)
    second = pd.DataFrame({"y": np.arange(5) / 50, "x": 50.0, "size": 5.0, "id": "b"}, days[2:])
    return panel_of_two(pd.concat([first, second]))


def test_scalers_are_those_of_each_series():
    encoding = fit_encoding(two_series(), [range(0, 3), range(7, 9)])
    assert encoding.series == ("a", "b")
    np.testing.assert_allclose(encoding.scaler["y"].center, [0.01, 0.01])
    np.testing.assert_allclose(encoding.scaler["y"].scale, [0.01 * np.sqrt(2 / 3), 0.01])
    np.testing.assert_allclose(encoding.scaler["x"].center, [2.0, 50.0])
    np.testing.assert_allclose(encoding.scaler["x"].scale, [np.sqrt(2 / 3), 1.0])  # constant in b
    np.testing.assert_allclose(encoding.scaler["size"], [[4.0, 4.0], [1.0, 1.0]])  # over the series
    assert encoding.categories == {"id": ["a", "b"]}
    stored = json.loads(json.dumps(encoding_to_json(encoding)))
    assert encoding_to_json(encoding_from_json(stored)) == stored


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_a_window_carries_its_series(wrap):
    panel = two_series()
    series = make_series(panel, fit_encoding(panel, [range(0, 3), range(7, 9)]))
    call = wrap(partial(gather, encoder_length=2, prediction_length=1))
    inputs, target = call(jax.tree.map(jnp.asarray, series), jnp.array([8, 1], jnp.int32))
    np.testing.assert_allclose(target, [[0.06], [0.03]], rtol=1e-6)
    np.testing.assert_array_equal(inputs.static_categorical, [[2, 1]])
    np.testing.assert_allclose(inputs.static_real, [[1.0, -1.0]])
    np.testing.assert_allclose(inputs.center, [0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(inputs.scale, [0.01, 0.01 * np.sqrt(2 / 3)], rtol=1e-6)
    np.testing.assert_allclose(inputs.observed[0, :, 0], [1.0, 3.0], rtol=1e-5)  # (0.02 - 0.01) / 0.01, ...


def test_prediction_with_some_of_the_series_finds_their_scalers():
    panel = two_series()
    encoding = fit_encoding(panel, [range(0, 3), range(7, 9)])
    whole, alone = make_series(panel, encoding), make_series(split_series(panel)[1], encoding)
    np.testing.assert_array_equal(alone.observed, whole.observed[:, 7:])
    np.testing.assert_array_equal(alone.scale, whole.scale[1:])
    np.testing.assert_array_equal(alone.static_categorical, [[2]])


def test_a_series_that_was_not_in_training_has_the_median_scaler_and_code_0():
    panel = two_series()
    third = panel.frame.iloc[7:].assign(id="c", y=panel.frame["y"].iloc[7:] * 3)
    encoding = fit_encoding(panel, [range(0, 3), range(7, 9)])
    series = make_series(panel_of_two(pd.concat([third, panel.frame.iloc[:7]])), encoding)
    scales = 0.01 * np.sqrt(2 / 3), 0.01  # of a and b
    np.testing.assert_allclose(series.scale, [np.mean(scales), scales[0]], rtol=1e-6)
    np.testing.assert_allclose(series.observed[1, 0], (50 - 26) / ((np.sqrt(2 / 3) + 1) / 2), rtol=1e-6)
    np.testing.assert_array_equal(series.static_categorical, [[0, 1]])
    np.testing.assert_array_equal(series.row_series, [0] * 5 + [1] * 7)


@given(cutoff=st.integers(3, 6), factor=st.floats(2.0, 9.0), scale=st.sampled_from(["none", "ewma"]))
def test_nothing_of_later_rows_or_other_series_reaches_a_series(cutoff, factor, scale):
    panel = two_series()
    changed = panel.frame[["y", "x"]].to_numpy().copy()
    changed[cutoff:7] *= factor  # later rows of a
    changed[7:] *= factor  # all of b
    other = panel_of_two(panel.frame.assign(y=changed[:, 0], x=changed[:, 1]))
    before, after = (
        make_series(each, fit_encoding(each, [range(0, 3), range(7, 10)], scale)) for each in (panel, other)
    )
    np.testing.assert_array_equal(before.observed[:, :cutoff], after.observed[:, :cutoff])
    np.testing.assert_array_equal((before.center[0], before.scale[0]), (after.center[0], after.scale[0]))
    if scale == "ewma":
        np.testing.assert_array_equal(before.volatility[:cutoff], after.volatility[:cutoff])
    assert not np.array_equal(before.scale[1], after.scale[1]) or scale == "ewma"  # there, it cancels out


def test_a_panel_of_several_series_is_read_as_it_was_written(path, tmp_path):
    panel = load_panel(settings(path).data)
    write_panel(tmp_path, panel)
    again = read_panel(tmp_path)
    pd.testing.assert_frame_equal(again.frame, panel.frame, check_freq=False)
    assert (again.id_column, again.fingerprint) == (panel.id_column, panel.fingerprint)


@pytest.mark.slow
@pytest.mark.parametrize("frequency", ["daily", "weekly"])
def test_a_run_of_several_series(path, tmp_path, frequency, capsys, caplog):
    config = settings(path, frequency=frequency)
    if frequency == "weekly":
        lengths = {"encoder_length": 2, "prediction_length": 1}
        sections = {"model": config.model.model_copy(update=lengths)}
        sections["train"] = config.train.model_copy(update={"batch_size": 4})
        config = config.model_copy(update=sections)
    directory = tmp_path / "several"
    metrics = train.train(config, directory)
    short = {"daily": "1 of 3 series, which have no train", "weekly": "1 series without a row to use"}
    assert f"left out {short[frequency]}" in capsys.readouterr().out
    run = runs.open_run(directory)
    by_series = pd.read_csv(directory / "evaluation" / "by_series.csv")
    for split in ("val", "test"):
        rows = by_series[by_series["split"] == split]
        assert rows["series"].tolist() == ["A", "B"]
        for name in ("model", "unconditional"):
            scores = metrics[split] if name == "model" else metrics[split]["baselines"][name]
            pooled = np.average(rows[name], weights=rows["windows"])
            np.testing.assert_allclose(scores["pinball"], pooled, rtol=1e-5)
    table = predict.predict(run, predict.load_rows(run, str(path), None))
    left_out = "left out 1 series that the run was not trained on: C"
    assert (left_out in caplog.messages) == (frequency == "daily")
    steps = config.model.prediction_length
    assert table["series"].tolist() == ["A"] * steps + ["B"] * steps
    assert np.isfinite(table[["0.02", "0.98"]].to_numpy()).all()
    if frequency == "daily":
        assert report_main([str(directory)]) == 0
        page = Reader((directory / "report.html").read_text())
        own = by_series[by_series["split"] == "test"]["model"]
        by_name = {row[0]: row for row in page.rows}  # the last: the first are of the next steps
        assert [by_name[name][1] for name in ("A", "B")] == [f"{1e3 * loss:.4f}" for loss in own]
        assert [row[0] for row in page.rows].count("A") == 1 + steps
        assert "forecasts, series A, first step" in page.text
        for words in ("Not drawn", "No combination"):
            assert f"{words}: of several series the evaluation keeps no forecasts" in page.text
        calm = page.row("pinball, 1e-3")[1]
        assert calm == "-" or float(calm) > 0


@pytest.mark.slow
def test_prediction_is_the_evaluation_s_forecast(several, tmp_path):
    directory = shutil.copytree(several, tmp_path / "several")
    run = runs.open_run(directory)
    evaluated = pd.read_csv(directory / "evaluation" / "predictions.csv", dtype={"series": str})
    first = evaluated[(evaluated["split"] == "test") & (evaluated["series"] == "B")].iloc[0]
    day = pd.Timestamp(first["date"]) - pd.offsets.BDay(1)
    table = predict.predict(run, predict.load_rows(run, None, day.date()))
    ours = table[table["series"] == "B"].iloc[0]
    levels = [f"{level:g}" for level in run.config.model.quantiles]
    expected = np.sort(first[levels].to_numpy(float))
    np.testing.assert_allclose(ours[levels].to_numpy(float), expected, rtol=1e-4)
    _check_calibration(run, evaluated[evaluated["split"] == "test"], levels)
    paths = predict.sample_paths([run], predict.forecastable(run, run.data.whole), 3)
    assert list(paths) == ["series", "path", "value"]
    assert paths["series"].tolist() == ["A"] * 6 + ["B"] * 6
    assert paths["path"].tolist() == [1, 1, 2, 2, 3, 3] * 2


def _check_calibration(run, test, levels):
    """Each step follows the outcomes of both series that are known when it is forecast."""
    frame, rows, quantiles = run.data.panel.frame, target_rows(run, "test"), run.config.model.quantiles
    shifts = np.linspace(-0.3, 0.4, 14).reshape(2, 7)
    until = str(frame.index[target_rows(run, "val").ravel()].max().date())
    kept = Calibration("adaptive", list(quantiles), 99, until, shifts.tolist())
    write_json(run.directory / "evaluation" / "conformal.json", kept._asdict())
    forecast = test[levels].to_numpy().reshape(len(rows), 2, 7)
    expected = calibrate("adaptive", shifts, forecast, outcomes_of(frame, "ret", rows), quantiles)
    for place in (0, 4):
        made = frame.index[rows[place, 0] - 1]
        panel = predict.forecastable(run, predict.load_rows(run, None, made.date()))
        found = predict.forecast_seeds([run], panel, conformal="adaptive")[levels].to_numpy()
        same_day = frame.index[rows[:, 0] - 1] == made
        np.testing.assert_allclose(found, expected[same_day].reshape(4, 7), rtol=1e-4, atol=1e-7)


def _numbered(tasks):
    """A forecast of each task that holds the rows that it is of."""
    return [np.tile(task.target_rows[..., None] / 100, len(task.quantiles)) for task in tasks]


@pytest.mark.slow
def test_baselines_of_a_series_are_those_of_the_series_alone(several, monkeypatch, caplog):
    run = runs.open_run(several)
    returns = run.data.panel.frame["ret"].to_numpy()
    rows = target_rows(run, "test")
    second = run.data.blocks[1]
    own = rows[rows[:, 0] >= second.rows.start] - second.rows.start
    train_rows = range(len(second.splits.train))
    for name in ("unconditional", "rolling", "ewma_scaled"):
        dates = run.data.panel.frame.index[second.rows.start :]
        task = Task(
            returns[second.rows.start :], {}, train_rows, own, run.config.model.quantiles, dates, None
        )
        found = baseline_forecasts(run, name)["test"]
        np.testing.assert_array_equal(found[-len(own) :], BASELINES[name](task))
    seen = []
    monkeypatch.setitem(POOLED, "pooled_log_scale", lambda tasks: seen.extend(tasks) or _numbered(tasks))
    found = baseline_forecasts(run, "pooled_log_scale")
    np.testing.assert_array_equal(found["test"][-len(own) :], _numbered(seen)[1][-len(own) :])
    assert {split: values.shape for split, values in found.items()} == {
        split: (*target_rows(run, split).shape, 7) for split in ("val", "test")
    }
    np.testing.assert_array_equal(seen[1].returns, returns[second.rows.start :])
    applied = []
    own = Functions(baselines={"egarch": lambda task: BASELINES["rolling"](task)})
    for name in ("rolling", "gjr_garch", "pooled_log_scale", "egarch"):
        given = dataclasses.replace(run, functions=own)
        found = baseline_forecasts(given, name, lambda *what: applied.append(what[0]) or map(*what))
    np.testing.assert_array_equal(found["val"], baseline_forecasts(run, "rolling")["val"])
    assert applied == [BASELINES["gjr_garch"]]  # what was handed in cannot go to another process
    monkeypatch.setattr("tftjax.evaluate.scoring.MAX_FITTED_SERIES", 1)
    windows = {split: split_windows(run, split) for split in ("val", "test")}
    scored = score_baselines(run, windows)
    assert set(scored.scores["test"]) == {"unconditional", "rolling", "ewma_scaled", "pooled_log_scale"}
    assert "left out the baseline garch: 2 series, and it is fitted to at most 1" in caplog.messages
    assert not scored.forecasts["test"]
