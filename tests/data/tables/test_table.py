"""Wide tables: a column a series, the same from CSV, Parquet and frame as the long table."""

import numpy as np
import pandas as pd
import pytest

from tftjax.config.data import ColumnsConfig, DataConfig
from tftjax.config.loading import from_dict
from tftjax.data.checks import findings
from tftjax.data.loading import load_panel
from tftjax.data.panel import blocks
from tftjax.errors import UserError

COLUMNS = {"date": "day", "id": "ticker", "target": "ret", "known_categorical": ["month"]}
DAYS = pd.bdate_range("2015-01-05", periods=5, name="day").as_unit("ns")


def wide():
    """C begins two days late, and B ends a day early."""
    nan = np.nan
    values = {
        "C": [nan, nan, 0.3, -0.1, 0.2],
        "A": [1.0, -2.0, 3.0, -4.0, 5.0],
        "B": [0.1, 0.2, 0.3, 0.4, nan],
    }
    return pd.DataFrame(values, index=DAYS)


def settings(**data):
    return from_dict({"data": {"columns": COLUMNS, "wide": True, **data}}, "test").data


def test_a_wide_table_is_its_long_one(tmp_path):
    long = wide().reset_index().melt(id_vars="day", var_name="ticker", value_name="ret").dropna()
    long.to_csv(tmp_path / "long.csv", index=False)
    wide().to_csv(tmp_path / "wide.csv")
    expected = load_panel(settings(dataset=str(tmp_path / "long.csv"), wide=False))
    assert blocks(expected.frame, "ticker") == (("A", range(0, 5)), ("B", range(5, 9)), ("C", range(9, 12)))
    of_csv = load_panel(settings(dataset=str(tmp_path / "wide.csv")))
    assert of_csv.frame["ret"].tolist() == [1, -2, 3, -4, 5, 0.1, 0.2, 0.3, 0.4, 0.3, -0.1, 0.2]
    assert of_csv.frame["month"].unique().tolist() == [1]
    assert of_csv.fingerprint == expected.fingerprint
    assert load_panel(settings(), wide()).fingerprint == expected.fingerprint
    assert load_panel(settings(), wide().reset_index()).fingerprint == expected.fingerprint
    percent = load_panel(settings(return_unit="percent"), wide())
    np.testing.assert_allclose(percent.frame["ret"], expected.frame["ret"] / 100, rtol=1e-15)


def test_a_wide_parquet_file(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    wide().to_parquet(tmp_path / "wide.parquet")
    panel = load_panel(settings(dataset=str(tmp_path / "wide.parquet")))
    assert panel.fingerprint == load_panel(settings(), wide()).fingerprint


def change(column, row, value):
    frame = wide()
    frame.iloc[row, frame.columns.get_loc(column)] = value
    return frame


WRONG = {
    "a hole": (change("A", 2, np.nan), {}, r"series 'A', \w+ \d.*2015-01-07.*, column 'ret': found no value"),
    "infinite": (change("A", 2, np.inf), {}, r"\w+ \d.*, column 'A': found '?inf"),
    "no value": (wide().assign(A=np.nan), {}, "column 'A': found no value in any row"),
    "unsorted": (wide().iloc[::-1], {}, "column 'day': found 2015-01-08 after 2015-01-09"),
    "no series": (wide()[[]], {}, "found no column but 'day', expected one for each series"),
    "another column": (
        wide(),
        {"columns": {**COLUMNS, "observed": ["x"]}},
        "data.columns: found the columns x with data.wide, expected none",
    ),
}


@pytest.mark.parametrize(("frame", "data", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_wide_table(frame, data, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_panel(settings(**data), frame)
    frame.to_csv(tmp_path / "wide.csv")
    with pytest.raises(UserError, match=message):
        load_panel(settings(dataset=str(tmp_path / "wide.csv"), **data))


def test_findings_in_a_wide_table(tmp_path):
    frame = wide().astype(object)
    frame.iloc[1, 0], frame.iloc[2, 1] = "x", "y"
    frame.to_csv(tmp_path / "wide.csv")
    raw = {"data": {"dataset": str(tmp_path / "wide.csv"), "columns": COLUMNS, "wide": True}}
    problems = findings(from_dict(raw, "test"))
    assert ["line 3, column 'C'" in problems[0], "line 4, column 'A'" in problems[1]] == [True, True]
    assert len(problems) == 2


@pytest.mark.parametrize("columns", [None, {"target": "ret"}])
def test_a_wide_table_needs_names_for_what_is_made_of_it(columns):
    with pytest.raises(UserError, match=r"data.wide: found true, expected data.columns with a target"):
        settings(columns=columns)


def test_wide_is_false_unless_said():
    assert not DataConfig(columns=ColumnsConfig(target="ret")).wide
