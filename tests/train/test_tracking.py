"""What trackers are given, read back from TensorBoard's event files and from a stand-in for MLflow."""

import json
import struct
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tiny import make_rows, write_config

from tftjax.config.loading import Config, settings
from tftjax.errors import UserError
from tftjax.storage.directories import RunDirectory, SweepDirectory
from tftjax.train.__main__ import main as train_main
from tftjax.train.loop import Round
from tftjax.train.tracking import FAILED, Tracking, check_trackers, kept_files, numbers

CONFIG = Config(name="own")


def round_of(epoch, *names):
    record = {
        "epoch": epoch,
        "improved": True,
        "loss": 0.5 / epoch,
        "val/loss": 1.0 / epoch,
        "warnings": {"a": "b"},
    }
    return Round(dict.fromkeys(names, record), 1.0, len(names), 0)


def update(tracking, *rounds):
    for round_ in rounds:
        tracking.update(round_, lambda name: CONFIG.model_copy(update={"name": name}))


def picture(path):
    import matplotlib.image

    path.parent.mkdir(parents=True, exist_ok=True)
    matplotlib.image.imsave(path, np.zeros((3, 5, 3)))
    return path


def events(folder):
    """TensorBoard's events of all files in a folder, in the order of the files: lengths, checksums, data."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += 16 + length
    return found


def scalars(folder):
    """Values by tag, each with its step."""
    values = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                values.setdefault(value.tag, []).append((event.step, round(value.simple_value, 6)))
    return values


def tags(folder):
    return [value.tag for event in events(folder) for value in event.summary.value]


def test_numbers_of_a_line():
    assert numbers({"a": 1, "b": 0.5, "c": True, "warnings": {}, "d": "x"}) == {"a": 1.0, "b": 0.5, "c": 1.0}


def test_tensorboard_has_a_run_s_epochs_settings_and_pictures(tmp_path):
    directory = RunDirectory(tmp_path)
    kept = [picture(directory.evaluation.fan_chart), tmp_path / "missing.png"]
    with Tracking(["tensorboard"], directory, "own", alone=True) as tracking:
        update(tracking, round_of(1, "own"), round_of(2, "own"))
        tracking.end("own", kept)
    assert scalars(directory.tensorboard)["val/loss"] == [(1, 1.0), (2, 0.5)]
    assert scalars(directory.tensorboard)["improved"] == [(1, 1.0), (2, 1.0)]
    assert "warnings" not in tags(directory.tensorboard)
    assert "fan_chart" in tags(directory.tensorboard)
    (start,) = [
        value.metadata.plugin_data.content
        for event in events(directory.tensorboard)
        for value in event.summary.value
        if value.tag == "_hparams_/session_start_info"
    ]
    for key in ("train.learning_rate", "model.quantiles", "data.dataset"):
        assert key.encode() in start
    # A run that goes on from epoch 1 hides what was logged of epoch 2 and later.
    with Tracking(["tensorboard"], directory, "own", alone=True) as tracking:
        update(tracking, round_of(2, "own"))
    assert [e.step for e in events(directory.tensorboard) if e.HasField("session_log")] == [2]


def test_tensorboard_has_a_folder_a_member(tmp_path):
    directory = SweepDirectory(tmp_path)
    picture(directory.metrics_picture)
    directory.summary.write_text("# All of it")
    with Tracking(["tensorboard"], directory, "sweep") as tracking:
        update(tracking, round_of(1, "a-s1", "a-s2"), round_of(2, "a-s2"))
        tracking.end("a-s1")
        tracking.end(kept=kept_files(directory))
    folder = directory.tensorboard
    assert scalars(folder / "a-s1")["loss"] == [(1, 0.5)]
    assert scalars(folder / "a-s2")["loss"] == [(1, 0.5), (2, 0.25)]
    assert tags(folder / "sweep") == ["metrics", "summary/text_summary"]
    assert directory.owns("tensorboard")
    assert directory.owns("mlflow.json")


class Server:
    """A stand-in for MLflow: what each run was given, by its id."""

    def __init__(self):
        self.runs, self.down, self.experiments = {}, False, {}

    def answer(self):
        if self.down:
            raise ConnectionError("no route to host\nat all")

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id=f"e{len(self.experiments)}")
        return self.experiments[name].experiment_id

    def create_run(self, experiment_id, tags, run_name):
        self.answer()
        made = {"experiment": experiment_id, "name": run_name, "tags": tags, "params": {}, "metrics": {}}
        self.runs[f"r{len(self.runs)}"] = made | {"files": [], "status": "RUNNING"}
        return SimpleNamespace(info=SimpleNamespace(run_id=f"r{len(self.runs) - 1}"))

    def log_batch(self, run_id, params=(), metrics=()):
        self.answer()
        assert len(params) + len(metrics) <= 100
        run = self.runs[run_id]
        for key, value in params:
            assert key not in run["params"], "MLflow refuses another value"
            assert isinstance(value, str)
            run["params"][key] = value
        for key, value, timestamp, step in metrics:
            assert timestamp > 1e12
            run["metrics"].setdefault(key, []).append((step, value))

    def log_artifact(self, run_id, path):
        self.runs[run_id]["files"].append(path.rpartition("/")[2])

    def update_run(self, run_id, status):
        self.runs[run_id]["status"] = status

    def set_terminated(self, run_id, status):
        self.answer()
        self.runs[run_id]["status"] = status


@pytest.fixture
def server(monkeypatch):
    server, module, entities = Server(), ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient = lambda: server
    entities.Metric = lambda *given: given
    entities.Param = lambda *given: given
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return server


def test_mlflow_has_a_run(server, tmp_path):
    directory = RunDirectory(tmp_path)
    picture(directory.evaluation.monitor)
    with Tracking(["mlflow"], directory, "own", alone=True) as tracking:
        update(tracking, round_of(1, "own"), round_of(2, "own"))
        tracking.end("own", kept_files(directory))
    (run,) = server.runs.values()
    assert list(server.experiments) == ["tftjax"]
    assert (run["name"], run["tags"], run["status"]) == ("own", {}, "FINISHED")
    assert run["params"].keys() == settings(CONFIG).keys()
    assert run["params"]["train.learning_rate"] == json.dumps(CONFIG.train.learning_rate)
    assert run["params"]["name"] == "own"
    assert run["metrics"]["val/loss"] == [(1, 1.0), (2, 0.5)]
    assert run["files"] == ["monitor.png"]
    with Tracking(["mlflow"], directory, "own", alone=True) as tracking:
        update(tracking, round_of(3, "own"))
        assert run["status"] == "RUNNING"
    assert len(server.runs) == 1
    assert run["metrics"]["loss"][-1] == (3, 0.5 / 3)
    assert run["status"] == "FINISHED"


def test_mlflow_has_members_as_nested_runs(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    directory = SweepDirectory(tmp_path)
    directory.summary.write_text("# All of it")
    with Tracking(["mlflow"], directory, "sweep") as tracking:
        update(tracking, round_of(1, "a-s1", "a-s2"))
        tracking.end("a-s1", status=FAILED)
        tracking.end("a-s2")
        tracking.end(kept=kept_files(directory))
    whole, *members = server.runs.items()
    assert (whole[1]["name"], whole[1]["tags"], whole[1]["files"]) == ("sweep", {}, ["summary.md"])
    assert [run["tags"] for _, run in members] == [{"mlflow.parentRunId": whole[0]}] * 2
    assert [run["name"] for _, run in members] == ["a-s1", "a-s2"]
    assert [run["status"] for _, run in members] == ["FAILED", "FINISHED"]
    assert list(server.experiments) == ["mine"]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (UserError, "FAILED")])
def test_a_training_that_stops_says_so(server, tmp_path, error, status):
    def training():
        with Tracking(["mlflow"], SweepDirectory(tmp_path), "sweep") as tracking:
            update(tracking, round_of(1, "a-s1"))
            raise error

    with pytest.raises(error):
        training()
    assert [run["status"] for run in server.runs.values()] == [status] * 2


def test_a_tracker_that_fails_is_left_out_and_said_once(server, tmp_path, caplog):
    with Tracking(["mlflow", "tensorboard"], RunDirectory(tmp_path), "own", alone=True) as tracking:
        update(tracking, round_of(1, "own"))
        server.down = True
        update(tracking, round_of(2, "own"), round_of(3, "own"))
        tracking.end("own")
    assert caplog.messages == [
        "mlflow failed (ConnectionError: no route to host): the training goes on without it"
    ]
    (run,) = server.runs.values()
    assert run["metrics"]["loss"] == [(1, 0.5)]
    assert [step for step, _ in scalars(tmp_path / "tensorboard")["loss"]] == [1, 2, 3]


# ---- Bad input -------------------------------------------------------------------------------------------


def test_unknown_and_missing_trackers(monkeypatch):
    with pytest.raises(UserError, match="found 'wandb', expected tensorboard or mlflow"):
        check_trackers(["wandb"])
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"not installed. Install it: pip install 'tftjax\[tensorboard\]'"):
        check_trackers(["tensorboard"])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="needs mlflow, which is not installed"):
        check_trackers(["mlflow"])


@pytest.mark.usefixtures("in_process")
def test_a_tracker_is_refused_before_anything_is_made(tmp_path, capsys):
    config = write_config(tmp_path / "in", make_rows())
    assert train_main([str(config), "--runs", str(tmp_path / "runs"), "--track", "tensorboard,wandb"]) == 2
    assert "--track, in Python track=: found 'wandb'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("in_process", "shared_baselines")
def test_a_run_and_a_sweep_in_tensorboard(tmp_path, capsys):
    from tftjax.sweep.__main__ import main as sweep_main

    config = write_config(tmp_path / "in", make_rows(), train={"max_epochs": 2})
    flags = ["--runs", str(tmp_path), "--track", "tensorboard", "--quiet"]
    assert train_main([str(config), *flags]) == 0, capsys.readouterr().err
    folder = tmp_path / "tiny" / "tensorboard"
    lines = [json.loads(line) for line in (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    expected = [(line["epoch"], pytest.approx(line["val/loss"], abs=1e-6)) for line in lines]
    assert scalars(folder)["val/loss"] == expected
    assert {"fan_chart", "calibration", "monitor"} <= set(tags(folder))
    assert sweep_main([str(config), "--name", "two", "--seeds", "2", *flags]) == 0, capsys.readouterr().err
    folder = tmp_path / "two" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["sweep", "tiny-s42", "tiny-s43"]
    for member in ("tiny-s42", "tiny-s43"):
        assert [step for step, _ in scalars(folder / member)["loss"]] == [1, 2]
        assert "monitor" in tags(folder / member)
    assert "summary/text_summary" in tags(folder / "sweep")
