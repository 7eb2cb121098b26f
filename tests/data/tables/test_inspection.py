"""What a table seems to be: answers known beforehand."""

import numpy as np
import pandas as pd
import pytest

from tftjax.data.tables.inspection import inspect, looks_like, read_any
from tftjax.errors import UserError

DAYS = pd.bdate_range("2010-01-04", periods=401)
RETURNS = np.random.default_rng(3).standard_t(5, len(DAYS)) * 0.01
PRICES = 50 * np.cumprod(1 + RETURNS)


def csv(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    return read_any(tmp_path / "t.csv")


def roles(found):
    return {column.name: column.role for column in found.columns}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (RETURNS, "return"),
        (100 * RETURNS, "percent return"),
        (PRICES, "price"),
        (np.log(PRICES) - 4, "level"),
        (15 + np.abs(RETURNS), "level"),
        (np.zeros(9), "constant"),
        (np.array([np.nan, 1.0]), "constant"),
    ],
)
def test_the_kind_of_a_column(values, kind):
    assert looks_like(values) == kind


@pytest.mark.parametrize("index", [pd.RangeIndex(len(DAYS)), pd.RangeIndex(5, 2 * len(DAYS) + 5, 2)])
def test_row_numbers_are_no_input(tmp_path, index):
    """As `to_csv` writes them: of all rows, or of those that a selection has left."""
    frame = pd.DataFrame({"date": DAYS.strftime("%Y-%m-%d"), "ret": RETURNS, "vix": 15 + np.abs(RETURNS)})
    frame.set_axis(index).to_csv(tmp_path / "t.csv")
    read = read_any(tmp_path / "t.csv")
    assert roles(inspect(read)) == {"": "", "date": "date", "ret": "target", "vix": "observed"}
    assert roles(inspect(pd.read_csv(tmp_path / "t.csv")))["Unnamed: 0"] == ""
    assert inspect(read).columns[2].words == "left out: it numbers the rows"
    wide = inspect(read.assign(ret=-RETURNS, vix=RETURNS, more=RETURNS[::-1]).rename(columns={"ret": "a"}))
    assert (wide.data["wide"], wide.series) == (True, 3)
    named = read.rename(columns={"": "level"})
    assert inspect(named, target="level").data["columns"]["target"] == "level"


def test_a_table_of_returns_in_percent(tmp_path):
    table = pd.DataFrame(
        {
            "note": "a",
            "day": DAYS.strftime("%Y-%m-%d"),
            "vix": np.where(np.arange(len(DAYS)) == 7, np.nan, 15 + np.abs(RETURNS)),
            "my_ret": 100 * RETURNS,
            "flat": 1.0,
            "month": DAYS.month,
        }
    )
    found = inspect(csv(tmp_path, table))
    assert roles(found) == {
        "day": "date",
        "my_ret": "target",
        "note": "",
        "vix": "observed",
        "flat": "",
        "month": "known_categorical",
    }
    assert found.data == {
        "columns": {"date": "day", "target": "my_ret", "observed": ["vix"], "known_categorical": ["month"]},
        "return_unit": "percent",
        "target_scale": "ewma",
        "missing": "mask",
    }
    assert (found.rows, found.series, str(found.first.date())) == (401, 1, "2010-01-04")


def test_a_price_beside_others_is_the_target_and_its_returns_are_forecast(tmp_path):
    table = pd.DataFrame({"Date": DAYS, "Open": PRICES, "Close": PRICES * 1.01, "Volume": 1e6 + RETURNS})
    found = inspect(csv(tmp_path, table))
    assert roles(found)["Close"] == "target"
    assert found.data["target_transform"] == "return"
    chosen = inspect(csv(tmp_path, table), target="Open")
    assert chosen.data["columns"]["target"] == "Open"


@pytest.mark.parametrize("name", ["vix", "VIX", "Realized_Vol_21d", "rv5"])
def test_a_volatility_is_no_price(name):
    """It moves as slowly as one."""
    found = inspect(pd.DataFrame({"date": DAYS, "ret": RETURNS, name: 15.0 * PRICES / PRICES.mean()}))
    words = {column.name: column.words for column in found.columns}[name]
    # Of these names the first two are taken for `data.volatility`, which is said.
    taken = "; by its name the implied volatility (data.volatility) of baselines and scales"
    assert words == ("observed" if name == "rv5" else f"observed{taken}")
    beside = inspect(pd.DataFrame({"date": DAYS, "volume": PRICES, name: 15.0 * PRICES / PRICES.mean()}))
    assert roles(beside)["volume"] == "target"


MONTHS = pd.date_range("2019-01-01", periods=60, freq="MS")
FIRST = pd.DataFrame(
    {"observation": MONTHS, "release": MONTHS + pd.Timedelta(days=44), "value": RETURNS[:60]}
)


@pytest.mark.parametrize(
    "table",
    [
        FIRST,
        FIRST[["release", "value", "observation"]],
        pd.concat([FIRST, FIRST.assign(release=FIRST["release"] + pd.Timedelta(days=300))]),
        pd.concat([FIRST, FIRST.assign(release="2026-01-02")]).rename(columns={"release": "seen"}),
    ],
)
def test_a_series_with_release_dates_is_sent_beside_a_table(table, tmp_path):
    section = '{"NAME": {"file": "FILE", "date": "observation", "value": "value", "release": "'
    with pytest.raises(UserError, match="a series with release dates") as error:
        inspect(csv(tmp_path, table))
    assert section in str(error.value)
    # A second date that is none of a release, or beside several numbers, is no such series.
    assert inspect(FIRST.assign(more=1.0 + RETURNS[60:120])).data["columns"]["date"] == "observation"
    assert inspect(FIRST.rename(columns={"release": "expiry"})).rows == 60


def test_a_level_that_is_no_price_is_forecast_by_its_changes(tmp_path):
    found = inspect(csv(tmp_path, pd.DataFrame({"date": DAYS, "spread": np.cumsum(RETURNS) - 1.0})))
    assert found.data["target_transform"] == "difference"
    assert "target_scale" not in found.data


def test_wide_and_long_tables(tmp_path):
    wide = pd.DataFrame({"date": DAYS, **{name: PRICES * factor for factor, name in enumerate("abc", 1)}})
    found = inspect(csv(tmp_path, wide))
    assert found.data["wide"] is True
    assert found.data["columns"] == {"date": "date", "target": "price", "id": "series"}
    assert (found.rows, found.series) == (401, 3)
    long = (
        wide.set_index("date").pct_change().dropna().melt(ignore_index=False, var_name="ticker").reset_index()
    )
    found = inspect(csv(tmp_path, long))
    assert found.data["columns"] == {"date": "date", "target": "value", "id": "ticker"}
    assert "wide" not in found.data
    assert (found.rows, found.series) == (1200, 3)


def test_parquet_is_read_with_its_index(tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"ret": RETURNS}, index=DAYS).to_parquet(tmp_path / "t.parquet")
    found = inspect(read_any(tmp_path / "t.parquet"))
    assert found.data["columns"] == {"date": "date", "target": "ret"}


def test_parquet_is_read_with_an_index_of_dates_and_series(tmp_path):
    pytest.importorskip("pyarrow")
    one = pd.DataFrame({"ret": RETURNS}, index=DAYS)
    for names, date in ((["ticker", "day"], "day"), (["ticker", None], "date")):
        both = pd.concat({"A": one, "B": -one}, names=names)
        for frame in (both, both.swaplevel()):
            frame.to_parquet(tmp_path / "t.parquet")
            found = inspect(read_any(tmp_path / "t.parquet"))
            assert found.data["columns"] == {"date": date, "target": "ret", "id": "ticker"}
            assert (found.rows, found.series) == (802, 2)
    one.assign(day=DAYS).set_index(pd.Index(["?"] * len(DAYS), name="note")).to_parquet(
        tmp_path / "t.parquet"
    )
    assert inspect(read_any(tmp_path / "t.parquet")).data["columns"] == {"date": "day", "target": "ret"}
    pd.concat({"A": one, "B": -one}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t.parquet: found an index of 2 levels \(None, None\), expected"):
        read_any(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("dates", "frequency"),
    [
        (DAYS, "daily"),
        (pd.date_range("2010-01-08", periods=60, freq="W-FRI"), "weekly"),
        (pd.date_range("2010-01-31", periods=60, freq="ME"), "monthly"),
        (pd.date_range("2010-03-31", periods=60, freq="QE"), "quarterly"),
        (pd.date_range("2010-01-01", periods=60, freq="17D"), ""),
    ],
)
def test_the_frequency_of_rows(dates, frequency):
    one = pd.DataFrame({"date": dates, "ret": RETURNS[: len(dates)]})
    two = pd.concat([one.assign(id="a"), one.assign(id="b")], ignore_index=True)
    assert inspect(one).frequency == inspect(two).frequency == frequency
    assert "frequency" not in inspect(one).data  # a config without one takes the rows as they are


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"date": ["01/02/2020"] * 3, "ret": [0.1, 0.2, 0.3]},
            "column 'date': found '01/02/2020', expected a date as YYYY-MM-DD",
        ),
        (
            {"date": ["2020-01-02 00:00", "2020-01-02 01:00"], "ret": [0.1, 0.2]},
            "found '2020-01-02 01:00', expected a date without a time of day. Intraday rows are",
        ),
        ({"date": ["2020-01-02"] * 3, "ret": [0.1, 0.2, 0.3]}, "2020-01-02 more than once"),
        ({"date": ["2020-01-02", "2020-01-03"], "name": ["a", "b"]}, "no column of numbers"),
    ],
)
def test_what_cannot_be_guessed_is_said(tmp_path, table, message):
    with pytest.raises(UserError, match=message):
        inspect(csv(tmp_path, pd.DataFrame(table)))
    with pytest.raises(UserError, match="no column 'x'"):
        inspect(csv(tmp_path, pd.DataFrame(table)), target="x")
