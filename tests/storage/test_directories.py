"""Directories made, replaced, gone on with and locked; nothing that a user made is ever lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import begin_run, contents

from tftjax import files
from tftjax.errors import UserError
from tftjax.storage import directories, runs
from tftjax.storage.directories import RunDirectory, SweepDirectory, lock

MADE_FIRST = {"config.json", "panel.csv", "panel.json", "lock"}
# Holds the lock of a run until it is killed; says when it has it.
HOLDER = """
import pathlib, sys, time
from tftjax.storage.directories import RunDirectory, lock
with lock(RunDirectory(pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


def test_places(tmp_path):
    run, sweep = RunDirectory(tmp_path / "run"), SweepDirectory(tmp_path)
    assert run.evaluation.metrics == tmp_path / "run" / "evaluation" / "metrics.json"
    assert run.interpretation.table("importance") == tmp_path / "run" / "interpretation" / "importance.csv"
    assert sweep.member("a-s1").metrics == tmp_path / "members" / "a-s1" / "metrics.jsonl"
    assert sweep.ensemble("a").evaluation.path == tmp_path / "ensembles" / "a" / "evaluation"
    assert sweep.program_checkpoints(2, "1-of-3") == tmp_path / "checkpoints" / "2-1-of-3"
    for name in ("ended-1-of-3.json", "ended.json", "ended-x.json"):
        (tmp_path / name).write_text("{}")
    assert sweep.all_ended() == [sweep.ended("1-of-3"), sweep.ended()]
    names = ("sweep.json", "ended-3-of-3.json", "ended-x.json", "ended-1.json")
    assert [sweep.owns(name) for name in names] == [True, True, False, False]


def test_an_existing_run_is_neither_replaced_nor_touched(begun):
    config, panel, directory = begun
    before = contents(directory)
    with pytest.raises(UserError, match=r"exists.*--resume.*--overwrite.*--name"):
        begin_run(directory, config, panel)
    assert contents(directory) == before


def test_an_empty_directory_may_be_used(begun, tmp_path):
    config, panel, _ = begun
    (tmp_path / "empty").mkdir()
    begin_run(tmp_path / "empty", config, panel)
    assert runs.read_config(tmp_path / "empty") == config


def test_overwrite_replaces_a_run_and_all_of_it(begun):
    config, panel, directory = begun
    (directory / "checkpoints" / "3" / "arrays").mkdir(parents=True)
    (directory / "metrics.jsonl").write_text("{}\n")
    (directory / "metrics.jsonl.new").write_text("half")  # a kill while the lines were cut
    other = config.model_copy(update={"notes": "another"})
    begin_run(directory, other, panel, overwrite=True)
    assert set(contents(directory)) == MADE_FIRST
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
        "overwrite": lambda: begin_run(directory, config, panel, overwrite=True),
        "resume": lambda: begin_run(directory, config, panel, resume=True),
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
            begin_run(path, config, panel, overwrite=True)
    assert contents(directory) == before
    assert file.read_text() == "mine"


def test_overwrite_removes_a_link_inside_not_what_it_points_to(begun, tmp_path):
    config, panel, directory = begun
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("mine")
    (directory / "evaluation").symlink_to(tmp_path / "elsewhere")
    begin_run(directory, config, panel, overwrite=True)
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
                begin_run(directory, config, panel)
            assert list(directory.iterdir())
        else:
            directory.mkdir()
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    begin_run(directory, config, panel, resume=True)
    begin_run(copy, config, panel, overwrite=True)
    for path in (directory, copy):
        assert set(contents(path)) == MADE_FIRST
        assert begin_run(path, config, panel, resume=True)


def test_a_table_of_the_users_own_is_no_half_made_run(begun, tmp_path):
    config, panel, _ = begun
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "panel.csv").write_text("mine")
    for start in (
        lambda: begin_run(directory, config, panel, resume=True),
        lambda: begin_run(directory, config, panel, overwrite=True),
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
        begin_run(directory, config, panel, overwrite=True)
    assert (directory / "checkpoints" / "weights.bin").read_bytes() == b"w"


def test_one_process_at_a_time(begun):
    run = RunDirectory(begun[-1])
    with lock(run), pytest.raises(UserError, match="another process is training there"), lock(run):
        pass
    with lock(run):
        pass


def test_of_two_that_begin_at_once_the_later_one_replaces_nothing(begun, tmp_path, monkeypatch):
    config, panel, _ = begun
    directory = tmp_path / "new"

    @contextlib.contextmanager
    def lock_after_another(run):
        monkeypatch.undo()
        begin_run(directory, config, panel)  # between the look and the lock
        with lock(run):
            yield

    monkeypatch.setattr(directories, "lock", lock_after_another)
    with pytest.raises(UserError, match="another process has just trained there"):
        begin_run(directory, config, panel)
    assert set(contents(directory)) == MADE_FIRST


def test_a_lock_that_is_a_link_is_refused(begun, tmp_path):
    run, elsewhere = RunDirectory(begun[-1]), tmp_path / "elsewhere"
    elsewhere.write_text("of the user")
    run.lock_file.unlink(missing_ok=True)
    run.lock_file.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link, expected a file"), lock(run):
        pass
    assert elsewhere.read_text() == "of the user"


def test_a_lock_ends_with_its_process_and_keeps_overwrite_off(begun):
    config, panel, directory = begun
    (directory / "checkpoints" / "3").mkdir(parents=True)
    (directory / "checkpoints" / "3" / "data").write_text("work")
    before = contents(directory)
    command = [sys.executable, "-c", HOLDER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        for way in ("overwrite", "resume"):
            with pytest.raises(UserError, match="another process is training there"):
                begin_run(directory, config, panel, **{way: True})
        assert contents(directory) == before
        holder.send_signal(signal.SIGKILL)
    assert not begin_run(directory, config, panel, overwrite=True)
    assert set(contents(directory)) == MADE_FIRST


def test_overwrite_keeps_its_lock_while_it_makes_the_run_anew(begun, monkeypatch):
    config, panel, directory = begun
    refused = []

    def write_panel(path, *_):
        with pytest.raises(UserError, match="another process"), lock(RunDirectory(path)):
            pass
        refused.append(path)

    monkeypatch.setattr(runs, "write_panel", write_panel)
    with runs.claim(directory, config, panel, overwrite=True):
        assert refused == [directory]
        with pytest.raises(UserError, match="another process"):
            begin_run(directory, config, panel, overwrite=True)


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
            begin_run(directory, config, panel, overwrite=True)
    assert set(contents(directory)) == {"config.json", "lock"}
    begin_run(directory, config, panel, overwrite=True)
    assert begin_run(directory, config, panel, resume=True)


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
        begin_run(tmp_path / "new", config, panel)
    assert not (tmp_path / "new").exists()


def test_a_place_below_a_file_is_an_error(begun, tmp_path):
    config, panel, _ = begun
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be made"):
        begin_run(tmp_path / "file" / "run", config, panel)
    with pytest.raises(UserError, match="cannot be written"):
        files.replace_text(tmp_path / "file" / "text", "text")
    assert (tmp_path / "file").read_text() == "mine"


def test_resume_where_nothing_is_begins(begun, tmp_path):
    config, panel, _ = begun
    assert not begin_run(tmp_path / "nothing", config, panel, resume=True)
    assert set(contents(tmp_path / "nothing")) == MADE_FIRST
