"""Evaluation: which rows it forecasts, that it can be repeated, and what happens when it cannot."""

import dataclasses
import datetime
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import ENCODER_LENGTH, QUANTILES, contents, make_rows

from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.evaluate import evaluation
from tftjax.evaluate.__main__ import main as evaluate_main
from tftjax.evaluate.baselines import BASELINES, Unavailable
from tftjax.evaluate.formatting import p_text
from tftjax.evaluate.metrics import pinball
from tftjax.evaluate.scoring import score_baselines, split_windows, target_rows
from tftjax.evaluate.verdict import among_the_best, combination_line, headline, summary, verdict
from tftjax.plots import theme
from tftjax.storage import runs

RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "core_proposal_raw"
LAST_DAY = datetime.date(2025, 12, 31)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]


KNOWN: dict = {}


@pytest.fixture
def quickly(monkeypatch):
    """Baselines are scored once, and no PNG is drawn: for the tests that look at neither."""

    def score_once(run, windows, _=None):
        return score_baselines(run, windows, KNOWN)

    monkeypatch.setattr(evaluation, "score_baselines", score_once)
    monkeypatch.setattr(theme, "save", lambda path, drawing: path.write_bytes(b"\x89PNG"))


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained.directory, tmp_path / "tiny"))


def test_target_rows_are_the_splits_and_encoders_lie_before(trained):
    run = runs.open_run(trained.directory)
    for split, first, stop in (("val", 224, 272), ("test", 272, 320)):
        rows = target_rows(run, split)
        np.testing.assert_array_equal(rows, np.arange(first, stop)[:, None])
        np.testing.assert_array_equal(run.data.starts[split] + ENCODER_LENGTH, rows[:, 0])


def test_evaluation_in_another_process_agrees(trained, copy):
    """Here with other settings for the processor: equal up to rounding."""
    metrics = evaluation.evaluate(runs.open_run(copy)).metrics
    stored = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())
    assert list(metrics) == list(stored) == ["val", "test"]
    for split in metrics:
        assert list(metrics[split]) == list(stored[split])
        for name in ("pinball", "mae", "rmse", "mu", "sigma"):
            np.testing.assert_allclose(metrics[split][name], stored[split][name], rtol=1e-4, atol=1e-9)
        assert metrics[split]["baselines"] == stored[split]["baselines"]


def test_repeating_gives_the_same_bytes_and_changes_nothing_else(copy):
    before = contents(copy)
    evaluation.evaluate(runs.open_run(copy))
    first = contents(copy)
    evaluation.evaluate(runs.open_run(copy))
    second = contents(copy)
    assert first.keys() == second.keys() == before.keys()
    for name in second:
        if not name.endswith(".png"):
            assert first[name] == second[name], name
        if not name.startswith("evaluation"):
            assert before[name] == second[name], name


@pytest.mark.usefixtures("quickly")
def test_a_year_has_as_many_rows_as_the_panel_s_frequency(copy):
    daily, weekly = [], []
    for found, frequency in ((daily, "daily"), (weekly, "weekly")):
        content = json.loads((copy / "panel.json").read_text())
        content["about"]["frequency"] = frequency
        (copy / "panel.json").write_text(json.dumps(content))
        metrics = evaluation.evaluate(runs.open_run(copy)).metrics
        found += [metrics[split]["trading"]["buy_and_hold"]["sharpe"] for split in metrics]
    np.testing.assert_allclose(weekly, np.array(daily) * np.sqrt(52 / 252), rtol=1e-9)


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

    def rows(name):
        """The cells of a forecast's rows: one block of validation, then those of test."""
        tables = text.partition("Validation rows")[2].partition("Sorted by")[0]
        return [line.split()[1:] for line in tables.splitlines() if line.split()[:1] == [name]]

    text = summary(metrics)
    assert max(map(len, text.splitlines())) <= 80
    assert len(rows("model")) >= 3
    assert all(len(rows(name)) == len(rows("model")) for name in BASELINES)
    for place, split in enumerate(("val", "test")):
        assert rows("model")[place][0].rstrip("*") == f"{metrics[split]['pinball'] * 1e3:.4f}"
        test = metrics[split]["tests"]["diebold_mariano"]["rolling"]
        assert " ".join(rows("rolling")[place]).endswith(p_text(test["p"]))
    # The verdict comes last, where a screen shows it.
    words = (
        f" kept {headline(metrics['test'])[1]}. Test rows: {verdict(metrics['test'])}."
        f" {among_the_best(metrics['test'])}"
    )
    assert " ".join(summary(metrics, ["kept"]).split()).endswith(words)
    line = combination_line(metrics["test"])
    assert line in " ".join(text.split())
    best = min(metrics["val"]["baselines"], key=lambda name: metrics["val"]["baselines"][name]["pinball"])
    assert f"the model adds to {best} (" in line
    assert list(metrics["test"]["combination"]["weights"])[:2] == ["model", best]
    # Undefined metrics are left out of metrics.json, and shown as a dash.
    assert rows("model")[-1][-1] != "-"
    test["p"] = None
    del metrics["test"]["correlation"]
    text = summary(metrics)
    assert rows("model")[-1][-1] == "-"
    assert rows("rolling")[1][-2:] == ["no", "test"]


@pytest.mark.usefixtures("quickly")
def test_a_damaged_checkpoint_falls_back_and_is_said(copy, capsys):
    newest = max((copy / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest / "arrays")
    assert evaluate_main([str(copy)]) == 0
    captured = capsys.readouterr()
    assert "is damaged" in captured.err
    assert "Test rows" in captured.out


def test_results_that_cannot_be_written(copy, capsys):
    shutil.rmtree(copy / "evaluation")
    (copy / "evaluation").write_text("a file in the way")
    assert evaluate_main([str(copy)]) == 2
    assert "evaluation: cannot be made" in capsys.readouterr().err


def test_plots_that_cannot_be_written(copy, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    assert evaluate_main([str(copy)]) == 2
    assert "fan_chart.png: cannot be written (No space left on device)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_run_is_exit_code_2(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert evaluate_main([str(tmp_path / name)]) == 2
    assert "not a run" in capsys.readouterr().err


def test_tables_for_the_report(trained):
    folder = trained.directory / "evaluation"
    predictions, baselines = (pd.read_csv(folder / f"{name}.csv") for name in ("predictions", "baselines"))
    assert list(baselines) == ["date", "split", *(f"{name}/{q}" for name in BASELINES for q in QUANTILES)]
    pd.testing.assert_frame_equal(baselines[["date", "split"]], predictions[["date", "split"]])
    metrics = json.loads((folder / "metrics.json").read_text())["test"]
    test = baselines["split"] == "test"
    for name in BASELINES:
        forecast = baselines.loc[test, [f"{name}/{q}" for q in QUANTILES]].to_numpy()[:, None]
        found = pinball(forecast, predictions.loc[test, ["actual"]].to_numpy(), tuple(map(float, QUANTILES)))
        assert found == pytest.approx(metrics["baselines"][name]["pinball"])
        difference = metrics["tests"]["diebold_mariano"][name]["difference"]
        assert metrics["pinball"] - found == pytest.approx(difference)
    notes = json.loads((folder / "notes.json").read_text())
    assert notes == {"left_out": {}, "volatility_column": "Realized_Vol_21d", "foreign": {}}


@pytest.mark.usefixtures("quickly")
def test_quality_settings_are_read_from_the_run(copy):
    path = copy / "config.json"
    config = json.loads(path.read_text())
    config["evaluation"] = {"quality_window": 20}
    path.write_text(json.dumps(config))
    metrics = evaluation.evaluate(runs.open_run(copy)).metrics
    table = pd.read_csv(copy / "evaluation" / "quality.csv")
    assert table.groupby("split").size().to_dict() == {"test": 29, "val": 29}
    # The first window of 20 rows ends with the twentieth row of the split.
    assert table["date"].tolist()[0] == str(make_rows().index[224 + 19].date())
    shares = table[table["split"] == "test"]["mode"].value_counts(normalize=True).to_dict()
    found = {name: share for name, share in metrics["test"]["quality"].items() if share}
    assert found == pytest.approx(shares)


def test_a_baseline_that_fails_is_left_out_and_said(copy, capsys, monkeypatch):
    def fails(task):
        raise Unavailable("the fit did not converge")

    monkeypatch.setattr(theme, "save", lambda path, drawing: path.write_bytes(b"\x89PNG"))
    monkeypatch.setitem(BASELINES, "garch", fails)
    for module in ("data.volatility", "evaluate.baselines"):
        monkeypatch.setattr(f"tftjax.{module}.VOLATILITY_COLUMNS", ("VIX",))
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    absent = ("garch", "vix_scaled", "gjr_vix", "lightgbm")
    assert evaluate_main([str(copy)]) == 0
    captured = capsys.readouterr()
    assert "left out the baseline garch: the fit did not converge" in captured.err
    assert "left out the baseline vix_scaled: no column VIX" in captured.err
    assert "lightgbm" not in captured.err  # nothing failed
    metrics = json.loads((copy / "evaluation" / "metrics.json").read_text())
    for split in metrics.values():
        kept = [name for name in BASELINES if name not in absent]
        assert list(split["baselines"]) == list(split["tests"]["diebold_mariano"]) == kept
    notes = json.loads((copy / "evaluation" / "notes.json").read_text())
    assert set(notes["left_out"]) == set(absent)
    assert notes["left_out"]["lightgbm"] == "needs the extra: pip install 'tftjax[lightgbm]'"
    assert notes["volatility_column"] is None


def test_runs_on_the_same_data_share_their_baselines(trained, monkeypatch):
    run, known = runs.open_run(trained.directory), {}
    windows = {split: split_windows(run, split) for split in ("val", "test")}
    first = score_baselines(run, windows, known)
    monkeypatch.setattr("tftjax.evaluate.scoring.BASELINES", {})
    assert score_baselines(run, windows, known) is first
    other = run.config.model_copy(update={"model": run.config.model.model_copy(update={"quantiles": (0.5,)})})
    assert not score_baselines(dataclasses.replace(run, config=other), windows, known).scores["test"]
    assert len(known) == 2


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw series of core_proposal are not beside this repository")
def test_reference_figures_of_core_proposal():
    """Mean pinball in 1e-3, validation and test, as found beforehand (design, section 7)."""
    config = from_dict({"data": {"dataset": str(RAW), "feature_set": "core_proposal"}}, "test")
    config = config.model_copy(update={"data": config.data.model_copy(update={"end": LAST_DAY})})
    data = prepare(load_panel(config.data), config)
    run = runs.Run(Path("nowhere"), config, data, {}, 0)
    found = score_baselines(run, {split: split_windows(run, split) for split in ("val", "test")})
    expected = {
        "unconditional": (2.201, 2.182),
        "ewma_scaled": (1.995, 2.120),
        "vix_scaled": (1.967, 2.084),
        "gjr_garch": (1.946, 2.085),
    }
    for name, pinballs in expected.items():
        ours = [1e3 * found.scores[split][name].metrics["pinball"] for split in ("val", "test")]
        np.testing.assert_allclose(ours, pinballs, rtol=1e-3, err_msg=name)
