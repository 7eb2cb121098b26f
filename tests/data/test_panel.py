import datetime
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tftjax.config.data import DataConfig
from tftjax.data.checks import check_return_unit
from tftjax.data.encoding import encoding_to_json, fit_encoding
from tftjax.data.loading import embedded_folder, load_panel
from tftjax.data.panel import make_panel
from tftjax.data.raw.fred_csv import read_fred_csv
from tftjax.data.series.transforms import fresh, log_age, simple_return
from tftjax.errors import UserError

RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "core_proposal_raw"
DAYS = pd.bdate_range("2018-08-01", "2018-10-31")  # 66 rows
OIL_HOLIDAY = "2018-09-03"  # row 23
FIRST = 21  # the first row with 21 returns behind it


def tiny_raw():
    """Daily S&P returns of +10 % and -10 % in turn; oil at 50 + row; a few months of the others."""
    returns = np.where(np.arange(len(DAYS)) % 2 == 1, 0.1, -0.1)
    returns[0] = 0.0
    oil = pd.Series(50.0 + np.arange(len(DAYS)), DAYS)
    oil[OIL_HOLIDAY] = np.nan
    months = pd.date_range("2018-06-01", "2018-10-01", freq="MS")
    base = pd.Series(200.0, pd.date_range("2017-06-01", "2018-05-01", freq="MS"))
    return {
        "SP500": pd.Series(100.0 * np.cumprod(1 + returns), DAYS),
        "DCOILWTICO": oil,
        "AAA": pd.Series([3.7, 3.8, 3.9, 4.0, 4.1], months),
        "BAA": pd.Series([4.5, 4.6, 4.8, 5.0, 5.3], months),
        "CPILFESL": pd.concat([base, pd.Series([203.0, 204.0, 205.0, 206.0, 208.0], months)]),
    }


def write(raw, folder):
    for name, series in raw.items():
        series.rename(name).rename_axis("observation_date").to_csv(
            Path(folder) / f"{name}.csv", date_format="%Y-%m-%d"
        )
    return DataConfig(dataset=str(folder))


def test_tiny_folder_by_hand(tmp_path):
    panel = load_panel(write(tiny_raw(), tmp_path))
    frame = panel.frame
    assert len(frame) == 66 - 21
    assert frame.index[0].date() == datetime.date(2018, 8, 30)
    assert frame.index.name == "date"
    np.testing.assert_allclose(frame["SP500_Returns"].iloc[:3], [0.1, -0.1, 0.1], rtol=1e-12)
    # 11 returns of one sign and 10 of the other: variance 0.1^2 * 22/21 (sample), times 252 days.
    np.testing.assert_allclose(frame["Realized_Vol_21d"], 10 * math.sqrt(264), rtol=1e-12)
    np.testing.assert_allclose(
        frame["WTI_Return_21d"].iloc[:3], [71 / 50 - 1, 72 / 51 - 1, 72 / 52 - 1], rtol=1e-12
    )
    assert frame.loc["2018-09-05", ["day_of_week", "month"]].tolist() == [2, 9]
    assert panel.target == panel.observed[0] == "SP500_Returns"
    assert panel.known_categorical == ("day_of_week", "month")
    assert (
        "leading rows dropped: 21, no value of Realized_Vol_21d, WTI_Return_21d before 2018-08-30"
        in panel.messages
    )
    assert "AAA: visible from the first business day of the next month" in panel.messages


def test_releases_become_visible_on_their_day(tmp_path):
    panel = load_panel(write(tiny_raw(), tmp_path))
    frame, age = panel.frame, panel.staleness
    # September's prices are released on Monday 2018-10-15, August's on Thursday 2018-09-13.
    inflation = frame["Core_Inflation_YoY"]
    np.testing.assert_allclose(
        inflation[["2018-09-12", "2018-09-13", "2018-10-12", "2018-10-15"]], [2.0, 2.5, 2.5, 3.0]
    )
    # August's yields are seen from Monday 2018-09-03 on, September's from Monday 2018-10-01.
    dates = ["2018-08-31", "2018-09-03", "2018-09-28", "2018-10-01"]
    np.testing.assert_allclose(frame.loc[dates, "AAA_Yield"], [3.8, 3.9, 3.9, 4.0])
    np.testing.assert_allclose(frame.loc[dates, "Credit_Spread"], [0.8, 0.9, 0.9, 1.0])
    # July's yields: Wednesday 2018-08-01.
    np.testing.assert_array_equal(age.loc[dates, "AAA_Yield"], [30, 0, 25, 0])
    np.testing.assert_array_equal(
        age.loc[["2018-10-12", "2018-10-15", "2018-10-16"], "Core_Inflation_YoY"], [29, 0, 1]
    )
    assert list(age.columns) == ["AAA_Yield", "Credit_Spread", "Core_Inflation_YoY"]


def test_yearly_change_compares_months_and_not_positions(tmp_path):
    raw = tiny_raw()
    raw["CPILFESL"] = raw["CPILFESL"].drop(pd.Timestamp("2018-02-01"))
    raw["CPILFESL"]["2017-08-01"] = 100.0  # 12 rows before September 2018, 13 months
    inflation = load_panel(write(raw, tmp_path)).frame["Core_Inflation_YoY"]
    np.testing.assert_allclose(inflation["2018-10-15"], 3.0)


def test_start_and_end_restrict_rows_after_the_transforms(tmp_path):
    write(tiny_raw(), tmp_path)
    whole = load_panel(DataConfig(dataset=str(tmp_path)))
    start, end = datetime.date(2018, 9, 8), datetime.date(2018, 10, 16)  # a Saturday, a Tuesday
    part = load_panel(DataConfig(dataset=str(tmp_path), start=start, end=end))
    pd.testing.assert_frame_equal(part.frame, whole.frame.loc["2018-09-10":"2018-10-16"])
    pd.testing.assert_frame_equal(part.staleness, whole.staleness.loc["2018-09-10":"2018-10-16"])
    assert not any("dropped" in message for message in part.messages)
    assert part.fingerprint != whole.fingerprint


def test_gaps_in_a_folder(tmp_path):
    raw = tiny_raw()
    raw["DCOILWTICO"] = raw["DCOILWTICO"].loc[:"2018-09-14"]
    with pytest.raises(
        UserError, match=r"DCOILWTICO.csv, column 'WTI_Return_21d'.*2018-09-14 and 2018-10-31"
    ):
        load_panel(write(raw, tmp_path))
    # Until 30 business days after the last value there is nothing wrong.
    load_panel(DataConfig(dataset=str(tmp_path), end=datetime.date(2018, 10, 26)))
    raw = tiny_raw()
    raw["BAA"] = raw["BAA"].loc[["2018-06-01"]]
    with pytest.raises(
        UserError, match=r"BAA.csv, .*AAA.csv, column 'Credit_Spread'.*2018-06-01 and 2018-10-31"
    ):
        load_panel(write(raw, tmp_path))


def release_date(name, observed):
    """The rules again, a day at a time."""
    if name in ("SP500", "DCOILWTICO"):
        return observed
    after = (observed.replace(day=28) + datetime.timedelta(days=4)).replace(
        day=13 if name == "CPILFESL" else 1
    )
    while after.weekday() > 4:
        after += datetime.timedelta(days=1)
    return after


@settings(max_examples=30, deadline=None)
@given(cutoff=st.integers(FIRST + 1, len(DAYS) - 1), data=st.data())
def test_what_comes_after_a_cutoff_changes_nothing_before(cutoff, data):
    raw = tiny_raw()
    last = DAYS[cutoff].date()
    changed = {}
    for name, series in raw.items():
        later = np.array([release_date(name, date.date()) > last for date in series.index])
        factors = data.draw(st.lists(st.floats(0.5, 2.0), min_size=len(series), max_size=len(series)))
        changed[name] = series * np.where(later, factors, 1.0)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        before, after = load_panel(write(raw, one)), load_panel(write(changed, two))
    rows = range(0, cutoff - FIRST + 1)
    pd.testing.assert_frame_equal(
        before.frame.iloc[: rows.stop], after.frame.iloc[: rows.stop], check_exact=True
    )
    pd.testing.assert_frame_equal(before.staleness, after.staleness)
    fitted = (encoding_to_json(fit_encoding(panel, [rows])) for panel in (before, after))
    assert next(fitted) == next(fitted)


@pytest.mark.parametrize(
    ("name", "observed", "column"),
    [
        ("SP500", "2018-10-01", "SP500_Returns"),
        ("SP500", "2018-10-01", "Realized_Vol_21d"),
        ("DCOILWTICO", "2018-10-01", "WTI_Return_21d"),
        ("AAA", "2018-09-01", "AAA_Yield"),
        ("BAA", "2018-09-01", "Credit_Spread"),
        ("CPILFESL", "2018-08-01", "Core_Inflation_YoY"),
    ],
)
def test_a_value_does_change_the_row_of_its_release(tmp_path, name, observed, column):
    raw = tiny_raw()
    before = load_panel(write(raw, tmp_path))
    raw[name][observed] *= 1.5
    after = load_panel(write(raw, tmp_path))
    row = pd.Timestamp(release_date(name, datetime.date.fromisoformat(observed)))
    changed = before.frame.index[before.frame[column] != after.frame[column]]
    assert changed[0] == row
    assert before.fingerprint != after.fingerprint


def test_truncated_files_give_the_same_rows(tmp_path):
    whole = load_panel(write(tiny_raw(), tmp_path)).frame
    short = load_panel(write({name: s.loc[:"2018-10-12"] for name, s in tiny_raw().items()}, tmp_path)).frame
    pd.testing.assert_frame_equal(short, whole.loc[:"2018-10-12"], check_exact=True)


def simple(values, dates=("2018-01-02", "2018-01-03", "2018-01-04"), **columns):
    return pd.DataFrame({"y": values, **columns}, index=pd.DatetimeIndex(dates))


def test_fingerprint_sees_values_dates_and_names():
    def of(frame, target="y"):
        return make_panel(frame, target=target, observed=(target,)).fingerprint

    base = of(simple([1.0, 2.0, 3.0]))
    assert base == of(simple([1.0, 2.0, 3.0]))
    assert len(base) == 64
    others = [
        of(simple([1.0, 2.0, 3.0000000001])),
        of(simple([1.0, 2.0, 3.0], dates=("2018-01-02", "2018-01-03", "2018-01-05"))),
        of(simple([1.0, 2.0, 3.0]).rename(columns={"y": "z"}), target="z"),
    ]
    assert len({base, *others}) == 4


def test_make_panel_refuses_what_is_no_panel():
    frame = simple([1.0, 2.0, 3.0], size=[5.0, 5.0, 6.0], kind=["a", "a", "a"])
    good = make_panel(frame, target="y", observed=("y",), static_categorical=("kind",))
    assert list(good.frame.columns) == ["y", "kind"]
    with pytest.raises(UserError, match="static column 'size' has 2 values"):
        make_panel(frame, target="y", observed=("y",), static_real=("size",))
    with pytest.raises(UserError, match="target 'y' first"):
        make_panel(frame, target="y", observed=("size", "y"))
    with pytest.raises(UserError, match=r"\['x'\] are missing"):
        make_panel(frame, target="y", observed=("y", "x"))
    with pytest.raises(UserError, match="two roles"):
        make_panel(frame, target="y", observed=("y", "size"), known_real=("size",))
    with pytest.raises(UserError, match="not ascending"):
        make_panel(frame.iloc[::-1], target="y", observed=("y",))


def test_unit_guard_at_its_limits():
    for sd in (0.01, 0.002, 0.05):
        check_return_unit(sd, 0.01)
    with pytest.raises(
        UserError, match=r"deviation is 0.0501, loss.target_std is 0.01;.*factor 5.*to about 0.05"
    ):
        check_return_unit(0.0501, 0.01)
    with pytest.raises(UserError, match=r"to about 0\.0019"):
        check_return_unit(0.00189, 0.01)
    with pytest.raises(UserError, match=r"seems to be in percent and loss.target_std in decimals"):
        check_return_unit(1.13, 0.01)
    # 224 rows of 0.01 have a standard deviation of 1.7e-18.
    for sd in (0.0, 1.7e-18, math.nan, math.inf):
        with pytest.raises(UserError, match="constant or not a number"):
            check_return_unit(sd, 0.01)


def raw_series(name, folder):
    return pd.read_csv(folder / f"{name}.csv", index_col="observation_date", parse_dates=True)[name].dropna()


def test_embedded_panel_against_plain_pandas():
    """The whole panel once more, with pandas' own join, rolling window and business days."""
    folder = embedded_folder()
    raw = {name: raw_series(name, folder) for name in ("SP500", "DCOILWTICO", "AAA", "BAA", "CPILFESL")}
    returns = raw["SP500"].pct_change()
    expected = pd.DataFrame({"SP500_Returns": returns})
    expected["Realized_Vol_21d"] = returns.rolling(21).std() * math.sqrt(252) * 100
    oil = raw["DCOILWTICO"].reindex(expected.index.union(raw["DCOILWTICO"].index)).ffill()[expected.index]
    expected["WTI_Return_21d"] = oil / oil.shift(21) - 1
    monthly = {
        "AAA_Yield": (raw["AAA"], 1),
        "Credit_Spread": (raw["BAA"] - raw["AAA"], 1),
        "Core_Inflation_YoY": ((raw["CPILFESL"] / raw["CPILFESL"].shift(12) - 1) * 100, 13),
    }
    for name, (series, day) in monthly.items():
        release = [pd.offsets.BDay().rollforward(d + pd.DateOffset(months=1, day=day)) for d in series.index]
        released = pd.Series(series.to_numpy(), pd.DatetimeIndex(release)).dropna()
        expected[name] = released.reindex(expected.index.union(released.index)).ffill()[expected.index]
    expected = expected.dropna()
    panel = load_panel(DataConfig())
    actual = panel.frame[list(expected.columns)]
    assert list(actual.columns) == list(panel.observed)
    np.testing.assert_array_equal(actual.index, expected.index)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_embedded_facts():
    frame = load_panel(DataConfig()).frame
    assert len(frame) == 7286
    assert (frame.index[0].date(), frame.index[-1].date()) == (
        datetime.date(1990, 1, 31),
        datetime.date(2018, 12, 31),
    )
    prices = raw_series("SP500", embedded_folder()).to_numpy()
    returns = (np.diff(prices) / prices[:-1])[20:]
    np.testing.assert_array_equal(frame["SP500_Returns"], prices[21:] / prices[20:-1] - 1)
    assert frame["SP500_Returns"].mean() == pytest.approx(returns.mean(), rel=1e-9)
    assert frame["SP500_Returns"].std(ddof=0) == pytest.approx(returns.std(), rel=1e-9)
    check_return_unit(frame["SP500_Returns"].iloc[:5100].std(ddof=0), 0.01)
    assert frame["SP500_Returns"].idxmax().date() == datetime.date(2008, 10, 13)
    assert set(frame["day_of_week"]) == {0, 1, 2, 3, 4}
    assert set(frame["month"]) == set(range(1, 13))


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw series of core_proposal are not beside this repository")
def test_returns_of_the_longer_index_series():
    prices, _, _ = read_fred_csv(RAW / "SP500.csv", "SP500")
    returns = pd.Series(simple_return(prices.values, 1), pd.DatetimeIndex(prices.dates)).dropna()
    assert len(returns) == 9066
    assert round(returns.mean(), 6) == 0.000390
    assert round(returns.std(), 6) == 0.011371
    assert (round(returns.min(), 6), returns.idxmin().date()) == (-0.119841, datetime.date(2020, 3, 16))
    assert (round(returns.max(), 6), returns.idxmax().date()) == (0.115800, datetime.date(2008, 10, 13))


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw series of core_proposal are not beside this repository")
def test_core_proposal_from_the_raw_series():
    end = datetime.date(2025, 12, 31)
    vintage = load_panel(DataConfig(dataset=str(RAW), feature_set="core_proposal", end=end))
    frame, returns = vintage.frame, vintage.frame["SP500_Returns"]
    assert len(returns) == 9066
    assert (round(returns.mean(), 6), round(returns.std(), 6)) == (0.000390, 0.011371)
    assert (round(returns.min(), 6), returns.idxmin().date()) == (-0.119841, datetime.date(2020, 3, 16))
    assert (round(returns.max(), 6), returns.idxmax().date()) == (0.115800, datetime.date(2008, 10, 13))
    assert vintage.observed == ("SP500_Returns", "VIX", "Treasury_10Y", "Yield_Spread", "Inflation_YoY")
    cpi, yields = (
        dict(line.split(",") for line in (RAW / f"{name}.csv").read_text().splitlines()[1:])
        for name in ("CPIAUCSL", "DGS10")
    )
    change = 100 * (float(cpi["2024-12-01"]) / float(cpi["2023-12-01"]) - 1)  # seen from 2025-01-13 on
    before = 100 * (float(cpi["2024-11-01"]) / float(cpi["2023-11-01"]) - 1)
    np.testing.assert_allclose(frame.loc[["2025-01-10", "2025-01-13"], "Inflation_YoY"], [before, change])
    assert vintage.staleness.loc["2025-01-13", "Inflation_YoY"] == 0
    assert frame.loc["2025-01-03", "Treasury_10Y"] == float(yields["2025-01-02"])

    config = DataConfig(dataset=str(RAW), feature_set="core_proposal", end=end, alignment="fixed")
    fixed = load_panel(config.model_copy(update={"lags": {"CPIAUCSL": 60}}))
    assert list(fixed.frame.columns) == list(frame.columns)
    # 60 days after 2024-11-01 is 2024-12-31.
    np.testing.assert_allclose(fixed.frame.loc["2024-12-31", "Inflation_YoY"], before)
    assert not np.isclose(fixed.frame.loc["2024-12-30", "Inflation_YoY"], before)
    assert "CPIAUCSL: visible 60 days after its date" in fixed.messages
    with pytest.raises(UserError, match=r"data.lags: found the series 'CPI', expected one of CPI"):
        load_panel(config.model_copy(update={"lags": {"CPI": 60}}))


def test_staleness_as_inputs_by_hand():
    age = np.array([np.nan, np.nan, 4.0, 5.0, 0.0, 1.0, 2.0, 2.0])
    np.testing.assert_array_equal(fresh(age), [np.nan, np.nan, 1, 0, 1, 0, 0, 1])
    np.testing.assert_allclose(log_age(age)[2:5], [np.log(5), np.log(6), 0])


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw series of core_proposal are not beside this repository")
def test_staleness_as_inputs_of_real_data():
    end = datetime.date(2025, 6, 30)
    panel = load_panel(DataConfig(dataset=str(RAW), feature_set="core_proposal_ages", end=end))
    ages, frame = panel.staleness["Inflation_YoY"], panel.frame
    np.testing.assert_allclose(np.expm1(frame["Inflation_YoY_Log_Age"]), ages, atol=1e-9)
    assert list(panel.staleness) == ["Inflation_YoY"]
    # One release a month; its first row is the first trading day on or after the release.
    fresh_rows = frame.index[frame["Inflation_YoY_Fresh"] == 1]
    assert set(fresh_rows[1:].to_period("M").value_counts()) == {1}
    assert ages[fresh_rows[1:]].max() <= 4
