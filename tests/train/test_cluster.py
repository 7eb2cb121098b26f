"""Actors that die, hang, or do not suit: the driver's side, on a stand-in for Ray that computes at once.

Real processes are in tests/sweep/test_cluster.py.
"""

import itertools
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.errors import UserError
from tftjax.train import cluster
from tftjax.train.cluster import (
    Cluster,
    Facts,
    Layout,
    Ready,
    check_versions,
    chunk_size,
    engine_on,
    lay_out,
    seconds_allowed,
)
from tftjax.train.engine import MembersEngine, OutOfMemory
from tftjax.train.step import TrainState

OWN = {"python": "3.11.7", "jax": "0.10.2", "tftjax": "0.1.0"}


class Died(Exception):
    """Ray's RayError."""


class TaskError(Died):
    """What an actor's method raised."""

    def __init__(self, cause):
        super().__init__(cause)
        self.cause = cause


class Answer:
    """Ray's reference to what a call returns."""

    def __init__(self, value):
        self.value = value


class FakeRay:
    """Actors that add 1 to the states; `events` by (method, number of the call) say what happens instead.

    An exception is raised; "hang" never answers, unless its actor is killed; a value is returned.
    """

    def __init__(self, events=None):
        self.events, self.calls, self.killed, self.now = events or {}, [], [], 0.0
        self.counts = {
            "start": itertools.count(1),
            "compile": itertools.count(1),
            "train": itertools.count(1),
        }
        self.exceptions = SimpleNamespace(RayError=Died, RayTaskError=TaskError)

    def remote(self, _):
        return SimpleNamespace(options=lambda **pins: SimpleNamespace(remote=lambda: self.actor(pins)))

    def actor(self, pins):
        actor = SimpleNamespace(pins=pins)
        for method in self.counts:
            setattr(actor, method, SimpleNamespace(remote=self.method(method)))
        return actor

    def method(self, name):
        def call(*arguments):
            number = next(self.counts[name])
            self.calls.append((name, [list(part) for part in arguments] if name == "train" else arguments))
            if (name, number) in self.events:
                return Answer(self.events[name, number])
            if name == "start":
                return Answer(Facts(number, "node", cluster.versions()))
            if name == "compile":
                return Answer(Ready(arguments[1], vectorised=False))
            states, numbers, live = arguments
            return Answer(([*map(trained, states, numbers, live)], 99))

        return call

    def wait(self, answers, num_returns, timeout):
        self.now += 1.0
        return [answer for answer in answers if not isinstance(answer.value, str)][:num_returns], []

    def get(self, answer):
        if isinstance(answer.value, BaseException):
            raise answer.value
        return answer.value

    def kill(self, actor, no_restart):
        self.killed.append(actor)


def state(value):
    """A state that is one number."""
    return TrainState(*[np.float32(value)] * len(TrainState._fields))


def rates(value):
    return Hyperparameters(*[float(value)] * len(Hyperparameters._fields))


def trained(before, numbers, place):
    """What an epoch of the stand-in returns of a member."""
    return state(before.step + 1), {"loss": numbers.learning_rate, "place": place}


@pytest.fixture
def begun(monkeypatch):
    """`begun(events, count)`: a cluster of two actors, with a program for that many members each."""

    def begin(events=None, count=3):
        ray = FakeRay(events)
        monkeypatch.setattr(cluster.time, "monotonic", lambda: ray.now)
        actors = Cluster(ray, Layout(2, 1, 0))
        actors.load("members", count)
        return ray, actors

    return begin


def train(actors, live=(0, 1, 2, 4, 5)):
    """An epoch of five members of six; checks that each got its own, in order."""
    results = actors.epoch([state(10 * place) for place in live], [rates(place) for place in live], live)
    assert [after.step for after, _ in results] == [10 * place + 1 for place in live]
    assert [(metrics["loss"], metrics["place"]) for _, metrics in results] == [(p, p) for p in live]


def places(ray):
    """The members that were handed out, chunk by chunk."""
    return [arguments[2] for name, arguments in ray.calls if name == "train"]


def test_members_are_handed_out_as_actors_become_free(begun):
    ray, actors = begun()
    train(actors)
    train(actors, live=(3,))
    assert places(ray) == [[0, 1], [2], [4], [5], [3]]
    assert [name for name, _ in ray.calls].count("compile") == 2
    assert actors.workers[0].actor.pins == {"num_cpus": 1, "num_gpus": 0, "max_restarts": 0}
    train(actors, live=tuple(range(13)))
    assert places(ray)[5:9] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10],
    ]  # 3 at most, then half of those left


def test_no_more_than_memory_suffices_for(begun):
    ray, actors = begun({("compile", 1): Ready(1, True), ("compile", 2): Ready(1, True)})
    train(actors)
    assert all(len(chunk) == 1 for chunk in places(ray))


def test_a_smaller_program_takes_fewer(begun):
    smaller = [trained(state(10 * place), rates(place), place) for place in (0, 1, 2)]
    ray, actors = begun({("compile", n): Ready(3, True) for n in (1, 2)} | {("train", 1): (smaller, 2)})
    train(actors)
    assert places(ray)[0] == [0, 1, 2]
    assert sorted(worker.ready.takes for worker in actors.workers) == [2, 3]


@pytest.mark.parametrize("task", ["start", "compile", "train"])
@pytest.mark.parametrize("event", [Died("SIGKILL\nmore"), TaskError(jax.errors.JaxRuntimeError("INTERNAL"))])
def test_an_actor_that_dies_is_replaced(begun, task, event, caplog):
    ray, actors = begun({(task, 2): event})
    train(actors)
    assert len(ray.killed) == 1
    assert len([name for name, _ in ray.calls if name == "start"]) == 3
    reason = "Died: SIGKILL" if type(event) is Died else "JaxRuntimeError: INTERNAL"
    where = "that was to start" if task == "start" else "on node"
    ending = "; its 1 member(s) go on from their last epoch" if task == "train" else ""
    assert caplog.messages == [f"an actor {where} is lost ({reason}) and replaced{ending}"]
    train(actors)


def test_an_actor_that_hangs_is_replaced(begun, caplog):
    ray, actors = begun({("train", 3): "hang"})
    train(actors)  # one second a chunk, by the clock of the stand-in
    assert len(ray.killed) == 1
    # The slowest member took two seconds: 60 s and ten times that.
    assert "is lost (no answer for 81 s)" in caplog.messages[0]
    ray, actors = begun({("compile", 1): "hang"})
    train(actors)
    assert not ray.killed  # the other one does the work
    while not ray.killed:
        train(actors)
    assert "no answer for 1801 s" in caplog.messages[-1]


def test_death_again_and_again_is_no_accident(begun):
    events = {("train", number): Died("killed for memory") for number in range(1, 99)}
    _, actors = begun(events)
    with pytest.raises(
        UserError, match=r"again and again with the same 2 member.*on node: .*for memory.*--resume"
    ):
        train(actors)
    _, actors = begun({("compile", number): Died("no compiler") for number in range(1, 99)})
    with pytest.raises(UserError, match=r"before any had a program; .*no compiler.*--resume"):
        train(actors)


def test_memory_that_does_not_suffice_is_for_the_loop(begun):
    ray, actors = begun({("compile", 2): TaskError(OutOfMemory())})
    with pytest.raises(OutOfMemory):
        train(actors)
    actors.load("members", 1)
    train(actors)
    assert [arguments for name, arguments in ray.calls if name == "compile"][2:] == [("members", 1)] * 2


def test_errors_of_an_actor_are_told(begun):
    _, actors = begun({("start", 1): TaskError(UserError("its jax runs on the CPU"))})
    with pytest.raises(UserError, match=r"^its jax runs on the CPU"):
        train(actors)
    _, actors = begun({("train", 1): TaskError(TypeError("a bug"))})
    with pytest.raises(TaskError, match="a bug"):
        train(actors)
    _, actors = begun({("start", 2): Facts(1, "late", cluster.versions() | {"jax": "0.9"})})
    with pytest.raises(UserError, match=r"late: found jax 0\.9, expected jax"):
        train(actors)


def test_a_cluster_that_is_busy(begun):
    _, actors = begun({("start", 1): "hang", ("start", 2): "hang"})
    with pytest.raises(UserError, match=r"no actor has started within 12\d s: .*ray status.*--resume"):
        train(actors)


@pytest.mark.parametrize(("gpus", "at_once"), [(0, [2, 4]), (1, [2, 250])])
def test_an_actor_without_a_gpu_gets_few_at_once(gpus, at_once, monkeypatch):
    local = SimpleNamespace(program="program", rounding="rounding")
    monkeypatch.setattr(cluster, "MembersEngine", lambda members, begun: local)
    loaded = []
    actors = Cluster(SimpleNamespace(put=lambda given: given), Layout(2, 1, gpus))
    actors.load = lambda members, count: loaded.append((members, count))
    engine = cluster.RayEngine(actors, [])
    assert [engine.prepare(count) for count in (3, 500)] == [3, 500]
    assert loaded == [(([], "rounding"), count) for count in at_once]


# ---- Rules -----------------------------------------------------------------------------------------------


def test_versions():
    check_versions(OWN, {"a": OWN, "b": OWN | {"python": "3.11.2"}})
    other = {"b": OWN | {"python": "3.12.1"}, "c": OWN | {"jax": "0.10.1", "tftjax": None}}
    with pytest.raises(UserError) as refused:
        check_versions(OWN, {"a": OWN, **other})
    lines = str(refused.value).splitlines()
    assert lines[1:3] == [
        "  b: found python 3.12.1, expected python 3.11.7",
        "  c: found jax 0.10.1, tftjax not installed, expected jax 0.10.2, tftjax 0.1.0",
    ]
    own = cluster.versions()
    assert own["jax"] == jax.__version__
    assert own["python"] == sys.version.split()[0]


def test_layouts():
    nodes = {"a": {"CPU": 8.0, "GPU": 2.0}, "b": {"CPU": 5.0}, "head": {}}
    assert lay_out(nodes, None, 1, 0) == Layout(13, 1, 0)
    assert lay_out(nodes, None, 3, 0) == Layout(3, 3, 0)  # 2 on a, 1 on b
    assert lay_out(nodes, None, 1, None) == Layout(2, 1, 1)
    assert lay_out({"b": nodes["b"]}, 4, 1, None) == Layout(4, 1, 0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((None, 1, 3), "--actor-gpus 3: found 2 GPUs on the node that has the most, of 2"),
        ((None, 9, 0), "--actor-cpus 9: found 8 cores on the node"),
        ((3, 1, 1), "--actors 3: found room for 2, with --actor-cpus 1 and --actor-gpus 1"),
    ],
)
def test_room_that_nobody_has(asked, message):
    with pytest.raises(UserError, match=message):
        lay_out({"a": {"CPU": 8.0, "GPU": 2.0}, "b": {"CPU": 5.0}}, *asked)
    with pytest.raises(UserError, match="--actor-gpus 1: found no GPUs"):
        lay_out({"b": {"CPU": 5.0}}, None, 1, 1)


def test_chunks():
    waiting, chunks = 18, []
    while waiting:
        chunks.append(min(4, chunk_size(waiting, 18, 2, vectorised=False)))  # a program of four
        waiting -= chunks[-1]
    assert chunks == [4, 4, 4, 3, 1, 1, 1]
    assert [chunk_size(waiting, 17, 2, vectorised=True) for waiting in (17, 8)] == [9, 9]


def test_time_allowed():
    assert seconds_allowed("start", 0, 1.0) == float("inf")
    assert seconds_allowed("compile", 0, 1.0) == seconds_allowed("train", 3, None) == 1800
    assert seconds_allowed("train", 3, 2.0) == 120


# ---- Bad input -------------------------------------------------------------------------------------------


def join(place, **keywords):
    with engine_on(place, **keywords) as engine:
        return engine


def test_without_a_cluster_it_is_this_process():
    assert join(None) is MembersEngine
    assert "ray" not in sys.modules


@pytest.mark.parametrize("place", ["slurm", "ray:", "ray://host", "http://host:1", "ray://a b:1"])
def test_a_place_that_is_none(place):
    with pytest.raises(UserError, match=r"--on .*: expected ray, ray://HOST:PORT or auto"):
        join(place)


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--on auto: needs Ray, .*pip install 'tftjax\[cluster\]'"):
        join("auto")
