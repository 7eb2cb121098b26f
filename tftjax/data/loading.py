"""From raw series or a table of one's own to a panel: reading, aligning, checking."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from tftjax import files
from tftjax.config.data import DataConfig
from tftjax.data.alignment import (
    RELEASE_RULES,
    NoRows,
    Observations,
    as_of,
    check_gaps,
    check_row_gaps,
    days,
    fixed_lag,
    publications,
    resample,
    snapshot,
)
from tftjax.data.calendar import (
    Calendar,
    check_days,
    found_dating,
    found_days,
    is_resampled,
    table_frequency,
)
from tftjax.data.feature_sets import SERIES, FeatureSet, from_columns, get_feature_set, lag_of, source_of
from tftjax.data.panel import (
    ROLES,
    ROLES_FILE,
    Panel,
    blocks,
    calendar_of,
    join_series,
    make_panel,
    name_of,
    read_panel,
    select_rows,
)
from tftjax.data.raw.cells import NEVER
from tftjax.data.raw.fred_csv import read_fred_folder
from tftjax.data.series.join import (
    Published,
    check_published,
    join,
    places_of,
    publish,
    with_series,
    words_of,
)
from tftjax.data.series.reading import NO_VINTAGES, Vintages
from tftjax.data.tables.future import FUTURE, ended, future_to_json, split_future
from tftjax.data.tables.table import Table, check_weights, file_table, frame_table, read_table
from tftjax.data.tables.transforms import TARGET_TRANSFORMS, transform_target
from tftjax.errors import UserError, both

DEFAULT_FEATURE_SET = "core_embedded"
# Settings that make other values of the same raw series.
MAKES_OTHER_VALUES = (
    "feature_set",
    "frequency",
    "alignment",
    "vintage",
    "lags",
    "missing",
    "missing_known",
    "target_transform",
    "series",
)
FRAME = "frame"  # data.dataset of a data frame that is handed over


def load_panel(
    config: DataConfig, frame: pd.DataFrame | None = None, vintages: Vintages = NO_VINTAGES
) -> Panel:
    """Reads, aligns and checks the data set that a config names; its rows lie within start and end.

    Args:
      frame: a table in place of the one that the config names, dates in its index or in a column; it is left
        as it is. `frames.to_pandas` makes one of other libraries' tables.
      vintages: frames of the series in `data.series` that have no file, by name; see `read_sources`.

    Raises:
      UserError: anything wrong in the data, an unknown name, or a range without rows.
    """
    if frame is None:
        path = find_dataset(config.dataset)
        if (path / ROLES_FILE).is_file():
            check_no_vintages(vintages, f"the built panel {path}")
            return use_panel(read_panel(path), config, f"the built panel {path}")
        published = publish(config, vintages)
        if path.is_dir():
            panel = _from_raw_series(path, config, published)
        else:
            panel = _from_table(table_of(config), config, published)
    else:
        config = config.model_copy(update={"dataset": FRAME})
        panel = _from_table(table_of(config, frame), config, publish(config, vintages))
    missing = panel.frame.isna().mean()
    masked = ", ".join(f"{name} in {share:.1%} of the rows" for name, share in missing.items() if share)
    messages = (f"no value, and masked: {masked}",) if masked else ()
    return dataclasses.replace(panel, messages=panel.messages + messages)


def check_no_vintages(vintages: Vintages, where: str) -> None:
    """Refuses vintages with a panel, which has been made."""
    if vintages:
        raise UserError(
            f"vintages: found {', '.join(vintages)} with {where}, whose columns are made already, expected"
            " none. Leave them out, or give the table that the panel was made of."
        )


def table_of(config: DataConfig, frame: pd.DataFrame | None = None) -> Table:
    """The table that a frame holds, or the file that a config names.

    Raises:
      UserError: a Parquet file that cannot be read, or a frame with an index that cannot be dates.
    """
    id_column = None if config.columns is None or config.wide else config.columns.id
    if frame is not None:
        return frame_table(frame, date_column(config), id_column)
    return file_table(find_dataset(config.dataset), date_column(config), id_column)


def date_column(config: DataConfig) -> str:
    """The name of a table's column of dates."""
    return "date" if config.columns is None else config.columns.date


def _from_table(table: Table, config: DataConfig, published: Sequence[Published]) -> Panel:
    feature_set, where = feature_set_of(config), table.where
    whole = with_series(feature_set, config)
    frame, lines, messages = read_table(
        table, feature_set, config.return_unit, date_column(config), config.wide
    )
    given = feature_set.given_columns()
    if given and config.missing_known == "refuse":
        messages += (
            f"known columns that the date does not give ({', '.join(given)}): to forecast, their values of"
            f" the steps ahead are needed ({both('--future')}), or rows without a target at the end",
        )
    words = f"{where}, {table.row_word}"
    frame, lines, future = split_future(frame, lines, feature_set, words, config.end, config.missing_known)
    check_weights(table, frame, lines, feature_set)
    target, transform = feature_set.names("target")[0], config.target_transform
    levels = frame[target].to_numpy(np.float64)
    frame = transform_target(
        frame, target, feature_set.id_column, transform, where, lambda row: table.place(int(lines[row]))
    )
    if undone := TARGET_TRANSFORMS[transform].undo is not None:
        messages += (f"{target}: {transform} of the table's levels; a series' first row has none",)
    dates = {name: days(frame.index[r.start : r.stop]) for name, r in blocks(frame, feature_set.id_column)}
    frequency = table_frequency(config.frequency, dates, where)
    if config.frequency is None and frequency != "daily":
        messages += (f"{frequency} rows, as the table has them",)
    parts, unused, first_levels = [], {}, {}
    for name, rows in blocks(frame, feature_set.id_column):
        part = slice(rows.start, rows.stop)
        which = f"{where}, series {name!r}" if feature_set.id_column is not None else where
        try:
            joined = join(frame.iloc[part], pd.DataFrame(index=frame.index[part]), published)
            panel = _table_rows(table, which, whole, joined, lines[part], config, frequency, published)
        except NoRows as error:
            if feature_set.id_column is None:
                raise
            unused[name] = error
            continue
        parts.append(panel)
        first = panel.frame.index[0]
        first_levels[name] = [str(first.date()), float(levels[part][frame.index[part].get_loc(first)])]
    if not parts:
        raise UserError(
            f"{where}: no series has a row to use between data.start {config.start} and data.end"
            f" {config.end}; rows go from {frame.index.min().date()} to {frame.index.max().date()}. Widen the"
            f" range. Of the first: {next(iter(unused.values()))}"
        )
    if unused:
        messages += (f"left out {len(unused)} series without a row to use: {', '.join(unused)}",)
    joined = _joined(parts)
    messages, of_all = messages + words_of(published) + joined.messages, {}
    if len(future):
        use = "kept as the future"
        if any(is_resampled(frequency, dates[name_of(part)], where) for part in parts):
            use = f"left out, as steps are {frequency}; a forecast takes a row a step ({both('--future')})"
        else:
            of_all[FUTURE] = future_to_json(future)
        messages += (f"{len(future)} rows without a target at the end: {use}",)
    of_all |= {"levels": first_levels} if undone else {}
    return dataclasses.replace(joined, messages=messages, about=joined.about | of_all)


def _joined(parts: Sequence[Panel]) -> Panel:
    """One panel of several series, and of their messages: one on all of them once, others with names."""
    messages: tuple[str, ...] = ()
    for message in dict.fromkeys(message for part in parts for message in part.messages):
        names = [name_of(part) for part in parts if message in part.messages]
        messages += (message if len(names) == len(parts) else f"{', '.join(names)}: {message}",)
    joined = join_series(parts)
    # What differs between the series is found from the rows of each.
    same = {
        key: joined.about[key] if all(part.about[key] == joined.about[key] for part in parts) else None
        for key in ("calendar", "dated")
    }
    return dataclasses.replace(joined, messages=messages, about=joined.about | same)


def _table_rows(
    table: Table,
    where: str,
    feature_set: FeatureSet,
    joined: tuple[pd.DataFrame, pd.DataFrame],
    lines: Int[np.ndarray, "N"],
    config: DataConfig,
    frequency: str,
    published: Sequence[Published],
) -> Panel:
    """The panel of one series of a table, and of the staleness of its columns, at a frequency."""
    frame, staleness = joined

    def place(row: int) -> str:
        words = table.place(int(lines[row]))
        return words if words.endswith(")") else f"{words} ({frame.index[row].date()})"

    used, dropped = _used_rows(frame, feature_set, config, where, place, places_of(published))
    column = f"{where}, column {date_column(config)!r}"
    calendar, of_rows = _calendars(days(frame.index), frequency, config, column)
    rows, numbers = days(frame.index[used]), lines[used]
    if config.calendar is not None:
        check_days(
            config.calendar, rows, of_rows == "daily", column, lambda row: table.place(int(numbers[row]))
        )
    limits = {"open_days": calendar.days, "frequency": of_rows, "row_word": table.row_word}
    check_row_gaps(rows, numbers, column, config.max_gap, **limits)
    check_published(published, rows)
    return _panel(feature_set, frame.loc[used], staleness.loc[used], dropped, config, calendar, of_rows)


def _calendars(
    dates: Shaped[np.ndarray, "N"], frequency: str, config: DataConfig, where: str
) -> tuple[Calendar, str]:
    """The calendar of a series' rows-to-be, and the frequency of the rows that they are made of."""
    of_rows = "daily" if is_resampled(frequency, dates, where) else frequency
    open_days = config.calendar or found_days(dates, of_rows)
    dated = found_dating(of_rows, open_days, dates)
    return Calendar(frequency, open_days, dated, config.model_dump(mode="json")["events"]), of_rows


def feature_set_of(config: DataConfig) -> FeatureSet:
    """The feature set that a config names, or that its `data.columns` make; without `data.series`."""
    if config.columns is not None:
        return from_columns(config.columns, config.calendar, tuple(config.events))
    return get_feature_set(config.feature_set or DEFAULT_FEATURE_SET)


def _from_raw_series(path: Path, config: DataConfig, published: Sequence[Published]) -> Panel:
    if config.columns is not None:
        raise UserError(
            f"data.columns: found roles of columns with the folder {path}, expected them with a CSV file."
            " Take them out, or name the file in data.dataset."
        )
    if config.target_transform != "none":
        raise UserError(
            f"data.target_transform: found {config.target_transform!r} with the folder of raw series {path},"
            ' whose target is a return already: there is nothing to make of it. Set it to "none".'
        )
    if config.return_unit == "percent":
        raise UserError(
            'data.return_unit: found "percent" with a folder of raw series. They hold index levels, from'
            ' which returns are computed as decimals: there is nothing to convert. Set it to "decimal".'
        )
    feature_set = feature_set_of(config)
    series, rules, messages = read_fred_folder(path, feature_set.series_names())
    if config.alignment == "fixed":
        series, rules = _with_fixed_lags(series, config)
    row_series = series[feature_set.row_series]
    late = row_series.releases != row_series.dates
    if late.any():
        row = int(np.argmax(late))
        raise UserError(
            f"{path / feature_set.row_series}.csv: found the value of {row_series.dates[row]} released on"
            f" {row_series.releases[row]}, expected its own day: a row's return would be an earlier"
            " day's, and other columns would know it. Leave out its release dates and its lag."
        )
    frame, staleness = join(*align(series, feature_set, config.vintage), published)
    messages += tuple(f"{name}: {words}" for name, words in rules.items()) + words_of(published)
    made_of = {column.name: _files(path, column.sources) for column in feature_set.read_columns()}
    made_of, whole = made_of | places_of(published), with_series(feature_set, config)
    used, dropped = _used_rows(
        frame, whole, config, str(path), lambda row: f"row {row} ({frame.index[row].date()})", made_of
    )
    _check_series(series, feature_set, frame.index[used], config, path)
    dates = days(frame.index)
    check_published(published, dates[used])
    frequency = table_frequency(config.frequency, {"": dates}, str(path))
    calendar, of_rows = _calendars(dates, frequency, config, str(path))
    if config.calendar is not None:
        place = lambda row: f"row {row} of those used"  # noqa: E731
        check_days(config.calendar, dates[used], of_rows == "daily", str(path), place)
    frame, staleness = frame.loc[used], staleness.loc[used]
    return _panel(whole, frame, staleness, messages + dropped, config, calendar, of_rows)


def _panel(
    feature_set: FeatureSet,
    frame: pd.DataFrame,
    staleness: pd.DataFrame,
    messages: tuple[str, ...],
    config: DataConfig,
    calendar: Calendar,
    of_rows: str,
) -> Panel:
    """The panel of rows of the frequency `of_rows`, at the calendar's frequency."""
    target = feature_set.names("target")[0]
    if calendar.frequency != of_rows:
        aggregate = TARGET_TRANSFORMS[config.target_transform].aggregate
        frame, staleness, added = resample(
            frame, staleness, target, calendar.frequency, calendar.days, aggregate
        )
        messages += added
    made = {
        name: make(frame[source_of(name, target)], calendar)
        for name, make in feature_set.made_columns().items()
    }
    first = max((lag_of(name) or 0 for name in made), default=0)  # rows that lags take
    if first >= len(frame):
        raise NoRows(f"data.columns.known_real: found {len(frame)} rows, fewer than the lags take. Use more.")
    if first:
        late = next(name for name in made if lag_of(name) == first)
        before = frame.index[first].date()
        messages += (f"leading rows dropped: {first}, no value of {late} before {before}",)
    frame, staleness = frame.assign(**made).iloc[first:], staleness.iloc[first:]
    holes = frame[list(made)].isna()
    if holes.any(axis=None) and config.missing_known == "refuse":
        name = holes.columns[holes.any()][0]
        raise UserError(
            f"data.columns.known_real: {name!r} has no value on {frame.index[holes[name]][0].date()}, as"
            f" {source_of(name, target)!r} has none {lag_of(name)} rows before. Fill that column, or leave"
            " the lag out."
        )
    names = {role: feature_set.names(role) for role in ROLES}
    names["observed"] = (target, *names["observed"])
    return make_panel(
        frame,
        target=target,
        staleness=staleness,
        messages=messages,
        about=built_about(config, calendar),
        id_column=feature_set.id_column,
        weight=next(iter(feature_set.names("weight")), None),
        **names,
    )


def built_about(config: DataConfig, calendar: Calendar) -> dict:
    """A panel's making: the settings of its data, units and sources by column, and its rows' calendar."""
    feature_set = with_series(feature_set_of(config), config)
    content = config.model_dump(mode="json")
    content["feature_set"] = None if config.columns else config.feature_set or DEFAULT_FEATURE_SET
    return {
        **{
            key: content[key]
            for key in ("dataset", "columns", *MAKES_OTHER_VALUES, "return_unit", "max_gap", "start", "end")
        },
        "units": {column.name: column.unit for column in feature_set.columns},
        "sources": {column.name: list(column.sources) for column in feature_set.columns},
        "made": list(feature_set.made_columns()),
        "frequency": calendar.frequency,
        "calendar": calendar.days,
        "dated": calendar.dated,
        "events": dict(calendar.events),
    }


def use_panel(panel: Panel, config: DataConfig, where: str) -> Panel:
    """The rows of a built panel between start and end, with the roles and the alignment of its making.

    Args:
      where: what error messages call the panel.

    Raises:
      UserError: a setting that would have made another panel, or a range without rows.
    """
    settings, defaults = config.model_dump(mode="json"), DataConfig().model_dump(mode="json")
    for key in (*MAKES_OTHER_VALUES, "columns", "return_unit"):
        value, built = settings[key], panel.about.get(key)
        if key == "columns" and value and built:
            # A panel of before lacks later roles, and a forecast needs no weights.
            empty = {role: None if role == "weight" else [] for role in value.keys() - built.keys()}
            built = empty | built | ({"weight": None} if value["weight"] is None else {})
        if value not in (defaults[key], built):
            raise UserError(
                f"data.{key}: found {value!r} with {where}, which has {built!r}."
                " Leave the key out, or build the panel anew with it."
            )
    frame, within = panel.frame, within_range(panel.frame.index, config)
    if not within.any():
        raise UserError(
            f"{where}: found no row between data.start {config.start} and data.end {config.end}; rows go from"
            f" {frame.index.min().date()} to {frame.index.max().date()}. Widen the range."
        )
    if config.end is not None:
        before = frame.index <= pd.Timestamp(config.end)
        panel, within = ended(panel, before), within[before]
    panel = select_rows(panel, within)
    if config.calendar is None:
        return panel
    calendar, dates = calendar_of(panel)._replace(days=config.calendar), days(panel.frame.index)
    place = lambda row: f"row {row} of those used"  # noqa: E731
    check_days(config.calendar, dates, calendar.frequency == "daily", where, place)
    return dataclasses.replace(panel, about=panel.about | {"calendar": config.calendar})


def values_made_by(panel: Panel) -> dict:
    """The settings that made a panel's values, as far as it tells them."""
    made = {key: panel.about[key] for key in MAKES_OTHER_VALUES if key in panel.about}
    if "calendar" not in panel.about and made.get("frequency") == "daily":
        del made["frequency"]  # all rows were taken for days
    return made


def check_made_like(panel: Panel, trained: Panel, where: str) -> None:
    """Refuses a panel with other columns or other roles of them than a run's, or of values made otherwise.

    Args:
      trained: the run's panel.
      where: what errors call the other one.
    Raises:
      UserError: names the columns, or the setting.
    """
    advice = "Give data that was made like the run's."
    for role in ROLES:
        found, expected = getattr(panel, role), getattr(trained, role)
        if found == expected:
            continue
        lacking = [name for name in expected if name not in found]
        more = [name for name in found if name not in expected]
        parts = [f"lack {', '.join(lacking)}"] if lacking else []
        parts += [f"have {', '.join(more)} more"] if more else []
        words = " and ".join(parts) or f"are in another order ({', '.join(found)})"
        raise UserError(f"{where}: beside the run's data, its {role} columns {words}. {advice}")
    for key, value in values_made_by(trained).items():
        if panel.about.get(key, value) != value:
            raise UserError(
                f"{where}: was made with {key} {panel.about[key]!r}, the run's data with {value!r}. {advice}"
            )


def align(
    series: dict[str, Observations], feature_set: FeatureSet, vintage: str = "first"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every column joined as of each row's date, NaN before its first release; and the staleness table, days.

    Rows are the dates of the row series.

    Args:
      series: raw series by name.
      vintage: see `publications`.
    """
    row_days = np.unique(series[feature_set.row_series].dates)
    values, staleness = {}, {}
    for column in feature_set.read_columns():
        sources = [series[source] for source in column.sources]
        joined, age = as_of(*publications(sources, column.on_dates, vintage), row_days)
        values[column.name] = column.on_rows(age if column.of_age else joined)
        if SERIES[column.sources[0]].frequency != "daily" and not column.of_age:
            staleness[column.name] = age
    index = pd.DatetimeIndex(row_days, name="date").as_unit("ns")
    return pd.DataFrame(values, index=index), pd.DataFrame(staleness, index=index)


def _with_fixed_lags(
    series: dict[str, Observations], config: DataConfig
) -> tuple[dict[str, Observations], dict[str, str]]:
    """The series under `data.alignment: "fixed"`, and in words by name when each is visible."""
    lags = {name: config.lags.get(name, SERIES[name].lag_days) for name in series}
    unknown = sorted(set(config.lags) - set(SERIES) - set(config.series))
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], SERIES, n=3, cutoff=0.4) or sorted(SERIES)
        raise UserError(
            f"data.lags: found the series {unknown[0]!r}, expected one of {', '.join(nearest)}. Correct it."
        )
    shifted = {name: fixed_lag(values, lags[name]) for name, values in series.items()}
    return shifted, {name: f"visible {lag} days after its date" for name, lag in lags.items()}


def _check_series(
    series: dict[str, Observations],
    feature_set: FeatureSet,
    rows: pd.DatetimeIndex,
    config: DataConfig,
    folder: Path,
) -> None:
    """Checks the gaps of each column: a spread or a yearly change can have wider ones than its sources."""
    first, last = days(rows[[0, -1]])
    for column in feature_set.read_columns():
        info = SERIES[column.sources[0]]
        values = column.on_dates(*(snapshot(series[source], NEVER) for source in column.sources))
        release = RELEASE_RULES[info.release]
        if config.alignment == "fixed":
            lag = np.timedelta64(config.lags.get(column.sources[0], info.lag_days), "D")
            release = lambda dates, lag=lag: dates + lag  # noqa: E731
        where = f"{_files(folder, column.sources)}, column {column.name!r}"
        check_gaps(days(values.index), info.frequency, release, first, last, where, config.max_gap)


def _files(folder: Path, sources: Sequence[str]) -> str:
    """The files of raw series, in words."""
    return ", ".join(str(folder / f"{source}.csv") for source in sources)


def within_range(index: pd.DatetimeIndex, config: DataConfig) -> Bool[np.ndarray, "N"]:
    """Marks the rows within data.start and data.end."""
    within = np.ones(len(index), dtype=bool)
    if config.start is not None:
        within &= index >= pd.Timestamp(config.start)
    if config.end is not None:
        within &= index <= pd.Timestamp(config.end)
    return within


def _used_rows(
    frame: pd.DataFrame,
    feature_set: FeatureSet,
    config: DataConfig,
    where: str,
    place: Callable[[int], str],
    made_of: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Bool[np.ndarray, "N"], tuple[str, ...]]:
    """The used rows of a series: those in range, from the row on where every column has had a value.

    Under `data.missing: "mask"`, observed columns may lack values anywhere; under `data.missing_known`, known
    numbers.

    Args:
      where: file and series, for messages.
      place: row of `frame` -> its place and date in words.
      made_of: the files of each column that has its own.

    Returns:
      Whether each row is used, and messages about dropped rows.

    Raises:
      UserError: NaN in a used row.
      NoRows: no row is left.
    """
    within = within_range(frame.index, config)
    optional = _observed(feature_set) if config.missing == "mask" else ()
    optional += feature_set.names("known_real") if config.missing_known == "mask" else ()
    needed = [name for name in frame.columns if name not in optional]
    missing = frame[needed].isna().to_numpy()
    for position, name in enumerate(needed):
        if missing[:, position].all():
            too_few = "There may be too few rows to make it of: add older ones."
            advice = too_few if name in made_of else "Fill it."
            kind = NoRows if name in made_of else UserError
            raise kind(
                f"{made_of.get(name, where)}, column {name!r}: found no value in any row, expected numbers."
                f" {advice}"
            )
    first_values = np.argmin(missing, axis=0)
    start = int(first_values.max())
    used = within & (np.arange(len(frame)) >= start)
    if not used.any():
        raise NoRows(
            f"{where}: found no row between data.start {config.start} and data.end {config.end} with a value"
            f" in every column; complete rows go from {frame.index[start].date()} to"
            f" {frame.index[-1].date()}. Widen the range."
        )
    holes = np.argwhere(missing & used[:, None])
    if len(holes):
        row, name = int(holes[0, 0]), needed[holes[0, 1]]
        raise _hole(f"{made_of.get(name, where)}, {place(row)}, column {name!r}", name, feature_set)
    count = int((within & ~used).sum())
    if not count:
        return used, ()
    late = [needed[i] for i in np.flatnonzero(first_values == start)]
    before = frame.index[start].date()
    return used, (f"leading rows dropped: {count}, no value of {', '.join(late)} before {before}",)


def _observed(feature_set: FeatureSet) -> tuple[str, ...]:
    """The observed columns but the target."""
    return feature_set.names("observed") + feature_set.names("observed_categorical")


def _hole(where: str, name: str, feature_set: FeatureSet) -> UserError:
    """The error on a missing value in a used row."""
    masked = ", set data.missing to 'mask'" if name in _observed(feature_set) else ""
    masked = ", set data.missing_known to 'mask'" if name in feature_set.names("known_real") else masked
    is_target = name in feature_set.names("target")
    fill = "Correct it" if is_target else "Fill it with what was known on that date"
    return UserError(
        f"{where}: found no value (NaN) after the column's first one, expected a number in every row. {fill},"
        f" drop the row{masked}, or move data.start behind it."
    )


PACKAGE = Path(__file__).resolve().parent.parent


def embedded_folder() -> Path:
    """The folder of the real series in the repository; a wheel has none, as their makers allow no copies."""
    return PACKAGE.parent / "data"


def synthetic_folder() -> Path:
    """The folder of the simulated series: in a wheel, or in the repository."""
    installed = PACKAGE / "synthetic_data"
    return installed if installed.is_dir() else embedded_folder() / "synthetic"


def find_dataset(dataset: str, key: str = "data.dataset") -> Path:
    """The folder or file of a data set; where it is missing, UserError names `key` and lists near names."""
    if dataset == FRAME:
        raise UserError(
            f"{key}: found 'frame', a data frame that is handed over in Python, and was given none. Pass the"
            " frame, or name a file."
        )
    shipped = {"embedded": embedded_folder(), "synthetic": synthetic_folder()}
    path = shipped.get(dataset, Path(dataset))
    if dataset in shipped and not (path / "SP500.csv").is_file():
        raise UserError(
            f'{key}: the {dataset} data are not in {path}. An installation has "synthetic" only, simulated'
            ' series of the same names: makers of the embedded ones allow no copies. Take "synthetic", clone'
            " the repository, or name data of your own."
        )
    try:
        if path.exists():
            return path
    except OSError as error:
        raise UserError(f"{key}: {dataset!r} cannot be looked up ({error.strerror or error}).") from error
    raise UserError(
        f"{key}: {dataset!r} is neither a folder nor a file{files.near(path)}."
        ' Expected "embedded", "synthetic", a folder of FRED CSV files, or a CSV or Parquet file.'
    )
