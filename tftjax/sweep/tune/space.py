"""What a search varies: its space, the config of a trial, and the points of a grid."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from tftjax.config.hyperparameters import MARKS
from tftjax.config.loading import Config, load, setting_type, settings
from tftjax.errors import UserError, both
from tftjax.sweep.plan import Member, make_plan, rounded

Space = Mapping[str, Mapping[str, Any]]
Values = dict[str, Any]

# Settings, or sections, that decide what the trials are compared by; each with what that is.
COMPARED_BY = {
    "data": "the rows and their returns",
    "model.quantiles": "the levels of the pinball loss",
    "model.prediction_length": "the steps of the pinball loss",
    "loss.unit": "the unit of the pinball loss",
    "train.max_epochs": "the epochs after which trials are judged",
    "train.max_steps": "the epochs after which trials are judged",
    "train.stop_after": "the epochs after which trials are judged",
}


def check_searchable(space: Space, config: Config, where: str) -> None:
    """Refuses a space that would change what trials are compared by.

    Args:
      space: what `sweep.plan.check_space` lets through.
      where: what error messages call the space.

    Raises:
      UserError: names the key.
    """
    compared_by = dict(COMPARED_BY)
    if config.loss.unit == "scale":
        compared_by["loss.target_std"] = "the unit of the pinball loss"
    for key, range_ in space.items():
        bounds = [range_[end] for end in ("low", "high") if end in range_]
        if setting_type(key) is int and any(bound != int(bound) for bound in bounds):
            raise UserError(f"{where}: {key}: found {bounds}, expected whole numbers.")
        for name in (key, key.partition(".")[0]):
            if name in compared_by:
                raise UserError(
                    f"{where}: {key}: is {compared_by[name]}, so that trials would not compare. Leave it out;"
                    " other values are another search."
                )


def static_keys(space: Space) -> list[str]:
    """The settings that are constants of a compiled program; all others are its inputs."""
    return [key for key in space if key not in MARKS]


def as_setting(key: str, range_: Mapping[str, Any], value: Any) -> Any:
    """A value that was drawn, as the config takes it: numbers to four digits, choices from their JSON."""
    if "choices" in range_:
        return json.loads(value)
    return int(value) if setting_type(key) is int else rounded(value, range_["low"], range_["high"])


def given_point(space: Space, config: Config) -> Values | None:
    """The config's own values, as they are drawn; None if the space does not have them."""
    point = {}
    for key, range_ in space.items():
        value = settings(config)[key]
        if "choices" in range_:
            if value not in range_["choices"]:
                return None
            point[key] = json.dumps(value)
        elif not isinstance(value, int | float) or not range_["low"] <= value <= range_["high"]:
            return None
        else:
            point[key] = value
    return point


def grid_points(space: Space, where: str) -> list[Values]:
    """All combinations of the choices, as they are drawn; what makes another program changes last.

    Raises:
      UserError: a range in place of choices.
    """
    for key, range_ in space.items():
        if "choices" not in range_:
            raise UserError(
                f'{where}: {key}: found a range, expected {{"choices": [...]}} for {both("--sampler")} grid.'
            )
    keys = [*static_keys(space), *(key for key in space if key in MARKS)]
    choices = [[json.dumps(choice) for choice in space[key]["choices"]] for key in keys]
    return [dict(zip(keys, point, strict=True)) for point in itertools.product(*choices)]


def trial_members(config: Config, values: Values, number: int, num_seeds: int) -> list[Member]:
    """A trial's members, one a seed, named `t<number>-s<seed>`.

    Raises:
      UserError: a config that is not allowed.
    """
    named = config.model_copy(update={"name": f"t{number}"})
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return make_plan([named], overrides=overrides, num_seeds=num_seeds)


def best_config(config: Config, values: Values, name: str) -> Config:
    """The config with a trial's values and another name."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return load(config, [*overrides, f"name={json.dumps(name)}"])
