"""The compiled program of a sweep's members: slots, memory, and one call."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import psutil
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tftjax.config.hyperparameters import Hyperparameters, hyperparameters
from tftjax.data.prepared import Data, cardinalities
from tftjax.runtime import MESH_AXIS, device_mesh
from tftjax.sweep.plan import Member
from tftjax.sweep.step import arrange, compile_members, stack, unstack
from tftjax.train.step import Program, TrainData, TrainState, init_state, make_program, train_data

HOST_COPIES = 6  # of a state, at most: old, new, stacked, in and out of the program, being written


def stack_data(datasets: Sequence[Data]) -> TrainData:
    """Data sets of equal `data_shapes` along a new first axis, their starts filled up to the most windows."""
    parts = [train_data(data) for data in datasets]
    most = [max(len(part[place]) for part in parts) for place in (1, 2)]

    def filled(starts: np.ndarray, length: int) -> np.ndarray:
        return np.pad(starts, (0, length - len(starts)), mode="edge")

    padded = [
        part._replace(
            train_starts=filled(part.train_starts, most[0]), val_starts=filled(part.val_starts, most[1])
        )
        for part in parts
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *padded)


def data_shapes(data: Data) -> dict[str, Any]:
    """What of a data set is constant in a compiled program, as JSON holds it; numbers of windows are not."""
    shapes = {name: None if leaf is None else leaf.shape for name, leaf in data.series._asdict().items()}
    return shapes | {"cardinalities": cardinalities(data.panel, data.encoding)}


class MemberProgram(NamedTuple):
    """What members of one program share.

    Attributes:
      program: of a single member; its config is the first member's.
      mesh: the devices over which members are divided.
      vectorised: see `compile_members`.
      datasets: what members train on, each data set once.
      numbers: by name of a member, the place of its data set among them.
    """

    program: Program
    mesh: Mesh
    vectorised: bool
    datasets: tuple[Data, ...]
    numbers: dict[str, int]

    def data_of(self, member: Member) -> Data:
        """What a member trains on."""
        return self.datasets[self.numbers[member.name]]


class Executable(NamedTuple):
    """A program compiled for a number of slots.

    Attributes:
      run: states, hyperparameters, numbers of data sets and live, stacked by slot, on the host -> states and
        metrics there.
      memory: bytes on one device while it runs.
    """

    run: Callable
    num_slots: int
    compile_seconds: float
    memory: int


def member_program(members: Sequence[Member], data: Mapping[str, Data]) -> MemberProgram:
    """Prepares the program of members with one static config and data of one shape; computes nothing.

    Args:
      data: by name of a member; the same object for members that share a data set.
    """
    own = {member.name: data[member.name] for member in members}
    datasets = tuple({id(prepared): prepared for prepared in own.values()}.values())
    places = {id(prepared): place for place, prepared in enumerate(datasets)}
    numbers = {name: places[id(prepared)] for name, prepared in own.items()}
    # A member is a run on one device: the devices are divided among members.
    program = make_program(members[0].config, datasets[0], device_mesh(1))
    counts = sorted({len(prepared.starts["val"]) for prepared in datasets})
    program = program._replace(val_counts=tuple(counts))
    return MemberProgram(program, device_mesh(), jax.default_backend() != "cpu", datasets, numbers)


def rates(member: Member) -> Hyperparameters:
    """A member's hyperparameters, as the program takes them."""
    return jax.tree.map(np.float32, hyperparameters(member.config))


def initial_state(shared: MemberProgram, member: Member) -> TrainState:
    """A member's state before its first step: made on the host, one member at a time."""
    return init_state(shared.program, rates(member), member.config.train.seed)


def compile_slots(shared: MemberProgram, member: Member, num_members: int) -> Executable:
    """Compiles the program for as many slots as members, rounded up to equal numbers on all devices.

    Args:
      member: any of them, for the shapes.
    """
    started = time.perf_counter()
    num_slots = -(-num_members // shared.mesh.size) * shared.mesh.size
    divided = NamedSharding(shared.mesh, PartitionSpec(MESH_AXIS))
    example = initial_state(shared, member), rates(member), np.int32(0), np.bool_(True)
    slots = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_slots, *leaf.shape), leaf.dtype, sharding=divided), example
    )
    arrays = jax.device_put(stack_data(shared.datasets), NamedSharding(shared.mesh, PartitionSpec()))
    members = compile_members(shared.program, shared.mesh, vectorised=shared.vectorised)
    compiled = members.lower(*slots, arrays).compile()

    def run(states, hyperparameters, numbers, live):
        inputs = jax.device_put((states, hyperparameters, numbers, live), divided)
        return jax.device_get(compiled(*inputs, arrays))

    sizes = compiled.memory_analysis()
    memory = sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    return Executable(run, num_slots, time.perf_counter() - started, memory)


def run_epoch(
    shared: MemberProgram, executable: Executable, live: Sequence[Member], states: dict[str, TrainState]
) -> dict[str, tuple[TrainState, dict[str, Any]]]:
    """One epoch of every live member: its next state and metrics, by name."""
    slots = arrange(live, executable.num_slots, shared.mesh.size)
    filled = [member or live[0] for member in slots]
    trained = executable.run(
        stack([states[member.name] for member in filled]),
        stack([rates(member) for member in filled]),
        np.array([shared.numbers[member.name] for member in filled], np.int32),
        np.array([member is not None for member in slots]),
    )
    return {member.name: unstack(trained, place) for place, member in enumerate(slots) if member is not None}


def members_that_fit(shared: MemberProgram, executable: Executable, member: Member, num_members: int) -> int:
    """How many members memory suffices for: those asked for, or fewer, but at least one."""
    needed, stats = executable.memory, shared.mesh.devices[0].memory_stats()
    if stats and "bytes_limit" in stats:
        available = stats["bytes_limit"] - stats["bytes_in_use"]
    else:
        # The devices share the memory of the host, where copies of the states lie too.
        state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(initial_state(shared, member)))
        needed = needed * shared.mesh.size + HOST_COPIES * num_members * state_bytes
        available = psutil.virtual_memory().available
    return num_members if needed <= available else max(1, int(num_members * available / needed))


def repacking_saves(num_slots: int, num_live: int, rounds_left: float, seconds: float) -> float:
    """Seconds that a program of only the live slots saves at most, if a round's time is that of its slots."""
    return rounds_left * seconds * (1 - num_live / num_slots)
