"""The panel: one row a trading day, one column a feature, each holding only what was known on that day."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from tftjax.config import DataConfig, UserError
from tftjax.data.alignment import RELEASE_RULES, RULE_WORDS, as_of, check_gaps, days
from tftjax.data.feature_sets import CALENDAR, SERIES, FeatureSet, get_feature_set
from tftjax.data.sources import find_dataset, read_fred_folder, read_panel_csv

MAX_UNIT_FACTOR = 5.0  # between the train target's standard deviation and loss.target_std


@dataclass(frozen=True, eq=False)
class Panel:
    """A table of features with their roles.

    `frame` [N rows]: ascending dates; a float64 column a real feature, an int or str column a categorical.
    `observed` are real and hold the target's own history first; the static columns are constant. `staleness`
    [N rows]: days since the release of each low-frequency column's value. `messages`: what was dropped, which
    rules were used. `fingerprint`: sha256 of dates, column names and values.
    """

    frame: pd.DataFrame
    target: str
    observed: tuple[str, ...]
    known_real: tuple[str, ...]
    known_categorical: tuple[str, ...]
    static_real: tuple[str, ...]
    static_categorical: tuple[str, ...]
    staleness: pd.DataFrame
    messages: tuple[str, ...]
    fingerprint: str


def make_panel(
    frame: pd.DataFrame,
    *,
    target: str,
    observed: tuple[str, ...],
    known_real: tuple[str, ...] = (),
    known_categorical: tuple[str, ...] = (),
    static_real: tuple[str, ...] = (),
    static_categorical: tuple[str, ...] = (),
    staleness: pd.DataFrame | None = None,
    messages: tuple[str, ...] = (),
) -> Panel:
    """A checked panel with its fingerprint; columns without a role are left out.

    Raises: UserError if a column is missing, dates are not ascending, or a static column is not constant.
    """
    if not observed or observed[0] != target:
        raise UserError(f"panel: found observed columns {observed}, expected the target {target!r} first.")
    static = static_real + static_categorical
    columns = list(observed + known_real + known_categorical + static)
    missing = [name for name in columns if name not in frame]
    if missing or len(set(columns)) < len(columns):
        raise UserError(f"panel: columns {missing} are missing or one of {columns} has two roles.")
    if not (frame.index.is_monotonic_increasing and frame.index.is_unique):
        raise UserError("panel: found dates that are not ascending, expected each once, in order.")
    frame = frame[columns].rename_axis("date")
    for name in static:
        if frame[name].nunique(dropna=False) != 1:
            raise UserError(
                f"panel: the static column {name!r} has {frame[name].nunique(dropna=False)} values, expected"
                " the same one in every row. Make it a known or an observed column, or correct it."
            )
    if staleness is None:
        staleness = pd.DataFrame(index=frame.index)
    return Panel(
        frame=frame,
        target=target,
        observed=observed,
        known_real=known_real,
        known_categorical=known_categorical,
        static_real=static_real,
        static_categorical=static_categorical,
        staleness=staleness,
        messages=messages,
        fingerprint=fingerprint(frame),
    )


def fingerprint(frame: pd.DataFrame) -> str:
    """sha256 over the dates, the column names and the values' bytes, as hexadecimal text."""
    digest = hashlib.sha256(days(frame.index).astype("<i8").tobytes())
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype.kind == "f":
            content = values.astype("<f8").tobytes()
        elif values.dtype.kind in "iu":
            content = values.astype("<i8").tobytes()
        else:
            content = "\0".join(map(str, values)).encode()
        digest.update(f"\n{name}\n".encode() + content)
    return digest.hexdigest()


def load_panel(config: DataConfig) -> Panel:
    """Read, align and check the data set that the config names; its rows lie within start and end.

    Raises: UserError for anything wrong in the files, an unknown name, or a range without rows.
    """
    feature_set = get_feature_set(config.feature_set)
    path = find_dataset(config.dataset)
    if path.is_dir():
        if config.return_unit == "percent":
            raise UserError(
                'data.return_unit: found "percent" with a folder of raw series. They hold index levels, from'
                ' which returns are computed as decimals: there is nothing to convert. Set it to "decimal".'
            )
        series, messages = read_fred_folder(path, feature_set.series_names())
        frame, staleness = align(series, feature_set)
        messages += _release_messages(feature_set)
    else:
        frame, messages = read_panel_csv(path, feature_set, config.return_unit)
        series, staleness = {}, pd.DataFrame(index=frame.index)
    first_line = None if path.is_dir() else 2
    used, dropped = _used_rows(frame, config, path, first_line)
    frame = frame.loc[used]
    if series:
        _check_series(series, feature_set, frame.index, path)
    calendar = {name: CALENDAR[name](frame.index) for name in feature_set.names("known_categorical")}
    return make_panel(
        frame.assign(**calendar),
        target=feature_set.names("target")[0],
        observed=feature_set.names("target") + feature_set.names("observed"),
        known_real=feature_set.names("known_real"),
        known_categorical=feature_set.names("known_categorical"),
        staleness=staleness.loc[used],
        messages=messages + dropped,
    )


def align(series: dict[str, pd.Series], feature_set: FeatureSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every column joined as of each row's date, NaN before its first release; and the staleness table, days.

    Args: series: the raw series by name, without missing values; rows are the row series' dates.
    """
    index = series[feature_set.row_series].index
    rows = days(index)
    values, staleness = {}, {}
    for column in feature_set.read_columns():
        info = SERIES[column.sources[0]]
        own = column.on_dates(*(series[source] for source in column.sources))
        releases = RELEASE_RULES[info.release](days(own.index))
        joined, age = as_of(releases, own.to_numpy(np.float64), rows)
        values[column.name] = column.on_rows(joined)
        if info.frequency != "daily":
            staleness[column.name] = age
    return pd.DataFrame(values, index=index), pd.DataFrame(staleness, index=index)


def _check_series(
    series: dict[str, pd.Series], feature_set: FeatureSet, rows: pd.DatetimeIndex, folder: Path
) -> None:
    """Check what each column is made of: a spread or a yearly change can have wider gaps than its parts."""
    first, last = days(rows[[0, -1]])
    for column in feature_set.read_columns():
        info = SERIES[column.sources[0]]
        own = column.on_dates(*(series[source] for source in column.sources))
        files = ", ".join(str(folder / f"{source}.csv") for source in column.sources)
        check_gaps(
            days(own.index), info.frequency, info.release, first, last, f"{files}, column {column.name!r}"
        )


def _release_messages(feature_set: FeatureSet) -> tuple[str, ...]:
    return tuple(f"{name}: {RULE_WORDS[SERIES[name].release]}" for name in feature_set.series_names())


def _used_rows(
    frame: pd.DataFrame, config: DataConfig, path: Path, first_line: int | None
) -> tuple[Bool[np.ndarray, "N"], tuple[str, ...]]:
    """Which rows are used: those within start and end, from where every column has its first value on.

    Args: first_line: the line of the file on which row 0 stands, None if rows come from several files.
    Returns: a boolean mask [N] and messages about dropped rows.
    Raises: UserError for NaN after that, or if no row is left.
    """
    within = np.ones(len(frame), dtype=bool)
    if config.start is not None:
        within &= frame.index >= pd.Timestamp(config.start)
    if config.end is not None:
        within &= frame.index <= pd.Timestamp(config.end)
    missing = frame.isna().to_numpy()
    for position, name in enumerate(frame.columns):
        if missing[:, position].all():
            raise UserError(f"{path}, column {name!r}: found no value in any row, expected numbers. Fill it.")
    first_values = np.argmin(missing, axis=0)
    start = int(first_values.max())
    used = within & (np.arange(len(frame)) >= start)
    if not used.any():
        raise UserError(
            f"{path}: found no row between data.start {config.start} and data.end {config.end} with a value"
            f" in every column; complete rows go from {frame.index[start].date()} to"
            f" {frame.index[-1].date()}. Widen the range."
        )
    holes = missing & used[:, None]
    if holes.any():
        row, position = (int(i) for i in np.argwhere(holes)[0])
        where = f"line {first_line + row}" if first_line is not None else f"row {row}"
        raise UserError(
            f"{path}, {where} ({frame.index[row].date()}), column {frame.columns[position]!r}: found no value"
            " (NaN) after the column's first one, expected a number in every row. Fill it with what was known"
            " on that date, drop the row, or move data.start behind it."
        )
    count = int((within & ~used).sum())
    if not count:
        return used, ()
    late = [frame.columns[i] for i in np.flatnonzero(first_values == start)]
    return used, (
        f"dropped {count} leading rows: no value of {', '.join(late)} before {frame.index[start].date()}",
    )


def check_return_unit(train_target_sd: float, target_std: float) -> None:
    """Refuse a train target whose standard deviation is more than a factor 5 away from `loss.target_std`.

    Args: both as decimal returns. Raises: UserError that says which unit the data seems to be in.
    """
    sd, wanted = float(train_target_sd), float(target_std)
    if sd > 0 and math.isfinite(sd) and wanted / MAX_UNIT_FACTOR <= sd <= wanted * MAX_UNIT_FACTOR:
        return
    found = (
        f"the train target's standard deviation is {sd:.6g}, loss.target_std is {wanted:.6g}; expected them"
        f" within a factor {MAX_UNIT_FACTOR:g} of each other. "
    )
    if not (sd > 0 and math.isfinite(sd)):
        raise UserError(found + "The target is constant or not a number in the train rows: check its column.")
    # The unit that brings the two closest; a unit can explain only what looks like a factor of about 100.
    distance = {power: abs(math.log10(sd / wanted) - power) for power in (-2, 0, 2)}
    nearest = min(distance, key=distance.__getitem__)
    if nearest == 2:
        raise UserError(
            found + "The data seems to be in percent and loss.target_std in decimals: for a panel CSV set"
            ' data.return_unit to "percent", so that it is converted on reading.'
        )
    if nearest == -2:
        raise UserError(
            found
            + "The data seems to be in decimals and loss.target_std in percent: write it as a decimal (one"
            ' percent is 0.01). If data.return_unit is "percent", the file may hold decimals already: set it'
            ' to "decimal".'
        )
    raise UserError(
        found + "Both seem to be in decimals, but the series is much calmer or wilder than that: set"
        f" loss.target_std to about {sd:.2g}."
    )
