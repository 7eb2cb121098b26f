"""A config from what a Python user gives: a config, a file or a dict, and keywords."""

import datetime
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tftjax.config.functions import Functions, record
from tftjax.config.loading import Config, all_keys, from_dict, read_users_json
from tftjax.config.section import nearest_key
from tftjax.data.loading import FRAME
from tftjax.errors import UserError

Given = Config | Mapping[str, Any] | str | Path | None
# Keywords that are no field: each stands for two, one for numbers and one for categories.
BY_KIND = {"known": ("known_real", "known_categorical"), "static": ("static_real", "static_categorical")}


def make_config(
    config: Given, given: Mapping[str, Any], functions: Functions, frame: pd.DataFrame | None = None
) -> Config:
    """A config with further fields, by their last name or dotted, and the functions that were handed in.

    Args:
      config: a `Config`, the path of a JSON file, a dict as in such a file, or None for the defaults.
      given: fields, values as in JSON; a path, a date, a tuple and a `pandas.Timestamp` will do too.
      frame: the table that was handed in; tells numbers from categories.

    Raises:
      UserError: an unknown or ambiguous field, or a value that is not allowed.
    """
    raw = _as_dict(config)
    for name, value in given.items():
        for key, part in _by_key(name, value, frame):
            *sections, leaf = key.split(".")
            holder = functools.reduce(lambda inner, section: _section(inner, section), sections, raw)
            holder[leaf] = _json(part)
    if frame is not None:
        raw.setdefault("data", {})["dataset"] = FRAME
    raw["functions"] = record(functions).model_dump(mode="json")
    return from_dict(raw, "the config")


def _section(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a config as a dict; an absent one, or null, becomes an empty one."""
    holder[name] = dict(holder.get(name) or {})
    return holder[name]


def _as_dict(config: Given) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, Config):
        return config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return dict(config)
    raw = read_users_json(Path(config), "a config")
    if not isinstance(raw, dict):
        raise UserError(f"{config}: found a {type(raw).__name__} at the top, expected an object: {{...}}.")
    return {"name": Path(config).stem, **raw}


def _by_key(name: str, value: Any, frame: pd.DataFrame | None) -> list[tuple[str, Any]]:
    """The dotted keys that a keyword stands for, with the value of each."""
    if name in BY_KIND:
        names, (real, categorical) = list(value), BY_KIND[name]
        numbers = [column for column in names if _is_number(column, frame)]
        others = [column for column in names if column not in numbers]
        return [(f"data.columns.{real}", numbers), (f"data.columns.{categorical}", others)]
    return [(key_of(name), value)]


def _is_number(column: str, frame: pd.DataFrame | None) -> bool:
    """Whether a column of the table holds numbers; one that the date gives is a category."""
    return (
        frame is not None
        and column in frame.columns
        and pd.api.types.is_numeric_dtype(frame[column])
        and not pd.api.types.is_bool_dtype(frame[column])
    )


def key_of(name: str) -> str:
    """The dotted key of a field that is given by its last name.

    >>> key_of("max_epochs"), key_of("data.end")
    ('train.max_epochs', 'data.end')

    Raises:
      UserError: no field or several have the name.
    """
    known = all_keys()
    keys = [key for key in known if key == name or key.rpartition(".")[2] == name]
    if name in keys:
        return name
    if len(keys) > 1:
        text = ", ".join(f'**{{"{key}": ...}}' for key in keys)
        raise UserError(f"{name}: {len(keys)} settings have this name. Give one of them in full: {text}.")
    if not keys:
        raise UserError(f"{name}: unknown setting. {nearest_key(name, (*known, *BY_KIND))}")
    return keys[0]


def _json(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): _json(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | pd.Index):
        return [_json(part) for part in value]
    if isinstance(value, datetime.datetime):  # a pandas.Timestamp too
        return value.date().isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value
