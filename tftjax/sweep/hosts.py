"""Several processes, each training its own members of one sweep in a folder that all of them see.

The training program of a process spans its own devices only: no step waits for another process. What is left
is to meet, to wait for each other now and then, and to end when one has died. A line of text a message does
it: process 0 listens at the coordinator's address, and the others connect to it. JAX's own coordination
service does the same, but ends a process by an abort in C++ with a stack trace, whatever has happened
(an address in use, a process that did not come, a process that ended early by an error of its own).
"""

import argparse
import contextlib
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from tftjax.errors import UserError

HEARTBEAT = 5  # seconds between signs of life
HEARTBEAT_TIMEOUT = 30  # seconds without one, after which a process counts as dead
START_TIMEOUT = 300  # seconds to wait for the other processes to start
GRACE = 10  # seconds to end by oneself when another has died: after Ctrl-C all of them are saving
_ALIVE, _LEFT = "alive", "left"

T = TypeVar("T")


class Others:
    """Lines from and to the other processes; it ends this process when one of them has died.

    Args:
      sockets: by the process's number: process 0 has one for each of the others, they have one for it.
    """

    def __init__(self, sockets: dict[int, socket.socket]):
        self.sockets = sockets
        self.arrived: queue.Queue[tuple[int, str | None]] = queue.Queue()  # None: it is lost
        self.left = threading.Event()
        self._sending = threading.Lock()
        for index in sockets:
            threading.Thread(target=self._listen, args=(index,), daemon=True).start()
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def send(self, word: str) -> None:
        """Sends a line to all; that one of them is lost is for who listens to it to notice."""
        with self._sending:
            for other in self.sockets.values():
                with contextlib.suppress(OSError):
                    other.sendall(f"{word}\n".encode())

    def _keep_alive(self) -> None:
        while not self.left.wait(HEARTBEAT):
            self.send(_ALIVE)

    def _listen(self, index: int) -> None:
        with self.sockets[index] as other, contextlib.suppress(OSError):
            other.settimeout(HEARTBEAT_TIMEOUT)
            lines = other.makefile(encoding="utf-8", errors="replace")
            for word in map(str.strip, lines):
                if word == _LEFT:
                    return
                if word != _ALIVE:
                    self.arrived.put((index, word))
        if self.left.is_set():
            return
        self.arrived.put((index, None))
        # The main thread is perhaps in a compiled program, where nothing reaches it.
        if not self.left.wait(GRACE):
            print(f"error: {_lost(index)}", file=sys.stderr, flush=True)
            os._exit(2)


class Host(NamedTuple):
    """This process's place among several, and its connection to the others."""

    index: int = 0
    count: int = 1
    connection: Others | None = None

    def share(self, members: Sequence[T]) -> list[T]:
        """The members that this process trains."""
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
    parser.add_argument(
        "--process-id", default=environment("JAX_PROCESS_ID"), metavar="I", help="number of this one, from 0"
    )
    parser.add_argument(
        "--num-processes", default=environment("JAX_NUM_PROCESSES"), metavar="N", help="how many there are"
    )


def join(coordinator: str | None, process_id: str | None, num_processes: str | None) -> Host:
    """Meets the other processes; a single process where no coordinator is given.

    Raises:
      UserError: incomplete or impossible numbers, an address that cannot be used, or the others did not come.
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
    name, _, port = coordinator.rpartition(":")
    is_address = name and re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 2**16
    if not is_address or not 0 <= host.index < host.count:
        raise UserError(
            f"--coordinator {coordinator}, --process-id {host.index}, --num-processes {host.count}: expected "
            "HOST:PORT with a port up to 65535, and a process-id from 0 to num-processes - 1."
        )
    try:
        sockets = _connect(host, name.strip("[]"), int(port)) if host.index else _accept(host, int(port))
    except OSError as error:
        raise UserError(
            f"--coordinator {coordinator}: cannot be used by process {host.index} ({error}). Give the address"
            " of process 0 and a free port of its machine, and start all processes within"
            f" {START_TIMEOUT} s."
        ) from error
    host = host._replace(connection=Others(sockets))
    wait_for_all(host, "met")
    return host


def _accept(host: Host, port: int) -> dict[int, socket.socket]:
    """Process 0's sockets to all the others.

    Raises:
      UserError: they did not come, or do not fit together.
      OSError: the port cannot be listened at.
    """
    deadline = time.monotonic() + START_TIMEOUT
    sockets: dict[int, socket.socket] = {}
    with _listening(port) as server, contextlib.ExitStack() as opened:
        while len(sockets) < host.count - 1:
            server.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                other, _ = server.accept()
            except TimeoutError:
                missing = [str(index) for index in range(1, host.count) if index not in sockets]
                raise UserError(
                    f"--num-processes {host.count}: process {', '.join(missing)} did not come within "
                    f"{START_TIMEOUT} s. Start all processes with the same --coordinator."
                ) from None
            opened.enter_context(other)
            hello = re.fullmatch(r"tftjax (\d+) (\d+)\n", _read_line(other))
            if hello is None:
                other.close()  # a stranger
                continue
            index, count = map(int, hello.groups())
            if count != host.count or index in sockets:
                raise UserError(
                    f"--num-processes {host.count}: found a process with --process-id {index} and "
                    f"--num-processes {count}, expected each process-id once and the same number in all."
                )
            sockets[index] = other
        opened.pop_all()
    return sockets


def _listening(port: int) -> socket.socket:
    """A socket that listens on all of the machine's addresses."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _connect(host: Host, name: str, port: int) -> dict[int, socket.socket]:
    """Another process's socket to process 0, which may start later.

    Raises:
      OSError: there is none.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            first = socket.create_connection((name, port), timeout=HEARTBEAT_TIMEOUT)
            first.sendall(f"tftjax {host.index} {host.count}\n".encode())
            return {0: first}
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _read_line(other: socket.socket) -> str:
    """The first line that comes, as far as it is short and comes soon; no byte beyond it."""
    other.settimeout(HEARTBEAT)
    line = b""
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n") and len(line) < 100 and (byte := other.recv(1)):
            line += byte
    return line.decode(errors="replace")


def _lost(index: int) -> str:
    return (
        f"process {index} of the sweep has ended early, or cannot be reached, so this one ends too. Its own "
        "output says why; then start all processes again with --resume."
    )


def wait_for_all(host: Host, moment: str) -> None:
    """Returns when every process has come to this moment.

    Args:
      moment: a name without a line break that is used once.
    Raises:
      UserError: one of them has died, or is somewhere else: it was given another command.
    """
    others = host.connection
    if others is None:
        return
    if host.index:
        others.send(moment)
    awaited = set(others.sockets)
    while awaited:
        index, word = others.arrived.get()
        if word != moment:
            others.left.set()  # this process ends by itself
        if word is None:
            raise UserError(_lost(index))
        if word != moment:
            raise UserError(
                f"process {index} is at {word!r}, this one, process {host.index}, at {moment!r}: they train "
                "other members. Start all processes with the same command, but for --process-id."
            )
        awaited.remove(index)
    if host.index == 0:
        others.send(moment)


@contextlib.contextmanager
def joined(arguments: argparse.Namespace) -> Iterator[Host]:
    """Meets the other processes that the flags of `add_arguments` name, and leaves them when all is done.

    After an error the connection breaks, which tells the others.

    Raises:
      UserError: see `join`.
    """
    host = join(arguments.coordinator, arguments.process_id, arguments.num_processes)
    yield host
    leave(host)


def leave(host: Host) -> None:
    """Ends the connection, when all is done."""
    if host.connection:
        host.connection.left.set()
        host.connection.send(_LEFT)
