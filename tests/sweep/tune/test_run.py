"""Searches on a stand-in for the compiled program, whose loss is a formula of the floats, and a real one."""

import json
import math
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from tiny import HEALTHY, contents, make_rows, write_config

import tftjax
from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.errors import UserError
from tftjax.storage.directories import SearchDirectory
from tftjax.sweep.tune.__main__ import main
from tftjax.sweep.tune.batch import trials_at_once
from tftjax.sweep.tune.folder import Search, as_record, first_difference, take_part
from tftjax.sweep.tune.run import tune
from tftjax.train.engine import Executable, MembersEngine

EPOCHS = 6
STEPS = 6
SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.dropout_rate": {"low": 0.0, "high": 0.6},
}


def final_loss(learning_rate, dropout_rate, seed):
    """The pinball loss after all epochs: least at a learning rate of 0.01; seeds differ a little."""
    return 0.002 + 1e-4 * abs(math.log10(learning_rate) + 2) + 1e-4 * dropout_rate + 1e-6 * (seed % 7)


class Stand:
    """The stand-in: losses fall to `final_loss` over the epochs; `events` happen at the n-th call."""

    def __init__(self, folder, monkeypatch):
        train = {"max_epochs": EPOCHS, "checkpoint_every": 100}
        self.config = load(write_config(folder / "in", make_rows(), train=train))
        self.panel = load_panel(self.config.data)
        self.folder = folder / "runs" / "found"
        self.compiled, self.calls, self.events, self.diverges = [], [], {}, lambda rate, seed: False
        monkeypatch.setattr(MembersEngine, "compile_slots", lambda *given: self.compile_slots(*given))

    def compile_slots(self, engine, num_members):
        self.compiled.append((engine.program.config.model.hidden_size, engine.slots(num_members)))
        slots = engine.slots(num_members)

        def run(states, floats, numbers, live):
            self.calls.append(int(live.sum()))
            event = self.events.pop(len(self.calls), None)
            if isinstance(event, BaseException):
                raise event
            if event:
                event()
            epochs = (states.epoch + live).astype(np.int32)
            seeds = states.key[:, 1].tolist()
            finals = np.array([*map(final_loss, floats.learning_rate, floats.dropout_rate, seeds)])
            losses = (finals + 1e-4 * (EPOCHS - epochs)).astype(np.float32)
            metrics = {"losses": np.ones((slots, STEPS), np.float32), "steps": np.full(slots, STEPS)}
            metrics |= {name: np.full(slots, value, np.float32) for name, value in HEALTHY.items()}
            metrics |= {"val/quantile_loss": losses, "val/loss": losses, "loss": losses}
            for place, (rate, seed) in enumerate(zip(floats.learning_rate, seeds, strict=True)):
                if self.diverges(float(rate), seed):
                    metrics["losses"][place] = math.nan
            states = states._replace(
                epoch=epochs, best_epoch=epochs, step=(STEPS * epochs).astype(np.int32), best_loss=losses
            )
            return states, metrics

        return Executable(run, slots, 0.0, 0)

    def search(self, **changes):
        return Search(self.config, SPACE, 3, "tpe", "median")._replace(**changes)

    def tune(self, trials=12, folder=None, search=None, **flags):
        """Searches; returns the trials."""
        folder = folder or self.folder
        tune(search or self.search(), folder, trials=trials, panel=self.panel, quiet=True, **flags)
        return read_trials(folder)


def read_trials(folder):
    return pd.read_csv(SearchDirectory(folder).table)


@pytest.fixture
def stand(tmp_path, monkeypatch):
    return Stand(tmp_path, monkeypatch)


def test_a_search(stand):
    table = stand.tune(trials=20, search=stand.search(sampler="random"))
    assert len(table) == 20
    complete, pruned = (table[table["state"] == state] for state in ("complete", "pruned"))
    assert len(complete) >= 4
    assert len(pruned) >= 8
    assert len(complete) + len(pruned) == 20
    assert (complete["epochs"] == EPOCHS).all()
    assert (pruned["epochs"] < EPOCHS).all()
    # Seeds 42, 43, 44, which are 0, 1, 2 by 7.
    for row in complete.to_dict("records"):
        floats = row["train.learning_rate"], row["model.dropout_rate"]
        losses = [final_loss(*floats, seed) for seed in (42, 43, 44)]
        assert row["pinball"] == pytest.approx(sum(losses) / 3, rel=1e-4)
        assert row["seed_sd"] == pytest.approx(1e-6, rel=0.02)
    # One compilation, and no slot is left empty before the trials run out.
    assert stand.compiled == [(4, 6)]
    assert set(stand.calls[: -EPOCHS - 1]) == {6}
    assert sum(stand.calls) == 3 * table["epochs"].sum()
    assert sum(stand.calls) < 0.75 * 20 * 3 * EPOCHS


def test_the_first_trial_is_the_config_as_given_and_the_best_config_trains(stand, tmp_path):
    table = stand.tune()
    assert table["train.learning_rate"][0] == stand.config.train.learning_rate
    assert table["model.dropout_rate"][0] == stand.config.model.dropout_rate
    best = table[table["state"] == "complete"].sort_values("pinball").iloc[0]
    config = load(SearchDirectory(stand.folder).best)
    assert config.name == "found-best"
    assert config.train.learning_rate == best["train.learning_rate"]
    changed = {"train": {"learning_rate": config.train.learning_rate}}
    assert config.train == stand.config.train.model_copy(update=changed["train"])
    summary = SearchDirectory(stand.folder).summary.read_text()
    assert "The config as given is trial 0" in summary
    assert "12 trials were compared" in summary
    assert "| model.dropout_rate |" in summary


def test_static_choices_are_drawn_once_a_batch(stand):
    space = SPACE | {"model.hidden_size": {"choices": [4, 8]}}
    table = stand.tune(trials=24, search=stand.search(space=space))
    sizes = table["model.hidden_size"].tolist()
    assert set(sizes) == {4, 8}
    # Eight trials a batch, four times the two at once.
    assert [len(set(sizes[first : first + 8])) for first in (0, 8, 16)] == [1, 1, 1]
    assert sorted(stand.compiled) == [(4, 6), (8, 6)]  # a second batch of the same size compiles nothing


def test_a_grid_is_trained_whole(stand):
    space = {
        "train.learning_rate": {"choices": [0.001, 0.01, 0.1]},
        "model.hidden_size": {"choices": [4, 8]},
    }
    search = stand.search(space=space, sampler="grid", pruner="none", seeds=1)
    table = stand.tune(trials=64, search=search)
    points = [*zip(table["model.hidden_size"], table["train.learning_rate"], strict=True)]
    assert points == [(size, rate) for size in (4, 8) for rate in (0.001, 0.01, 0.1)]
    assert set(table["state"]) == {"complete"}
    with pytest.raises(UserError, match=r"train.learning_rate: found a range.*grid"):
        stand.tune(search=stand.search(sampler="grid"), folder=stand.folder.with_name("other"))


def test_a_trial_that_diverges_fails_and_the_others_go_on(stand, caplog):
    stand.diverges = lambda rate, seed: rate > 0.02 and seed == 43
    table = stand.tune(trials=16)
    failed = table["train.learning_rate"] > 0.02
    assert failed.any()
    assert (table["state"] == "failed").tolist() == failed.tolist()
    assert (
        table["message"][failed]
        .str.contains("-s43: the loss became nan at step 1 (epoch 1)", regex=False)
        .all()
    )
    assert "the others go on" in caplog.text
    assert stand.compiled == [(4, 6)]


def test_a_config_that_is_refused_fails(stand):
    space = SPACE | {"model.hidden_size": {"choices": [4, 5]}}  # two heads
    table = stand.tune(trials=40, search=stand.search(space=space, sampler="random"))
    refused = table[table["model.hidden_size"] == 5]
    assert len(refused) >= 3
    assert refused["message"].str.contains("hidden_size").all()
    assert set(table["state"][table["model.hidden_size"] == 5]) == {"failed"}
    assert "complete" in set(table["state"][table["model.hidden_size"] == 4])
    stand.diverges = lambda rate, seed: True
    with pytest.raises(
        UserError, match=r"no trial is complete, of 3. The first that failed: t0-s42: the loss"
    ):
        stand.tune(trials=3, folder=stand.folder.with_name("bad"))


@pytest.mark.parametrize(
    ("how", "call", "every"), [(KeyboardInterrupt, 1, 100), (KeyboardInterrupt, 9, 100), (RuntimeError, 9, 2)]
)
def test_killed_and_resumed_is_uninterrupted(stand, how, call, every):
    train = stand.config.train.model_copy(update={"checkpoint_every": every})
    stand.config = stand.config.model_copy(update={"train": train})
    whole = stand.tune(folder=stand.folder.with_name("whole"))
    stand.calls.clear()
    stand.events[call] = how("killed")
    with pytest.raises(how):
        stand.tune()
    # What a kill leaves of a line in the file.
    with SearchDirectory(stand.folder).storage.open("a") as file:
        file.write('{"op_code":')
    pd.testing.assert_frame_equal(stand.tune(resume=True), whole)
    before = contents(stand.folder)
    stand.tune(resume=True)
    assert contents(stand.folder) == before
    assert len(stand.tune(resume=True, trials=14)) == 14


def test_a_second_process_joins(stand):
    joined = []
    stand.events[4] = lambda: joined.append(stand.tune(resume=True))
    table = stand.tune()
    assert len(joined) == 1
    # The joining one took what was left; the first one's two trials were still in training.
    assert (joined[0]["state"] == "in training").sum() == 2
    assert len(table) == 12
    assert set(table["state"]) <= {"complete", "pruned"}
    assert sorted(path.name for path in (stand.folder / "processes").iterdir()) == ["0", "1"]


def test_the_trials_of_a_process_that_ended_are_taken_over(stand):
    """A process joins and is killed; the first one is killed too; a third goes on with both's trials."""

    def join():
        stand.events[len(stand.calls) + 3] = RuntimeError("killed")
        stand.tune(resume=True)

    stand.events[4] = join
    with pytest.raises(RuntimeError, match="killed"):
        stand.tune()
    table = stand.tune(resume=True)
    assert len(table) == 12
    assert set(table["state"]) <= {"complete", "pruned"}


def test_hyperband(stand):
    table = stand.tune(trials=18, search=stand.search(pruner="hyperband", sampler="random"))
    assert table["state"].value_counts()["pruned"] >= 4
    assert (table["epochs"][table["state"] == "complete"] == EPOCHS).all()
    assert table["epochs"].isin([1, 3, EPOCHS]).all()  # by thirds, from one epoch on


def test_no_trial_begins_after_the_hours(stand, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tftjax.sweep.tune.batch.time.monotonic", lambda: now[0])
    stand.events[7] = lambda: now.__setitem__(0, 3600.0)
    table = stand.tune(hours=1.0)
    assert len(table) == 4  # two, and the two after their last epoch
    assert set(table["state"]) == {"complete"}


def test_a_place_for_each_process(stand):
    directory, record = SearchDirectory(stand.folder), as_record(stand.search(), stand.panel)
    flags = {"resume": True, "overwrite": False}
    with take_part(directory, record, resume=False, overwrite=False) as first:
        with take_part(directory, record, **flags) as second, take_part(directory, record, **flags) as third:
            assert (first, second, third) == ([0], [1], [2])
        with (
            pytest.raises(UserError, match="another process is training there"),
            take_part(directory, record, resume=False, overwrite=True),
        ):
            pass
    with take_part(directory, record, **flags) as fourth:
        assert fourth == [0, 1, 2]


@pytest.mark.parametrize(("seeds", "trials"), [(1, 2), (2, 1), (3, 2), (4, 1)])
def test_trials_at_once_fill_two_devices(seeds, trials):
    assert trials_at_once(seeds) == trials


# ---- A real program --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pruned_slot_takes_the_next_trial_without_compiling(tmp_path):
    """Once the first round is trained, jax compiles nothing more in the whole search."""
    config = load(write_config(tmp_path, make_rows(), train={"max_epochs": 3}, model={"hidden_size": 6}))
    seconds, compiled_by_round = [], []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    def judged(self, records, diverged, judge=None):
        compiled_by_round.append(len(seconds))
        return ORIGINAL(self, records, diverged)

    from tftjax.sweep.tune.batch import Batch

    ORIGINAL = Batch.judge
    jax.monitoring.register_event_duration_secs_listener(listen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "judge", judged)
        search = Search(config, SPACE, 1, "random", "median")
        tune(search, tmp_path / "found", trials=12, panel=load_panel(config.data), quiet=True)
    table = read_trials(tmp_path / "found")
    assert (table["state"] == "pruned").sum() >= 2
    assert len(compiled_by_round) > 8
    assert compiled_by_round[0] >= 1
    assert set(compiled_by_round) == {compiled_by_round[0]}


# ---- Bad input -------------------------------------------------------------------------------------------


def fails(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


@pytest.fixture
def command(tmp_path, in_process):
    config = write_config(tmp_path / "in", make_rows())
    space = tmp_path / "space.json"
    space.write_text(json.dumps(SPACE))
    return [config, "--runs", tmp_path / "runs", "--space", space, "--trials"]


def test_bad_arguments_make_nothing(command, tmp_path, capsys, monkeypatch):
    assert "--trials, in Python trials=: found 0, expected 1 or more" in fails(capsys, *command, 0)
    assert "found 0, expected 1 to 10000" in fails(capsys, *command, 3, "--seeds", 0)
    assert "expected one of tpe, random, grid" in fails(capsys, *command, 3, "--sampler", "cma")
    assert "expected one of median, hyperband, none" in fails(capsys, *command, 3, "--pruner", "x")
    assert "found 0, expected a number above 0" in fails(capsys, *command, 3, "--hours", 0)
    assert "no search to go on with" in fails(capsys, *command, 3, "--resume")
    assert "name" in fails(capsys, *command, 3, "--name", "../up")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'tftjax[tune]'" in fails(capsys, *command, 3)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"train.learning_rat": {"low": 0.1, "high": 0.2}}, "'train.learning_rate'"),
        ({"train.learning_rate": {"low": 0.2, "high": 0.2}}, "low below high"),
        ({"train.learning_rate": {"choices": []}}, "found"),
        ({"train.seed": {"low": 1, "high": 9}}, "--seeds"),
        ({"data.dataset": {"choices": ["a", "b"]}}, "data.dataset: is the rows and their returns"),
        ({"model.quantiles": {"choices": [[0.5], [0.1, 0.5]]}}, "the levels of the pinball loss"),
        ({"train.max_epochs": {"low": 2, "high": 9}}, "after which trials are judged"),
        ({"model.hidden_size": {"low": 2.5, "high": 9}}, "expected whole numbers"),
    ],
)
def test_bad_spaces(space, message, command, tmp_path, capsys):
    (tmp_path / "space.json").write_text(json.dumps(space))
    assert message in fails(capsys, *command, 3)
    assert not (tmp_path / "runs").exists()


def test_a_scaled_loss_has_its_unit_from_target_std(stand):
    config = stand.config.model_copy(update={"loss": stand.config.loss.model_copy(update={"unit": "scale"})})
    space = {"loss.target_std": {"low": 0.001, "high": 0.1}}
    with pytest.raises(UserError, match=r"loss\.target_std: is the unit"):
        stand.tune(search=stand.search(config=config, space=space))


def test_another_search_s_folder_is_refused(stand):
    stand.tune(trials=5)
    before = contents(stand.folder)
    train = stand.config.train.model_copy(update={"patience": 3, "batch_size": 16})
    rows = load_panel(stand.config.data, make_rows(317))
    for search, panel, message in (
        (
            {"config": stand.config.model_copy(update={"train": train})},
            None,
            "train.batch_size is 32 there, 16 here",
        ),
        (
            {"space": SPACE | {"model.dropout_rate": {"low": 0.0, "high": 0.5}}},
            None,
            "model.dropout_rate in the space is",
        ),
        ({"seeds": 2}, None, "seeds is 3 there, 2 here"),
        ({}, rows, "the data's fingerprint is"),
    ):
        with pytest.raises(UserError, match=message):
            tune(stand.search(**search), stand.folder, trials=9, resume=True, panel=panel or stand.panel)
    with pytest.raises(UserError, match=r"exists\. Go on with it"):
        stand.tune()
    assert contents(stand.folder) == before
    judged = stand.config.evaluation.model_copy(update={"save_baselines": False})
    other = stand.search(config=stand.config.model_copy(update={"evaluation": judged, "name": "else"}))
    assert first_difference(*(as_record(s, stand.panel) for s in (stand.search(), other))) == ""


def test_a_damaged_file_of_trials(stand):
    stand.tune(trials=5)
    SearchDirectory(stand.folder).storage.write_text("nonsense\n")
    with pytest.raises(UserError, match=r"trials.log: cannot be used .*Bring a copy back"):
        stand.tune(resume=True)


# ---- The face for Python ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_process")
def test_a_search_from_python(stand, tmp_path):
    space = {"train.learning_rate": {"low": 1e-4, "high": np.float64(1e-1), "log": True}}
    flags = {"space": space, "trials": 12, "directory": tmp_path / "s", "max_epochs": 3, "quiet": True}
    rows = make_rows()
    found = tftjax.search(rows, stand.config, track="tensorboard", **flags)
    assert found.trials.index.tolist() == list(range(12))
    complete = found.trials[found.trials["state"] == "complete"]
    assert found.best.train.learning_rate == complete["train.learning_rate"][complete["pinball"].idxmin()]
    assert found.best.train.max_epochs == 3
    assert found.importance.to_dict() == {"train.learning_rate": 1.0}
    assert "12 trials were compared" in found.summary
    assert isinstance(tftjax.load(tmp_path / "s"), tftjax.Search)
    assert repr(found.save(tmp_path / "copy")).endswith("copy': 12 trials)")
    with pytest.raises(tftjax.UserError, match="resume=True"):
        tftjax.search(rows, stand.config, **flags)
    with pytest.raises(tftjax.UserError, match="trials: found 0"):
        tftjax.search(rows, stand.config, **flags | {"trials": 0})
    # Every member has its own folder, with an event file for the epochs that it was trained.
    members = {path.name for path in (tmp_path / "s" / "tensorboard").iterdir()}
    assert members == {f"t{number}-s{seed}" for number in range(12) for seed in (42, 43, 44)} | {"sweep"}
