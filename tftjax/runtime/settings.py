"""Settings before jax starts its backend: CPU flags, the compilation cache.

Entry points call `configure()` before their first array operation. Importing jax does not start a backend.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
from importlib import metadata
from pathlib import Path

import jax

from tftjax.errors import UserError

log = logging.getLogger(__name__)

DEVICE_COUNT = "--xla_force_host_platform_device_count"


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure() -> None:
    """Sets XLA's CPU flags and the persistent compilation cache; whatever the user has set stays as it is.

    One virtual CPU device a core, each with one thread: the operations of a small TFT are too short to be
    divided inside, and a batch divided over two devices runs nearly twice as fast. The cache lies in
    JAX_COMPILATION_CACHE_DIR, by default in a folder of $XDG_CACHE_HOME/tftjax or ~/.cache/tftjax for this
    jaxlib and kind of CPU; without a home there is none. The backend starts before any file of a run is
    read: what fails then is no fault of the file.

    Raises:
      UserError: JAX_PLATFORMS names a backend that does not start.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    defaults = {
        DEVICE_COUNT: available_cores(),
        "--xla_cpu_multi_thread_eigen": "false",
    }
    added = [f"{flag}={value}" for flag, value in defaults.items() if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    if jax.config.jax_compilation_cache_dir is None:
        with contextlib.suppress(RuntimeError):  # no HOME and no entry in passwd, as in some containers
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            jax.config.update("jax_compilation_cache_dir", str(home / "tftjax" / kind_of_code()))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if jax.config.jax_enable_x64:
        log.warning(
            "JAX_ENABLE_X64 is on: a seed's numbers are others than without it. Each checkpoint records it."
        )
    _start_backend()


def with_devices(flags: str, count: int) -> str:
    """XLA's flags with another number of virtual CPU devices.

    >>> with_devices("--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false", 2)
    '--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=2'
    """
    kept = [flag for flag in flags.split() if not flag.startswith(DEVICE_COUNT)]
    return " ".join([*kept, f"{DEVICE_COUNT}={count}"])


def kind_of_code() -> str:
    """The jaxlib and the kind of CPU that compiled code is for: XLA warns of code for another CPU."""
    cpu = platform.processor()
    with contextlib.suppress(OSError):  # Linux alone has the file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu += "".join(next((line for line in lines if line.lower().startswith(("flags", "features"))), ""))
    kind = hashlib.sha256(f"{platform.machine()} {cpu}".encode()).hexdigest()[:8]
    return f"jaxlib-{metadata.version('jaxlib')}-{kind}"


def _start_backend() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # without a plugin for it jax asserts
        reason = str(error).partition("\n")[0] or "no such backend is installed"
        raise UserError(
            f"JAX_PLATFORMS is {jax.config.jax_platforms!r}, which jax cannot start here ({reason})."
            " Unset it, or name what this machine has, such as cpu."
        ) from error


def compiler_options(*, emitters: bool) -> dict[str, bool | int]:
    """XLA options for programs of many small operations, for the backend in use; a user's flags go before.

    Args:
      emitters: whether a CPU's code for fusions is made by XLA's fusion emitters. By the older generator it
        compiles in two thirds of the time, in less memory, and a step takes half as long again. jaxlib 0.12
        no longer has the choice, and refuses what it does not know: hence the trial.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, bool | int] = {}
    if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
        options["xla_backend_optimization_level"] = 1  # a seventh less to compile than 3, and no slower
    if not emitters and _has_choice():
        options["xla_cpu_use_fusion_emitters"] = False
    return options


@functools.cache
def _has_choice() -> bool:
    """Whether XLA has the older generator too."""
    try:
        options = {"xla_cpu_use_fusion_emitters": False}
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
