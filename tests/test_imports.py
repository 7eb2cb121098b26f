"""Imports go one way, and nothing that runs code from a file is imported at all."""

import ast
import importlib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tftjax"
# Each imports only from those before it.
ORDER = (
    "errors",
    "files",
    "runtime",
    "config",
    "data",
    "model",
    "storage",
    "evaluate",
    "plots",
    "train",
    "interpret",
    "sweep",
    "walkforward",
    "predict",
    "report",
    "api",
)
# What nothing imports: the doors of the console, commands of one file, and tftjax inside of other libraries.
DOORS = {"__main__", "cli", "demo", "init", "integrations"}
# Commands of one file in the package of their subject.
COMMANDS = {"tftjax.evaluate.compare", "tftjax.predict.score"}
NEVER = {"torch", "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}


def imported(tree):
    """Full names of the modules that a module imports, at its top and in its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def own(name):
    """The project's modules that a module imports."""
    return {other for other in imported(MODULES[name]) if other.split(".")[0] == "tftjax"}


def test_the_parser_sees_the_imports():
    assert {"tftjax.errors", "tftjax.data.encoding", "tftjax.data.panel"} <= own("tftjax.data.windows")
    assert "tftjax.plots.forecasts" in own("tftjax.train.pictures")  # inside a function
    assert list(imported(ast.parse("import torch.nn as n"))) == ["torch.nn"]


def package(name):
    return name.split(".")[1]


def is_door(name):
    """What a command or the face for Python is made of: it may import all, and only doors import cli."""
    return name.endswith(".__main__") or name in COMMANDS or package(name) in {*DOORS, "api"}


FACES = ["tftjax", *(f"tftjax.{name}" for name in (*ORDER, *sorted(DOORS)) if (PACKAGE / name).is_dir())]


@pytest.mark.parametrize("name", FACES)
def test_a_face_resolves_what_it_names(name):
    face = importlib.import_module(name)
    assert face.__all__
    for public in face.__all__:
        getattr(face, public)
    with pytest.raises(AttributeError, match="no attribute 'private'"):
        face.private  # noqa: B018


def test_packages_use_of_each_other_what_their_faces_name():
    for name in MODULES:
        for other in own(name) - {"tftjax"}:
            if other.count(".") > 1 and package(other) != package(name) and not is_door(name):
                module = other.split(".")[2]
                face = importlib.import_module(f"tftjax.{package(other)}")
                assert module in face.__all__, f"{name} imports {other}"


def test_every_package_is_in_the_order():
    assert {package(name) for name in MODULES if name != "tftjax"} == {*ORDER, *DOORS}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_only_what_comes_before(name):
    if name == "tftjax":
        assert not own(name)
        return
    for other in own(name) - ({"tftjax"} if name in FACES else set()):
        assert other != "tftjax", f"{name} imports the package and not a module"
        assert is_door(name) or package(other) != "cli", f"{name} imports {other}"
        assert package(other) not in DOORS - {"cli"}, f"{name} imports {other}"
        if not name.endswith(".__main__") and package(name) not in DOORS and package(other) != "cli":
            assert ORDER.index(package(other)) <= ORDER.index(package(name)), f"{name} imports {other}"


def test_no_circle():
    tuple(TopologicalSorter({name: own(name) for name in MODULES}).static_order())


def test_evaluation_does_without_training():
    reached, waiting = set(), {"tftjax.evaluate.evaluation", "tftjax.predict.forecasts"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= own(name) - reached
    assert not reached & {
        "tftjax.train.run",
        "tftjax.train.step",
        "tftjax.train.optimizer",
        "tftjax.train.losses",
    }


def test_config_starts_without_jax():
    assert not {"jax", "flax", "optax"} & {
        name.split(".")[0] for name in imported(MODULES["tftjax.config.loading"])
    }


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_unpickles(name):
    assert not NEVER & {other.split(".")[0] for other in imported(MODULES[name])}
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Attribute):
            assert "pickle" not in node.attr
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__"}


def test_no_file_for_what_has_no_place():
    assert not [name for name in MODULES if name.split(".")[-1] in {"utils", "util", "helpers", "misc"}]
