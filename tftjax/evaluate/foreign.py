"""Foreign forecasts, of another library or a foundation model, judged on the same days as a run's own.

A table, in a CSV or Parquet file or a frame, has the columns `date` (the day that is forecast), `series` if
the run's panel has several, `step` (from 1) if the run forecasts several, and a column a quantile, named by
its level; returns in the unit of the run's data (`data.return_unit`). With a column `actual` the returns are
compared with the run's. It covers the validation and test windows, or the test windows alone, and is then
judged on those alone; rows of other days, and other columns, are ignored.
"""

import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from tftjax.data.raw.cells import categories
from tftjax.data.tables.frames import to_pandas
from tftjax.data.tables.table import Table, file_table, frame_table, places_from
from tftjax.errors import UserError, listed
from tftjax.evaluate.files import rows_table
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.metrics import Forecast
from tftjax.evaluate.scoring import (
    SPLITS,
    BaselineScores,
    Windows,
    all_baselines,
    score,
    split_windows,
    target_rows,
)
from tftjax.storage import runs

log = logging.getLogger(__name__)

KEYS = ["date", "series", "step"]
# Names of other rows and columns of the tables that a foreign forecast is shown in.
TAKEN = ("model", "split", "windows", *KEYS)
LARGEST_RATIO = 20.0  # of two spreads in one unit; the other unit makes it 100
CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # returns that differ in rounding alone


class ForeignForecast(NamedTuple):
    """A forecast that no run made.

    Attributes:
      source: the file or frame, for reading.
      forecasts: quantiles of the windows by split, returns as decimals; of both splits, or of test alone.
    """

    source: str
    forecasts: dict[str, Forecast]


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by the names that their forecasts have.

    Raises:
      UserError: two files of one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if path.stem in named:
            raise UserError(
                f"--forecasts {path}: {named[path.stem]} has the name {path.stem!r}, too. Rename one of them."
            )
        named[path.stem] = path
    return named


def read_foreign(run: runs.Run, sources: Mapping[str, Any]) -> dict[str, ForeignForecast]:
    """Reads foreign forecasts of a run's windows.

    Args:
      sources: by the name to show, the path of a file, or a frame of any library.
    Raises:
      UserError: the run is a final fit; a name that is taken; a table that does not fit the run: the first
        difference is named.
    """
    runs.check_judged(run.directory)
    for name in sources:
        if not name or name in (*TAKEN, *all_baselines(run)):
            raise UserError(
                f"forecasts: found the name {name!r}, expected another than"
                f" {', '.join((*TAKEN, *all_baselines(run)))}. Rename the file, or the forecast."
            )
    return {name: _read(run, name, source) for name, source in sources.items()}


def _read(run: runs.Run, name: str, source: Any) -> ForeignForecast:
    if isinstance(source, str | Path):
        table = file_table(Path(source), "date", "series")
    else:
        table = frame_table(to_pandas(source), "date", "series", f"the frame {name}")
    rows = _read_rows(table, run)
    _check_once(table, rows)
    forecasts = {}
    for split in SPLITS:
        places = _find(table, rows, run, split)
        if places is not None:
            windows = split_windows(run, split)
            forecasts[split] = _checked(table, rows.iloc[places], run, windows)
    if "val" not in forecasts:
        log.info(f"{table.where}: has no validation date, so it is judged on the test rows alone")
    return ForeignForecast(table.where + ("" if "val" in forecasts else ", test rows alone"), forecasts)


def _read_rows(table: Table, run: runs.Run) -> pd.DataFrame:
    """The rows of a table by their number: KEYS, a column a level, `actual` if there is one; as decimals."""
    several, steps = run.data.panel.id_column is not None, run.config.model.prediction_length
    needed = ["date", *(["series"] if several else []), *(["step"] if steps > 1 else [])]
    unit = 100.0 if run.config.data.return_unit == "percent" else 1.0
    parts = []
    for first, cells in table.parts():
        missing = [name for name in needed if name not in cells]
        if missing:
            raise UserError(
                f"{table.where}, {table.header}: found no column {', '.join(map(repr, missing))} among"
                f" {listed(cells)}, expected {', '.join(needed)} and a column a quantile. Rename or add what"
                " is missing."
            )
        names = _level_columns(table, list(cells), run.config.model.quantiles)
        names |= {"actual": "actual"} if "actual" in cells else {}
        place = places_from(table, first)
        dates = table.dates(table.where, "date", cells["date"], place)
        values: dict[Any, Any] = {
            "date": dates.astype(str),
            "series": table.categories(table.where, "series", cells["series"], place) if several else "",
            "step": table.numbers(table.where, "step", cells["step"], place) if "step" in cells else 1.0,
        }
        for key, column in names.items():
            values[key] = table.numbers(table.where, column, cells[column], place) / unit
        parts.append(pd.DataFrame(values, index=np.arange(first, first + len(dates))))
    rows = pd.concat(parts)
    return rows[rows["step"] <= steps]  # of a forecast that reaches further


def _level_columns(table: Table, header: Sequence[str], levels: Sequence[float]) -> dict[float, str]:
    """The column of each of the run's levels.

    Raises:
      UserError: other levels; names the first difference.
    """
    found = {name: level for name in header if (level := _number(name)) is not None}
    names = {q: [n for n, level in found.items() if math.isclose(level, q, abs_tol=1e-9)] for q in levels}
    matched = list(itertools.chain.from_iterable(names.values()))
    wrong = [f"{name} is none of them" for name in found if name not in matched]
    wrong += [f"{level:g} has {counted(len(of), 'column')}" for level, of in names.items() if len(of) != 1]
    if wrong:
        raise UserError(
            f"{table.where}, {table.header}: found the quantiles {listed(found)}, expected those of the run,"
            f" {', '.join(f'{level:g}' for level in levels)}: {wrong[0]}. Forecast the run's levels, a column"
            " each, named by its level."
        )
    return dict(zip(levels, matched, strict=True))


def _number(name: str) -> float | None:
    try:
        return float(name) if math.isfinite(float(name)) else None
    except ValueError:
        return None


def _check_once(table: Table, rows: pd.DataFrame) -> None:
    """Refuses a date, series and step that has two rows."""
    again = rows.duplicated(KEYS)
    if again.any():
        row = rows[again].iloc[0]
        raise UserError(
            f"{table.where}, {table.place(row.name)}: found {_key(row)} a second time, expected each once."
            " Take one of the rows out."
        )


def _key(row: pd.Series) -> str:
    series = f" of the series {row['series']!r}" if row["series"] else ""
    return f"{row['date']}{series}, step {row['step']:g}"


def _find(table: Table, rows: pd.DataFrame, run: runs.Run, split: str) -> Int[np.ndarray, " M"] | None:
    """The place of the row of each window and step of a split; None of validation without a row.

    Raises:
      UserError: names the first window and step without a row.
    """
    wanted = pd.DataFrame({"series": "", "step": 1} | dict(rows_table(run, split, target_rows(run, split))))
    wanted["series"] = [name or "" for name in categories(wanted["series"].astype(str).tolist())]
    places = pd.MultiIndex.from_frame(rows[KEYS]).get_indexer(pd.MultiIndex.from_frame(wanted[KEYS]))
    missing = wanted[places < 0]
    if split == "val" and len(missing) == len(wanted):
        return None
    if len(missing):
        advice = "Forecast it, or take all validation dates out." if split == "val" else "Forecast it."
        raise UserError(
            f"{table.where}: found no row of {_key(missing.iloc[0])}, the first of {len(missing)} that are"
            f" missing; expected the {len(wanted)} of the {split} rows of {run.directory}. {advice}"
        )
    return places


def _checked(table: Table, rows: pd.DataFrame, run: runs.Run, windows: Windows) -> Forecast:
    """The quantiles of a split's windows.

    Args:
      rows: a row a window and step, in their order.
    Raises:
      UserError: a cell without a number, quantiles that descend, other returns, or another unit.
    """
    levels = list(run.config.model.quantiles)
    values = rows[levels].to_numpy(np.float64)
    for row, place in _first(rows, np.isnan(values)):
        raise UserError(
            f"{table.where}, {table.place(row)}, column '{levels[place]:g}': found no number, expected one."
            " Fill it: every window is judged."
        )
    for row, place in _first(rows, np.diff(values) < 0):
        low, high = levels[place : place + 2]
        raise UserError(
            f"{table.where}, {table.place(row)}: found the quantile {high:g} below the quantile {low:g}"
            f" ({rows.at[row, high]:g} and {rows.at[row, low]:g} as decimals), expected ascending quantiles."
            " Correct the names of the columns, or sort each row."
        )
    forecast = values.reshape(*windows.target.shape, len(levels))
    _check_unit(table, forecast, run, windows)  # in the other unit, the actual returns differ, too
    if "actual" in rows:
        _check_actual(table, rows, run, windows)
    return forecast


def _first(rows: pd.DataFrame, bad: np.ndarray) -> list[tuple[int, int]]:
    """The number of the table's first row with a bad cell, and the cell's place; nothing without any."""
    where = np.argwhere(bad)
    return sorted((int(rows.index[row]), int(place)) for row, place in where)[:1]


def _check_actual(table: Table, rows: pd.DataFrame, run: runs.Run, windows: Windows) -> None:
    """Refuses a forecast of other returns."""
    actual, expected = rows["actual"].to_numpy(), windows.target.ravel()
    different = np.flatnonzero(~np.isclose(actual, expected, **CLOSE))
    if different.size:
        first = different[0]
        raise UserError(
            f"{table.where}, column 'actual': found {actual[first]:g} for {_key(rows.iloc[first])}, expected"
            f" the run's return of {expected[first]:g} (as decimals; the first of {different.size} that"
            f" differ, of {len(actual)}). Forecast the target of {run.directory}, or take the column out."
        )


def _check_unit(table: Table, forecast: Forecast, run: runs.Run, windows: Windows) -> None:
    """Refuses a forecast in the other unit: its quantiles scatter 100 times too widely, or too narrowly."""
    expected = float(np.std(np.quantile(windows.target, run.config.model.quantiles)))
    found = float(np.std(forecast))
    if found > 0 and expected > 0 and not 1 / LARGEST_RATIO <= found / expected <= LARGEST_RATIO:
        percent = run.config.data.return_unit == "percent"
        factor = 100.0 if percent else 1.0
        raise UserError(
            f"{table.where}: found quantiles with a spread of {factor * found:.3g} around their mean, and"
            f" those of the actual returns have one of {factor * expected:.3g}. Expected returns"
            f" {'in percent' if percent else 'as decimals, 0.01 is one percent'}, as data.return_unit of the"
            f" run says; these are {found / expected:.3g} times as large. Convert them to"
            f" {'percent' if percent else 'decimals'}."
        )


def with_foreign(
    run: runs.Run,
    windows: Mapping[str, Windows],
    baselines: BaselineScores,
    foreign: Mapping[str, ForeignForecast],
) -> BaselineScores:
    """The scores of the baselines and, after them, of foreign forecasts."""
    if not foreign:
        return baselines
    scores, kept = ({split: dict(of[split]) for split in SPLITS} for of in baselines[:2])
    for name, given in foreign.items():
        for split, forecast in given.forecasts.items():
            scores[split][name] = score(
                windows[split], forecast, run.config.model.quantiles, run.functions.metrics
            )
            if len(run.data.blocks) == 1:
                kept[split][name] = forecast
    return BaselineScores(scores, kept, baselines.left_out, {})
