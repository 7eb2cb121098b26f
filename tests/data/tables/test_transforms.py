"""Targets that are made of prices and levels: by hand, by period, and back again."""

import datetime
import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tftjax.config.data import ColumnsConfig, DataConfig
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel, select_rows, write_panel
from tftjax.data.tables.transforms import TARGET_TRANSFORMS, in_return_unit, last_levels, to_levels
from tftjax.errors import UserError

ONE, SEVERAL = ColumnsConfig(target="close"), ColumnsConfig(target="close", id="name")
PRICES = [100.0, 110.0, 99.0, 99.0, 198.0]
CHANGES = {
    "return": [0.1, -0.1, 0.0, 1.0],
    "log_return": [math.log(1.1), math.log(0.9), 0.0, math.log(2.0)],
    "difference": [10.0, -11.0, 0.0, 99.0],
}


def prices(values=PRICES):
    index = pd.bdate_range("2015-01-05", periods=len(values), name="date")
    return pd.DataFrame({"close": np.array(values, float)}, index=index)


def settings(transform, columns=ONE, **data):
    return DataConfig(dataset="frame", columns=columns, target_transform=transform, **data)


def test_the_config_has_the_names_of_the_transforms():
    names = DataConfig.model_json_schema()["properties"]["target_transform"]["enum"]
    assert names == list(TARGET_TRANSFORMS)


@pytest.mark.parametrize("transform", CHANGES)
def test_changes_by_hand(transform, tmp_path):
    panel = load_panel(settings(transform), prices())
    np.testing.assert_allclose(panel.frame["close"], CHANGES[transform], rtol=0, atol=1e-15)
    assert panel.frame.index[0] == pd.Timestamp("2015-01-06")
    assert panel.messages[0] == f"close: {transform} of the table's levels; a series' first row has none"
    assert "leading rows dropped: 1, no value of close before 2015-01-06" in panel.messages
    assert panel.about["target_transform"] == transform
    prices().to_csv(tmp_path / "own.csv")
    of_file = load_panel(settings(transform).model_copy(update={"dataset": str(tmp_path / "own.csv")}))
    assert of_file.fingerprint == panel.fingerprint


@pytest.mark.parametrize("transform", CHANGES)
def test_the_level_of_any_last_row(transform, tmp_path):
    panel = load_panel(settings(transform), prices())
    write_panel(tmp_path, panel)
    for kept in (panel, read_panel(tmp_path)):
        for count in range(1, 5):
            level = last_levels(select_rows(kept, np.arange(count)))
            assert level == {"": pytest.approx(PRICES[count], rel=1e-12)}
    with pytest.raises(UserError, match="is known on 2015-01-06, and its first row is of 2015-01-07"):
        last_levels(select_rows(panel, np.arange(1, 4)))


def test_rows_before_the_start_give_the_first_change():
    panel = load_panel(settings("return", start=datetime.date(2015, 1, 7)), prices())
    np.testing.assert_allclose(panel.frame["close"], CHANGES["return"][1:], atol=1e-15)
    assert last_levels(panel)[""] == pytest.approx(198.0)


@pytest.mark.parametrize(
    ("transform", "by_hand"),
    [
        ("return", [1.2 / 1.1 - 1, 1.5 / 1.2 - 1]),
        ("log_return", [math.log(1.2 / 1.1), math.log(1.5 / 1.2)]),
        ("difference", [10.0, 30.0]),
        ("as_is", [120.0, 150.0]),
        ("none", None),
    ],
)
def test_weeks_by_hand(transform, by_hand):
    """Four weeks of which the first and the last are not whole; levels in between move in the week."""
    days = pd.bdate_range("2015-01-07", "2015-01-28", name="date")  # Wednesday to Wednesday
    frame = pd.DataFrame({"close": 100.0}, index=days)
    frame.loc["2015-01-09":, "close"] = 110.0
    frame.loc["2015-01-14", "close"] = 90.0
    frame.loc["2015-01-16":, "close"] = 120.0
    frame.loc["2015-01-20", "close"] = 77.0
    frame.loc["2015-01-23":, "close"] = 150.0
    if by_hand is None:  # compounded, as returns always were
        panel = load_panel(settings("none", frequency="weekly"), frame / 10000)
        np.testing.assert_allclose(panel.frame["close"].iloc[0], 1.011 * 1.011 * 1.009 * 1.011 * 1.012 - 1)
        return
    panel = load_panel(settings(transform, frequency="weekly"), frame)
    assert panel.frame.index.strftime("%d").tolist() == ["16", "23"]
    np.testing.assert_allclose(panel.frame["close"], by_hand, rtol=1e-12)
    words = {"return": "compounded", "as_is": "as last known"}.get(transform, "summed")
    assert any(words in message for message in panel.messages)
    if transform != "as_is":
        assert last_levels(panel)[""] == pytest.approx(150.0)
        assert last_levels(select_rows(panel, np.arange(1)))[""] == pytest.approx(120.0)


def test_several_series_each_from_its_own_level():
    parts = [prices().assign(name="B"), prices([50.0, 25.0, 75.0]).assign(name="A")]
    panel = load_panel(settings("return", SEVERAL), pd.concat(parts))
    np.testing.assert_allclose(panel.frame["close"], [-0.5, 2.0, *CHANGES["return"]], atol=1e-15)
    assert last_levels(panel) == {"A": pytest.approx(75.0), "B": pytest.approx(198.0)}
    table = pd.DataFrame({"series": ["A", "B"], "0.1": [-0.2, -0.1], "0.5": [0.0, 0.5]})
    levels = to_levels(table, panel)
    assert levels["series"].tolist() == ["A", "B"]
    np.testing.assert_allclose(levels[["0.1", "0.5"]], [[60.0, 75.0], [178.2, 297.0]])


def test_prices_of_a_wide_table():
    columns = settings("return", SEVERAL, wide=True)
    frame = pd.DataFrame({"B": prices()["close"], "A": [np.nan, 50.0, 25.0, 75.0, np.nan]})
    panel = load_panel(columns, frame)
    np.testing.assert_allclose(panel.frame["close"], [-0.5, 2.0, *CHANGES["return"]], atol=1e-15)


@pytest.mark.parametrize(
    ("transform", "by_hand"),
    [
        ("return", [158.4, 297.0]),
        ("log_return", [198 * math.exp(-0.2), 198 * math.exp(0.5)]),
        ("difference", [197.8, 198.5]),
    ],
)
def test_quantiles_of_the_next_step_as_levels(transform, by_hand):
    panel = load_panel(settings(transform), prices())
    table = pd.DataFrame({"0.1": [-0.2], "0.9": [0.5]}, index=pd.DatetimeIndex(["2015-01-12"], name="date"))
    levels = to_levels(table, panel)
    assert levels.index.equals(table.index)
    np.testing.assert_allclose(levels.iloc[0], by_hand, rtol=1e-12)
    with pytest.raises(UserError, match=r"several steps.*do not add up.*model.prediction_length 1"):
        to_levels(pd.concat([table, table]), panel)


def test_where_there_are_no_levels():
    panel = load_panel(settings("none"), prices([0.1, -0.1, 0.2]))
    with pytest.raises(
        UserError, match=r"target .* is not made of levels \(data.target_transform is 'none'\)"
    ):
        to_levels(pd.DataFrame({"0.5": [0.1]}), panel)
    assert "levels" not in panel.about


def test_levels_that_have_no_return(tmp_path):
    for transform in ("return", "log_return"):
        with pytest.raises(
            UserError, match=r"row 2 \(2015-01-07\), column 'close': found -3, expected .*above 0"
        ):
            load_panel(settings(transform), prices([5.0, 4.0, -3.0, 0.0]))
    assert load_panel(settings("difference"), prices([5.0, 4.0, -3.0])).frame["close"].tolist() == [-1, -7]
    prices([5.0, 0.0, 3.0]).to_csv(tmp_path / "own.csv")
    with pytest.raises(
        UserError, match=r"own.csv, line 3, column 'close': found 0, expected a level above 0"
    ):
        load_panel(settings("return").model_copy(update={"dataset": str(tmp_path / "own.csv")}))
    with pytest.raises(UserError, match=r"row 2 \(2015-01-07\), column 'close': found no value"):
        load_panel(settings("return"), prices([5.0, 4.0, np.nan, 3.0, 4.0]))


def test_transforms_are_of_tables_and_of_decimals():
    with pytest.raises(
        UserError, match=r"data.target_transform: found 'return' with the folder of raw series"
    ):
        load_panel(DataConfig(target_transform="return"))
    with pytest.raises(ValidationError, match=r"data.return_unit 'decimal' with 'return'"):
        settings("return", return_unit="percent")


def test_what_goes_in_as_percent_comes_out_as_percent():
    """A yield in percent, and its changes: decimals inside, percentage points outside."""
    config = settings("difference", return_unit="percent")
    panel = load_panel(config, prices([4.0, 4.25, 4.0]))
    np.testing.assert_allclose(panel.frame["close"], [0.0025, -0.0025])
    table = pd.DataFrame({"series": ["a"], "0.5": [0.0025]})
    assert in_return_unit(table, config)["0.5"].tolist() == [0.25]
    assert in_return_unit(table, config)["series"].tolist() == ["a"]
    assert table["0.5"].tolist() == [0.0025]
    assert in_return_unit(table, settings("difference")) is table
    shown = in_return_unit(to_levels(table[["0.5"]], panel), config)
    np.testing.assert_allclose(shown["0.5"], [4.25])
