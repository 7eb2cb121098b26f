"""Runs: gone on with, and opened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import begin_run, contents, make_rows, write_config

from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.panel import ROLES, make_panel, read_panel
from tftjax.errors import UserError
from tftjax.storage import checkpoint, runs
from tftjax.train.run import train


def test_config_and_panel_come_back_as_they_were(begun):
    config, panel, directory = begun
    assert runs.read_config(directory) == config
    stored = read_panel(directory)
    assert stored.fingerprint == panel.fingerprint
    assert stored.frame.equals(panel.frame)
    for name in (*ROLES, "target", "messages"):
        assert getattr(stored, name) == getattr(panel, name)


def test_resume_with_a_changed_config_lists_the_keys(begun):
    config, panel, directory = begun
    changed = config.model_copy(
        update={
            "train": config.train.model_copy(update={"seed": 43}),
            "loss": config.loss.model_copy(update={"std_weight": 0.2}),
        }
    )
    with pytest.raises(UserError) as error:
        begin_run(directory, changed, panel, resume=True)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert "loss.std_weight: the run has 0.1, now 0.2" in lines
    assert "train.seed: the run has 42, now 43" in lines
    assert len(lines) == 4  # the heading, the two keys, the advice


def test_resume_with_other_evaluation_settings_takes_them(begun):
    config, panel, directory = begun
    (directory / "evaluation").mkdir()
    for name in ("metrics.json", "predictions.csv"):
        (directory / "evaluation" / name).write_text("{}")
    before = contents(directory)
    assert begin_run(directory, config, panel, resume=True)
    assert contents(directory) == before
    judged = config.evaluation.model_copy(update={"quality_window": 20})
    changed = config.model_copy(update={"evaluation": judged, "notes": "not taken"})
    assert begin_run(directory, changed, panel, resume=True)
    assert runs.read_config(directory) == config.model_copy(update={"evaluation": judged})
    assert contents(directory / "evaluation") == {"predictions.csv": b"{}"}


def test_resume_takes_a_frequency_that_is_found(begun):
    """Before null was its default, data.frequency was "daily"."""
    config, panel, directory = begun
    daily = config.model_copy(update={"data": config.data.model_copy(update={"frequency": "daily"})})
    assert config.data.frequency is None
    assert begin_run(directory, daily, panel, resume=True)
    other = config.model_copy(update={"data": config.data.model_copy(update={"calendar": "24/7"})})
    with pytest.raises(UserError, match=r"data.calendar: the run has None, now '24/7'"):
        begin_run(directory, other, panel, resume=True)


def with_train(config, **section):
    return config.model_copy(update={"train": config.train.model_copy(update=section)})


def test_resume_takes_more_epochs_and_patience(begun):
    config, panel, directory = begun
    for folder, name in (("evaluation", "metrics.json"), ("interpretation", "importance.csv")):
        (directory / folder).mkdir()
        (directory / folder / name).write_text("{}")
    more = with_train(config, max_epochs=9, patience=11)  # 8 and 10 before
    assert begin_run(directory, more, panel, resume=True)
    assert runs.read_config(directory) == more
    assert not (directory / "evaluation" / "metrics.json").exists()
    assert not (directory / "interpretation" / "importance.csv").exists()
    for lower in ({"max_epochs": 8}, {"patience": 10}):
        before = contents(directory)
        with pytest.raises(UserError, match=r"it can be raised, not lowered"):
            begin_run(directory, with_train(more, **lower), panel, resume=True)
        assert contents(directory) == before


def test_resume_with_a_schedule_over_the_epochs_keeps_them(begun):
    config, panel, directory = begun
    falling = with_train(config, schedule="warmup_cosine", warmup_epochs=1)
    begin_run(directory, falling, panel, overwrite=True)
    with pytest.raises(UserError, match=r"max_epochs: the run has 8, now 9 \(train.schedule 'warmup_cosine'"):
        begin_run(directory, with_train(falling, max_epochs=9), panel, resume=True)
    assert begin_run(directory, with_train(falling, patience=11), panel, resume=True)


def test_a_member_of_a_sweep_keeps_its_epochs(begun):
    config, panel, directory = begun
    member = directory.parent / "sweep" / "members" / "tiny"
    begin_run(member, config, panel)
    (member.parents[1] / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match=r"now 9 \(a member of a sweep"):
        begin_run(member, with_train(config, max_epochs=9), panel, resume=True)


def test_resume_with_changed_data_is_refused(begun, tmp_path):
    config, panel, directory = begun
    rows = make_rows()
    rows.iloc[100, 2] += 1e-6
    write_config(tmp_path / "in", rows)  # the same path
    with pytest.raises(UserError, match=r"changed data.*320 rows"):
        begin_run(directory, config, load_panel(config.data), resume=True)
    assert begin_run(directory, config, panel, resume=True)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[" * 100_000),
        ("panel.json", b"[" * 100_000),
        ("config.json", b'{"train": {"max_epochs": "many"}}'),
        ("panel.csv", b""),
        ("panel.csv", b"date\n2001-01-01\n"),
        ("panel.csv", b"\xff\xfe\x00"),
        ("panel.csv", None),
        ("panel.json", b"[]"),
        ("panel.json", b"{}"),
        ("panel.json", b'{"target": 1'),
        ("panel.json", None),
    ],
)
def test_damaged_files_are_named(begun, file, damage):
    _, _, directory = begun
    if damage is None:
        (directory / file).unlink()
    else:
        (directory / file).write_bytes(damage)
    read = runs.read_config if file == "config.json" else read_panel
    with pytest.raises(UserError, match=r"again|mistake") as error:
        read(directory)
    assert str(directory) in str(error.value)


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ({"frequency": "hourly"}, 'about.frequency: found "hourly"'),
        ({"calendar": ["weekdays"]}, "about.calendar: found"),
        ({"calendar": "0000000"}, "about.calendar: found"),
        ({"dated": "noon"}, 'about.dated: found "noon"'),
        ({"events": {"fomc": "2001-01-03"}}, "about.events.fomc: found"),
        ({"made": {"lag_5": 1}}, "about.made: found"),
        ({"target_transform": "square"}, "about.target_transform: found"),
        ({"levels": {"": [1]}}, "about.levels.: found"),
    ],
)
def test_a_panel_s_making_is_checked(begun, about, found):
    path = begun[2] / "panel.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"about": content["about"] | about}))
    with pytest.raises(UserError, match=rf"panel\.json: damaged, key {found}.*make it again"):
        read_panel(begun[2])


def test_a_damaged_record_of_a_final_fit(begun):
    directory, kept = begun[2], dict.fromkeys(runs.Final._fields, "a") | {"chosen_epoch": 3, "epochs": 4}
    for change, found in (({"source": ["a"]}, "source: found "), ({"epochs": "4"}, 'epochs: found "4"')):
        (directory / "final.json").write_text(json.dumps(kept | change))
        with pytest.raises(UserError, match=rf"final\.json: damaged, key {found}"):
            runs.read_final(directory)
    (directory / "final.json").write_text(json.dumps(kept))
    assert runs.read_final(directory).epochs == 4


def test_a_changed_value_in_the_panel_is_found(begun):
    _, _, directory = begun
    lines = (directory / "panel.csv").read_text().splitlines(keepends=True)
    cells = lines[50].split(",")
    cells[2] = "15.5"
    lines[50] = ",".join(cells)
    (directory / "panel.csv").write_text("".join(lines))
    with pytest.raises(UserError, match="not as it was written"):
        read_panel(directory)


def test_opening_what_is_no_run_or_has_no_checkpoint(begun, tmp_path):
    _, _, directory = begun
    with pytest.raises(UserError, match="nothing: not a run: no such folder"):
        runs.open_run(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no checkpoint yet.*--resume"):
        runs.open_run(directory)


@pytest.mark.slow
def test_opening_a_run_gives_the_best_parameters(trained):
    run = runs.open_run(trained.directory)
    lines = [json.loads(line) for line in (trained.directory / "metrics.jsonl").read_text().splitlines()]
    assert run.best_epoch == min(lines, key=lambda line: line["val/loss"])["epoch"]
    assert run.config == runs.read_config(trained.directory)
    train = trained.rows["SP500_Returns"].iloc[: len(run.data.blocks[0].splits.train)]
    series = run.data.series
    np.testing.assert_allclose(
        [series.center[0], series.scale[0]], [train.mean(), train.std(ddof=0)], rtol=1e-6
    )


@pytest.mark.slow
def test_a_run_without_a_whole_checkpoint_cannot_be_opened(trained, tmp_path, caplog):
    directory = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    for epoch in checkpoint.epochs(directory / "checkpoints"):
        (directory / "checkpoints" / str(epoch) / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match="none of the checkpoints"):
        runs.open_run(directory)
    assert len(caplog.messages) >= 2
    assert "is damaged" in caplog.messages[0]


@pytest.mark.slow
def test_a_run_with_an_edited_config_cannot_be_opened(trained, tmp_path):
    directory = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    content = json.loads((directory / "config.json").read_text())
    content["model"]["hidden_size"] = 6
    (directory / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model\.hidden_size"):
        runs.open_run(directory)


@pytest.mark.slow
def test_checkpoints_of_another_run_are_not_taken_for_its_own(trained, tmp_path):
    panel, config = read_panel(trained.directory), load(trained.config)
    other = config.model_copy(update={"train": config.train.model_copy(update={"seed": 7})})
    changed = panel.frame.copy()
    changed.iloc[3, 0] += 1e-4
    elsewhere = make_panel(
        changed, target=panel.target, about=panel.about, **{role: getattr(panel, role) for role in ROLES}
    )
    for name, settings, data, found in (
        ("seed", other, panel, r"is another run's \(train\.seed\)"),
        ("data", config, elsewhere, "was trained on other data"),
    ):
        directory = tmp_path / name
        with runs.claim(directory, settings, data):
            shutil.copytree(trained.directory / "checkpoints", directory / "checkpoints")
        with pytest.raises(UserError, match=found):
            runs.open_run(directory)
        with pytest.raises(UserError, match=found):
            train(settings, directory, panel=data, resume=True, quiet=True)
