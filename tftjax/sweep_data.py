"""The data of a sweep's members: each data set and each split of it once, and what makes them comparable."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tftjax.config.data import DataConfig
from tftjax.data.checks import check_data
from tftjax.data.loading import load_panel
from tftjax.data.prepared import Data, prepare
from tftjax.errors import UserError
from tftjax.sweep_plan import Member, static_settings

# Settings of data that change nothing in what `load_panel` reads.
AFTER_LOADING = ("split", "split_dates", "purge", "scaling", "target_scale")


def load_data(members: Sequence[Member], mixed_data: bool) -> dict[str, Data]:
    """Loads and prepares the data of each member, by its name; each data set and each split of it once.

    Args:
      mixed_data: whether members, of the same fold, may forecast different rows.
    Raises:
      UserError: data that cannot be trained on, or that differ in what is forecast.
    """
    panels, prepared, data = {}, {}, {}
    for member in members:
        config = member.config
        source = config.data.model_copy(update={key: getattr(DataConfig(), key) for key in AFTER_LOADING})
        if source not in panels:
            panels[source] = load_panel(config.data)
        # What a model asks of its data follows from its static settings.
        key = config.data, json.dumps(static_settings(config))
        try:
            if key not in prepared:
                prepared[key] = prepare(panels[source], config)
            check_data(config, prepared[key])
        except UserError as error:
            raise UserError(f"{member.name}: {error}") from error
        data[member.name] = prepared[key]
    firsts = {member.fold: member.name for member in reversed(members)}
    for member in members:
        first, name = firsts[member.fold], member.name
        changed = None if mixed_data else _other_targets(data[first], data[name])
        if changed:
            raise UserError(
                f"{first} and {name} forecast different {changed} rows, so their metrics do not compare. "
                "Give them the same splits; a sweep allows it with --mixed-data."
            )
    return data


def _other_targets(a: Data, b: Data) -> str | None:
    """The first split of which two members would forecast other returns, other days or other series."""
    if a is b:
        return None
    for split in ("val", "test"):
        one, other = (_targets(data, split) for data in (a, b))
        if not one.equals(other):
            return split
    return None


def _targets(data: Data, split: str) -> pd.DataFrame:
    columns = [name for name in (data.panel.target, data.panel.id_column) if name]
    rows = [getattr(block.splits, split) for block in data.blocks]
    return data.panel.frame[columns].iloc[np.concatenate([np.arange(r.start, r.stop) for r in rows])]
