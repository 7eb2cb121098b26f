"""The panel: a row a day, of each series; a column a feature, holding only what was known on that day."""

import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pydantic
from jaxtyping import Shaped

from tftjax.config.data import DataConfig
from tftjax.data.alignment import days
from tftjax.data.calendar import (
    DATINGS,
    PERIODS,
    SPACINGS,
    Calendar,
    found_dating,
    found_days,
    found_frequency,
)
from tftjax.data.raw.cells import read_parts, to_dates
from tftjax.errors import UserError
from tftjax.files import check, read_json, replace_file, write_json

# Files that `write_panel` writes.
PANEL_FILES = ROWS_FILE, AGES_FILE, ROLES_FILE = "panel.csv", "staleness.csv", "panel.json"
ROLES = (
    "observed",
    "observed_categorical",
    "known_real",
    "known_categorical",
    "static_real",
    "static_categorical",
)


def blocks(frame: pd.DataFrame, id_column: str | None) -> tuple[tuple[str, range], ...]:
    """The series of a table by name, with their rows; without an id, all rows under an empty name."""
    if id_column is None or frame.empty:
        return (("", range(len(frame))),)
    names = frame[id_column].to_numpy()
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    stops = np.append(first[1:], len(names))
    return tuple(
        (str(names[start]), range(int(start), int(stop))) for start, stop in zip(first, stops, strict=True)
    )


def _check_series(part: pd.DataFrame, static: tuple[str, ...], which: str) -> None:
    if not (part.index.is_monotonic_increasing and part.index.is_unique):
        raise UserError(f"panel{which}: found dates that are not ascending, expected each once, in order.")
    for name in static:
        count = part[name].nunique(dropna=False)
        if count != 1:
            raise UserError(
                f"panel{which}: the static column {name!r} has {count} values, expected the same one in every"
                " row. Make it a known or an observed column, or correct it."
            )


def fingerprint(frame: pd.DataFrame) -> str:
    """sha256 over the dates, the column names and the values' bytes, as hexadecimal text."""
    digest = hashlib.sha256(days(frame.index).astype("<i8").tobytes())
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values)  # NaN has many spellings in bits
            content = values.astype("<f8").tobytes()
        elif values.dtype.kind in "iu":
            content = values.astype("<i8").tobytes()
        else:
            content = "\0".join(map(str, np.where(pd.isna(values), "", values))).encode()
        digest.update(f"\n{name}\n".encode() + content)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Panel:
    """A table of features with their roles.

    Attributes:
      frame: values by date, ascending within a series, one series after the other; float64 columns are real
        features, int and str columns categorical ones.
      target: name of the forecast column.
      observed: real columns, the target's history first; NaN where a value is missing (never the target's).
      observed_categorical: categorical columns that are observed; None or NaN where a value is missing.
      known_real: real columns known beforehand; NaN where a value is missing that may.
      known_categorical: categorical columns known beforehand.
      static_real: real columns, constant within a series.
      static_categorical: categorical columns, constant within a series.
      staleness: days since the release of each low-frequency column's value, on the rows of `frame`.
      messages: dropped rows and release rules, in words.
      fingerprint: sha256 of dates, column names and values.
      about: how the panel was made, such as feature set, alignment and units; JSON.
      id_column: static categorical column that names the series; None for a single one.
      weight: column of the rows' weights in training, which is no input; None: all rows are alike.
    """

    frame: pd.DataFrame
    target: str
    observed: tuple[str, ...]
    observed_categorical: tuple[str, ...]
    known_real: tuple[str, ...]
    known_categorical: tuple[str, ...]
    static_real: tuple[str, ...]
    static_categorical: tuple[str, ...]
    staleness: pd.DataFrame
    messages: tuple[str, ...]
    fingerprint: str
    about: dict
    id_column: str | None = None
    weight: str | None = None

    @property
    def masks_known(self) -> bool:
        """Whether known numbers may lack values (`data.missing_known`)."""
        return self.about.get("missing_known") == "mask"


def split_series(panel: Panel) -> tuple[Panel, ...]:
    """The panel of each series, in order."""
    return tuple(
        select_rows(panel, np.arange(rows.start, rows.stop))
        for _, rows in blocks(panel.frame, panel.id_column)
    )


def name_of(panel: Panel) -> str:
    """The name of the series of a panel that has one; empty without an id."""
    return "" if panel.id_column is None else str(panel.frame[panel.id_column].iloc[0])


def calendar_of(panel: Panel) -> Calendar:
    """The calendar of a panel's rows: as it was made, or as its rows have it where that is not kept.

    Raises:
      UserError: a frequency that is none.
    """
    about = panel.about
    frequency = about.get("frequency", "daily")
    if frequency not in SPACINGS:
        raise UserError(f"panel: found the frequency {frequency!r}, expected one of {', '.join(SPACINGS)}.")
    parts = [
        days(panel.frame.index[rows.start : rows.stop]) for _, rows in blocks(panel.frame, panel.id_column)
    ]
    if "calendar" not in about and frequency not in PERIODS:  # made when all rows were taken for days
        frequency = next(filter(None, map(found_frequency, parts)), "daily")
    dates = np.concatenate(parts)
    open_days = about.get("calendar") or found_days(dates, frequency)
    dated = about.get("dated") or found_dating(frequency, open_days, dates)
    return Calendar(frequency, open_days, dated, about.get("events", {}))


def select_rows(panel: Panel, rows: Shaped[np.ndarray, "M"], messages: tuple[str, ...] = ()) -> Panel:
    """The panel of some rows (positions in order, or a mask), with further messages."""
    return with_rows(panel, panel.frame.iloc[rows], panel.staleness.iloc[rows], messages)


def join_series(panels: Sequence[Panel]) -> Panel:
    """One panel of several series; the inverse of `split_series`."""
    if len(panels) == 1:
        return panels[0]
    frames, ages = ([getattr(panel, name) for panel in panels] for name in ("frame", "staleness"))
    return with_rows(panels[0], pd.concat(frames), pd.concat(ages))


def with_rows(
    panel: Panel, frame: pd.DataFrame, staleness: pd.DataFrame, messages: tuple[str, ...] = ()
) -> Panel:
    """A panel with the columns of another and other rows, checked."""
    return make_panel(
        frame,
        target=panel.target,
        staleness=staleness,
        messages=panel.messages + messages,
        about=panel.about,
        id_column=panel.id_column,
        weight=panel.weight,
        **{role: getattr(panel, role) for role in ROLES},
    )


def make_panel(
    frame: pd.DataFrame,
    *,
    target: str,
    observed: tuple[str, ...],
    observed_categorical: tuple[str, ...] = (),
    known_real: tuple[str, ...] = (),
    known_categorical: tuple[str, ...] = (),
    static_real: tuple[str, ...] = (),
    static_categorical: tuple[str, ...] = (),
    staleness: pd.DataFrame | None = None,
    messages: tuple[str, ...] = (),
    about: dict | None = None,
    id_column: str | None = None,
    weight: str | None = None,
) -> Panel:
    """A checked panel with its fingerprint; columns without a role are left out.

    Raises:
      UserError: a column is missing, the index holds no dates, dates of a series are not ascending, or its
        static columns not constant.
    """
    if not observed or observed[0] != target:
        raise UserError(f"panel: found observed columns {observed}, expected the target {target!r} first.")
    static, weights = static_real + static_categorical, () if weight is None else (weight,)
    columns = [*observed, *observed_categorical, *known_real, *known_categorical, *static, *weights]
    missing = [name for name in columns if name not in frame]
    if missing or len(set(columns)) < len(columns):
        raise UserError(f"panel: columns {missing} are missing or one of {columns} has two roles.")
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise UserError(
            f"panel: found an index of {frame.index.dtype}, expected dates. Set it with"
            " frame.set_index(...), or give tftjax.fit the frame: it takes a column of dates."
        )
    frame = frame[columns].rename_axis("date")
    series = blocks(frame, id_column)
    if len({name for name, _ in series}) < len(series):
        raise UserError(
            f"panel: found the rows of one {id_column} in several places, expected them together."
        )
    for name, rows in series:
        _check_series(frame.iloc[rows.start : rows.stop], static, f", series {name!r}" if id_column else "")
    return Panel(
        frame=frame,
        target=target,
        observed=observed,
        observed_categorical=observed_categorical,
        known_real=known_real,
        known_categorical=known_categorical,
        static_real=static_real,
        static_categorical=static_categorical,
        staleness=pd.DataFrame(index=frame.index) if staleness is None else staleness,
        messages=messages,
        fingerprint=fingerprint(frame),
        about=about or {},
        id_column=id_column,
        weight=weight,
    )


def write_panel(directory: Path, panel: Panel, like: Path | None = None) -> None:
    """Writes the rows, their staleness (where there is a low-frequency column), and the columns' roles.

    Args:
      like: a directory that the same panel was written into: a copy takes a tenth of the time.
    Raises:
      UserError: a file cannot be written.
    """
    tables = {ROWS_FILE: panel.frame, AGES_FILE: panel.staleness}
    for name, table in tables.items():
        if len(table.columns):
            copied = like and partial(shutil.copyfile, like / name)
            replace_file(directory / name, copied or table.to_csv)
    roles = {role: list(getattr(panel, role)) for role in ROLES}
    content = {"target": panel.target, **roles, "messages": list(panel.messages), "about": panel.about}
    content["id_column"] = panel.id_column
    if panel.weight is not None:
        content["weight"] = panel.weight
    content["staleness"] = list(panel.staleness.columns)
    content["text"] = [name for name in panel.frame if panel.frame[name].dtype.kind not in "fiu"]
    write_json(directory / ROLES_FILE, content | {"fingerprint": panel.fingerprint})


class _About(pydantic.BaseModel):
    """A panel's `about`, as far as it is read."""

    model_config = pydantic.ConfigDict(extra="allow")
    frequency: Literal[tuple(SPACINGS)] = "daily"
    calendar: Annotated[str, pydantic.Field(pattern="[^0]")] | None = None  # a week has a day
    dated: Annotated[str, pydantic.Field(pattern=rf"^({'|'.join(DATINGS)}|\d+)$")] | None = None
    events: dict[str, list[Annotated[str, pydantic.Field(pattern=r"^\d{4}-\d\d-\d\d$")]]] = {}
    made: list[str] = []
    target_transform: DataConfig.model_fields["target_transform"].annotation = "none"
    levels: dict[str, Annotated[list[str | float], pydantic.Field(min_length=2, max_length=2)]] = {}
    max_gap: int = 1


class _Written(pydantic.BaseModel):
    """The content of ROLES_FILE, as `write_panel` writes it."""

    target: str
    observed: list[str]
    observed_categorical: list[str] = []  # a panel of before has none
    known_real: list[str]
    known_categorical: list[str]
    static_real: list[str]
    static_categorical: list[str]
    messages: list[str]
    about: _About = _About()
    id_column: str | None = None
    weight: str | None = None
    staleness: list[str] = []
    text: list[str]
    fingerprint: str


def read_panel(directory: Path) -> Panel:
    """Reads what `write_panel` wrote.

    Raises:
      UserError: a file is missing or not as it was written.
    """
    path = directory / ROWS_FILE
    advice = "Bring a copy back, or make it again."
    about = read_json(directory / ROLES_FILE, advice)
    check(about, _Written, directory / ROLES_FILE, advice)
    try:
        roles = {role: tuple(about.get(role, ())) for role in ROLES}
        real = (*roles["observed"], *roles["known_real"], *roles["static_real"])
        real += () if about.get("weight") is None else (about["weight"],)
        frame = _read_rows(path, dict.fromkeys(real, float) | dict.fromkeys(about["text"], object))
        staleness = pd.DataFrame(index=frame.index)
        if about.get("staleness"):
            ages = dict.fromkeys(about["staleness"], float)
            staleness = _read_rows(directory / AGES_FILE, ages)[about["staleness"]]
            if not staleness.index.equals(frame.index):
                raise ValueError(f"{AGES_FILE} has other rows")
        panel = make_panel(
            frame,
            target=about["target"],
            messages=tuple(about["messages"]),
            staleness=staleness,
            about=dict(about.get("about", {})),
            id_column=about.get("id_column"),
            weight=about.get("weight"),
            **roles,
        )
        fingerprint = about["fingerprint"]
    except (ValueError, KeyError, TypeError, OverflowError, UserError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {advice}") from error
    if panel.fingerprint != fingerprint:
        raise UserError(f"{path}: not as it was written. {advice}")
    return panel


def _read_rows(path: Path, types: dict[str, type]) -> pd.DataFrame:
    """A table that `to_csv` wrote; columns without a type are int. An empty cell is NaN or None."""
    parts = []
    for _, cells in read_parts(path):
        # Not pandas' parser: its numbers are not exact in every version.
        columns = {
            name: np.array([_READ[types.get(name, int)](cell) for cell in column], types.get(name, np.int64))
            for name, column in cells.items()
            if name != "date"
        }
        dates = pd.DatetimeIndex(to_dates(path, "date", cells["date"]), name="date").as_unit("ns")
        parts.append(pd.DataFrame(columns, index=dates))
    return pd.concat(parts)


_READ = {
    float: lambda cell: float(cell) if cell else np.nan,
    int: int,
    object: lambda cell: sys.intern(cell) if cell else None,
}
