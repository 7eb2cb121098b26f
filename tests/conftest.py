"""Strictness for every test: no silent broadcasting, array shapes checked, nothing left in the home."""

import os
import signal

# In the background of a shell Ctrl-C is ignored, and the processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before jax is imported, and for the processes that tests start: no compilation cache outside of what a
# test makes.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
# Two devices, so that what is spread over a mesh is.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import jaxtyping

# Imported before the hook: it holds no arrays, pydantic checks its values, and beartype cannot read
# pydantic's hints.
import tftjax.config  # noqa: F401

jax.config.update("jax_numpy_rank_promotion", "raise")
jaxtyping.install_import_hook("tftjax", "beartype.beartype")

# The fixtures of the end-to-end tests, shared by several files; after the hook, as it imports the package.
from tiny import commands, in_process, trained  # noqa: E402, F401
