"""Foreign forecasts: read as the run's windows need them, refused with the first difference, judged alike."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import contents

from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.evaluate import tables
from tftjax.evaluate.__main__ import main as evaluate_main
from tftjax.evaluate.evaluation import evaluate_forecasts
from tftjax.evaluate.files import read_evaluation
from tftjax.evaluate.foreign import by_stem, read_foreign
from tftjax.evaluate.metrics import evaluate_forecast, flatten
from tftjax.evaluate.scoring import SPLITS, split_windows, target_rows
from tftjax.evaluate.verdict import combination_line, headline, summary, verdict
from tftjax.storage import runs

ROWS, LEVELS = 307, (0.1, 0.5, 0.75)


def opened(tmp_path, steps=1, unit="decimal", names=()):
    """A run that needs no parameters: of one series, or of those named."""
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2020-01-01", periods=ROWS)
    frames = [pd.DataFrame({"y": rng.normal(size=ROWS) / 100}, index=days) for _ in names or [""]]
    roles = {"target": "y", "observed": ("y",)}
    if names:
        roles |= {"static_categorical": ("name",), "id_column": "name"}
        frames = [frame.assign(name=name) for frame, name in zip(frames, names, strict=True)]
    model = {"encoder_length": 5, "prediction_length": steps, "quantiles": list(LEVELS)}
    config = from_dict({"data": {"return_unit": unit}, "model": model}, "x")
    panel = make_panel(pd.concat(frames), **roles)
    return runs.Run(tmp_path, config, prepare(panel, config), {}, 1)


def table_of(run, forecasts, unit=1.0):
    """A foreign table of forecasts by split, and the actual returns."""
    frame, parts = run.data.panel.frame, []
    for split, forecast in forecasts.items():
        rows = target_rows(run, split)
        part = pd.DataFrame(forecast.reshape(rows.size, -1) * unit, columns=[f"{q:g}" for q in LEVELS])
        part.insert(0, "date", frame.index[rows.ravel()].strftime("%Y-%m-%d"))
        if run.data.panel.id_column:
            part.insert(1, "series", frame["name"].to_numpy()[rows.ravel()])
        if rows.shape[1] > 1:
            part.insert(1, "step", np.tile(np.arange(1, rows.shape[1] + 1), len(rows)))
        parts.append(part.assign(actual=frame["y"].to_numpy()[rows.ravel()] * unit))
    return pd.concat(parts, ignore_index=True)


def noise(run, splits=SPLITS):
    """Ascending quantiles of every window, all different."""
    rng = np.random.default_rng(11)
    shapes = {split: (*target_rows(run, split).shape, len(LEVELS)) for split in splits}
    return {split: np.sort(rng.normal(0, 0.01, shape)) for split, shape in shapes.items()}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("names", [(), ("B", "007")])
def test_rows_find_their_windows_whatever_their_order(tmp_path, steps, names):
    run = opened(tmp_path, steps, names=names)
    expected = noise(run)
    rows = table_of(run, expected).sample(frac=1, random_state=2)
    rows = rows[[*rows.columns[::-1]]].assign(note="other columns do not matter")
    later = rows.iloc[:1].assign(date="2031-01-01", actual=9.0)
    beyond = rows.iloc[:1].assign(step=steps + 1)
    rows = pd.concat([later, rows.assign(step=rows.get("step", 1)), beyond])
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.to_parquet(tmp_path / "b.parquet")
    frame = rows.rename(columns={"0.75": 0.75}).assign(date=pd.to_datetime(rows["date"]))
    found = read_foreign(run, {"c": tmp_path / "a.csv", "d": tmp_path / "b.parquet", "e": frame})
    assert [one.source for one in found.values()] == [
        str(tmp_path / "a.csv"),
        str(tmp_path / "b.parquet"),
        "the frame e",
    ]
    for one in found.values():
        for split in SPLITS:
            np.testing.assert_allclose(one.forecasts[split], expected[split], rtol=1e-12)


def test_dates_may_stand_in_the_index_and_percent_becomes_decimals(tmp_path):
    run = opened(tmp_path, unit="percent")
    expected = noise(run)
    frame = table_of(run, expected, 100.0)
    frame = frame.set_index(pd.to_datetime(frame.pop("date")))
    np.testing.assert_allclose(
        read_foreign(run, {"c": frame})["c"].forecasts["test"], expected["test"], rtol=1e-12
    )


def changed(edit, **how):
    """A run's table with a change, as an error's text."""

    def text(tmp_path):
        run = opened(tmp_path, **how)
        rows = table_of(run, noise(run))
        rows = edit(rows)
        rows.to_csv(tmp_path / "c.csv", index=False)
        with pytest.raises(UserError) as error:
            read_foreign(run, {"c": tmp_path / "c.csv"})
        return str(error.value).removeprefix(str(tmp_path / "c.csv"))

    return text


def set_cell(rows, row, column, value):
    rows[column] = rows[column].astype(object)
    rows.loc[row, column] = value
    return rows


def swapped(rows, row):
    rows.loc[row, ["0.1", "0.5"]] = [0.02, 0.01]
    return rows


FIRST_TEST = 46  # of the table's rows; the validation windows stand before, from 2020-10-27 on
REFUSED = {
    "no date": (
        changed(lambda rows: rows.drop(columns="date")),
        r", line 1: found no column 'date' among 0.1, 0.5, 0.75, actual, expected date and a column a",
    ),
    "no series": (
        changed(lambda rows: rows.drop(columns="series"), names=("a", "b")),
        r", line 1: found no column 'series' among .*, expected date, series and",
    ),
    "no step": (
        changed(lambda rows: rows.drop(columns="step"), steps=2),
        r", line 1: found no column 'step' among .*, expected date, step and",
    ),
    "a missing day": (
        changed(lambda rows: rows.drop(index=[FIRST_TEST + 3, FIRST_TEST + 5])),
        r": found no row of 2021-01-04, step 1, the first of 2 that are missing; expected the 47 of the test",
    ),
    "a missing validation day": (
        changed(lambda rows: rows.drop(index=7)),
        r": found no row of 2020-11-05, step 1, .* of the val rows .* or take all validation dates out",
    ),
    "a missing step": (
        changed(lambda rows: rows.drop(index=rows.index[-1]), steps=3),
        r": found no row of 2021-03-04, step 3, the first of 1 that are missing;",
    ),
    "a missing series": (
        changed(lambda rows: rows[rows["series"] == "a"], names=("a", "b")),
        r": found no row of 2020-10-27 of the series 'b', step 1, the first of 46 that are missing;",
    ),
    "a day twice": (
        changed(lambda rows: pd.concat([rows, rows.iloc[[5]]])),
        r", line 95: found 2020-11-03, step 1 a second time, expected each once",
    ),
    "another level": (
        changed(lambda rows: rows.rename(columns={"0.75": "0.9"})),
        r", line 1: found the quantiles 0.1, 0.5, 0.9, expected .* 0.1, 0.5, 0.75: 0.9 is none of them",
    ),
    "a level too few": (changed(lambda rows: rows.drop(columns="0.1")), r"0.5, 0.75: 0.1 has 0 columns"),
    "a level twice": (changed(lambda rows: rows.assign(**{"0.10": 1.0})), r"0.75: 0.1 has 2 columns"),
    "descending": (
        changed(lambda rows: swapped(swapped(rows, 60), 50)),
        r", line 52: found the quantile 0.5 below the quantile 0.1 \(0.01 and 0.02 as decimals\)",
    ),
    "an empty cell": (
        changed(lambda rows: set_cell(rows, 4, "0.5", None)),
        r", line 6, column '0.5': found no number, expected one",
    ),
    "not a number": (
        changed(lambda rows: set_cell(rows, 4, "0.75", "nan")),
        r", line 6, column '0.75': found no number, expected one",
    ),
    "a text": (
        changed(lambda rows: set_cell(rows, 4, "0.5", "-0,01")),
        r", line 6, column '0.5': found the text '-0,01', expected a number",
    ),
    "other returns": (
        changed(lambda rows: rows.assign(actual=[*rows["actual"][:-2], 0.5, 0.25])),
        r", column 'actual': found 0.5 for 2021-03-03, step 1, expected the run's return of .* first of 2 th",
    ),
    "percent for decimals": (
        changed(lambda rows: rows[["date"]].join(100 * rows.drop(columns="date"))),
        r"Expected returns as decimals, .* of the run says; .*Convert them to decimals",
    ),
    "decimals for percent": (
        changed(lambda rows: rows, unit="percent"),
        r"Expected returns in percent, .* of the run says; .*Convert them to percent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_its_first_difference(tmp_path, case):
    text, expected = REFUSED[case]
    found = text(tmp_path)
    assert re.search(expected, found), found


def test_names_that_are_taken(tmp_path):
    run = opened(tmp_path)
    for name in ("garch", "model", "windows", ""):
        with pytest.raises(UserError, match=f"found the name {name!r}, expected another than model"):
            read_foreign(run, {name: table_of(run, noise(run))})
    with pytest.raises(UserError, match=r"b/c\.csv: a/c\.csv has the name 'c', too"):
        by_stem([Path("a/c.csv"), Path("b/c.csv")])


def judged(run, forecasts, **foreign):
    return evaluate_forecasts(run, forecasts, foreign=read_foreign(run, foreign))


def test_it_is_judged_beside_the_baselines_and_leaves_no_trace(tmp_path):
    run = opened(tmp_path)
    own, other = noise(run), {split: values * 0.5 for split, values in noise(run).items()}
    judged(run, own)
    before = contents(tmp_path)
    metrics = judged(
        run, own, chronos=table_of(run, other), late=table_of(run, {"test": own["test"]})
    ).metrics
    evaluation = read_evaluation(tmp_path)
    assert evaluation.metrics == json.loads(json.dumps(metrics))
    assert set(metrics["val"]["foreign"]) == {"chronos"}
    test = metrics["test"]
    assert test["foreign"] == {
        name: evaluate_forecast(forecast, split_windows(run, "test").target, LEVELS, one_series=True)
        for name, forecast in (("chronos", other["test"]), ("late", own["test"]))
    }
    difference = test["tests"]["diebold_mariano"]["chronos"]["difference"]
    assert difference == pytest.approx(test["pinball"] - test["foreign"]["chronos"]["pinball"])
    assert test["tests"]["diebold_mariano"]["late"]["p"] is None
    np.testing.assert_allclose(evaluation.baselines["chronos"], other["test"])
    assert evaluation.notes["foreign"] == {
        "chronos": "the frame chronos",
        "late": "the frame late, test rows alone",
    }
    rows = pd.read_csv(tmp_path / "evaluation" / "baselines.csv")
    assert rows.loc[rows["split"] == "val", "late/0.5"].isna().all()
    for regime in test["regimes"]["volatility"].values():
        assert set(regime["foreign"]) == {"chronos", "late"}
    judged(run, own)
    assert contents(tmp_path) == before


def test_it_is_shown_as_what_it_is_and_counts_as_no_baseline(tmp_path):
    run = opened(tmp_path)
    target = split_windows(run, "test").target
    exact = {"test": target[..., None] + np.array([-1e-5, 0, 1e-5])}
    metrics = judged(run, noise(run), oracle=table_of(run, exact), twin=table_of(run, noise(run))).metrics
    test = metrics["test"]
    baselines = len(test["baselines"])
    assert f"of {baselines} baselines" in headline(test)[1]
    assert verdict(test).endswith(
        "; cannot be told from the foreign twin (no difference); is worse than the foreign oracle (p < 0.001)"
    )
    table = tables.against_baselines(test, "")
    assert table.rows[0][0].text == "oracle (foreign)"
    assert {row[0].text: row[3].text for row in table.rows}["twin (foreign)"] == "no test"
    assert "oracle (foreign)" in summary(metrics).partition("Test rows")[2]
    assert "it is not shown that the model adds to oracle (encompassing p = 1.00)" in combination_line(test)
    regimes = tables.by_regime("volatility", test["regimes"]["volatility"])
    assert "minus oracle (foreign), %" in [row[0].text for row in regimes.rows]
    notes = json.loads((tmp_path / "evaluation" / "notes.json").read_text())
    assert "twin is a foreign forecast, no baseline: the frame twin." in tables.left_out(notes)


def test_of_several_series(tmp_path):
    run = opened(tmp_path, names=("a", "b"))
    metrics = judged(run, noise(run), chronos=table_of(run, noise(run, ["test"]))).metrics
    assert metrics["test"]["foreign"]["chronos"] == evaluate_forecast(
        noise(run, ["test"])["test"], split_windows(run, "test").target, LEVELS
    )
    assert "combination" not in metrics["test"]
    by_series = read_evaluation(tmp_path).by_series
    assert by_series["chronos"].isna().tolist() == (by_series["split"] == "val").tolist()
    assert tables.by_series(by_series, ["chronos"]).head[-1] == "chronos (foreign)"
    # One that ended in the train rows is in none of these files.
    for name in ("predictions", "quality", "by_series"):
        path = tmp_path / "evaluation" / f"{name}.csv"
        table = pd.read_csv(path)
        table[table["series"] == "a"].to_csv(path, index=False)
    left = read_evaluation(tmp_path)
    assert left.by_series["series"].unique().tolist() == ["a"]
    assert left.baselines == {}


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_the_command(trained, tmp_path, capsys):
    """The columns of a baseline, given in a file, have its numbers."""
    directory, file = tmp_path / "tiny", tmp_path / "twin.csv"
    shutil.copytree(trained.directory, directory)
    rows = pd.read_csv(directory / "evaluation" / "baselines.csv")
    columns = {name: name.removeprefix("garch/") for name in rows if name.startswith("garch/")}
    rows[["date", *columns]].rename(columns=columns).to_csv(file, index=False)
    given = file.read_bytes()
    assert evaluate_main([str(directory), "--forecasts", str(file)]) == 0
    assert "twin (foreign)" in capsys.readouterr().out
    metrics = json.loads((directory / "evaluation" / "metrics.json").read_text())
    for values in metrics.values():
        assert flatten(values["foreign"]["twin"]) == pytest.approx(flatten(values["baselines"]["garch"]))
    assert file.read_bytes() == given
    assert evaluate_main([str(directory), "--forecasts", str(tmp_path / "no.csv")]) == 2
    assert "no.csv: cannot be read" in capsys.readouterr().err
