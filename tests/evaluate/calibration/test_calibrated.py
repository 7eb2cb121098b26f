"""A run's calibration: judged beside the model, kept, and taken away again."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import QUANTILES, contents

from tftjax.api.results import _metrics_frame
from tftjax.config.loading import from_dict
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.evaluate import evaluation
from tftjax.evaluate.calibration.calibrated import calibration_of
from tftjax.evaluate.calibration.conformal import shifted, split_shifts
from tftjax.evaluate.files import read_evaluation, read_predictions
from tftjax.evaluate.metrics import pinball
from tftjax.evaluate.verdict import conformal_line, summary
from tftjax.storage import runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process", "quick_evaluation")]


def with_settings(directory, method, split=(0.6, 0.2, 0.2)):
    """The run with another calibration; of 320 rows by other shares, as 48 are too few for the level 0.02."""
    run = runs.open_run(directory)
    content = run.config.model_dump(mode="json")
    content["data"]["split"] = list(split)
    content["evaluation"]["conformal"] = method
    config = from_dict(content, "test")
    return dataclasses.replace(run, config=config, data=prepare(run.data.whole, config, run.data.encoding))


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    """Directory and test metrics of each method."""
    made = {}
    for method in ("none", "split", "adaptive"):
        directory = Path(shutil.copytree(trained.directory, tmp_path_factory.mktemp(method) / "tiny"))
        made[method] = directory, evaluation.evaluate(with_settings(directory, method)).metrics["test"]
    return made


def test_the_calibrated_forecast_is_that_of_the_validation_rows(judged):
    directory, metrics = judged["split"]
    val, test = (read_predictions(directory, split) for split in ("val", "test"))
    shifts = split_shifts(val.forecast, val.target, val.quantiles)
    expected = shifted(test.forecast, shifts, test.quantiles)
    assert metrics["conformal"]["metrics"]["pinball"] == pytest.approx(
        pinball(expected, test.target, test.quantiles), rel=1e-12
    )
    table = pd.read_csv(directory / "evaluation" / "conformal.csv", parse_dates=["date"])
    np.testing.assert_allclose(table[QUANTILES], expected[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(table["actual"], test.target[:, 0])
    assert table["date"].tolist() == test.dates.tolist()
    kept = calibration_of(directory, "")
    assert (kept.method, kept.windows, kept.until) == ("split", 64, str(val.dates[-1].date()))
    np.testing.assert_array_equal(kept.shifts, shifts)


def test_it_changes_nothing_else_and_has_a_line_in_the_court(judged):
    before = judged["none"][1]
    for method in ("split", "adaptive"):
        directory, metrics = judged[method]
        assert {name: part for name, part in metrics.items() if name != "conformal"} == before
        read_evaluation(directory)
        text = summary(json.loads((directory / "evaluation" / "metrics.json").read_text()))
        row = next(line for line in text.splitlines() if line.startswith("model, conformal"))
        loss = metrics["conformal"]["metrics"]["pinball"]
        assert f"{1e3 * loss:.4f}" in row
        # The row says by how much the model is larger, as those of the baselines do.
        assert f"{1e3 * (before['pinball'] - loss):+.4f}" in row
        assert conformal_line(metrics) in " ".join(text.split())
        assert "interval covers" in conformal_line(metrics)
        frame = _metrics_frame({"test": metrics})
        assert frame.loc[("test", f"model, conformal ({method})"), "pinball"] == loss
    assert judged["split"][1]["conformal"] != judged["adaptive"][1]["conformal"]


def test_adaptive_begins_as_split_and_goes_its_way(judged):
    first, second = (
        pd.read_csv(judged[method][0] / "evaluation" / "conformal.csv")[QUANTILES].to_numpy()
        for method in ("split", "adaptive")
    )
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1:] != second[1:]).any(axis=1).all()
    assert (np.diff(second, axis=1) >= 0).all()


def test_without_it_nothing_of_it_stays(judged, trained):
    directory, _ = judged["adaptive"]
    evaluation.evaluate(with_settings(directory, "none"))
    assert contents(directory / "evaluation").keys() == contents(trained.directory / "evaluation").keys()
    # A calibration that is asked for all the same is fitted as it would have been.
    np.testing.assert_array_equal(
        calibration_of(directory, "").shifts, calibration_of(judged["split"][0], "").shifts
    )


def test_too_few_rows_and_none_at_all(judged, caplog):
    directory, _ = judged["none"]
    with pytest.raises(UserError, match=r"found 48 validation windows.*at least 49 for the quantile 0\.02"):
        evaluation.evaluate(with_settings(directory, "split", (0.7, 0.15, 0.15)))
    run = with_settings(directory, "split")
    data = run.config.data.model_copy(update={"train_on_val": True})
    run = dataclasses.replace(run, config=run.config.model_copy(update={"data": data}))
    assert "conformal" not in evaluation.evaluate(run).metrics["test"]
    assert "left out the conformal calibration (split): data.train_on_val" in caplog.text


def test_a_damaged_calibration_is_named(judged):
    path = judged["split"][0] / "evaluation" / "conformal.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"shifts": [[0.0]]}))
    with pytest.raises(UserError, match=r"conformal\.json: damaged: found shifts \(1, 1\)"):
        calibration_of(judged["split"][0], "")
    path.write_text(json.dumps(content))
