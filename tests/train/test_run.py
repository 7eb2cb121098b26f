"""Training around the compiled program: what stops it, what is kept, and every bad input of the command.

The program itself is replaced by a stand-in where only the loop matters: it needs no compilation.
"""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import (
    EPOCHS,
    HEALTHY,
    assert_same_arrays,
    begin_run,
    contents,
    make_rows,
    metric_lines,
    write_config,
)

from tftjax.config.loading import load
from tftjax.config.train import TrainConfig
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.evaluate.__main__ import main as evaluate_main
from tftjax.evaluate.compare import main as compare_main
from tftjax.interpret.__main__ import main as interpret_main
from tftjax.report.__main__ import main as report_main
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory, lock
from tftjax.storage.runs import Ended
from tftjax.train import engine, loop, run
from tftjax.train.__main__ import main as train_main
from tftjax.train.step import TrainState

pytestmark = pytest.mark.usefixtures("in_process", "quick_evaluation")

STEPS = 6  # 219 train windows, batches of 32


@pytest.fixture
def begun(tmp_path):
    """Starts a run with some changes to its `train` section: config, data and directory."""

    def begin(**section):
        config = load(write_config(tmp_path / "in", make_rows(), train=section))
        data = prepare(load_panel(config.data), config)
        begin_run(tmp_path / "tiny", config, data.panel)
        return config, data, tmp_path / "tiny"

    return begin


def stand_in(happens):
    """An epoch's program: counts epochs, always improves; `happens` maps an epoch to what goes wrong."""

    def compile_epoch(program, *, emitters):
        def run_epoch(state, rates, arrays):
            epoch = int(state.epoch) + 1
            event = happens.get(epoch)
            if isinstance(event, BaseException):
                raise event
            metrics = {
                "loss": 1.0 / epoch,
                "val/loss": 2.0 / epoch,
                "losses": np.full(STEPS, 1.0 / epoch),
                "steps": STEPS,
                **HEALTHY,
            }
            for name, value in (event or {}).items():
                metrics[name] = np.array(value) if name == "losses" else value
            changed = {
                "epoch": np.int32(epoch),
                "best_epoch": np.int32(epoch),
                "step": np.int32(STEPS * epoch),
                "params": np.asarray(state.params) + 1,
            }
            return state._replace(**changed), metrics

        run_epoch.executable = lambda *arguments: None  # as if compiled
        return run_epoch

    return compile_epoch


def fit(started, monkeypatch, happens=None):
    """Trains with the stand-in."""
    config, data, directory = started
    monkeypatch.setattr(engine, "compile_epoch", stand_in(happens or {}))
    run.fit(config, data, directory, quiet=True)


def epochs_seen(directory: Path) -> list[int]:
    return [line["epoch"] for line in metric_lines(directory)]


def test_fit_saves_every_epoch_and_keeps_two(begun, monkeypatch, caplog):
    started = begun()
    fit(started, monkeypatch)
    assert caplog.messages == []
    assert epochs_seen(started[2]) == list(range(1, EPOCHS + 1))
    assert checkpoint.epochs(started[2] / "checkpoints") == [EPOCHS - 1, EPOCHS]


def test_a_run_whose_best_epoch_is_the_last_says_so():
    at_the_end, before = Ended("finished", 30, 30), Ended("finished", 30, 29)
    assert run._epoch_text(at_the_end, TrainConfig()) == (
        "best epoch 30 is the last: validation was still falling; to go on:"
        " --resume --set train.max_epochs=60, in Python resume=True, max_epochs=60"
    )
    assert run._epoch_text(before, TrainConfig()) == "best epoch 29 of 30"
    assert run._epoch_text(at_the_end, TrainConfig(keep="last")) == "best epoch 30 of 30"
    early = Ended("stopped early", 30, 20)
    assert not early.may_go_on
    assert run._epoch_text(early, TrainConfig()) == (
        "best epoch 20 of 30: stopped after 10 epochs without a better validation loss"
    )


def test_fit_saves_the_last_epoch_whatever_the_interval(begun, monkeypatch):
    started = begun(checkpoint_every=3)
    fit(started, monkeypatch)
    assert checkpoint.epochs(started[2] / "checkpoints")[-1] == EPOCHS


@pytest.mark.parametrize("every", [1, 3])
def test_interruption_saves_the_last_finished_epoch(begun, monkeypatch, caplog, every):
    caplog.set_level("INFO", "tftjax")
    started = begun(checkpoint_every=every)
    with pytest.raises(KeyboardInterrupt):
        fit(started, monkeypatch, {6: KeyboardInterrupt()})
    saved = checkpoint.restore_latest(started[2] / "checkpoints")
    assert saved.epoch == saved.arrays["state"]["epoch"] == 5
    assert epochs_seen(started[2]) == [1, 2, 3, 4, 5]
    fit(started, monkeypatch)
    assert caplog.messages == ["going on after epoch 5"]
    assert epochs_seen(started[2]) == list(range(1, EPOCHS + 1))


def test_interruption_while_a_line_is_written(begun, monkeypatch):
    """State and lines go together: neither an epoch without its line nor a line twice."""
    started = begun(checkpoint_every=3)
    append = loop.append_line

    def interrupted(path, record):
        append(path, record)
        if record["epoch"] == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "append_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(started, monkeypatch)
    fit(started, monkeypatch)
    assert epochs_seen(started[2]) == list(range(1, EPOCHS + 1))


def test_lines_after_the_checkpoint_and_half_lines_are_dropped(begun, monkeypatch):
    started = begun(checkpoint_every=5)
    with pytest.raises(KeyboardInterrupt):
        fit(started, monkeypatch, {6: KeyboardInterrupt()})
    with (started[2] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 6, "loss": 1.0}\n{"epoch": 7, "lo')
    fit(started, monkeypatch)
    assert epochs_seen(started[2]) == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("every", [1, 3])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(begun, monkeypatch, every):
    started = begun(checkpoint_every=every)
    losses = [1.0, 1.0, math.nan, math.nan, math.inf, 1.0]
    # Four epochs of 6 steps came before: the third of the fifth epoch is step 27.
    with pytest.raises(UserError, match=r"loss became nan at step 27 \(epoch 5\).*kept, of epoch 4.*0\.003"):
        fit(started, monkeypatch, {5: {"losses": losses, "loss": math.nan}})
    saved = checkpoint.restore_latest(started[2] / "checkpoints")
    assert saved.epoch == 4
    assert np.isfinite(saved.arrays["state"]["params"]).all()
    assert epochs_seen(started[2]) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"losses": [math.inf] + [1.0] * 5}, "loss became inf at step 1 "),
        ({"val/loss": math.nan, "val/sigma": math.nan}, "val/loss became nan after step 6 "),
        ({"gradient_norm": math.inf}, "gradient_norm became inf after step 6 "),
    ],
)
def test_divergence_in_the_first_epoch(begun, monkeypatch, wrong, words):
    started = begun()
    with pytest.raises(UserError, match=words) as error:
        fit(started, monkeypatch, {1: wrong})
    assert "no checkpoint yet" in str(error.value)
    assert checkpoint.epochs(started[2] / "checkpoints") == []
    assert contents(started[2]).get("metrics.jsonl", b"") == b""


def test_divergence_is_exit_code_2(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path / "in", make_rows())
    monkeypatch.setattr(engine, "compile_epoch", stand_in({2: {"losses": [1, math.nan, 1, 1, 1, 1]}}))
    assert train_main([str(config), "--runs", str(tmp_path), "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: the loss became nan at step 8 (epoch 2)")
    assert checkpoint.epochs(tmp_path / "tiny" / "checkpoints") == [1]


def test_interruption_is_exit_code_130(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path / "in", make_rows())
    monkeypatch.setattr(engine, "compile_epoch", stand_in({3: KeyboardInterrupt()}))
    assert train_main([str(config), "--runs", str(tmp_path)]) == 130
    assert "--resume" in capsys.readouterr().err
    assert checkpoint.epochs(tmp_path / "tiny" / "checkpoints") == [1, 2]


def test_full_disk_while_training_keeps_the_checkpoints(begun, monkeypatch):
    started = begun()
    path_open = Path.open

    def full(path, mode="r", *arguments, **keywords):
        if mode == "a" and path.name == "metrics.jsonl" and len(epochs_seen(path.parent)) == 4:
            raise OSError(28, "No space left on device")
        return path_open(path, mode, *arguments, **keywords)

    (started[2] / "metrics.jsonl").touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left.*--resume"):
            fit(started, monkeypatch)
    assert checkpoint.restore_latest(started[2] / "checkpoints").epoch == 4
    fit(started, monkeypatch)
    assert epochs_seen(started[2]) == list(range(1, EPOCHS + 1))


def test_all_checkpoints_damaged_is_exit_code_2(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path / "in", make_rows())
    command = [str(config), "--runs", str(tmp_path), "--quiet"]
    monkeypatch.setattr(engine, "compile_epoch", stand_in({4: KeyboardInterrupt()}))
    assert train_main(command) == 130
    for epoch in (2, 3):
        (tmp_path / "tiny" / "checkpoints" / str(epoch) / "SHA256SUMS").write_text("no sums\n")
    before = contents(tmp_path / "tiny")
    assert train_main([*command, "--resume"]) == 2
    assert "error: none of the checkpoints" in capsys.readouterr().err
    assert contents(tmp_path / "tiny") == before


@pytest.mark.parametrize(("from_windows", "first"), [(219, True), (220, False)])
def test_a_resumed_run_takes_the_code_generator_that_it_began_with(begun, monkeypatch, from_windows, first):
    """Of 219 train windows; and of the checkpoints from before there was a choice the older one."""
    config, data, directory = begun()
    taken = []

    def compile_epoch(program, *, emitters):
        taken.append(emitters)
        happens = {len(taken) + 2: KeyboardInterrupt()} if len(taken) < 3 else {}
        return stand_in(happens)(program, emitters=emitters)

    monkeypatch.setattr(engine, "compile_epoch", compile_epoch)
    for windows in (from_windows, 10**9 if first else 1):
        monkeypatch.setattr(engine, "EMITTERS_FROM", windows)
        with pytest.raises(KeyboardInterrupt):
            run.fit(config, data, directory, quiet=True)
    folder = directory / "checkpoints"
    saved = checkpoint.restore_latest(folder)
    assert saved.metadata.pop("emitters") is first
    checkpoint.save(folder, saved.epoch, saved.arrays, saved.metadata, best_epoch=None)
    run.fit(config, data, directory, quiet=True)
    assert taken == [first, first, False]


def ended(data, directory, config, **how):
    """Trains for real, until it has ended, without the evaluation."""
    begin_run(directory, config, data.panel, **how)
    return run.fit(config, data, directory, quiet=True)


@pytest.mark.slow
def test_raised_epochs_and_patience_end_in_the_bits_of_one_go(begun, tmp_path):
    # The rate is far too high, so that validation soon stops getting better.
    config, data, _ = begun(learning_rate=0.05, max_epochs=8, patience=8)

    def to(epochs, patience):
        train = {"max_epochs": epochs, "patience": patience}
        return config.model_copy(update={"train": config.train.model_copy(update=train)})

    whole = ended(data, tmp_path / "whole", to(8, 8))
    assert ended(data, tmp_path / "parts", to(5, 8)).epoch == 5
    assert ended(data, tmp_path / "parts", to(8, 8), resume=True) == whole
    impatient = ended(data, tmp_path / "patient", to(30, 2))
    assert impatient.status == "stopped early"
    patient = ended(data, tmp_path / "patient", to(30, 4), resume=True)
    assert patient.epoch >= impatient.epoch + 2
    assert ended(data, tmp_path / "at once", to(30, 4)) == patient
    for one, other in (("whole", "parts"), ("at once", "patient")):
        saved = [checkpoint.restore_latest(tmp_path / name / "checkpoints") for name in (one, other)]
        assert_same_arrays(saved[0].arrays, saved[1].arrays)
        assert saved[0].metadata["config"] == saved[1].metadata["config"]
        assert metric_lines(tmp_path / one) == metric_lines(tmp_path / other)
        assert len(metric_lines(tmp_path / one)) == saved[0].epoch


@pytest.mark.slow
def test_a_final_fit_has_all_rows_and_the_steps_of_the_chosen_epoch(trained, tmp_path, capsys):
    shutil.copytree(trained.directory, tmp_path / "tiny")
    chosen = runs.open_run(tmp_path / "tiny").best_epoch
    command = [str(trained.config), "--runs", str(tmp_path), "--final"]
    assert train_main(command) == 0
    # 320 rows: 219 train windows are 6 steps of 32, all 315 windows are 9.
    epochs = max(1, round(chosen * 6 / 9))
    out = capsys.readouterr().out
    assert "train    315 windows, target rows 2001-01-08 to 2002-03-22" in out
    assert f"final fit to 2002-03-22: {epochs} epoch" in out
    final = runs.open_run(tmp_path / "tiny-final")
    assert (final.best_epoch, final.config.train.stop_after) == (epochs, epochs)
    saved = checkpoint.restore_latest(tmp_path / "tiny-final" / "checkpoints")
    assert saved.arrays["state"]["step"] == 9 * epochs
    np.testing.assert_array_equal(saved.arrays["state"]["best_params"], saved.arrays["state"]["params"])
    returns = trained.rows["SP500_Returns"]
    np.testing.assert_allclose(final.data.series.center, returns.mean(), rtol=1e-6)
    np.testing.assert_allclose(final.data.series.scale, returns.std(ddof=0), rtol=1e-6)
    record = json.loads((tmp_path / "tiny-final" / "final.json").read_text())
    assert record["verdict"].startswith("no verdict: 48 dates") or "baselines" in record["verdict"]
    assert {name: record[name] for name in list(record)[:5]} == {
        "source": "../tiny",
        "chosen_epoch": chosen,
        "epochs": epochs,
        "trained_until": "2002-03-22",
        "chosen_until": str(trained.rows.index[271].date()),  # 85 % of 320 rows
    }
    lines = metric_lines(tmp_path / "tiny-final")
    assert len(lines) == epochs
    assert not [name for name in lines[0] if name.startswith("val/")]


@pytest.mark.slow
def test_a_killed_final_fit_ends_in_the_same_bits(trained, tmp_path, monkeypatch):
    source = runs.open_run(trained.directory)
    source = dataclasses.replace(source, best_epoch=6)  # 4 epochs
    whole = run.refit(source, tmp_path / "whole" / "x", quiet=True)
    assert whole.best_epoch == 4
    append = loop.append_line

    def interrupted(path, record):
        append(path, record)
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "append_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.refit(source, tmp_path / "parts" / "x", quiet=True)
    assert checkpoint.epochs(tmp_path / "parts" / "x" / "checkpoints") == [1, 2]
    with pytest.raises(UserError, match="exists"):
        run.refit(source, tmp_path / "parts" / "x", quiet=True)
    run.refit(source, tmp_path / "parts" / "x", quiet=True, resume=True)
    saved = [checkpoint.restore_latest(tmp_path / part / "x" / "checkpoints") for part in ("whole", "parts")]
    assert_same_arrays(saved[0].arrays, saved[1].arrays)
    assert metric_lines(tmp_path / "whole" / "x") == metric_lines(tmp_path / "parts" / "x")


@pytest.mark.slow
def test_a_final_fit_is_not_judged(trained, tmp_path, capsys):
    source = runs.open_run(trained.directory)
    final = tmp_path / "final"
    run.refit(dataclasses.replace(source, best_epoch=1), final, quiet=True)
    for command in (
        lambda: evaluate_main([str(final)]),
        lambda: interpret_main([str(final)]),
        lambda: report_main([str(final)]),
        lambda: compare_main([str(final), str(trained.directory)]),
    ):
        assert command() == 2
        error = capsys.readouterr().err
        assert "final: a final fit is trained on all rows" in error
        assert f"Take the run that chose its epochs: {trained.directory}" in error
    assert not (final / "evaluation").exists()
    with pytest.raises(UserError, match="a final fit is trained on all rows"):
        run.refit(runs.open_run(final), tmp_path / "again", quiet=True)
    before = contents(trained.directory)
    with pytest.raises(UserError, match="Give a final fit a directory of its own"):
        run.refit(source, trained.directory, quiet=True, overwrite=True)
    assert contents(trained.directory) == before
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="Give a final fit a directory of its own"):
        run.refit(source, tmp_path / "members" / "x", quiet=True)


@pytest.mark.slow
def test_a_final_fit_needs_its_run(trained, tmp_path, capsys):
    command = [str(trained.config), "--runs", str(tmp_path), "--final"]
    assert train_main(command) == 2
    assert "not a run" in capsys.readouterr().err
    folder = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    assert train_main([*command, "--set", "loss.std_weight=0.3", "--set", "train.patience=3"]) == 2
    error = capsys.readouterr().err
    assert "loss.std_weight: the run has 0.1, now 0.3" in error
    assert "patience" not in error
    assert "mean_weight" not in error
    # What only the file says now is said, and the run's settings stand; so do those that --set gave the run.
    write = Path(tmp_path / "tiny.json").write_text
    write(trained.config.read_text().replace('"mean_weight": 0.1', '"mean_weight": 0.2'))
    (folder / "evaluation" / "metrics.json").unlink()
    assert train_main([str(tmp_path / "tiny.json"), *command[1:], "--set", "loss.std_weight=0.1"]) == 2
    error = capsys.readouterr().err
    assert "the run's are taken:\n  loss.mean_weight: the run has 0.1, now 0.2\n" in error
    assert "metrics.json: missing" in error
    assert train_main([str(trained.config), "--runs", str(tmp_path), "--set", "data.final_fit=true"]) == 2
    assert "data.final_fit: leaves no rows" in capsys.readouterr().err
    assert not (tmp_path / "tiny-final").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observed": ("SP500_Returns", "VIX")}, "observed columns lack Realized_Vol_21d, .* and have VIX"),
        ({"known_categorical": ("month", "day_of_week")}, "known_categorical columns are in another order"),
        ({"about": {"target_transform": "log_return"}}, "target_transform 'log_return'.* with 'none'"),
    ],
)
def test_a_final_fit_takes_the_columns_of_its_run_alone(begun, tmp_path, changes, words):
    config, data, directory = begun()
    panel = dataclasses.replace(data.whole, **changes)
    with pytest.raises(UserError, match=f"panel.csv: .*{words}"):
        run.refit(runs.Run(directory, config, data, {}, 1), tmp_path / "x", panel=panel, quiet=True)
    assert not (tmp_path / "x").exists()


def test_the_schedule_of_a_final_fit_is_scaled_like_its_epochs(begun):
    config, data, directory = begun(schedule="warmup_cosine", warmup_epochs=3, max_epochs=30)
    source = runs.Run(directory, config, data, {}, 12)
    made, whole = run._on_all_rows(source, "x", data.whole)
    # 6 steps an epoch become 9: 12, 30 and 3 epochs become 8, 20 and 2.
    assert len(whole.starts["train"]) == 315
    train = made.train
    assert (train.stop_after, train.max_epochs, train.warmup_epochs) == (8, 20, 2)
    made, _ = run._on_all_rows(dataclasses.replace(source, best_epoch=1), "x", data.whole)
    assert made.train.stop_after == 1


def test_stop_rules_by_hand():
    config = TrainConfig(max_epochs=9, patience=3)
    empty = np.zeros(1, np.float32)

    def ending(epoch, best):
        zero, key = np.int32(0), np.zeros(2, np.uint32)
        loss = np.float32(1)
        state = TrainState(empty, (), zero, np.int32(epoch), key, empty, loss, np.int32(best))
        return loop.ending(state, config)

    assert [ending(0, 0), ending(4, 2), ending(8, 8)] == [None] * 3
    assert ending(5, 2) == "stopped early"
    assert ending(9, 9) == ending(9, 6) == "finished"
    config = TrainConfig(max_epochs=9, stop_after=5, patience=3)
    assert [ending(4, 4), ending(5, 5)] == [None, "finished"]


# ---- Bad input -------------------------------------------------------------------------------------------


def with_cell(line, column, text):
    """A panel CSV with one cell replaced; line 1 is the header."""

    def edit():
        lines = [text.split(",") for text in make_rows().to_csv().splitlines()]
        lines[line - 1][lines[0].index(column)] = text
        return "\n".join(map(",".join, lines)) + "\n"

    return edit


def percent_rows():
    rows = make_rows()
    rows["SP500_Returns"] *= 100
    return rows


BAD_DATA = {
    "missing column": (
        lambda: make_rows().rename(columns={"AAA_Yield": "AAA_Yeild"}),
        ["panel.csv", "'AAA_Yield'", "Did you mean 'AAA_Yeild'"],
    ),
    "empty file": (lambda: "", ["panel.csv", "empty"]),
    "header only": (lambda: make_rows(0), ["panel.csv", "no rows"]),
    "descending dates": (lambda: make_rows().iloc[::-1], ["line 3", "'date'", "ascending"]),
    "duplicate date": (with_cell(9, "date", "2001-01-09"), ["line 9", "a second time"]),
    "date that does not parse": (with_cell(9, "date", "10/01/2001"), ["line 9", "10/01/2001", "YYYY-MM-DD"]),
    "text in a number column": (with_cell(9, "AAA_Yield", "n/a?"), ["line 9", "'AAA_Yield'", "'n/a?'"]),
    "infinity": (with_cell(9, "Credit_Spread", "inf"), ["line 9", "'Credit_Spread'", "finite"]),
    "a number beyond all sense": (
        with_cell(300, "Credit_Spread", "-1e300"),
        ["line 300", "'-1e300'", "1e+15"],
    ),
    "NaN in the target": (with_cell(90, "SP500_Returns", ""), ["line 90", "'SP500_Returns'", "NaN"]),
    "NaN after the first release": (with_cell(90, "AAA_Yield", "NaN"), ["line 90", "'AAA_Yield'", "NaN"]),
    "fewer rows than a window": (lambda: make_rows(5), ["rows", "window"]),
    "a split without a window": (lambda: make_rows(9), ["data.split", "train.batch_size"]),
    "fewer windows than a batch": (lambda: make_rows(40), ["train.batch_size", "32", "23 train windows"]),
    "returns in percent": (percent_rows, ["percent", "data.return_unit", "loss.target_std"]),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_exit_code_2(case, tmp_path, capsys):
    rows, words = BAD_DATA[case]
    config = write_config(tmp_path / "in", rows())
    assert train_main([str(config), "--runs", str(tmp_path / "runs")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.out == ""
    if case == "a split without a window":  # either message tells
        assert any(word in captured.err for word in words)
    else:
        assert [word for word in words if word not in captured.err] == [], captured.err
    assert not (tmp_path / "runs").exists()


BAD_SETTINGS = {
    "no such data": ("data.dataset", '"/nowhere/panel.csv"', ["/nowhere/panel.csv", "neither"]),
    "unknown feature set": ("data.feature_set", '"core"', ["'core'", "core_embedded"]),
    "split without windows": ("data.split", "[0.98, 0.01, 0.01]", ["prediction_length"]),
    "no row in range": ("data.start", '"2031-01-01"', ["data.start", "2031-01-01"]),
    "out of range": ("train.learning_rate", "-1", ["train.learning_rate", "-1", "above 0"]),
    "wrong type": ("train.max_epochs", '"many"', ["train.max_epochs", '"many"', "integer"]),
    "heads": ("model.num_heads", "3", ["model.num_heads", "divisor", "model.hidden_size"]),
    "descending": ("model.quantiles", "[0.5, 0.1]", ["model.quantiles", "ascending"]),
    "no median": ("model.quantiles", "[0.1, 0.9]", ["model.quantiles", "0.5"]),
    "unknown key": ("train.max_epoch", "5", ["train.max_epoch", "'train.max_epochs'"]),
    "wild target": ("loss.target_std", "0.9", ["loss.target_std", "factor 5"]),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_exit_code_2(case, tmp_path, capsys):
    key, value, words = BAD_SETTINGS[case]
    config = write_config(tmp_path / "in", make_rows())
    setting = "model.prediction_length=10" if case == "split without windows" else "notes=x"
    command = [str(config), "--runs", str(tmp_path / "runs"), "--set", setting, "--set", f"{key}={value}"]
    assert train_main(command) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert [word for word in words if word not in captured.err] == [], captured.err
    assert not (tmp_path / "runs").exists()


def test_a_missing_or_damaged_config_is_exit_code_2(tmp_path, capsys):
    damaged = tmp_path / "damaged.json"
    damaged.write_text('{"train": {')
    for path in (tmp_path / "missing.json", damaged, tmp_path):
        assert train_main([str(path), "--runs", str(tmp_path / "runs")]) == 2
        assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_runs_below_a_file_is_exit_code_2(tmp_path, capsys):
    config = write_config(tmp_path / "in", make_rows())
    (tmp_path / "file").write_text("mine")
    for way in ([], ["--resume"], ["--overwrite"]):
        assert train_main([str(config), "--runs", str(tmp_path / "file"), *way]) == 2
        assert "error: " in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_an_existing_run_needs_a_flag(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path / "in", make_rows())
    command = [str(config), "--runs", str(tmp_path), "--quiet"]
    monkeypatch.setattr(engine, "compile_epoch", stand_in({4: KeyboardInterrupt()}))
    assert train_main(command) == 130
    before = contents(tmp_path / "tiny")
    assert train_main(command) == 2
    assert "--resume" in capsys.readouterr().err
    changes = ["--set", "train.seed=7", "--set", "train.patience=3"]
    assert train_main([*command, "--resume", *changes]) == 2
    error = capsys.readouterr().err
    assert "train.seed: the run has 42, now 7" in error
    assert "train.patience: the run has 10, now 3 (it can be raised, not lowered" in error
    assert contents(tmp_path / "tiny") == before
    # A bad input does not cost the run that --overwrite would have replaced.
    assert train_main([*command, "--overwrite", "--set", "loss.target_std=0.9"]) == 2
    assert contents(tmp_path / "tiny") == before
    (tmp_path / "tiny" / "notes.txt").write_text("mine")
    assert train_main([*command, "--overwrite"]) == 2
    assert "notes.txt" in capsys.readouterr().err
    (tmp_path / "tiny" / "notes.txt").unlink()
    assert contents(tmp_path / "tiny") == before
    assert train_main([*command, "--overwrite", *changes]) == 130
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["train"]["seed"] == 7


def test_overwrite_leaves_alone_what_is_being_trained(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path / "in", make_rows())
    command = [str(config), "--runs", str(tmp_path), "--quiet"]
    monkeypatch.setattr(engine, "compile_epoch", stand_in({4: KeyboardInterrupt()}))
    assert train_main(command) == 130
    before = contents(tmp_path / "tiny")
    with lock(RunDirectory(tmp_path / "tiny")):
        assert train_main([*command, "--overwrite"]) == 2
    assert "another process is training there" in capsys.readouterr().err
    assert contents(tmp_path / "tiny") == before


def test_leading_rows_without_values_are_dropped_and_said(tmp_path, monkeypatch, capsys):
    rows = make_rows()
    rows.iloc[:4, 3] = np.nan
    config = write_config(tmp_path / "in", rows)
    monkeypatch.setattr(engine, "compile_epoch", stand_in({2: KeyboardInterrupt()}))
    assert train_main([str(config), "--runs", str(tmp_path)]) == 130
    assert "leading rows dropped: 4, no value of AAA_Yield before 2001-01-05" in capsys.readouterr().out
