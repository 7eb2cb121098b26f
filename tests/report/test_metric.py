"""A metric that is added to the one table is in everything that is said of a run and of a sweep."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from pages import Reader

from tftjax.evaluate import evaluation
from tftjax.evaluate.files import read_predictions
from tftjax.evaluate.formatting import BASIS_POINTS
from tftjax.evaluate.metrics import METRICS, Metric
from tftjax.evaluate.verdict import summary
from tftjax.plots import theme
from tftjax.report.kinds import report
from tftjax.storage import runs
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import Member
from tftjax.sweep.results import write_results


@pytest.mark.slow
def test_a_new_metric_is_everywhere(trained, tmp_path, monkeypatch):
    def width(forecast, target, quantiles):
        return float((forecast[..., -1] - forecast[..., 0]).mean())

    monkeypatch.setitem(METRICS, "width", Metric(width, "width, bp", BASIS_POINTS, "lower"))
    monkeypatch.setattr(theme, "drawn", lambda *_: '<svg xmlns="http://www.w3.org/2000/svg" />')
    folder = tmp_path / "sweep"
    run = folder / "members" / "only"
    shutil.copytree(trained.directory, run)
    forecasts = {split: read_predictions(run, split).forecast for split in ("val", "test")}
    opened = runs.open_run(run)
    metrics = evaluation.evaluate_forecasts(opened, forecasts).metrics
    stored = json.loads((run / "evaluation" / "metrics.json").read_text())["test"]
    own = np.ptp(forecasts["test"][:, 0, [0, -1]], axis=-1).mean()
    assert stored["width"] == pytest.approx(own)
    cells = [f"{1e4 * values['width']:.1f}" for values in (stored, stored["baselines"]["garch"])]

    lines = summary(metrics).splitlines()
    place = next(n for n, line in enumerate(lines) if "width," in line)
    assert any(
        cells[0] in line.replace("*", "").split() for line in lines[place:] if line.startswith("model ")
    )

    (folder / "sweep.json").write_text(json.dumps({"members": [{"name": "only"}]}))
    members, ended = [Member("only", "tiny", opened.config)], {"only": Ended("finished", 8, 5)}
    text = write_results(folder, members, ended, {})[1]
    assert "width," in text
    table = (folder / "summary.md").read_text().partition("## Test")[2]
    assert " | width, bp |" in table
    assert all(cell in table for cell in cells)
    assert pd.read_csv(folder / "summary.csv")["metric"].eq("width").sum() == 2  # of either split

    report([run, folder])
    for directory in (run, folder):
        page = Reader((directory / "report.html").read_text(encoding="utf-8"))
        assert any("width, bp" in row for row in page.rows)
        assert all(any(cell in row for row in page.rows) for cell in cells)
