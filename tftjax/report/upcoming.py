"""The forecast of the next steps on a page, made from the rows that the run keeps."""

import datetime
from collections.abc import Callable, Sequence

import pandas as pd

from tftjax.data.prepared import target_days
from tftjax.errors import UserError
from tftjax.evaluate.formatting import Unit, counted, noun_of, unit_of
from tftjax.evaluate.metrics import central_intervals
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import shown_band
from tftjax.predict.forecasts import in_order
from tftjax.predict.origin import LONG_AGO
from tftjax.predict.series import forecastable
from tftjax.predict.windows import forecast_next
from tftjax.report.page import Chapter, Details, Part, Since, Text
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory
from tftjax.sweep.ensembles import average_tables

# Data whose last row is older by more days are not of today: holidays and a weekend, and, as a row may have
# the first date of its period, that period and the next, which is not over.
LATE = {"day": 10, "week": 24, "month": 72, "quarter": 194}
MAX_SHOWN = 8  # rows of a table that is not folded


def next_forecast(opened: Callable[[], Sequence[runs.Run]]) -> Chapter:
    """The quantiles of the steps after the last row that the runs keep, in words, or why there are none.

    Args:
      opened: opens a run, or the seeds of a config, whose forecasts are averaged.
    """
    try:
        seeds = opened()
        table = _table(seeds)
    except UserError as error:
        return Chapter("next", "The next forecast", [Text(f"None could be made: {error}")])
    first, unit = seeds[0], unit_of(seeds[0].config.data)
    numbers = table.drop(columns="series", errors="ignore")
    low, high, band = _bounds(numbers)
    if len(table) == 1:
        (day, row), *_ = numbers.iterrows()
        noun = noun_of(first.data.panel.about)
        when = f"{day:%A}, {day.date()}" if noun == "day" else f"the {noun} of {day.date()}"
        title = f"The forecast for {when}"
        parts: list[Part] = [Text(_sentence(row, low, high, band, unit))]
    else:
        title, shown = "The forecasts for the next steps", _shown(table, low, high, band, unit)
        parts = [Details(counted(len(table), "forecast"), [shown]) if len(table) > MAX_SHOWN else shown]
    return Chapter("next", title, [*parts, *_age(first, table.index.max().date())])


def _table(seeds: Sequence[runs.Run]) -> pd.DataFrame:
    rows, names = forecastable(seeds[0], seeds[0].data.whole), _levels(seeds[0])
    return in_order(average_tables([forecast_next(run, rows) for run in seeds], names), names)


def _levels(run: runs.Run) -> list[str]:
    return [f"{q:g}" for q in run.config.model.quantiles]


def _bounds(table: pd.DataFrame) -> tuple[str | None, str | None, str | None]:
    """The columns of the interval that is shown, and its percent; None without one."""
    levels = [*map(float, table.columns)]
    pairs = {
        percent: (table.columns[low], table.columns[high]) for low, high, percent in central_intervals(levels)
    }
    band = shown_band(pairs)
    return (*pairs[band], band) if band is not None else (None, None, None)


def _sentence(row: pd.Series, low: str | None, high: str | None, band: str | None, unit: Unit) -> str:
    middle = f"Its middle is {unit.text(row['0.5'])}: a value above that is as likely as one below."
    if band is None:
        return middle
    between = f"{unit.text(row[low])} and {unit.text(row[high])}"
    return (
        f"With a probability of {band} %, the {unit.title.partition(',')[0]} lies between {between}. {middle}"
    )


def _shown(table: pd.DataFrame, low: str | None, high: str | None, band: str | None, unit: Unit) -> Table:
    columns = {low: f"{band} % band, from", "0.5": "middle", high: "to"}
    columns = {name: title for name, title in columns.items() if name is not None}
    rows = []
    for day, row in table.iterrows():
        named = [Cell(str(row["series"]))] if "series" in table else []
        rows.append([*named, Cell(f"{day.date()}"), *(Cell(unit.text(row[name])) for name in columns)])
    head = (("series",) if "series" in table else ()) + ("date", *columns.values())
    return Table("", head, rows)


def _age(run: runs.Run, day: datetime.date) -> list[Part]:
    """To which day the model and the forecast saw data, when it was trained, and how old the forecast is."""
    data, noun = run.data, noun_of(run.data.panel.about)
    learned, chosen = (
        max(target_days(data.panel, data.blocks, split), default=None) for split in ("train", "val")
    )
    last = data.whole.frame.index.max().date()
    trained = checkpoint.written_on(RunDirectory(run.directory).checkpoints)
    days = 0 if trained is None else (trained - last).days
    late = days > LATE[noun]
    parts = [f"The data end on {last}" + (f", {days:,} days before the training" if late else "") + "."]
    if late:
        parts.append("For a forecast from newer data: the command tftjax predict.")
    when = "" if trained is None else f"(trained on {trained}) "
    checked = "" if chosen is None else f", and was checked on those up to {chosen}"
    parts.append(f"The model {when}learned from {noun}s up to {learned}{checked}.")
    if data.panel.about.get("calendar") == "weekdays":
        parts.append("Its calendar knows no holidays (data.calendar).")
    text = " ".join(parts)
    if late:
        return [Text(text)]
    if learned is not None and last - learned > LONG_AGO:
        text += (
            f" It has learned nothing from the last {(last - learned).days:,} days: train it on newer ones."
        )
    return [Text(text), Since(str(day))]
