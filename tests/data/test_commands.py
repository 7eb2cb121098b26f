"""`python -m tftjax.data`: from raw files, or a table of one's own, to what training reads."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import begin_run, contents

from tftjax import predict
from tftjax.config.data import DataConfig
from tftjax.config.loading import from_dict
from tftjax.config.train import TrainConfig
from tftjax.data.__main__ import main
from tftjax.data.alignment import PERIODS
from tftjax.data.checks import check_data, findings
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.predict.__main__ import main as predict_main
from tftjax.storage import runs
from tftjax.train.__main__ import main as train_main

RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "core_proposal_raw"


def build(tmp_path, *more):
    arguments = ["--source", "embedded", "--feature-set", "core_embedded", "--out", str(tmp_path / "built")]
    return main(["build", *arguments, *more])


def test_a_built_panel_has_series_of_one_s_own(tmp_path, capsys):
    lines = "2018-01-01,2018-02-14,100", "2018-02-01,2018-03-13,130"
    (tmp_path / "cpi.csv").write_text("\n".join(["observation_date,release_date,cpi", *lines]))
    section = {"file": str(tmp_path / "cpi.csv"), "release": "release_date", "frequency": "monthly"}
    content = {"data": {"series": {"cpi": section}, "start": "2018-02-20", "end": "2018-04-10"}}
    own = tmp_path / "own.json"
    own.write_text(json.dumps(content))
    assert build(tmp_path, "--series", str(own), "--start", "2018-02-20", "--end", "2018-04-10") == 0
    config = from_dict(content, "test").data
    built = load_panel(config.model_copy(update={"dataset": str(tmp_path / "built")}))
    assert built.frame["cpi"].unique().tolist() == [100, 130]
    assert built.fingerprint == load_panel(config).fingerprint
    own.write_text("{}")
    assert build(tmp_path, "--series", str(own)) == 2
    assert "own.json: found no data.series in it" in capsys.readouterr().err


def own_table(rows=67):
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "day": pd.bdate_range("2020-01-01", periods=rows).strftime("%Y-%m-%d"),
            "mood": ["07", "1"] * (rows // 2) + ["07"] * (rows % 2),
            "ret": rng.normal(0, 1, rows).round(4),
            "flow": rng.normal(50, 9, rows).round(4),
            "size": [3.5] * rows,
            "memo": ["text"] * rows,
        }
    )


def own_config(tmp_path, table, **data):
    path = tmp_path / "own.csv"
    table.to_csv(path, index=False)
    columns = {
        "date": "day",
        "target": "ret",
        "observed": ["flow"],
        "known_categorical": ["mood", "month"],
        "static_real": ["size"],
    }
    content = {
        "data": {"dataset": str(path), "columns": columns, "return_unit": "percent", **data},
        "model": {"hidden_size": 4, "encoder_length": 5},
        "train": {"max_epochs": 2, "batch_size": 8},
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    return from_dict(content, "test")


def test_a_built_panel_is_the_panel(tmp_path, capsys):
    assert build(tmp_path) == 0
    output = capsys.readouterr().out
    assert "CPILFESL: visible from the first business day on or after the 13th of the next month" in output
    direct = load_panel(DataConfig())
    built = load_panel(DataConfig(dataset=str(tmp_path / "built")))
    assert built.fingerprint == direct.fingerprint
    pd.testing.assert_frame_equal(built.staleness, direct.staleness, check_freq=False)
    about = json.loads((tmp_path / "built" / "panel.json").read_text())["about"]
    assert about["feature_set"] == "core_embedded"
    assert about["units"]["Credit_Spread"] == "percentage points"
    assert about["sources"]["Credit_Spread"] == ["BAA", "AAA"]
    part = load_panel(
        DataConfig.model_validate(
            {"dataset": str(tmp_path / "built"), "end": pd.Timestamp("2000-03-05").date()}
        )
    )
    assert part.frame.equals(direct.frame.loc[:"2000-03-03"])


def test_build_replaces_a_panel_on_request_and_nothing_else(tmp_path, capsys):
    out = tmp_path / "built"
    assert build(tmp_path) == 0
    before = contents(out)
    assert build(tmp_path, "--end", "2000-12-29") == 2
    assert "replace a built panel with --overwrite" in capsys.readouterr().err
    assert contents(out) == before
    assert build(tmp_path, "--end", "2000-12-29", "--overwrite") == 0
    assert read_panel(out).frame.index[-1] == pd.Timestamp("2000-12-29")
    (out / "mine.txt").write_text("mine")
    assert build(tmp_path, "--overwrite") == 2
    assert (out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--feature-set", "market_only", "--out", "x"], "--raw DIR is missing"),
        (["build", "--raw", ".", "--feature-set", "market_onl", "--out", "x"], "Did you mean 'market_only'"),
        (
            ["build", "--raw", ".", "--feature-set", "market_only", "--out", "x"],
            "SP500.csv: there is no such",
        ),
        (
            ["build", "--raw", ".", "--feature-set", "market_only", "--out", "x", "--lag", "CPI"],
            "SERIES=DAYS",
        ),
        (["build", "--raw", ".", "--feature-set", "market_only", "--out", "x", "--lag", "A=3"], "data.lags"),
        (
            ["build", *["--raw", ".", "--feature-set", "market_only", "--out", "x", "--lag", "AAA=²"]],
            "SERIES=DAYS",
        ),
        (["folds", *["--first-test", "5", "--last-test", "6", "--train-years", "10"]], "folds: found"),
        (["folds", *["--first-test", "9999", "--last-test", "9999", "--train-years", "10"]], "folds: found"),
        (["describe", "embedded", "--plot", "x.foo"], "Give the path of a .png file"),
        (["describe", ""], "data.dataset: found"),
        (["describe", "nowhere"], "is neither a folder nor a file"),
        (["validate", "nowhere"], "is neither a folder nor a file"),
        (
            ["build", "--raw", "nowhere", "--feature-set", "market_only", "--out", "x"],
            "--raw: 'nowhere' is neither",
        ),
    ],
)
def test_bad_requests_are_explained_and_nothing_is_written(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("date", ["2021-13-01", "01/02/2016", "20160201"])
def test_a_date_of_the_command_line_is_explained(date, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        build(tmp_path, "--start", date)
    with pytest.raises(SystemExit, match="2"):
        predict_main([str(tmp_path), "--as-of", date])
    assert capsys.readouterr().err.count(f"found {date!r}, expected a date as YYYY-MM-DD") == 2
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("key", ["feature_set", "alignment", "vintage", "return_unit"])
def test_a_config_that_contradicts_a_built_panel_is_refused(tmp_path, key):
    build(tmp_path)
    other = {
        "feature_set": "market_only",
        "alignment": "fixed",
        "vintage": "latest",
        "return_unit": "percent",
    }
    with pytest.raises(UserError, match=rf"data\.{key}: found '{other[key]}' with the built panel"):
        load_panel(DataConfig(dataset=str(tmp_path / "built"), **{key: other[key]}))


def test_a_table_of_ones_own_by_hand(tmp_path):
    table = own_table()
    panel = load_panel(own_config(tmp_path, table).data)
    assert panel.observed == ("ret", "flow")
    assert panel.known_categorical == ("mood", "month")
    np.testing.assert_allclose(panel.frame["ret"], table["ret"] / 100)
    np.testing.assert_array_equal(panel.frame["flow"], table["flow"])  # no return: not converted
    assert panel.frame["mood"].tolist() == table["mood"].tolist()
    assert panel.frame["month"].iloc[0] == 1
    assert "ignored columns of own.csv: memo" in panel.messages


@pytest.mark.slow
def test_training_on_a_table_of_ones_own(tmp_path, capsys):
    own_config(tmp_path, own_table())
    command = [str(tmp_path / "own.json"), "--runs", str(tmp_path), "--name", "run", "--quiet"]
    assert train_main(command) == 0, capsys.readouterr().err
    # "07" stays text in what the run keeps.
    assert set(read_panel(tmp_path / "run").frame["mood"]) == {"07", "1"}
    assert (tmp_path / "run" / "evaluation" / "metrics.json").exists()


def test_all_findings_at_once(tmp_path):
    table = own_table()
    config = own_config(tmp_path, table)
    assert findings(config) == []
    table = table.astype({"flow": object, "ret": object})
    table.loc[3, "flow"], table.loc[5, "ret"], table.loc[7, "day"] = "many", "inf", "2020-13-01"
    problems = findings(own_config(tmp_path, table.drop(columns="size")))
    assert len(problems) == 4
    for part in ("line 5, column 'flow'", "line 7, column 'ret'", "line 9, column 'day'", "no column 'size'"):
        assert sum(part in problem for problem in problems) == 1, part


def test_validate_collects_what_training_raises_one_by_one(tmp_path):
    config = own_config(tmp_path, own_table(), return_unit="decimal")
    config = config.model_copy(update={"train": TrainConfig(batch_size=999)})
    unit, batch = findings(config)
    assert "seems to be in percent" in unit
    assert batch.startswith("train.batch_size: found 999, but there are only ")
    with pytest.raises(UserError) as caught:
        check_data(config, prepare(load_panel(config.data), config))
    assert str(caught.value) == unit


def test_a_finding_says_as_much_as_training_would(tmp_path):
    """Near names of a column, and a date ahead beside another mistake."""
    table = own_table().astype({"flow": object}).rename(columns={"size": "sise"})
    table.loc[3, "flow"] = "many"
    table.loc[66, "day"] = str(datetime.date.today() + datetime.timedelta(days=1))
    problems = "\n".join(findings(own_config(tmp_path, table)))
    assert "found no column 'size' among" in problems
    assert "Did you mean 'sise'?" in problems
    assert "line 5, column 'flow'" in problems
    assert "line 68, column 'day': found" in problems


def test_a_long_gap_in_a_table_is_refused_unless_allowed(tmp_path, capsys):
    table = own_table()
    table.loc[60:, "day"] = pd.bdate_range("2020-06-01", periods=7).strftime("%Y-%m-%d")
    config = own_config(tmp_path, table)
    with pytest.raises(
        UserError,
        match=r"own.csv, column 'day': found 2020-06-01 on line 62, 49 business days after 2020-03-24",
    ):
        load_panel(config.data)
    assert main(["validate", str(tmp_path / "own.json")]) == 2
    assert "raise data.max_gap" in capsys.readouterr().err
    assert len(load_panel(own_config(tmp_path, table, max_gap=49).data).frame) == 67
    assert len(load_panel(own_config(tmp_path, table, start="2020-06-01").data).frame) == 7


def test_prediction_allows_the_gap_that_the_run_s_panel_allowed(tmp_path):
    """The config of a run on a built panel does not tell it."""
    table = own_table()
    table.loc[60:, "day"] = pd.bdate_range("2020-06-01", periods=7).strftime("%Y-%m-%d")
    panel = load_panel(own_config(tmp_path, table, max_gap=49).data)
    config = own_config(tmp_path, table)
    run = runs.Run(tmp_path, config, prepare(panel, config), {}, 1)
    rows = predict.load_rows(run, str(tmp_path / "own.csv"), None)
    assert rows.fingerprint == panel.fingerprint


def test_a_long_gap_in_raw_series_is_refused_unless_allowed(tmp_path, capsys):
    days = pd.bdate_range("2020-01-01", periods=80)
    for name, kept in (("SP500", days), ("VIXCLS", days.delete(range(20, 60)))):
        lines = (f"{day},{20 + i % 3}" for i, day in enumerate(kept.strftime("%Y-%m-%d")))
        (tmp_path / f"{name}.csv").write_text("\n".join([f"observation_date,{name}", *lines]))
    out = tmp_path / "x"
    arguments = ["build", "--raw", str(tmp_path), "--feature-set", "market_only", "--out", str(out)]
    assert main(arguments) == 2
    assert "VIXCLS.csv, column 'VIX': found no value between 2020-01-28 and 2020-03-25" in (
        capsys.readouterr().err
    )
    assert not out.exists()
    assert main([*arguments, "--max-gap", "41"]) == 0
    assert read_panel(out).about["max_gap"] == 41


def test_findings_of_a_sound_table(tmp_path):
    short = findings(own_config(tmp_path, own_table(rows=7)))
    assert ["data.split: found" in finding for finding in short] == [True]
    unit = findings(own_config(tmp_path, own_table(), return_unit="decimal"))
    assert len(unit) == 1
    assert "The data seems to be in percent" in unit[0]


def test_findings_in_raw_files(tmp_path):
    for name in ("SP500", "VIXCLS"):
        (tmp_path / f"{name}.csv").write_text(f"observation_date,{name}\n2020-01-01,x\n")
    problems = findings(from_dict({"data": {"dataset": str(tmp_path), "feature_set": "market_only"}}, "test"))
    assert [
        f"column '{name}'" in finding for name, finding in zip(("SP500", "VIXCLS"), problems, strict=True)
    ]


def test_describe_and_list(tmp_path, capsys):
    assert main(["describe", "embedded", "--plot", str(tmp_path / "plot.png")]) == 0
    output = capsys.readouterr().out
    assert "rows, 1990-01-" in output
    line = next(line for line in output.splitlines() if line.startswith("SP500_Returns"))
    assert "return, decimal" in line
    assert "median" in next(line for line in output.splitlines() if line.startswith("AAA_Yield"))
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["describe", "embedded", "--plot", str(tmp_path / "plot.png")]) == 2
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    assert "core_proposal" in output
    assert "T10Y2Y" in output
    assert "z_score:N" in output
    assert "percentage points" in output
    assert "days:N" in output


def test_describe_shows_revisions(tmp_path, capsys):
    lines = ["2018-01-01,2018-02-14,100", "2018-01-01,2018-03-12,125", "2018-02-01,2018-03-13,130"]
    (tmp_path / "cpi.csv").write_text("\n".join(["observation_date,release_date,cpi", *lines]))
    days = pd.bdate_range("2018-02-14", "2018-03-30", name="date")
    pd.DataFrame({"ret": 0.01 - 0.02 * (np.arange(len(days)) % 2)}, days).to_csv(tmp_path / "rows.csv")
    cpi = {"file": str(tmp_path / "cpi.csv"), "release": "release_date", "frequency": "monthly"}
    series = {"cpi": cpi, "cpi_again": cpi | {"value": "cpi"}}
    data = {"dataset": str(tmp_path / "rows.csv"), "columns": {"target": "ret"}, "series": series}
    config, picture = tmp_path / "own.json", tmp_path / "revisions.png"
    config.write_text(json.dumps({"data": data}))
    assert main(["describe", str(config), "--revisions", str(picture)]) == 0
    output = capsys.readouterr().out
    found = "cpi, cpi_again: 1 of 2 values revised, by 25 in the median, by 25 at most (2018-01-01)"
    assert found in output
    assert "median" in next(line for line in output.splitlines() if line.startswith("cpi "))
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main(["describe", str(config), "--revisions", str(picture)]) == 2
    assert "exists. Choose another file" in capsys.readouterr().err


def test_describe_draws_no_two_pictures_into_one_file(tmp_path, capsys):
    both = str(tmp_path / "plot.png")
    assert main(["describe", "synthetic", "--plot", both, "--revisions", both]) == 2
    assert "for both. Give two files" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_revisions_to_draw(tmp_path, capsys):
    assert main(["describe", "synthetic", "--revisions", str(tmp_path / "plot.png")]) == 2
    assert "found no value of synthetic that was published twice" in capsys.readouterr().err


def test_both_roles_and_a_feature_set_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.columns: found"):
        own_config(tmp_path, own_table(), feature_set="market_only")
    with pytest.raises(UserError, match=r"data\.columns: found roles of columns with the folder"):
        load_panel(own_config(tmp_path, own_table(), dataset=str(tmp_path), return_unit="decimal").data)


def test_folds_are_printed_as_a_config_takes_them(capsys):
    assert main(["folds", *["--first-test", "2006", "--last-test", "2007", "--train-years", "10"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    dates = json.loads(lines[1])
    assert dates == {"train": "1996-01-01", "val": "2006-01-01", "test": "2007-01-01", "end": "2008-01-01"}
    assert from_dict({"data": {"split_dates": dates}}, "test").data.split_dates.test.year == 2007
    assert main(["folds", *["--first-test", "2006", "--last-test", "2005", "--train-years", "10"]]) == 2


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_panel_with_damaged_staleness_is_refused(tmp_path, damage, capsys):
    build(tmp_path)
    path = tmp_path / "built" / "staleness.csv"
    if damage == "cut":
        path.write_text("\n".join(path.read_text().splitlines()[:50]))
    else:
        path.unlink()
    assert main(["describe", str(tmp_path / "built")]) == 2
    assert "Bring a copy back, or make it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"observed": ["date"]}, "no role for a column named 'date'"),
        ({"observed": ["month"]}, "found 'month' in another role than known_categorical"),
        ({"observed": ["ret"]}, "each column in one role"),
    ],
)
def test_columns_that_cannot_be(tmp_path, columns, words):
    with pytest.raises(UserError, match=words):
        load_panel(
            own_config(tmp_path, own_table(), columns={"date": "day", "target": "ret", **columns}).data
        )


def test_the_row_series_must_be_known_on_its_own_day(tmp_path):
    with pytest.raises(UserError, match=r"released on .*, expected its own day"):
        load_panel(DataConfig(alignment="fixed", lags={"SP500": 1}))


def test_a_fixed_lag_has_no_hindsight():
    with pytest.raises(UserError, match="a later value would be hindsight"):
        from_dict({"data": {"alignment": "fixed", "vintage": "latest"}}, "test")


def test_prediction_aligns_other_data_as_the_run_s(tmp_path):
    """A run on a built panel: its config does not tell the panel's alignment, what lies in the run does."""
    arguments = ["--source", "embedded", "--feature-set", "core_embedded", "--alignment", "fixed"]
    assert main(["build", *arguments, "--lag", "AAA=90", "--out", str(tmp_path / "fixed")]) == 0
    content = {
        "data": {"dataset": str(tmp_path / "fixed"), "start": "2016-01-01"},
        "model": {"hidden_size": 4, "encoder_length": 5},
    }
    config = from_dict(content, "test")
    begin_run(tmp_path / "run", config, load_panel(config.data))
    kept = prepare(read_panel(tmp_path / "run"), config)
    run = runs.Run(tmp_path / "run", config, kept, {}, 1)  # untrained
    assert run.data.panel.staleness.columns.tolist() == ["AAA_Yield", "Credit_Spread", "Core_Inflation_YoY"]
    assert predict.load_rows(run, "embedded", None).fingerprint == run.data.panel.fingerprint
    build(tmp_path)
    with pytest.raises(UserError, match=r"data\.alignment: found 'fixed' with the built panel|was made with"):
        predict.load_rows(run, str(tmp_path / "built"), None)


@pytest.mark.slow
@pytest.mark.parametrize(("frequency", "step"), [("weekly", "2019-01-04"), ("monthly", "2019-01-31")])
def test_weekly_and_monthly_runs(tmp_path, frequency, step, capsys):
    content = {
        "data": {"frequency": frequency, "start": "2007-01-01"},  # a Monday
        "model": {"hidden_size": 4, "encoder_length": 5, "prediction_length": 2},
        "train": {"max_epochs": 1, "batch_size": 16},
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    command = [str(tmp_path / "own.json"), "--runs", str(tmp_path), "--name", "run", "--quiet"]
    assert train_main(command) == 0, capsys.readouterr().err
    run = runs.open_run(tmp_path / "run")
    daily = load_panel(DataConfig()).frame["SP500_Returns"]
    rows = run.data.panel.frame["SP500_Returns"]
    period = PERIODS[frequency]
    inside = daily.index.to_period(period).isin(rows.index.to_period(period))
    np.testing.assert_allclose(np.prod(1 + rows), np.prod(1 + daily[inside]))
    table = predict.predict(run, run.data.panel)
    assert len(table) == 2
    assert run.data.panel.frame.index[-1] < table.index[0] < table.index[1]
    assert table.index[0].strftime("%Y-%m-%d") <= step


# Not getrusage: a process started from a large one inherits that one's peak. The kernel's VmHWM is its own.
MEASURED_BUILD = """
import sys
import time
from tftjax.config.train import TrainConfig
from tftjax.data.__main__ import main
code = main(sys.argv[1:])
print(time.process_time())
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not RAW.is_dir(), reason="the raw series of core_proposal are not beside this repository")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read peak memory from")
def test_36_years_are_built_within_3_s_and_500_mb(tmp_path):
    out = tmp_path / "panel"
    arguments = ["build", "--raw", str(RAW), "--feature-set", "core_proposal", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", MEASURED_BUILD, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The processor's time, imports included: on a busy machine the clock's says nothing.
    seconds, peak_mb = float(done.stdout.split()[-2]), int(done.stdout.split()[-1]) / 1024
    assert 0.1 < seconds < 3
    assert 50 < peak_mb < 500
    assert len(read_panel(out).frame) == 9066
