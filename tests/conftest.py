"""Strictness for every test: no silent broadcasting, array shapes checked, nothing left in the home."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

# In the background of a shell Ctrl-C is ignored, and the processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before jax is imported, and for the processes that tests start: one compilation cache, which ends with the
# tests. Workers of pytest-xdist inherit that of the process that started them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tftjax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
# Most of the tests' time is compilation, which takes half as long where LLVM does not optimise. Two devices,
# so that what is spread over a mesh is. The rest is what `runtime.configure` would add: a test that calls it
# leaves the flags, which are part of every kept program's key, as they are.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2"
    " --xla_cpu_multi_thread_eigen=false",
)

import hypothesis
import jax
import jaxtyping

# Imported before the hook: it holds no arrays, pydantic checks its values, and beartype cannot read
# pydantic's hints.
import tftjax.config.loading
import tftjax.runtime.fingerprint  # noqa: F401  # nor does this: it looks at some 20,000 values a program

jax.config.update("jax_numpy_rank_promotion", "raise")
# On a busy machine a correct example may take any time.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")
jaxtyping.install_import_hook("tftjax", "beartype.beartype")

# The longest files, by their time. They begin first, so that workers end together: of itself pytest-xdist
# begins with the files of most tests, and the longest have few.
LONGEST = (
    "sweep/test_cluster.py",
    "api/test_api.py",
    "sweep/test_run.py",
    "walkforward/test_plan.py",
    "data/test_commands.py",
    "test_end_to_end.py",
)


def pytest_configure(config):
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    places = {str(Path(__file__).parent / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


# The fixtures of the end-to-end tests, shared by several files; after the hook, as it imports the package.
from tiny import (  # noqa: E402, F401
    commands,
    in_process,
    no_pictures,
    quick_evaluation,
    shared_baselines,
    trained,
)
