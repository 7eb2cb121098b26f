"""The figure of a panel's columns."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from tftjax.plots.theme import LIGHT, Drawing, Theme, date_axis


def columns(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    """Draws every column by date, one below the other.

    Args:
      table: columns of numbers by date.
    """
    theme.set_height(figure, 115 * len(table.columns))
    for axes, name in zip(
        figure.subplots(len(table.columns), sharex=True, squeeze=False)[:, 0], table, strict=True
    ):
        axes.plot(table.index.to_numpy(), table[name].to_numpy(), linewidth=0.7, color=LIGHT["blue"])
        axes.set_title(name)
        date_axis(axes, theme)


def columns_drawing(table: pd.DataFrame, names: Sequence[str], series: str = "") -> Drawing:
    """`columns` with a title.

    Args:
      names: the columns to draw.
      series: name of the series; empty if there is one only.
    """
    title = f"Columns of the panel{f', series {series}' if series else ''}"
    return Drawing(partial(columns, table=table[list(names)]), title)
