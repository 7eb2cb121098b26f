"""The lives of a sweep's members: what ends one, what is kept, what memory allows.

The program is replaced by a stand-in that counts epochs: it needs no compilation.
"""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny import EPOCHS, HEALTHY, make_rows, metric_lines, write_config

from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.storage import checkpoint
from tftjax.sweep import program
from tftjax.sweep import train as sweep_train
from tftjax.sweep.members import create_member, read_ended
from tftjax.sweep.plan import make_plan
from tftjax.sweep.program import Executable, member_program
from tftjax.sweep.train import Trainer, train_members

STEPS = 6  # 219 train windows, batches of 32


class Sweep:
    """Three members with seeds 42, 43, 44 in a folder, and a stand-in for their program."""

    def __init__(self, folder, monkeypatch, **train):
        path = write_config(folder / "in", make_rows(), train=train)
        config = load(path)
        self.folder, self.said, self.rounds, self.calls = folder, [], [], []
        self.members = make_plan([path], num_seeds=3)
        data = prepare(load_panel(config.data), config)
        self.data = {member.name: data for member in self.members}
        for member in self.members:
            create_member(folder, member, data.panel, resume=False)
        self.events = {}
        monkeypatch.setattr(sweep_train, "compile_slots", self.compile_slots)

    def compile_slots(self, shared, member, num_members):
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
        shared = member_program(self.members, self.data)
        trainer = Trainer(shared, 1, self.folder, 0, self.said.append, self.rounds.append)
        train_members(trainer, self.members, read_ended(self.folder))
        return read_ended(self.folder)

    def epochs_seen(self, seed):
        return [line["epoch"] for line in metric_lines(self.folder / "members" / f"tiny-s{seed}")]

    def saved(self, seed):
        return checkpoint.restore_latest(self.folder / "members" / f"tiny-s{seed}" / "checkpoints")


@pytest.fixture
def begun(tmp_path, monkeypatch):
    return lambda **train: Sweep(tmp_path, monkeypatch, **train)


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


def test_a_diverging_member_is_frozen_at_its_last_good_epoch(begun):
    sweep = begun()
    sweep.events[43, 4] = "nan"
    ended = sweep.train()
    assert ended["tiny-s43"][:3] == ("diverged", 3, 3)
    # Three epochs of 6 steps came before, and the third of the fourth is step 21.
    assert "the loss became nan at step 21 (epoch 4)" in ended["tiny-s43"].message
    assert "the others go on" in sweep.said[0]
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
def test_interrupted_and_resumed(begun, every):
    sweep = begun(checkpoint_every=every, patience=2)
    sweep.events |= {(44, epoch): "worse" for epoch in (2, 3)} | {(43, 6): KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        sweep.train()
    assert list(read_ended(sweep.folder)) == ["tiny-s44"]
    del sweep.events[43, 6]
    calls = len(sweep.calls)
    sweep.train()
    assert sweep.said == ["program 1: 2 members go on after epoch 5"]
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


def test_chunks_that_fit_into_memory(begun, monkeypatch):
    sweep = begun()
    monkeypatch.setattr(sweep_train, "members_that_fit", lambda *_: 2)
    sweep.train()
    assert "memory suffices for 2 of 3 members" in sweep.said[0]
    assert sweep.calls == [[42, 43]] * EPOCHS + [[44]] * EPOCHS
    assert sweep.rounds[0].epochs_left == 2 * (EPOCHS - 1) + EPOCHS
    assert all(sweep.epochs_seen(seed) == WHOLE for seed in (42, 43, 44))


def test_memory_is_estimated(begun, monkeypatch):
    sweep = begun()
    shared, member = member_program(sweep.members, sweep.data), sweep.members[0]
    states = sum(leaf.nbytes for leaf in jax.tree.leaves(program.initial_state(shared, member)))
    executable = Executable(None, 4, 0.0, memory=1000)
    needed = 1000 * shared.mesh.size + program.HOST_COPIES * 4 * states
    for available, expected in ((needed, 4), (needed * 0.76, 3), (1, 1)):
        memory = SimpleNamespace(available=available)
        monkeypatch.setattr(program.psutil, "virtual_memory", lambda memory=memory: memory)
        assert program.members_that_fit(shared, executable, member, 4) == expected
    monkeypatch.undo()
    assert program.members_that_fit(shared, executable, member, 4) == 4  # of the machine's own memory


def test_out_of_memory_halves_once(begun):
    sweep = begun()
    sweep.events[44, 3] = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    with pytest.raises(UserError, match="out of memory with 1 members at once"):
        sweep.train()
    assert sweep.said[0] == "out of memory with 3 members at once: going on with 1"
    assert sweep.epochs_seen(42) == sweep.epochs_seen(43) == WHOLE
    sweep.events.clear()
    sweep.train()
    assert sweep.epochs_seen(44) == WHOLE


def test_repacking_pays_or_not(begun):
    sweep = begun()
    shared = member_program(sweep.members, sweep.data)._replace(vectorised=True)
    trainer = Trainer(shared, 1, sweep.folder, 0, sweep.said.append, sweep.rounds.append)
    live = sweep.members[:2]
    executable = Executable(None, 8, 30.0, 0)
    # 20 rounds of 4 s, of which three quarters are for frozen slots: 60 s.
    assert sweep_train._repacked(trainer, executable, live, 40, 4.0).num_slots == 2
    assert "2 of 8 members go on" in sweep.said[0]
    for changed in ({"compile_seconds": 61.0}, {"num_slots": 3}):
        kept = executable._replace(**changed)
        assert sweep_train._repacked(trainer, kept, live, 40, 4.0) is kept
    one_by_one = trainer._replace(shared=shared._replace(vectorised=False))
    assert sweep_train._repacked(one_by_one, executable, live, 40, 4.0) is executable
