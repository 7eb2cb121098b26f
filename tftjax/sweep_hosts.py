"""Several processes, each training its own members of one sweep in a folder that all of them see.

The training program of a process spans its own devices only: no step waits for another process. JAX's
coordination service, in process 0, brings them together, holds them at barriers, and ends them all when one
has died. It is not made known to JAX (`jax.distributed.initialize`): a process would then see the devices of
all, and Orbax, waiting for the others in every write, takes their writes for its own.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from jax._src.distributed import State  # there is no public way to the service alone

from tftjax.config import UserError

HEARTBEAT_TIMEOUT = 30  # seconds without a sign of life, after which a process counts as dead
START_TIMEOUT = 300  # seconds to wait for the other processes to start
LONGEST_SWEEP = 100 * 24 * 3600  # seconds to wait for the other processes to end

Member = TypeVar("Member")


class Host(NamedTuple):
    """Which of how many processes this is, and its connection to the others."""

    index: int = 0
    count: int = 1
    connection: Any = None

    def share(self, members: Sequence[Member]) -> list[Member]:
        """The members that are this process's."""
        return list(members[self.index :: self.count])


ALONE = Host()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of several processes; each has an environment variable of JAX's name as its default."""
    environment = os.environ.get
    parser.add_argument(
        "--coordinator",
        default=environment("JAX_COORDINATOR_ADDRESS"),
        metavar="HOST:PORT",
        help="address of process 0, the same for all; --runs is a folder that all processes see",
    )
    parser.add_argument("--process-id", default=environment("JAX_PROCESS_ID"), metavar="I")
    parser.add_argument("--num-processes", default=environment("JAX_NUM_PROCESSES"), metavar="N")


def join(coordinator: str | None, process_id: str | None, num_processes: str | None) -> Host:
    """Meets the other processes; a single process where no coordinator is given.

    Raises:
      UserError: incomplete or impossible numbers, or the others did not come.
    """
    if coordinator is None:
        if process_id is not None or num_processes is not None:
            raise UserError("--process-id and --num-processes need --coordinator HOST:PORT of process 0.")
        return ALONE
    try:
        host = Host(int(process_id), int(num_processes))
    except (TypeError, ValueError):
        raise UserError(
            f"--coordinator {coordinator}: found --process-id {process_id} and --num-processes "
            f"{num_processes}, expected two whole numbers."
        ) from None
    if not 0 <= host.index < host.count or ":" not in coordinator:
        raise UserError(
            f"--coordinator {coordinator}, --process-id {host.index}, --num-processes {host.count}: expected "
            "HOST:PORT, and a process-id from 0 to num-processes - 1."
        )
    state = State()
    try:
        state.initialize(
            coordinator,
            host.count,
            host.index,
            cluster_detection_method="deactivate",
            initialization_timeout=START_TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--coordinator {coordinator}: the processes did not meet ({error}).") from error
    return host._replace(connection=state)


def wait_for_all(host: Host, moment: str) -> None:
    """Returns when every process has come to this moment; ends the process if one of them has died.

    Args:
      moment: a name that is used once.
    """
    if host.connection:
        host.connection.client.wait_at_barrier(f"tftjax-{moment}", timeout_in_ms=1000 * LONGEST_SWEEP)


def leave(host: Host) -> None:
    """Ends the connection, when all is done."""
    if host.connection:
        host.connection.shutdown()
