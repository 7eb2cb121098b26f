"""Fingerprints: what is the same has the same one, and whatever changes a function's result changes it."""

import functools
import operator
import os
import random
import subprocess
import sys
import threading
import types
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tftjax.runtime.fingerprint import Opaque, fingerprint


class Slotted:
    __slots__ = ("__weight",)

    def __init__(self, weight):
        self.__weight = weight

    def __call__(self, x):
        return self.__weight * x


class Meta(type):
    pass


def of(text, name="f", **scope):
    """A function from its text, in a module of its own."""
    module = types.ModuleType("users_own")
    vars(module).update(jnp=jnp, **scope)
    exec(text, vars(module))
    return vars(module)[name]


BASE = "def f(x):\n    return jnp.abs(x) + 1.0\n"
SAME = [
    "\n\n# A line above.\ndef f(x):\n\n    return jnp.abs(\n        x) + 1.0\n",
    "def f(x: int) -> float:\n    return jnp.abs(x) + 1.0\n",
]
OTHER = [
    "def f(x):\n    return jnp.abs(x) + 2.0\n",
    "def f(x):\n    return jnp.abs(x) - 1.0\n",
    "def f(x):\n    return jnp.exp(x) + 1.0\n",
    "def f(x, y=1):\n    return jnp.abs(x) + 1.0\n",
    "def f(x, y=2):\n    return jnp.abs(x) + 1.0\n",
    "def f(x, *, y=2):\n    return jnp.abs(x) + 1.0\n",
    "f = lambda x: (lambda: jnp.abs(x) + 1.0)()\n",
    "f = lambda x: (lambda: jnp.abs(x) + 3.0)()\n",
]


def test_where_code_stands_and_its_documentation_are_no_part():
    assert {fingerprint(of(text)) for text in SAME} == {fingerprint(of(BASE))}
    documented = "def f(x):\n    'Says {}.'\n    return jnp.abs(x) + 1.0\n"
    assert fingerprint(of(documented.format("this"))) == fingerprint(of(documented.format("that")))


def test_other_code_is_another():
    assert len({fingerprint(of(text)) for text in (BASE, *OTHER)}) == 1 + len(OTHER)


CALLER = "def f(x):\n    return g(x)\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (of(BASE), of(OTHER[0])),
        (functools.partial(of(OTHER[3]), y=1), functools.partial(of(OTHER[3]), y=3)),
        (jax.jit(of(BASE)), jax.jit(of(OTHER[0]))),
        (functools.cache(of(BASE)), functools.cache(of(OTHER[0]))),
        (functools.wraps(of(BASE))(lambda x: x), functools.wraps(of(BASE))(lambda x: 2 * x)),
        (jax.custom_jvp(of(BASE)), jax.custom_jvp(of(OTHER[0]))),
        (1.0, 1),
        (1.0, 2.0),
        ("a", b"a"),
        ([1, [2, 3]], [1, [2], 3]),
        ({"a": 1}, {"a": 2}),
        ({"a": of(BASE)}, {"a": of(OTHER[0])}),
        (np.float32(1), np.float64(1)),
        (np.arange(3), np.arange(3.0)),
        (np.arange(4), np.arange(4).reshape(2, 2)),
        (jnp.arange(3), jnp.arange(1, 4)),
        (np.exp, np.log),
        (types.SimpleNamespace(p=1), types.SimpleNamespace(p=2)),
        (operator.itemgetter(0), operator.itemgetter(1)),
        ({1: 2}.get, {1: 3}.get),
        ((1.0).__mul__, (2.0).__mul__),
        (np.arange(3).take, np.arange(1, 4).take),
        (Slotted(1), Slotted(2)),
        (type("A", (), {}), Meta("A", (), {})),
        (jnp.exp, jnp.log),
    ],
)
def test_a_global_and_a_closed_over_value_count(first, second):
    assert fingerprint(of(CALLER, g=first)) != fingerprint(of(CALLER, g=second))
    assert fingerprint((lambda g: lambda: g)(first)) != fingerprint((lambda g: lambda: g)(second))
    assert fingerprint(of(CALLER, g=first)) == fingerprint(of(CALLER, g=first))


def test_a_function_of_a_function_that_was_changed_at_run_time(monkeypatch):
    """Three calls down: in this project's own modules, and in a library where the code names it."""
    from tftjax.model import layers
    from tftjax.model.tft import TemporalFusionTransformer

    before = fingerprint(TemporalFusionTransformer)
    monkeypatch.setattr(layers, "EPSILON", 2e-3)
    changed = fingerprint(TemporalFusionTransformer)
    assert changed != before
    monkeypatch.setattr(layers.GateAddNorm, "__call__", lambda self, x, skip, noise: skip)
    assert fingerprint(TemporalFusionTransformer) not in (before, changed)
    monkeypatch.undo()
    assert fingerprint(TemporalFusionTransformer) == before
    monkeypatch.setattr(jax.nn, "sigmoid", jax.nn.tanh)
    assert fingerprint(TemporalFusionTransformer) != before


class Point(NamedTuple):
    x: float

    @property
    def doubled(self):
        return 2 * self.x


class Layer(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(x)


class Own:
    factor = 2.0

    def __init__(self, weight):
        self.weight = weight

    @property
    def doubled(self):
        return self.factor * self.weight

    def __call__(self, x):
        return self.doubled * x


def test_objects_count_by_class_and_by_what_they_hold(monkeypatch):
    assert fingerprint(Own(1.0)) == fingerprint(Own(1.0))
    assert (
        len({fingerprint(value) for value in (Own(1.0), Own(2.0), Point(1.0), (1.0,), Own(1.0).__call__)})
        == 5
    )
    before = fingerprint(Point(1.0))
    monkeypatch.setattr(Point, "doubled", property(lambda self: 3 * self.x))
    assert fingerprint(Point(1.0)) != before
    before = fingerprint(Own(1.0)), fingerprint(Layer)
    monkeypatch.setattr(Own, "factor", 3.0)
    assert fingerprint(Own(1.0)) != before[0]
    monkeypatch.setattr(Own, "factor", 2.0)
    monkeypatch.setattr(Own, "doubled", property(lambda self: self.weight))
    assert fingerprint(Own(1.0)) != before[0]
    monkeypatch.setattr(Layer, "__call__", lambda self, x: x)
    assert fingerprint(Layer) != before[1]


def test_what_refers_to_itself_comes_to_an_end():
    first, second = [1], [1]
    first.append(first)
    second.append([second])
    assert fingerprint(first) != fingerprint(second)


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        iter([1]),
        (n for n in [1]),
        np.random.default_rng(0),
        random.Random(0),
        np.frompyfunc(abs, 1, 1),
        of("def f(x):\n    from own_module import g\n    return g(x)\n"),
        of("def f(x):\n    def inner():\n        import own_module\n    return inner\n"),
    ],
)
def test_what_shows_nothing_is_refused(value):
    """Two of them are not the same, and nothing tells which is which."""
    with pytest.raises(Opaque):
        fingerprint(of(CALLER, g=value))


@pytest.mark.slow
def test_another_process_finds_the_same():
    code = (
        "from tftjax.runtime.fingerprint import fingerprint\n"
        "from tftjax.model.tft import TemporalFusionTransformer\n"
        "from tftjax.train.engine import train_if_live\n"
        "print(fingerprint(train_if_live, TemporalFusionTransformer))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
