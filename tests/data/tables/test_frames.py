"""Frames and Parquet files: every check that a CSV gets, in the same words, and the same panel."""

import builtins
import datetime
import importlib.util
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tftjax.config.data import ColumnsConfig, DataConfig
from tftjax.config.loading import from_dict
from tftjax.data.checks import findings
from tftjax.data.loading import load_panel
from tftjax.data.newest import load_like
from tftjax.data.panel import with_rows
from tftjax.data.tables.frames import to_pandas
from tftjax.data.tables.future import future_of
from tftjax.errors import UserError

ROWS = 40
COLUMNS = ColumnsConfig(target="ret", observed=("x",), known_categorical=("mood",), static_real=("size",))
SETTINGS = DataConfig(dataset="frame", columns=COLUMNS)
LONG = ColumnsConfig(date="day", id="name", target="ret")


def rows():
    """Business days from 2015-01-05 on; row 12 is 2015-01-21."""
    rng = np.random.default_rng(3)
    values = {
        "ret": rng.normal(0, 0.01, ROWS).round(5),
        "x": rng.normal(5, 1, ROWS).round(3),
        "mood": ["calm", "wild"] * (ROWS // 2),
        "size": 3,
    }
    return pd.DataFrame(values, index=pd.bdate_range("2015-01-05", periods=ROWS, name="date"))


def at(place, column, value):
    """The rows with another value, `place` counted from 0."""
    frame = rows()
    values = frame[column].tolist()
    values[place] = value
    return frame.assign(**{column: pd.Series(values, index=frame.index, dtype=object)})


@pytest.fixture
def path(tmp_path):
    rows().to_csv(tmp_path / "own.csv")
    return tmp_path / "own.csv"


SAME = {
    "dates in the index": lambda frame: frame,
    "an unnamed index": lambda frame: frame.rename_axis(None),
    "an index of another name": lambda frame: frame.rename_axis("Session"),
    "dates in a column": lambda frame: frame.reset_index(),
    "dates in a column, other names in the index": lambda frame: frame.reset_index().set_axis(
        [f"row{number}" for number in range(ROWS)]
    ),
    "dates as text": lambda frame: frame.set_axis(frame.index.strftime("%Y-%m-%d")).rename_axis("date"),
    "dates as text in a column": lambda frame: frame.reset_index().assign(
        date=frame.index.strftime("%Y-%m-%d")
    ),
    "dates as objects": lambda frame: frame.set_axis(pd.Index(frame.index.date, name="date")),
    "stamps as objects": lambda frame: frame.reset_index().astype({"date": object}),
    "stamps in seconds": lambda frame: frame.set_axis(frame.index.as_unit("s")),
    "periods of days": lambda frame: frame.set_axis(frame.index.to_period("D")),
    "midnights of New York": lambda frame: frame.set_axis(frame.index.tz_localize("America/New_York")),
    "numbers as objects": lambda frame: frame.astype({"x": object, "ret": object}),
    "decimals": lambda frame: frame.assign(x=[Decimal(str(value)) for value in frame["x"]]),
    "nullable types": lambda frame: frame.convert_dtypes(),
    "a categorical": lambda frame: frame.astype({"mood": "category"}),
    "columns in another order, and another one": lambda frame: frame[frame.columns[::-1]].assign(memo="?"),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_a_frame_is_the_panel_of_its_csv(path, change):
    of_file = load_panel(DataConfig(dataset=str(path), columns=COLUMNS))
    frame = change(rows())
    kept = frame.copy()
    of_frame = load_panel(SETTINGS, frame)
    pd.testing.assert_frame_equal(frame, kept)  # the user's is left as it is
    assert of_frame.fingerprint == of_file.fingerprint
    assert of_frame.about == of_file.about | {"dataset": "frame"}
    assert (of_frame.frame.dtypes == of_file.frame.dtypes).all()
    np.testing.assert_array_equal(of_frame.frame["ret"], rows()["ret"])


@pytest.mark.parametrize(
    "options",
    [{}, {"index_col": "date"}, {"index_col": "date", "parse_dates": True}, {"parse_dates": ["date"]}],
)
def test_what_pandas_reads_of_a_csv_is_the_csv(path, options):
    of_file = load_panel(DataConfig(dataset=str(path), columns=COLUMNS))
    read = pd.read_csv(path, **options)
    assert load_panel(SETTINGS, read).fingerprint == of_file.fingerprint


def test_missing_values_are_empty_cells(tmp_path):
    whole = at(12, "x", pd.NA).convert_dtypes()
    assert str(whole["x"].dtype) == "Float64"
    masked = SETTINGS.model_copy(update={"missing": "mask"})
    whole.to_csv(tmp_path / "holes.csv")
    of_file = load_panel(masked.model_copy(update={"dataset": str(tmp_path / "holes.csv")}))
    assert np.isnan(of_file.frame["x"].iloc[12])
    for frame in (whole, at(12, "x", None), at(12, "x", np.nan), at(12, "x", pd.NaT)):
        assert load_panel(masked, frame).fingerprint == of_file.fingerprint
    counts = rows().assign(x=pd.array([None, *range(ROWS - 1)], "Int64"))
    panel = load_panel(masked, counts)
    assert np.isnan(panel.frame["x"].iloc[0])
    assert panel.frame["x"].iloc[1:].tolist() == list(range(ROWS - 1))
    flags = rows().assign(x=pd.array([True, False] * (ROWS // 2), "boolean"))
    assert load_panel(SETTINGS, flags).frame["x"].iloc[:2].tolist() == [1.0, 0.0]


def test_categories_are_text_as_in_a_csv():
    assert load_panel(SETTINGS, rows().assign(mood=7)).frame["mood"].unique().tolist() == ["7"]
    assert load_panel(SETTINGS, rows().assign(mood=True)).frame["mood"].unique().tolist() == ["True"]


@pytest.mark.parametrize("optional", [False, True])
def test_whole_numbers_are_the_same_categories_from_every_source(tmp_path, optional):
    """An int, a float, one with a fraction, nullable ones, text: from a frame, a CSV file, a Parquet file."""
    columns = {"target": "ret", "observed_categorical" if optional else "known_categorical": ("mood",)}
    settings = DataConfig(dataset="frame", columns=ColumnsConfig(**columns), missing="mask")
    codes = [1, 2, -3, 0] * (ROWS // 4)
    moods = {
        "int": codes,
        "float": np.array(codes, float),
        "one fraction": [1.5, *map(float, codes[1:])],
        "nullable": pd.array(codes, "Int64"),
        "categorical": pd.Categorical(np.array(codes, float)),
        "text": [f"{code}.00" for code in codes],
        "words": ["1.0a", "01.0", "2.0", "-3"] * (ROWS // 4),
    }
    if optional:
        holes = [*codes[:3], None, *codes[4:]]
        moods |= {"int": holes, "nullable": pd.array(holes, "Int64")}
    for name, mood in moods.items():
        frame = rows()[["ret"]].assign(mood=mood)
        panel, own = load_panel(settings, frame), tmp_path / f"{name}.csv"
        expected = {"words": ["1.0a", "01.0", "2", "-3"], "one fraction": ["1.5", "2", "-3", "0"]}
        whole = ["1", "2", "-3", "none" if pd.isna(mood[3]) else "0"]
        assert panel.frame["mood"].fillna("none").tolist()[:4] == expected.get(name, whole), name
        frame.to_csv(own)
        assert load_panel(settings.model_copy(update={"dataset": str(own)})).fingerprint == panel.fingerprint
        if importlib.util.find_spec("pyarrow"):
            own = tmp_path / f"{name}.parquet"
            frame.to_parquet(own)
            of_file = load_panel(settings.model_copy(update={"dataset": str(own)}))
            assert of_file.fingerprint == panel.fingerprint, name


def test_a_run_of_before_keeps_its_spelling_of_whole_numbers():
    """Its ids, levels and rows of the future, too: else every series would be a new one."""
    frame = pd.concat([rows()[["ret"]].assign(name=name, mood=name / 2) for name in (7.0, 11.0)])
    frame["ret"] += 1
    frame.iloc[[ROWS - 1, -1], 0] = np.nan
    settings = DataConfig(
        dataset="frame",
        columns=ColumnsConfig(target="ret", id="name", known_categorical=("mood",)),
        target_transform="return",
    )
    now = load_panel(settings, frame)
    assert now.frame["name"].unique().tolist() == ["11", "7"]
    before = now.frame.assign(name=now.frame["name"] + ".0")
    found = load_like(with_rows(now, before, now.staleness), settings, frame)
    assert found.frame.equals(before)
    assert [*found.about["levels"]] == ["11.0", "7.0"]
    assert future_of(found)[["name", "mood"]].to_numpy().tolist() == [["11.0", "5.5"], ["7.0", "3.5"]]
    assert load_like(now, settings, frame).frame.equals(now.frame)


def later(frame):
    return frame.set_axis(frame.index + pd.Timedelta(hours=9, minutes=30))


# What is wrong with the frame, and the error after "frame, ".
WRONG = {
    "no dates": (
        lambda: rows().reset_index(drop=True),
        r"columns \(and no dates in the index\): found no column 'date' among ret, x, mood, size",
    ),
    "numbers as dates": (
        lambda: rows().reset_index(drop=True).assign(date=20150105),
        r"row 0 \(20150105\), column 'date': found 20150105, expected a date",
    ),
    "a missing date": (
        lambda: rows().set_axis(rows().index.where(np.arange(ROWS) != 3)),
        r"row 3 \(NaT\), column 'date': found no date, expected a date",
    ),
    "a missing date among objects": (
        lambda: rows().set_axis(
            pd.Index([*rows().index[:3].date, None, *rows().index[4:].date], dtype=object)
        ),
        r"row 3 \(None\), column 'date': found None, expected a date",
    ),
    "a date that is none": (
        lambda: rows().set_axis(["2015-13-01", *rows().index[1:].strftime("%Y-%m-%d")]),
        r"row 0 \(2015-13-01\), column 'date': found '2015-13-01', expected a date as YYYY-MM-DD",
    ),
    "intraday stamps": (
        lambda: later(rows()),
        r"row 0 \(2015-01-05\), column 'date': found 2015-01-05 09:30:00, .*Intraday rows are not supported:"
        " resample to one row a day",
    ),
    "intraday objects": (
        lambda: later(rows()).rename_axis("date").reset_index().astype({"date": object}),
        "found 2015-01-05 09:30:00, .*Intraday rows are not supported",
    ),
    "intraday text": (
        lambda: later(rows()).rename_axis("date").reset_index().astype({"date": str}),
        "found '2015-01-05 09:30:00', .*Intraday rows are not supported",
    ),
    "periods of hours": (
        lambda: rows().set_axis(pd.period_range("2015-01-05", periods=ROWS, freq="h")),
        r"column 'date': found 2015-01-05 00:00, .*Intraday rows are not supported",
    ),
    "midnights of another zone": (
        lambda: rows().set_axis(rows().index.tz_localize("America/New_York").tz_convert("UTC")),
        r"found 2015-01-05 05:00:00\+00:00, .*another time zone is brought back by tz_convert",
    ),
    "unsorted": (
        lambda: rows().iloc[::-1],
        r"row 1 \(2015-02-26\), column 'date': found 2015-02-26 after 2015-02-27, expected ascending dates",
    ),
    "a date twice": (
        lambda: rows().iloc[[0, 1, 1, 2]],
        r"row 2 \(2015-01-06\), column 'date': found 2015-01-06 a second time, .*remove duplicates",
    ),
    "the future": (
        lambda: rows().set_axis(pd.bdate_range("2099-01-01", periods=ROWS)),
        r"row 0 \(2099-01-01\), column 'date': found 2099-01-01, expected a date up to today",
    ),
    "a date that nanoseconds cannot hold": (
        lambda: rows().set_axis([datetime.date(1600, 1, 1), *rows().index[1:].date]),
        r"row 0 \(1600-01-01\), column 'date': found 1600-01-01, expected a date from 1678",
    ),
    "a gap": (
        lambda: rows().set_axis(rows().index[:20].append(rows().index[20:] + pd.Timedelta(days=98))),
        "column 'date': found 2015-05-11 on row 20, 71 business days after 2015-01-30, expected at most 30",
    ),
    "a column missing": (
        lambda: rows().rename(columns={"x": "xx"}),
        "columns: found no column 'x' among date, ret, xx, mood, size, .*Did you mean 'xx'",
    ),
    "a column twice": (
        lambda: pd.concat([rows(), rows()[["x"]]], axis=1),
        "columns: found a column name twice in .*'x', 'mood', 'size', 'x'",
    ),
    "no rows": (lambda: rows().iloc[:0], "found no rows, expected some"),
    "names of two levels": (
        lambda: pd.concat({"a": rows()}, axis=1),
        r"found column names of 2 levels, such as \('a', 'ret'\), expected one name",
    ),
    "an index of two levels": (
        lambda: pd.concat({"A": rows()}),
        r"found an index of 2 levels \(None, date\), .*Call reset_index\(\)",
    ),
    "all NaN": (lambda: rows().assign(x=np.nan), "column 'x': found no value in any row, expected numbers"),
    "a NaN in the target": (
        lambda: at(12, "ret", np.nan).astype({"ret": float}),
        r"row 12 \(2015-01-21\), column 'ret': found no value \(NaN\) after the column's first one",
    ),
    "an NA in the target": (
        lambda: at(12, "ret", pd.NA).convert_dtypes(),
        r"row 12 \(2015-01-21\), column 'ret': found no value \(NaN\) after the column's first one",
    ),
    "infinite": (
        lambda: at(12, "x", np.inf).astype({"x": float}),
        r"row 12 \(2015-01-21\), column 'x': found inf, expected a finite number, of at most 1e\+15",
    ),
    "too large for a float": (
        lambda: at(12, "x", 10**400),
        r"row 12 \(2015-01-21\), column 'x': found 10+ ... .401 characters., expected a finite number",
    ),
    "numbers as text": (
        lambda: rows().astype({"x": str}),
        r"row 0 \(2015-01-05\), column 'x': found the text '[\d.]+', expected a number .*pandas.to_numeric",
    ),
    "one text": (
        lambda: at(12, "x", "many"),
        r"row 12 \(2015-01-21\), column 'x': found the text 'many', expected a number",
    ),
    "other objects": (
        lambda: at(12, "x", [1, 2]),
        r"row 12 \(2015-01-21\), column 'x': found \[1, 2\] of the type list, expected a number",
    ),
    "dates as numbers": (
        lambda: rows().assign(x=rows().index),
        r"row 0 \(2015-01-05\), column 'x': found Timestamp.* of the type Timestamp, expected a number",
    ),
    "a category missing": (
        lambda: at(12, "mood", None),
        r"row 12 \(2015-01-21\), column 'mood': found None, expected a category. Write one",
    ),
    "a category missing in a categorical": (
        lambda: at(12, "mood", None).astype({"mood": "category"}),
        r"row 12 \(2015-01-21\), column 'mood': found nan, expected a category. Write one",
    ),
    "a blank category": (
        lambda: at(12, "mood", " "),
        r"row 12 \(2015-01-21\), column 'mood': found ' ', expected a category",
    ),
    "a static column that moves": (lambda: at(12, "size", 4), "the static column 'size' has 2 values"),
}


@pytest.mark.parametrize(("frame", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_frame_is_named(frame, message):
    start = "panel: " if "static" in message else "frame(, |: )"
    with pytest.raises(UserError, match=f"^{start}.*{message}"):
        load_panel(SETTINGS, frame())


def test_a_csv_says_that_intraday_rows_are_not_supported(path):
    later(rows()).rename_axis("date").to_csv(path)
    with pytest.raises(UserError, match=r"line 2, column 'date': .*Intraday rows are not supported"):
        load_panel(DataConfig(dataset=str(path), columns=COLUMNS))


def long_rows():
    """Two series in rows sorted by date, as vendors sort them."""
    parts = [rows()[["ret"]].mul(1 + number).assign(name=name) for number, name in enumerate("BA")]
    return pd.concat(parts).rename_axis("day").reset_index().sort_values(["day", "name"], ignore_index=True)


def test_an_index_of_dates_and_series(tmp_path):
    long_rows().to_csv(tmp_path / "long.csv", index=False)
    of_file = load_panel(DataConfig(dataset=str(tmp_path / "long.csv"), columns=LONG))
    settings = DataConfig(dataset="frame", columns=LONG)
    for levels in (["day", "name"], ["name", "day"]):
        frame = long_rows().set_index(levels)
        assert load_panel(settings, frame).fingerprint == of_file.fingerprint
        other = frame.rename_axis(index={"day": "when"})  # the level that is no series has the dates
        assert load_panel(settings, other).fingerprint == of_file.fingerprint
    frame = long_rows().set_index(["day", "name"]).rename_axis(index={"name": "ticker"})
    with pytest.raises(UserError, match=r"levels \(day, ticker\), .*data.columns.id gives \(name\)"):
        load_panel(settings, frame)
    with pytest.raises(
        UserError, match=r"row 2 \(2015-01-05\), column 'day': .*second time in the series 'A'"
    ):
        load_panel(settings, long_rows().iloc[[0, 1, 0, 2]])


def test_a_frame_takes_the_place_of_the_file():
    assert load_panel(DataConfig(dataset="nowhere.csv", columns=COLUMNS), rows()).about["dataset"] == "frame"
    with pytest.raises(UserError, match=r"found 'frame', a data frame .* Pass the frame, or name a file"):
        load_panel(SETTINGS)


def test_tables_of_other_libraries(path):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    expected = load_panel(DataConfig(dataset=str(path), columns=COLUMNS)).fingerprint
    arrow = pyarrow.Table.from_pandas(rows())
    flat = polars.from_arrow(arrow)
    tables = [arrow, flat, flat.lazy(), flat.with_columns(polars.col("date").cast(polars.Date))]
    tables += [rows().reset_index().convert_dtypes(dtype_backend="pyarrow")]
    tables += [rows().reset_index().astype({"date": "date32[day][pyarrow]"})]
    for table in tables:
        assert load_panel(SETTINGS, to_pandas(table)).fingerprint == expected
    frame = rows()
    assert to_pandas(frame) is frame
    for data in ([1.0], "own.csv", rows()["ret"], None):
        with pytest.raises(UserError, match=f"found {type(data).__name__}, expected a table of pandas"):
            to_pandas(data)


@pytest.fixture
def without_pyarrow(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_pyarrow_the_extra_is_named(tmp_path, without_pyarrow):
    (tmp_path / "own.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"own.parquet: .*pip install 'tftjax\[parquet\]'"):
        load_panel(DataConfig(dataset=str(tmp_path / "own.parquet"), columns=COLUMNS))


def own(dataset, **data):
    content = {"data": {"dataset": str(dataset), "columns": COLUMNS.model_dump(mode="json"), **data}}
    return from_dict(content | {"model": {"hidden_size": 4, "encoder_length": 3}}, "test")


def test_a_parquet_file_is_the_csv(path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    expected = load_panel(DataConfig(dataset=str(path), columns=COLUMNS)).fingerprint
    for number, frame in enumerate((rows(), rows().reset_index(), rows().rename_axis(None))):
        parquet = path.with_name(f"{number}.parquet")
        frame.to_parquet(parquet)
        assert load_panel(DataConfig(dataset=str(parquet), columns=COLUMNS)).fingerprint == expected
    (path.with_suffix(".parquet")).write_text("no such thing")
    with pytest.raises(UserError, match=r"own.parquet: cannot be read .*Expected a Parquet file"):
        load_panel(DataConfig(dataset=str(path.with_suffix(".parquet")), columns=COLUMNS))


def test_all_findings_in_a_parquet_file_at_once(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame = rows().reset_index().rename(columns={"size": "sise"}).astype({"x": str})
    frame.loc[5, "ret"] = np.inf
    frame.loc[7, "date"] = pd.Timestamp("2015-01-06")
    frame.to_parquet(tmp_path / "own.parquet")
    problems = findings(own(tmp_path / "own.parquet"))
    parts = [
        "no column 'size' among",
        r"own.parquet, row 0 (2015-01-05), column 'x': found the text",
        r"own.parquet, row 5 (2015-01-12), column 'ret': found inf",
        r"own.parquet, row 7 (2015-01-06), column 'date': found 2015-01-06 after 2015-01-13",
    ]
    assert len(problems) == len(parts)
    for part in parts:
        assert sum(part in problem for problem in problems) == 1, part
    pd.concat([rows(), rows()]).set_index("mood", append=True).to_parquet(tmp_path / "own.parquet")
    assert ["an index of 2 levels" in problem for problem in findings(own(tmp_path / "own.parquet"))] == [
        True
    ]
