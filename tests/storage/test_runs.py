"""A run's directory: made, replaced, resumed and opened; nothing that a user made is ever lost."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import contents, make_rows, write_config

from tftjax import files
from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.panel import ROLES, read_panel
from tftjax.errors import UserError
from tftjax.storage import checkpoint, runs


@pytest.fixture
def begun(tmp_path):
    """Config and panel of a run, its directory made, nothing trained."""
    config = load(write_config(tmp_path / "in", make_rows()))
    panel = load_panel(config.data)
    directory = tmp_path / "runs" / "tiny"
    runs.create(directory, config, panel, overwrite=False)
    return config, panel, directory


def test_config_and_panel_come_back_as_they_were(begun):
    config, panel, directory = begun
    assert runs.read_config(directory) == config
    stored = read_panel(directory)
    assert stored.fingerprint == panel.fingerprint
    assert stored.frame.equals(panel.frame)
    for name in (*ROLES, "target", "messages"):
        assert getattr(stored, name) == getattr(panel, name)


def test_an_existing_run_is_neither_replaced_nor_touched(begun):
    config, panel, directory = begun
    before = contents(directory)
    with pytest.raises(UserError, match=r"exists.*--resume.*--overwrite.*--name"):
        runs.create(directory, config, panel, overwrite=False)
    assert contents(directory) == before


def test_an_empty_directory_may_be_used(begun, tmp_path):
    config, panel, _ = begun
    (tmp_path / "empty").mkdir()
    runs.create(tmp_path / "empty", config, panel, overwrite=False)
    assert runs.read_config(tmp_path / "empty") == config


def test_overwrite_replaces_a_run_and_all_of_it(begun):
    config, panel, directory = begun
    (directory / "checkpoints" / "3" / "arrays").mkdir(parents=True)
    (directory / "metrics.jsonl").write_text("{}\n")
    (directory / "metrics.jsonl.new").write_text("half")  # a kill while the lines were cut
    other = config.model_copy(update={"notes": "another"})
    runs.create(directory, other, panel, overwrite=True)
    assert set(contents(directory)) == {"config.json", "panel.csv", "panel.json"}
    assert not (directory / "checkpoints").exists()
    assert runs.read_config(directory) == other


@pytest.mark.parametrize(
    "names",
    [
        ["thesis.txt"],
        ["config.json", "thesis.txt"],
        ["config.json", "panel.csv", "panel.json", "my_notes.new"],
        ["checkpoints/3/data"],  # perhaps all that is left of a run: never removed
        ["panel.csv", "metrics.jsonl"],
    ],
)
@pytest.mark.parametrize("way", ["overwrite", "resume"])
def test_a_foreign_directory_is_refused_and_left_alone(begun, tmp_path, names, way):
    config, panel, _ = begun
    directory = tmp_path / "foreign"
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("{}")
    before = contents(directory)
    refused = {
        "overwrite": lambda: runs.create(directory, config, panel, overwrite=True),
        "resume": lambda: runs.check_resumable(directory, config, panel),
    }
    with pytest.raises(UserError, match=str(directory)):
        refused[way]()
    assert contents(directory) == before


def test_overwrite_follows_no_link_and_removes_no_file(begun, tmp_path):
    config, panel, directory = begun
    before = contents(directory)
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(directory)
    file.write_text("mine")
    for path in (link, file):
        with pytest.raises(UserError, match="run directories only"):
            runs.create(path, config, panel, overwrite=True)
    assert contents(directory) == before
    assert file.read_text() == "mine"


def test_overwrite_removes_a_link_inside_not_what_it_points_to(begun, tmp_path):
    config, panel, directory = begun
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("mine")
    (directory / "evaluation").symlink_to(tmp_path / "elsewhere")
    runs.create(directory, config, panel, overwrite=True)
    assert not (directory / "evaluation").exists()
    assert (tmp_path / "elsewhere" / "precious").read_text() == "mine"


@pytest.mark.parametrize("stop", range(1, 5))
def test_a_kill_while_the_directory_is_made_is_begun_again(begun, tmp_path, stop, monkeypatch):
    """The process ends at any step: a bare exception stands for it, as no handler runs then either."""
    config, panel, _ = begun
    directory = tmp_path / "new"
    calls = []

    class Killed(BaseException):
        pass

    replace = os.replace

    def step(*arguments):
        calls.append(arguments)
        if len(calls) == stop:
            raise Killed
        replace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", step)
        if stop <= 3:  # config.json, panel.csv, panel.json
            with pytest.raises(Killed):
                runs.create(directory, config, panel, overwrite=False)
            assert list(directory.iterdir())
        else:
            directory.mkdir()
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    if not runs.check_resumable(directory, config, panel):
        runs.create(directory, config, panel, overwrite=False)
    runs.create(copy, config, panel, overwrite=True)
    for path in (directory, copy):
        assert set(contents(path)) == {"config.json", "panel.csv", "panel.json"}
        assert runs.check_resumable(path, config, panel)


def test_a_table_of_the_users_own_is_no_half_made_run(begun, tmp_path):
    config, panel, _ = begun
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "panel.csv").write_text("mine")
    for start in (
        lambda: runs.check_resumable(directory, config, panel),
        lambda: runs.create(directory, config, panel, overwrite=True),
    ):
        with pytest.raises(UserError, match=r"config\.json"):
            start()
        assert (directory / "panel.csv").read_text() == "mine"


def test_a_config_of_another_tool_does_not_make_a_run(begun, tmp_path):
    config, panel, _ = begun
    directory = tmp_path / "bert"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "checkpoints" / "weights.bin").write_bytes(b"w")
    (directory / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="run directories only"):
        runs.create(directory, config, panel, overwrite=True)
    assert (directory / "checkpoints" / "weights.bin").read_bytes() == b"w"


def test_one_process_at_a_time(begun):
    _, _, directory = begun
    with runs.lock(directory), pytest.raises(UserError, match="another process"), runs.lock(directory):
        pass
    with runs.lock(directory):
        pass


def test_a_kill_while_a_run_is_removed_can_be_repeated(begun, monkeypatch):
    config, panel, directory = begun
    unlink = Path.unlink

    def fail_at_config(path, missing_ok=False):
        if path.name == "config.json":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail_at_config)
        with pytest.raises(KeyboardInterrupt):
            runs.create(directory, config, panel, overwrite=True)
    assert set(contents(directory)) == {"config.json"}
    runs.create(directory, config, panel, overwrite=True)
    assert runs.check_resumable(directory, config, panel)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_full_disk_while_the_directory_is_made_leaves_nothing(begun, tmp_path, fails_at, monkeypatch):
    config, panel, _ = begun
    calls, replace = [], os.replace

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        replace(*arguments)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        runs.create(tmp_path / "new", config, panel, overwrite=False)
    assert not (tmp_path / "new").exists()


def test_a_place_below_a_file_is_an_error(begun, tmp_path):
    config, panel, _ = begun
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be made"):
        runs.create(tmp_path / "file" / "run", config, panel, overwrite=False)
    with pytest.raises(UserError, match="cannot be written"):
        files.replace_text(tmp_path / "file" / "text", "text")
    assert (tmp_path / "file").read_text() == "mine"


def test_replacing_text_keeps_the_old_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "text"
    files.replace_text(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        files.replace_text(path, "new")
    assert contents(tmp_path) == {"text": b"old"}


def test_resume_where_nothing_is_begins(begun, tmp_path):
    config, panel, _ = begun
    assert not runs.check_resumable(tmp_path / "nothing", config, panel)
    assert not (tmp_path / "nothing").exists()


def test_resume_with_a_changed_config_lists_the_keys(begun):
    config, panel, directory = begun
    changed = config.model_copy(
        update={
            "train": config.train.model_copy(update={"seed": 43}),
            "loss": config.loss.model_copy(update={"std_weight": 0.2}),
        }
    )
    with pytest.raises(UserError) as error:
        runs.check_resumable(directory, changed, panel)
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
    assert runs.check_resumable(directory, config, panel)
    assert contents(directory) == before
    judged = config.evaluation.model_copy(update={"quality_window": 20})
    changed = config.model_copy(update={"evaluation": judged, "notes": "not taken"})
    assert runs.check_resumable(directory, changed, panel)
    assert runs.read_config(directory) == config.model_copy(update={"evaluation": judged})
    assert contents(directory / "evaluation") == {"predictions.csv": b"{}"}


def test_a_run_of_before_there_were_evaluation_settings(begun):
    config, panel, directory = begun
    path = directory / "config.json"
    old = json.loads(path.read_text())
    del old["evaluation"]
    path.write_text(json.dumps(old))
    assert runs.read_config(directory) == config
    assert runs.check_resumable(directory, config, panel)


def test_resume_with_changed_data_is_refused(begun, tmp_path):
    config, panel, directory = begun
    rows = make_rows()
    rows.iloc[100, 2] += 1e-6
    write_config(tmp_path / "in", rows)  # the same path
    with pytest.raises(UserError, match=r"changed data.*320 rows"):
        runs.check_resumable(directory, config, load_panel(config.data))
    assert runs.check_resumable(directory, config, panel)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b"\xff\xfe"),
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
    with pytest.raises(UserError, match=r"no config\.json"):
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
def test_a_run_without_a_whole_checkpoint_cannot_be_opened(trained, tmp_path):
    directory = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    for epoch in checkpoint.epochs(directory / "checkpoints"):
        (directory / "checkpoints" / str(epoch) / "SHA256SUMS").write_text("")
    said = []
    with pytest.raises(UserError, match="none of the checkpoints"):
        runs.open_run(directory, said.append)
    assert len(said) >= 2
    assert "is damaged" in said[0]


@pytest.mark.slow
def test_a_run_with_an_edited_config_cannot_be_opened(trained, tmp_path):
    directory = Path(shutil.copytree(trained.directory, tmp_path / "tiny"))
    content = json.loads((directory / "config.json").read_text())
    content["model"]["hidden_size"] = 6
    (directory / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model\.hidden_size"):
        runs.open_run(directory)
