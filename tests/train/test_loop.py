"""The lives of a sweep's members: what ends one, what is kept, what memory allows.

The program is replaced by a stand-in that counts epochs: it needs no compilation.
"""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny import EPOCHS, HEALTHY, make_rows, metric_lines, write_config

from tftjax.config.functions import NO_FUNCTIONS
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.storage import checkpoint
from tftjax.sweep.members import create_member, read_ended
from tftjax.sweep.plan import make_plan
from tftjax.sweep.run import train_program
from tftjax.train import engine, loop
from tftjax.train.engine import Executable, MembersEngine, Training
from tftjax.train.step import init_state

STEPS = 6  # 219 train windows, batches of 32


class Sweep:
    """Three members with seeds 42, 43, 44 in a folder, and a stand-in for their program."""

    def __init__(self, folder, monkeypatch, **train):
        path = write_config(folder / "in", make_rows(), train=train)
        config = load(path)
        self.folder, self.rounds, self.calls = folder, [], []
        self.members = make_plan([path], num_seeds=3)
        data = prepare(load_panel(config.data), config)
        self.data = {member.name: data for member in self.members}
        for member in self.members:
            create_member(folder, member, data.panel, resume=False)
        self.events = {}
        monkeypatch.setattr(MembersEngine, "compile_slots", lambda _, count: self.compile_slots(count))

    def compile_slots(self, num_members):
        num_slots = num_members + num_members % 2

        def run(states, rates, numbers, live):
            assert len(live) == num_slots
            self.calls.append(sorted(states.key[live, 1].tolist()))
            epochs = states.epoch + live
            happened = [
                self.events.get((int(key[1]), int(e))) for key, e in zip(states.key, epochs, strict=True)
            ]
            for event in happened:
                if isinstance(event, BaseException):
                    raise event
            zeros = np.zeros(num_slots, np.float32)
            metrics = {"losses": np.ones((num_slots, STEPS), np.float32), "loss": zeros + 1}
            metrics["steps"] = zeros + STEPS
            metrics |= {name: zeros + np.float32(value) for name, value in HEALTHY.items()}
            metrics["val/loss"] = (1 / np.maximum(epochs, 1)).astype(np.float32)
            for place, event in enumerate(happened):
                if event == "nan":
                    metrics["losses"][place, 2:] = metrics["loss"][place] = math.nan
            better = np.array([event != "worse" for event in happened])
            states = states._replace(
                epoch=epochs.astype(np.int32),
                step=(STEPS * epochs).astype(np.int32),
                best_epoch=np.where(better, epochs, states.best_epoch).astype(np.int32),
                params=states.params + 1,
            )
            return states, metrics

        return Executable(run, num_slots, 0.0, 0)

    def train(self):
        """Trains to the end; returns how the members ended."""
        ended = read_ended(self.folder)
        show = self.rounds.append
        train_program(self.folder, 1, self.members, self.data, ended, "", show, NO_FUNCTIONS)
        return read_ended(self.folder)

    def trainings(self):
        """The members as the loop takes them."""
        folder = self.folder / "members"
        return [Training(m.name, m.config, self.data[m.name], folder / m.name) for m in self.members]

    def engine(self):
        """The engine of these members."""
        return MembersEngine(self.trainings())

    def epochs_seen(self, seed):
        return [line["epoch"] for line in metric_lines(self.folder / "members" / f"tiny-s{seed}")]

    def saved(self, seed):
        return checkpoint.restore_latest(self.folder / "members" / f"tiny-s{seed}" / "checkpoints")


@pytest.fixture
def begun(tmp_path, monkeypatch):
    return lambda **train: Sweep(tmp_path, monkeypatch, **train)


class Elsewhere:
    """Another engine: it takes two members at once, and adds its number of epochs to the parameters."""

    def __init__(self, members, begun=None):
        local = MembersEngine(members, begun)
        self.program, self.rounding = local.program, local.rounding
        self.asked, self.lived = [], []

    def prepare(self, count):
        self.asked.append(count)
        return min(count, 2)

    def epoch(self, states, hyperparameters, live):
        self.lived.append(list(live))
        results = []
        for state, floats in zip(states, hyperparameters, strict=True):
            assert floats.learning_rate == 0.003
            epoch = state.epoch + 1
            step = np.int32(STEPS * epoch)
            state = state._replace(epoch=epoch, best_epoch=epoch, step=step, params=state.params + 1)
            results.append(
                (state, HEALTHY | {"losses": np.ones(STEPS), "steps": STEPS, "loss": 1.0, "val/loss": 1.0})
            )
        return results


@pytest.mark.parametrize(
    ("alone", "lived"), [(True, [[0]] * EPOCHS), (False, [[0, 1]] * EPOCHS + [[2]] * EPOCHS)]
)
def test_another_engine_needs_no_other_loop(begun, alone, lived):
    sweep = begun()
    members = sweep.trainings()[:1] if alone else sweep.trainings()
    group = loop.Group(members, checkpoints=None if alone else sweep.folder / "checkpoints" / "1-0")
    engines, ended = [], {}

    def make(*arguments):
        engines.append(Elsewhere(*arguments))
        return engines[0]

    loop.train_members(group, make, ended, sweep.rounds.append)
    assert engines[0].lived == lived
    assert {how[:3] for how in ended.values()} == {("finished", EPOCHS, EPOCHS)}
    for member in members:
        saved = checkpoint.restore_latest(member.directory / "checkpoints")
        first = init_state(engines[0].program, hyperparameters(member.config), member.config.train.seed)
        np.testing.assert_allclose(saved.arrays["state"]["params"], first.params + EPOCHS, rtol=1e-6)


WHOLE = list(range(1, EPOCHS + 1))


def test_all_epochs(begun):
    sweep = begun()
    assert {how[:3] for how in sweep.train().values()} == {("finished", EPOCHS, EPOCHS)}
    assert sweep.calls == [[42, 43, 44]] * EPOCHS
    for seed in (42, 43, 44):
        assert sweep.epochs_seen(seed) == WHOLE
        assert sweep.saved(seed).epoch == EPOCHS
        assert sweep.saved(seed).metadata["config"]["train"]["seed"] == seed
    assert [(done.live, done.epochs_left) for done in sweep.rounds[-2:]] == [(3, 3), (0, 0)]
    sweep.train()
    assert len(sweep.calls) == EPOCHS  # nothing is left to do


def test_a_diverging_member_is_frozen_at_its_last_good_epoch(begun, caplog):
    sweep = begun()
    sweep.events[43, 4] = "nan"
    ended = sweep.train()
    assert ended["tiny-s43"][:3] == ("diverged", 3, 3)
    # Three epochs of 6 steps came before, and the third of the fourth is step 21.
    assert "the loss became nan at step 21 (epoch 4)" in ended["tiny-s43"].message
    assert "the others go on" in caplog.messages[0]
    assert sweep.calls == [[42, 43, 44]] * 4 + [[42, 44]] * (EPOCHS - 4)
    assert (sweep.epochs_seen(42), sweep.epochs_seen(43)) == (WHOLE, [1, 2, 3])
    state = sweep.saved(43).arrays["state"]
    assert np.isfinite(state["params"]).all()
    assert (sweep.saved(43).epoch, state["epoch"]) == (3, 3)


def test_a_member_that_diverges_at_once_has_no_checkpoint(begun):
    sweep = begun()
    sweep.events[42, 1] = "nan"
    assert sweep.train()["tiny-s42"][:3] == ("diverged", 0, 0)
    assert sweep.saved(42) is None


def test_early_stopping_freezes_one_member(begun):
    sweep = begun(patience=2)
    sweep.events |= {(44, epoch): "worse" for epoch in (3, 4)}
    ended = sweep.train()
    assert ended["tiny-s44"][:3] == ("stopped early", 4, 2)
    assert ended["tiny-s42"].status == "finished"
    assert sweep.calls[3:5] == [[42, 43, 44], [42, 43]]
    assert sweep.epochs_seen(44) == [1, 2, 3, 4]


@pytest.mark.parametrize("every", [1, 3])
def test_interrupted_and_resumed(begun, every, caplog):
    caplog.set_level("INFO", "tftjax")
    sweep = begun(checkpoint_every=every, patience=2)
    sweep.events |= {(44, epoch): "worse" for epoch in (2, 3)} | {(43, 6): KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        sweep.train()
    assert list(read_ended(sweep.folder)) == ["tiny-s44"]
    del sweep.events[43, 6]
    calls = len(sweep.calls)
    sweep.train()
    assert caplog.messages == ["program 1: going on after epoch 5, 2 members"]
    assert sweep.calls[calls:] == [[42, 43]] * (EPOCHS - 5)
    assert sweep.epochs_seen(42) == sweep.epochs_seen(43) == WHOLE
    np.testing.assert_array_equal(
        sweep.saved(42).arrays["state"]["params"] > 5, sweep.saved(43).arrays["state"]["params"] > 5
    )


def test_lines_beyond_the_checkpoint_are_dropped(begun):
    sweep = begun(checkpoint_every=5)
    sweep.events[42, 7] = ValueError("a kill")
    with pytest.raises(ValueError, match="a kill"):
        sweep.train()
    assert sweep.epochs_seen(43) == [1, 2, 3, 4, 5, 6]
    del sweep.events[42, 7]
    sweep.train()
    assert sweep.epochs_seen(43) == WHOLE


def test_joint_checkpoints_of_a_few_members_each(begun, monkeypatch):
    monkeypatch.setattr(loop, "JOINT", 2)
    sweep = begun(checkpoint_every=2, patience=2)
    sweep.events |= {(42, epoch): "worse" for epoch in (2, 3)} | {(43, 6): KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        sweep.train()
    saved = [checkpoint.restore_latest(path) for path in sorted((sweep.folder / "checkpoints").iterdir())]
    # After the second epoch three members; then two, of which one had been in the second checkpoint.
    assert [one.metadata["members"] for one in saved] == [["tiny-s43", "tiny-s44"], ["tiny-s44"]]
    assert [one.arrays["state"]["epoch"].tolist() for one in saved] == [[5, 5], [2]]
    del sweep.events[43, 6]
    sweep.train()
    assert sweep.epochs_seen(43) == sweep.epochs_seen(44) == WHOLE


def test_chunks_that_fit_into_memory(begun, monkeypatch, caplog):
    caplog.set_level("INFO", "tftjax")
    sweep = begun()
    monkeypatch.setattr(MembersEngine, "members_that_fit", lambda *_: 2)
    sweep.train()
    assert "memory suffices for 2 of 3 members" in caplog.messages[0]
    assert sweep.calls == [[42, 43]] * EPOCHS + [[44]] * EPOCHS
    assert sweep.rounds[0].epochs_left == 2 * (EPOCHS - 1) + EPOCHS
    assert all(sweep.epochs_seen(seed) == WHOLE for seed in (42, 43, 44))


def test_memory_is_estimated(begun, monkeypatch):
    members = begun().engine()
    state = init_state(members.program, hyperparameters(members.program.config), 42)
    states = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    executable = Executable(None, 4, 0.0, memory=1000)
    needed = 1000 * members.mesh.size + engine.HOST_COPIES * 4 * states
    for available, expected in ((needed, 4), (needed * 0.76, 3), (1, 1)):
        memory = SimpleNamespace(available=available)
        monkeypatch.setattr(engine.psutil, "virtual_memory", lambda memory=memory: memory)
        assert members.members_that_fit(executable, 4) == expected


def test_out_of_memory_halves_once(begun, caplog):
    sweep = begun()
    sweep.events[44, 3] = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    with pytest.raises(UserError, match="out of memory with 1 members at once"):
        sweep.train()
    assert caplog.messages[0] == "out of memory with 3 members at once: going on with 1"
    assert sweep.epochs_seen(42) == sweep.epochs_seen(43) == WHOLE
    sweep.events.clear()
    sweep.train()
    assert sweep.epochs_seen(44) == WHOLE


def test_repacking_pays_or_not(begun, caplog):
    caplog.set_level("INFO", "tftjax")
    members = begun().engine()
    members.vectorised = True
    members.executable = executable = Executable(None, 8, 30.0, 0)
    # 20 rounds of 4 s, of which three quarters are for frozen slots: 60 s.
    assert members.repacked(2, 40, 4.0).num_slots == 2
    assert "2 of 8 members go on" in caplog.messages[0]
    assert members.repacked(2, 0, 4.0) is executable  # all have ended
    for changed in ({"compile_seconds": 61.0}, {"num_slots": 3}):
        members.executable = kept = executable._replace(**changed)
        assert members.repacked(2, 40, 4.0) is kept
    members.executable, members.vectorised = executable, False
    assert members.repacked(2, 40, 4.0) is executable


# ---- Members that are ended from outside, and those that follow ------------------------------------------


def test_a_judged_member_ends_and_another_takes_its_place(begun):
    sweep = begun()
    members = sweep.trainings()
    first, others = members[:2], members[2:]
    asked, judged = [], []

    def judge(records, diverged):
        judged.append(sorted(records))
        assert not diverged
        return {"tiny-s43": "worse"} if records.get("tiny-s43", {}).get("epoch") == 3 else {}

    def join(count):
        asked.append(count)
        return [others.pop()] if others else []

    group = loop.Group(first, checkpoints=sweep.folder / "joint", judge=judge, join=join, keep_ended=False)
    engines, ended = [], {}

    def make(*arguments):
        engines.append(Elsewhere(*arguments))
        return engines[0]

    loop.train_members(group, make, ended, sweep.rounds.append)
    assert ended["tiny-s43"][:4] == ("pruned", 3, 3, "worse")
    assert {name: how[:4] for name, how in ended.items() if name != "tiny-s43"} == dict.fromkeys(
        ("tiny-s42", "tiny-s44"), ("finished", EPOCHS, EPOCHS, "")
    )
    assert engines[0].asked == [2]  # once: what joins needs no other program
    # The third is on the data of the second, and takes its place among the engine's members.
    assert engines[0].lived == [[0, 1]] * EPOCHS + [[1]] * 3
    assert judged == [["tiny-s42", "tiny-s43"]] * 3 + [["tiny-s42", "tiny-s44"]] * 5 + [["tiny-s44"]] * 3
    assert asked == [1, 1, *[1] * 2, 2]
    assert (sweep.epochs_seen(43), sweep.epochs_seen(44)) == ([1, 2, 3], WHOLE)
    assert [sweep.saved(seed) for seed in (42, 43, 44)] == [None] * 3


def test_an_engine_compiles_the_same_slots_once(begun):
    sweep = begun()
    engine = sweep.engine()
    engine.prepare(3)
    compiled = engine.executable
    engine.prepare(4)
    assert engine.executable is compiled
    engine.prepare(2)
    assert engine.executable is not compiled
