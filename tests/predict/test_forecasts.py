"""Forecasts after the last row: the same as evaluation's, and of nothing that lies later."""

import dataclasses
import datetime
import io
import json
import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from tiny import ENCODER_LENGTH, QUANTILES, contents, make_rows, run_here, without_training, write_config

from tftjax import predict
from tftjax.config.loading import Config, from_dict, load
from tftjax.data.loading import embedded_folder, load_panel
from tftjax.data.panel import calendar_of, read_panel, write_panel
from tftjax.data.prepared import prepare
from tftjax.data.tables.transforms import changes_to_levels
from tftjax.errors import UserError
from tftjax.evaluate.calibration.calibrated import Calibration, calibrate, outcomes_of
from tftjax.evaluate.calibration.conformal import shifted
from tftjax.files import write_json
from tftjax.predict.__main__ import main as predict_main
from tftjax.predict.forecasts import in_order
from tftjax.predict.log import add_to_log
from tftjax.predict.paths import FINE_LEVELS, _past_scores
from tftjax.predict.rows import extend_panel
from tftjax.storage import runs
from tftjax.train import run as train
from tftjax.train.__main__ import main as train_main
from tftjax.train.run import refit

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]

ROWS = make_rows()
LAST = ROWS.index[-1]


@pytest.fixture(scope="module")
def run(trained):
    return runs.open_run(trained.directory)


@pytest.fixture(scope="module")
def evaluated(trained):
    """Evaluation's forecasts, by the day that is forecast."""
    table = pd.read_csv(
        trained.directory / "evaluation" / "predictions.csv", index_col="date", parse_dates=True
    )
    return table[QUANTILES]


def forecast(run, data=None, as_of=None):
    return predict.predict(run, predict.load_rows(run, data, as_of))


def write(rows, path):
    rows.to_csv(path)
    return str(path)


def test_next_step_needs_no_future_target(run):
    table = forecast(run)
    assert list(table) == QUANTILES
    assert table.index.tolist() == [LAST + pd.offsets.BDay(1)]
    assert np.isfinite(table.to_numpy()).all()


def test_after_a_friday_comes_monday(run):
    assert forecast(run, as_of=datetime.date(2001, 11, 9)).index.tolist() == [pd.Timestamp("2001-11-12")]
    # On a Sunday the last row is Friday's.
    assert forecast(run, as_of=datetime.date(2001, 11, 11)).index.tolist() == [pd.Timestamp("2001-11-12")]


@pytest.mark.parametrize("row", [224, 250, 271, 272, 319])
def test_same_forecast_as_the_evaluation(run, evaluated, row):
    table = forecast(run, as_of=ROWS.index[row - 1].date())
    assert table.index.tolist() == [ROWS.index[row]]
    np.testing.assert_allclose(table.iloc[0], np.sort(evaluated.loc[ROWS.index[row]]), atol=1e-6, rtol=0)
    # Other windows give other forecasts: the comparison can fail.
    other = np.sort(evaluated.loc[ROWS.index[row - 1 if row > 224 else row + 1]])
    assert np.abs(table.iloc[0] - other).max() > 1e-5


def test_nothing_later_is_seen(run, evaluated, tmp_path):
    """All rows after the day change, by much; the forecast of the next day does not, by a single bit."""
    row = 290
    changed = ROWS.copy()
    changed.iloc[row:] = changed.iloc[row:] * -3 + 1
    data = write(changed, tmp_path / "changed.csv")
    same = write(ROWS, tmp_path / "same.csv")
    day = ROWS.index[row - 1].date()
    table = forecast(run, data, day)
    assert table.equals(forecast(run, same, day))
    np.testing.assert_allclose(table.iloc[0], np.sort(evaluated.loc[ROWS.index[row]]), atol=1e-6, rtol=0)
    # One day more, and the changed row is inside the window.
    later = ROWS.index[row].date()
    assert not forecast(run, data, later).equals(forecast(run, same, later))


def test_everything_in_the_window_is_seen_and_nothing_before(run, tmp_path):
    plain = forecast(run)
    for back, differs in ((1, True), (ENCODER_LENGTH, True), (ENCODER_LENGTH + 1, False)):
        changed = ROWS.copy()
        changed.iloc[-back, 0] += 0.02
        table = forecast(run, write(changed, tmp_path / f"{back}.csv"))
        assert (not table.equals(plain)) == differs, back


def test_scalers_are_the_runs_whatever_the_data(run, tmp_path):
    """Just the rows of the window are enough, and they are not scaled by themselves."""
    table = forecast(run, write(ROWS.iloc[-ENCODER_LENGTH:], tmp_path / "few.csv"))
    assert table.equals(forecast(run))


def test_returns_in_another_unit_are_refused(run, tmp_path):
    percent = ROWS.copy()
    percent["SP500_Returns"] *= 100
    with pytest.raises(UserError, match=r"percent\.csv: the standard deviation.*another unit"):
        forecast(run, write(percent, tmp_path / "percent.csv"))


def test_too_few_rows(run, tmp_path):
    few = write(ROWS.iloc[: ENCODER_LENGTH - 1], tmp_path / "few.csv")
    with pytest.raises(
        UserError, match=r"found 4 rows to 2001-01-04.* 5 rows of the past \(model\.encoder_length\)"
    ):
        forecast(run, few)
    with pytest.raises(UserError, match=r"found 3 rows to 2001-01-03"):
        forecast(run, as_of=datetime.date(2001, 1, 3))


def test_as_of_before_the_first_row(run):
    with pytest.raises(
        UserError, match=r"--as-of, in Python as_of=2000-12-31: the first row of the data is of 2001-01-01"
    ):
        forecast(run, as_of=datetime.date(2000, 12, 31))


def test_folder_of_raw_series(run):
    table = forecast(run, str(embedded_folder()), datetime.date(2018, 6, 29))
    assert table.index.tolist() == [pd.Timestamp("2018-07-02")]
    assert np.isfinite(table.to_numpy()).all()


def test_run_restricted_to_dates_forecasts_from_later_data(trained, tmp_path):
    """`data.start` and `data.end` say what was trained on, not what is forecast from."""
    directory = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    text = (directory / "config.json").read_text().replace('"end": null', '"end": "2001-06-01"')
    (directory / "config.json").write_text(text)
    table = forecast(runs.open_run(directory), write(ROWS, tmp_path / "later.csv"))
    assert table.index.tolist() == [LAST + pd.offsets.BDay(1)]


def test_the_data_set_is_read_anew(trained, tmp_path, capsys, monkeypatch):
    """By the command, and for a final fit too; of a data set that is gone, the rows that the run keeps."""
    monkeypatch.chdir(tmp_path)
    ROWS.iloc[:310].to_csv("grown.csv")
    source = runs.open_run(trained.directory)
    settings = source.config.data.model_copy(update={"dataset": "grown.csv"})
    config = source.config.model_copy(update={"data": settings})
    data = prepare(load_panel(settings), config, source.data.encoding)
    source = dataclasses.replace(source, config=config, data=data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tftjax.predict.__main__.open_runs", lambda *_: [source])
        ROWS.to_csv("grown.csv")
        assert predict_main(["run"]) == 0
        shown = capsys.readouterr()
        assert f"Forecast from data to {LAST.date()}" in shown.out
        assert f"data: grown.csv, to {LAST.date()}\n" in shown.err
    final = refit(dataclasses.replace(source, best_epoch=1), tmp_path / "tiny-final", quiet=True)
    assert final.data.panel.frame.index[-1] == LAST
    Path("grown.csv").unlink()
    assert predict_main([str(final.directory), "--as-of", "2002-03-21"]) == 0
    error = capsys.readouterr().err
    assert f"the rows that the run keeps are used, to {LAST.date()}" in error
    assert f"data: the rows that the run keeps, to {LAST.date()}\n" in error
    assert f"the model has learned from rows to {LAST.date()}, after 2002-03-21" in error


def test_command_prints_and_writes_the_same(trained, run, tmp_path, capsys):
    assert predict_main([str(trained.directory), "--as-of", "2001-12-31"]) == 0
    shown = capsys.readouterr().out
    assert "2001-12-31" in shown
    assert "2002-01-01" in shown
    out = tmp_path / "forecast.csv"
    assert predict_main([str(trained.directory), "--as-of", "2001-12-31", "--out", str(out)]) == 0
    written = pd.read_csv(out, index_col="date", parse_dates=True)
    expected = forecast(run, as_of=datetime.date(2001, 12, 31))
    np.testing.assert_array_equal(written, expected)
    assert list(written) == QUANTILES
    for value in expected.iloc[0]:
        assert f"{value:+.5f}" in shown


def test_predicting_changes_nothing_in_the_run(trained, capsys):
    before = contents(trained.directory)
    assert predict_main([str(trained.directory)]) == 0
    assert contents(trained.directory) == before


def test_out_is_not_overwritten(trained, tmp_path, capsys):
    out = tmp_path / "forecast.csv"
    out.write_text("mine")
    assert predict_main([str(trained.directory), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_out_that_cannot_be_written(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "x.csv", tmp_path / "nowhere" / "x.csv"):
        assert predict_main([str(trained.directory), "--out", str(out)]) == 2
        assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop(columns="AAA_Yield"), "AAA_Yield"),
        (lambda rows: rows.iloc[::-1], "ascending"),
        (lambda rows: rows.assign(Credit_Spread=np.inf), "finite"),
        (lambda rows: rows.assign(SP500_Returns=rows["SP500_Returns"].mask(rows.index == LAST)), "NaN"),
    ],
)
def test_bad_data_is_exit_code_2(trained, tmp_path, capsys, change, words):
    data = write(change(ROWS), tmp_path / "bad.csv")
    assert predict_main([str(trained.directory), "--data", data]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error


def test_flags_that_name_nothing_are_named(trained, tmp_path, capsys):
    assert predict_main([str(trained.directory), "--data", str(tmp_path / "nowhere.csv")]) == 2
    assert "error: --data, in Python data=: " in capsys.readouterr().err
    assert predict_main([str(trained.directory), "--as-of", "2100-01-01"]) == 0
    assert (
        f"2100-01-01 is after the data's last row, of {LAST.date()}: that row is forecast from"
        in capsys.readouterr().err
    )


def test_what_is_no_run_is_exit_code_2(tmp_path, capsys):
    assert predict_main([str(tmp_path)]) == 2
    assert "not a run" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        predict_main([str(tmp_path), "--as-of", "yesterday"])
    assert stop.value.code == 2


@pytest.fixture(scope="module")
def of_prices(tmp_path_factory):
    """A run on a column of prices, and the prices."""
    folder = tmp_path_factory.mktemp("prices")
    rows = pd.DataFrame({"close": 100 * np.cumprod(1 + ROWS["SP500_Returns"])}, index=ROWS.index)
    data = {"columns": {"target": "close", "known_categorical": ["month"]}, "target_transform": "return"}
    config = write_config(folder, rows, data=data, train={"max_epochs": 1}, loss={"std_weight": 0.0})
    with without_training():
        run_here(train_main, config, "--runs", folder, "--name", "run", "--quiet")
    return folder / "run", rows["close"]


def test_levels_are_the_last_price_times_the_forecast(of_prices, tmp_path, capsys):
    directory, prices = of_prices
    day = ROWS.index[250]
    for as_of, last in (([], prices.iloc[-1]), (["--as-of", str(day.date())], prices[day])):
        tables = []
        for flags in ([], ["--levels"]):
            path = tmp_path / f"{len(as_of)}{len(flags)}.csv"
            assert predict_main([str(directory), *as_of, *flags, "--out", str(path)]) == 0
            tables.append(pd.read_csv(path, index_col="date"))
        np.testing.assert_allclose(tables[1], last * (1 + tables[0]), rtol=1e-9)
    assert predict_main([str(directory), "--levels"]) == 0
    assert f"Forecast from data to {LAST.date()}, levels of close:" in capsys.readouterr().out


def test_a_run_on_returns_has_no_levels(trained, capsys):
    assert predict_main([str(trained.directory), "--levels"]) == 2
    assert "not made of levels (data.target_transform is 'none')" in capsys.readouterr().err


def test_percent_comes_out_as_percent(trained, tmp_path, capsys):
    """The same run, with returns that were given in percent: the numbers are a hundred times as large."""
    folder = shutil.copytree(trained.directory, tmp_path / "percent")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"return_unit": "decimal"', '"return_unit": "percent"'))
    tables = []
    for directory in (trained.directory, folder):
        assert predict_main([str(directory), "--out", str(tmp_path / f"{directory.name}.csv")]) == 0
        tables.append(pd.read_csv(tmp_path / f"{directory.name}.csv", index_col="date"))
    np.testing.assert_allclose(tables[1], 100 * tables[0], rtol=1e-12)
    assert predict_main([str(folder)]) == 0
    assert "returns in percent:" in capsys.readouterr().out


def own_table(days):
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.normal(0, 0.01, (len(days), 2)).round(6), days, ["ret", "flow"])
    return table.assign(size=rng.normal(0, 1, len(days)).round(3)).rename_axis("date")


def own_config(path, known):
    columns = {"target": "ret", "observed": ["flow"], "known_real": [*known, "lag_2"]}
    model = {"hidden_size": 4, "encoder_length": 5, "prediction_length": 2}
    content = {"data": {"dataset": str(path), "columns": columns}, "model": model}
    return from_dict(content | {"train": {"batch_size": 16, "max_epochs": 1}}, "test")


@pytest.fixture(scope="module")
def known_run(tmp_path_factory):
    """A run with a known column that no date gives, and a lag; and its table."""
    folder = tmp_path_factory.mktemp("known")
    table = own_table(pd.bdate_range("2001-01-01", periods=120))
    table.to_csv(folder / "table.csv")
    with without_training():
        train.train(own_config(folder / "table.csv", ["size"]), folder / "run", quiet=True)
    return folder, table


def test_known_columns_of_the_days_ahead(known_run, tmp_path, capsys):
    """From a file, from rows without a target, and from the rows that came: the evaluation's forecast."""
    folder, table = known_run
    run = runs.open_run(folder / "run")
    cut, ahead = table.iloc[:115], table.iloc[115:117]
    evaluated = pd.read_csv(
        folder / "run" / "evaluation" / "predictions.csv", index_col="date", parse_dates=True
    )
    expected = evaluated[evaluated["step"] == 1].loc[ahead.index[0], QUANTILES]
    day = cut.index[-1].date()
    looked_back = forecast(run, as_of=day)
    # Of one epoch, they cross: `predict` sorts them.
    np.testing.assert_allclose(looked_back.iloc[0], np.sort(expected.to_numpy(float)), atol=1e-6, rtol=0)
    with_rows = write(pd.concat([cut, ahead[["size"]]]), tmp_path / "rows.csv")
    pd.testing.assert_frame_equal(forecast(run, with_rows), looked_back, check_freq=False)
    write(ahead[["size"]], tmp_path / "next.csv")
    data = write(cut, tmp_path / "cut.csv")
    of_frame = predict.predict(run, predict.load_rows(run, data, None), ahead[["size"]])
    pd.testing.assert_frame_equal(of_frame, looked_back, check_freq=False)
    arguments = [str(folder / "run"), "--data", data, "--out", str(tmp_path / "out.csv")]
    assert predict_main(arguments) == 2
    assert "the future values of the known columns size are needed" in capsys.readouterr().err
    assert predict_main([*arguments, "--future", str(tmp_path / "next.csv")]) == 0
    written = pd.read_csv(tmp_path / "out.csv", index_col="date", parse_dates=True)
    np.testing.assert_array_equal(written, looked_back)
    # They are seen.
    other = predict.predict(run, predict.load_rows(run, data, None), ahead[["size"]] + 1)
    assert np.abs(other.to_numpy() - looked_back.to_numpy()).max() > 1e-6


def test_rows_that_an_old_run_took_for_days_are_found(tmp_path):
    """Weekly rows, a panel and a config of before frequencies were found: the next Friday, and new data."""
    table = own_table(pd.date_range("2001-01-05", periods=60, freq="W-FRI"))
    path = tmp_path / "weekly.csv"
    table.to_csv(path)
    config = own_config(path, [])
    panel = load_panel(config.data)
    write_panel(tmp_path, panel)
    about = {key: panel.about[key] for key in ("alignment", "vintage", "lags", "missing", "max_gap")}
    before = dataclasses.replace(
        read_panel(tmp_path), about=about | {"frequency": "daily", "feature_set": None}
    )
    old = config.model_copy(update={"data": config.data.model_copy(update={"frequency": "daily"})})
    run = runs.Run(tmp_path, old, prepare(before, old), {}, 1)
    for data in (None, write(table.iloc[:-3], tmp_path / "less.csv")):
        rows = predict.load_rows(run, data, None)
        last = rows.frame.index[-1]
        if data is not None:
            longer = extend_panel(rows, 1).frame
            assert longer.index[-1] == last + pd.Timedelta(days=7)
    assert calendar_of(run.data.panel).frequency == "weekly"


def test_a_run_s_calendar_holds_for_few_rows(tmp_path):
    """The last rows all lie on weekdays, those of a coin that trades on every day."""
    table = own_table(pd.date_range("2001-01-01", periods=120))  # a Monday
    path = tmp_path / "coin.csv"
    table.to_csv(path)
    config = own_config(path, [])
    run = runs.Run(tmp_path, config, prepare(load_panel(config.data), config), {}, 1)
    week = table.loc["2001-04-23":"2001-04-27"]
    friday = predict.load_rows(run, write(week, tmp_path / "week.csv"), None)
    assert extend_panel(friday, 1).frame.index[-1] == pd.Timestamp("2001-04-28")


def test_quantiles_that_cross_are_sorted_and_that_is_said(caplog):
    days = pd.bdate_range("2001-01-01", periods=3)
    table = pd.DataFrame({"series": list("xyz"), "0.1": [1.0, 3, -1], "0.5": [2.0, 2, 0], "0.9": [3.0, 1, 0]})
    table.index = days
    ordered = in_order(table, ["0.1", "0.5", "0.9"])
    assert ordered.to_numpy().tolist() == [["x", 1, 2, 3], ["y", 1, 2, 3], ["z", -1, 0, 0]]
    assert ordered.index.equals(days)
    assert caplog.messages == ["quantiles cross in 1 of 3 forecasts: sorted"]
    assert in_order(ordered, ["0.1", "0.5", "0.9"]) is ordered


def test_the_model_s_age_and_verdict_are_said(trained, tmp_path, capsys):
    out = tmp_path / "forecast.csv"
    assert predict_main([str(trained.directory), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    # 70 % and 85 % of 320 rows: the last train and validation rows are 223 and 271.
    trained_until, chosen_until = (str(ROWS.index[row].date()) for row in (223, 271))
    assert f"model trained until {trained_until}, chosen until {chosen_until}\n" in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("on the test rows: beats ")]
    assert line.endswith(" baselines (DM p < 0.05)")
    assert "has learned nothing since" not in captured.err
    bare = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    shutil.rmtree(bare / "evaluation")
    assert predict_main([str(bare)]) == 0
    assert "test rows" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "{}", '{"test": 1}', '{"test": {"pinball": null}}', None])
def test_a_damaged_verdict_is_said_and_forecast(trained, tmp_path, capsys, damage):
    folder = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    metrics = folder / "evaluation" / "metrics.json"
    # None: all keys are there, and the tests' results are not.
    whole = json.loads(metrics.read_text())
    whole["test"]["tests"] = {}
    metrics.write_text(json.dumps(whole) if damage is None else damage)
    assert predict_main([str(folder)]) == 0
    captured = capsys.readouterr()
    assert "Forecast from data to" in captured.out
    (line,) = [line for line in captured.err.splitlines() if "test rows" in line]
    assert line.startswith(f"on the test rows: unknown, as {metrics}")
    assert line.endswith(f"Make it anew: tftjax evaluate {folder}")


@pytest.mark.parametrize(("days", "warned"), [(365, False), (368, True)])
def test_a_model_that_learned_long_ago_warns(run, tmp_path, caplog, days, warned):
    last = ROWS.index[223] + pd.Timedelta(days=days)
    later = ROWS.set_axis(pd.bdate_range(end=last, periods=len(ROWS), name="date"))
    forecast(run, write(later, tmp_path / "later.csv"))
    said = [text for text in caplog.messages if "has learned nothing since" in text]
    assert len(said) == warned
    if warned:
        assert f"model trained until {ROWS.index[223].date()}, 368 days before {last.date()}" in said[0]
    # Once: said or warned of.
    assert sum("model trained until" in text for text in caplog.messages) == warned


@pytest.fixture(scope="module")
def final(trained, tmp_path_factory):
    """The final fit of the shared run, and its source."""
    place = tmp_path_factory.mktemp("final") / "tiny-final"
    return refit(runs.open_run(trained.directory), place, quiet=True)


def test_a_final_fit_forecasts_and_names_its_source(final, trained, capsys):
    assert predict_main([str(final.directory)]) == 0
    captured = capsys.readouterr()
    assert str((LAST + pd.offsets.BDay(1)).date()) in captured.out
    assert f"model trained until {LAST.date()}, chosen until {ROWS.index[271].date()}\n" in captured.err
    assert "on the test rows of its source: beats " in captured.err


def test_the_log_of_forecasts(trained, tmp_path, capsys):
    log = tmp_path / "log.csv"
    command = [str(trained.directory), "--append", str(log), "--as-of"]
    assert predict_main([*command, "2001-12-31"]) == 0
    captured = capsys.readouterr()
    assert "Forecast from data to 2001-12-31" in captured.out
    assert "log.csv: 1 forecast added" in captured.err
    first = log.read_text()
    assert predict_main([*command, "2002-01-01"]) == 0
    assert log.read_text().startswith(first)
    table = pd.read_csv(log, dtype={"config": str})
    assert list(table) == ["made", "run", "config", "as_of", "date", *QUANTILES]
    assert table["as_of"].tolist() == ["2001-12-31", "2002-01-01"]
    assert table["date"].tolist() == ["2002-01-01", "2002-01-02"]
    assert set(table["run"]) == {"tiny"}
    assert table["made"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00").all()
    assert table["config"].str.fullmatch("[0-9a-f]{12}").all()
    capsys.readouterr()
    # The same again is skipped.
    before = log.read_bytes()
    assert predict_main([*command, "2001-12-31", "--out", str(tmp_path / "out.csv")]) == 0
    assert "1 forecast skipped" in capsys.readouterr().err
    assert log.read_bytes() == before
    expected, logged = (pd.read_csv(path, dtype=str) for path in (tmp_path / "out.csv", log))
    assert logged[QUANTILES].iloc[0].tolist() == expected[QUANTILES].iloc[0].tolist()


def test_a_log_that_is_not_the_run_s_is_refused(trained, final, tmp_path, capsys):
    log = tmp_path / "log.csv"
    assert predict_main([str(trained.directory), "--append", str(log)]) == 0
    whole = log.read_text()
    header, line = whole.splitlines()
    cells = line.split(",")
    bad = {
        "another run's log": whole.replace("tiny", "other"),
        "found the columns made, run": whole.replace(",0.98", ",0.99"),
        "found the columns mine": "mine\n",
        "found the columns none": "",
        "cannot be read (field larger": header + "x" * 200_000,
        "line 2: found 11 cells, expected 12": f"{header}\n{','.join(cells[:-1])}\n",
        "with the config 000000000000": whole.replace(cells[2], "0" * 12),
    }
    for words, text in bad.items():
        log.write_text(text)
        capsys.readouterr()
        assert predict_main([str(trained.directory), "--append", str(log)]) == 2, words
        assert words in capsys.readouterr().err
        assert log.read_text() == text
    log.write_text(whole)
    assert predict_main([str(final.directory), "--append", str(log)]) == 2
    assert "tiny-final" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict_main([str(trained.directory), "--append", str(log), "--levels"])


def test_a_last_line_without_its_end_is_kept(trained, tmp_path):
    log = tmp_path / "log.csv"
    command = [str(trained.directory), "--append", str(log), "--as-of"]
    assert predict_main([*command, "2001-12-31"]) == 0
    log.write_text(log.read_text().rstrip("\n"))
    assert predict_main([*command, "2002-01-01"]) == 0
    assert len(pd.read_csv(log)) == 2


def test_a_retraining_keeps_the_log(trained, final):
    """What may change from one training of a config to the next is no part of its identity in a log."""
    run = runs.open_run(trained.directory)
    own = runs.identity(run)
    assert runs.identity(final) == own

    def identity(*overrides):
        return runs.identity(dataclasses.replace(run, config=load(run.config, overrides)))

    for same in (
        "name=tiny2",
        "notes=anew",
        "data.dataset=grown.csv",
        "data.start=2001-01-02",
        "data.end=2002-03-29",
        'data.split_dates={"val": "2001-10-01", "test": "2002-01-01"}',
        'data.events={"fomc": ["2002-03-19"]}',
        "train.max_epochs=9",
        "train.patience=11",
        "loss.target_std=0.011",
        "evaluation.quality_window=20",
    ):
        assert identity(same) == own, same
    for other in ("train.seed=1", "model.hidden_size=8", "data.missing=mask"):
        assert identity(other) != own, other
    assert identity("train.seed=42") == own  # the default

    class Later(type(run.config.train)):  # of a version with a setting more
        ema_decay: float = 0.0

    class LaterConfig(Config):
        train: Later = Later()

    later = LaterConfig.model_validate_json(run.config.model_dump_json())
    assert "ema_decay" in later.model_dump()["train"]
    assert runs.identity(dataclasses.replace(run, config=later)) == own


def test_a_log_goes_on_with_a_later_end(trained, run, tmp_path, capsys):
    log = tmp_path / "log.csv"
    for end in ("2002-03-01", "2002-03-08"):
        directory = Path(shutil.copytree(trained.directory, tmp_path / end / "tiny"))
        text = (directory / "config.json").read_text().replace('"end": null', f'"end": "{end}"')
        (directory / "config.json").write_text(text)
        assert predict_main([str(directory), "--as-of", end, "--append", str(log)]) == 0
    assert pd.read_csv(log)["as_of"].tolist() == ["2002-03-01", "2002-03-08"]
    assert predict_main([str(trained.directory), "--append", str(log)]) == 0
    train = run.config.train.model_copy(update={"seed": 1})
    other = dataclasses.replace(run, config=run.config.model_copy(update={"train": train}))
    with pytest.raises(UserError, match="another run's log"):
        add_to_log(log, [other], run.data.panel, forecast(run))
    log.write_text(log.read_text().replace("tiny", "other"))
    with pytest.MonkeyPatch.context() as patch:  # before a forecast is made
        patch.setattr("tftjax.predict.__main__.forecast_seeds", lambda *_, **__: pytest.fail("made one"))
        assert predict_main([str(trained.directory), "--append", str(log)]) == 2
    assert "another run's log" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scaled_run(tmp_path_factory):
    """A run whose target is divided by a fitted scale, with a Student t; and its table."""
    folder = tmp_path_factory.mktemp("scaled")
    table = own_table(pd.bdate_range("2001-01-01", periods=400))
    table.to_csv(folder / "table.csv")
    config = own_config(folder / "table.csv", []).model_dump(mode="json")
    config["data"] |= {"target_scale": "log_scale"}
    config["model"] |= {"quantile_head": "student_t", "prediction_length": 1}
    with without_training():
        train.train(from_dict(config, "test"), folder / "run", quiet=True)
    return folder, table


def test_a_fitted_scale_is_that_of_the_checkpoint(scaled_run, caplog):
    """The evaluation's forecast, by rows from the file; rows that come after change nothing of the past."""
    folder, table = scaled_run
    run = runs.open_run(folder / "run")
    expected = pd.read_csv(folder / "run" / "evaluation" / "predictions.csv", index_col="date")
    day = table.index[380]
    levels = [f"{level:g}" for level in run.config.model.quantiles]
    for rows in (table.iloc[:380], table):
        caplog.clear()
        found = forecast(run, rows.reset_index(names="date"), table.index[379].date())
        assert found.index[0] == day
        np.testing.assert_allclose(
            found[levels].to_numpy()[0], expected.loc[str(day.date()), levels], rtol=1e-3
        )
        assert "lack" not in caplog.text


def test_other_levels_are_those_of_the_same_student_t(scaled_run, tmp_path, capsys):
    folder, _ = scaled_run
    run = runs.open_run(folder / "run")
    own = forecast(run)
    panel = predict.forecastable(run, predict.load_rows(run, None, None))
    found = predict.forecast_seeds([run], panel, quantiles=[0.01, 0.25, 0.5, 0.99])
    np.testing.assert_allclose(found[["0.25", "0.5"]], own[["0.25", "0.5"]], rtol=1e-6)
    low, high = found[["0.01", "0.99"]].to_numpy()[0]
    assert low < own.to_numpy().min() < own.to_numpy().max() < high
    command = [str(folder / "run"), "--quantiles"]
    assert predict_main([*command, "0.01,0.99", "--out", str(tmp_path / "a.csv")]) == 0
    written = pd.read_csv(tmp_path / "a.csv", index_col="date")
    np.testing.assert_allclose(written.to_numpy()[0], [low, high], rtol=1e-6)
    assert predict_main([*command, "0.9,0.1"]) == 2
    assert (
        "found 0.9, 0.1, expected a list of levels above 0 and below 1 that ascend" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        predict_main([*command, "a"])
    assert "found 'a', expected levels as 0.01,0.5,0.99" in capsys.readouterr().err


def test_other_levels_of_a_head_of_fixed_ones_lie_between_and_beyond_them(run, tmp_path, caplog):
    """Half way between the normal quantiles of 0.25 and 0.5, and as far beyond that of 0.98."""
    panel = predict.forecastable(run, predict.load_rows(run, None, None))
    own = predict.forecast_seeds([run], panel)
    normal = NormalDist()
    halfway = normal.cdf(normal.inv_cdf(0.25) / 2)
    beyond = normal.cdf(2 * normal.inv_cdf(0.98) - normal.inv_cdf(0.9))
    with caplog.at_level("INFO"):
        found = predict.forecast_seeds([run], panel, quantiles=[0.02, halfway, 0.5, beyond])
    assert "quantiles beyond 0.02 and 0.98, the outermost that were trained: of a normal tail" in caplog.text
    assert list(found) == ["0.02", f"{halfway:g}", "0.5", f"{beyond:g}"]
    assert found[["0.02", "0.5"]].equals(own[["0.02", "0.5"]])
    np.testing.assert_allclose(found[f"{halfway:g}"], own[["0.25", "0.5"]].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[f"{beyond:g}"], 2 * own["0.98"] - own["0.9"], rtol=1e-6)
    for wrong in ([0.0, 0.5], [1.5], [0.5, 0.5], [], [0.5, 0.9999999]):
        with pytest.raises(UserError, match="expected a list of levels above 0 and below 1 that ascend"):
            predict.forecast_seeds([run], panel, quantiles=wrong)


def test_all_rows_that_there_ever_were_are_enough_for_a_scale(tmp_path):
    """A scale by 250 rows back, of a table of 120."""
    table = own_table(pd.bdate_range("2001-01-01", periods=120))
    table.to_csv(tmp_path / "table.csv")
    config = own_config(tmp_path / "table.csv", []).model_dump(mode="json")
    config["data"] |= {"target_scale": "gjr"}
    with without_training():
        train.train(from_dict(config, "test"), tmp_path / "run", quiet=True)
    run = runs.open_run(tmp_path / "run")
    assert len(forecast(run)) == 2
    later = table.iloc[20:].reset_index(names="date")  # begins later than the run's rows
    with pytest.raises(UserError, match="expected at least 250 rows"):
        forecast(run, later)


def test_going_on_keeps_the_scale_that_was_fitted(scaled_run, tmp_path, monkeypatch):
    folder, _ = scaled_run
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    config = load(copy / "config.json", ["train.max_epochs=2"])

    def refuse(*_):
        raise AssertionError("fitted anew")

    monkeypatch.setattr("tftjax.data.prepared.fit_to_train_rows", refuse)
    monkeypatch.setattr("tftjax.data.checks.fit_to_train_rows", lambda *_: None)
    with without_training():
        train.train(config, copy, resume=True, quiet=True)
    assert len((copy / "metrics.jsonl").read_text().splitlines()) == 2


# ---- Calibrated quantiles, and paths ----------------------------------------------------------------------

SHIFTS = [[-0.3, -0.2, -0.1, 0.05, 0.1, 0.2, 0.5]]


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory):
    """The shared run, with a calibration in its evaluation: its 48 validation rows are too few to fit one."""
    place = Path(shutil.copytree(trained.runs, tmp_path_factory.mktemp("calibrated") / "runs")) / "tiny"
    content = Calibration("split", list(map(float, QUANTILES)), 48, str(ROWS.index[271].date()), SHIFTS)
    write_json(place / "evaluation" / "conformal.json", content._asdict())
    return runs.open_run(place)


def rows_of(run, row=0):
    """The rows before one; before 0, all of them."""
    return predict.forecastable(run, predict.load_rows(run, None, ROWS.index[row - 1].date()))


def test_split_moves_each_quantile_by_its_shift(calibrated, tmp_path):
    own, rows = forecast(calibrated), rows_of(calibrated)
    found = predict.forecast_seeds([calibrated], rows, conformal="split")
    np.testing.assert_allclose(
        found, shifted(own.to_numpy()[:, None], np.array(SHIFTS), tuple(map(float, QUANTILES)))[:, 0]
    )
    out = tmp_path / "out.csv"
    assert predict_main([str(calibrated.directory), "--conformal", "split", "--out", str(out)]) == 0
    np.testing.assert_allclose(pd.read_csv(out, index_col="date"), found)
    # Other levels are made of the calibrated ones.
    other = predict.forecast_seeds([calibrated], rows, quantiles=[0.02, 0.98], conformal="split")
    np.testing.assert_array_equal(other, found[["0.02", "0.98"]])


def test_adaptive_follows_what_was_known_as_the_evaluation_does(calibrated, evaluated):
    """Forecasts of test days, each from the rows before it alone: those of the evaluation, in one go."""
    rows, quantiles = np.arange(272, 320)[:, None], tuple(map(float, QUANTILES))
    of = outcomes_of(ROWS, "SP500_Returns", rows)
    test = evaluated.iloc[-48:].to_numpy()[:, None]
    expected = calibrate("adaptive", np.array(SHIFTS), test, of, quantiles)[:, 0]
    split = calibrate("split", np.array(SHIFTS), test, of, quantiles)[:, 0]
    for row in (272, 273, 300, 319):
        found = predict.forecast_seeds([calibrated], rows_of(calibrated, row), conformal="adaptive")
        np.testing.assert_allclose(found.to_numpy()[0], expected[row - 272], atol=1e-6, rtol=0)
        assert (np.abs(found.to_numpy()[0] - split[row - 272]).max() > 1e-5) == (row > 272)


def test_a_final_fit_has_its_source_s_calibration(calibrated, final, caplog):
    """And follows no outcome that it has learned from, of which there is no other here."""
    place = Path(shutil.copytree(final.directory, calibrated.directory.with_name("tiny-final")))
    record = json.loads((place / "final.json").read_text())
    (place / "final.json").write_text(json.dumps(record | {"source": "../tiny"}))
    fitted = runs.open_run(place)
    with caplog.at_level("INFO"):
        adaptive = predict.forecast_seeds([fitted], rows_of(fitted), conformal="adaptive")
    assert f"followed 0 forecasts since {LAST.date()}" in caplog.text
    assert adaptive.equals(predict.forecast_seeds([fitted], rows_of(fitted), conformal="split"))
    assert not adaptive.equals(forecast(fitted))


def test_calibrations_that_cannot_be(trained, run, capsys):
    assert predict_main([str(trained.directory), "--conformal", "split"]) == 2
    assert "found 48 validation windows with a spread, expected at least 49" in capsys.readouterr().err
    with pytest.raises(UserError, match="conformal: found 'spilt', expected one of split, adaptive"):
        predict.forecast_seeds([run], rows_of(run), conformal="spilt")
    data = run.config.data.model_copy(update={"train_on_val": True})
    learned = dataclasses.replace(run, config=run.config.model_copy(update={"data": data}))
    with pytest.raises(UserError, match=r"has learned from its validation rows \(data\.train_on_val\)"):
        predict.forecast_seeds([learned], rows_of(run), conformal="split")
    with pytest.raises(SystemExit):
        predict_main([str(trained.directory), "--conformal", "split", "--append", "log.csv"])
    assert "not its --conformal calibration" in capsys.readouterr().err


def test_paths_have_the_quantiles_of_each_step(known_run, tmp_path, capsys):
    folder, table = known_run
    run = runs.open_run(folder / "run")
    day = table.index[114].date()
    panel = predict.forecastable(run, predict.load_rows(run, None, day))
    quantiles = predict.forecast_seeds([run], panel)
    paths = predict.sample_paths([run], panel, 1000)
    assert paths["path"].tolist() == np.repeat(np.arange(1, 1001), 2).tolist()
    for date, values in paths["value"].groupby(level=0):
        found = np.quantile(values, [float(level) for level in QUANTILES], method="hazen")
        np.testing.assert_allclose(found, quantiles.loc[date], atol=1e-4)
    # The order of the train windows' outcomes is that of as many paths.
    past = _past_scores([run])
    few = predict.sample_paths([run], panel, len(past))["value"].to_numpy().reshape(-1, 2)
    ranks = [sorted(map(tuple, values.argsort(axis=0).argsort(axis=0))) for values in (few, past)]
    assert ranks[0] == ranks[1]
    out = tmp_path / "paths.csv"
    command = [str(folder / "run"), "--as-of", str(day), "--paths", "1000"]
    assert predict_main([*command, "--out", str(out)]) == 0
    written = pd.read_csv(out, index_col="date", parse_dates=True)
    pd.testing.assert_frame_equal(written, paths, check_freq=False, check_index_type=False)
    assert not predict.sample_paths([run], panel, 1000, seed=1).equals(paths)
    capsys.readouterr()
    assert predict_main([*command, "--seed", "1"]) == 0
    shown = capsys.readouterr()
    assert "1,000 paths drawn with --seed 1" in shown.err
    printed = pd.read_csv(io.StringIO(shown.out), index_col="date", parse_dates=True)
    expected = predict.sample_paths([run], panel, 1000, seed=1)
    pd.testing.assert_frame_equal(printed, expected, check_freq=False, check_index_type=False)
    for flags, words in (
        ([*command, "--quantiles", "0.5"], "takes the place"),
        ([*command[:-1], "0", "--append", "log"], "not --paths"),
        ([*command[:-2], "--seed", "1"], "--seed: draws --paths"),
    ):
        with pytest.raises(SystemExit):
            predict_main(flags)
        assert words in capsys.readouterr().err
    assert predict_main([*command[:-1], "0"]) == 2
    assert "paths: found 0, expected a whole number from 1 to 100,000" in capsys.readouterr().err
    for wrong in (-1, True):
        with pytest.raises(UserError, match=r"seed: found .*, expected a whole number from 0 on"):
            predict.sample_paths([run], panel, 3, seed=wrong)
    for wrong in (0, True, 10**6):
        with pytest.raises(UserError, match=r"paths: found .*expected a whole number from 1 to 100,000"):
            predict.sample_paths([run], panel, wrong)


def test_paths_of_one_step_have_the_tails_of_a_student_t(scaled_run, caplog):
    run = runs.open_run(scaled_run[0] / "run")
    panel = predict.forecastable(run, predict.load_rows(run, None, None))
    values = predict.sample_paths([run], panel, 2000)["value"]
    expected = predict.forecast_seeds([run], panel, quantiles=FINE_LEVELS).to_numpy()[0][2:-2]
    found = np.quantile(values, FINE_LEVELS[2:-2], method="hazen")
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=1e-5)
    # Its 60 validation rows are enough for a calibration, which is of the trained levels.
    with caplog.at_level("INFO"):
        split = predict.forecast_seeds([run], panel, conformal="split")
    assert "conformal calibration fitted to 60 validation windows" in caplog.text
    calibrated = predict.sample_paths([run], panel, 2000, conformal="split")["value"]
    found = np.quantile(calibrated, [float(level) for level in QUANTILES], method="hazen")
    np.testing.assert_allclose(found, split.to_numpy()[0], rtol=0.01, atol=1e-5)


def test_paths_of_prices_go_on_from_the_last_price(of_prices):
    directory, prices = of_prices
    run = runs.open_run(directory)
    panel = predict.forecastable(run, predict.load_rows(run, None, None))
    changes = predict.sample_paths([run], panel, 5)["value"]
    levels = predict.sample_paths([run], panel, 5, levels=True)["value"]
    np.testing.assert_allclose(levels, prices.iloc[-1] * (1 + changes), rtol=1e-9)
    found = changes_to_levels(np.array([[[0.1, -0.5], [0.0, 1.0]]]), panel)
    np.testing.assert_allclose(found, prices.iloc[-1] * np.array([[[1.1, 0.55], [1.0, 2.0]]]), rtol=1e-9)
