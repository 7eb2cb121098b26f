"""A variant beside the baseline in one sweep, as a user runs it: every control at once."""

import dataclasses
import json

import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest
from tiny import QUANTILES, assert_same_arrays, make_rows, metric_lines, run_here, write_config

from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.panel import write_panel
from tftjax.interpret.__main__ import main as interpret_main
from tftjax.storage import checkpoint, runs
from tftjax.sweep.__main__ import main as sweep_main

pytestmark = pytest.mark.slow
PENALTIES = {
    "marginal_weight": 0.5,
    "directional_weight": 1.0,
    "directional_threshold": 0.5,
    "crossing_weight": 1.0,
}
ATTENTION = {
    "staleness": {"mode": "variable_selection", "decay": "log"},
    "regime": {"by": "thresholds", "column": "Realized_Vol_21d", "thresholds": [15]},
}
NEW = ["attention_gates/gate", "encoder_selection_staleness/raw_weight", "output/bias", "output/kernel"]


def built_panel(folder):
    """The panel of all members, with a column that is released once in 21 rows."""
    panel = load_panel(load(write_config(folder, make_rows())).data)
    ages = pd.DataFrame({"Core_Inflation_YoY": np.arange(len(panel.frame)) % 21.0}, index=panel.frame.index)
    (folder / "panel").mkdir()
    write_panel(folder / "panel", dataclasses.replace(panel, staleness=ages))
    return folder / "panel"


@pytest.fixture(scope="module")
def swept(trained, quick_evaluation, tmp_path_factory):
    """The folder of a sweep's members: the baseline, one with penalties, one with all; and what was said."""
    folder = tmp_path_factory.mktemp("variants")
    short, data = {"max_epochs": 2}, {"dataset": str(built_panel(folder / "b"))}
    (folder / "a").mkdir()
    changes = {"baseline": ({}, {}, {}), "penalties": ({}, PENALTIES, {})}
    controls = {
        "freeze": ["embedding*"],
        "lr_multipliers": {"lstm*": 0.1},
        "gradient_scales": {"output*": 2.0},
    }
    controls |= {"init_from": str(trained.directory)}
    changes["all"] = ({"quantile_head": "monotone", "attention": ATTENTION}, PENALTIES, controls)
    paths = []
    for name, (model, loss, train) in changes.items():
        sections = {"data": data, "model": model, "loss": loss, "train": short | train, "name": name}
        path = write_config(folder / "a", make_rows(), **sections)
        paths.append(path.rename(folder / f"{name}.json"))
    out, err = run_here(sweep_main, *paths, "--runs", folder)
    assert "3 members in 2 program(s)" in out
    return folder / "sweep" / "members", err


def lines(swept, name):
    return metric_lines(swept[0] / f"{name}-s42")


def test_the_variant_says_where_it_starts(trained, swept):
    folder, err = swept
    record = json.loads((folder / "all-s42" / "init.json").read_text())
    assert f"all-s42 starts from {trained.directory}, epoch {record['epoch']}: " in err
    assert record["new"] == NEW
    assert record["left"] == ["output/bias", "output/kernel"]
    assert not (folder / "baseline-s42" / "init.json").exists()


def test_frozen_parameters_are_the_sources_and_others_moved(trained, swept):
    source = checkpoint.restore_latest(trained.directory / "checkpoints").arrays["params"]
    own = checkpoint.restore_latest(swept[0] / "all-s42" / "checkpoints").arrays["params"]
    embeddings = [name for name in own if name.startswith("embedding")]
    assert embeddings
    for name in embeddings:
        assert_same_arrays(own[name], source[name])
    assert not np.array_equal(own["attention"]["key_kernel"], source["attention"]["key_kernel"])
    assert {line["update_norm/embeddings"] for line in lines(swept, "all")} == {0.0}


def test_a_monotone_head_never_crosses(swept):
    table = pd.read_csv(swept[0] / "all-s42" / "evaluation" / "predictions.csv")
    assert (np.diff(table[QUANTILES].to_numpy(), axis=1) >= 0).all()
    assert all(line["crossing_penalty"] == 0 for line in lines(swept, "all"))


def test_penalties_act_beside_a_baseline_without_them(swept):
    first, other = (lines(swept, name)[0] for name in ("baseline", "penalties"))
    assert first["directional_penalty"] == first["crossing_penalty"] == first["marginal_penalty"] == 0
    assert min(other["directional_penalty"], other["marginal_penalty"]) > 0
    assert first["loss"] != other["loss"]


def test_weights_of_age_and_gates_are_learned(swept):
    params = checkpoint.restore_latest(swept[0] / "all-s42" / "checkpoints").arrays["params"]
    aged = params["encoder_selection_staleness"]["raw_weight"] != 0
    observed = runs.open_run(swept[0] / "all-s42").data.panel.observed
    assert [name for name, moved in zip(observed, aged, strict=True) if moved] == ["Core_Inflation_YoY"]
    assert (params["attention_gates"]["gate"] != 0).all()


def test_metrics_by_regime_stand_beside_the_whole(swept):
    metrics = json.loads((swept[0] / "all-s42" / "evaluation" / "metrics.json").read_text())["val"]
    table = pd.read_csv(swept[0] / "all-s42" / "evaluation" / "predictions.csv").query("split == 'val'")
    for parts in metrics["regimes"].values():
        assert sum(part["windows"] for part in parts.values()) == len(table)
    below, above = metrics["regimes"]["Realized_Vol_21d"].values()
    whole = below["windows"] * below["pinball"] + above["windows"] * above["pinball"]
    assert whole / len(table) == pytest.approx(metrics["pinball"], rel=1e-6)
    assert min(below["windows"], above["windows"]) > 0
    baseline = json.loads((swept[0] / "baseline-s42" / "evaluation" / "metrics.json").read_text())["val"]
    assert list(baseline["regimes"]) == ["volatility"]


@pytest.mark.usefixtures("in_process")
def test_runs_of_a_sweep_are_interpreted(swept, capsys):
    assert interpret_main([str(swept[0] / name) for name in ("baseline-s42", "all-s42")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:7]] == ["baseline-s42"] * 3 + ["all-s42"] * 3
    table = pd.read_csv(swept[0] / "all-s42" / "interpretation" / "variants.csv")
    assert set(table["what"]) == {"staleness weight", "gate"}
    assert not (swept[0] / "baseline-s42" / "interpretation" / "variants.csv").exists()


def test_plain_orbax_reads_what_a_variant_saved(swept):
    directory = swept[0] / "all-s42" / "checkpoints"
    saved = checkpoint.restore_latest(directory)
    items = ocp.args.Composite(arrays=ocp.args.PyTreeRestore(), metadata=ocp.args.JsonRestore())
    plain = ocp.Checkpointer(ocp.CompositeCheckpointHandler()).restore(
        directory / str(saved.epoch), args=items
    )
    assert_same_arrays(saved.arrays, plain["arrays"])
    assert plain["metadata"]["config"]["train"]["lr_multipliers"] == {"lstm*": 0.1}
