import datetime
from pathlib import Path

import numpy as np
import pytest

from tftjax.data.feature_sets import SERIES
from tftjax.data.loading import embedded_folder
from tftjax.data.raw.fred_csv import check_first_releases, check_unit, read_fred_csv
from tftjax.errors import UserError

RAW = Path(__file__).resolve().parents[4] / "shared" / "data" / "core_proposal_raw"
TODAY = datetime.date(2018, 3, 14)


def read(tmp_path, name, *lines, today=None):
    path = tmp_path / f"{name}.csv"
    header = (
        f"observation_date,release_date,{name}" if lines[0].count(",") == 2 else f"observation_date,{name}"
    )
    path.write_text("\n".join([header, *lines]))
    return read_fred_csv(path, name, today)


def test_dates_up_to_today_pass_and_tomorrow_s_does_not(tmp_path):
    lines = "2018-03-13,60", "2018-03-14,61"
    assert read(tmp_path, "DCOILWTICO", *lines, today=TODAY)[0].values.tolist() == [60, 61]
    with pytest.raises(
        UserError,
        match=r"DCOILWTICO.csv, line 4, column 'observation_date': found 2018-03-15, expected"
        r" a date up to today, 2018-03-14",
    ):
        read(tmp_path, "DCOILWTICO", *lines, "2018-03-15,", today=TODAY)


def test_release_dates_ahead_of_today(tmp_path):
    lines = "2018-01-01,2018-02-14,248.9", "2018-02-01,2018-03-14,249.5"
    assert len(read(tmp_path, "CPIAUCSL", *lines, today=TODAY)[0].values) == 2
    with pytest.raises(
        UserError,
        match=r"CPIAUCSL.csv, line 3, column 'release_date': found 2018-03-14, expected .* today, 2018-03-13",
    ):
        read(tmp_path, "CPIAUCSL", *lines, today=TODAY - datetime.timedelta(days=1))


def test_a_release_date_of_the_rule_may_lie_ahead(tmp_path):
    series, _, _ = read(tmp_path, "CPIAUCSL", "2018-02-01,249.5", today=TODAY - datetime.timedelta(days=2))
    assert series.releases.astype(str).tolist() == ["2018-03-13"]


def test_today_is_the_clock_s(tmp_path):
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)
    with pytest.raises(UserError, match=f"line 3.*found {tomorrow}, expected"):
        read(tmp_path, "DCOILWTICO", "2018-03-13,60", f"{tomorrow},61")


JANUARY, FEBRUARY = "2018-01-01,2018-02-14,248.9", "2018-02-01,2018-03-14,249.5"
MARCH = "2018-03-01,2018-04-11,250.1"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # February has its revision of 2019 alone; March was out before.
        (
            [JANUARY, "2018-02-01,2019-02-11,249.3", MARCH],
            "line 3, column 'release_date': found 2018-02-01 first released on 2019-02-11, expected a first"
            " release by 2018-04-11, when the later 2018-03-01 had its own",
        ),
        # The next date is a revision too, the one after it is not.
        (
            [
                JANUARY,
                "2018-02-01,2019-02-11,249.3",
                "2018-03-01,2019-02-11,250.3",
                "2018-04-01,2018-05-10,251",
            ],
            "line 3, .* first released on 2019-02-11, expected a first release by 2018-05-10, when the later"
            " 2018-04-01 had its own",
        ),
        # A day suffices; January's revision is no first release of February.
        (
            [JANUARY, "2018-01-01,2018-03-14,248.8", "2018-02-01,2018-04-12,249.5", MARCH],
            "line 4, .* found 2018-02-01 first released on 2018-04-12, expected a first release by"
            " 2018-04-11",
        ),
    ],
)
def test_a_revision_without_its_first_release(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, "CPIAUCSL", *lines)


@pytest.mark.parametrize(
    "lines",
    [
        [JANUARY, "2018-01-01,2019-02-11,248.8", FEBRUARY, "2018-02-01,2019-02-11,249.3", MARCH],
        # Two first releases on one day, as after a shutdown.
        [JANUARY, "2018-02-01,2018-04-11,249.5", MARCH],
        # The earliest vintage begins in February; a later one goes further back.
        ["2017-12-01,2019-02-11,247.8", "2018-01-01,2019-02-11,248.7", FEBRUARY, MARCH],
        # Listed without a value in time, filled in late.
        [JANUARY, "2018-02-01,2018-03-14,.", "2018-02-01,2019-02-11,249.3", MARCH],
        [JANUARY, "2018-02-01,2018-04-11,", "2018-02-01,2019-02-11,249.3", MARCH],
        # Never published, and listed so after the next one was out.
        [JANUARY, "2018-02-01,2018-04-12,.", MARCH],
        # The later date had no value yet when it was first listed.
        [JANUARY, "2018-02-01,2018-03-15,249.5", "2018-03-01,2018-03-14,.", "2018-03-01,2018-04-11,250.1"],
        # The newest date: nothing tells.
        [JANUARY, FEBRUARY, "2018-03-01,2019-02-11,250.3"],
    ],
)
def test_what_the_service_lists_is_no_missing_release(tmp_path, lines):
    read(tmp_path, "CPIAUCSL", *lines)


def test_the_advice_helps(tmp_path):
    """A value that did come out late passes with the line that the message proposes."""
    late = "2018-02-01,2019-02-11,249.3"
    with pytest.raises(UserError, match="a line '2018-02-01,2018-04-11,' without a value says so"):
        read(tmp_path, "CPIAUCSL", JANUARY, late, MARCH)
    assert len(read(tmp_path, "CPIAUCSL", JANUARY, "2018-02-01,2018-04-11,", late, MARCH)[0].values) == 3


def test_a_long_history_of_vintages():
    """A first vintage of many months, a new value every month, all of them revised every February."""
    months = np.arange(np.datetime64("1990-01"), np.datetime64("1992-06"))
    lines = set()
    for i, month in enumerate(months):
        if i >= 5:
            known = months[: i + 1] if i == 5 or month.item().month == 1 else [month]
            released = (month + np.timedelta64(1, "M")).astype("datetime64[D]") + np.timedelta64(12, "D")
            lines |= {(date.astype("datetime64[D]"), released) for date in known}
    dates, releases = (np.array(column) for column in zip(*sorted(lines), strict=True))
    check_first_releases(Path("x.csv"), dates, releases, np.ones(len(dates)))
    first = (dates == np.datetime64("1991-03-01")) & (releases == np.datetime64("1991-04-13"))
    assert first.sum() == 1  # without it, 1991-03 has only the revision of 1992
    with pytest.raises(
        UserError, match=r"found 1991-03-01 first released on 1992-02-13, expected .* by 1991-05-13"
    ):
        check_first_releases(Path("x.csv"), dates[~first], releases[~first], np.ones(len(dates) - 1))


UNITS = {
    ("DGS10", (0.041, 0.043, 0.039)): r"median absolute value of 0.041, expected 0.2 to 30.*in decimals",
    ("DGS10", (410, 430, 390)): r"median absolute value of 410.*hundredths of the unit \(basis points",
    ("VIXCLS", (0.17, 0.31, 0.12)): r"0.17, expected 3 to 300 \(percent a year\). It seems to be in decimals",
    ("AAA", (0.038,)): "in decimals: multiply by 100",
    ("UNRATE", (0.041,)): "in decimals: multiply by 100",
    ("DCOILWTICO", (6000, 6100)): r"6050, expected 3 to 1000 \(US dollars a barrel\).*cents",
    ("SP500", (0.004, 0.011, 0.002)): "0.004, expected 3 to 100000.*or to hold changes",
    ("CPIAUCSL", (2.1, 2.4, 1.9)): "2.1, expected 10 to 1000.*or to hold changes",
    ("INDPRO", (0.3, 0.7, 0.2)): "or to hold changes",
}


@pytest.mark.parametrize("case", UNITS)
def test_another_unit_is_recognised(tmp_path, case):
    name, values = case
    start = np.datetime64("2018-01")
    days = [(start + np.timedelta64(i, "M")).astype("datetime64[D]") for i in range(len(values))]
    with pytest.raises(UserError, match=rf"{name}\.csv, column '{name}': found a .*{UNITS[case]}"):
        read(tmp_path, name, *(f"{day},{value}" for day, value in zip(days, values, strict=True)))


def test_the_median_tolerates_single_values_and_signs():
    check_unit(Path("x"), "DGS10", np.array([-0.5, -0.4, 0.01]))
    check_unit(Path("x"), "T10Y2Y", np.array([0.004]))  # no limits: near zero, units cannot be told apart
    check_unit(Path("x"), "DGS10", np.array([]))
    with pytest.raises(UserError, match=r"0\.01"):
        check_unit(Path("x"), "DGS10", np.array([-0.5, -0.01, 0.01]))


# Lowest and highest value since the series' beginning, from public record: a false alarm would stop a user.
HISTORY = {
    "SP500": (4.40, 7000.0),
    "VIXCLS": (9.14, 82.69),
    "DGS10": (0.52, 15.84),
    "DCOILWTICO": (8.91, 145.31),
    "AAA": (2.14, 15.49),
    "BAA": (2.94, 17.18),
    "CPIAUCSL": (21.48, 335.0),
    "CPILFESL": (28.5, 335.0),
    "UNRATE": (2.5, 14.8),
    "INDPRO": (3.6, 105.0),
}


def test_limits_hold_history_and_tell_the_units_apart():
    assert set(HISTORY) == {name for name, info in SERIES.items() if info.median_range}
    for name, (low, high) in HISTORY.items():
        lower, upper = SERIES[name].median_range
        assert lower < low / 1.1, name
        assert upper > 1.5 * high, name
        if SERIES[name].unit.startswith("percent"):
            assert high / 100 < lower, name  # in decimals
            assert low * 100 > upper, name  # in basis points


@pytest.mark.parametrize("folder", [RAW, embedded_folder()], ids=["core_proposal", "embedded"])
def test_no_stretch_of_real_data_is_taken_for_another_unit(folder):
    if not folder.is_dir():
        pytest.skip("the raw series of core_proposal are not beside this repository")
    paths = sorted(folder.glob("*.csv"))
    assert len(paths) == 5
    for path in paths:
        series, _, _ = read_fred_csv(path, path.stem)
        three_years = 3 * (252 if SERIES[path.stem].frequency == "daily" else 12)
        for start in range(0, len(series.values) - three_years, three_years // 12):
            check_unit(path, path.stem, series.values[start : start + three_years])
