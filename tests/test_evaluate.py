"""Evaluation: which rows it forecasts, that it can be repeated, and what happens when it cannot."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import ENCODER_LENGTH, contents, make_rows

from tftjax import evaluate, runs
from tftjax.baselines import BASELINES
from tftjax.scoring import p_text, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained.directory, tmp_path / "tiny"))


def test_target_rows_are_the_splits_and_encoders_lie_before(trained):
    run = runs.open_run(trained.directory)
    for split, first, stop in (("val", 224, 272), ("test", 272, 320)):
        rows = evaluate.target_rows(run, split)
        np.testing.assert_array_equal(rows, np.arange(first, stop)[:, None])
        np.testing.assert_array_equal(run.data.starts[split] + ENCODER_LENGTH, rows[:, 0])


def test_evaluation_in_another_process_agrees(trained, copy):
    """Here with other settings for the processor: equal up to rounding."""
    metrics = evaluate.evaluate(runs.open_run(copy))
    stored = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())
    assert list(metrics) == list(stored) == ["val", "test"]
    for split in metrics:
        assert list(metrics[split]) == list(stored[split])
        for name in ("pinball", "mae", "rmse", "mu", "sigma"):
            np.testing.assert_allclose(metrics[split][name], stored[split][name], rtol=1e-4, atol=1e-9)
        assert metrics[split]["baselines"] == stored[split]["baselines"]


def test_repeating_gives_the_same_bytes_and_changes_nothing_else(copy):
    before = contents(copy)
    evaluate.evaluate(runs.open_run(copy))
    first = contents(copy)
    evaluate.evaluate(runs.open_run(copy))
    second = contents(copy)
    assert first.keys() == second.keys() == before.keys()
    for name in second:
        if not name.endswith(".png"):
            assert first[name] == second[name], name
        if not name.startswith("evaluation"):
            assert before[name] == second[name], name


def test_baseline_by_hand(trained):
    """The unconditional forecast: quantiles of the train returns, the same for every day."""
    stored = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())["test"]
    returns = make_rows()["SP500_Returns"].to_numpy()
    train, test = returns[:224], returns[272:]
    levels = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    losses = [
        np.where(test > v, q * (test - v), (1 - q) * (v - test))
        for q, v in zip(levels, np.quantile(train, levels), strict=True)
    ]
    np.testing.assert_allclose(stored["baselines"]["unconditional"]["pinball"], np.mean(losses), rtol=1e-6)


def test_summary_names_every_split_and_baseline(trained):
    metrics = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())
    lines = evaluate.summary(metrics).splitlines()
    names = ["model", *BASELINES]
    assert [line.split()[:2] for line in lines[1:17]] == [[s, n] for s in ("val", "test") for n in names]
    assert f"{metrics['test']['pinball'] * 1e3:.4f}" in lines[9]
    test = metrics["test"]["tests"]["diebold_mariano"]["rolling"]
    assert p_text(test["p"]) in lines[11]
    assert lines[-1] == f"test: {verdict(metrics['test'])}"
    # Undefined metrics are left out of metrics.json, and shown as a dash.
    del metrics["test"]["coverage"]["80"]
    test["p"] = None
    lines = evaluate.summary(metrics).splitlines()
    assert " - " in lines[9]
    assert " - " in lines[11]


def test_a_damaged_checkpoint_falls_back_and_is_said(copy, capsys):
    newest = max((copy / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest / "arrays")
    assert evaluate.main([str(copy)]) == 0
    captured = capsys.readouterr()
    assert "is damaged" in captured.err
    assert "test model" in captured.out


def test_results_that_cannot_be_written(copy, capsys):
    shutil.rmtree(copy / "evaluation")
    (copy / "evaluation").write_text("a file in the way")
    assert evaluate.main([str(copy)]) == 2
    assert "evaluation: cannot be made" in capsys.readouterr().err


def test_plots_that_cannot_be_written(copy, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tftjax.plots.fan_chart", full)
    assert evaluate.main([str(copy)]) == 2
    assert "the plots cannot be written (No space left on device)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_run_is_exit_code_2(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert evaluate.main([str(tmp_path / name)]) == 2
    assert "not a run" in capsys.readouterr().err
