"""The engine of actors on a Ray cluster: processes that hold compiled programs; the driver holds the states.

The driver is the process of the command. In every epoch it hands out the live members, a few at a time, to
the actors that are free, and takes back their next states. An actor that dies, hangs or is pre-empted is
replaced; what it was given and did not return goes to another one, from the states that the driver holds, so
that its death costs an epoch of these members. Only the driver writes files, and no folder need be shared.

Ray is imported when a cluster is asked for, and never before.
"""

import contextlib
import logging
import math
import os
import platform
import re
import secrets
import socket
import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from tftjax import runtime
from tftjax.config.hyperparameters import Hyperparameters
from tftjax.errors import UserError, listed
from tftjax.train.engine import Engine, MembersEngine, OutOfMemory, Results, Rounding, Training
from tftjax.train.step import TrainState

EngineType = Callable[[Sequence[Training], Rounding | None], Engine]

ANSWER_SECONDS = 5.0  # for an address to answer
START_SECONDS = 120.0  # for a process to start on a node, and for the first of all actors
COMPILE_SECONDS = (
    1800.0  # after which an actor that compiles counts as hung; and one in the first chunk of all
)
# A chunk counts as hung after PATIENCE times as long a member as the slowest so far, and SPARE_SECONDS.
PATIENCE, SPARE_SECONDS = 10.0, 60.0
# Members that an actor without a GPU gets at once. Its program copies the states of all its slots, frozen or
# not; and what is on the way lies in the driver's memory besides.
MOST_AT_ONCE = 4
MOST_DEATHS = 5  # of actors with one member in hand, and of actors in a row before any has a program
TOKEN = Path("~/.ray/auth_token")  # Ray's file of the token that a cluster asks for
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "tftjax")
NUMERIC = (  # jax's settings that decide bits, which an actor takes over from the driver
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)

log = logging.getLogger(__name__)


# ---- On an actor's side ----------------------------------------------------------------------------------


class Settings(NamedTuple):
    """Settings of an actor's process, made by the driver before its backend starts.

    Attributes:
      flags: XLA's flags.
      jax: settings of jax, by name.
      cores: virtual CPU devices that train; None on a GPU.
    """

    flags: str
    jax: dict[str, Any]
    cores: int | None


class Facts(NamedTuple):
    """An actor's process: its number on the node, the node's name, the versions of what decides bits."""

    pid: int
    node: str
    versions: dict[str, str | None]


class Ready(NamedTuple):
    """A program that an actor has compiled.

    Attributes:
      takes: members that the actor's memory suffices for.
      vectorised: whether all slots of a device are computed at once.
    """

    takes: int
    vectorised: bool


class Actor:
    """A process on a node, with a program. The driver calls its methods from afar, one after another."""

    def start(self, settings: Settings) -> Facts:
        """Starts the backend.

        Raises:
          UserError: it does not start, or is not the one that the actor is pinned to.
        """
        os.environ["XLA_FLAGS"] = settings.flags
        for name, value in settings.jax.items():
            jax.config.update(name, value)
        runtime.configure()
        if settings.cores is None and jax.default_backend() == "cpu":
            raise UserError(
                f"{platform.node()}: an actor has a GPU there, but its jax runs on the CPU. Install jax for"
                " GPUs on that node, or give --actor-gpus 0."
            )
        self._cores = settings.cores
        return Facts(os.getpid(), platform.node(), versions())

    def compile(self, given: tuple[Sequence[Training], Rounding], count: int) -> Ready:
        """Compiles the program of members, for `count` at once, to round as the driver says.

        Raises:
          OutOfMemory: see `Engine`.
        """
        self._engine = MembersEngine(*given, busy=self._cores)
        takes = self._engine.prepare(count)
        return Ready(takes, self._engine.vectorised)

    def train(
        self, states: Sequence[TrainState], hyperparameters: Sequence[Hyperparameters], live: Sequence[int]
    ) -> tuple[Results, int]:
        """Trains an epoch of some members; returns the results, and the slots of the program from now on."""
        results = self._engine.epoch(states, hyperparameters, live)
        return results, self._engine.executable.num_slots


def versions() -> dict[str, str | None]:
    """The versions, in this process, of what decides bits; None for a package that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


# ---- Rules -----------------------------------------------------------------------------------------------


def check_versions(own: Mapping[str, str | None], nodes: Mapping[str, Mapping[str, str | None]]) -> None:
    """Refuses nodes with other versions than the driver's; of Python the first two numbers count.

    Args:
      own: the driver's `versions`.
      nodes: those of each node, by its name.
    Raises:
      UserError: names the nodes and what differs there.
    """

    def kept(package: str, version: str | None) -> str:
        if version is None:
            return "not installed"
        return ".".join(version.split(".")[:2]) if package == "python" else version

    lines = []
    for node, theirs in nodes.items():
        differs = [name for name in own if kept(name, theirs.get(name)) != kept(name, own[name])]
        if differs:
            found = ", ".join(f"{name} {theirs.get(name) or 'not installed'}" for name in differs)
            expected = ", ".join(f"{name} {own[name]}" for name in differs)
            lines.append(f"\n  {node}: found {found}, expected {expected}")
    if lines:
        raise UserError(
            "the cluster has other versions than this process, so that results would differ or not be read:"
            f"{''.join(lines)}\nInstall the versions of this process there, or start from another"
            " environment."
        )


class Layout(NamedTuple):
    """The actors that a cluster is to hold, and the cores and GPUs that each is pinned to."""

    actors: int
    cpus: int
    gpus: int


def lay_out(
    nodes: Mapping[str, Mapping[str, float]], actors: int | None, cpus: int, gpus: int | None
) -> Layout:
    """Counts the actors that nodes have room for.

    Args:
      nodes: Ray's resources, by name of the node.
      actors: the number asked for; None takes as many as there is room for.
      cpus: cores of an actor.
      gpus: GPUs of an actor; None gives each one if any node has any.
    Raises:
      UserError: there is no room for them.
    """
    most = {
        kind: max((int(node.get(kind, 0)) for node in nodes.values()), default=0) for kind in ("CPU", "GPU")
    }
    if gpus is None:
        gpus = min(1, most["GPU"])
    for flag, asked, kind, words in (
        ("--actor-gpus", gpus, "GPU", "GPUs"),
        ("--actor-cpus", cpus, "CPU", "cores"),
    ):
        if asked > most[kind]:
            raise UserError(
                f"{flag} {asked}: found {most[kind] or 'no'} {words} on the node that has the most, of"
                f" {len(nodes)} in the cluster. Ask for fewer, or start the cluster with more."
            )
    room = sum(
        min(int(node.get("CPU", 0)) // cpus, int(node.get("GPU", 0)) // gpus if gpus else math.inf)
        for node in nodes.values()
    )
    if room < (actors or 1):
        raise UserError(
            f"--actors {actors or 1}: found room for {room}, with --actor-cpus {cpus} and --actor-gpus"
            f" {gpus}. Ask for fewer."
        )
    return Layout(actors or room, cpus, gpus)


def chunk_size(waiting: int, live: int, actors: int, *, vectorised: bool) -> int:
    """Members to hand out at once: on a CPU less and less towards the end, so that all actors end together.

    A vectorised program takes as long for few members as for many, so there each actor gets its share.

    Args:
      waiting: members that are still to be handed out in this epoch.
      live: all members of the epoch.
    """
    return -(-live // actors) if vectorised else max(1, waiting // actors)


def seconds_allowed(task: str, num_members: int, slowest: float | None) -> float:
    """The time after which an actor at a task counts as hung.

    Args:
      task: "start", "compile" or "train".
      num_members: members in hand.
      slowest: most seconds a member that a chunk has taken so far; None before the first.
    """
    if task == "start":
        return math.inf  # it may wait for others to leave the cluster
    if task == "compile" or slowest is None:
        return COMPILE_SECONDS
    return SPARE_SECONDS + PATIENCE * slowest * num_members


# ---- On the driver's side --------------------------------------------------------------------------------


@dataclass(eq=False)
class Worker:
    """An actor as the driver sees it.

    Attributes:
      actor: Ray's handle.
      task: "start", "compile", "train", or "" if it is free.
      answer: Ray's reference to what the task returns.
      began: when the task began, by the monotonic clock.
      chunk: places, among the epoch's members, of those in hand.
      facts: its process; None before it has started.
      ready: its program; None before it is compiled.
    """

    actor: Any
    task: str = ""
    answer: Any = None
    began: float = 0.0
    chunk: Sequence[int] = ()
    facts: Facts | None = None
    ready: Ready | None = None

    def begin(self, task: str, answer: Any, chunk: Sequence[int] = ()) -> None:
        """Notes a call."""
        self.task, self.answer, self.chunk, self.began = task, answer, chunk, time.monotonic()


class Lost(NamedTuple):
    """An answer that never comes, and why."""

    reason: str


class Cluster:
    """Actors on a cluster; they outlive a program and take the next one.

    Args:
      ray: the module, connected.
    """

    def __init__(self, ray: Any, layout: Layout):
        self.ray, self.layout = ray, layout
        self.workers: list[Worker] = []
        self._failed_starts, self._slowest, self._deaths = 0, None, Counter()
        self._program: tuple[Any, int] | None = None  # the members' reference, and how many at once

    def load(self, members: Any, count: int) -> None:
        """Lets every actor compile a program, without waiting for any.

        Args:
          members: Ray's reference to the members.
          count: members that an actor takes at once.
        """
        self._program, self._slowest = (members, count), None
        self._deaths.clear()
        if not self.workers:
            self.workers = [Worker(None) for _ in range(self.layout.actors)]
            for worker in self.workers:
                self._start(worker)
        for worker in self.workers:
            if worker.task != "start":
                self._compile(worker)

    def epoch(
        self, states: Sequence[TrainState], hyperparameters: Sequence[Hyperparameters], live: Sequence[int]
    ) -> Results:
        """Trains an epoch of the live members: see `Engine`."""
        waiting, results = deque(range(len(live))), {}
        states, hyperparameters = jax.device_get((list(states), list(hyperparameters)))
        while len(results) < len(live):
            for worker in self.workers:
                if not worker.task and waiting:
                    size = chunk_size(
                        len(waiting), len(live), len(self.workers), vectorised=worker.ready.vectorised
                    )
                    chunk = [waiting.popleft() for _ in range(min(size, len(waiting), worker.ready.takes))]
                    parts = [[values[i] for i in chunk] for values in (states, hyperparameters, live)]
                    worker.begin("train", worker.actor.train.remote(*parts), chunk)
            for worker, value in self._finished():
                if isinstance(value, Lost):
                    waiting.extendleft(reversed(worker.chunk))
                    self._lose(worker, value.reason, [live[place] for place in worker.chunk])
                elif worker.task == "train":
                    results |= self._take(worker, value, live)
                elif worker.task == "start":
                    worker.facts = value
                    check_versions(versions(), {value.node: value.versions})
                    self._compile(worker)
                else:
                    worker.ready, self._failed_starts = value, 0
                    worker.begin("", None)
        return [results[place] for place in range(len(live))]

    def _start(self, worker: Worker) -> None:
        """Starts an actor in the worker's place."""
        cpus, gpus = self.layout.cpus, self.layout.gpus
        kind = self.ray.remote(Actor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        worker.actor, worker.facts, worker.ready = kind.remote(), None, None
        worker.begin("start", worker.actor.start.remote(_settings(cpus, gpus)))

    def _compile(self, worker: Worker) -> None:
        worker.ready = None
        worker.begin("compile", worker.actor.compile.remote(*self._program))

    def _take(self, worker: Worker, value: Any, live: Sequence[int]) -> dict[int, Any]:
        """Takes an actor's results, by place, copied: a view would keep Ray's memory."""
        results, num_slots = jax.tree.map(np.array, value)
        seconds = (time.monotonic() - worker.began) / len(worker.chunk)
        self._slowest = max(self._slowest or 0.0, seconds)
        chunk = worker.chunk
        for place in chunk:
            self._deaths.pop(live[place], None)
        worker.ready = worker.ready._replace(takes=min(worker.ready.takes, int(num_slots)))
        worker.begin("", None)
        return dict(zip(chunk, results, strict=True))

    def _finished(self) -> list[tuple[Worker, Any]]:
        """Waits up to a second for an answer; returns who gave which, or is `Lost`.

        Raises:
          UserError, OutOfMemory: an actor raised it.
        """
        # The oldest first: of several answers one is taken, and no actor shall wait for ever.
        oldest = sorted(self.workers, key=lambda worker: worker.began)
        busy = {worker.answer: worker for worker in oldest if worker.task}
        answers, _ = self.ray.wait(list(busy), num_returns=1, timeout=1.0)
        found = [(busy[answer], self._get(answer)) for answer in answers]
        now = time.monotonic()
        for answer, worker in busy.items():
            seconds = now - worker.began
            overdue = seconds > seconds_allowed(worker.task, len(worker.chunk), self._slowest)
            if overdue and answer not in answers:
                found.append((worker, Lost(f"no answer for {seconds:.0f} s")))
        if not answers and all(worker.task == "start" for worker in self.workers):
            seconds = now - max(worker.began for worker in self.workers)
            if seconds > START_SECONDS:
                raise UserError(
                    f"no actor has started within {seconds:.0f} s: others use the cluster's cores or GPUs, or"
                    " its nodes are lost. `ray status` on its head says who; then --resume."
                )
        return found

    def _get(self, answer: Any) -> Any:
        """An answer, or `Lost`.

        Raises:
          UserError, OutOfMemory: what the actor raised.
        """
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, jax.errors.JaxRuntimeError):  # of a device, perhaps a broken one
                return Lost(_first_line(error.cause))
            raise (error.cause if isinstance(error.cause, UserError | OutOfMemory) else error) from None
        except self.ray.exceptions.RayError as error:
            return Lost(_first_line(error))

    def _lose(self, worker: Worker, reason: str, members: Sequence[int]) -> None:
        """Replaces an actor that is lost.

        Args:
          members: places, among all members, of those that it had in hand.
        Raises:
          UserError: actors are lost again and again, so that it is no accident.
        """
        where = f"on {worker.facts.node}" if worker.facts else "that was to start"
        self._failed_starts += worker.ready is None
        self._deaths.update(members)
        if self._failed_starts >= MOST_DEATHS + len(self.workers) or MOST_DEATHS in self._deaths.values():
            what = f"with the same {len(members)} member(s)" if members else "before any had a program"
            raise UserError(
                f"actors are lost again and again {what}; the last one, {where}: {reason}. Ray's logs on"
                " that node (session_latest/logs in Ray's temporary folder) say more; if its memory is used"
                " up, lower --actors. Then --resume."
            )
        goes_on = f"; its {len(members)} member(s) go on from their last epoch" if members else ""
        log.warning(f"an actor {where} is lost ({reason}) and replaced{goes_on}")
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(worker.actor, no_restart=True)
        self._start(worker)


class RayEngine:
    """Members on the actors of a cluster.

    Args:
      cluster: the actors.
      members: members of one static config and data of one shape.
      begun: how they have begun; see `MembersEngine`.
    """

    def __init__(self, cluster: Cluster, members: Sequence[Training], begun: Rounding | None = None):
        local = MembersEngine(members, begun)
        self.program, self.rounding = local.program, local.rounding
        self._cluster = cluster
        # Goes to each node once, whatever its actors.
        self._members = cluster.ray.put((list(members), self.rounding))

    def prepare(self, count: int) -> int:
        """Takes any number, as actors get a few at a time; they compile while the first epoch begins."""
        at_once = -(-count // self._cluster.layout.actors)
        self._cluster.load(
            self._members, at_once if self._cluster.layout.gpus else min(at_once, MOST_AT_ONCE)
        )
        return count

    def epoch(
        self, states: Sequence[TrainState], hyperparameters: Sequence[Hyperparameters], live: Sequence[int]
    ) -> Results:
        """Trains an epoch: see `Engine`."""
        return self._cluster.epoch(states, hyperparameters, live)


def _settings(cpus: int, gpus: int) -> Settings:
    """The settings by which an actor computes the bits that this process would."""
    # XLA compiles for one device to other bits than for several: where this process has several, so do they.
    devices = max(2, cpus) if jax.local_device_count("cpu") > 1 else cpus
    values = {name: getattr(jax.config, name) for name in NUMERIC}
    if not gpus:
        values["jax_platforms"] = "cpu"
    flags = runtime.with_devices(os.environ.get("XLA_FLAGS", ""), devices)
    return Settings(flags, values, None if gpus else cpus)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(" :.")


# ---- Connections -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def engine_on(
    place: str | None, actors: int | None = None, cpus: int = 1, gpus: int | None = None
) -> Iterator[EngineType]:
    """Gives the engine of a place, connected until the block ends; `runtime.configure` comes after it.

    Args:
      place: None for this process; "ray" starts a cluster on this machine, "ray://HOST:PORT" and "auto" join
        one.
      actors, cpus, gpus: see `lay_out`.
    Raises:
      UserError: Ray is not installed, there is no such cluster, or it does not suit.
    """
    if place is None:
        yield MembersEngine
        return
    ray = _import_ray(place)
    # On a GPU this process only evaluates: the memory is its actor's.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _connect(ray, place)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        resources = {_node_name(node): node["Resources"] for node in nodes}
        layout = lay_out(resources, actors, cpus, gpus)
        if place != "ray":
            check_versions(versions(), _node_versions(ray, [n for n in nodes if n["Resources"].get("CPU")]))
        yield partial(RayEngine, Cluster(ray, layout))
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise UserError(
            f"--on {place}: the cluster is lost ({_first_line(error)}). Start it anew, then --resume."
        ) from error
    finally:
        ray.shutdown()


def _import_ray(place: str) -> ModuleType:
    """The module, which listens on loopback alone if it is to start a cluster."""
    if not re.fullmatch(r"ray|auto|ray://[^/\s]+:\d{1,5}", place):
        raise UserError(f"--on {place}: expected ray, ray://HOST:PORT or auto.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", f"{ANSWER_SECONDS:.0f}")
    if place == "ray":
        # Read when Ray is imported: without it, a cluster of one machine listens on all interfaces too.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ} or TOKEN.expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # unset, a client sends none
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"--on {place}: needs Ray, which is not installed ({error}). Install the extra: pip install"
            " 'tftjax[cluster]'."
        ) from error
    return ray


def _connect(ray: ModuleType, place: str) -> None:
    """Starts or joins a cluster.

    Raises:
      UserError: it does not answer, or is refused.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = _known_address() if place == "auto" else place
    try:
        if place == "ray":
            ray.init("local", num_cpus=runtime.available_cores(), include_dashboard=False, **quiet)
            return
        if ":" in address:
            host, port = address.removeprefix("ray://").rsplit(":", 1)
            with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS):
                pass
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # what the error says too
            ray.init(address, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"--on {place}: no cluster to use{'' if address == place else f' at {address}'}"
            f" ({_first_line(error)}). Start one (`ray start --head` on its first machine; the client's port"
            " is 10001), or give its address; one that asks for a token takes that of RAY_AUTH_TOKEN or"
            f" {TOKEN}."
        ) from error


def _known_address() -> str:
    """The address of the cluster that this machine is part of; "auto" where Ray has noted none."""
    noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    with contextlib.suppress(OSError):
        return os.environ.get("RAY_ADDRESS") or noted.read_text(encoding="utf-8").strip() or "auto"
    return "auto"


def _node_name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def _node_versions(ray: ModuleType, nodes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str | None]]:
    """The `versions` of nodes, by name; asked for by functions that need no tftjax there.

    Raises:
      UserError: a node does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    calls = {"python": (platform.python_version,)} | {name: (metadata.version, name) for name in PACKAGES}
    asked = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        for name, (function, *arguments) in calls.items():
            remote = ray.remote(function).options(num_cpus=0, scheduling_strategy=here)
            asked[_node_name(node), name] = remote.remote(*arguments)
    _, silent = ray.wait(list(asked.values()), num_returns=len(asked), timeout=START_SECONDS)
    if silent:
        names = sorted({node for (node, _), answer in asked.items() if answer in silent})
        raise UserError(
            f"the cluster's nodes {listed(names)} do not answer. `ray status` on its head says more."
        )
    found: dict[str, dict[str, str | None]] = {}
    for (node, name), answer in asked.items():
        try:
            found.setdefault(node, {})[name] = ray.get(answer)
        except metadata.PackageNotFoundError:
            found[node][name] = None
    return found
