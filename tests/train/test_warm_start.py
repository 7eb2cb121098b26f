"""Starting from another run's parameters: what is taken, what is refused, and that nothing reads it twice."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny import EPOCHS, assert_same_arrays, begin_run, contents, make_rows, metric_lines, write_config
from train.test_loop import Sweep
from train.test_run import stand_in

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.model.parameters import to_tree
from tftjax.runtime import device_mesh
from tftjax.storage import checkpoint
from tftjax.sweep.__main__ import main as sweep_main
from tftjax.sweep.members import create_member
from tftjax.sweep.plan import make_plan, programs
from tftjax.train import engine, loop, warm_start
from tftjax.train import run as train
from tftjax.train.__main__ import main as train_main
from tftjax.train.engine import Training
from tftjax.train.step import init_state, make_program, state_from_arrays

pytestmark = pytest.mark.usefixtures("in_process")


def prepared(folder, **sections):
    """A run that could begin: its config's path, config, data and program."""
    path = write_config(folder, make_rows(), **sections)
    config = load(path)
    data = prepare(load_panel(config.data), config)
    return SimpleNamespace(
        path=path, config=config, data=data, program=make_program(config, data, device_mesh(1))
    )


def untrained_run(folder, split=(0.7, 0.15, 0.15), **model):
    """A run after an epoch of nothing: its directory, and its best parameters, which are not its last."""
    run = prepared(folder / "in", model=model, data={"split": split})
    begin_run(folder / "source", run.config, run.data.whole)
    state = init_state(run.program, hyperparameters(run.config), seed=7)
    best = state.params + np.float32(0.25)
    state = state._replace(best_params=best, epoch=np.int32(3), best_epoch=np.int32(2))
    member = Training("source", run.config, run.data, folder / "source")
    loop.save_state(member, state, run.program, engine.Rounding(1, emitters=False))
    months = run.data.encoding.categories["month"]
    return SimpleNamespace(directory=folder / "source", best=to_tree(best, run.program.layout), months=months)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("source"), lstm_layers=2)


@pytest.fixture
def first_state(caplog):
    return partial(make_first_state, caplog)


def make_first_state(caplog, tmp_path, source, **model):
    """The state that a run of another model begins with, init.json and what was said."""
    run = prepared(tmp_path / "in", model=model, train={"init_from": str(source.directory)})
    caplog.clear()
    caplog.set_level("INFO", "tftjax")
    state = loop.first_state(Training("tiny", run.config, run.data, tmp_path), run.program)
    cold = init_state(run.program, hyperparameters(run.config), run.config.train.seed)
    record = json.loads((tmp_path / "init.json").read_text())
    tree, cold_tree = (to_tree(s.params, run.program.layout) for s in (state, cold))
    return SimpleNamespace(
        state=state, cold=cold, tree=tree, cold_tree=cold_tree, record=record, said=caplog.messages[0]
    )


def test_the_same_model_takes_all(first_state, tmp_path, source):
    begun = first_state(tmp_path, source, lstm_layers=2)
    assert_same_arrays(begun.tree, source.best)
    np.testing.assert_array_equal(begun.state.params, begun.state.best_params)
    assert begun.state.params is not begun.state.best_params
    # All else is as at any start.
    for field in ("opt_state", "step", "epoch", "key", "best_loss", "best_epoch"):
        np.testing.assert_equal(getattr(begun.state, field), getattr(begun.cold, field))
    assert begun.record["source"] == str(source.directory)
    assert begun.record["epoch"] == 2
    assert len(begun.record["fingerprint"]) == 64
    assert (begun.record["new"], begun.record["left"]) == ([], [])
    assert "lstm_encoder_1/recurrent_kernel" in begun.record["taken"]
    assert f"tiny starts from {source.directory}, epoch 2: " in begun.said
    assert "0 arrays new, 0 arrays left" in begun.said


def test_a_smaller_model_leaves_and_a_larger_one_draws(first_state, tmp_path, source):
    fewer = first_state(tmp_path / "fewer", source)
    assert fewer.record["new"] == []
    assert {path.partition("/")[0] for path in fewer.record["left"]} == {"lstm_decoder_1", "lstm_encoder_1"}
    assert_same_arrays(fewer.tree, {k: v for k, v in source.best.items() if not k.endswith("_1")})
    assert "left: lstm_decoder_1/input/bias, " in fewer.said
    more = first_state(tmp_path / "more", source, lstm_layers=3)
    assert more.record["left"] == []
    assert {path.partition("/")[0] for path in more.record["new"]} == {"lstm_decoder_2", "lstm_encoder_2"}
    for name, part in more.tree.items():
        assert_same_arrays(part, (more.cold_tree if name.endswith("_2") else source.best)[name])
    assert len(more.record["taken"]) + len(more.record["new"]) == len(jax.tree.leaves(more.tree))


@pytest.mark.parametrize("model", [{"quantile_head": "monotone"}, {"quantiles": [0.1, 0.5]}])
def test_an_output_layer_that_means_something_else_begins_anew(first_state, tmp_path, source, model):
    begun = first_state(tmp_path, source, lstm_layers=2, **model)
    assert begun.record["new"] == begun.record["left"] == ["output/bias", "output/kernel"]
    assert_same_arrays(begun.tree["output"], begun.cold_tree["output"])
    assert_same_arrays(begun.tree["output_gate"], source.best["output_gate"])


def test_gates_are_taken_only_where_they_mean_the_same(first_state, tmp_path):
    regime = {"by": "thresholds", "column": "Realized_Vol_21d", "thresholds": [15]}
    gated = untrained_run(tmp_path, attention={"regime": regime})
    same = first_state(tmp_path / "same", gated, attention={"regime": regime})
    assert_same_arrays(same.tree, gated.best)
    other = first_state(tmp_path / "other", gated, attention={"regime": regime | {"thresholds": [16]}})
    assert other.record["new"] == other.record["left"] == ["attention_gates/gate"]
    assert not other.tree["attention_gates"]["gate"].any()
    plain = first_state(tmp_path / "plain", gated)
    assert (plain.record["new"], plain.record["left"]) == ([], ["attention_gates/gate"])


def test_categories_are_taken_by_their_values(tmp_path, source):
    """Of each column the vector of what is unseen comes first: six rows of five days, then the months."""
    early = untrained_run(tmp_path, split=(0.3, 0.2, 0.5))
    assert (early.months, source.months) == ([1, 2, 3, 4, 5], [*range(1, 12)])

    def table(begun_from, split):
        setting = {"train": {"init_from": str(begun_from.directory)}, "data": {"split": split}}
        run = prepared(tmp_path / "in", **setting)
        start = warm_start.read_start(run.config, run.data, run.program.layout)
        module, name = "embedding_known_categorical", "embedding"
        return start, start.taken[f"{module}/{name}"], begun_from.best[module][name]

    start, taken, held = table(early, [0.6, 0.2, 0.2])
    assert start.unseen == {"month": [6, 7, 8, 9]}
    np.testing.assert_array_equal(taken, held[[*range(12), 6, 6, 6, 6]])
    assert "start as unseen categories: 6, 7, 8, 9 of month" in str(start)
    # Of the source's eleven months the last six are in no train row.
    start, taken, held = table(source, [0.3, 0.55, 0.15])
    assert start.unseen == {}
    np.testing.assert_array_equal(taken, held[:12])


OWN_COLUMNS = {"target": "SP500_Returns", "observed": ["AAA_Yield"], "known_categorical": ["month"]}


def refusals(source, folder):
    """By case: sections of a config that starts from a run that does not fit, and words of the message."""
    here = str(source.directory)
    untrained = shutil.copytree(source.directory, folder / "untrained")
    shutil.rmtree(untrained / "checkpoints")
    damaged = shutil.copytree(source.directory, folder / "damaged")
    (damaged / "checkpoints" / "3" / "SHA256SUMS").write_text("no sums\n")
    return {
        "shapes": (
            here,
            {"model": {"hidden_size": 6}},
            ["does not fit", "attention_gate/glu/gate/bias: there [4], here [6]"],
        ),
        "settings": (
            here,
            {"model": {"hidden_size": 6}},
            ["model.hidden_size (4 there, 6 here)", "same sizes"],
        ),
        "columns": (
            here,
            {"data": {"columns": OWN_COLUMNS}},
            ["observed columns", "AAA_Yield", "same columns"],
        ),
        "seen": (
            here,
            {"data": {"split": [0.7, 0.1, 0.2]}},
            ["has seen targets up to 2002-01-15", "test rows begin on 2001-12-25", "test later"],
        ),
        "no run": ("/nowhere/x", {}, ["/nowhere/x", "not a run"]),
        "untrained": (str(untrained), {}, ["no checkpoint yet"]),
        "damaged": (str(damaged), {}, ["none of the checkpoints", "damaged"]),
        "itself": (str(folder / "runs" / "tiny"), {}, ["lies in", "another --name"]),
        "unknown pattern": (
            None,
            {"train": {"freeze": ["lstn*"]}},
            ["'lstn*'", "matches no", "lstm_gate", "output"],
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "shapes",
        "settings",
        "columns",
        "seen",
        "no run",
        "untrained",
        "damaged",
        "itself",
        "unknown pattern",
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(tmp_path, source, case, capsys):
    start, sections, words = refusals(source, tmp_path)[case]
    config = write_config(tmp_path / "in", make_rows(), **sections)
    made = tmp_path / "runs"
    setting = [f"train.init_from={json.dumps(start)}"]
    for command in (train_main, sweep_main):
        arguments = [str(config), "--runs", str(made), "--set", *setting]
        assert command([*arguments, *(["--name", "tiny"] if command is sweep_main else [])]) == 2
        error = capsys.readouterr().err
        key = "train.freeze: " if start is None else "train.init_from: "
        assert f"error: {key}" in error
        assert [word for word in words if word not in error] == [], error
        assert not made.exists()


def test_resuming_does_not_read_the_source_again(tmp_path, source, monkeypatch, capsys):
    copy = shutil.copytree(source.directory, tmp_path / "copy")
    config = write_config(tmp_path / "in", make_rows(), train={"init_from": str(copy)})
    command = [str(config), "--runs", str(tmp_path), "--quiet"]
    monkeypatch.setattr(engine, "compile_epoch", stand_in({3: KeyboardInterrupt()}))
    assert train_main(command) == 130
    assert "starts from" in capsys.readouterr().err
    began = (tmp_path / "tiny" / "init.json").read_bytes()
    shutil.rmtree(copy)
    assert train_main([*command, "--resume"]) == 130
    error = capsys.readouterr().err
    assert "going on after epoch 2" in error
    assert "starts from" not in error
    assert (tmp_path / "tiny" / "init.json").read_bytes() == began
    assert train_main([*command, "--overwrite"]) == 2  # that would begin anew
    assert "not a run" in capsys.readouterr().err
    assert "checkpoints/2/SHA256SUMS" in contents(tmp_path / "tiny")


def test_a_kill_before_the_first_epoch_reads_it_again(tmp_path, source, monkeypatch, caplog):
    caplog.set_level("INFO", "tftjax")
    run = prepared(tmp_path / "in", train={"init_from": str(source.directory)})
    begin_run(tmp_path / "tiny", run.config, run.data.whole)
    (tmp_path / "tiny" / "init.json.new").write_text("half")
    monkeypatch.setattr(engine, "compile_epoch", stand_in({}))
    train.fit(run.config, run.data, tmp_path / "tiny", quiet=True)
    assert "starts from" in caplog.messages[0]
    saved = checkpoint.restore_latest(tmp_path / "tiny" / "checkpoints").arrays["params"]
    assert_same_arrays(saved["lstm_gate"], source.best["lstm_gate"])


def test_members_of_a_sweep_start_from_it_and_resume_without_it(tmp_path, source, monkeypatch, caplog):
    caplog.set_level("INFO", "tftjax")
    copy = shutil.copytree(source.directory, tmp_path / "copy")
    swept = Sweep(tmp_path, monkeypatch, init_from=str(copy))
    swept.events[43, 3] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        swept.train()
    assert len([line for line in caplog.messages if "starts from" in line]) == 3
    shutil.rmtree(copy)
    del swept.events[43, 3]
    assert {how.status for how in swept.train().values()} == {"finished"}
    for seed in (42, 43, 44):
        # The stand-in adds to the parameters, and leaves the best ones as they were at the start.
        assert_same_arrays(swept.saved(seed).arrays["params"]["output_gate"], source.best["output_gate"])
        assert (tmp_path / "members" / f"tiny-s{seed}" / "init.json").exists()


def chain(tmp_path, monkeypatch, **train):
    """Members of which the second starts from the first, and the third from the second."""
    swept = Sweep(tmp_path, monkeypatch, **train)
    for place, member in enumerate(swept.members[1:]):
        before = str(tmp_path / "members" / swept.members[place].name)
        settings = member.config.train.model_copy(update={"init_from": before})
        config = member.config.model_copy(update={"train": settings})
        shutil.rmtree(tmp_path / "members" / member.name)
        swept.members[place + 1] = member._replace(config=config)
        create_member(tmp_path, swept.members[place + 1], swept.data[member.name].panel, resume=False)
    return swept


def test_members_start_from_the_one_before(tmp_path, monkeypatch):
    """The stand-in leaves the best parameters as they were at the start: all are the first one's."""
    swept = chain(tmp_path, monkeypatch)
    swept.events[43, 3] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        swept.train()
    del swept.events[43, 3]
    ended = swept.train()
    assert {how[:3] for how in ended.values()} == {("finished", EPOCHS, EPOCHS)}
    assert swept.calls == [[seed] for seed in [42] * 8 + [43] * 3 + [43] * 6 + [44] * 8]
    first = init_state(swept.engine().program, hyperparameters(swept.members[0].config), 42)
    for seed in (42, 43, 44):
        assert [line["epoch"] for line in metric_lines(tmp_path / "members" / f"tiny-s{seed}")] == [
            *range(1, 9)
        ]
        np.testing.assert_array_equal(
            state_from_arrays(swept.saved(seed).arrays, first).best_params, first.params
        )
    assert swept.rounds[0].epochs_left == 3 * EPOCHS - 1
    assert not (tmp_path / "members" / "tiny-s42" / "init.json").exists()
    record = json.loads((tmp_path / "members" / "tiny-s44" / "init.json").read_text())
    assert (record["source"], record["epoch"]) == (str(tmp_path / "members" / "tiny-s43"), EPOCHS)


def test_a_member_goes_on_from_one_that_diverged_where_that_has_a_checkpoint(tmp_path, monkeypatch):
    swept = chain(tmp_path, monkeypatch)
    swept.events[42, 2] = "nan"
    assert [how[:3] for how in swept.train().values()] == [("diverged", 1, 1)] + [("finished", 8, 8)] * 2


def test_a_member_whose_source_has_no_checkpoint_has_diverged_too(tmp_path, monkeypatch):
    swept = chain(tmp_path, monkeypatch)
    swept.events[42, 1] = "nan"
    ended = swept.train()
    assert [how[:3] for how in ended.values()] == [("diverged", 0, 0)] * 3
    assert ended["tiny-s44"].message == "tiny-s43, which it starts from, has no checkpoint"
    assert swept.calls == [[42]]


def test_a_chain_fills_the_place_that_another_leaves(tmp_path, monkeypatch):
    """The third waits for the first alone, and the second goes on meanwhile."""
    swept = chain(tmp_path, monkeypatch, patience=2)
    start = {"init_from": str(tmp_path / "members" / "tiny-s42")}
    for place, changed in ((1, {"init_from": None}), (2, start)):
        member = swept.members[place]
        settings = member.config.train.model_copy(update=changed)
        config = member.config.model_copy(update={"train": settings})
        swept.members[place] = member._replace(config=config)
        shutil.rmtree(tmp_path / "members" / member.name)
        create_member(tmp_path, swept.members[place], swept.data[member.name].panel, resume=False)
    swept.events |= {(42, epoch): "worse" for epoch in (2, 3)}
    assert [how.epoch for how in swept.train().values()] == [3, 8, 8]
    assert swept.calls == [[42, 43]] * 3 + [[43, 44]] * 5 + [[44]] * 3


def test_where_a_member_starts_makes_no_other_program(tmp_path, source):
    path = write_config(tmp_path, make_rows())
    members = make_plan([path], grid=[f'train.init_from=null,"{source.directory}"'], num_seeds=2)
    (program,) = programs(members, {member.name: {} for member in members})
    assert [member.config.train.init_from for member in program] == [None] * 2 + [str(source.directory)] * 2


def test_nothing_in_common_is_refused(tmp_path, source):
    run = prepared(tmp_path, train={"init_from": str(source.directory)})
    other = run.program.layout._replace(paths=tuple(("x", *path) for path in run.program.layout.paths))
    with pytest.raises(UserError, match="no parameter has a place here"):
        warm_start.read_start(run.config, run.data, other)
