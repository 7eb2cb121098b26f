"""Functions that a user hands in: penalties, metrics, baselines and a head, without a change of the package.

A config, and with it every checkpoint, holds their names and the SHA-256 of their source, never their code.
"""

import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from tftjax.config.section import Section, nearest
from tftjax.errors import UserError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object, in its repr

Sources = dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


class FunctionsConfig(Section):
    """The functions that were handed in: by name, the SHA-256 of each one's source."""

    penalties: Sources = Field({}, description="terms of the loss beside PENALTIES; written by tftjax.fit")
    metrics: Sources = Field({}, description="metrics beside METRICS; written by tftjax.fit")
    baselines: Sources = Field({}, description="baselines beside BASELINES; written by tftjax.fit")
    head: Sources = Field({}, max_length=1, description="the quantile head; written by tftjax.fit")


class Functions(NamedTuple):
    """Functions that were handed in, by name.

    Attributes:
      penalties: (forecast [B P Q], quantiles, hyperparameters) -> scalar, in jax; see `train/losses.py`.
      metrics: (forecast [N P Q], target [N P], quantiles) -> a number, numbers by name, or None.
      baselines: `Task` -> forecast [N P Q]; see `evaluate/baselines.py`.
      head: (numbers [Q P B], quantiles) -> quantiles [Q P B], in jax; at most one; see `model/heads.py`.
    """

    penalties: Mapping[str, Callable[..., Any]] = {}
    metrics: Mapping[str, Callable[..., Any]] = {}
    baselines: Mapping[str, Callable[..., Any]] = {}
    head: Mapping[str, Callable[..., Any]] = {}


NO_FUNCTIONS = Functions()
# How functions of each kind are called.
ARGUMENTS = {
    "penalties": ("forecast", "quantiles", "hyperparameters"),
    "metrics": ("forecast", "target", "quantiles"),
    "baselines": ("task",),
    "head": ("numbers", "quantiles"),
}
EVERY_KIND = Functions._fields
IN_TRAINING = ("penalties", "head")  # the kinds that the parameters depend on


def source_hash(function: Callable[..., Any]) -> str:
    """SHA-256 of a function's source, as hexadecimal text.

    Of a `functools.partial` the arguments count too, of an object that can be called its class, and of a
    function without source, or a lambda, whose line holds other things, its compiled code. The same source
    has the same hash in every process.
    """
    return hashlib.sha256(_source(function)).hexdigest()


def _source(function: Callable[..., Any]) -> bytes:
    if isinstance(function, functools.partial):
        given = function.args, sorted(function.keywords.items())
        return _source(function.func) + _ADDRESS.sub("", repr(given)).encode()
    code = getattr(function, "__code__", None)
    # Of `eval` Python 3.13 finds the whole program.
    if code is not None and (code.co_filename == "<string>" or code.co_name == "<lambda>"):
        return _code(code)
    # An object is known by its class; numpy's ufuncs and the like by their names.
    named = (
        function if code or isinstance(function, type) or hasattr(function, "__name__") else type(function)
    )
    try:
        return inspect.getsource(named).encode()
    except (OSError, TypeError):
        return _ADDRESS.sub("", repr(named)).encode() if code is None else _code(code)


def _code(code: types.CodeType) -> bytes:
    """Compiled code with its names and constants, those of functions inside included."""
    constants = [
        _code(part)
        if isinstance(part, types.CodeType)
        # The order of a set is another one in every process.
        else repr(sorted(map(repr, part)) if isinstance(part, frozenset) else part).encode()
        for part in code.co_consts
    ]
    return b"\n".join([code.co_code, repr(code.co_names).encode(), *constants])


def record(functions: Functions) -> FunctionsConfig:
    """Names and source hashes of functions, for a config.

    Raises:
      UserError: something that cannot be called, or not with what it is called with.
    """
    for kind, group in functions._asdict().items():
        for name, function in group.items():
            if not callable(function):
                raise UserError(f"{kind}: {name!r} is {function!r}, expected a function.")
            _check_arguments(kind, name, function)
    return FunctionsConfig(
        **{
            kind: {name: source_hash(function) for name, function in group.items()}
            for kind, group in functions._asdict().items()
        }
    )


def _check_arguments(kind: str, name: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(*ARGUMENTS[kind])
    except TypeError as error:
        raise UserError(f"{kind}: {name!r} {_called(kind)}: {error}. Give it these arguments.") from error
    except ValueError:  # of a function in C: none is known
        return


def _called(kind: str) -> str:
    return f"is called as f({', '.join(ARGUMENTS[kind])})"


def call(
    kind: str,
    name: str,
    function: Callable[..., Any],
    *arguments: Any,
    passed_on: type[Exception] = UserError,
) -> Any:
    """What a function that was handed in returns.

    Args:
      passed_on: errors that are for the caller.

    Raises:
      UserError: it raises an error.
    """
    try:
        return function(*arguments)
    except (UserError, passed_on):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"{kind}: {name!r} {_called(kind)} and failed ({found}). Correct it.") from error


def check_at_hand(recorded: FunctionsConfig, functions: Functions, kinds: tuple[str, ...] = ()) -> None:
    """Refuses functions that are not those of a run.

    Args:
      recorded: the functions of the run's config.
      functions: the functions at hand; those of another name are refused.
      kinds: kinds of which every recorded function is needed.

    Raises:
      UserError: names the function that is missing, unknown, or has another source.
    """
    for kind, group in functions._asdict().items():
        names = getattr(recorded, kind)
        for name in names:
            if kind in kinds and name not in group:
                raise UserError(
                    f"{kind}: the run was made with a function named {name!r}, which no file of it holds."
                    " Hand it in again, in Python, to tftjax.fit or tftjax.load:"
                    f" {'head=f' if kind == 'head' else f'{kind}={{{name!r}: f}}'}."
                )
        for name, function in group.items():
            if name not in names:
                raise UserError(f"{kind}: the run has no function {name!r}. {nearest(name, tuple(names))}")
            if names[name] != source_hash(function):
                raise UserError(
                    f"{kind}: the source of {name!r} is not the one that the run was made with. Hand in that"
                    " one, or train under another name."
                )
