"""Engines: each computes an epoch of one member or of many. They hold no member's state and write nothing.

An engine is made for members of one static config (`Training`), and has
  program             the static side of their training,
  rounding            what decides the last bits of a member (`Rounding`),
  prepare(count)      makes ready for that many members at once; returns the number it takes, at least one,
  epoch(states, hyperparameters, live)
                      trains an epoch of each live member: their next states and metrics, in that order.
Another engine, on a cluster for example, needs no more, and the loop does not change for it.
"""

import contextlib
import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int32

from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.hyperparameters import Hyperparameters
from tftjax.config.hyperparameters import hyperparameters as hyperparameters_of
from tftjax.config.loading import Config
from tftjax.data.prepared import Data, cardinalities
from tftjax.runtime import MESH_AXIS, OnMesh, device_mesh, mesh_for_epoch
from tftjax.train.step import (
    Program,
    TrainData,
    TrainState,
    compile_epoch,
    decided_by,
    init_state,
    make_program,
    rebuilt,
    train_data,
    train_epoch,
)

# Windows an epoch: XLA's fusion emitters save 30 us of each, and take some seconds longer to compile, once.
EMITTERS_FROM = 1000
HOST_COPIES = 6  # of a state, at most: old, new, stacked, in and out of the program, being written
Slot = TypeVar("Slot")
Results = list[tuple[TrainState, dict[str, Any]]]

log = logging.getLogger(__name__)


class Training(NamedTuple):
    """A member, as the loop and an engine see it.

    Attributes:
      name: the member's name, unique among those trained together.
      config: the member's config.
      data: the member's data; the same object for members that share a data set.
      directory: the member's run directory.
      functions: functions that were handed in, the same for members that are trained together.
    """

    name: str
    config: Config
    data: Data
    directory: Path
    functions: Functions = NO_FUNCTIONS


class Rounding(NamedTuple):
    """What decides the last bits of a member, besides its config; training goes on as it began.

    Attributes:
      devices: the number of devices that a member's sums are divided over.
      emitters: whether XLA's fusion emitters make the code: see `runtime.compiler_options`.
    """

    devices: int
    emitters: bool


def _check_type(config: Config) -> None:
    """Warns of numbers that the device computes no faster with."""
    if config.model.dtype != "float32" and jax.default_backend() == "cpu":
        log.warning(
            f"model.dtype {config.model.dtype} is slower on a CPU than float32, and rounds what it multiplies"
        )


def pays_for_emitters(members: Sequence[Training]) -> bool:
    """Whether an epoch is long enough for code that takes longer to compile and less time to run.

    The program is kept on the disk, and serves all runs of its shapes. Members of one program have one: where
    folds are shorter and longer, the longest decides.
    """
    return max(len(member.data.starts["train"]) for member in members) >= EMITTERS_FROM


@runtime_checkable
class Engine(Protocol):
    """The interface of an engine: see the head of this file."""

    program: Program
    rounding: Rounding

    def prepare(self, count: int) -> int: ...

    def epoch(
        self, states: Sequence[TrainState], hyperparameters: Sequence[Hyperparameters], live: Sequence[int]
    ) -> Results: ...


class OutOfMemory(Exception):
    """The devices' memory does not suffice for as many members as were asked for."""


class BatchEngine:
    """One member at a time, its batch divided over the devices.

    Args:
      members: a single member.
      begun: how it has begun, with the most devices to use; None takes all that the batch is divided over.
    """

    def __init__(self, members: Sequence[Training], begun: Rounding | None = None):
        (member,) = members
        config, data = member.config, member.data
        _check_type(config)
        mesh = device_mesh(config.train.batch_size, begun and begun.devices)
        program = make_program(config, data, mesh, member.functions)
        num_steps = len(data.starts["train"]) // config.train.batch_size
        mesh = mesh_for_epoch(mesh, program.layout.size, num_steps)
        self.program = program._replace(mesh=mesh)
        self.rounding = Rounding(mesh.size, begun.emitters if begun else pays_for_emitters(members))
        self._arrays = jax.device_put(train_data(data), NamedSharding(mesh, PartitionSpec()))
        self._run = compile_epoch(self.program, emitters=self.rounding.emitters)

    def prepare(self, count: int) -> int:
        """Compiles the program, unless it is: no epoch's time holds that. Takes one member at once."""
        values = jax.tree.map(np.float32, hyperparameters_of(self.program.config))
        self._run.executable(init_state(self.program, values, 0), values, self._arrays)
        return 1

    def epoch(
        self, states: Sequence[TrainState], hyperparameters: Sequence[Hyperparameters], live: Sequence[int]
    ) -> Results:
        """Trains an epoch: see the head of this file."""
        inputs = states[0], jax.tree.map(np.float32, hyperparameters[0])
        return [self._run(*inputs, self._arrays)]


class Executable(NamedTuple):
    """A program compiled for a number of slots.

    Attributes:
      run: states, hyperparameters, numbers of data sets and live, stacked by slot -> states and metrics; all
        on the host.
      num_slots: members that the program trains at once, at most.
      compile_seconds: the time that the compilation took.
      memory: bytes on one device while the program runs.
    """

    run: Callable
    num_slots: int
    compile_seconds: float
    memory: int


class MembersEngine:
    """Members divided over the devices, each trained on one: all at once on a GPU, in turn on a CPU.

    Args:
      members: members of one static config and data of one shape.
      begun: how they have begun, of which the devices are not used: a member's sums are never divided.
      busy: the number of devices that get members; None takes all. XLA compiles a program for one device to
        other bits than one for several: a process with one core has two devices, of which one is busy.
    """

    def __init__(
        self, members: Sequence[Training], begun: Rounding | None = None, *, busy: int | None = None
    ):
        self.rounding = Rounding(1, begun.emitters if begun else pays_for_emitters(members))
        self.datasets = tuple({id(member.data): member.data for member in members}.values())
        places = {id(data): place for place, data in enumerate(self.datasets)}
        self.numbers = [places[id(member.data)] for member in members]
        # A member is a run on one device: the devices are divided among members.
        first = members[0]
        _check_type(first.config)
        program = make_program(first.config, self.datasets[0], device_mesh(1), first.functions)
        counts = sorted({len(data.starts["val"]) for data in self.datasets})
        self.program = program._replace(val_counts=tuple(counts))
        self.mesh = device_mesh()
        self.busy = busy or self.mesh.size
        self.vectorised = jax.default_backend() != "cpu"
        self.executable: Executable | None = None

    def prepare(self, count: int) -> int:
        """Compiles the program for that many members, unless it is; returns the number that memory takes."""
        if self.executable is None or self.executable.num_slots != self.slots(count):
            with _memory_errors():
                self.executable = self.compile_slots(count)
        return self.members_that_fit(self.executable, count)

    def slots(self, num_members: int) -> int:
        """As many slots as members, rounded up to equal numbers on all devices."""
        return -(-num_members // self.busy) * self.mesh.size

    def epoch(
        self, states: Sequence[TrainState], hyperparameters: Sequence[Hyperparameters], live: Sequence[int]
    ) -> Results:
        """Trains an epoch: see the head of this file. Packs the members into fewer slots if that pays."""
        num_slots, started = self.executable.num_slots, time.perf_counter()
        slots = arrange(range(len(live)), num_slots, self.mesh.size, self.busy)
        filled = [place or 0 for place in slots]
        values = [jax.tree.map(np.float32, member) for member in hyperparameters]
        with _memory_errors():
            trained = self.executable.run(
                stack([states[place] for place in filled]),
                stack([values[place] for place in filled]),
                np.array([self.numbers[live[place]] for place in filled], np.int32),
                np.array([place is not None for place in slots]),
            )
        results = {place: unstack(trained, slot) for slot, place in enumerate(slots) if place is not None}
        ordered = [results[place] for place in range(len(live))]
        max_epochs = self.program.config.train.max_epochs
        epochs_left = sum(max_epochs - int(state.epoch) for state, _ in ordered)
        self.executable = self.repacked(len(live), epochs_left, time.perf_counter() - started)
        return ordered

    def compile_slots(self, num_members: int) -> Executable:
        """Compiles the program for the slots of that many members."""
        started, num_slots = time.perf_counter(), self.slots(num_members)
        values = jax.tree.map(np.float32, hyperparameters_of(self.program.config))
        example = init_state(self.program, values, 0), values, np.int32(0), np.bool_(True)
        slots = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_slots, *leaf.shape), leaf.dtype), example)
        arrays = jax.device_put(stack_data(self.datasets), NamedSharding(self.mesh, PartitionSpec()))
        members = compile_members(
            self.program, self.mesh, vectorised=self.vectorised, emitters=self.rounding.emitters
        )
        compiled = members.executable(*slots, arrays)

        def run(*slots):
            return compiled.run(*slots, arrays)

        return Executable(run, num_slots, time.perf_counter() - started, compiled.memory)

    def members_that_fit(self, executable: Executable, num_members: int) -> int:
        """The number of members that memory suffices for: those asked for, or fewer, but at least one."""
        needed, stats = executable.memory, self.mesh.devices.flat[0].memory_stats()
        if stats and "bytes_limit" in stats:
            available = stats["bytes_limit"] - stats["bytes_in_use"]
        else:
            # The devices share the memory of the host, where copies of the states lie too.
            state = init_state(self.program, hyperparameters_of(self.program.config), 0)
            state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            needed = needed * self.mesh.size + HOST_COPIES * num_members * state_bytes
            available = psutil.virtual_memory().available
        return num_members if needed <= available else max(1, int(num_members * available / needed))

    def repacked(self, num_live: int, epochs_left: int, seconds: float) -> Executable:
        """The program, or a smaller one if at least half its slots are frozen and that pays for compilation.

        It never pays where a device trains its members one by one: a frozen slot costs nothing.

        Args:
          num_live: members of the last epoch.
          epochs_left: epochs of all of them together, at most.
          seconds: the time that the last epoch took; a smaller program saves the share of the frozen slots.
        """
        executable = self.executable
        if not self.vectorised or not epochs_left or num_live > executable.num_slots // 2:
            return executable
        saved = epochs_left / num_live * seconds * (1 - num_live / executable.num_slots)
        if saved <= executable.compile_seconds:
            return executable
        log.info(
            f"{num_live} of {executable.num_slots} members go on: packed into a smaller program; that takes "
            f"about {executable.compile_seconds:.0f} s and saves up to {saved:.0f} s"
        )
        return self.compile_slots(num_live)


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Turns the errors of memory that is used up into `OutOfMemory`."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise OutOfMemory from error
        raise


def train_if_live(
    state: TrainState,
    hyperparameters: Hyperparameters,
    number: Int32[Array, ""],
    live: Bool[Array, ""],
    datasets: TrainData,
    *,
    program: Program,
) -> tuple[TrainState, dict[str, Array]]:
    """Trains one member for an epoch; a slot that is not live keeps its state, and its metrics are 0.

    Args:
      number: the place of the member's data set along the first axis of `datasets`.
    """

    def own_data():
        # A single data set is never copied: it may be large.
        place = 0 if datasets.num_train.shape[0] == 1 else number
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[place], datasets)

    epoch = jax.jit(functools.partial(train_epoch, program=program))  # traced once, for shapes and for use
    _, metrics = jax.eval_shape(epoch, state, hyperparameters, jax.eval_shape(own_data))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)
    return jax.lax.cond(live, lambda: epoch(state, hyperparameters, own_data()), lambda: (state, zeros))


def compile_members(program: Program, mesh: Mesh, *, vectorised: bool, emitters: bool) -> OnMesh:
    """`train_if_live` as a compiled function of (states, hyperparameters, numbers, live, datasets).

    All but the last have a leading axis of slots, a multiple of the mesh's size, divided over its devices. No
    member ever sees another, and no device waits for another.

    Args:
      program: the program of one member, on a mesh of one device.
      vectorised: whether a device computes all its members at once, as a GPU should; a CPU device has one
        thread: one member after another takes as long or less, needs the memory of one, and none for a slot
        that is not live.
    """

    def members(states, hyperparameters, numbers, live, datasets):
        member = functools.partial(train_if_live, datasets=datasets, program=program)
        slots = states, hyperparameters, numbers, live
        if vectorised:
            states, metrics = jax.vmap(member)(*slots)
        else:
            states, metrics = jax.lax.map(lambda slot: member(*slot), slots)
        return jax.tree.leaves(states), metrics

    divided, everywhere = PartitionSpec(MESH_AXIS), PartitionSpec()
    decides = inspect.unwrap(compile_members).__code__, train_if_live, vectorised, *decided_by(program)
    specs = divided, divided, divided, divided, everywhere
    return OnMesh(members, decides, mesh, specs, divided, rebuild=rebuilt, emitters=emitters)


def arrange(
    members: Sequence[Slot], num_slots: int, num_devices: int, busy: int | None = None
) -> list[Slot | None]:
    """Lays members into slots so that each device has as many, to within one; None is a slot left frozen.

    >>> arrange("abc", num_slots=6, num_devices=2)
    ['a', 'c', None, 'b', None, None]

    Args:
      num_slots: a multiple of num_devices, with room for the members on the busy ones.
      busy: the number of devices, from the first, that get members; None takes all.
    """
    busy = busy or num_devices
    per_device = num_slots // num_devices
    slots: list[Slot | None] = []
    for device in range(num_devices):
        share = list(members[device::busy]) if device < busy else []
        slots += [*share, *[None] * (per_device - len(share))]
    return slots


def stack(trees: Sequence[Any]) -> Any:
    """Stacks trees of equal structure, leaf by leaf, along a new first axis; on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def unstack(tree: Any, place: int) -> Any:
    """Takes one entry of the first axis of every leaf, copied: a view would keep the whole alive."""
    return jax.tree.map(lambda leaf: np.array(leaf[place]), tree)


def stack_data(datasets: Sequence[Data]) -> TrainData:
    """Data sets of equal `data_shapes` along a new first axis, their starts filled up to the most windows."""
    parts = [train_data(data) for data in datasets]
    for name in ("train_starts", "val_starts"):
        most = max(len(getattr(part, name)) for part in parts)
        for place, part in enumerate(parts):
            starts = getattr(part, name)
            padded = np.pad(starts, (0, most - len(starts)), mode="edge")
            parts[place] = part._replace(**{name: padded})
    return stack(parts)


def data_shapes(data: Data) -> dict[str, Any]:
    """Constants that a compiled program takes from a data set, as JSON; numbers of windows are none."""
    arrays = data.series._asdict().items()
    shapes = {name: [leaf.shape for leaf in jax.tree.leaves(part)] for name, part in arrays}
    return shapes | {"cardinalities": cardinalities(data.panel, data.encoding)}
