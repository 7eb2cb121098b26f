"""Members side by side in one program: each is the single run that it would be alone."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from train.test_data import prepare
from train.test_step import CONFIG, assert_same, rates, with_text

from tftjax.runtime import device_mesh
from tftjax.train.engine import arrange, compile_members, stack, stack_data, unstack
from tftjax.train.step import compile_epoch, init_state, make_program, train_data

# Number of the data set, seed, learning rate, dropout rate, std weight; the third diverges.
MEMBERS = [(1, 3, 0.01, 0.2, 0.0), (0, 4, 0.02, 0.4, 1.3), (1, 5, 1e30, 0.1, 0.0)]
SPLITS = [(0.6, 0.15, 0.25), (0.7, 0.25, 0.05)]  # 54 and 64 windows, 9 and 10 steps; 14 and 24 in validation
STEPS = [9, 10]
EPOCHS = 4


@pytest.fixture(scope="module")
def swept():
    """`run(members, num_slots, epochs)`: states and metrics of each member after each epoch."""
    train = {"schedule": "warmup_cosine", "warmup_epochs": 1, "max_epochs": EPOCHS}
    config = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update=train)})
    datasets = [prepare(split=split) for split in SPLITS]
    program = make_program(config, datasets[0], device_mesh(1))
    assert (program.mesh.size, device_mesh().size, program.val_counts) == (1, 2, (14,))
    stacked, shared = stack_data(datasets), program._replace(val_counts=(14, 24))
    compiled = {
        kind: compile_members(shared, device_mesh(), vectorised=kind, emitters=False)
        for kind in (False, True)
    }

    def settings(member):
        number, seed, learning_rate, dropout_rate, std_weight = member
        changes = {"learning_rate": learning_rate, "dropout_rate": dropout_rate, "std_weight": std_weight}
        return init_state(program, rates(), seed), rates(**changes), np.int32(number)

    def run(members, num_slots=4, epochs=EPOCHS, vectorised=False):
        slots = arrange(list(range(len(members))), num_slots, 2)
        whole = [stack(part) for part in zip(*map(settings, members), strict=True)]
        lay = [0 if slot is None else slot for slot in slots]
        live = np.array([slot is not None for slot in slots])
        states, *others = jax.tree.map(lambda leaf: leaf[lay], whole)
        history = [[] for _ in members]
        program = two_slots if (num_slots, vectorised) == (2, False) else compiled[vectorised]
        for _ in range(epochs):
            states, metrics = program(states, *others, live, stacked)
            for place, slot in enumerate(slots):
                if slot is not None:
                    history[slot].append(unstack((states, metrics), place))
        return history, unstack(states, lay.index(0, 1)) if None in slots else None

    def single(member):
        state, hyperparameters, number = settings(member)
        data = train_data(datasets[number])
        epoch, history = compile_epoch(program._replace(val_counts=(int(data.num_val),)), emitters=False), []
        for _ in range(EPOCHS):
            state, metrics = epoch(state, hyperparameters, data)
            history.append((state, metrics))
        return history

    singles = [single(member) for member in MEMBERS[:2]]
    two_slots, text = with_text(compiled[False], *abstract(settings(MEMBERS[0])), np.ones(2, bool), stacked)
    return SimpleNamespace(run=run, singles=singles, start=settings, text=text)


def abstract(tree):
    """The shapes of a tree in two slots."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *np.shape(leaf)), np.asarray(leaf).dtype), tree)


@pytest.fixture(scope="module")
def history(swept):
    return swept.run(MEMBERS)


@pytest.mark.slow
@pytest.mark.parametrize("vectorised", [False, True])
def test_members_are_the_single_runs(swept, history, vectorised):
    members = swept.run(MEMBERS[:2], 2, epochs=2, vectorised=True)[0] if vectorised else history[0]
    for (number, *_), epochs, alone in zip(MEMBERS[:2], members, swept.singles, strict=False):
        for (state, metrics), (state_1, metrics_1) in zip(epochs, alone, strict=False):
            assert metrics.keys() == metrics_1.keys()
            assert metrics_1["losses"].shape == (STEPS[number],)
            assert not metrics["losses"][STEPS[number] :].any()
            for name, value in metrics_1.items():
                got = metrics["losses"][: STEPS[number]] if name == "losses" else metrics[name]
                np.testing.assert_allclose(got, value, rtol=2e-4, atol=1e-7, err_msg=name)
            np.testing.assert_allclose(state.params, state_1.params, atol=2e-5)
            assert_same(state[2:5], state_1[2:5])
            assert state.best_epoch == state_1.best_epoch
    losses = [epochs[-1][1]["loss"] for epochs in members[:2]]
    assert abs(losses[0] / losses[1] - 1) > 0.01  # the comparison can tell one member from another


def test_a_member_that_diverges_changes_no_bit_of_the_others(swept, history):
    members, _ = history
    assert not np.isfinite(members[2][-1][1]["losses"]).all()
    assert_same(swept.run(MEMBERS[:2])[0], members[:2])


def test_neither_the_slot_nor_the_company_changes_a_bit(swept, history):
    others = swept.run([MEMBERS[1], MEMBERS[0]])[0]
    assert_same(others, history[0][1::-1])


def test_a_program_of_fewer_slots_rounds_alike(swept, history):
    """It is another program, in which XLA may sum in another order."""
    others = swept.run(MEMBERS[:2], num_slots=2, epochs=1)[0]
    for (state, _), (state_1, _) in zip(
        (own[0] for own in others), (own[0] for own in history[0]), strict=False
    ):
        np.testing.assert_allclose(state.params, state_1.params, atol=1e-6)


def test_a_slot_that_is_not_live_is_frozen(swept, history):
    assert_same(history[1], swept.start(MEMBERS[0])[0])


def test_arrangement_is_even():
    assert arrange(list("abcde"), 8, 2) == ["a", "c", "e", None, "b", "d", None, None]
    assert arrange(["a"], 2, 2) == ["a", None]
    assert arrange(list("abc"), 3, 3) == ["a", "b", "c"]
    assert arrange(list("abc"), 6, 2, busy=1) == ["a", "b", "c", None, None, None]
    assert arrange(list("abc"), 6, 3, busy=2) == ["a", "c", "b", None, None, None]


def test_the_program_calls_no_lapack_and_no_device_waits(swept):
    assert "conditional" in swept.text
    for word in ("lapack", "all-reduce", "all-gather", "collective"):
        assert word not in swept.text.lower()
