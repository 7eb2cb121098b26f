"""What became of published values: the first release of each date against the latest."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tftjax.config.data import DataConfig
from tftjax.data.alignment import Observations, first_release_of, snapshot
from tftjax.data.loading import feature_set_of, find_dataset
from tftjax.data.panel import ROLES_FILE
from tftjax.data.raw.cells import NEVER
from tftjax.data.raw.fred_csv import read_fred_folder
from tftjax.data.series.reading import read_sources


def revisions_of(config: DataConfig) -> dict[str, pd.DataFrame]:
    """The raw series of a config that were revised, by name: see `first_and_latest`.

    A built panel holds no raw series, a table none but those of `data.series`, of which several may be made
    of one: it stands under their names.
    """
    path = find_dataset(config.dataset)
    raw = {name: source.observations for name, source in read_sources(config).items()}
    if path.is_dir() and not (path / ROLES_FILE).is_file():
        raw = read_fred_folder(path, feature_set_of(config).series_names())[0] | raw
    revised: dict[str, pd.DataFrame] = {}
    for name, series in raw.items():
        table = first_and_latest(series)
        if (table["first"] != table["latest"]).any():
            same = next((other for other, known in revised.items() if known.equals(table)), None)
            revised[name if same is None else f"{same}, {name}"] = revised.pop(same, table)
    return revised


def first_and_latest(series: Observations) -> pd.DataFrame:
    """The first and the latest value that was published for each date, by date."""
    first = first_release_of(series)
    return pd.DataFrame({"first": first.values, "latest": snapshot(series, NEVER)})


def in_words(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """A line a series on how often and how much its values were revised.

    >>> dates = pd.DatetimeIndex(["2018-01-01", "2018-02-01"])
    >>> in_words({"cpi": pd.DataFrame({"first": [1.0, 2.0], "latest": [1.5, 2.0]}, dates)})
    ['cpi: 1 of 2 values revised, by 0.5 in the median, by 0.5 at most (2018-01-01)']
    """
    lines = []
    for name, table in tables.items():
        change = (table["latest"] - table["first"]).abs()
        revised, largest = change[change > 0], change.idxmax()
        lines.append(
            f"{name}: {len(revised)} of {len(table)} values revised, by {np.median(revised):.4g} in the"
            f" median, by {change.max():.4g} at most ({largest.date()})"
        )
    return lines
