import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tftjax.data.alignment import (
    RELEASE_RULES,
    RULE_WORDS,
    Observations,
    as_of,
    check_gaps,
    check_row_gaps,
    fixed_lag,
    publications,
    resample,
    snapshot,
)
from tftjax.data.feature_sets import CALENDAR, FEATURE_SETS, SERIES
from tftjax.data.loading import align
from tftjax.data.series.transforms import change_over_year, level, minus
from tftjax.errors import UserError


def d(*texts):
    return np.array(texts, dtype="datetime64[D]")


@pytest.mark.parametrize(
    ("rule", "observed", "released"),
    [
        ("from_13th_of_next_month", "2018-03-01", "2018-04-13"),  # a Friday
        ("from_13th_of_next_month", "2018-09-01", "2018-10-15"),  # the 13th is a Saturday
        ("from_13th_of_next_month", "2018-04-01", "2018-05-14"),  # the 13th is a Sunday
        ("from_13th_of_next_month", "2017-12-01", "2018-01-15"),  # over the year's end, from a Saturday
        ("first_business_day_of_next_month", "2018-08-01", "2018-09-03"),  # a Monday, also if it is a holiday
        ("first_business_day_of_next_month", "2018-11-01", "2018-12-03"),  # the 1st is a Saturday
        ("first_business_day_of_next_month", "2018-12-01", "2019-01-01"),  # a Tuesday
        ("same_day", "2018-09-08", "2018-09-08"),
    ],
)
def test_release_dates(rule, observed, released):
    assert RELEASE_RULES[rule](d(observed)) == d(released)


def test_every_series_has_a_rule_and_every_column_one_rule():
    assert set(RULE_WORDS) == set(RELEASE_RULES)
    for info in SERIES.values():
        assert info.release in RELEASE_RULES
    for feature_set in FEATURE_SETS.values():
        assert len(feature_set.names("target")) == 1
        assert feature_set.row_series in SERIES
        for column in feature_set.columns:
            assert bool(column.sources) != (column.name in CALENDAR)
            assert len({(SERIES[s].release, SERIES[s].frequency) for s in column.sources}) <= 1


def test_as_of_takes_the_last_release_up_to_the_row():
    releases = d("2018-01-05", "2018-01-08")
    rows = d("2018-01-04", "2018-01-05", "2018-01-07", "2018-01-08", "2018-02-08")
    values, age = as_of(releases, releases, np.array([3.0, 5.0]), rows)
    np.testing.assert_array_equal(values, [np.nan, 3.0, 3.0, 5.0, 5.0])
    np.testing.assert_array_equal(age, [np.nan, 0.0, 2.0, 0.0, 31.0])


def test_as_of_without_any_release_is_nan():
    values, age = as_of(d(), d(), np.array([]), d("2018-01-04", "2018-01-05"))
    assert np.isnan(values).all()
    assert np.isnan(age).all()


def daily(dates, first, last, max_gap=30):
    check_gaps(
        dates,
        "daily",
        RELEASE_RULES["same_day"],
        np.datetime64(first),
        np.datetime64(last),
        "f.csv, column 'X'",
        max_gap,
    )


def test_daily_gap_of_30_business_days_passes_and_31_does_not():
    # From Monday 2018-01-01, 30 business days are six weeks: Monday 2018-02-12.
    daily(d("2018-01-01", "2018-02-12"), "2018-01-01", "2018-02-12")
    with pytest.raises(UserError, match=r"f.csv, column 'X'.*2018-01-01 and 2018-02-13.*30 business days"):
        daily(d("2018-01-01", "2018-02-13"), "2018-01-01", "2018-02-13")
    daily(d("2018-01-01", "2018-02-13"), "2018-01-01", "2018-02-13", max_gap=31)


def test_row_gap_by_hand():
    dates, lines = d("2018-01-01", "2018-01-02", "2018-02-13", "2018-02-14"), np.array([2, 5, 7, 8])
    check_row_gaps(dates, lines, "f.csv, column 'day'", 30)
    found = r"f.csv, column 'day': found 2018-02-13 on line 7, 30 business days after 2018-01-02, expected at"
    with pytest.raises(UserError, match=rf"{found} most 29\. .* or raise data\.max_gap"):
        check_row_gaps(dates, lines, "f.csv, column 'day'", 29)
    check_row_gaps(dates[:1], lines[:1], "f.csv, column 'day'", 1)


def test_daily_gap_outside_the_used_rows_is_no_matter():
    dates = d("2017-01-02", "2018-01-01", "2018-01-02", "2019-01-01")
    daily(dates, "2018-01-02", "2018-01-05")
    with pytest.raises(UserError, match="between 2018-01-02 and 2019-01-01"):
        daily(dates, "2018-01-02", "2019-01-01")


def test_a_daily_series_that_ends_long_before_the_last_row_is_refused():
    daily(d("2018-01-01"), "2018-01-01", "2018-02-12")
    with pytest.raises(UserError, match="2018-01-01 and 2018-02-13"):
        daily(d("2018-01-01"), "2018-01-01", "2018-02-13")


def monthly(dates, last):
    first = np.datetime64("2018-01-02")
    check_gaps(
        dates,
        "monthly",
        RELEASE_RULES["from_13th_of_next_month"],
        first,
        np.datetime64(last),
        "f.csv, column 'X'",
        30,
    )


def test_monthly_gap_of_two_months_passes_and_three_do_not():
    monthly(d("2018-01-01", "2018-04-01"), "2018-05-31")
    with pytest.raises(UserError, match=r"2018-01-01 and 2018-05-01.*2 missing months"):
        monthly(d("2018-01-01", "2018-05-01"), "2018-06-30")


def test_monthly_series_counts_as_ended_by_what_should_have_been_released():
    # After January's value: February, March and April are due on 03-13, 04-13 and 05-14 (a Monday).
    monthly(d("2018-01-01"), "2018-05-13")
    with pytest.raises(UserError, match="2018-01-01 and 2018-05-14"):
        monthly(d("2018-01-01"), "2018-05-14")


def test_a_series_without_values_is_refused():
    with pytest.raises(UserError, match="no value at all"):
        daily(d(), "2018-01-01", "2018-01-05")


# January's value is revised in March, on the day before February's first release; then February's is too.
REVISED = Observations(
    d("2018-01-01", "2018-01-01", "2018-02-01", "2018-02-01"),
    d("2018-02-14", "2018-03-12", "2018-03-13", "2018-04-11"),
    np.array([1.0, 2.0, 3.0, 5.0]),
)
ROWS = d("2018-02-13", "2018-02-14", "2018-03-12", "2018-03-13", "2018-04-10", "2018-04-11", "2018-04-12")


@pytest.mark.parametrize(
    ("vintage", "values", "ages"),
    [
        ("first", [np.nan, 1, 1, 3, 3, 3, 3], [np.nan, 0, 26, 0, 28, 29, 30]),
        ("latest", [np.nan, 1, 2, 3, 3, 5, 5], [np.nan, 0, 26, 0, 28, 29, 30]),
    ],
)
def test_revisions_by_hand(vintage, values, ages):
    joined, age = as_of(*publications([REVISED], level, vintage), ROWS)
    np.testing.assert_array_equal(joined, values)
    np.testing.assert_array_equal(age, ages)  # days since the observation became known, not since a revision


def test_a_snapshot_holds_what_was_known_at_the_end_of_the_day():
    assert snapshot(REVISED, np.datetime64("2018-02-13")).empty
    assert snapshot(REVISED, np.datetime64("2018-03-12")).tolist() == [2.0]
    assert snapshot(REVISED, np.datetime64("2018-03-13")).tolist() == [2.0, 3.0]
    assert snapshot(REVISED, np.datetime64("2018-05-01")).tolist() == [2.0, 5.0]


def test_a_yearly_change_uses_the_base_as_it_was_known_on_the_day():
    series = Observations(
        d("2017-01-01", "2017-01-01", "2018-01-01"),
        d("2017-02-14", "2018-02-01", "2018-02-14"),
        np.array([100.0, 125.0, 130.0]),
    )
    for vintage in ("first", "latest"):
        released, since, values = publications([series], change_over_year, vintage)
        np.testing.assert_allclose(values, [4.0])  # 130 / 125, not 130 / 100
        np.testing.assert_array_equal(released, d("2018-02-14"))
        np.testing.assert_array_equal(since, released)


def test_a_difference_is_known_when_both_parts_are():
    early = Observations(d("2018-01-01"), d("2018-02-01"), np.array([5.0]))
    late = Observations(d("2018-01-01"), d("2018-02-05"), np.array([3.0]))
    released, _, values = publications([early, late], minus, "first")
    np.testing.assert_array_equal(released, d("2018-02-05"))
    np.testing.assert_array_equal(values, [2.0])


def test_an_old_observation_published_late_does_not_come_back():
    series = Observations(d("2018-01-01", "2018-02-01"), d("2018-04-02", "2018-03-01"), np.array([1.0, 2.0]))
    joined, age = as_of(*publications([series], level, "latest"), d("2018-03-01", "2018-04-03"))
    np.testing.assert_array_equal(joined, [2.0, 2.0])
    np.testing.assert_array_equal(age, [0.0, 33.0])


def test_fixed_lag_counts_from_the_observation():
    shifted = fixed_lag(REVISED, 45)
    np.testing.assert_array_equal(shifted.releases, d("2018-02-15", "2018-03-18"))
    assert shifted.values.tolist() == [1.0, 3.0]  # the revisions came later


@st.composite
def histories(draw):
    """A monthly series with up to three publications a month, in any order, sorted as files are."""
    entries = set()
    for month in range(draw(st.integers(1, 5))):
        date = (np.datetime64("2018-01", "M") + np.timedelta64(month, "M")).astype("datetime64[D]")
        entries |= {
            (date, date + np.timedelta64(delay, "D"))
            for delay in draw(st.sets(st.integers(0, 90), min_size=1, max_size=3))
        }
    dates, releases = (np.array(column) for column in zip(*sorted(entries), strict=True))
    values = draw(st.lists(st.integers(1, 99), min_size=len(dates), max_size=len(dates)))
    return Observations(dates, releases, np.array(values, np.float64))


@settings(deadline=None)
@given(histories(), st.integers(0, 200), st.sampled_from(["first", "latest"]), st.integers(100, 200))
def test_what_is_published_after_a_day_changes_nothing_up_to_it(series, offset, vintage, other):
    day = np.datetime64("2018-01-01") + np.timedelta64(offset, "D")
    rows = np.arange(np.datetime64("2018-01-01"), day + np.timedelta64(1, "D"))
    after = series.releases > day
    changed = series._replace(values=np.where(after, float(other), series.values))
    without = Observations(*(array[~after] for array in series))
    expected = as_of(*publications([series], level, vintage), rows)
    for variant in (changed, without):
        np.testing.assert_array_equal(as_of(*publications([variant], level, vintage), rows), expected)


@settings(deadline=None)
@given(histories(), st.sampled_from(["first", "latest"]))
def test_every_row_shows_the_newest_observation_known_by_then(series, vintage):
    rows = np.arange(np.datetime64("2018-01-01"), np.datetime64("2018-12-31"))
    joined, age = as_of(*publications([series], level, vintage), rows)
    for row, value, days_old in zip(rows, joined, age, strict=True):
        known = [i for i in range(len(series.dates)) if series.releases[i] <= row]
        if not known:
            assert np.isnan(value)
            continue
        newest = max(series.dates[i] for i in known)
        of_newest = [i for i in known if series.dates[i] == newest]
        assert value == series.values[of_newest[0 if vintage == "first" else -1]]
        assert days_old == (row - series.releases[of_newest[0]]).astype(int)


ROW_DAYS = np.arange(np.datetime64("2017-08-01"), np.datetime64("2018-07-01"))


def raw_history(name, rng):
    """A year and a half of a series that is needed by some feature set: monthly ones late and revised."""
    if SERIES[name].frequency == "daily":
        late = rng.integers(0, 3 if name != "SP500" else 1, len(ROW_DAYS)).astype("timedelta64[D]")
        return Observations(ROW_DAYS, ROW_DAYS + late, rng.uniform(50, 150, len(ROW_DAYS)))
    months = np.arange(np.datetime64("2016-12"), np.datetime64("2018-06")).astype("datetime64[D]")
    first = months + rng.integers(28, 75, len(months))
    revised = rng.random(len(months)) < 0.4
    dates = np.concatenate([months, months[revised]])
    releases = np.concatenate([first, first[revised] + rng.integers(1, 200, revised.sum())])
    order = np.lexsort((releases, dates))
    return Observations(dates[order], releases[order], rng.uniform(50, 150, len(dates)))


@pytest.mark.parametrize("name", FEATURE_SETS)
@settings(max_examples=4, deadline=None)
@given(st.sampled_from(["first", "latest"]), st.integers(0, 9999), st.booleans())
def test_no_column_of_any_feature_set_sees_what_comes_later(name, vintage, seed, removed):
    """The last day kept is the one before something monthly is published: a look of one row ahead is seen."""
    rng = np.random.default_rng(seed)
    series = {source: raw_history(source, rng) for source in FEATURE_SETS[name].series_names()}
    monthly = [series[source] for source in series if SERIES[source].frequency == "monthly"]
    events = np.concatenate([known.releases for known in monthly or series.values()])
    day = rng.choice(events[(events > ROW_DAYS[90]) & (events <= ROW_DAYS[-1])]) - np.timedelta64(1, "D")
    changed = {}
    for source, known in series.items():
        later = known.releases > day
        values = np.where(later, known.values * rng.uniform(0.5, 2.0, len(later)), known.values)
        kept = ~later if removed else np.full(len(later), True)
        changed[source] = Observations(known.dates[kept], known.releases[kept], values[kept])
    before, after = (align(raw, FEATURE_SETS[name], vintage) for raw in (series, changed))
    for table, other in zip(before, after, strict=True):
        rows = table.index <= pd.Timestamp(day)
        pd.testing.assert_frame_equal(table[rows], other[other.index <= pd.Timestamp(day)], check_exact=True)
    assert removed or not before[0].equals(after[0])


def test_weeks_by_hand():
    # Wednesday 2018-01-03 to Tuesday 2018-01-23; Monday 2018-01-15 is a holiday.
    index = pd.bdate_range("2018-01-03", "2018-01-23").drop(pd.Timestamp("2018-01-15"))
    frame = pd.DataFrame({"y": 0.1, "x": np.arange(len(index), dtype=float)}, index=index)
    staleness = pd.DataFrame({"x": np.arange(len(index), dtype=float)}, index=index)
    rows, ages, messages = resample(frame, staleness, "y", "weekly")
    assert rows.index.strftime("%Y-%m-%d").tolist() == ["2018-01-12", "2018-01-19"]
    np.testing.assert_allclose(rows["y"], [1.1**5 - 1, 1.1**4 - 1])
    assert rows["x"].tolist() == ages["x"].tolist() == [7.0, 11.0]
    assert "left out 5 rows of periods that are not whole" in messages


def test_months_by_hand():
    index = pd.bdate_range("2018-01-31", "2018-03-30")  # January's last day alone, then two whole months
    frame = pd.DataFrame({"y": 0.01, "x": np.arange(len(index), dtype=float)}, index=index)
    rows, _, _ = resample(frame, frame[["x"]], "y", "monthly")
    assert rows.index.strftime("%Y-%m-%d").tolist() == ["2018-02-28", "2018-03-30"]
    np.testing.assert_allclose(rows["y"], [1.01**20 - 1, 1.01**22 - 1])
    with pytest.raises(UserError, match="no whole period of frequency 'monthly' in 3 rows"):
        resample(frame.iloc[3:6], frame.iloc[3:6], "y", "monthly")


@settings(deadline=None)
@given(st.integers(20, 120), st.integers(1, 100), st.sampled_from(["weekly", "monthly"]))
def test_a_period_s_row_uses_nothing_after_its_date(count, cut, frequency):
    index = pd.bdate_range("2018-01-01", periods=160)
    values = np.random.default_rng(count).normal(0, 0.01, (160, 2))
    frame = pd.DataFrame(values, index=index, columns=["y", "x"])
    changed = frame.copy()
    changed.iloc[cut:] += 0.01
    before, after = (resample(table, table[["x"]], "y", frequency)[0] for table in (frame, changed))
    same = before.index < index[cut]
    pd.testing.assert_frame_equal(before[same], after[same])
