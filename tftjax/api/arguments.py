"""A config from what a Python user gives: a config, a file or a dict, and keywords."""

import datetime
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tftjax.config.functions import Functions, record
from tftjax.config.loading import BEGIN_WITH, Config, all_keys, from_dict, read_users_json, set_value
from tftjax.config.section import nearest_key, show
from tftjax.data.feature_sets import known_input
from tftjax.data.loading import FRAME, find_dataset
from tftjax.data.tables.frames import PARQUET, to_pandas
from tftjax.data.tables.inspection import read_any
from tftjax.errors import UserError

Given = Config | Mapping[str, Any] | str | Path | None
# Keywords that are no field: each stands for two, one for numbers and one for categories.
BY_KIND = {"known": ("known_real", "known_categorical"), "static": ("static_real", "static_categorical")}


def make_config(
    config: Given, given: Mapping[str, Any], functions: Functions, frame: pd.DataFrame | None = None
) -> Config:
    """A config with further fields, by their last name or dotted, and the functions that were handed in.

    Args:
      config: a `Config`, the path of a JSON file, a dict as in such a file, or None for the defaults and
        BEGIN_WITH.
      given: fields, values as in JSON; paths, dates, tuples and arrays will do too.
      functions: functions that were handed in; of a kind of which there is none, those that the config
        names stay, and a training asks for them.
      frame: the table that was handed in; None reads the one that the config names, where numbers and
        categories have to be told apart.

    Raises:
      UserError: an unknown or ambiguous field, or a value that is not allowed.
    """
    raw = _as_dict(config)
    if config is None and not functions.head:
        raw = {name: dict(section) for name, section in BEGIN_WITH.items()}
    for name, value in given.items():
        if name not in BY_KIND:
            set_value(raw, key_of(name), as_json(value, name), "the config")
    if frame is not None:
        set_value(raw, "data.dataset", FRAME, "the config")
    for name, (real, categorical) in BY_KIND.items():
        if name in given:
            columns = as_json([given[name]] if isinstance(given[name], str) else given[name], name)
            numbers = _numbers(columns, from_dict(raw, "the config"), frame)
            set_value(raw, f"data.columns.{real}", numbers, "the config")
            others = [column for column in columns if column not in numbers]
            set_value(raw, f"data.columns.{categorical}", others, "the config")
    for kind, hashes in record(functions).model_dump(mode="json").items():
        if hashes:
            set_value(raw, f"functions.{kind}", hashes, "the config")
    return from_dict(raw, "the config")


def frames_of(vintages: Any) -> dict[str, pd.DataFrame]:
    """Vintages by name as frames of pandas; of None there are none.

    Raises:
      UserError: no dict, or something in it that is no table.
    """
    if vintages is not None and not isinstance(vintages, Mapping):
        raise UserError(
            f"vintages: found {type(vintages).__name__}, expected a dict of frames by the names of series."
            ' Write vintages={"cpi": frame}.'
        )
    return {str(name): to_pandas(frame, f"vintages[{name!r}]") for name, frame in (vintages or {}).items()}


def _as_dict(config: Given) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, Config):
        return config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return as_json(config, "the config")
    if not isinstance(config, str | Path) or Path(config).suffix.lower() in (".csv", *PARQUET):
        raise UserError(
            f"config: found {_named(config)}, expected a Config, the path of a JSON file, or a dict."
            " Data go in as data=: fit(data, config), but backtest(config, data)."
        )
    raw = read_users_json(Path(config), "a config")
    if not isinstance(raw, dict):
        raise UserError(f"{config}: found {show(raw)} at the top, expected an object: {{...}}.")
    return {"name": Path(config).stem, **raw}


def _named(value: Any) -> str:
    """A value that is no config, for a message: a path as it is, anything else by its type."""
    return repr(str(value)) if isinstance(value, str | Path) else type(value).__name__


def _numbers(names: Collection[str], config: Config, frame: pd.DataFrame | None) -> list[str]:
    """Those of the columns that hold numbers: of the table, or made by their names."""
    events, dataset = config.data.events, config.data.dataset
    made = [name for name in names if known_input(name, "known_real", events)]
    if frame is None and dataset != FRAME and (path := find_dataset(dataset)).is_file():
        frame = read_any(path)
    if frame is None:
        return made
    return [
        name
        for name in names
        if name in made
        or (
            name in frame.columns
            and pd.api.types.is_numeric_dtype(frame[name])
            and not pd.api.types.is_bool_dtype(frame[name])
        )
    ]


def key_of(name: str) -> str:
    """The dotted key of a field that is given by its last name; roles of columns come before other fields.

    >>> key_of("max_epochs"), key_of("data.end"), key_of("weight")
    ('train.max_epochs', 'data.end', 'data.columns.weight')

    Raises:
      UserError: no field or several have the name.
    """
    known = all_keys()
    keys = [key for key in known if key == name or key.rpartition(".")[2] == name]
    if name in keys:
        return name
    if f"data.columns.{name}" in keys:
        return f"data.columns.{name}"
    if len(keys) > 1:
        text = ", ".join(f'**{{"{key}": ...}}' for key in keys)
        raise UserError(f"{name}: {len(keys)} settings have this name. Give one of them in full: {text}.")
    if not keys:
        raise UserError(f"{name}: unknown setting. {nearest_key(name, (*known, *BY_KIND))}")
    return keys[0]


def check_number(name: str, value: Any, least: int = 0) -> None:
    """Refuses what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name}: found {value!r}, expected a whole number of at least {least}.")


def as_json(value: Any, name: str) -> Any:
    """A value as JSON holds it.

    Args:
      name: what an error calls the value.

    Raises:
      UserError: JSON cannot hold it.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_json(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple | set | pd.Index | pd.Series):
        return [as_json(part, name) for part in value]
    if isinstance(value, datetime.datetime):  # a pandas.Timestamp too
        return value.date().isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if value is not None and not isinstance(value, str | int | float | bool):
        raise UserError(f"{name}: found {value!r}, expected text, a number, true or false, a list or a dict.")
    return value
