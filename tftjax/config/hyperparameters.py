"""The floats of a config that may differ between members of one compiled program: those marked `Swept`.

And the settings that may not: what a compiled program is of.
"""

import functools
from typing import Any, NamedTuple

from tftjax.config.loading import Config, settings
from tftjax.config.section import Swept, fields

# The mark of each field, by its dotted key.
MARKS = {
    key: Swept() if mark is Swept else mark
    for key, field in fields(Config)
    for mark in field.metadata
    if mark is Swept or isinstance(mark, Swept)
}
# The names in the record of each field's floats, by its dotted key.
NAMES = {key: mark.names or (key.rpartition(".")[2],) for key, mark in MARKS.items()}

# Settings that a grid or a sample cannot vary, each with what sets it.
NOT_SWEPT = {"name": "--name", "notes": "nothing", "train.seed": "--seeds", "evaluation": "--set"}
STATE_KEYS = ("train.init_from",)  # settings that a member's first state follows from, and nothing else
STOP_KEYS = ("train.stop_after", "train.patience")  # settings that the loop reads, and no compiled program

Hyperparameters = NamedTuple("Hyperparameters", [(name, float) for names in NAMES.values() for name in names])
Hyperparameters.__doc__ = "The floats that may differ between the members of one compiled program."


def hyperparameters(config: Config) -> Hyperparameters:
    """Takes the floats out of a config, as inputs of a compiled program."""
    floats: dict[str, float] = {}
    for key, mark in MARKS.items():
        *sections, leaf = key.split(".")
        value = getattr(functools.reduce(getattr, sections, config), mark.value or leaf)
        floats |= zip(NAMES[key], value if isinstance(value, tuple) else (value,), strict=True)
    return Hyperparameters(**floats)


def static_settings(config: Config) -> dict[str, Any]:
    """The settings that members of one compiled program share, by dotted key; data comes in by its shapes."""
    varied = {*MARKS, *NOT_SWEPT, *STATE_KEYS, *STOP_KEYS, "data"}
    if config.train.schedule == "constant":
        varied.add("train.max_epochs")
    values = settings(config)
    shared = {key: value for key, value in values.items() if not {key, key.partition(".")[0]} & varied}
    return shared | {key: values[key] > 0 for key, mark in MARKS.items() if mark.switch}
