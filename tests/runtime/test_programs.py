"""Programs on the disk: found again by what decides them, not by a name; damage is survived."""

import json
import logging
import os
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tftjax.runtime import OnMesh, device_mesh, programs
from tftjax.runtime.mesh import MESH_AXIS

EVERYWHERE, DIVIDED = PartitionSpec(), PartitionSpec(MESH_AXIS)
FACTOR = 3.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of programs, empty; and how often something was lowered."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    lowered = []
    lower = OnMesh.lower
    monkeypatch.setattr(OnMesh, "lower", lambda *a, **k: lowered.append(1) or lower(*a, **k))
    yield types.SimpleNamespace(path=tmp_path / "programs", lowered=lowered)
    jax.config.update("jax_compilation_cache_dir", before)


def scaled(x, y):
    return {"sums": [x.sum() + y["a"], FACTOR * y["a"]], "all": jax.lax.psum(x.sum(), MESH_AXIS)}


def on_two(function=scaled, decides=None, out_spec=EVERYWHERE, emitters=False):
    decides = (function,) if decides is None else decides
    return OnMesh(function, decides, device_mesh(), (DIVIDED, EVERYWHERE), out_spec, emitters=emitters)


X, Y = np.arange(6, dtype=np.float32), {"a": np.float32(10)}


def test_a_program_over_two_devices(folder):
    """The first device has 0 + 1 + 2 of 15; what is replicated is taken from it."""
    found = on_two()(X, Y)
    assert jax.tree.map(float, found) == {"sums": [13.0, 30.0], "all": 15.0}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))


def test_results_that_are_divided_are_joined(folder):
    double = on_two(lambda x, y: [2 * x + y["a"]], out_spec=DIVIDED)
    for _ in range(2):
        np.testing.assert_array_equal(double(X, Y)[0], 2 * np.arange(6) + 10)


def test_a_second_process_lowers_nothing(folder):
    first = on_two()(X, Y)
    assert len(folder.lowered) == 1
    program = on_two()
    again = program(X, Y)
    assert len(folder.lowered) == 1
    jax.tree.map(np.testing.assert_array_equal, first, again)
    program(X, Y)
    assert len(folder.lowered) == 1
    assert len(list(folder.path.iterdir())) == 1
    assert program.executable(X, Y).memory >= X.nbytes / 2


def test_the_result_is_rebuilt_of_the_arguments(folder):
    function = lambda x, y: [x + y["a"]]  # noqa: E731
    rebuild = lambda results, x, y: (results[0], y)  # noqa: E731
    program = OnMesh(
        function, (function,), device_mesh(1), (EVERYWHERE, EVERYWHERE), EVERYWHERE, rebuild=rebuild
    )
    result, given = program(X, Y)
    np.testing.assert_array_equal(result, X + 10)
    assert given is Y


def test_arrays_on_the_devices_are_taken_as_they_are(folder):
    program = on_two()
    x, y = program.put(X, Y)
    assert x.sharding.spec == DIVIDED
    again = program.put(x, {"a": Y["a"]})
    assert again[0] is x
    jax.tree.map(np.testing.assert_array_equal, program(x, {"a": y}), program(X, Y))


def others(monkeypatch):
    """What makes another program: a line to describe it, and what is changed."""
    yield "shape", lambda: on_two()(np.arange(8, dtype=np.float32), Y)
    yield "type", lambda: on_two()(X.astype(np.int32), Y)
    yield "structure", lambda: on_two(lambda x, y: {"sums": x}, (scaled,))(X, (Y["a"],))
    yield (
        "generator",
        lambda: OnMesh(scaled, (scaled,), device_mesh(), (DIVIDED, EVERYWHERE), EVERYWHERE)(X, Y),
    )

    def changed(name, value):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[__name__], name, value)
            return on_two()(X, Y)

    yield "a value that the function uses", lambda: changed("FACTOR", 4.0)

    def flags():
        with monkeypatch.context() as patch:
            patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=false")
            return on_two()(X, Y)

    yield "flags", flags

    def precision():
        jax.config.update("jax_default_matmul_precision", "highest")
        try:
            return on_two()(X, Y)
        finally:
            jax.config.update("jax_default_matmul_precision", None)

    yield "jax's settings", precision


def test_whatever_decides_a_program_makes_another(folder, monkeypatch):
    on_two()(X, Y)
    for count, (what, run) in enumerate(others(monkeypatch), start=2):
        run()
        assert len(list(folder.path.iterdir())) == len(folder.lowered) == count, what
    on_two()(X, Y)
    assert len(folder.lowered) == count


def test_a_function_that_is_changed_at_run_time_is_what_runs(folder, monkeypatch):
    assert on_two()(X, Y)["sums"][1] == 30
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 5.0)
    assert on_two()(X, Y)["sums"][1] == 50
    monkeypatch.undo()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"),
        lambda path: path.write_bytes(b"[]\n" + path.read_bytes()),
        lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[0]),
        lambda path: programs._keep(path, {"sums": [0, 1], "all": 2}, b"no machine code"),
    ],
)
def test_a_damaged_or_foreign_entry_is_made_anew(folder, damage, caplog):
    first = on_two()(X, Y)
    (path,) = folder.path.iterdir()
    whole = path.read_bytes()
    damage(path)
    with caplog.at_level(logging.DEBUG, logger=programs.log.name):
        again = on_two()(X, Y)
    assert "not used" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert json.loads(path.read_bytes().partition(b"\n")[0]).keys() == {"results", "sha256"}
    assert len(path.read_bytes()) > len(whole) / 2
    assert len(folder.lowered) == 2
    on_two()(X, Y)
    assert len(folder.lowered) == 2


def test_what_cannot_be_told_apart_is_compiled_and_not_kept(folder):
    numbers = iter([1.0, 2.0])

    def function(x, y):
        return {"sums": [x.sum() + next(numbers)]}

    assert on_two(function)(X, Y)["sums"][0] == 3 + 1
    assert on_two(function)(X, Y)["sums"][0] == 3 + 2
    assert not folder.path.exists()


def test_without_a_cache_nothing_is_kept(folder):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        on_two()(X, Y)
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not folder.path.exists()


def test_the_newest_stay(folder, monkeypatch):
    on_two()(np.arange(2, dtype=np.float32), Y)
    (first,) = folder.path.iterdir()
    os.utime(first, (0, 0))
    monkeypatch.setattr(programs, "KEPT", 2.5 * first.stat().st_size)
    for number, size in enumerate((4, 6, 8), start=1):
        on_two()(np.arange(size, dtype=np.float32), Y)
        newest = max(folder.path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert len(list(folder.path.iterdir())) == 2
    on_two()(np.arange(8, dtype=np.float32), Y)
    assert len(folder.lowered) == 4


def test_a_folder_that_cannot_be_written_to_is_left(folder, monkeypatch):
    folder.path.write_text("a file in the folder's place")
    assert on_two()(X, Y)["all"] == 15
    folder.path.unlink()

    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert on_two()(X, Y)["all"] == 15
    assert not list(folder.path.iterdir())


def test_a_backend_that_cannot_write_its_programs(folder, monkeypatch):
    monkeypatch.setattr(
        jax.stages.Compiled, "runtime_executable", lambda _: types.SimpleNamespace(serialize=lambda: 1 / 0)
    )
    assert on_two()(X, Y)["all"] == 15
    assert not folder.path.exists()


def test_what_calls_back_into_python_is_not_kept(folder):
    """Its machine code holds addresses of the process that made it: another one would crash."""
    shape = jax.ShapeDtypeStruct((), np.float32)

    def function(x, y):
        return {"sums": [jax.pure_callback(lambda a: np.float32(a + FACTOR), shape, y["a"])]}

    for _ in range(2):
        assert on_two(function)(X, Y)["sums"][0] == 13
    assert not folder.path.exists()


def test_jax_looks_for_nans_where_it_is_told_to(folder):
    function = lambda x, y: [jax.numpy.log(y["a"] - 20)]  # noqa: E731
    assert np.isnan(on_two(function)(X, Y)[0])
    assert np.isnan(on_two(function)(X, Y)[0])
    with jax.debug_nans(True), pytest.raises(Exception, match="nan"):
        on_two(function)(X, Y)


def test_the_options_of_the_compiler_are_part_of_the_key(folder, monkeypatch):
    on_two()(X, Y)
    monkeypatch.setattr(programs, "compiler_options", lambda *, emitters: {})
    on_two()(X, Y)
    assert len(folder.lowered) == 2


def test_what_was_made_once_is_remembered(folder):
    made = []

    def make():
        made.append(1)
        return [FACTOR], {"a": (1, 2)}

    for _ in range(2):
        assert programs.remembered(make, 1, "a") == [[3.0], {"a": [1, 2]}]
    assert len(made) == 1
    programs.remembered(make, 2, "a")
    assert len(made) == 2
    nothing_shows = iter([1])
    for _ in range(2):
        programs.remembered(make, nothing_shows)
    assert len(made) == 4
