"""The sweep's command as a user runs it: members that are runs, kills, resumption; and bad input."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import assert_same_run, contents, make_rows, metric_lines, run_here, write_config

from tftjax import predict
from tftjax.errors import UserError
from tftjax.evaluate.__main__ import main as evaluate_main
from tftjax.evaluate.files import read_predictions
from tftjax.predict.__main__ import main as predict_main
from tftjax.storage import checkpoint
from tftjax.storage import runs as storage_runs
from tftjax.sweep import run
from tftjax.sweep.__main__ import main as sweep_main
from tftjax.sweep.__main__ import make_parser, plan_of
from tftjax.sweep.members import claim, read_members
from tftjax.sweep.run import load_data
from tftjax.train.__main__ import main as train_main

NAMES = ["control-s42", "control-s43", "tiny-s42", "tiny-s43"]


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """The shared run's config, and the same without penalties."""
    folder = tmp_path_factory.mktemp("configs")
    path = write_config(folder, make_rows())
    control = json.loads(path.read_text()) | {"loss": {}}
    (folder / "control.json").write_text(json.dumps(control))
    return [folder / "control.json", path]


@pytest.fixture(scope="module")
def swept(configs, commands, tmp_path_factory):
    """A sweep of two configs and two seeds, never interrupted: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("swept")
    out, err = commands.run("sweep", *configs, "--seeds", 2, "--runs", folder)
    assert err == ""
    return folder / "sweep", out


@pytest.mark.slow
def test_every_member_is_the_single_run(swept, trained):
    """The shared run was trained on two devices: its sums are rounded differently."""
    folder, _ = swept
    assert sorted(path.name for path in (folder / "members").iterdir()) == NAMES
    member = folder / "members" / "tiny-s42"
    names = {path.name for path in trained.directory.rglob("*")}
    assert {path.name for path in member.rglob("*")} >= {n for n in names if "." in n and not n.isdigit()}
    for line, line_1 in zip(metric_lines(member), metric_lines(trained.directory), strict=True):
        assert line.keys() == line_1.keys()
        assert line["warnings"].keys() == line_1.pop("warnings").keys()
        for name, value in line_1.items():
            # A forecast on the border of two roundings may count as one more, or one fewer.
            atol = 2 if name == "val/distinct_forecasts" else 1e-7
            np.testing.assert_allclose(line[name], value, rtol=5e-3, atol=atol, err_msg=name)
    ours, theirs = (
        json.loads((d / "evaluation" / "metrics.json").read_text()) for d in (member, trained.directory)
    )
    np.testing.assert_allclose(ours["test"]["pinball"], theirs["test"]["pinball"], rtol=1e-4)
    assert ours["test"]["baselines"] == theirs["test"]["baselines"]


@pytest.mark.slow
def test_a_member_can_be_evaluated_predicted_and_resumed(swept, configs, tmp_path):
    member = Path(shutil.copytree(swept[0] / "members" / "tiny-s43", tmp_path / "tiny-s43"))
    before = contents(member)
    shutil.rmtree(member / "evaluation")
    run_here(evaluate_main, member)
    assert contents(member) == before
    out, _ = run_here(predict_main, member)
    assert "0.5" in out
    own = ["--name", "tiny-s43", "--set", "train.seed=43", "--runs", tmp_path]
    out, _ = run_here(train_main, configs[1], *own, "--resume")
    assert "epoch 1/" not in out  # nothing was left to train
    assert contents(member) == before


@pytest.mark.slow
def test_an_ensemble_is_evaluated_beside_its_members(swept):
    folder, out = swept
    assert sorted(path.name for path in (folder / "ensembles").iterdir()) == ["control", "tiny"]
    both = [folder / "members" / f"tiny-s{seed}" for seed in (42, 43)]
    for split in ("val", "test"):
        a, b, averaged = (read_predictions(d, split) for d in (*both, folder / "ensembles" / "tiny"))
        np.testing.assert_allclose(averaged.forecast, (a.forecast + b.forecast) / 2, rtol=1e-12)
    names = {path.name for path in (both[0] / "evaluation").iterdir()} - {"monitor.png"}
    assert {path.name for path in (folder / "ensembles" / "tiny" / "evaluation").iterdir()} == names
    table = pd.read_csv(folder / "ensembles.csv").set_index("config")
    metrics = json.loads((folder / "ensembles" / "tiny" / "evaluation" / "metrics.json").read_text())
    assert table.loc["tiny", "test/pinball"] == metrics["test"]["pinball"]
    assert "\ntiny, ensemble of 2 " in out


@pytest.mark.slow
def test_predict_averages_the_seeds_of_a_config(swept):
    folder, _ = swept
    both = [storage_runs.open_run(folder / "members" / f"tiny-s{seed}") for seed in (42, 43)]
    tables = [predict.forecast_next(run, run.data.panel) for run in both]
    out, err = run_here(predict_main, folder, "--config", "tiny")
    assert "tiny, ensemble of 2" in err
    mean = sum(table.iloc[0].to_numpy() for table in tables) / 2
    assert " ".join(f"{value:+.5f}" for value in sorted(mean)) in out
    _, err = run_here(predict_main, folder, code=2)
    assert "Choose one (--config, in Python config=): control or tiny." in err


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_resume_with_other_evaluation_settings_evaluates_anew(swept, configs, tmp_path):
    folder = Path(shutil.copytree(swept[0], tmp_path / "sweep"))
    window = ["--set", "evaluation.quality_window=20"]
    out, _ = run_here(sweep_main, *configs, "--seeds", 2, "--runs", tmp_path, "--resume", *window)
    assert "healthy," in out
    before, after = (pd.read_csv(sweep_run / "results.csv") for sweep_run in (swept[0], folder))
    pd.testing.assert_frame_equal(after[before.columns], before)
    shares = after[[name for name in after if name.startswith("test/quality/")]]
    assert "test/quality/HEALTHY" not in before
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    for member in read_members(folder):
        assert member.config.evaluation.quality_window == 20
        assert storage_runs.read_config(folder / "members" / member.name) == member.config


@pytest.mark.slow
def test_kills_and_resumes_end_in_the_same_bits(swept, configs, commands, tmp_path):
    arguments = [*configs, "--seeds", 2, "--runs", tmp_path, "--resume"]
    folder = tmp_path / "sweep"

    def lines():
        path = folder / "members" / NAMES[-1] / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def writing():
        return lines() > 3 and any((folder / "checkpoints" / "1-0").glob("*.new*"))

    moments = (lambda: (folder / "members" / NAMES[2]).exists(), lambda: lines() >= 2, writing)
    for moment in (*moments, (folder / "members" / NAMES[1] / "evaluation").exists):
        code, _, err = commands.interrupt_when(moment, signal.SIGKILL, *arguments, module="sweep")
        assert code == -signal.SIGKILL, err
    _, err = commands.run("sweep", *arguments)
    assert "damaged" not in err
    for name in NAMES:
        assert_same_run(folder / "members" / name, swept[0] / "members" / name)
    for name in ("results.csv", "summary.csv", "summary.md"):
        assert (folder / name).read_bytes() == (swept[0] / name).read_bytes()


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_epoch_and_a_member_goes_on_alone(swept, configs, commands, tmp_path):
    arguments = [*configs, "--runs", tmp_path, "--set", "train.checkpoint_every=100"]
    folder = tmp_path / "sweep"
    line = folder / "members" / "tiny-s42" / "metrics.jsonl"

    def after_two():
        return line.exists() and len(line.read_text().splitlines()) >= 2

    code, _, err = commands.interrupt_when(after_two, signal.SIGINT, *arguments, module="sweep")
    assert code == 130, err
    assert err.startswith("stopped; the same command with --resume") or "\nstopped; the same" in err
    assert checkpoint.restore_latest(folder / "checkpoints" / "1-0").epoch >= 2
    settings = ["--set", "train.seed=42", "--set", "train.checkpoint_every=100"]
    alone = [configs[1], "--name", "tiny-s42", *settings, "--runs", folder / "members", "--resume"]
    _, err = commands.run("train", *alone)
    assert "going on after epoch" in err
    assert "not be the same" not in err
    assert_same_run(folder / "members" / "tiny-s42", swept[0] / "members" / "tiny-s42")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_parts_at_once_one_killed_and_concluded_are_one(swept, configs, commands, tmp_path):
    folder = tmp_path / "sweep"

    def start(part):
        return commands.start("sweep", *configs, "--seeds", 2, "--runs", tmp_path, "--part", part)

    both = [start("1/2"), start("2/2")]
    line = folder / "members" / "control-s43" / "metrics.jsonl"  # the second part's
    while not (line.exists() and len(line.read_text().splitlines()) >= 2):
        assert [process.poll() for process in both] == [None, None]
        time.sleep(0.01)
    both[1].kill()
    both[1].communicate()
    out, err = both[0].communicate(timeout=300)
    assert (both[0].returncode, err) == (0, "")
    assert out.startswith(f"part 1/2, 2 of 4 members in 1 program(s), in {folder}")
    assert out.endswith(f"part 1/2 is trained. After the last one: --conclude {folder}\n")
    assert not (folder / "results.csv").exists()
    _, err = run_here(sweep_main, "--conclude", folder, code=2)
    assert "2 of 4 members have not ended, of part 2/2 (control-s43, tiny-s43)" in err
    commands.run("sweep", *configs, "--seeds", 2, "--runs", tmp_path, "--part", "2/2")
    out, err = run_here(sweep_main, "--conclude", folder)
    assert err == ""
    assert "\nUse " in out
    for name in NAMES:
        assert_same_run(folder / "members" / name, swept[0] / "members" / name)
    for name in ("results.csv", "summary.csv", "summary.md"):
        assert (folder / name).read_bytes() == (swept[0] / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_parts_in_folders_of_their_own(swept, tmp_path):
    """Another folder lacks a member and its end: what `--part` leaves there."""
    both = []
    for number, names in ((1, NAMES[::2]), (2, NAMES[1::2])):
        folder = Path(shutil.copytree(swept[0], tmp_path / f"part-{number}"))
        ended = json.loads((folder / "ended.json").read_text())
        (folder / f"ended-{number}-of-2.json").write_text(json.dumps({name: ended[name] for name in names}))
        for path in folder.iterdir():
            if path.name not in ("sweep.json", "members", f"ended-{number}-of-2.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in set(NAMES) - set(names):
            shutil.rmtree(folder / "members" / name)
        both.append(folder)
    second = contents(both[1])
    (both[0] / "members" / "tiny-s43.new").mkdir()  # what a kill left
    _, err = run_here(sweep_main, "--conclude", *both)
    assert err == ""
    assert contents(both[1]) == second
    for name in NAMES:
        assert_same_run(both[0] / "members" / name, swept[0] / "members" / name)
    assert (both[0] / "results.csv").read_bytes() == (swept[0] / "results.csv").read_bytes()


# ---- Bad input -------------------------------------------------------------------------------------------


def fails(capsys, *arguments):
    assert sweep_main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    return captured.err


@pytest.mark.usefixtures("in_process")
def test_bad_arguments_make_nothing(configs, tmp_path, capsys):
    storage_runs = ["--runs", tmp_path / "runs"]
    assert "zero" not in fails(capsys, *configs, *storage_runs, "--seeds", 0)
    assert "'loss.std_weight'" in fails(capsys, *configs, *storage_runs, "--grid", "loss.std_wait=0,1")
    assert "found 3 points and no space" in fails(capsys, *configs, *storage_runs, "--sample", 3)
    assert "--name" in fails(capsys, *configs, *storage_runs, "--name", "../up")
    assert "missing.json" in fails(capsys, tmp_path / "missing.json", *storage_runs)
    assert "train.batch_size" in fails(capsys, *configs, *storage_runs, "--set", "train.batch_size=9999")
    lengths = ["--grid", "model.prediction_length=1,2"]
    assert not (tmp_path / "runs").exists()
    # The same rows are forecast by two steps as by one: the metrics of both compare.
    data = load_data(plan_of(parse(*configs[:1], *lengths))[0], False)
    assert len(data) == 2
    other = ["--grid", "data.purge=0,5", "--mixed-data"]
    members = plan_of(parse(*configs[:1], *other))[0]
    with pytest.raises(UserError, match="forecast different val rows"):
        load_data(members, False)
    assert len(load_data(members, True)) == 2


def parse(*arguments):
    return make_parser().parse_args([str(argument) for argument in arguments])


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("way", [[], ["--resume"], ["--overwrite"]])
def test_what_lies_there_is_left_alone(way, configs, tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.txt").write_text("work")
    fails(capsys, *configs, "--runs", tmp_path, *way)
    assert contents(tmp_path) == {"sweep/mine.txt": b"work"}


@pytest.mark.usefixtures("in_process")
def test_overwrite_leaves_alone_what_is_being_trained(configs, tmp_path, capsys):
    members, _ = plan_of(parse(*configs))
    with claim(tmp_path / "sweep", members):
        (tmp_path / "sweep" / "results.csv").write_text("work")
        before = contents(tmp_path)
        error = fails(capsys, *configs, "--runs", tmp_path, "--overwrite")
    assert "sweep: another process is training there" in error
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_a_sweep_that_exists(swept, configs, tmp_path, capsys):
    folder = Path(shutil.copytree(swept[0], tmp_path / "sweep"))
    before = contents(folder)
    arguments = [*configs, "--runs", tmp_path]
    assert "--overwrite" in fails(capsys, *arguments, "--seeds", 2)
    error = fails(capsys, *arguments, "--seeds", 3, "--set", "train.patience=3", "--resume")
    assert "new: control-s44, tiny-s44" in error
    assert "with other settings: control-s42" in error
    (folder / "members" / "tiny-s42" / "mine.txt").write_text("work")
    assert "tiny-s42/mine.txt" in fails(capsys, *arguments, "--overwrite")
    (folder / "members" / "tiny-s42" / "mine.txt").unlink()
    assert contents(folder) == before


# ---- Two programs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_programs(tmp_path_factory, quick_evaluation):
    """A sweep of two programs of a member: the command, what it printed, and how many were evaluated before.

    The second begins to train only after the first one's member is evaluated. Neither has a penalty, and the
    returns vary eight times as much as those of the S&P 500.
    """
    folder, train, found = tmp_path_factory.mktemp("two"), run.train_program, []

    def wait_and_train(folder, number, members, *others):
        until = time.monotonic() + 60
        while not (done := list(folder.glob("members/*/evaluation/metrics.json"))):
            if number == 1 or time.monotonic() > until:
                break
            time.sleep(0.01)
        found.append(len(done))
        train(folder, number, members, *others)

    rows = make_rows()
    rows["SP500_Returns"] *= 8
    weights = {"mean_weight": 0.0, "std_weight": 0.0}
    config = write_config(folder, rows, loss=weights, train={"max_epochs": 1})
    sizes = ["--grid", "model.hidden_size=3,5", "--set", "model.num_heads=1"]
    command = [config, *sizes, "--runs", folder / "runs"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "train_program", wait_and_train)
        out, _ = run_here(sweep_main, *command)
    return command, out, found


@pytest.mark.slow
def test_members_without_penalties_take_the_data_s_own_spread(two_programs):
    command, out, _ = two_programs
    folder = command[-1] / "tiny"
    returns = make_rows()["SP500_Returns"] * 8
    spread = float(f"{returns.iloc[:224].std(ddof=0):.4g}")
    assert f"loss.target_std {spread:g} in 2 of them" in out
    assert [member.config.loss.target_std for member in read_members(folder)] == [spread] * 2
    before = contents(folder)
    run_here(sweep_main, *command, "--resume", "--quiet")
    assert contents(folder) == before


@pytest.mark.slow
def test_members_that_have_ended_are_evaluated_while_others_train(two_programs):
    command, _, found = two_programs
    assert found == [0, 1]
    ended = json.loads((command[-1] / "tiny" / "ended.json").read_text())
    assert [member["evaluated"] for member in ended.values()] == [True, True]


@pytest.mark.slow
def test_an_evaluation_that_fails_leaves_the_others_to_train(tmp_path, in_process, monkeypatch):
    """They end, with their checkpoints, before its error is raised; going on evaluates all."""
    from tftjax.sweep import run

    evaluate, config = run.evaluate, write_config(tmp_path, make_rows(), train={"max_epochs": 1})

    def fail_once(opened, *others):
        monkeypatch.setattr(run, "evaluate", evaluate)
        raise ValueError("a metric that fails")

    command = [str(config), "--grid", "model.hidden_size=3,5", "--set", "model.num_heads=1", "--quiet"]
    command += ["--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(run, "evaluate", fail_once)
    with pytest.raises(ValueError, match="a metric that fails"):
        sweep_main(command)
    path = tmp_path / "runs" / "tiny" / "ended.json"
    assert {member["status"] for member in json.loads(path.read_text()).values()} == {"finished"}
    assert sweep_main([*command, "--resume"]) == 0
    assert all(member["evaluated"] for member in json.loads(path.read_text()).values())
