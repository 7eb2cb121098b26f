"""The floats of a config that may differ between members of one compiled program: those marked `Swept`."""

import functools
from typing import NamedTuple

from tftjax.config.loading import Config
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
