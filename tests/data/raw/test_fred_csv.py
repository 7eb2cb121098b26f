import datetime
import runpy
import shutil

import numpy as np
import pytest

from tftjax.config.data import DataConfig
from tftjax.data import loading
from tftjax.data.checks import check_return_unit
from tftjax.data.feature_sets import FEATURE_SETS
from tftjax.data.loading import embedded_folder, find_dataset, load_panel
from tftjax.data.raw.fred_csv import read_fred_csv, read_fred_folder
from tftjax.data.tables.table import csv_table, read_table
from tftjax.errors import UserError

CORE = FEATURE_SETS["core_embedded"]
HEADER = "date,SP500_Returns,Realized_Vol_21d,WTI_Return_21d,AAA_Yield,Credit_Spread,Core_Inflation_YoY"


def fred(tmp_path, text, name="DCOILWTICO"):
    path = tmp_path / f"{name}.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    observations, _, messages = read_fred_csv(path, name)
    return observations, messages


def panel_csv(tmp_path, *lines, header=HEADER):
    path = tmp_path / "panel.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_fred_csv_by_hand(tmp_path):
    lines = [
        "observation_date,DCOILWTICO",
        "2018-01-02,60.5",
        "2018-01-03,",
        "2018-01-04,.",
        "2018-01-05,61",
        "",
    ]
    series, messages = fred(tmp_path, "\ufeff" + "\r\n".join(lines))
    assert series.values.tolist() == [60.5, 61.0]
    assert series.dates.astype(str).tolist() == ["2018-01-02", "2018-01-05"]
    assert series.releases.tolist() == series.dates.tolist()
    assert messages == ()


BAD_FRED = {
    "empty file": ("", "the file is empty"),
    "blank file": ("\n\n", "the file is empty"),
    "no rows": ("observation_date,DCOILWTICO\n", "header and no rows"),
    "wrong header": (
        "DATE,DCOILWTICO\n2018-01-02,1\n",
        "line 1: found the header 'DATE,DCOILWTICO', expected",
    ),
    "other series": ("observation_date,GOLD\n2018-01-02,1\n", "expected 'observation_date,DCOILWTICO'"),
    "too many cells": ("observation_date,DCOILWTICO\n2018-01-02,1,5\n", "line 2: found 3 cells, expected 2"),
    "blank line": ("observation_date,DCOILWTICO\n\n2018-01-02,1\n", "line 2: found 0 cells"),
    "repeated name": ("observation_date,observation_date\n2018-01-02,1\n", "a column name twice"),
    "semicolons": (
        "observation_date;DCOILWTICO\n2018-01-02;1,5\n",
        r"line 1: found columns divided by semicolons, expected commas.*sep=';'.*decimal=','",
    ),
    "tabs": ("observation_date\tDCOILWTICO\n2018-01-02\t1\n", r"line 1: found .* divided by tabs.*sep='\\t'"),
    "Excel's sep": (
        "sep=,\nobservation_date,DCOILWTICO\n2018-01-02,1\n",
        "line 1: found 'sep=,', .*Take the",
    ),
    "Excel's sep=;": (
        "sep=;\nobservation_date;DCOILWTICO\n2018-01-02;1\n",
        "line 1: found 'sep=;', .*commas",
    ),
    "a comment before the header": (
        "# of FRED\nobservation_date,DCOILWTICO\n2018-01-02,1\n",
        "line 1: found the comment '# of FRED', .*CSV has no comments",
    ),
    "a comment between rows": (
        "observation_date,DCOILWTICO\n2018-01-02,1\n# a holiday\n2018-01-04,1\n",
        "line 3: found the comment '# a holiday', .*CSV has no comments",
    ),
    "a comment of two cells": (
        "observation_date,DCOILWTICO\n2018-01-02,1\n# holidays,weekends\n",
        "line 3, column 'observation_date': found '# holidays', .*CSV has no comments",
    ),
    "a quote that stays open": (
        'observation_date,DCOILWTICO\n2018-01-02,1\n"2018-01-03,2\n' + "2018-01-04,1\n" * 5_000,
        "line 3: found 1 cells, expected 2 .* opened and not closed",
    ),
    "a quote that stays open in the header": (
        'observation_date,"DCOILWTICO\n' + "2018-01-02,1\n" * 5_000,
        "no rows, expected rows. .* opened and not closed",
    ),
    "a header without an end": (
        "observation_date," + "x" * 6_000 + "\n2018-01-02\n",
        "expected 2 .*characters",
    ),
    "not a date": (
        "observation_date,DCOILWTICO\n2018-01-02,1\n03/01/2018,1\n",
        "line 3, column 'observation_date': found '03/01/2018', expected a date as YYYY-MM-DD",
    ),
    "no such day": ("observation_date,DCOILWTICO\n2018-02-30,1\n", "line 2.*'2018-02-30'"),
    "short date": ("observation_date,DCOILWTICO\n2018-01,1\n", "line 2.*'2018-01'"),
    "no date": ("observation_date,DCOILWTICO\n2018-01-02,1\nNaT,1\n", "line 3.*'NaT'"),
    "duplicate date": (
        "observation_date,DCOILWTICO\n2018-01-02,1\n2018-01-03,1\n2018-01-03,2\n",
        "line 4, column 'observation_date': found 2018-01-03 a second time, expected ascending dates",
    ),
    "descending dates": (
        "observation_date,DCOILWTICO\n2018-01-03,1\n2018-01-02,1\n",
        "line 3.*found 2018-01-02 after 2018-01-03",
    ),
    "text": (
        "observation_date,DCOILWTICO\n2018-01-02,1\n2018-01-03,n/a\n",
        "line 3, column 'DCOILWTICO': found the text 'n/a', expected a number",
    ),
    "infinite": (
        "observation_date,DCOILWTICO\n2018-01-02,1\n2018-01-03,-inf\n",
        "line 3, column 'DCOILWTICO': found '-inf', expected a finite number",
    ),
    "not UTF-8": (b"observation_date,DCOILWTICO\n2018-01-02,1\xff\n", "line 2: found byte 0xff.*UTF-8"),
    "Latin-1": (
        "observation_date,DCOILWTICO\n2018-01-02,60\n2018-01-03,60 £\n".encode("latin-1"),
        "line 3: found byte 0xa3, which is not UTF-8 text",
    ),
    "UTF-16": (
        "observation_date,DCOILWTICO\n2018-01-02,60\n".encode("utf-16"),
        "line 1: found byte 0xf[ef], which is not UTF-8 text",
    ),
    "mixed date formats": (
        "observation_date,DCOILWTICO\n2020-01-02,60\n2020-01-03,61\n01/06/2020,62\n2020-01-07,63\n",
        "line 4, column 'observation_date': found '01/06/2020', expected a date as YYYY-MM-DD. Write every",
    ),
    "dates with a time zone": (  # on which numpy warns; a warning is an error here
        "observation_date,DCOILWTICO\n2020-01-02 00:00:00-05:00,60\n",
        "line 2, column 'observation_date': found '2020-01-02 00:00:00-05:00', expected a date",
    ),
    "date and time": (
        "observation_date,DCOILWTICO\n2020-01-02,60\n2020-01-03T00:00,61\n",
        "line 3, column 'observation_date': found '2020-01-03T00:00'",
    ),
}


@pytest.mark.parametrize("case", BAD_FRED)
def test_bad_fred_files(tmp_path, case):
    text, message = BAD_FRED[case]
    with pytest.raises(UserError, match=r"DCOILWTICO\.csv.*" + message) as caught:
        fred(tmp_path, text)
    assert len(str(caught.value)) < 1_000 + len(str(tmp_path))


def test_a_monthly_series_must_be_dated_the_first(tmp_path):
    with pytest.raises(
        UserError, match=r"AAA\.csv, line 3.*found 2018-02-28, expected the first day of a month"
    ):
        fred(tmp_path, "observation_date,AAA\n2018-01-01,4\n2018-02-28,4\n", "AAA")


def test_prices_that_cannot_be_zero(tmp_path):
    with pytest.raises(
        UserError, match=r"SP500\.csv, line 3, column 'SP500': found 0.0, expected a value above 0"
    ):
        fred(tmp_path, "observation_date,SP500\n2018-01-02,5\n2018-01-03,0.0\n", "SP500")


def test_a_negative_oil_price_is_left_out_and_said(tmp_path):
    series, messages = fred(
        tmp_path, "observation_date,DCOILWTICO\n2020-04-17,18.31\n2020-04-20,-36.98\n2020-04-21,8.91\n"
    )
    assert series.values.tolist() == [18.31, 8.91]
    assert "1 values <= 0 (first on 2020-04-20)" in messages[0]


def test_empty_cells_of_the_series_that_makes_the_rows_are_counted(tmp_path):
    lines = "2018-01-12,2786\n2018-01-15,\n2018-01-16,2776\n2018-02-19,.\n"
    series, messages = fred(tmp_path, f"observation_date,SP500\n{lines}", "SP500")
    assert series.values.tolist() == [2786, 2776]
    assert len(messages) == 1
    assert "SP500: 2 dates without a value (first 2018-01-15) make no row" in messages[0]
    # An as-of join fills the holidays of the others.
    assert fred(tmp_path, f"observation_date,DGS10\n{lines.replace('27', '0.')}", "DGS10")[1] == ()


@pytest.mark.parametrize("next_day", ["2018-03-15", "2018-03-16"])
def test_a_gap_of_the_index_names_file_and_dates(tmp_path, next_day):
    days = np.arange(np.datetime64("2018-01-01"), np.datetime64("2018-05-01"))
    days = days[np.is_busday(days)]
    kept = (days <= np.datetime64("2018-02-01")) | (days >= np.datetime64(next_day))
    for name, rows in (("SP500", days[kept]), ("VIXCLS", days)):
        lines = "".join(f"{day},{20 + i % 7}\n" for i, day in enumerate(rows))
        (tmp_path / f"{name}.csv").write_text(f"observation_date,{name}\n{lines}")
    config = DataConfig(dataset=str(tmp_path), feature_set="market_only")
    if next_day == "2018-03-15":  # 30 business days
        assert len(load_panel(config).frame) == kept.sum() - 1
        return
    with pytest.raises(
        UserError,
        match=r"SP500\.csv, column 'SP500_Returns': found no value between 2018-02-01 and 2018-03-16,"
        r" expected at most 30 business days",
    ):
        load_panel(config)


@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("SP500", 1, "SP500_Returns': found no value in any row, .*too few rows"),
        ("SP500", 2, "Realized_Vol_21d': found no value in any row, .*too few rows"),
        ("CPILFESL", 2, "Core_Inflation_YoY': found no value in any row, .*too few rows"),
        ("AAA", 2, "AAA_Yield': found no value between"),
        ("AAA", 0, "AAA': found no value in any row, expected numbers. Download AAA"),
    ],
)
def test_a_raw_file_of_few_rows_is_named(tmp_path, name, kept, message):
    """`kept` rows; 0: all of them, without a value."""
    raw = shutil.copytree(embedded_folder(), tmp_path / "raw")
    lines = (raw / f"{name}.csv").read_text().splitlines()
    lines = lines[: kept + 1] if kept else [lines[0], *(line.rpartition(",")[0] + "," for line in lines[1:])]
    (raw / f"{name}.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"raw/{name}\.csv, column '{message}"):
        load_panel(DataConfig(dataset=str(raw)))


def test_missing_folder_lists_near_names(tmp_path):
    (tmp_path / "fred_2018").mkdir()
    with pytest.raises(
        UserError, match=r"data.dataset: .*fred_2081' is neither a folder nor a file.*fred_2018"
    ):
        find_dataset(str(tmp_path / "fred_2081"))
    with pytest.raises(UserError, match="there is no folder"):
        find_dataset(str(tmp_path / "no" / "where.csv"))


def test_missing_file_lists_near_names(tmp_path):
    (tmp_path / "SP_500.csv").write_text("")
    with pytest.raises(
        UserError, match=r"SP500\.csv: there is no such file \(in .*SP_500\.csv\).*fred.stlouisfed"
    ):
        read_fred_folder(tmp_path, ("SP500",))


def test_embedded_is_found_and_is_a_folder():
    assert find_dataset("embedded") == embedded_folder()
    assert (embedded_folder() / "SP500.csv").is_file()


def test_the_synthetic_set_has_the_columns_of_the_embedded_one():
    synthetic, embedded = (load_panel(DataConfig(dataset=name)) for name in ("synthetic", "embedded"))
    assert list(synthetic.frame) == list(embedded.frame)
    assert synthetic.frame.index[-1] == embedded.frame.index[-1]
    returns = [panel.frame["SP500_Returns"] for panel in (synthetic, embedded)]
    assert abs(returns[0].corr(returns[1])) < 0.05  # of the same days


def test_its_script_writes_the_files_that_are_kept(tmp_path):
    path = embedded_folder().parent / "scripts" / "make_synthetic_data.py"
    runpy.run_path(str(path))["main"](tmp_path)
    kept = {file.name: file.read_bytes() for file in find_dataset("synthetic").glob("*.csv")}
    assert len(kept) == 5
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept


def test_an_installation_without_the_real_series_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "PACKAGE", tmp_path / "tftjax")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r'embedded data are not in .*data\. .*Take "synthetic"'):
        find_dataset("embedded")
    (tmp_path / "tftjax" / "synthetic_data").mkdir(parents=True)
    (tmp_path / "tftjax" / "synthetic_data" / "SP500.csv").touch()
    assert find_dataset("synthetic") == tmp_path / "tftjax" / "synthetic_data"


def test_unknown_feature_set():
    with pytest.raises(UserError, match=r"data.feature_set: found 'core', expected one of core_dyn"):
        load_panel(DataConfig(feature_set="core"))


def test_panel_csv_by_hand(tmp_path):
    path = panel_csv(
        tmp_path,
        "2018-01-05,0.01,9,0.05,3.5,0.7,1.75,0,99",
        "2018-01-08,-0.02,8,0.25,3.5,0.7,1.75,0,99",
        header=HEADER + ",day_of_week,Gold",
    )
    panel = load_panel(DataConfig(dataset=str(path)))
    assert panel.frame["SP500_Returns"].tolist() == [0.01, -0.02]
    assert panel.frame["day_of_week"].tolist() == [4, 0]  # derived from the dates: the file says 0, 0
    assert panel.frame["month"].tolist() == [1, 1]
    assert panel.messages == ("ignored columns of panel.csv: day_of_week, Gold",)
    assert panel.staleness.shape == (2, 0)


def test_percent_divides_returns_only(tmp_path):
    path = panel_csv(tmp_path, "2018-01-05,1.5,9,5,3.5,0.7,1.75", "2018-01-08,-2,8,25,3.5,0.7,1.75")
    frame = load_panel(DataConfig(dataset=str(path), return_unit="percent")).frame
    np.testing.assert_allclose(frame["SP500_Returns"], [0.015, -0.02])
    np.testing.assert_allclose(frame["WTI_Return_21d"], [0.05, 0.25])
    np.testing.assert_array_equal(frame["Realized_Vol_21d"], [9, 8])
    np.testing.assert_array_equal(frame["Core_Inflation_YoY"], [1.75, 1.75])


def test_a_percent_panel_read_as_decimal_is_recognised(tmp_path):
    rng = np.random.default_rng(7)
    lines = [f"2018-01-{day:02d},{rng.normal(0, 1.1):.4f},9,5,3.5,0.7,1.75" for day in range(1, 30)]
    path = panel_csv(tmp_path, *lines)
    wrong = load_panel(DataConfig(dataset=str(path))).frame["SP500_Returns"].std(ddof=0)
    with pytest.raises(UserError, match=r'seems to be in percent.*return_unit to "percent"'):
        check_return_unit(wrong, 0.01)
    right = (
        load_panel(DataConfig(dataset=str(path), return_unit="percent")).frame["SP500_Returns"].std(ddof=0)
    )
    check_return_unit(right, 0.01)
    # Converted once too often, or a target_std in percent.
    with pytest.raises(UserError, match="data seems to be in decimals"):
        check_return_unit(right / 100, 0.01)
    with pytest.raises(UserError, match=r"data seems to be in decimals and loss.target_std in percent"):
        check_return_unit(right, 1.0)


def test_percent_with_raw_series_is_refused():
    with pytest.raises(
        UserError, match=r"return_unit: found \"percent\" with a folder of raw series.*index levels"
    ):
        load_panel(DataConfig(return_unit="percent"))


def test_panel_csv_header_errors(tmp_path):
    with pytest.raises(
        UserError,
        match=r"panel.csv, line 1: found Date, price, and none of .*`tftjax init .*panel.csv` writes",
    ):
        read_table(csv_table(panel_csv(tmp_path, "x,1", header="Date,price")), CORE, "decimal")
    with pytest.raises(UserError, match=r"no column 'date' among Date,.*Did you mean 'Date'.*`tftjax init "):
        read_table(
            csv_table(panel_csv(tmp_path, "2018-01-05,0,9,0,3,0,1", header=HEADER.replace("date", "Date"))),
            CORE,
            "decimal",
        )
    header = HEADER.replace("AAA_Yield", "AAAYield")
    path = panel_csv(tmp_path, "2018-01-05,0,9,0,3,0,1", header=header)
    with pytest.raises(
        UserError, match=r"line 1: found no column 'AAA_Yield' among date,.*Did you mean 'AAAYield'"
    ):
        read_table(csv_table(path), CORE, "decimal")
    # What the other columns are called is no hint, however alike.
    path = panel_csv(tmp_path, "2018-01-05,0,9,0,3,0", header=HEADER.replace(",WTI_Return_21d", ""))
    with pytest.raises(
        UserError, match=r"no column 'WTI_Return_21d' among .*_YoY\. Rename or add what is missing"
    ):
        read_table(csv_table(path), CORE, "decimal")


@pytest.mark.parametrize("column", ["SP500_Returns", "AAA_Yield"])  # the target and another
def test_nan_in_the_middle(tmp_path, column):
    good = dict.fromkeys(HEADER.split(",")[1:], "0.5")
    bad = good | {column: ""}
    lines = [
        f"2018-01-0{day}," + ",".join(row.values()) for day, row in enumerate([bad, good, bad, good], start=1)
    ]
    path = panel_csv(tmp_path, *lines)
    with pytest.raises(
        UserError, match=rf"panel.csv, line 4 \(2018-01-03\), column '{column}': found no value"
    ):
        load_panel(DataConfig(dataset=str(path)))
    # Behind the hole, the data is good; the leading hole alone costs one row, and says so.
    assert len(load_panel(DataConfig(dataset=str(path), start=datetime.date(2018, 1, 4))).frame) == 1
    panel = load_panel(DataConfig(dataset=str(path), end=datetime.date(2018, 1, 2)))
    assert panel.frame.index[0].date() == datetime.date(2018, 1, 2)
    assert panel.messages == (f"leading rows dropped: 1, no value of {column} before 2018-01-02",)


def test_a_column_without_any_value(tmp_path):
    path = panel_csv(tmp_path, "2018-01-05,0,9,0,3,,1", "2018-01-08,0,9,0,3,,1")
    with pytest.raises(UserError, match=r"panel.csv, column 'Credit_Spread': found no value in any row"):
        load_panel(DataConfig(dataset=str(path)))


def test_a_range_without_rows(tmp_path):
    path = panel_csv(tmp_path, "2018-01-05,0,9,0,3,1,1")
    with pytest.raises(UserError, match=r"found no row between data.start 2019-01-01.*go from 2018-01-05"):
        load_panel(DataConfig(dataset=str(path), start=datetime.date(2019, 1, 1)))


@pytest.mark.parametrize("value", ["inf", "abc"])
def test_bad_numbers_in_a_panel(tmp_path, value):
    path = panel_csv(tmp_path, "2018-01-05,0,9,0,3,1,1", f"2018-01-08,{value},9,0,3,1,1")
    with pytest.raises(UserError, match=rf"panel.csv, line 3, column 'SP500_Returns': found .*'{value}'"):
        load_panel(DataConfig(dataset=str(path)))


def test_a_file_with_release_dates_by_hand(tmp_path):
    path = tmp_path / "CPIAUCSL.csv"
    path.write_text(
        "observation_date,release_date,CPIAUCSL\n2018-01-01,2018-02-14,248.9\n2018-01-01,2019-02-11,248.7\n"
        "2018-02-01,2018-03-13,.\n2018-02-01,2018-03-14,249.5\n"
    )
    series, dated, messages = read_fred_csv(path, "CPIAUCSL")
    assert dated
    assert series.dates.astype(str).tolist() == ["2018-01-01", "2018-01-01", "2018-02-01"]
    assert series.releases.astype(str).tolist() == ["2018-02-14", "2019-02-11", "2018-03-14"]
    assert series.values.tolist() == [248.9, 248.7, 249.5]
    assert messages == ()


BAD_RELEASES = {
    r"line 3, column 'observation_date': found '01/02/2018', expected a date as YYYY-MM-DD": (
        "2018-01-01,2018-02-14,248.9\n01/02/2018,2018-03-13,249.5"
    ),
    r"line 3, column 'release_date': found '13/03/2018', expected a date as YYYY-MM-DD": (
        "2018-01-01,2018-02-14,248.9\n2018-02-01,13/03/2018,249.5\n2018-03-01,2018-04-11,250.1"
    ),
    r"line 2, column 'observation_date': found 0218-01-01, expected a date from 1678-01-01": (
        "0218-01-01,2018-02-14,248.9"
    ),
    r"line 2, column 'release_date': found 2017-12-31, expected a date from the observation's, 2018-01-01": (
        "2018-01-01,2017-12-31,1"
    ),
    r"line 2, column 'release_date': found '', expected a date as YYYY-MM-DD": "2018-01-01,,1",
    r"line 3, column 'release_date': found 2018-01-01 released 2018-02-14 after 2018-01-01": (
        "2018-01-01,2018-02-14,1\n2018-01-01,2018-02-14,2"
    ),
    r"line 3, column 'release_date': found 2018-01-01 released 2018-02-14 after 2018-02-01": (
        "2018-02-01,2018-03-14,1\n2018-01-01,2018-02-14,2"
    ),
}


@pytest.mark.parametrize("message", BAD_RELEASES)
def test_bad_release_dates(tmp_path, message):
    with pytest.raises(UserError, match=message):
        fred(tmp_path, "observation_date,release_date,CPIAUCSL\n" + BAD_RELEASES[message], "CPIAUCSL")
