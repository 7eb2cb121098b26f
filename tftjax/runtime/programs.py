"""Compiled programs that stay on the disk: where one is at hand nothing is traced, lowered or compiled.

An entry lies in the folder `programs` of the compilation cache. Its key is made of everything that decides
the program: the code of the traced functions as it is in memory and the values that they use, shapes and
places of the arguments, versions, devices, flags and jax's settings. So a function that was changed at run
time, or handed in, has another key. An entry is a line of JSON and the machine code as XLA writes it, never a
pickle; one that is damaged or does not load is ignored. A program of something that cannot be told by what
it holds is compiled, and not kept.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tftjax.runtime.fingerprint import fingerprint
from tftjax.runtime.settings import compiler_options, kind_of_code

log = logging.getLogger(__name__)

KEPT = 2**30  # bytes of the newest entries that stay
VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")  # of this project the code itself counts
# Of jax's settings those that say what is kept or printed: no part of a program.
NO_PART = ("cache", "log", "traceback", "dump", "explain", "profiler")

LOCAL = ("jax_enable_x64", "jax_default_matmul_precision", "jax_debug_nans", "jax_debug_infs")
_COMPILING = threading.Lock()


class Executable(NamedTuple):
    """A compiled program.

    Attributes:
      run: a function of the arguments, on the host or on the devices; its result lies on the host.
      memory: bytes on one device while the program runs.
    """

    run: Callable[..., Any]
    memory: int


class OnMesh:
    """A pure function over a mesh of devices, compiled for the shapes of its arguments at the first call.

    Args:
      function: what each device computes; returns dicts and lists of arrays.
      rebuild: makes the result of these, on the host, and of the arguments.
      decides: what the function's program depends on besides shapes: functions, and values that they use.
      mesh: the devices.
      in_specs: how each argument is divided over them.
      out_spec: how all results are: replicated, or divided along the first axis.
      emitters: see `compiler_options`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        decides: tuple[Any, ...],
        mesh: Mesh,
        in_specs: tuple[PartitionSpec, ...],
        out_spec: PartitionSpec,
        *,
        rebuild: Callable[..., Any] = lambda results, *arguments: results,
        emitters: bool = True,
    ):
        self.function, self.decides, self.mesh = function, decides, mesh
        self.in_specs, self.out_spec = in_specs, out_spec
        self.rebuild, self.emitters = rebuild, emitters
        self._shardings = tuple(NamedSharding(mesh, spec) for spec in in_specs)
        self._ready: dict[Any, Executable] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Runs the program; the result lies on the host."""
        return self.executable(*arguments).run(*arguments)

    def executable(self, *arguments: Any) -> Executable:
        """The program for arguments of these shapes, which may be `jax.ShapeDtypeStruct`."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        settings = tuple(getattr(jax.config, name) for name in LOCAL)
        if (shapes, settings) not in self._ready:
            self._ready[shapes, settings] = self._executable(arguments, str(shapes))
        return self._ready[shapes, settings]

    def put(self, *arguments: Any) -> list[jax.Array]:
        """The arguments' leaves on the devices; what lies there as the program wants it is not moved."""
        leaves, places = [], []
        for argument, sharding in zip(arguments, self._shardings, strict=True):
            own = jax.tree.leaves(argument)
            leaves += own
            places += [sharding] * len(own)
        away = [n for n, leaf in enumerate(leaves) if getattr(leaf, "sharding", None) != places[n]]
        moved = jax.device_put([leaves[n] for n in away], [places[n] for n in away])
        for n, leaf in zip(away, moved, strict=True):
            leaves[n] = leaf
        return leaves

    def lower(self, *arguments: Any, name: str = "program") -> jax.stages.Lowered:
        """The function, lowered for arguments of these shapes."""
        # Devices stay in step because each applies the same summed gradient; the checker cannot follow that
        # through the optimizer.
        sharded = jax.shard_map(
            self.function, mesh=self.mesh, in_specs=self.in_specs, out_specs=self.out_spec, check_vma=False
        )
        sharded.__name__ = name

        def placed(argument, sharding):
            shape = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
            return jax.tree.map(lambda leaf: shape(leaf.shape, leaf.dtype), argument)

        options = compiler_options(emitters=self.emitters)
        return jax.jit(sharded, keep_unused=True, compiler_options=options).lower(
            *map(placed, arguments, self._shardings)
        )

    def _executable(self, arguments: tuple[Any, ...], shapes: str) -> Executable:
        path = self._path(shapes)
        entry = read(path) if path else None
        if entry is not None:
            try:
                return self._direct(entry[0], load(entry[1], self.mesh))
            except Exception as error:  # whatever XLA makes of another machine's code
                log.debug(f"{path}: not used, as it does not load: {error}")
        if path is None:
            compiled = self.lower(*arguments).compile()
        else:
            # Under a name of its own, and without jax's cache: on a CPU what that gives cannot be kept again.
            lowered = self.lower(*arguments, name=f"program_{path.name[:16]}")
            with _beside_the_cache():
                compiled = lowered.compile()
        numbers = jax.tree.unflatten(compiled.out_tree, range(compiled.out_tree.num_leaves))
        numbers = json.loads(json.dumps(numbers))  # as an entry gives them back
        # What calls back into Python holds this process's addresses.
        if path is not None and "callback" not in lowered.as_text() and keep(path, numbers, compiled):
            return self._direct(numbers, compiled.runtime_executable())
        structure = jax.tree.structure(arguments)

        def run(*arguments: Any) -> Any:
            results = compiled(*jax.tree.unflatten(structure, self.put(*arguments)))
            whole = jax.device_get(jax.tree.leaves(results))
            return self.rebuild(jax.tree.map(whole.__getitem__, numbers), *arguments)

        return Executable(run, _memory(compiled.memory_analysis()))

    def _direct(self, numbers: Any, loaded: Any) -> Executable:
        """The program by XLA's own call, 2 ms sooner than by jax's.

        Args:
          numbers: the results' dicts and lists, with the number of each array in its stead.
          loaded: XLA's executable.
        """
        divided = self.out_spec != PartitionSpec()

        def run(*arguments: Any) -> Any:
            results = loaded.execute_sharded(self.put(*arguments))
            shares = results.disassemble_into_single_device_arrays()
            whole = [
                np.concatenate([np.asarray(share) for share in each]) if divided else np.asarray(each[0])
                for each in shares
            ]
            return self.rebuild(jax.tree.map(whole.__getitem__, numbers), *arguments)

        return Executable(run, _memory(loaded.get_compiled_memory_stats()))

    def _path(self, shapes: str) -> Path | None:
        client = self.mesh.devices.flat[0].client
        devices = [(str(device.platform), str(device.device_kind)) for device in self.mesh.devices.flat]
        places = devices, self.mesh.axis_names, str(self.in_specs), str(self.out_spec)
        own = [inspect.unwrap(function).__code__ for function in (OnMesh.lower, compiler_options)]
        return path_of((own, *self.decides), (shapes, client.platform_version, places, self.emitters))


def _memory(sizes: Any) -> int:
    return sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes


def remembered(make: Callable[[], Any], *decides: Any) -> Any:
    """What a function makes, as JSON gives it back: from the disk where it was made of the same before.

    Args:
      make: makes dicts, lists, strings and numbers.
      decides: functions and values that the result depends on.
    """
    path = path_of((inspect.unwrap(make).__code__, *decides))
    entry = read(path) if path else None
    if entry is not None:
        return json.loads(entry[1])
    text = json.dumps(make())
    if path:
        _keep(path, None, text.encode())
    return json.loads(text)


def path_of(decides: tuple[Any, ...], words: tuple[Any, ...] = ()) -> Path | None:
    """Where something is kept; None if nothing is.

    Args:
      decides: functions and values that it depends on.
      words: what else it depends on, as it is written.
    """
    folder = jax.config.jax_compilation_cache_dir
    if folder is None or not jax.config.jax_enable_compilation_cache or jax.process_count() > 1:
        return None
    if jax.config.jax_debug_nans or jax.config.jax_debug_infs:  # jax looks at what its own calls return
        return None
    try:
        key = repr((fingerprint(*decides), words, surroundings()))
    except (
        Exception
    ) as error:  # `Opaque`, or values nested without end, or that do not let themselves be read
        log.debug(f"not kept: {error}")
        return None
    return Path(folder) / "programs" / hashlib.sha256(key.encode()).hexdigest()


def surroundings() -> tuple[Any, ...]:
    """What a program depends on besides its function: versions, flags, jax's settings, the kind of CPU."""
    settings = {
        name: repr(value)
        for name, value in sorted(jax.config.values.items())
        if not any(word in name for word in NO_PART)
    }
    versions = {name: metadata.version(name) for name in VERSIONED}
    flags = os.environ.get("XLA_FLAGS", "")
    return versions, flags, settings, kind_of_code(), len(jax.local_devices())


def load(code: bytes, mesh: Mesh) -> Any:
    """XLA's executable from its machine code."""
    from jaxlib import xla_client

    devices = xla_client.DeviceList(tuple(mesh.devices.flat))
    client = mesh.devices.flat[0].client
    return client.deserialize_executable(code, executable_devices=devices, compile_options=None)


def keep(path: Path, numbers: Any, compiled: jax.stages.Compiled) -> bool:
    """Writes a program's entry; returns whether its backend can write programs.

    Args:
      numbers: see `OnMesh._direct`.
    """
    try:
        code = compiled.runtime_executable().serialize()
    except Exception as error:  # a backend without it
        log.debug(f"not kept: {error}")
        return False
    _keep(path, numbers, code)
    return True


def _keep(path: Path, numbers: Any, content: bytes) -> None:
    """Writes an entry and removes the oldest beyond `KEPT` bytes; a folder that cannot be written to is left.

    Under a name of its own first: several processes may write the same entry at once.
    """
    head = json.dumps({"results": numbers, "sha256": hashlib.sha256(content).hexdigest()})
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(head.encode() + b"\n" + content)
        new.replace(path)
    except OSError as error:
        log.debug(f"not kept: {error}")
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        return
    facts = {}
    for file in path.parent.iterdir():
        with contextlib.suppress(OSError):  # another process has removed it
            facts[file] = file.stat()
    size = 0
    for file in sorted(facts, key=lambda file: facts[file].st_mtime, reverse=True):
        size += facts[file].st_size
        if size > KEPT:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def read(path: Path) -> tuple[Any, bytes] | None:
    """An entry's results and machine code; None if there is none, or a damaged one."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        entry = json.loads(head)
        if entry["sha256"] != hashlib.sha256(code).hexdigest():
            raise ValueError("its contents do not match their checksum")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug(f"{path}: not used, as it is damaged: {error}")
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the newest stay
    return entry["results"], code


@contextlib.contextmanager
def _beside_the_cache() -> Iterator[None]:
    """Keeps jax's own cache from taking in what is compiled meanwhile."""
    name = "jax_persistent_cache_min_compile_time_secs"
    with _COMPILING:
        before = getattr(jax.config, name)
        jax.config.update(name, float("inf"))
        try:
            yield
        finally:
            jax.config.update(name, before)
