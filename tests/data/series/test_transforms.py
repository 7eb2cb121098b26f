import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tftjax.data.alignment import Observations, as_of, publications
from tftjax.data.series.transforms import STEPS, TRANSFORMS, compose
from tftjax.errors import UserError

MONTHS = pd.date_range("2020-01-01", periods=15, freq="MS")
PRICES = pd.Series([100.0, 110, 99, 99, 99, 120, 120, 90, 90, 90, 90, 90, 105, 132, 90], MONTHS)


def made(*steps):
    return compose(steps, "index", "data.series.x.transform")


@pytest.mark.parametrize(
    ("steps", "dates", "values"),
    [
        ([], slice(0, None), list(PRICES)),
        (["change_over_year"], slice(12, None), [5.0, 20.0, 100 * (90 / 99 - 1)]),
        (["difference:3"], slice(12, None), [15.0, 42.0, 0.0]),
        (["log_change:1"], slice(13, None), [np.log(132 / 105), np.log(90 / 132)]),
        (["momentum:2"], slice(13, None), [132 / 90 - 1, 90 / 105 - 1]),
        (["lag:2"], slice(13, None), [90.0, 105.0]),
        # The window's mean and sample standard deviation: of (90, 105, 132) 109 and 21.2838.
        (["z_score:3"], slice(12, None), [1.1547005, 23 / 21.283797, -19 / 21.283797]),
        (["difference:1", "lag:1"], slice(12, None), [0.0, 15.0, 27.0]),
        (["lag:1", "change_over_year"], slice(13, None), [5.0, 20.0]),
    ],
)
def test_steps_by_hand(steps, dates, values):
    result = made(*steps).on_dates(PRICES)
    if steps and steps[0] != "lag:1":
        result = result[MONTHS[dates]]
    np.testing.assert_allclose(result, values, atol=1e-6)
    assert result.index.equals(MONTHS[dates])


def test_steps_on_rows_and_of_ages_by_hand():
    rows = made("on_rows", "momentum:1")
    assert not rows.of_age
    np.testing.assert_allclose(rows.on_rows(np.array([2.0, 2.0, 3.0])), [np.nan, 0.0, 0.5])
    pd.testing.assert_series_equal(rows.on_dates(PRICES), PRICES)
    ages = made("change_over_year", "age", "log_age")
    assert ages.of_age
    np.testing.assert_allclose(ages.on_rows(np.array([np.nan, 0.0, 1.0])), [np.nan, 0.0, np.log(2)])


def test_a_missing_month_is_not_bridged_by_a_change_over_a_year():
    result = made("change_over_year").on_dates(PRICES.drop(MONTHS[1]))
    assert result.index.tolist() == [MONTHS[12], MONTHS[14]]  # February has no February before
    month_ends = pd.Series([100.0, 105.0], pd.DatetimeIndex(["2020-02-29", "2021-02-28"]))
    np.testing.assert_allclose(made("change_over_year").on_dates(month_ends), [5.0])


def test_a_spread_is_made_of_two_series():
    spread = made("minus:other", "difference:1")
    assert spread.others == ("other",)
    other = pd.Series([1.0, 2.0, 4.0], MONTHS[:3])
    np.testing.assert_allclose(spread.on_dates(PRICES, other), [9.0, -13.0])


@pytest.mark.parametrize(
    ("steps", "unit"),
    [
        ([], "percent"),
        (["lag:1"], "percent"),
        (["minus:x"], "percentage points"),
        (["change_over_year", "z_score:12"], "standard deviations"),
        (["momentum:1"], "return"),
        (["age"], "days"),
        (["age", "log_age"], "log days"),
    ],
)
def test_the_unit_of_what_is_made(steps, unit):
    assert compose(steps, "percent", "x").unit == unit


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["mometum:3"], r"transform\[0\]: found 'mometum:3', .* Did you mean 'momentum:N'"),
        (
            ["lag:1", "on_rows", "age"],
            r"transform\[2\]: found a second one of 'on_rows' and 'age', expected one",
        ),
        (["momentum"], r"found 'momentum', expected momentum:N with a whole number N of at least 1"),
        (["z_score:1"], r"found 'z_score:1', expected z_score:N with a whole number N of at least 2"),
        (["lag:0"], "at least 1"),
        (["lag:-1"], "at least 1"),  # a look ahead
        (["lag:1.5"], "at least 1"),
        (["change_over_year:1"], "found 'change_over_year:1', expected change_over_year"),
        (["on_rows", "change_over_year"], r"transform\[1\]: found 'change_over_year' after 'on_rows'"),
        (
            ["lag:1", "minus:x"],
            r"transform\[1\]: found 'minus:x' after another step, expected it as the first",
        ),
        (["difference:1", "momentum:1"], r"found 'momentum:1' after a step whose values may be 0 or less"),
        (["fresh"], "found 'fresh' without 'age' before it"),
    ],
)
def test_what_is_no_transform(steps, message):
    with pytest.raises(UserError, match=message):
        made(*steps)


def test_every_transform_has_words():
    assert len(STEPS) == len(TRANSFORMS) + 3
    assert all(STEPS.values())


LAST = np.datetime64("2019-06-30")
CHAINS = [
    *([f"{name}:2" if step.least else name] for name, step in TRANSFORMS.items() if not step.of_age),
    *(["on_rows", f"{name}:2"] for name, step in TRANSFORMS.items() if step.least),
    ["age", "log_age"],
    ["age", "fresh"],
    ["minus:other", "z_score:2", "lag:1"],
    ["change_over_year", "difference:1", "on_rows", "z_score:3"],
]


@st.composite
def histories(draw):
    """Two years of months, as files have them: a first release, often a revision within days of the next
    month's, and at times a late one."""
    months = np.arange(np.datetime64("2017-06"), np.datetime64("2019-06")).astype("datetime64[D]")
    entries = []
    for month in months:
        delays = {draw(st.integers(10, 14))} | draw(st.sets(st.integers(40, 45), max_size=2))
        delays |= draw(st.sets(st.integers(51, 400), max_size=1))
        entries += [(month, month + np.timedelta64(delay, "D")) for delay in sorted(delays)]
    dates, releases = (np.array(column) for column in zip(*entries, strict=True))
    values = draw(st.lists(st.integers(1, 99), min_size=len(dates), max_size=len(dates)))
    return Observations(dates, releases, np.array(values, np.float64))


@pytest.mark.parametrize("steps", CHAINS, ids="-".join)
@settings(max_examples=5, deadline=None)
@given(histories(), histories(), st.integers(0, 999), st.sampled_from(["first", "latest"]), st.booleans())
def test_what_is_published_later_changes_no_earlier_feature(steps, series, other, event, vintage, removed):
    """The last day kept is the one before a release: a look of one day or one row ahead is seen."""
    rows = np.arange(np.datetime64("2018-01-01"), LAST)
    events = series.releases[(series.releases > np.datetime64("2018-08-01")) & (series.releases < LAST)]
    day = events[event % len(events)] - np.timedelta64(1, "D")
    column = made(*steps)

    def feature(*sources):
        joined, age = as_of(*publications([*sources], column.on_dates, vintage), rows)
        return column.on_rows(age if column.of_age else joined)

    def later_changed(source):
        later = source.releases > day
        if removed:
            return Observations(*(array[~later] for array in source))
        return source._replace(values=np.where(later, 3 * source.values + 1, source.values))

    sources = [series, other] if column.others else [series]
    seen = rows <= day
    before, after = feature(*sources), feature(*map(later_changed, sources))
    np.testing.assert_array_equal(after[seen], before[seen])
