"""The figure of what became of published values: the first release of each date against the latest."""

from collections.abc import Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from tftjax.plots.theme import LIGHT, Drawing, Key, Theme, date_axis

KEYS = FIRST, LATEST, REVISION = (
    Key("first release", "orange"),
    Key("latest release", "blue"),
    Key("latest less first", "purple", "band"),
)


def revisions(figure: Figure, theme: Theme, tables: Mapping[str, pd.DataFrame]) -> None:
    """Draws, for each series, both releases by observation date, and below them the revision.

    Args:
      tables: by name, columns first and latest by observation date, in the series' unit.
    """
    theme.set_height(figure, 300 * len(tables))
    ratios = {"height_ratios": [2, 1] * len(tables)}
    rows = figure.subplots(2 * len(tables), squeeze=False, gridspec_kw=ratios)[:, 0]
    for (name, table), above, below in zip(tables.items(), rows[::2], rows[1::2], strict=True):
        dates, change = table.index.to_numpy(), (table["latest"] - table["first"]).to_numpy()
        above.plot(dates, table["latest"].to_numpy(), linewidth=1.4, **LATEST.line)
        above.plot(dates, table["first"].to_numpy(), linewidth=0.9, **FIRST.line)
        above.set_title(name)
        below.fill_between(dates, change, step="mid", color=LIGHT[REVISION.color], linewidth=0)
        below.set_title(f"{name}, latest less first")
        below.sharex(above)
        for axes in (above, below):
            date_axis(axes, theme)


def revisions_drawing(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """`revisions` with a title and a legend."""
    return Drawing(partial(revisions, tables=tables), "First release against latest", KEYS)
