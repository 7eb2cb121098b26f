"""Plan of a sweep: configs x grid x sample x seeds, as members, in programs of equal static config.

Plans are made, named and checked before any data is read.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tftjax.config.hyperparameters import NOT_SWEPT, static_settings
from tftjax.config.loading import Config, from_dict, known_keys, load, read_users_json, setting_type, settings
from tftjax.config.section import nearest_key, show
from tftjax.errors import UserError, both

MAX_SEEDS = 10_000


class Member(NamedTuple):
    """One config and seed, and in a walk-forward one fold.

    Attributes:
      name: `<group>-s<seed>`, or `<group>-<fold>-s<seed>`, the name of its run.
      group: the config's name, with what a grid or a sample set in it; the same for all its seeds.
      config: the config with this name and seed, and the fold's split dates.
      fold: the year, or the month, in which a fold's test rows begin; empty in a sweep, of one split.
      tests: of a fold, the first day of each of its tests, as YYYY-MM-DD.
    """

    name: str
    group: str
    config: Config
    fold: str = ""
    tests: Sequence[str] = ()


def make_plan(
    configs: Sequence[str | Path | Config],
    *,
    overrides: Sequence[str] = (),
    grid: Sequence[str] = (),
    space: Mapping[str, Any] | None = None,
    num_samples: int = 0,
    num_seeds: int = 1,
    mixed_data: bool = False,
) -> list[Member]:
    """Expands configs x grid x sample x seeds, in this order.

    Args:
      configs: config files, or configs.
      overrides: "dotted.key=value" each, for all members.
      grid: "dotted.key=value,value,..." each.
      space: what `read_space` returns.
      num_samples: points drawn from the space; more points begin with the same ones.
      num_seeds: number of seeds: train.seed, train.seed + 1, ...
      mixed_data: whether members may differ in data or splits.
    Raises:
      UserError: a mistake in any of these, two members of one name, or data that differ.
    """
    if not 1 <= num_seeds <= MAX_SEEDS:
        raise UserError(f"{both('--seeds')}: found {num_seeds}, expected 1 to {MAX_SEEDS}.")
    if (space is None) != (num_samples == 0) or num_samples < 0:
        raise UserError(
            f"{both('--sample')} and {both('--space')} belong together: found {num_samples} points and"
            f" {'no space' if space is None else 'a space'}, expected both (1 point or more) or neither."
        )
    axes = [parse_axis(text) for text in grid]
    twice = [key for key, _ in axes if [other for other, _ in axes].count(key) > 1]
    if twice:
        raise UserError(f"{both('--grid')}: {twice[0]} stands twice. Give all its values once, together.")
    points = [""] if not num_samples else _draw(space or {}, num_samples)
    members = []
    for given in configs:
        for values in itertools.product(*(texts for _, texts in axes)):
            chosen = [f"{key}={value}" for (key, _), value in zip(axes, values, strict=True)]
            for number, point in enumerate(points, start=1):
                sampled = [f"{key}={json.dumps(value)}" for key, value in point.items()] if point else []
                config = load(given, [*overrides, *chosen, *sampled])
                suffix = _suffix(axes, values) + (f"-p{number}" if point else "")
                members += _seeds(config, config.name + suffix, num_seeds)
    _check(members, mixed_data)
    return members


def _seeds(config: Config, group: str, num_seeds: int) -> list[Member]:
    members = []
    for seed in range(config.train.seed, config.train.seed + num_seeds):
        raw = config.model_dump(mode="json")
        raw["name"] = f"{group}-s{seed}"
        raw["train"]["seed"] = seed
        members.append(Member(raw["name"], group, from_dict(raw, f"member {raw['name']}")))
    return members


def parse_axis(text: str) -> tuple[str, list[str]]:
    """Splits "dotted.key=a,b,c" at the commas outside of brackets and quotes.

    >>> parse_axis("model.quantiles=[0.1,0.5,0.9],[0.5]")
    ('model.quantiles', ['[0.1,0.5,0.9]', '[0.5]'])

    Raises:
      UserError: no "=", an unknown key, one that a grid cannot set, or a value that stands twice.
    """
    key, equals, rest = text.partition("=")
    if not equals or not rest:
        raise UserError(f"--grid {text!r}: expected KEY=VALUE,VALUE,..., such as loss.std_weight=0,0.01,0.1.")
    _check_key(key, f"{both('--grid')} {text!r}")
    values, depth, quoted, start = [], 0, False, 0
    for place, letter in enumerate(rest):
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quoted:
            values.append(rest[start:place])
            start = place + 1
    values.append(rest[start:])
    if "" in values:
        raise UserError(f"{both('--grid')} {text!r}: an empty value. Divide the values by single commas.")
    if len({_meaning(value) for value in values}) < len(values):
        raise UserError(f"{both('--grid')} {text!r}: a value stands twice.")
    return key, values


def _meaning(value: str) -> str | float:
    """The number that a text stands for, so that 0.10 and 1e-1 are equal, or else the text."""
    try:
        return float(value)
    except ValueError:
        return value


def _check_key(key: str, where: str) -> None:
    for name in (key, key.partition(".")[0]):
        if name in NOT_SWEPT:
            raise UserError(f"{where}: {key} is not for a sweep to vary; what sets it is {NOT_SWEPT[name]}.")
    if key not in known_keys():
        known = [name for name in known_keys() if name not in NOT_SWEPT]
        raise UserError(f"{where}: unknown key {key!r}. {nearest_key(key, known)}")


def _suffix(axes: Sequence[tuple[str, list[str]]], values: Sequence[str]) -> str:
    """`-std_weight-0.01` for every axis, in letters that a file name can have."""
    leaves = [key.rpartition(".")[2] for key, _ in axes]
    parts = []
    for (key, _), leaf, value in zip(axes, leaves, values, strict=True):
        name = leaf if leaves.count(leaf) == 1 else key
        parts.append(f"-{name}-{re.sub(r'[^A-Za-z0-9._-]+', '_', value).strip('_')}")
    return "".join(parts)


def read_space(path: Path) -> dict[str, Any]:
    """Reads the space that a sample is drawn from, and checks it.

    Raises:
      UserError: not readable; or see `check_space`.
    """
    space = read_users_json(path, "a space")
    check_space(space, str(path))
    return space


def check_space(space: Any, where: str) -> None:
    """Refuses what is no space: {key: {"low", "high", "log"} or {"choices": [...]}}.

    Args:
      where: what error messages call the space.

    Raises:
      UserError: an unknown key, or bounds that are none.
    """
    expected = 'expected {"low": number, "high": number, "log": true or false} or {"choices": [...]}'
    if not isinstance(space, dict) or not space:
        raise UserError(f"{where}: found {show(space)}, expected an object of keys, each: {expected[9:]}.")
    for key, range_ in space.items():
        _check_key(key, where)
        if not isinstance(range_, dict) or not (_is_range(range_) or _is_choice(range_)):
            raise UserError(
                f"{where}: {key}: found {show(range_)}, {expected}, low below high, above 0 if log."
            )


def _is_choice(range_: dict) -> bool:
    return set(range_) == {"choices"} and isinstance(range_["choices"], list) and bool(range_["choices"])


def _is_range(range_: dict) -> bool:
    if not {"low", "high"} <= set(range_) <= {"low", "high", "log"}:
        return False
    low, high, log = range_["low"], range_["high"], range_.get("log", False)
    numbers = all(type(bound) in (int, float) for bound in (low, high)) and isinstance(log, bool)
    return numbers and low < high and not (log and low <= 0)


def _draw(space: Mapping[str, Any], num_samples: int) -> list[dict[str, Any]]:
    """Points of a space, the same ones every time; numbers to four digits."""
    rng = np.random.default_rng(0)
    return [{key: _draw_value(rng, key, range_) for key, range_ in space.items()} for _ in range(num_samples)]


def _draw_value(rng: np.random.Generator, key: str, range_: Mapping[str, Any]) -> Any:
    if "choices" in range_:
        return range_["choices"][rng.integers(len(range_["choices"]))]
    low, high = range_["low"], range_["high"]
    value = (
        float(np.exp(rng.uniform(np.log(low), np.log(high)))) if range_.get("log") else rng.uniform(low, high)
    )
    return round(value) if setting_type(key) is int else rounded(value, low, high)


def rounded(value: float, low: float, high: float) -> float:
    """A number to four digits, within its bounds."""
    return min(max(float(f"{value:.4g}"), low), high)


def _check(members: Sequence[Member], mixed_data: bool) -> None:
    names = [member.name for member in members]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"{len(twice)} member(s) have the name of another, such as {twice[0]!r}: two configs of one "
            "name, or two values that look alike in a file name. Give each config a name of its own"
            ' (the file\'s, or "name" in a dict), or set other values.'
        )
    final = [member.name for member in members if member.config.data.final_fit]
    if final:
        raise UserError(
            f"{final[0]}: data.final_fit leaves no rows to compare members by. Leave it out; a final fit of"
            f" a run sets it ({both('--final')})."
        )
    if mixed_data:
        return
    for member in members[1:]:
        first, other = (m.config.data.model_dump(mode="json") for m in (members[0], member))
        changed = [
            f"data.{key}: {show(first[key])}, {show(other[key])}" for key in first if first[key] != other[key]
        ]
        if changed:
            raise UserError(
                f"{members[0].name} and {member.name} differ in their data, so their metrics do not compare: "
                f"{'; '.join(changed)}. Give them the same data section; the"
                " command `tftjax sweep` allows it with --mixed-data."
            )


def programs(members: Sequence[Member], shapes: Mapping[str, Any]) -> list[list[Member]]:
    """Groups members by what is constant in a compiled program, in the order in which they appear.

    Args:
      shapes: the `data_shapes` of each member's data, by its name.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        constants = static_settings(member.config), shapes[member.name]
        groups.setdefault(json.dumps(constants, sort_keys=True), []).append(member)
    return list(groups.values())


def varied_settings(members: Sequence[Member]) -> list[str]:
    """Dotted keys in which members of a sweep differ, but for name, notes and seed."""
    table = [settings(member.config) for member in members]
    keys = [key for key in known_keys() if key not in NOT_SWEPT]
    return [key for key in keys if len({json.dumps(values[key]) for values in table}) > 1]
