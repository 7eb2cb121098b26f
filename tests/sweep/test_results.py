"""Tables of a sweep on numbers worked out by hand."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import Config
from tftjax.config.loss import LossConfig
from tftjax.config.train import TrainConfig
from tftjax.errors import UserError
from tftjax.evaluate.formatting import BASIS_POINTS
from tftjax.evaluate.metrics import METRICS, Metric, flatten
from tftjax.evaluate.quality import MODES
from tftjax.plots.sweeps import draw
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import Member
from tftjax.sweep.results import (
    all_at_once,
    last_best,
    ranking,
    results_table,
    settings_table,
    summarise,
    write_results,
)

# By config: std weight, and by seed the pinball on validation and on test, in 1e-3.
RUNS = {
    "control": (0.0, {1: (2.0, 3.0), 2: (2.4, 3.2), 3: (2.2, 3.1)}),
    "weak": (0.01, {1: (1.9, 3.3), 2: (2.0, 3.5), 3: None}),
    "strong": (0.1, {1: (2.9, 1.0), 2: (2.9, 1.0), 3: (2.9, 1.0)}),
}


def metrics_of(pinball):
    values = {"pinball": pinball * 1e-3, "sigma": pinball * 1e-4, "share_positive": 0.75}
    values |= {"directional_accuracy": 0.5, "coverage": {"50": 0.4, "80": 0.8}}
    difference = pinball * 1e-3 - 2.1e-3
    tested = {"difference": difference, "p": 0.01 if abs(difference) > 0.15e-3 else 0.5}
    tested |= {"low": None, "high": None}
    values |= {"pinball_by_quantile": {"0.5": 1e-3}, "pit_histogram": {"0-0.5": 0.5, "0.5-1": 0.5}}
    held = dict.fromkeys(("sharpe", "low", "high", "turnover", "excess", "excess_low", "excess_high"))
    of_model = {"trading": {"cost": 0.0} | dict.fromkeys(("sign", "scaled", "buy_and_hold"), held)}
    of_model |= {"tests": {"days": 300, "diebold_mariano": {"unconditional": tested}}}
    of_model |= dict.fromkeys(("quality", "quality_random"), dict.fromkeys(MODES, 0.0))
    return values | of_model | {"baselines": {"unconditional": values | {"pinball": 2.1e-3}}}


def write_forecasts(folder, misses, baseline=None, days=61):
    """An evaluation's forecasts of 0: all quantiles too high by each day's miss; a loss of 0.5 times that."""
    dates = pd.bdate_range("2001-01-01", periods=days).strftime("%Y-%m-%d")
    parts, compared = [], []
    for split in ("val", "test"):
        rows = pd.DataFrame({"date": dates, "split": split})
        parts.append(rows.assign(actual=0.0, **{"0.5": misses[:days]}))
        compared.append(rows.assign(**{"unconditional/0.5": baseline[:days]} if baseline is not None else {}))
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_csv(folder / "predictions.csv", index=False)
    if baseline is not None:
        pd.concat(compared).to_csv(folder / "baselines.csv", index=False)


@pytest.fixture
def sweep():
    """Members, how they ended, and their metrics."""
    members, ended, metrics = [], {}, {}
    for group, (weight, seeds) in RUNS.items():
        for seed, pinballs in seeds.items():
            name = f"{group}-s{seed}"
            config = Config(name=name, loss=LossConfig(std_weight=weight), train=TrainConfig(seed=seed))
            members.append(Member(name, group, config))
            ended[name] = Ended("finished" if pinballs else "diverged", 5, 4)
            if pinballs:
                metrics[name] = dict(zip(("val", "test"), map(metrics_of, pinballs), strict=True))
    return SimpleNamespace(members=members, ended=ended, metrics=metrics)


@pytest.fixture
def results(sweep):
    return results_table(sweep.members, sweep.ended, sweep.metrics)


def test_a_row_a_member(results):
    assert results["member"].tolist()[:4] == ["control-s1", "control-s2", "control-s3", "weak-s1"]
    assert results["loss.std_weight"].tolist() == [0.0] * 3 + [0.01] * 3 + [0.1] * 3
    assert "loss.mean_weight" not in results  # does not vary
    row = results.iloc[3]
    assert (row["config"], row["seed"], row["status"], row["epochs"], row["best_epoch"]) == (
        "weak",
        1,
        "finished",
        5,
        4,
    )
    assert (row["val/pinball"], row["test/coverage/80"]) == (1.9e-3, 0.8)
    assert not [name for name in results if "baseline" in name]
    assert results.iloc[5]["status"] == "diverged"
    assert np.isnan(results.iloc[5]["val/pinball"])


def test_summary_by_hand(results):
    table = summarise(results)
    assert list(dict.fromkeys(table["config"])) == ["weak", "control", "strong"]  # on validation, not on test
    rows = table.set_index(["config", "split", "metric"])
    control, weak = (rows.loc[(name, "val", "pinball")] for name in ("control", "weak"))
    assert control["mean"] == pytest.approx(2.2e-3)
    assert control["standard_error"] == pytest.approx(0.2e-3 / math.sqrt(3))  # sample deviation 0.2
    assert (control["seeds"], weak["seeds"], weak["pairs"]) == (3, 2, 2)
    assert pd.isna(control["difference"])
    # Seed 3 of weak diverged: by the two others it differs by -0.1 and -0.4; unpaired it would be -0.25 too,
    # but from the mean of three -0.2, were the means compared.
    assert weak["difference"] == pytest.approx(-0.25e-3)
    # Two values, 0.3 apart: their mean has the standard error 0.15, and t of one degree of freedom is 12.706.
    bounds = (-0.25e-3 - 12.7062 * 0.15e-3, -0.25e-3 + 12.7062 * 0.15e-3)
    assert (weak["difference_low"], weak["difference_high"]) == pytest.approx(bounds, rel=1e-5)
    strong = rows.loc[("strong", "test", "pinball")]
    assert (strong["mean"], strong["standard_error"]) == pytest.approx((1e-3, 0.0))
    assert strong["difference"] == pytest.approx(-2.1e-3)


def test_without_control_the_first_config_is_the_reference(results):
    table = summarise(results[results["config"] != "control"])
    assert table[table["config"] == "weak"]["difference"].isna().all()
    row = table[
        (table["config"] == "strong") & (table["split"] == "val") & (table["metric"] == "pinball")
    ].iloc[0]
    assert row["difference"] == pytest.approx(0.95e-3)  # 1.0 and 0.9


def test_flatten():
    assert flatten({"val": {"a": 1.0, "b": {"80": 2.0}, "baselines": {"x": {"a": 3.0}}}}) == {
        "val/a": 1,
        "val/b/80": 2,
    }


def test_files(sweep, tmp_path):
    for name, metrics in sweep.metrics.items():
        folder = tmp_path / "members" / name / "evaluation"
        write_forecasts(folder, np.full(61, 0.01))
        (folder / "metrics.json").write_text(json.dumps(metrics))
    write_forecasts(tmp_path / "ensembles" / "weak" / "evaluation", np.full(61, 0.01))
    averaged = {"weak": dict(zip(("val", "test"), map(metrics_of, (1.8, 3.0)), strict=True))}
    results, text = write_results(tmp_path, sweep.members, sweep.ended, averaged)
    written = (tmp_path / "summary.md").read_text()
    assert "| weak, 2 seeds | 1.9500 ± 0.0500 | **80.0 ± 0.0** |" in written
    assert "\n| weak, ensemble of 2 | **1.8000** | **80.0** | 1.8 |" in written
    assert "\n| weak, ensemble of 2 | 3.0000 | 80.0 |" in written  # test rows rank nothing
    assert pd.read_csv(tmp_path / "ensembles.csv")["test/coverage/80"].tolist() == [0.8]
    assert "| weak | -0.2500 [-2.1559, +1.6559] |" in written
    assert "| unconditional (baseline) | 2.1000 |" in written
    sentence = (
        "Use weak, the best on validation, though it is not told apart from control (pinball loss lower by"
        " 0.2500e-3 [-1.6559, 2.1559], 2 seeds); only weak beats unconditional on validation."
    )
    assert written.startswith(f"# Results of the sweep\n\n{sentence}\n")
    assert " ".join(text.split()).endswith(sentence)
    for shown in (text, written):
        assert "left out: weak-s3" in shown
        assert "best epoch is the last" not in shown
    assert "| strong | 0.1 |" in written
    assert "minus control" in written
    assert "minus control" not in text
    row = next(line for line in text.splitlines() if line.startswith("weak, ensemble of 2"))
    assert row.split()[4:] == ["1.8000*", "80.0*", "1.8", "75.0"]
    assert max(map(len, text.splitlines())) <= 80
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "results.csv"), results)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json: cannot be read"):
        write_results(tmp_path, sweep.members, sweep.ended, {})
    lost = {name: how._replace(status="diverged") for name, how in sweep.ended.items()}
    assert write_results(tmp_path, sweep.members, lost, {})[1] is None


def test_a_new_metric_is_in_every_table(sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "reach", Metric(lambda *_: 0.0, "reach, bp", BASIS_POINTS, "lower"))
    for number, (name, metrics) in enumerate(sweep.metrics.items()):
        for values in metrics.values():
            values["reach"] = values["baselines"]["unconditional"]["reach"] = number * 1e-4
        folder = tmp_path / "members" / name / "evaluation"
        write_forecasts(folder, np.full(61, 0.01))
        (folder / "metrics.json").write_text(json.dumps(metrics))
    results, text = write_results(tmp_path, sweep.members, sweep.ended, {})
    draw(tmp_path, results, ranking(results))
    assert "reach, bp" in text
    written = (tmp_path / "summary.md").read_text()
    assert written.count(" | reach, bp |") == 4  # means and differences of either split
    # Members 0, 1 and 2 are those of control, 3 and 4 those of weak.
    assert written.count(" | 1.0 ± 0.6 |") == written.count(" | 3.5 ± 0.5 |") == 2
    rows = pd.read_csv(tmp_path / "summary.csv").set_index(["config", "split", "metric"])
    assert rows.loc[("weak", "test", "reach"), "mean"] == pytest.approx(3.5e-4)


def test_configs_and_baselines_are_compared_all_at_once(tmp_path):
    days = np.random.default_rng(0).uniform(1, 2, 61)
    other = np.random.default_rng(1).uniform(1, 2, 61)
    members = tmp_path / "members"
    write_forecasts(members / "a-s1" / "evaluation", days, days + 1)
    write_forecasts(members / "b-s1" / "evaluation", other)
    write_forecasts(tmp_path / "ensembles" / "c" / "evaluation", days + 2 + other)
    judges = {"a": "a-s1", "c": None, "b": "b-s1"}
    table = all_at_once(tmp_path, judges, "val")
    assert table.title == "Validation, all at once"
    found = {row[0].text: [cell.text for cell in row[1:3]] for row in table.rows}
    means = {"a": days.mean(), "c": (days + 2 + other).mean(), "b": other.mean()}
    means |= {"unconditional (baseline)": (days + 1).mean()}
    assert {name: row[0] for name, row in found.items()} == {k: f"{500 * m:.4f}" for k, m in means.items()}
    assert {name: row[1] for name, row in found.items()} == {
        "a": "yes",
        "c": "no",
        "b": "yes",
        "unconditional (baseline)": "no",
    }
    assert "better than unconditional (baseline), the best baseline here: p < 0.001." in table.note
    (members / "a-s1" / "evaluation" / "baselines.csv").unlink()  # as of several series
    table = all_at_once(tmp_path, judges, "test")
    assert [row[0].text for row in table.rows] == ["a", "c", "b"]
    assert "these are the configs alone" in table.note
    assert "Hansen's test" not in table.note
    assert all_at_once(tmp_path, {"a": "a-s1"}, "test") is None
    write_forecasts(members / "b-s1" / "evaluation", other, days=60)  # other rows
    assert all_at_once(tmp_path, judges, "test") is None
    for name in ("a-s1", "b-s1"):
        write_forecasts(members / name / "evaluation", days, days=29)
    assert all_at_once(tmp_path, {"a": "a-s1", "b": "b-s1"}, "test") is None


def test_members_whose_best_epoch_is_the_last_are_counted(results):
    assert last_best(results) == []
    results.loc[[0, 3], "best_epoch"] = 5
    (sentence,) = last_best(results)
    assert sentence.startswith("In 2 of 9 members the best epoch is the last of train.max_epochs:")


def test_the_points_of_a_random_search_are_listed(results):
    listed = settings_table(results.assign(**{"train.learning_rate": 0.00123456}))
    assert listed.head == ("", "loss.std_weight", "train.learning_rate")
    assert [[cell.text for cell in row] for row in listed.rows] == [
        ["control", "0", "0.00123456"],
        ["weak", "0.01", "0.00123456"],
        ["strong", "0.1", "0.00123456"],
    ]
    assert settings_table(results.drop(columns="loss.std_weight")) is None
