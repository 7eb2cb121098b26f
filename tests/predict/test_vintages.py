"""Forecasts and scores by vintages that are given to a command: no value that was revised later is used."""

import numpy as np
import pandas as pd
import pytest
from tiny import untrained

from tftjax.evaluate.metrics import pinball
from tftjax.predict import __main__ as predict
from tftjax.predict import rows as rows_of
from tftjax.predict import score

pytestmark = pytest.mark.usefixtures("in_process")

DAYS = pd.bdate_range("2018-03-01", "2018-12-31", name="date")
ROWS = pd.DataFrame({"ret": np.random.default_rng(3).normal(0, 0.01, len(DAYS)).round(5)}, DAYS)
AS_OF, REVISED = "2018-12-20", "2018-12-21"


def vintages(revised=REVISED):
    """A value a month, released in the middle of the next one; that of November is revised."""
    months = pd.date_range("2018-01-01", "2018-11-01", freq="MS")
    first = pd.DataFrame({"observation": months, "release": months + pd.DateOffset(months=1, days=13)})
    first["value"] = 100.0 + np.arange(11)
    later = first.iloc[-1:].assign(release=pd.Timestamp(revised), value=90.0)
    return pd.concat([first, later])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    series = {"cpi": {"frequency": "monthly"}}
    data = {"dataset": "frame", "columns": {"target": "ret"}, "series": series, "vintage": "latest"}
    given = {"cpi": vintages()}
    folder = tmp_path_factory.mktemp("vintages") / "run"
    return untrained(folder, ROWS, vintages=given, model={"prediction_length": 1}, **data)


@pytest.fixture
def command(run, tmp_path, monkeypatch):
    """Calls a command with the run, the rows in a file and a file of vintages."""
    ROWS.to_csv(tmp_path / "rows.csv")
    for module in (predict, score):
        monkeypatch.setattr(module, "open_runs", lambda *_: [run])

    def call(module, table, *flags):
        table.to_csv(tmp_path / "cpi.csv", index=False)
        common = ["--data", str(tmp_path / "rows.csv"), "--vintages", f"cpi={tmp_path / 'cpi.csv'}"]
        assert module.main([*map(str, flags), *common]) == 0

    return call


def test_predict_takes_what_was_known_on_the_day(run, command, tmp_path):
    known = vintages()[vintages()["release"] <= AS_OF]
    tables = {"all": vintages(), "known": known, "revised before": vintages(AS_OF)}
    found = {}
    for name, table in tables.items():
        out = tmp_path / f"{name}.csv"
        command(predict, table, "run", "--as-of", AS_OF, "--out", out)
        found[name] = pd.read_csv(out, index_col="date").to_numpy()
    np.testing.assert_array_equal(found["all"], found["known"])
    assert np.abs(found["revised before"] - found["known"]).max() > 1e-6  # the value matters
    for day, value in ((AS_OF, 110.0), (REVISED, 90.0)):
        rows = rows_of.load_rows(run, ROWS, pd.Timestamp(day).date(), vintages={"cpi": vintages()})
        assert rows.frame["cpi"].iloc[-1] == value


def test_score_takes_the_outcomes_beside_them(run, command, tmp_path):
    log, out = tmp_path / "log.csv", tmp_path / "drift.csv"
    command(predict, vintages(), "run", "--as-of", AS_OF, "--append", log, "--out", tmp_path / "next.csv")
    levels = [f"{level:g}" for level in run.config.model.quantiles]
    forecast = pd.read_csv(log)[levels].to_numpy()[:, None]
    came = ROWS.loc[[REVISED], ["ret"]].to_numpy()  # the row after the day
    for table in (vintages(), vintages("2018-12-24")):
        out.unlink(missing_ok=True)
        command(score, table, log, "--run", "run", "--out", out)
        for scored in pd.read_csv(out).to_dict("records"):  # of all, and of the month
            assert scored["forecasts"] == 1
            assert scored["pinball"] == pytest.approx(pinball(forecast, came, run.config.model.quantiles))
