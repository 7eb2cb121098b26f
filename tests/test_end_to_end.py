"""The commands as a user runs them, in processes of their own: train, kill, resume, evaluate, predict."""

import json
import math
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import (
    EPOCHS,
    QUANTILES,
    assert_same_arrays,
    assert_same_run,
    contents,
    few_baselines,
    make_rows,
    metric_lines,
    run_here,
    write_config,
)

from tftjax.predict.__main__ import main as predict_main
from tftjax.report.__main__ import main as report_main
from tftjax.storage import checkpoint
from tftjax.train.__main__ import main as train_main

pytestmark = pytest.mark.slow
STOPPED = (
    "stopped; the same command with --resume (in place of --overwrite) goes on from the last finished epoch"
)

PARTS = {"embeddings", "variable_selection", "lstm", "attention", "output"}


def leaves(tree):
    for value in tree.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def test_files_of_a_run(trained):
    names = {path.name for path in trained.directory.iterdir()}
    assert names == {
        "config.json",
        "panel.csv",
        "panel.json",
        "metrics.jsonl",
        "checkpoints",
        "evaluation",
        "lock",
    }
    written = {path.name for path in (trained.directory / "evaluation").iterdir()}
    tables = {"predictions.csv", "baselines.csv", "quality.csv"}
    plots = {"fan_chart.png", "calibration.png", "monitor.png"}
    assert written == {"metrics.json", "notes.json"} | tables | plots
    for plot in plots:
        content = (trained.directory / "evaluation" / plot).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
    assert not [name for name in contents(trained.directory) if re.search(r"pkl|pickle|joblib|\.new", name)]


def test_nothing_in_a_run_is_pickled(trained):
    # Every pickle of protocol 2 or later starts with 0x80 and its protocol, and ends with a stop: ".".
    for name, content in contents(trained.directory).items():
        assert not (content[:1] == b"\x80" and content[1:2] <= b"\x05" and content[-1:] == b"."), name


def test_metrics_have_a_line_an_epoch(trained):
    lines = metric_lines(trained.directory, without=())
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    assert len({tuple(line) for line in lines}) == 1
    terms = {"loss", "quantile_loss", "mean_penalty", "std_penalty", "mu", "sigma", "share_positive"}
    assert terms | {f"val/{term}" for term in terms} <= set(lines[0])
    assert {"gradient_norm", "seconds", "windows_per_s", "improved"} <= set(lines[0])
    parts = {name.partition("/")[2] for name in lines[0] if name.startswith("gradient_norm/")}
    assert parts == PARTS
    for line in lines:
        assert all(math.isfinite(value) for name, value in line.items() if name != "warnings")
        assert all(words for words in line["warnings"].values())
        assert all(line[f"gradient_norm/{part}"] > 0 for part in PARTS)
        # The mean of a step's norm, and the means of its parts: no part is above the whole, on the mean.
        assert max(line[f"gradient_norm/{part}"] for part in PARTS) <= line["gradient_norm"] * (1 + 1e-5)
        total = line["quantile_loss"] + line["mean_penalty"] + line["std_penalty"]
        np.testing.assert_allclose(line["loss"], total, rtol=1e-4)
    best = [line["val/loss"] for line in lines if line["improved"]]
    assert best == sorted(best, reverse=True)
    assert lines[0]["improved"]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_evaluation_holds_numbers_only(trained):
    metrics = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())
    assert list(metrics) == ["val", "test"]
    for split in metrics.values():
        names = {"pinball", "pinball_by_quantile", "coverage", "crossing_rate", "mae", "rmse", "mu", "sigma"}
        names |= {"share_positive", "directional_accuracy", "directional_base_rate", "correlation"}
        assert names <= set(split)
        assert set(split["coverage"]) == {"50", "80", "96"}
        assert set(split["pinball_by_quantile"]) == set(QUANTILES)
        assert names - {"correlation"} <= set(split["baselines"]["unconditional"])
        parts = ("tests", "trading", "quality", "quality_random", "combination", "encompassing")
        beyond = [split.pop(part) for part in parts if part in split]
        assert all(type(value) in (int, float) and math.isfinite(value) for value in leaves(split))
        assert all(v is None or math.isfinite(v) for part in beyond for v in leaves(part))


def test_validation_loss_of_training_is_the_evaluations(trained):
    """Two ways to the same number: the epoch's program, and the evaluation of what was saved."""
    best = [line for line in metric_lines(trained.directory) if line["improved"]][-1]
    val = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())["val"]
    np.testing.assert_allclose(val["pinball"], best["val/quantile_loss"], rtol=1e-4)
    np.testing.assert_allclose(val["sigma"], best["val/sigma"], rtol=1e-3)


def test_predictions_table(trained):
    table = pd.read_csv(trained.directory / "evaluation" / "predictions.csv", parse_dates=["date"])
    assert list(table) == ["date", "split", "actual", *QUANTILES]
    numbers = table[["actual", *QUANTILES]].to_numpy()
    assert np.isfinite(numbers).all()
    # 320 rows: validation targets are rows 224 to 271, test targets 272 to 319.
    np.testing.assert_array_equal(table["date"], trained.rows.index[224:])
    assert table["split"].tolist() == ["val"] * 48 + ["test"] * 48
    np.testing.assert_array_equal(table["actual"], trained.rows["SP500_Returns"].iloc[224:])
    median = table[table["split"] == "test"]["0.5"]
    metrics = json.loads((trained.directory / "evaluation" / "metrics.json").read_text())
    np.testing.assert_allclose(median.std(ddof=0), metrics["test"]["sigma"], rtol=1e-6)


def test_output_is_plain_lines_without_a_terminal(trained):
    lines = [line for line in trained.out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{n}/{EPOCHS}" for n in range(1, EPOCHS + 1)]
    for word in ("loss", "pinball", "mean", "std", "val", "sigma", "bp", "positive", "windows/s", "left"):
        assert word in lines[0]
    assert "\x1b" not in trained.out
    assert trained.err == ""
    assert "\nunconditional " in trained.out.partition("Test rows")[2]


def test_evaluating_again_gives_the_same_bytes(trained, commands, tmp_path):
    # From the run directory alone: moved elsewhere, the source of its data gone.
    copy = Path(shutil.copytree(trained.directory, tmp_path / "moved"))
    config = json.loads((copy / "config.json").read_text())
    assert Path(config["data"]["dataset"]).is_file()
    config["data"]["dataset"] = str(tmp_path / "gone.csv")
    (copy / "config.json").write_text(json.dumps(config))
    shutil.rmtree(copy / "evaluation")
    out, _ = commands.run("evaluate", copy)
    assert "\nmodel " in out.partition("Test rows")[2]
    for name in ("metrics.json", "predictions.csv"):
        expected = (trained.directory / "evaluation" / name).read_bytes()
        assert (copy / "evaluation" / name).read_bytes() == expected


def test_parameters_restored_by_orbax_alone(trained, tmp_path):
    """In a process that cannot import tftjax; the run's parameters, the scaler and the config come along."""
    saved = checkpoint.restore_latest(trained.directory / "checkpoints")
    script = f"""
import json, sys
sys.modules["tftjax"] = None
import numpy as np
import orbax.checkpoint as ocp
items = ocp.args.Composite(arrays=ocp.args.PyTreeRestore(), metadata=ocp.args.JsonRestore())
path = {str(trained.directory / "checkpoints" / str(saved.epoch))!r}
saved = ocp.Checkpointer(ocp.CompositeCheckpointHandler()).restore(path, args=items)
def flat(tree, path=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{{path}}{{name}}.")
        else:
            yield path + name, np.asarray(value)
np.savez("params.npz", **dict(flat(saved["arrays"]["params"])))
open("metadata.json", "w").write(json.dumps(saved["metadata"]))
try:
    import tftjax
except ImportError:
    sys.exit(0)
sys.exit("tftjax could be imported")
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=300)
    restored: dict = {}
    with np.load(tmp_path / "params.npz", allow_pickle=False) as arrays:
        for path, value in arrays.items():
            *names, leaf = path.split(".")
            node = restored
            for name in names:
                node = node.setdefault(name, {})
            node[leaf] = value
    assert_same_arrays(restored, saved.arrays["params"])
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["config"] == json.loads((trained.directory / "config.json").read_text())
    returns = next(item for item in metadata["encoding"]["scaler"] if item["name"] == "SP500_Returns")
    train = trained.rows["SP500_Returns"].iloc[:224]  # 70 % of 320 rows
    np.testing.assert_allclose([returns["center"], returns["scale"]], [[train.mean()], [train.std(ddof=0)]])
    assert {"jax", "tftjax", "python"} <= set(metadata["versions"])


def test_kills_and_resumes_end_in_the_same_bits(trained, commands, tmp_path):
    arguments = trained.config, "--runs", tmp_path, "--resume"
    run = tmp_path / "tiny"
    saved = run / "checkpoints"

    def lines():
        path = run / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def writing():
        return lines() > first and saved.exists() and any(".new" in path.name for path in saved.iterdir())

    moments = [
        (lambda: (run / "config.json").exists(), "compiling"),
        (lambda: lines() >= 2, "training"),
        (writing, "writing a checkpoint"),
    ]
    reached = []
    for moment, name in moments:
        first = lines()
        code, _, err = commands.interrupt_when(moment, signal.SIGKILL, *arguments)
        assert code == -signal.SIGKILL, (name, err)
        assert not (run / "evaluation").exists()
        reached.append((lines(), checkpoint.epochs(saved)))
    assert reached[0] == (0, [])
    assert 2 <= reached[1][0] < reached[2][0] <= EPOCHS
    out, err = commands.run("train", *arguments)
    assert f"going on after epoch {reached[2][1][-1]}" in err
    assert "damaged" not in err
    assert out.startswith("tiny\nrun directory ")
    assert_same_run(run, trained.directory)


@pytest.mark.parametrize("moment", ["training", "writing a checkpoint"])
def test_ctrl_c_saves_and_resume_ends_in_the_same_bits(trained, commands, tmp_path, moment):
    run = tmp_path / "tiny"
    arguments = [trained.config, "--runs", tmp_path]

    def reached():
        path, saved = run / "metrics.jsonl", run / "checkpoints"
        after_two = path.exists() and len(path.read_text().splitlines()) >= 2
        return after_two and (moment == "training" or any(saved.glob("*.new*")))

    code, _, err = commands.interrupt_when(reached, signal.SIGINT, *arguments)
    assert code == 130, err
    assert err.strip() == STOPPED
    saved = checkpoint.restore_latest(run / "checkpoints")
    assert saved.epoch >= 2
    _, err = commands.run("train", *arguments, "--resume")
    assert f"going on after epoch {saved.epoch}" in err
    assert_same_run(run, trained.directory)


def test_damaged_newest_checkpoint_falls_back(trained, commands, tmp_path):
    run = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    shutil.rmtree(run / "evaluation")
    largest = max((run / "checkpoints" / str(EPOCHS)).rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-7])
    _, err = commands.run("train", trained.config, "--runs", tmp_path, "--resume")
    assert "is damaged" in err
    assert "using the one before" in err
    assert f"going on after epoch {EPOCHS - 1}" in err
    assert_same_run(run, trained.directory)


def test_resuming_a_finished_run_evaluates_only(trained, commands, tmp_path):
    run = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    (run / "evaluation" / "metrics.json").write_text("{}")
    before = {k: v for k, v in contents(run).items() if not k.startswith("evaluation")}
    out, _ = commands.run("train", trained.config, "--runs", tmp_path, "--resume")
    assert not re.search(r"^epoch ", out, re.MULTILINE)
    assert {k: v for k, v in contents(run).items() if not k.startswith("evaluation")} == before
    assert_same_run(run, trained.directory)


def test_percent_is_converted_and_quiet_is_quiet(trained, commands, tmp_path):
    percent = make_rows()
    returns = ["SP500_Returns", "WTI_Return_21d"]
    percent[returns] = (percent[returns] * 100).round(4)
    config = write_config(tmp_path, percent, data={"return_unit": "percent"})
    out, err = commands.run("train", config, "--runs", tmp_path / "runs", "--quiet")
    assert (out, err) == ("", "")
    run = tmp_path / "runs" / "tiny"
    # The same decimals: those of the shared run have 6 places, and percent divided by 100 is rounded alike.
    stored, expected = (pd.read_csv(d / "panel.csv", index_col="date") for d in (run, trained.directory))
    np.testing.assert_allclose(stored, expected, rtol=1e-15)
    assert_same_arrays(
        checkpoint.restore_latest(run / "checkpoints").arrays,
        checkpoint.restore_latest(trained.directory / "checkpoints").arrays,
    )
    assert metric_lines(run) == metric_lines(trained.directory)


def test_full_disk_is_an_error_without_traceback(trained, commands, tmp_path):
    """A limit on the size of files stands for the full disk: every longer write fails, by the system."""

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = commands.start("train", trained.config, "--runs", tmp_path, "--quiet")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "panel.csv: cannot be written" in err
    assert not (tmp_path / "tiny").exists()


def test_three_steps_ahead(tmp_path):
    config = write_config(tmp_path, make_rows(), model={"prediction_length": 3}, train={"max_epochs": 1})
    with few_baselines():
        run_here(train_main, config, "--runs", tmp_path, "--quiet")
    run = tmp_path / "tiny"
    table = pd.read_csv(run / "evaluation" / "predictions.csv", parse_dates=["date"])
    assert list(table) == ["date", "split", "step", "actual", *QUANTILES]
    test = table[table["split"] == "test"]
    assert test["step"].tolist() == [1, 2, 3] * 46  # 48 test rows hold 46 windows of three
    np.testing.assert_array_equal(test["date"].iloc[:6], make_rows().index[[272, 273, 274, 273, 274, 275]])
    out = tmp_path / "forecast.csv"
    run_here(predict_main, run, "--as-of", make_rows().index[271].date(), "--out", out)
    forecast = pd.read_csv(out, parse_dates=["date"])
    np.testing.assert_array_equal(forecast["date"], make_rows().index[272:275])
    np.testing.assert_allclose(forecast[QUANTILES], np.sort(test[QUANTILES].iloc[:3], axis=1), atol=1e-6)
    assert report_main([str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The last 46 forecasts, first step: return, %" in page
