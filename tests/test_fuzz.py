"""Damaged configs, tables and runs: each is read, or refused with an error that the user can mend."""

import shutil

import pytest
from fuzz import check
from tiny import make_rows, write_config

from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.tables.inspection import inspect, read_any
from tftjax.evaluate.files import read_evaluation
from tftjax.plots import theme
from tftjax.report.kinds import report
from tftjax.storage.runs import open_run
from tftjax.train.monitor import read_history


def test_configs(tmp_path):
    path = write_config(
        tmp_path,
        "",
        data={"columns": {"target": "ret", "observed": ["x"]}, "events": {"fomc": ["2001-02-03"]}},
        model={"quantiles": [0.1, 0.5, 0.9], "attention": {"regime": {"by": "router"}}},
    )
    check(lambda: load(path), path, path.read_bytes(), range(250))


@pytest.mark.filterwarnings("ignore")  # of overflows and of dates, in columns that no check has seen
def test_tables(tmp_path):
    config = load(write_config(tmp_path, make_rows(40))).data
    table = tmp_path / "panel.csv"

    def read():
        inspected = None
        try:
            load_panel(config)
        finally:
            inspected = inspect(read_any(table))
        assert inspected.rows

    check(read, table, table.read_bytes(), range(100))


FILES = (
    "config.json",
    "panel.json",
    "panel.csv",
    "metrics.jsonl",
    "evaluation/metrics.json",
    "evaluation/notes.json",
    "evaluation/predictions.csv",
    "evaluation/baselines.csv",
    "evaluation/quality.csv",
    "interpretation/importance.csv",
    "interpretation/attention_by_lag.csv",
)
INTERPRETATION = {
    "importance": "split,kind,variable,mean,p10,p90\ntest,past,a,0.6,0.5,0.7\ntest,past,b,0.4,0.3,0.5\n",
    "attention_by_lag": "split,horizon,step,mean,p10,p90\ntest,1,-1,0.4,0.3,0.5\ntest,1,0,0.6,0.5,0.7\n",
}


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    run = shutil.copytree(trained.directory, tmp_path_factory.mktemp("fuzz") / "run")
    (run / "interpretation").mkdir()
    for name, text in INTERPRETATION.items():
        (run / "interpretation" / f"{name}.csv").write_text(text)
    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_files_of_a_run(run, name, monkeypatch):
    """Figures are drawn of numbers that were checked; to draw them takes nine tenths of the time."""
    monkeypatch.setattr(theme, "drawn", lambda *_: '<svg xmlns="http://www.w3.org/2000/svg" />')

    def read():
        read_history(run)
        read_evaluation(run)
        if name in ("config.json", "panel.json", "panel.csv"):
            open_run(run)
        report([run])

    read()
    check(read, run / name, (run / name).read_bytes(), range(8))
