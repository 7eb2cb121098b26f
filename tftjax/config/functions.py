"""Functions that a user hands in: penalties, metrics, baselines and a head, without a change of the package.

A config, and with it every checkpoint, holds their names and the SHA-256 of their source, never their code.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from tftjax.config.section import Section, nearest
from tftjax.errors import UserError

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
EVERY_KIND = Functions._fields


def source_hash(function: Callable[..., Any]) -> str:
    """SHA-256 of a function's source, as hexadecimal text; of its compiled code where there is no source."""
    try:
        text = inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = repr(function).encode() if code is None else code.co_code + repr(code.co_consts).encode()
    return hashlib.sha256(text).hexdigest()


def record(functions: Functions) -> FunctionsConfig:
    """Names and source hashes of functions, for a config.

    Raises:
      UserError: something that cannot be called.
    """
    for kind, group in functions._asdict().items():
        for name, function in group.items():
            if not callable(function):
                raise UserError(f"{kind}: {name!r} is {function!r}, expected a function.")
    return FunctionsConfig(
        **{
            kind: {name: source_hash(function) for name, function in group.items()}
            for kind, group in functions._asdict().items()
        }
    )


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
                    f"{kind}: the run was made with a function named {name!r}, which a checkpoint does not"
                    f" hold. Hand it in again: {'head=f' if kind == 'head' else f'{kind}={{{name!r}: f}}'}."
                )
        for name, function in group.items():
            if name not in names:
                raise UserError(f"{kind}: the run has no function {name!r}. {nearest(name, tuple(names))}")
            if names[name] != source_hash(function):
                raise UserError(
                    f"{kind}: the source of {name!r} is not the one that the run was made with. Hand in that"
                    " one, or train under another name."
                )
