"""A first look at a table: which column is what, by names and numbers; a guess, for a person to check."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.data.calendar import table_frequency
from tftjax.data.checks import CALMEST, MAX_AUTOCORRELATION, WILDEST
from tftjax.data.feature_sets import CALENDAR
from tftjax.data.raw.cells import INTRADAY, MISSING, TIME_OF_DAY, read_cells
from tftjax.data.tables.frames import PARQUET, columns_of, read_parquet
from tftjax.data.volatility import named_volatility
from tftjax.errors import UserError, cut, listed

RETURN_NAMES = re.compile(r"(^|[_ ])(log_?)?(ret|rets|return|returns|target|y)($|[_ ])", re.IGNORECASE)
PRICE_NAMES = re.compile(r"(^|[_ ])(adj[_ ]?close|close|price|px|last|level|value)($|[_ ])", re.IGNORECASE)
# What moves as slowly as a price and is none.
VOLATILITY_NAMES = re.compile(
    r"(^|[_ ])(vix|vxn|vol|vola|volatility|realized|rv|iv|sigma|std)\d*d?($|[_ ])", re.IGNORECASE
)
RELEASE_NAMES = re.compile(r"release|vintage|realtime|publi[sc]|available", re.IGNORECASE)
ID_NAMES = re.compile(r"(^|[_ ])(id|ticker|symbol|series|asset|name|unique_id)($|[_ ])", re.IGNORECASE)
NAMELESS = re.compile(r"\s*|Unnamed: \d+")  # an index, as pandas writes it and as it reads it again
FEW_IDS = 0.5  # of the rows: a column of more different texts names no series
MOST_CATEGORIES = 50  # of a column of text that is an input
FEWEST_ROWS = 10  # of each category, on average


class Column(NamedTuple):
    """A column of a table, and what it seems to be.

    Attributes:
      role: field of `data.columns`, or "" if the column is left out.
      words: why, for reading.
    """

    name: str
    role: str
    words: str


class Inspection(NamedTuple):
    """A guess at a table: its rows, its columns and the settings to train on it.

    Attributes:
      rows: number of rows.
      first, last: first and last date.
      series: number of series.
      frequency: of the rows, such as "daily"; "" if they have none.
      columns: every column.
      data: settings of the section `data`, by name, without `dataset`.
      remarks: by setting, why it is so, or why it might be set.
    """

    rows: int
    first: pd.Timestamp
    last: pd.Timestamp
    series: int
    frequency: str
    columns: tuple[Column, ...]
    data: dict[str, Any]
    remarks: dict[str, str]


def read_any(path: Path) -> pd.DataFrame:
    """The table of a CSV or Parquet file: columns of numbers, dates and text, as far as they can be told.

    Raises:
      UserError: it cannot be read.
    """
    if path.suffix.lower() in PARQUET:
        return _with_index(read_parquet(path), str(path))
    return pd.DataFrame({name: _typed(cells) for name, cells in read_cells(path).items()})


def _with_index(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The columns of a frame, with the dates and the series' names that its index holds."""
    index = frame.index
    levels = {level: pd.Series(index.get_level_values(level)) for level in range(index.nlevels)}
    dates = [index.names[level] or "date" for level, cells in levels.items() if _holds_dates(cells)]
    dates += [str(name) for name, cells in frame.items() if _holds_dates(cells)]
    others = [index.names[level] for level, cells in levels.items() if not _holds_dates(cells)]
    return pd.DataFrame(columns_of(frame, where, [*dates, "date"][0], [*others, None][0])[1])


def _holds_dates(cells: pd.Series) -> bool:
    """Whether all cells are dates, year first."""
    if cells.dtype.kind == "M":
        return True
    text = cells.astype(str)
    if pd.api.types.is_numeric_dtype(cells) or not text.str.match(r"\d{4}-\d\d-\d\d").all():
        return False
    return bool(pd.to_datetime(text.str[:10], errors="coerce").notna().all())


def _typed(cells: Sequence[str]) -> pd.Series:
    """Text cells as numbers where all of them are, or else as they are; NaN where missing."""
    text = pd.Series(cells, dtype=object).where(lambda column: ~column.isin(MISSING), np.nan)
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers if numbers.isna().equals(text.isna()) else text


def looks_like(values: Float[np.ndarray, " N"]) -> str:
    """The kind of a column of numbers: "return", "percent return", "price", "level" or "constant".

    >>> looks_like(np.array([0.01, -0.02, 0.0, 0.015] * 9)), looks_like(np.linspace(90.0, 110.0, 36))
    ('return', 'price')
    """
    values = values[np.isfinite(values)]
    if len(values) < 3 or np.ptp(values) == 0:
        return "constant"
    before, after = values[:-1], values[1:]
    moves = bool(np.ptp(before) and np.ptp(after))
    autocorrelation = np.corrcoef(before, after)[0, 1] if moves else 1.0
    if values.min() > 0:
        changes = np.diff(np.log(values))
        return "price" if autocorrelation > MAX_AUTOCORRELATION and changes.std() < WILDEST else "level"
    spread = values.std()
    if values.max() <= 0 or autocorrelation > MAX_AUTOCORRELATION or spread < CALMEST:
        return "level"
    return "percent return" if spread > WILDEST else "return"


def inspect(
    frame: pd.DataFrame, date: str | None = None, target: str | None = None, id_column: str | None = None
) -> Inspection:
    """Finds dates, series, target and inputs of a table.

    Args:
      frame: what `read_any` returns.
      date, target, id_column: columns that are known; None finds them.

    Raises:
      UserError: no column of dates, no number, or rows of one date that no column tells apart.
    """
    for name in (date, target, id_column):
        if name is not None and name not in frame:
            raise UserError(f"found no column {name!r} among {listed(frame.columns)}. Correct it.")
    date = date or _date_column(frame)
    if not _holds_dates(frame[date]):
        raise _no_dates(date, frame[date])
    _refuse_intraday(date, frame[date])
    days = pd.to_datetime(frame[date].astype(str).str[:10], errors="coerce")
    numeric = [name for name in frame if name != date and pd.api.types.is_numeric_dtype(frame[name])]
    numeric = [name for name in numeric if name == target or not _numbers_rows(name, frame[name])]
    if target is None and id_column is None and len(numeric) == 1:
        _refuse_vintages(frame, numeric[0])
    if id_column is None and days.duplicated().any():
        id_column = _id_column(frame, date, days)
    numeric = [name for name in numeric if name != id_column]
    if not numeric:
        raise UserError(f"found no column of numbers among {listed(frame.columns)}: no target.")
    ids = None if id_column is None else frame[id_column]
    first = frame if ids is None else frame[ids == ids.iloc[0]]
    kinds = {name: _kind(name, first[name]) for name in numeric}
    if id_column is None and target is None and _is_wide(kinds):
        return _of_wide(frame, date, days, kinds)
    target = target or _target(kinds)
    columns = (
        Column(date, "date", f"dates, {days.min().date()} to {days.max().date()}"),
        *([] if id_column is None else [Column(id_column, "id", _count(frame[id_column]))]),
        Column(target, "target", _target_words(target, kinds[target])),
        *(
            _categories(name, frame[name], ids) or _other(name, first[name], kinds.get(name))
            for name in frame
            if name not in (date, id_column, target)
        ),
    )
    return _inspection(frame, days, _with_volatility(columns), kinds, target, id_column)


def _with_volatility(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, where one that training takes for a volatility by its name says so."""
    named = named_volatility(str(column.name) for column in columns if column.role == "observed")
    words = "; by its name the implied volatility (data.volatility) of baselines and scales"
    return tuple(c._replace(words=f"{c.words}{words}") if c.name == named else c for c in columns)


def _numbers_rows(name: Any, cells: pd.Series) -> bool:
    """Whether a column numbers the rows, as the index that pandas writes does."""
    if not pd.api.types.is_numeric_dtype(cells) or len(cells) < 2:
        return False
    steps = np.diff(cells.to_numpy(np.float64))
    return bool((steps == 1).all() or (NAMELESS.fullmatch(str(name)) and (steps > 0).all()))


def _date_column(frame: pd.DataFrame) -> str:
    """The first column whose cells are all dates."""
    for name in frame:
        if _holds_dates(frame[name]):
            return name
    named = next((name for name in frame if re.search("date|time|day", str(name), re.IGNORECASE)), None)
    if named is not None and len(frame):
        raise _no_dates(named, frame[named])
    raise UserError(
        f"found no column of dates among {listed(frame.columns)}, expected one with YYYY-MM-DD"
        " in every row. Write the dates in that form."
    )


def _no_dates(name: str, cells: pd.Series) -> UserError:
    """The error of a column that should hold dates, with the first cell that is none."""
    cell = next((cell for cell in cells if not _holds_dates(pd.Series([cell]))), "")
    return UserError(
        f"column {name!r}: found {cut(repr(str(cell)))}, expected a date as YYYY-MM-DD in every row. With"
        f" pandas: frame[{name!r}] = pd.to_datetime(frame[{name!r}].astype(str), dayfirst=True), without"
        " dayfirst where months stand first; then write the file again."
    )


def _refuse_intraday(name: str, cells: pd.Series) -> None:
    text = cells.astype(str)
    inside = text[text.str.match(TIME_OF_DAY)]
    if len(inside):
        found = f"column {name!r}: found {inside.iloc[0]!r}, expected a date without a time of day"
        raise UserError(f"{found}. {INTRADAY}")


def _refuse_vintages(frame: pd.DataFrame, value: str) -> None:
    """Refuses values with the dates on which they were published: a series to put beside a table.

    The second date has the name of one, or tells apart the rows of one date, whose value was revised.

    Raises:
      UserError: says where such a series goes.
    """
    dates = {
        name: pd.to_datetime(frame[name].astype(str).str[:10], errors="coerce")
        for name in frame
        if _holds_dates(frame[name])
    }
    for date, release in itertools.permutations(dates, 2):
        pairs = pd.DataFrame({"date": dates[date], "release": dates[release]})
        revised = pairs["date"].duplicated().any() and not pairs.duplicated().any()
        if (pairs["release"] >= pairs["date"]).all() and (revised or RELEASE_NAMES.search(str(release))):
            section = {"file": "FILE", "date": date, "value": value, "release": release}
            raise UserError(
                f"found dates in {date!r} and {release!r}, values in {value!r}: a series with release dates,"
                " which joins a table with a row a day and the target, and is none itself. Begin with that"
                ' table (tftjax init), then add to "data" of its config: '
                f'"series": {{"NAME": {json.dumps(section)}}}; in Python vintages={{"NAME": frame}}, with the'
                " columns observation, release and value. See docs/point-in-time.md, Series of your own."
            )


def _id_column(frame: pd.DataFrame, date: str, days: pd.Series) -> str:
    """The column that tells the rows of one date apart."""
    able = [
        name
        for name in frame
        if name != date
        and not pd.api.types.is_float_dtype(frame[name])
        and 1 < frame[name].nunique() <= FEW_IDS * len(frame)
        and not pd.DataFrame({"day": days, "id": frame[name]}).duplicated().any()
    ]
    able.sort(key=lambda name: not ID_NAMES.search(str(name)))
    if not able:
        day = days[days.duplicated()].iloc[0].date()
        raise UserError(
            f"column {date!r}: found {day} more than once, and no column of names that tells its rows apart,"
            " expected each date once, or a column such as 'ticker'. Remove the repeated rows, or add it."
        )
    return able[0]


def _kind(name: Any, cells: pd.Series) -> str:
    """The kind of a column, by its numbers and by its name; see `looks_like`."""
    kind = looks_like(cells.to_numpy(np.float64))
    return "level" if kind == "price" and VOLATILITY_NAMES.search(str(name)) else kind


def _is_wide(kinds: Mapping[str, str]) -> bool:
    """Whether columns of one kind, none of them named as a target, are a series each."""
    named = any(RETURN_NAMES.search(str(name)) or PRICE_NAMES.search(str(name)) for name in kinds)
    return len(kinds) > 2 and not named and set(kinds.values()) in ({"return"}, {"percent return"}, {"price"})


def _target(kinds: Mapping[str, str]) -> str:
    """The column that is most likely to be forecast: a return by name, a return, a price by name, a price."""

    def rank(name: str) -> tuple[bool, ...]:
        is_return, is_price = kinds[name].endswith("return"), kinds[name] == "price"
        return (
            not (is_return and RETURN_NAMES.search(str(name))),
            not is_return or any(PRICE_NAMES.search(str(other)) for other in kinds),
            not (is_price and PRICE_NAMES.search(str(name))),
            not is_return,
            not is_price,
        )

    return min(kinds, key=rank)


def _target_words(name: str, kind: str) -> str:
    log = ", log returns by the name: taken as they are" if "log" in str(name).lower() else ""
    words = {
        "return": f"target: looks like returns as decimals{log}",
        "percent return": f"target: looks like returns in percent{log}",
        "price": "target: looks like a price; its returns are forecast",
    }
    return words.get(kind, "target: looks like a level; its changes are forecast")


def _categories(name: str, cells: pd.Series, ids: pd.Series | None) -> Column | None:
    """The role of a column of text with few values; None of any other."""
    if pd.api.types.is_numeric_dtype(cells) or cells.dtype.kind == "M" or name in CALENDAR:
        return None
    values = sorted(map(str, cells.dropna().unique()))
    if not 2 <= len(values) <= min(MOST_CATEGORIES, len(cells) / FEWEST_ROWS):
        return None
    words = f"{len(values)} categories: {', '.join(values[:5])}{' ...' if len(values) > 5 else ''}"
    if ids is not None and cells.groupby(ids).nunique(dropna=False).max() == 1 and cells.notna().all():
        return Column(name, "static_categorical", f"static, {words}")
    return Column(name, "observed_categorical", f"observed, {words}{_missing(cells)}")


def _missing(cells: pd.Series) -> str:
    return f", missing in {cells.isna().mean():.1%} of the rows" if cells.isna().any() else ""


def _other(name: str, cells: pd.Series, kind: str | None) -> Column:
    """The role of a column that is neither date, id nor target."""
    if name in CALENDAR:
        return Column(name, "known_categorical", "known beforehand: made of the date")
    if kind is None and pd.api.types.is_numeric_dtype(cells):
        return Column(name, "", "left out: it numbers the rows")
    if kind is None:
        return Column(name, "", "left out: text of one or of many values; name it as a category if it helps")
    if kind == "constant":
        return Column(name, "", "left out: one value in all rows")
    drifts = ", drifts as a price does: its changes may serve better" if kind == "price" else ""
    return Column(name, "observed", f"observed{drifts}{_missing(cells)}")


def _count(ids: pd.Series) -> str:
    names = sorted(map(str, ids.unique()))
    return f"{len(names)} series: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"


def _of_wide(frame: pd.DataFrame, date: str, days: pd.Series, kinds: Mapping[str, str]) -> Inspection:
    """A table with a series a column."""
    kind = next(iter(kinds.values()))
    columns = (
        Column(date, "date", f"dates, {days.min().date()} to {days.max().date()}"),
        *(Column(name, "", _target_words(name, kind).replace("target", "a series", 1)) for name in kinds),
        *(_other(name, frame[name], None) for name in frame if name not in kinds and name != date),
    )
    target = "price" if kind == "price" else "ret"
    found = _inspection(frame, days, columns, {target: kind}, target, "series")
    return found._replace(data=found.data | {"wide": True}, series=len(kinds))


def _inspection(
    frame: pd.DataFrame,
    days: pd.Series,
    columns: tuple[Column, ...],
    kinds: Mapping[str, str],
    target: str,
    id_column: str | None,
) -> Inspection:
    """The settings that follow from the roles of the columns."""
    date = columns[0].name
    roles: dict[str, Any] = {"date": date, "target": target}
    roles |= {} if id_column is None else {"id": id_column}
    for role in ("observed", "observed_categorical", "known_categorical", "static_categorical"):
        names = [column.name for column in columns if column.role == role]
        roles |= {role: names} if names else {}
    data: dict[str, Any] = {"columns": roles}
    remarks: dict[str, str] = {}
    kind = kinds[target]
    if kind == "percent return":
        data["return_unit"] = "percent"
    if not kind.endswith("return"):
        data["target_transform"] = "return" if kind == "price" else "difference"
    if kind != "level":
        data["target_scale"] = "ewma"
        remarks["target_scale"] = "forecast in units of the target's moving volatility"
    observed = [*roles.get("observed", ()), *roles.get("observed_categorical", ())]
    observed = [name for name in observed if frame[name].isna().any()]
    if observed:
        data["missing"] = "mask"
        remarks["missing"] = f"{', '.join(observed)} may lack values"
    several = id_column is not None and id_column in frame
    parts = list(days.groupby(frame[id_column])) if several else [("", days)]
    frequency = _frequency({str(name): part for name, part in parts})
    if frequency == "daily" and _has_holidays(days):
        words = """not set: a next step may fall on a holiday; "XNYS" (extra calendars) knows an exchange's"""
        remarks["calendar"] = words
    return Inspection(len(frame), days.min(), days.max(), len(parts), frequency, columns, data, remarks)


def _has_holidays(days: pd.Series) -> bool:
    """Whether some weekdays have no row, as on an exchange's holidays, and no weekend has one.

    >>> days = pd.Series(pd.bdate_range("2024-01-01", "2024-12-31"))
    >>> _has_holidays(days), _has_holidays(days.drop([0, 14, 103, 256]))
    (False, True)
    """
    weekdays = np.busday_count(days.min().date(), days.max().date()) + 1
    return bool(days.dt.day_of_week.max() < 5 and days.nunique() < 0.99 * weekdays)


def _frequency(series: Mapping[str, pd.Series]) -> str:
    """The frequency that the rows of all series have, by the dates of each; "" if they have none."""
    try:
        dates = {name: np.unique(days.dropna().to_numpy("datetime64[D]")) for name, days in series.items()}
        return table_frequency(None, dates, "")
    except UserError:  # the checks before a training say what is wrong
        return ""
