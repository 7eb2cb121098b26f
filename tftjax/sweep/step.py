"""Many members of a sweep in one compiled program, an epoch a call.

Members share the static config, and differ in their state, their hyperparameters, and the data set that they
take. They lie in slots, divided over a mesh of devices; no member ever sees another, and no device waits for
another.
"""

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int32

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.runtime import MESH_AXIS, compiler_options
from tftjax.train.step import Program, TrainData, TrainState, train_epoch

Member = TypeVar("Member")


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
      number: of the member's data set, along the first axis of `datasets`.
    """

    def epoch():
        # A single data set is never copied: it may be large.
        place = 0 if datasets.num_train.shape[0] == 1 else number
        data = jax.tree.map(lambda leaf: jnp.asarray(leaf)[place], datasets)
        return train_epoch(state, hyperparameters, data, program=program)

    _, metrics = jax.eval_shape(epoch)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)
    return jax.lax.cond(live, epoch, lambda: (state, zeros))


def compile_members(program: Program, mesh: Mesh, *, vectorised: bool):
    """Returns `train_if_live` as a compiled function of (states, hyperparameters, numbers, live, datasets).

    All but the last have a leading axis of slots, a multiple of the mesh's size, divided over its devices.

    Args:
      program: of one member, on a mesh of one device.
      mesh: the devices.
      vectorised: whether a device computes all its members at once, as a GPU should; a CPU device has one
        thread: one member after another takes as long or less, needs the memory of one, and none for a slot
        that is not live.
    """

    def members(states, hyperparameters, numbers, live, datasets):
        member = functools.partial(train_if_live, datasets=datasets, program=program)
        if vectorised:
            return jax.vmap(member)(states, hyperparameters, numbers, live)
        return jax.lax.map(lambda slot: member(*slot), (states, hyperparameters, numbers, live))

    divided, everywhere = PartitionSpec(MESH_AXIS), PartitionSpec()
    sharded = jax.shard_map(
        members,
        mesh=mesh,
        in_specs=(divided, divided, divided, divided, everywhere),
        out_specs=divided,
        check_vma=False,
    )
    return jax.jit(sharded, compiler_options=compiler_options())


def arrange(members: Sequence[Member], num_slots: int, num_devices: int) -> list[Member | None]:
    """Lays members into slots so that each device has as many, to within one; None is a slot left frozen.

    Args:
      num_slots: a multiple of num_devices, at least as many as members.
    """
    per_device = num_slots // num_devices
    slots: list[Member | None] = []
    for device in range(num_devices):
        mine = list(members[device::num_devices])
        slots += [*mine, *[None] * (per_device - len(mine))]
    return slots


def stack(trees: Sequence[Any]) -> Any:
    """Joins trees of equal structure, leaf by leaf, along a new first axis; on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def unstack(tree: Any, place: int) -> Any:
    """Returns one entry of the first axis of every leaf, copied: a view would keep the whole alive."""
    return jax.tree.map(lambda leaf: np.array(leaf[place]), tree)
