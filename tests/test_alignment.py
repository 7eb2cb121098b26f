import numpy as np
import pytest

from tftjax.config import UserError
from tftjax.data.alignment import RELEASE_RULES, RULE_WORDS, as_of, check_gaps
from tftjax.data.feature_sets import CALENDAR, FEATURE_SETS, SERIES


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
    values, age = as_of(releases, np.array([3.0, 5.0]), rows)
    np.testing.assert_array_equal(values, [np.nan, 3.0, 3.0, 5.0, 5.0])
    np.testing.assert_array_equal(age, [np.nan, 0.0, 2.0, 0.0, 31.0])


def test_as_of_without_any_release_is_nan():
    values, age = as_of(d(), np.array([]), d("2018-01-04", "2018-01-05"))
    assert np.isnan(values).all()
    assert np.isnan(age).all()


def daily(dates, first, last):
    check_gaps(dates, "daily", "same_day", np.datetime64(first), np.datetime64(last), "f.csv, column 'X'")


def test_daily_gap_of_30_business_days_passes_and_31_does_not():
    # From Monday 2018-01-01, 30 business days are six weeks: Monday 2018-02-12.
    daily(d("2018-01-01", "2018-02-12"), "2018-01-01", "2018-02-12")
    with pytest.raises(UserError, match=r"f.csv, column 'X'.*2018-01-01 and 2018-02-13.*30 business days"):
        daily(d("2018-01-01", "2018-02-13"), "2018-01-01", "2018-02-13")


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
    check_gaps(dates, "monthly", "from_13th_of_next_month", first, np.datetime64(last), "f.csv, column 'X'")


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
