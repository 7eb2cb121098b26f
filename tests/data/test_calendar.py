"""The dates of rows: calendars, frequencies, next steps and holidays, by hand."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data import calendar as calendars
from tftjax.data.alignment import check_row_gaps, resample
from tftjax.data.calendar import (
    Calendar,
    check_days,
    found_dating,
    found_days,
    found_frequency,
    is_resampled,
    next_dates,
    periods_a_year,
    table_frequency,
)
from tftjax.data.checks import check_lags, findings
from tftjax.data.description import describe
from tftjax.data.loading import load_panel
from tftjax.data.panel import calendar_of, make_panel, read_panel, write_panel
from tftjax.errors import UserError
from tftjax.predict.rows import extend_panel


def d(*texts):
    return np.array(texts, "datetime64[D]")


def dates_of(freq, start, periods):
    return pd.date_range(start, periods=periods, freq=freq).to_numpy().astype("datetime64[D]")


MONTHLY, QUARTERLY = {"frequency": "monthly"}, {"frequency": "quarterly"}


@pytest.mark.parametrize(
    ("calendar", "last", "expected"),
    [
        ({}, "2024-02-02", ["2024-02-05", "2024-02-06"]),  # a Friday
        ({}, "2024-02-03", ["2024-02-05", "2024-02-06"]),  # a Saturday
        ({"days": "24/7"}, "2024-02-02", ["2024-02-03", "2024-02-04"]),
        ({"days": "1111001"}, "2024-02-01", ["2024-02-04", "2024-02-05"]),  # Sunday to Thursday
        ({"days": "XNYS"}, "2023-12-22", ["2023-12-26", "2023-12-27"]),  # Christmas on a Monday
        ({"days": "XNYS"}, "2024-03-28", ["2024-04-01", "2024-04-02"]),  # Good Friday
        ({"frequency": "weekly"}, "2017-08-25", ["2017-09-01", "2017-09-08"]),
        ({"frequency": "weekly"}, "2024-03-28", ["2024-04-05", "2024-04-12"]),  # a Thursday, for Good Friday
        ({"frequency": "weekly", "dated": "1"}, "2024-05-28", ["2024-06-03", "2024-06-10"]),  # for Monday
        ({"frequency": "weekly", "days": "24/7"}, "2024-01-28", ["2024-02-04", "2024-02-11"]),
        ({"frequency": "weekly", "days": "XNYS"}, "2024-03-22", ["2024-03-28", "2024-04-05"]),
        ({**MONTHLY, "dated": "first day"}, "2019-12-01", ["2020-01-01", "2020-02-01"]),
        ({**MONTHLY, "dated": "last day", "days": "24/7"}, "2024-01-31", ["2024-02-29", "2024-03-31"]),
        (MONTHLY, "2024-02-29", ["2024-03-29", "2024-04-30"]),
        (MONTHLY, "2018-11-29", ["2018-12-31", "2019-01-31"]),  # a day early
        ({**MONTHLY, "days": "XNYS"}, "2024-02-29", ["2024-03-28", "2024-04-30"]),
        ({**MONTHLY, "dated": "first open day"}, "2024-05-01", ["2024-06-03", "2024-07-01"]),
        ({**MONTHLY, "dated": "15"}, "2024-05-15", ["2024-06-17", "2024-07-15"]),  # June's is a Saturday
        ({**MONTHLY, "dated": "30"}, "2024-01-30", ["2024-02-29", "2024-03-29"]),  # March's is a Saturday
        ({**QUARTERLY, "dated": "first day"}, "2019-10-01", ["2020-01-01", "2020-04-01"]),
        ({**QUARTERLY, "dated": "last day", "days": "24/7"}, "2023-12-31", ["2024-03-31", "2024-06-30"]),
        ({**QUARTERLY, "dated": "last day", "days": "24/7"}, "2024-01-31", ["2024-04-30", "2024-07-31"]),
        (QUARTERLY, "2023-12-29", ["2024-03-29", "2024-06-28"]),
        ({**QUARTERLY, "days": "XNYS"}, "2023-12-29", ["2024-03-28", "2024-06-28"]),
    ],
)
def test_next_dates(calendar, last, expected):
    assert next_dates(Calendar(**calendar), np.datetime64(last), 2).astype(str).tolist() == expected


def test_a_week_without_a_session_is_no_step():
    # Shanghai was closed from Monday 2023-10-02 (and the Friday before) to Friday 2023-10-06.
    weekly = Calendar("weekly", "XSHG")
    found = next_dates(weekly, np.datetime64("2023-09-28"), 2)
    assert found.astype(str).tolist() == ["2023-10-13", "2023-10-20"]


@pytest.mark.parametrize(
    ("frequency", "days", "dates", "expected"),
    [
        ("weekly", "weekdays", dates_of("W-FRI", "2010-01-01", 30), "last open day"),
        ("weekly", "weekdays", dates_of("W-WED", "2010-01-01", 30), "3"),
        ("weekly", "weekdays", dates_of("W-MON", "2010-01-01", 30), "first open day"),
        ("weekly", "24/7", dates_of("W-SUN", "2010-01-01", 30), "last open day"),
        ("monthly", "24/7", dates_of("MS", "2010-01-01", 30), "first open day"),
        ("monthly", "weekdays", dates_of("BME", "2010-01-01", 30), "last open day"),
        ("monthly", "weekdays", dates_of("BMS", "2010-01-01", 30), "first open day"),
        ("monthly", "24/7", dates_of("ME", "2010-01-01", 30), "last open day"),
        ("monthly", "24/7", dates_of("MS", "2010-01-01", 30) + np.timedelta64(14, "D"), "15"),
        ("quarterly", "24/7", dates_of("QS", "2010-01-01", 30), "first open day"),
        ("quarterly", "weekdays", dates_of("BQE-JAN", "2010-01-01", 30), "last open day"),
        ("daily", "weekdays", dates_of("B", "2010-01-01", 30), "last open day"),
    ],
)
def test_how_rows_are_dated(frequency, days, dates, expected):
    assert found_dating(frequency, days, dates) == expected


def test_a_few_odd_rows_do_not_change_how_rows_are_dated():
    dates = dates_of("W-FRI", "2010-01-01", 30)
    dates[[3, 11]] -= np.timedelta64(1, "D")
    assert found_dating("weekly", "weekdays", dates) == "last open day"
    # Released on the 12th, 13th or 14th: the middle of them.
    scattered = dates_of("MS", "2010-01-01", 30) + np.array([11, 12, 13] * 10) * np.timedelta64(1, "D")
    assert found_dating("monthly", "24/7", scattered) == "13"
    offsets = np.array([0, 0, 0, 9, 10, 11, 12, 13, 14, 15]) * np.timedelta64(1, "D")
    assert found_dating("monthly", "24/7", dates_of("MS", "2010-01-01", 10) + offsets) == "11"


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (dates_of("B", "2010-01-01", 30), "daily"),
        (dates_of("D", "2010-01-01", 30), "daily"),
        (np.delete(dates_of("B", "2010-01-01", 300), slice(40, 90)), "daily"),  # a long hole
        (dates_of("W-FRI", "2010-01-01", 30), "weekly"),
        (dates_of("BME", "2010-01-01", 30), "monthly"),
        (dates_of("MS", "2010-01-01", 30), "monthly"),
        (dates_of("QS", "2010-01-01", 30), "quarterly"),
        (dates_of("BQE", "2010-01-01", 30), "quarterly"),
        (dates_of("YS", "2010-01-01", 30), None),
        (dates_of("14D", "2010-01-01", 30), None),
        (dates_of("3D", "2010-01-01", 30), None),
        # Three fifths of the rows weekly, the others a month apart.
        (np.unique(np.r_[dates_of("W-FRI", "2010-01-01", 12), dates_of("MS", "2010-04-01", 8)]), None),
        (dates_of("W-FRI", "2010-01-01", 5), None),  # too few
        (dates_of("W-FRI", "2010-01-01", 6), "weekly"),
    ],
)
def test_frequency_of_rows(dates, expected):
    assert found_frequency(dates) == expected


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (dates_of("B", "2010-01-01", 60), "weekdays"),
        (dates_of("D", "2010-01-01", 60), "24/7"),
        (dates_of("D", "2010-01-01", 9), "24/7"),
        (dates_of("D", "2010-01-06", 5), "24/7"),  # Wednesday to Sunday: too few to miss a Monday
        (dates_of("B", "2010-01-04", 3), "weekdays"),
        # Two Saturdays of work in twelve weeks are no rule.
        (np.sort(np.r_[dates_of("B", "2010-01-01", 60), d("2010-01-09", "2010-02-06")]), "weekdays"),
        (dates_of("C", "2010-01-03", 60), "weekdays"),
        (
            pd.bdate_range("2010-01-03", periods=60, freq="C", weekmask="Sun Mon Tue Wed Thu")
            .to_numpy()
            .astype("datetime64[D]"),
            "1111001",
        ),
    ],
)
def test_days_of_rows(dates, expected):
    assert found_days(dates) == expected


def test_a_table_has_one_frequency():
    weekly, daily = dates_of("W-FRI", "2010-01-01", 30), dates_of("B", "2010-01-01", 30)
    assert table_frequency(None, {"a": weekly, "b": weekly[:3]}, "f.csv") == "weekly"
    assert table_frequency(None, {"": daily[:2]}, "f.csv") == "daily"
    assert table_frequency("monthly", {"a": weekly, "b": daily}, "f.csv") == "monthly"
    with pytest.raises(UserError, match=r"f.csv: .*\(weekly in the series 'a', daily in the series 'b'\)"):
        table_frequency(None, {"a": weekly, "b": daily}, "f.csv")
    with pytest.raises(
        UserError,
        match=r'a median of 14 days apart, .*a month or a quarter apart.*set data.frequency to "daily"',
    ):
        table_frequency(None, {"": dates_of("14D", "2010-01-01", 30)}, "f.csv")


def test_rows_farther_apart_than_the_setting_are_refused():
    monthly, weekly = dates_of("BME", "2010-01-01", 30), dates_of("W-FRI", "2010-01-01", 30)
    daily = dates_of("B", "2010-01-01", 30)
    assert not is_resampled("monthly", monthly, "f.csv")
    assert is_resampled("monthly", daily, "f.csv")
    assert is_resampled("weekly", daily[:2], "f.csv")
    assert is_resampled("weekly", dates_of("2D", "2010-01-01", 30), "f.csv")
    assert not is_resampled("daily", daily, "f.csv")
    assert not is_resampled("daily", dates_of("3D", "2010-01-01", 30), "f.csv")
    for frequency in ("daily", "weekly"):
        with pytest.raises(
            UserError,
            match=rf'rows are a month apart \(a median of 30 days apart\), .*data.frequency "{frequency}"'
            r' says. Set data.frequency to "monthly"',
        ):
            is_resampled(frequency, monthly, "f.csv")
    with pytest.raises(UserError, match=r"a median of 7 days apart, expected days, or rows a month apart"):
        is_resampled("monthly", weekly, "f.csv")


def test_periods_a_year():
    def of(**values):
        return periods_a_year(Calendar(**values))

    assert [of(), of(days="XNYS"), of(days="24/7"), of(days="1111001")] == [252, 252, 365, 252]
    assert of(days="1111101") == 312  # 52 weeks of six days
    found = [of(frequency=frequency, days="24/7") for frequency in ("weekly", "monthly", "quarterly")]
    assert found == [52, 12, 4]


def place(row):
    return f"line {row + 2}"


def test_rows_that_the_calendar_cannot_have():
    with pytest.raises(
        UserError, match=r"f.csv: found 2024-03-29 on line 3, which is no session of XNYS \(data.calendar\)"
    ):
        check_days("XNYS", d("2024-03-28", "2024-03-29", "2024-04-01"), True, "f.csv", place)
    check_days("XNYS", d("2024-03-28", "2024-04-01"), True, "f.csv", place)
    every_day, weekdays = dates_of("D", "2010-01-01", 60), dates_of("B", "2010-01-01", 60)
    with pytest.raises(UserError, match=r'9 on a Saturday.*data.calendar \'weekdays\'.* set it to "24/7"'):
        check_days("weekdays", every_day, True, "f.csv", place)
    with pytest.raises(UserError, match=r'0 on a Saturday.*data.calendar \'24/7\'.* set it to "weekdays"'):
        check_days("24/7", weekdays, True, "f.csv", place)
    check_days("24/7", weekdays[:5], True, "f.csv", place)  # too few to say
    check_days("24/7", dates_of("W-FRI", "2010-01-01", 60), False, "f.csv", place)


def test_gaps_are_counted_by_the_calendar():
    lines = np.array([2, 3])
    around_christmas = d("2023-12-22", "2023-12-27")
    check_row_gaps(around_christmas, lines, "f.csv", 3)  # Monday to Wednesday
    with pytest.raises(UserError, match="3 business days after 2023-12-22, expected at most 2"):
        check_row_gaps(around_christmas, lines, "f.csv", 2)
    check_row_gaps(around_christmas, lines, "f.csv", 2, open_days="XNYS")
    with pytest.raises(UserError, match="2 sessions of XNYS after 2023-12-22, expected at most 1"):
        check_row_gaps(around_christmas, lines, "f.csv", 1, open_days="XNYS")
    with pytest.raises(UserError, match="5 days after 2023-12-22, expected at most 4"):
        check_row_gaps(around_christmas, lines, "f.csv", 4, open_days="24/7")
    quarters = d("2023-12-29", "2024-03-29")
    check_row_gaps(quarters, lines, "f.csv", 30, frequency="quarterly")
    with pytest.raises(UserError, match="65 business days after"):
        check_row_gaps(quarters, lines, "f.csv", 30, frequency="monthly")


def test_whole_quarters_by_hand():
    index = pd.bdate_range("2023-12-28", "2024-07-02")
    frame = pd.DataFrame({"y": 0.001, "x": np.arange(len(index), dtype=float)}, index=index)
    rows, _, _ = resample(frame, frame[["x"]], "y", "quarterly")
    assert rows.index.strftime("%Y-%m-%d").tolist() == ["2024-03-29", "2024-06-28"]
    np.testing.assert_allclose(rows["y"], [1.001**65 - 1] * 2)


@pytest.mark.parametrize(
    ("open_days", "last"), [("weekdays", "2024-02-02"), ("24/7", "2024-01-28"), ("XNYS", "2024-02-02")]
)
def test_a_week_is_whole_by_its_calendar(open_days, last):
    index = pd.date_range("2024-01-08", "2024-02-02")  # Monday to Friday
    if open_days != "24/7":
        index = index[index.day_of_week < 5]
    frame = pd.DataFrame({"y": 0.001, "x": 1.0}, index=index)
    rows, _, _ = resample(frame, frame[["x"]], "y", "weekly", open_days)
    assert rows.index[-1] == pd.Timestamp(last)


def test_a_week_that_ends_before_a_holiday_is_whole_by_its_sessions():
    index = pd.bdate_range("2024-03-11", "2024-03-28")  # up to the day before Good Friday
    frame = pd.DataFrame({"y": 0.001, "x": 1.0}, index=index)
    ends = {}
    for open_days in ("weekdays", "XNYS"):
        rows, _, _ = resample(frame, frame[["x"]], "y", "weekly", open_days)
        ends[open_days] = str(rows.index[-1].date())
    assert ends == {"weekdays": "2024-03-22", "XNYS": "2024-03-28"}


def test_holidays_by_hand():
    dates = d("2023-11-21", "2023-11-22", "2023-11-24", "2023-11-27", "2024-07-03", "2024-07-05")
    of_xnys = Calendar(days="XNYS")
    assert calendars.before_holiday(dates, of_xnys).tolist() == [False, True, False, False, True, False]
    assert calendars.after_holiday(dates, of_xnys).tolist() == [False, False, True, False, False, True]
    assert calendars.half_day(dates, of_xnys).tolist() == [False, False, True, False, True, False]


def test_nobody_knew_of_an_unforeseen_closing():
    dates = d("2001-09-10", "2001-09-17", "2012-10-26")  # before, after; before hurricane Sandy
    of_xnys = Calendar(days="XNYS")
    assert not calendars.before_holiday(dates, of_xnys).any()
    assert not calendars.after_holiday(dates, of_xnys).any()
    # Shanghai's holidays are listed, none follows a rule.
    assert calendars.before_holiday(d("2023-09-28"), Calendar(days="XSHG")).all()


def test_days_to_an_event_by_hand():
    calendar = Calendar(events={"fomc": ("2024-03-20", "2024-01-31")})  # in any order
    dates = d("2023-11-01", "2024-01-29", "2024-01-31", "2024-02-01", "2024-03-20")
    assert calendars.days_to("fomc", dates, calendar).tolist() == [60, 2, 0, 48, 0]
    with pytest.raises(
        UserError, match=r"the last date of 'fomc' is 2024-03-20, and rows reach to 2024-03-21"
    ):
        calendars.days_to("fomc", d("2024-03-21"), calendar)


def test_an_unknown_exchange_names_near_ones():
    with pytest.raises(UserError, match=r"data.calendar: found 'XNYSE'.*such as XNYS"):
        calendars.exchange("XNYSE")


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(UserError, match=r"pip install 'tftjax\[calendars\]'"):
        calendars.exchange("XLON")


def test_dates_outside_the_known_sessions():
    with pytest.raises(UserError, match=r"sessions of 'XBOM' are known from 1997-01-01 to .*1990-01-01"):
        check_days("XBOM", d("1990-01-01"), True, "f.csv", place)


def config_of(tmp_path, dates, columns=None, **data):
    rng = np.random.default_rng(1)
    table = {"date": np.array(dates).astype("datetime64[D]").astype(str)}
    table |= {name: rng.normal(0, 0.01, len(dates)).round(6) for name in ("ret", "flow")}
    pd.DataFrame(table).to_csv(tmp_path / "my.csv", index=False)
    roles = {"target": "ret", "observed": ["flow"], "known_categorical": ["day_of_week", "month"]}
    section = {"dataset": str(tmp_path / "my.csv"), "columns": roles | (columns or {}), **data}
    return from_dict({"data": section, "model": {"hidden_size": 4, "encoder_length": 3}}, "test")


def panel_of(tmp_path, dates, columns=None, **data):
    return load_panel(config_of(tmp_path, dates, columns, **data).data)


@pytest.mark.parametrize(
    ("dates", "data", "expected", "made"),
    [
        (dates_of("W-FRI", "2017-01-01", 30), {}, "2017-08-04", [4, 8]),
        (dates_of("W-FRI", "2017-01-01", 30), {"frequency": "weekly"}, "2017-08-04", [4, 8]),
        (dates_of("MS", "2017-01-01", 30), {"frequency": "monthly"}, "2019-07-01", [0, 7]),
        (dates_of("MS", "2017-01-01", 30), {}, "2019-07-01", [0, 7]),
        (dates_of("ME", "2017-01-01", 30), {}, "2019-07-31", [2, 7]),
        (dates_of("BQE", "2010-01-01", 30), {}, "2017-09-29", [4, 9]),
        (dates_of("D", "2024-01-01", 40), {}, "2024-02-10", [5, 2]),
        (dates_of("B", "2024-01-01", 40), {}, "2024-02-26", [0, 2]),
        (dates_of("B", "2024-01-01", 40), {"frequency": "weekly"}, "2024-03-01", [4, 3]),
        (dates_of("D", "2024-01-01", 40), {"frequency": "weekly"}, "2024-02-11", [6, 2]),
        (dates_of("B", "2023-12-29", 132), {"frequency": "quarterly"}, "2024-09-30", [0, 9]),
    ],
)
def test_the_next_row_of_a_table(tmp_path, dates, data, expected, made):
    panel = panel_of(tmp_path, dates, **data)
    if data.get("frequency") is None or len(dates) == 30:
        assert len(panel.frame) == len(dates)
    longer = extend_panel(panel, 1)
    assert str(longer.frame.index[-1].date()) == expected
    assert longer.frame[["day_of_week", "month"]].iloc[-1].tolist() == made


def test_what_is_found_is_said_and_kept(tmp_path):
    dates = dates_of("W-FRI", "2017-01-01", 30)
    panel = panel_of(tmp_path, dates)
    assert "weekly rows, as the table has them" in panel.messages
    about = {"frequency": "weekly", "calendar": "weekdays", "dated": "last open day", "events": {}}
    assert about.items() <= panel.about.items()
    write_panel(tmp_path, panel)
    assert calendar_of(read_panel(tmp_path)) == Calendar("weekly", "weekdays", "last open day", {})
    # Of few rows, nothing could be found.
    assert calendar_of(read_panel(tmp_path)) == calendar_of(panel)
    with pytest.raises(UserError, match=r'my.csv, column \'date\': the rows are a week apart.* to "weekly"'):
        panel_of(tmp_path, dates, frequency="daily")
    assert panel_of(tmp_path, dates_of("B", "2017-01-02", 30)).messages == ()


def test_a_description_of_weeks(tmp_path):
    dates = dates_of("W-FRI", "2017-01-01", 30)
    assert "weekly rows, at most 14 days apart" in describe(panel_of(tmp_path, np.delete(dates, 7)))


def test_panels_of_before_are_found_from_their_rows():
    def of(dates, **about):
        frame = pd.DataFrame({"y": np.arange(len(dates)) / 100}, index=pd.DatetimeIndex(dates))
        return make_panel(frame, target="y", observed=("y",), about=about)

    friday = dates_of("W-FRI", "2017-01-01", 30)
    assert calendar_of(of(friday, frequency="daily")).frequency == "weekly"
    assert calendar_of(of(dates_of("D", "2017-01-01", 30), frequency="daily")).days == "24/7"
    assert calendar_of(of(dates_of("B", "2017-01-01", 30))) == Calendar()
    months = dates_of("BME", "2017-01-01", 30)
    months[-1] -= np.timedelta64(1, "D")
    resampled = of(months, frequency="monthly")
    assert str(extend_panel(resampled, 1).frame.index[-1].date()) == "2019-07-31"
    with pytest.raises(UserError, match="found the frequency 'hourly', expected one of daily"):
        calendar_of(of(friday, frequency="hourly"))


def test_a_holiday_in_the_table_names_row_and_setting(tmp_path):
    dates = dates_of("B", "2024-03-01", 30)
    with pytest.raises(
        UserError, match=r"column 'date': found 2024-03-29 on line 22, which is no session of XNYS"
    ):
        panel_of(tmp_path, dates, calendar="XNYS")
    panel = panel_of(tmp_path, dates[dates < np.datetime64("2024-03-29")], calendar="XNYS")
    assert str(extend_panel(panel, 1).frame.index[-1].date()) == "2024-04-01"
    assert "longest time without a row: 0 sessions of XNYS" in describe(panel)


def test_known_inputs_by_name(tmp_path):
    dates = dates_of("B", "2024-06-20", 9)  # to 2024-07-02
    columns = {
        "known_real": ["days_to_fomc", "lag_2"],
        "known_categorical": ["before_holiday", "after_holiday", "half_day"],
    }
    setting = {"calendar": "XNYS", "events": {"fomc": ["2024-06-12", "2024-07-31"]}}
    panel = panel_of(tmp_path, dates, columns, **setting)
    returns = pd.read_csv(tmp_path / "my.csv")["ret"]
    assert "leading rows dropped: 2, no value of lag_2 before 2024-06-24" in panel.messages
    assert panel.frame["lag_2"].tolist() == returns[:-2].tolist()
    assert panel.frame["days_to_fomc"].tolist() == [37, 36, 35, 34, 33, 30, 29]
    assert panel.frame[["before_holiday", "after_holiday", "half_day"]].to_numpy().sum() == 0
    future = extend_panel(panel, 2).frame.iloc[-2:]
    assert future.index.strftime("%Y-%m-%d").tolist() == ["2024-07-03", "2024-07-05"]
    assert future["before_holiday"].tolist() == [1, 0]
    assert future["after_holiday"].tolist() == [0, 1]
    assert future["half_day"].tolist() == [1, 0]
    assert future["days_to_fomc"].tolist() == [28, 26]
    assert future["lag_2"].tolist() == returns[-2:].tolist()
    assert future["half_day"].dtype == np.int64


def test_lags_are_of_the_rows_that_are_forecast(tmp_path):
    panel = panel_of(tmp_path, dates_of("B", "2024-01-01", 60), {"known_real": ["lag_3"]}, frequency="weekly")
    np.testing.assert_array_equal(panel.frame["lag_3"][3:], panel.frame["ret"][:-3])


def test_lags_of_a_series_are_its_own(tmp_path):
    dates = dates_of("B", "2024-01-01", 8).astype(str)
    rows = [f"{day},{name},{k + 100 * (name == 'b')}" for name in "ab" for k, day in enumerate(dates)]
    (tmp_path / "two.csv").write_text("\n".join(["date,id,ret", *rows]))
    columns = {"target": "ret", "id": "id", "known_real": ["lag_3"]}
    config = from_dict({"data": {"dataset": str(tmp_path / "two.csv"), "columns": columns}}, "test")
    panel = load_panel(config.data)
    assert panel.frame["lag_3"].tolist() == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


def test_series_with_different_days_have_each_their_own(tmp_path):
    days = {"coin": dates_of("D", "2024-01-01", 40), "stock": dates_of("B", "2024-01-01", 30)}
    rows = [
        f"{day},{name},{k / 1000}" for name, dates in days.items() for k, day in enumerate(dates.astype(str))
    ]
    (tmp_path / "two.csv").write_text("\n".join(["date,id,ret", *rows]))
    columns = {"target": "ret", "id": "id"}
    panel = load_panel(
        from_dict({"data": {"dataset": str(tmp_path / "two.csv"), "columns": columns}}, "t").data
    )
    assert panel.about["calendar"] is None
    longer = extend_panel(panel, 1).frame
    last = longer.groupby("id").apply(lambda part: str(part.index[-1].date()), include_groups=False)
    assert last.to_dict() == {"coin": "2024-02-10", "stock": "2024-02-12"}  # Saturday, Monday


def test_a_lag_shorter_than_the_forecast_is_refused(tmp_path):
    dates = dates_of("B", "2024-01-01", 60)
    panel = panel_of(tmp_path, dates, {"known_real": ["lag_4"]})
    check_lags(panel, 4)
    with pytest.raises(UserError, match=r"'lag_4' with model.prediction_length 5.*Use lag_5 or more"):
        check_lags(panel, 5)
    config = config_of(tmp_path, dates, {"known_real": ["lag_1"]})
    config = config.model_copy(update={"model": config.model.model_copy(update={"prediction_length": 2})})
    assert any("found 'lag_1'" in finding for finding in findings(config))


def test_columns_that_need_a_setting(tmp_path):
    dates = dates_of("B", "2024-01-01", 10)
    for setting in ({}, {"calendar": "weekdays"}):
        with pytest.raises(UserError, match=r"'half_day' is made from the sessions of an exchange.*\"XNYS\""):
            panel_of(tmp_path, dates, {"known_categorical": ["half_day"]}, **setting)
    # A column of one's own, as no event has that name.
    with pytest.raises(UserError, match="found no column 'days_to_fomc'"):
        panel_of(tmp_path, dates, {"known_real": ["days_to_fomc"]}, events={"cpi": ["2024-03-01"]})
    with pytest.raises(UserError, match="found 'month' in another role"):
        panel_of(tmp_path, dates, {"observed": ["month"], "known_categorical": []})


def test_a_built_panel_takes_a_calendar(tmp_path):
    panel = panel_of(tmp_path, dates_of("B", "2024-04-01", 30))
    about = {key: value for key, value in panel.about.items() if key not in ("calendar", "dated", "made")}
    (tmp_path / "built").mkdir()
    write_panel(tmp_path / "built", panel)
    content = json.loads((tmp_path / "built" / "panel.json").read_text()) | {"about": about}
    (tmp_path / "built" / "panel.json").write_text(json.dumps(content))

    def load(**data):
        return load_panel(from_dict({"data": {"dataset": str(tmp_path / "built"), **data}}, "test").data)

    assert calendar_of(load()).days == "weekdays"
    assert calendar_of(load(calendar="XNYS")).days == "XNYS"
    assert load(frequency="daily").fingerprint == panel.fingerprint
    with pytest.raises(UserError, match=r"data\.frequency: found 'weekly' with the built panel"):
        load(frequency="weekly")
    with pytest.raises(UserError, match="no session of XLON"):  # the bank holiday of 6 May
        load(calendar="XLON")


@pytest.mark.parametrize("cell", ["2024-01-02 09:30", "2024-01-02T09:30:00", "2024-01-02 16:00:00-05:00"])
def test_intraday_rows_are_not_supported(tmp_path, cell):
    (tmp_path / "my.csv").write_text(f"date,ret\n2024-01-01,0.01\n{cell},0.01\n")
    config = from_dict({"data": {"dataset": str(tmp_path / "my.csv"), "columns": {"target": "ret"}}}, "test")
    with pytest.raises(
        UserError, match=r"line 3, .*Intraday rows are not supported: resample to one row a day"
    ):
        load_panel(config.data)


@pytest.mark.parametrize("cell", ["2024-01-02 00:00:00-05:00", "2024-01-02 00:00:00", "2024-01-02T00:00:00Z"])
def test_a_stamp_at_midnight_names_the_form_and_warns_of_nothing(tmp_path, cell):
    (tmp_path / "my.csv").write_text(f"date,ret\n{cell},0.01\n2024-01-03,0.01\n")
    config = from_dict({"data": {"dataset": str(tmp_path / "my.csv"), "columns": {"target": "ret"}}}, "test")
    with pytest.raises(UserError, match=r"line 2, .*expected a date as YYYY-MM-DD. Write every date in that"):
        load_panel(config.data)
