"""What is set before jax starts its backend: CPU flags, the compilation cache; and the device mesh.

Entry points call `configure()` before their first array operation. Importing jax does not start a backend.
"""

import os
from pathlib import Path

import jax
from jax.sharding import Mesh

MESH_AXIS = "devices"


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure() -> None:
    """Sets XLA's CPU flags and the persistent compilation cache; whatever the user has set stays as it is.

    One virtual CPU device a core, each with one thread: the operations of a small TFT are too short to be
    divided inside, and a batch divided over two devices runs nearly twice as fast. The cache lies in
    JAX_COMPILATION_CACHE_DIR, by default $XDG_CACHE_HOME/tftjax or ~/.cache/tftjax.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = {
        "--xla_force_host_platform_device_count": available_cores(),
        "--xla_cpu_multi_thread_eigen": "false",
    }
    added = [f"{flag}={value}" for flag, value in wanted.items() if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "tftjax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def device_mesh(batch_size: int) -> Mesh:
    """A 1-D mesh of as many devices as divide the batch evenly, all of them where possible."""
    devices = jax.devices()
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    return jax.make_mesh((count,), (MESH_AXIS,), devices=devices[:count])
