"""What is set before jax starts, and that the user's own settings win."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jaxlib
import pytest

from tftjax import runtime
from tftjax.storage.runs import versions

CACHE, LEAST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No setting but a cache home; whatever `configure` sets is taken back."""
    jax.devices()  # with the devices of the tests
    before = {name: getattr(jax.config, name) for name in (CACHE, LEAST)}
    for name in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtime.settings, "available_cores", lambda: 3)
    jax.config.update(CACHE, None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def flags():
    return dict(flag.split("=") for flag in os.environ["XLA_FLAGS"].split())


def test_a_device_a_core_and_a_cache(clean):
    runtime.configure()
    assert flags()["--xla_force_host_platform_device_count"] == "3"
    assert flags()["--xla_cpu_multi_thread_eigen"] == "false"
    cache = Path(getattr(jax.config, CACHE))
    assert cache.parent == clean / "tftjax"
    assert re.fullmatch(rf"jaxlib-{re.escape(jaxlib.__version__)}-[0-9a-f]{{8}}", cache.name)
    assert getattr(jax.config, LEAST) == 0.1


def test_twice_is_once(clean):
    runtime.configure()
    once = os.environ["XLA_FLAGS"]
    runtime.configure()
    assert os.environ["XLA_FLAGS"] == once


def test_the_users_flags_stay(clean, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere --xla_force_host_platform_device_count=7")
    runtime.configure()
    assert flags()["--xla_dump_to"] == "/nowhere"
    assert flags()["--xla_force_host_platform_device_count"] == "7"
    assert flags()["--xla_cpu_multi_thread_eigen"] == "false"
    assert os.environ["XLA_FLAGS"].count("device_count") == 1


def test_the_users_cache_stays(clean, monkeypatch):
    jax.config.update(CACHE, "/of/the/user")
    jax.config.update(LEAST, 9.0)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "9")
    runtime.configure()
    assert getattr(jax.config, CACHE) == "/of/the/user"
    assert getattr(jax.config, LEAST) == 9.0


def test_cache_in_the_home_by_default(clean, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(clean / "home"))
    runtime.configure()
    assert Path(getattr(jax.config, CACHE)).parent == clean / "home" / ".cache" / "tftjax"


def test_64_bits_are_said_and_recorded(clean, caplog):
    with jax.enable_x64(True):
        runtime.configure()
        assert versions()["JAX_ENABLE_X64"] == "1"
    assert "JAX_ENABLE_X64 is on" in caplog.text
    assert "JAX_ENABLE_X64" not in versions()


def test_a_backend_that_does_not_start_is_no_fault_of_a_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tftjax.evaluate", tmp_path / "no_run"],
        env={**os.environ, "JAX_PLATFORMS": "absent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX_PLATFORMS is 'absent', which jax cannot start here (")
    assert done.stderr.endswith("Unset it, or name what this machine has, such as cpu.\n")


def test_without_a_home_there_is_no_cache(clean, monkeypatch):
    """A container with a numeric user has no HOME, and no entry in passwd."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    runtime.configure()
    assert getattr(jax.config, CACHE) is None


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= runtime.available_cores() <= os.cpu_count()


PROGRAM = """
import json
from tftjax import runtime
runtime.configure()
import jax
meshes = {size: runtime.device_mesh(size) for size in (1, 31, 32, 64, 65, 80, 96)}
assert all(mesh.axis_names == (runtime.MESH_AXIS,) for mesh in meshes.values())
print(json.dumps([jax.config.jax_compilation_cache_dir, {n: mesh.size for n, mesh in meshes.items()}]))
"""


@pytest.mark.slow
def test_before_jax_starts(tmp_path):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=5",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cache, sizes = json.loads(done.stdout)
    assert cache == str(tmp_path)
    # The most devices, of 5, that divide the batch evenly into shares of 16 windows or more.
    assert sizes == {"1": 1, "31": 1, "32": 2, "64": 4, "65": 1, "80": 5, "96": 4}


@pytest.mark.parametrize(("num_steps", "devices"), [(1024, 2), (1025, 1)])
def test_exchanges_that_would_fill_memory_are_not_made(num_steps, devices):
    mesh = runtime.device_mesh()
    assert mesh.size == 2
    # Two copies of 4 bytes on each of two devices: 16 x 32,768 x 1,024 is 2^29.
    assert runtime.mesh_for_epoch(mesh, 32_768, num_steps).size == devices
