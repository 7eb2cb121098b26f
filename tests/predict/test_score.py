"""Logged forecasts beside what came, by hand."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from tiny import QUANTILES, make_rows

from tftjax import predict
from tftjax.data.loading import load_panel
from tftjax.data.panel import make_panel
from tftjax.predict import score
from tftjax.predict.log import add_to_log
from tftjax.storage import runs
from tftjax.train.run import refit

LEVELS = (0.1, 0.5, 0.9)
DAYS = pd.to_datetime(["2001-07-02", "2001-07-03", "2001-07-05", "2001-07-06"])  # a holiday on the 4th


def panel(series=("",)):
    parts = []
    for number, name in enumerate(series):
        part = pd.DataFrame({"ret": np.array([1.0, 2, 3, 4]) + 10 * number}, index=DAYS)
        parts.append(part.assign(id=name) if name else part)
    roles = {"static_categorical": ("id",), "id_column": "id"} if len(series) > 1 else {}
    return make_panel(pd.concat(parts), target="ret", observed=("ret",), **roles)


def logged(*rows):
    table = pd.DataFrame(rows, columns=["as_of", "date", "series"])
    return table.assign(as_of=pd.to_datetime(table["as_of"]), date=pd.to_datetime(table["date"]))


def test_the_outcome_is_the_next_row():
    rows = score.with_outcomes(
        logged(
            ("2001-07-06", "2001-07-09", ""),  # not yet
            ("2001-07-03", "2001-07-04", ""),  # a holiday: the 5th
            ("2001-07-02", "2001-07-03", ""),
            ("2001-06-29", "2001-07-02", ""),  # before the data begins: who knows what came first
        ),
        panel(),
    )
    assert rows["as_of"].is_monotonic_increasing
    np.testing.assert_array_equal(rows["actual"], [np.nan, 2, 3, np.nan])
    assert rows["came"].tolist() == [pd.NaT, DAYS[1], DAYS[2], pd.NaT]


def test_steps_and_series():
    rows = score.with_outcomes(
        logged(
            ("2001-07-03", "2001-07-05", "b"),
            ("2001-07-03", "2001-07-04", "b"),
            ("2001-07-05", "2001-07-06", "a"),
            ("2001-07-05", "2001-07-09", "a"),
            ("2001-07-05", "2001-07-06", "c"),
        ),
        panel(("a", "b")),
    )
    assert rows["series"].tolist() == ["a", "a", "b", "b", "c"]
    assert rows["step"].tolist() == [1, 2, 1, 2, 1]
    np.testing.assert_array_equal(rows["actual"], [4, np.nan, 13, 14, np.nan])


def scored(actual, dates, modes=None):
    """Forecasts of -1, 0 and 1 beside a baseline of -2, 0 and 2."""
    dates = pd.DatetimeIndex(dates)
    rows = pd.DataFrame({"as_of": dates - pd.Timedelta(days=1), "date": dates, "series": "", "step": 1})
    rows["actual"] = np.array(actual, float)
    rows["mode"] = [-1] * len(rows) if modes is None else modes
    forecast = np.tile([-1.0, 0.0, 1.0], (len(rows), 1, 1))
    return score.Scored(rows, forecast, 2 * forecast, LEVELS)


def test_measures_by_hand():
    found = score.measures(scored([0.5, 2.0], ["2001-07-02", "2001-07-03"], [-1, 4]))
    # 0.5: 0.1 x 1.5, 0.5 x 0.5, 0.1 x 0.5 = 0.15, 0.25, 0.05; 2: 0.1 x 3, 0.5 x 2, 0.9 x 1 = 0.3, 1, 0.9.
    assert found["pinball"] == pytest.approx((0.45 + 2.2) / 6)
    # 0.5: 0.1 x 2.5, 0.25, 0.1 x 1.5; 2: 0.1 x 4, 1, 0.
    assert found["unconditional"] == pytest.approx((0.25 + 0.25 + 0.15 + 0.4 + 1.0) / 6)
    assert found["coverage/80"] == 0.5
    # Wilson's of 1 of 2: 0.5 -+ z sqrt(0.125 + z^2 / 16) / (1 + z^2 / 2), z = 1.96.
    assert found["coverage_low/80"] == pytest.approx(0.094531, abs=1e-6)
    assert found["coverage_high/80"] == pytest.approx(0.905469, abs=1e-6)
    assert found["pit_mean"] == pytest.approx((0.7 + 0.95) / 2)  # the middles of 0.5 to 0.9 and of 0.9 to 1
    assert (found["mode"], found["mode_share"], found["forecasts"]) == ("HEALTHY", 1.0, 2)


def test_coverages_of_several_series_or_steps_have_no_interval():
    one = scored([0.5, 2.0], ["2001-07-02", "2001-07-03"])
    assert "[9.5, 90.5]" in score.overall(one).terminal()
    assert "50 % [9, 91]" in score.over_time(score.drift(one, "month"), "month").terminal()
    for column, values in (("series", ["a", "b"]), ("step", [1, 2])):
        several = one._replace(rows=one.rows.assign(**{column: values}))
        assert {"coverage_low/80", "coverage_high/80"}.isdisjoint(score.measures(several))
        assert "90.5]" not in score.overall(several).terminal()
        table = score.over_time(score.drift(several, "month"), "month")
        assert [cell.text for cell in table.rows[0]][4] == "50 %"


def test_a_calibrated_forecast_has_a_mean_pit_of_a_half():
    target = np.array([[-2.0]] + [[-0.5]] * 4 + [[0.5]] * 4 + [[2.0]])  # 10, 40, 40 and 10 %
    forecast = np.tile([-1.0, 0.0, 1.0], (10, 1, 1))
    assert score.pit_mean(forecast, target, LEVELS) == pytest.approx(0.5)


def test_drift_is_by_the_date_of_the_outcome():
    table = score.drift(scored([0.5, 0.5, 2.0], ["2001-06-29", "2001-07-02", "2001-10-01"]), "month")
    assert table["period"].tolist() == ["all", "2001-06", "2001-07", "2001-10"]
    assert table["forecasts"].tolist() == [3, 1, 1, 1]
    assert table["coverage/80"].tolist() == [pytest.approx(2 / 3), 1, 1, 0]
    table = score.drift(scored([0.5, 0.5, 2.0], ["2001-06-29", "2001-07-02", "2001-08-01"]), "quarter")
    assert table["period"].tolist() == ["all", "2001Q2", "2001Q3"]
    assert table["forecasts"].tolist() == [3, 1, 2]


pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def log(trained, tmp_path_factory):
    """Forecasts of the 48 test days and of the day after the last row."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    seeds = [runs.open_run(trained.directory)]
    for row in range(271, 320):
        panel = predict.load_rows(seeds[0], None, make_rows().index[row].date())
        add_to_log(path, seeds, panel, predict.forecast_seeds(seeds, panel))
    return path


@pytest.mark.slow
def test_the_scores_are_the_evaluation_s(trained, log, tmp_path, capsys):
    out = tmp_path / "drift.csv"
    assert score.main([str(log), "--run", str(trained.directory), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    text = captured.out
    assert "48 forecasts of 48 made after the day of the outcome (--as-of)" in captured.err
    assert "log.csv: 49 forecasts of tiny\n" in text
    assert f"outcomes: {trained.config.parent / 'panel.csv'}, to 2002-03-22; 1 without one yet\n" in text
    assert max(map(len, text.split("By month")[1].splitlines())) <= 80
    table = pd.read_csv(out).set_index("period")
    assert table.index.tolist() == ["all", "2002-01", "2002-02", "2002-03"]
    assert table["forecasts"].tolist() == [48, 12, 20, 16]
    days = pd.read_csv(trained.directory / "evaluation" / "predictions.csv")
    days = days[days["split"] == "test"]
    error = days["actual"].to_numpy()[:, None] - np.sort(days[QUANTILES].to_numpy(), axis=1)
    levels = np.array([float(name) for name in QUANTILES])
    expected = np.maximum(levels * error, (levels - 1) * error).mean()
    assert table["pinball"]["all"] == pytest.approx(expected, rel=1e-4)
    train = make_rows()["SP500_Returns"].iloc[:224]
    error = days["actual"].to_numpy()[:, None] - train.quantile(levels).to_numpy()
    expected = np.maximum(levels * error, (levels - 1) * error).mean()
    assert table["unconditional"]["all"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_outcomes_of_newer_data(trained, log, tmp_path, capsys):
    rows = make_rows()
    day = rows.index[-1] + pd.offsets.BDay(1)
    newer = pd.concat([rows, rows.iloc[-1:].set_axis(pd.DatetimeIndex([day], name="date"))])
    newer.to_csv(tmp_path / "newer.csv")
    command = [str(log), "--run", str(trained.directory), "--data", str(tmp_path / "newer.csv")]
    assert score.main([*command, "--by", "quarter"]) == 0
    text = capsys.readouterr().out
    assert f"outcomes: {tmp_path / 'newer.csv'}, to {day.date()}; 0 without one yet" in text
    assert "2002Q1" in text


@pytest.mark.slow
def test_bad_input(trained, log, tmp_path, capsys):
    final = refit(runs.open_run(trained.directory), tmp_path / "tiny-final", quiet=True)
    assert score.main([str(log), "--run", str(final.directory)]) == 2
    assert "a forecast of the run tiny" in capsys.readouterr().err
    assert score.main([str(tmp_path / "none.csv"), "--run", str(trained.directory)]) == 2
    assert "none.csv: no such file (in " in capsys.readouterr().err
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    assert score.main([str(log), "--run", str(trained.directory), "--out", str(taken)]) == 2
    assert taken.read_text() == "mine"
    lines = log.read_text().splitlines()
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("\n".join([lines[0], lines[1].replace("2002", "20x2")]) + "\n")
    assert score.main([str(damaged), "--run", str(trained.directory)]) == 2
    assert "damaged.csv: damaged" in capsys.readouterr().err
    damaged.write_text("\n".join([lines[0], lines[-1]]) + "\n")
    capsys.readouterr()
    assert score.main([str(damaged), "--run", str(trained.directory)]) == 0
    out = capsys.readouterr().out
    assert "1 forecast of tiny\n" in out
    assert "to 2002-03-22; 1 without one yet" in out


@pytest.mark.slow
def test_a_final_fit_is_scored_by_the_data_as_it_is_now(trained, tmp_path, capsys):
    table = tmp_path / "panel.csv"
    make_rows().iloc[:310].to_csv(table)
    source = runs.open_run(trained.directory)
    settings = source.config.data.model_copy(update={"dataset": str(table)})
    config = source.config.model_copy(update={"data": settings})
    source = dataclasses.replace(source, config=config, best_epoch=1)
    panel = load_panel(settings)
    final = refit(source, tmp_path / "tiny-final", panel=panel, quiet=True)
    log = tmp_path / "log.csv"
    add_to_log(log, [final], panel, predict.predict(final, panel))
    make_rows().to_csv(table)  # ten days later
    assert score.main([str(log), "--run", str(final.directory)]) == 0
    assert f"outcomes: {table}, to 2002-03-22; 0 without one yet" in capsys.readouterr().out
    table.unlink()
    words = f"outcomes: the rows that the run keeps, to {make_rows().index[309].date()}; 1 without one yet"
    assert score.main([str(log), "--run", str(final.directory)]) == 0
    captured = capsys.readouterr()
    assert f"data.dataset: '{table}' is neither a folder nor a file" in captured.err
    assert words in captured.out
    kept = final.directory / "config.json"
    kept.write_text(kept.read_text().replace(json.dumps(str(table)), '"frame"'))
    out = tmp_path / "drift.csv"
    assert score.main([str(log), "--run", str(final.directory), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert words in shown
    assert f"nothing to score: {out} is not written" in shown
