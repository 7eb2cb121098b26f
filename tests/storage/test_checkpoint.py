"""Checkpoints: round trip, retention, damage of every kind, kills, full disks, and independence of this
package.
"""

import ast
import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from tftjax.errors import UserError
from tftjax.storage import checkpoint

ROOT = Path(__file__).parents[2]
METADATA = {"config": {"name": "a", "quantiles": [0.1, 0.5]}, "columns": ["r", "vix"], "best_score": 1e-3}


def tree(epoch=0):
    rng = np.random.default_rng(epoch)
    return {
        "params": {
            "grn": {"kernel": rng.normal(size=(5, 3)).astype(np.float32), "bias": np.zeros(3, np.float32)},
            "lstm": {"kernel": rng.normal(size=(2, 7)).astype(np.float64)},
        },
        "opt_state": {"0": {"count": np.int32(epoch), "empty": {}}, "1": {}},
        "key": np.array([epoch, 4294967295], np.uint32),
        "stopped": np.array(True),
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        if isinstance(a[key], dict):
            assert_same(a[key], b[key])
        else:
            assert type(b[key]) is np.ndarray
            assert b[key].dtype == np.asarray(a[key]).dtype
            np.testing.assert_array_equal(a[key], b[key], strict=isinstance(a[key], np.ndarray))


def files(path):
    return sorted(p for p in path.rglob("*") if p.is_file())


def save(directory, epoch, best_epoch=None):
    checkpoint.save(directory, epoch, tree(epoch), {**METADATA, "epoch": epoch}, best_epoch=best_epoch)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    save(directory, 3)
    save(directory, 4)
    return directory


@pytest.fixture
def run(saved, tmp_path):
    """A run with whole checkpoints of epochs 3 and 4, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def test_round_trip(saved):
    restored = checkpoint.restore(saved, 4)
    assert restored.epoch == 4
    assert restored.metadata == {**METADATA, "epoch": 4}
    assert_same(tree(4), restored.arrays)


def test_the_day_of_writing(tmp_path):
    assert checkpoint.written_on(tmp_path) is None
    checkpoint.save(tmp_path, 3, tree(), METADATA, best_epoch=None)
    record = tmp_path / "3" / "_CHECKPOINT_METADATA"
    content = json.loads(record.read_text()) | {"commit_timestamp_nsecs": 1_000_000_000 * 86_400 + 1}
    record.write_text(json.dumps(content))
    assert str(checkpoint.written_on(tmp_path)) == "1970-01-02"
    record.write_text("{")
    assert checkpoint.written_on(tmp_path) is None


def test_jax_arrays_bfloat16_and_non_finite_numbers(tmp_path):
    arrays = {"a": jnp.array([1.5, jnp.inf, jnp.nan], jnp.bfloat16), "b": jnp.float32(2)}
    checkpoint.save(tmp_path, 0, arrays, {"best_score": float("inf"), "pair": (1, 2)}, best_epoch=None)
    restored = checkpoint.restore(tmp_path, 0)
    assert restored.arrays["a"].dtype == jnp.bfloat16
    assert restored.arrays["a"].tobytes() == np.asarray(arrays["a"]).tobytes()
    assert restored.arrays["b"] == 2
    assert restored.metadata == {"best_score": float("inf"), "pair": [1, 2]}


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"a": np.zeros((0, 3))}, ValueError),
        ({"a": "text"}, ValueError),
        ({"a": np.array([object()])}, ValueError),
        ({1: np.zeros(2)}, TypeError),
        ({"a.b": np.zeros(2)}, TypeError),
        ({"a": {"": np.zeros(2)}}, TypeError),
    ],
)
def test_arrays_that_would_not_come_back_are_refused(tmp_path, arrays, error):
    with pytest.raises(error, match="a checkpoint needs"):
        checkpoint.save(tmp_path, 0, arrays, {}, best_epoch=None)
    assert checkpoint.epochs(tmp_path) == []


def test_metadata_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.save(tmp_path, 0, tree(), {"loss": print}, best_epoch=None)
    with pytest.raises(ValueError, match="'checkpoint'"):
        checkpoint.save(tmp_path, 0, tree(), {"checkpoint": 1}, best_epoch=None)


def test_retention_keeps_the_last_two_and_the_best(tmp_path):
    seen = []
    for epoch, best in enumerate([None, 1, 1, 1, 4, 4, 4]):
        save(tmp_path, epoch, best)
        seen.append(checkpoint.epochs(tmp_path))
    assert seen == [[0], [0, 1], [1, 2], [1, 2, 3], [3, 4], [4, 5], [4, 5, 6]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["4", "5", "6"]
    assert_same(tree(4), checkpoint.restore(tmp_path, 4).arrays)


def test_nothing_is_deleted_before_the_new_one_is_complete(tmp_path, monkeypatch):
    for epoch in (0, 1):
        save(tmp_path, epoch)
    retain = checkpoint._retain

    def spy(directory, epoch, best_epoch):
        assert checkpoint.epochs(directory) == [0, 1, 2]
        assert checkpoint.restore(directory, 2).epoch == 2
        retain(directory, epoch, best_epoch)

    monkeypatch.setattr(checkpoint, "_retain", spy)
    save(tmp_path, 2)
    assert checkpoint.epochs(tmp_path) == [1, 2]


def test_going_back_drops_the_abandoned_continuation(tmp_path):
    for epoch in (5, 6):
        save(tmp_path, epoch)
    checkpoint.save(tmp_path, 5, tree(50), {}, best_epoch=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["5"]
    assert_same(tree(50), checkpoint.restore_latest(tmp_path).arrays)


def test_no_checkpoint(tmp_path):
    assert checkpoint.restore_latest(tmp_path) is None
    assert checkpoint.restore_latest(tmp_path / "missing") is None
    assert checkpoint.epochs(tmp_path / "missing") == []
    with pytest.raises(UserError, match=r"no checkpoint of epoch 7 .*there are: none"):
        checkpoint.restore(tmp_path, 7)


def test_restore_leaves_the_directory_as_it_is(run):
    before = {p: p.read_bytes() for p in files(run)}
    (run / "5.new.orbax-checkpoint-tmp").mkdir()
    assert checkpoint.restore_latest(run).epoch == 4
    assert {p: p.read_bytes() for p in files(run)} == before
    assert (run / "5.new.orbax-checkpoint-tmp").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 0x40
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [truncate, empty, flip, Path.unlink], ids=lambda f: f.__name__)
def test_damage_of_any_file_is_noticed_or_harmless(run, damage, caplog):
    pristine = run.with_name("pristine")
    shutil.copytree(run, pristine)
    noticed = []
    for path in files(run / "4"):
        damage(path)
        caplog.clear()
        restored = checkpoint.restore_latest(run)
        assert_same(tree(restored.epoch), restored.arrays)
        assert restored.metadata["epoch"] == restored.epoch
        if restored.epoch == 3:
            noticed.append(path)
            assert len(caplog.messages) == 1
            assert str(run / "4") in caplog.messages[0]
            assert path.name in caplog.messages[0] or path.name == "SHA256SUMS"
            assert "using the one before" in caplog.messages[0]
            with pytest.raises(UserError, match=r"damaged"):
                checkpoint.restore(run, 4)
        else:
            assert caplog.messages == []
        shutil.copy(pristine / path.relative_to(run), path)
    # Truncating or flipping what is empty changes nothing; all else must show, the markers too.
    changeable = [p for p in files(run / "4") if p.stat().st_size or damage is Path.unlink]
    assert noticed == changeable
    assert len(noticed) > 5


@pytest.mark.parametrize("part", ["arrays", "metadata"])
def test_wrong_contents_in_files_as_they_were_written_are_noticed(tmp_path, monkeypatch, part):
    wrong = {"arrays": tree(9)} if part == "arrays" else {"metadata": {**METADATA, "columns": ["vix", "r"]}}
    checksum = checkpoint._checksum
    with monkeypatch.context() as patch:
        right = {"arrays": checkpoint._to_numpy(tree(0), ""), "metadata": METADATA}
        patch.setattr(checkpoint, "_checksum", lambda epoch, arrays, metadata: checksum(epoch, **right))
        checkpoint.save(tmp_path, 0, **{**right, **wrong}, best_epoch=None)
    with pytest.raises(UserError, match="contents do not match their checksum"):
        checkpoint.restore(tmp_path, 0)


def test_a_checkpoint_under_another_epochs_name_is_noticed(run, caplog):
    (run / "4").rename(run / "9")
    assert checkpoint.restore_latest(run).epoch == 3
    assert "checksum" in caplog.messages[0]


def test_a_newer_format_is_said(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT_VERSION", 2)
        save(run, 5)
    with pytest.raises(UserError, match="format version 2, this program reads 1"):
        checkpoint.restore(run, 5)


def test_all_damaged_is_an_error_and_a_new_save_replaces_them(run, capfd, caplog):
    for path in files(run):
        truncate(path)
    with pytest.raises(UserError, match=r"none of the checkpoints in .* is whole \(epochs 3, 4\)"):
        checkpoint.restore_latest(run)
    assert ["using the one before" in m for m in caplog.messages] == [True, False]
    save(run, 3)
    assert checkpoint.restore_latest(run).epoch == 3
    assert checkpoint.epochs(run) == [3]
    assert capfd.readouterr().err == ""


def test_a_checkpoint_that_may_not_be_read_is_not_damaged(run, monkeypatch, caplog):
    """Nothing older stands in for it; as root everything may be read, so the refusal is a stand-in."""
    refused, read = run / "4" / "arrays", Path.read_bytes

    def read_bytes(path):
        if path.is_relative_to(refused.resolve()):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    for restore in (checkpoint.restore_latest, lambda folder: checkpoint.restore(folder, 4)):
        with pytest.raises(UserError, match=r"4 cannot be read \(Permission denied.* Make it readable"):
            restore(run)
    assert not caplog.messages


def test_leftovers_are_cleaned_at_the_next_save_and_nothing_else_is(run):
    for name in ("5.new", "6.new.orbax-checkpoint-tmp", "2.trash", "notes", "tmp", "x.trash"):
        (run / name).mkdir()
        (run / name / "file").write_text("x")
    (run / "log.txt").write_text("x")
    assert checkpoint.epochs(run) == [3, 4]
    save(run, 5)
    assert sorted(p.name for p in run.iterdir()) == ["4", "5", "log.txt", "notes", "tmp", "x.trash"]


def test_a_kill_while_replacing_leaves_the_replaced_one(run):
    (run / "4").rename(run / "4.old")
    assert checkpoint.epochs(run) == [3, 4]
    assert_same(tree(4), checkpoint.restore_latest(run).arrays)
    save(run, 5)
    assert checkpoint.epochs(run) == [4, 5]
    assert_same(tree(4), checkpoint.restore(run, 4).arrays)
    save(run, 6)
    assert sorted(p.name for p in run.iterdir()) == ["5", "6"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: write")]
)
@pytest.mark.parametrize("epoch", [4, 5])
def test_a_failed_write_is_a_user_error_and_leaves_the_earlier_ones(run, monkeypatch, error, epoch):
    class Full:
        def save(self, path, args):
            (path.parent / f"{path.name}.orbax-checkpoint-tmp").mkdir()
            raise error

    before = {p: p.read_bytes() for p in files(run)}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_checkpointer", Full)
        with pytest.raises(UserError, match=f"epoch {epoch} in {run}.*(No space|EXHAUSTED)"):
            save(run, epoch)
    assert {p: p.read_bytes() for p in files(run)} == before
    assert sorted(p.name for p in run.iterdir()) == ["3", "4"]


def test_a_directory_below_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"{tmp_path}/file/checkpoints: NotADirectoryError"):
        save(tmp_path / "file/checkpoints", 0)


@pytest.fixture
def folder_of_no_root():
    """A folder of the user's own, who is not root while the test lasts: root may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
    os.seteuid(user)


def test_a_read_only_directory_is_a_user_error(folder_of_no_root):
    run = folder_of_no_root / "run"
    save(run, 4)
    run.chmod(0o555)
    try:
        with pytest.raises(UserError, match=f"{run}: PermissionError"):
            save(run, 5)
        assert checkpoint.restore_latest(run).epoch == 4
    finally:
        run.chmod(0o755)


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interruption_waits_for_the_end_of_the_write(tmp_path, monkeypatch, ignored):
    """Ctrl-C in the middle; where it is ignored, as in the background of a shell, it stays ignored."""
    write = checkpoint._file_sum

    def interrupted(file):
        signal.raise_signal(signal.SIGINT)
        return write(file)

    monkeypatch.setattr(checkpoint, "_file_sum", interrupted)
    handler = signal.SIG_IGN if ignored else signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    try:
        with contextlib.nullcontext() if ignored else pytest.raises(KeyboardInterrupt):
            save(tmp_path, 3)
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert checkpoint.restore_latest(tmp_path).epoch == 3


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_really_full_disk_is_a_user_error(run):
    # A file size limit of 1 kB makes every larger write fail, inside of TensorStore's own threads too.
    code = (
        "import resource, signal, sys, numpy as np; from pathlib import Path\n"
        "from tftjax.storage import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "checkpoint.restore_latest(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "arrays = {f'a{i}': np.random.default_rng(i).normal(size=999) for i in range(50)}\n"
        "checkpoint.save(Path(sys.argv[1]), 5, arrays, {}, best_epoch=None)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, run], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert out.returncode == 1
    assert "Event loop" not in out.stderr
    assert "never retrieved" not in out.stderr
    assert f"UserError: cannot write the checkpoint of epoch 5 in {run}" in out.stderr
    assert sorted(p.name for p in run.iterdir()) == ["3", "4"]
    assert checkpoint.restore_latest(run).epoch == 4


def test_what_nobody_awaited_is_not_printed_after_a_failure(run, monkeypatch, caplog):
    def drop():
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(ValueError("a write that failed"))
        loop.close()
        gc.collect()

    def fail(*_, **__):
        drop()
        raise OSError("the disk is full")

    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    drop()
    assert "a write that failed" in caplog.text
    caplog.clear()
    monkeypatch.setattr(checkpoint, "_checkpointer", lambda: SimpleNamespace(save=fail))
    with pytest.raises(UserError, match="the disk is full"):
        save(run, 5)
    drop()
    assert not caplog.text


ALONE = """
import sys
sys.path = [p for p in sys.path if p not in ("", sys.argv[1])]
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tftjax":
            raise ImportError("blocked")
sys.meta_path.insert(0, Blocker())
try:
    import tftjax
    raise SystemExit("tftjax can be imported")
except ImportError:
    pass
import json
import orbax.checkpoint as ocp
items = ocp.args.Composite(arrays=ocp.args.PyTreeRestore(), metadata=ocp.args.JsonRestore())
saved = ocp.Checkpointer(ocp.CompositeCheckpointHandler()).restore(sys.argv[2], args=items)
params = saved["arrays"]["params"]
print(json.dumps([saved["metadata"], params["grn"]["kernel"].tolist(), params["lstm"]["kernel"].tolist(),
                  saved["arrays"]["key"].tolist(), sorted(saved["arrays"])]))
"""


def test_orbax_alone_restores_it_without_this_package(saved, tmp_path):
    out = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(ROOT), str(saved / "4")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert out.returncode == 0, out.stderr
    metadata, kernel, recurrent, key, names = json.loads(out.stdout)
    expected = tree(4)
    assert {k: v for k, v in metadata.items() if k != "checkpoint"} == {**METADATA, "epoch": 4}
    assert names == sorted(expected)
    assert kernel == expected["params"]["grn"]["kernel"].tolist()
    assert recurrent == expected["params"]["lstm"]["kernel"].tolist()
    assert key == expected["key"].tolist()
    for line in ALONE.splitlines()[14:17]:  # the docstring shows these very lines
        assert line.replace("sys.argv[2]", "path") in checkpoint.__doc__


LOOP = """
import sys
from pathlib import Path
import numpy as np
from tftjax.storage import checkpoint
directory = Path(sys.argv[1])
last = checkpoint.restore_latest(directory)
epoch = 0 if last is None else last.epoch + 1
while True:
    arrays = {f"p{i}": np.full(500 + i, epoch, np.float32) for i in range(20)}
    checkpoint.save(directory, epoch, arrays, {"epoch": epoch}, best_epoch=0)
    print(epoch, flush=True)
    epoch += 1
"""


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_last_complete_one(tmp_path, caplog):
    rng = random.Random(7)
    complete = -1
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        said = [int(process.stdout.readline())]
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout]
        watchdog.cancel()
        process.wait()
        process.stdout.close()
        assert said[0] == complete + 1
        caplog.clear()
        restored = checkpoint.restore_latest(tmp_path)
        assert caplog.messages == []
        # One more than was said may be complete: the kill came between the save and the print.
        assert restored.epoch in (said[-1], said[-1] + 1)
        assert all((restored.arrays[f"p{i}"] == restored.epoch).all() for i in range(20))
        assert checkpoint.restore(tmp_path, 0).metadata == {"epoch": 0}
        complete = restored.epoch


def test_no_file_is_a_pickle(saved):
    for path in files(saved):
        # Protocols 2 to 5 start with \x80 and their number.
        start = path.read_bytes()[:2]
        assert not (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), path


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "tftjax").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]), ids=lambda p: p.stem
)
def test_nothing_imports_a_pickler(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("read_pickle", "to_pickle", "allow_pickle"), f"{path}:{node.lineno}"
    assert not imported & {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve"}


def test_log_level_is_put_back(tmp_path):
    from absl import logging

    before = logging.get_verbosity()
    save(tmp_path, 0)
    assert logging.get_verbosity() == before
