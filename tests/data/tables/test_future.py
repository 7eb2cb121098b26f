"""Rows of the days ahead: from the end of the table, from a file or frame, or from rows looked back at."""

import datetime

import numpy as np
import pandas as pd
import pytest

from tftjax import predict
from tftjax.config.loading import from_dict
from tftjax.data.checks import findings
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel, select_rows, write_panel
from tftjax.data.prepared import prepare
from tftjax.data.tables.future import future_of, read_future, steps_ahead, with_future
from tftjax.errors import UserError
from tftjax.predict.rows import extend_panel
from tftjax.storage import runs

COLUMNS = {
    "date": "day",
    "target": "ret",
    "observed": ["flow"],
    "known_real": ["size"],
    "known_categorical": ["mood", "day_of_week"],
}


OF_DATES = COLUMNS | {"known_real": [], "known_categorical": ["day_of_week"]}  # no values are needed


def rows_of(days, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"day": days.strftime("%Y-%m-%d")})
    table[["ret", "flow"]] = rng.normal(0, 0.01, (len(days), 2)).round(6)
    table["size"] = np.arange(len(days)) / 2
    table["mood"] = ["a", "b"] * (len(days) // 2) + ["a"] * (len(days) % 2)
    return table


ROWS = rows_of(pd.bdate_range("2024-01-01", periods=20))  # to Friday 2024-01-26
# Not the next weekdays: the user knows of a holiday on Monday.
AHEAD = pd.DataFrame({"day": ["2024-01-30", "2024-01-31", "2024-02-01"]}).assign(
    size=[7.5, 8.5, 9.5], mood=["b", "c", "a"]
)


def config_of(tmp_path, table, columns=COLUMNS, **data):
    table.to_csv(tmp_path / "my.csv", index=False)
    section = {"dataset": str(tmp_path / "my.csv"), "columns": columns, **data}
    model = {"hidden_size": 4, "encoder_length": 3, "prediction_length": 2}
    return from_dict({"data": section, "model": model, "train": {"batch_size": 4}}, "test")


def panel_of(tmp_path, table, columns=COLUMNS, **data):
    return load_panel(config_of(tmp_path, table, columns, **data).data)


def built_panel(tmp_path, **data):
    return load_panel(from_dict({"data": {"dataset": str(tmp_path), **data}}, "test").data)


def run_of(tmp_path, table):
    config = config_of(tmp_path, table)
    return runs.Run(tmp_path, config, prepare(load_panel(config.data), config), {}, 1)


def test_rows_without_a_target_at_the_end_are_the_future(tmp_path):
    panel = panel_of(tmp_path, pd.concat([ROWS, AHEAD]))
    assert panel.fingerprint == panel_of(tmp_path, ROWS).fingerprint
    assert "3 rows without a target at the end: kept as the future" in panel.messages
    write_panel(tmp_path, panel)
    for kept in (panel, read_panel(tmp_path)):
        longer = extend_panel(kept, 2).frame
        future = longer.iloc[-2:]
        assert future.index.strftime("%Y-%m-%d").tolist() == ["2024-01-30", "2024-01-31"]
        assert future["size"].tolist() == [7.5, 8.5]
        assert future["mood"].tolist() == ["b", "c"]
        assert future["day_of_week"].tolist() == [1, 2]
        assert future[["ret", "flow"]].isna().all(axis=None)
        assert len(longer) == 22


def test_without_future_values_the_run_says_what_is_needed(tmp_path):
    panel = panel_of(tmp_path, ROWS)
    assert any(
        "values of the steps ahead are needed (--future, in Python future=)" in m for m in panel.messages
    )
    with pytest.raises(
        UserError, match=r"future values of the known columns size, mood.*Give 2 rows of them"
    ):
        extend_panel(panel, 2)


def test_only_rows_without_a_target_may_lie_ahead_of_today(tmp_path):
    today = datetime.date.today()
    days = pd.bdate_range(end=today, periods=20)
    table, ahead = rows_of(days), AHEAD.assign(day=pd.bdate_range(today, periods=4)[-3:].strftime("%Y-%m-%d"))
    config = config_of(tmp_path, pd.concat([table, ahead]), return_unit="decimal")
    assert findings(config) == []
    dates = future_of(load_panel(config.data)).index
    assert dates.strftime("%Y-%m-%d").tolist() == ahead["day"].tolist()
    wrong = pd.concat([table, ahead.assign(ret=0.01, flow=0.01)])
    with pytest.raises(UserError, match=r"line 22, column 'day': found .* expected a date up to today"):
        panel_of(tmp_path, wrong)
    assert any("expected a date up to today" in finding for finding in findings(config_of(tmp_path, wrong)))


def test_a_row_with_observed_values_and_no_target_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"line 22 \(2024-01-30\), column 'ret': found no value \(NaN\)"):
        panel_of(tmp_path, pd.concat([ROWS, AHEAD.assign(flow=[0.1, np.nan, np.nan])]))
    middle = pd.concat([ROWS.iloc[:9], ROWS.iloc[[9]].assign(ret=np.nan, flow=np.nan), ROWS.iloc[10:]])
    with pytest.raises(UserError, match=r"line 11 .*column 'ret': found no value"):
        panel_of(tmp_path, middle)


def test_a_table_without_any_value_is_no_future(tmp_path):
    with pytest.raises(UserError, match="found no value in any row"):
        panel_of(tmp_path, ROWS.assign(ret=np.nan, flow=np.nan))
    two = pd.concat([ROWS.assign(name="x"), ROWS.assign(name="y", ret=np.nan, flow=np.nan)])
    with pytest.raises(UserError, match="series 'y', column 'ret': found no value in any row"):
        panel_of(tmp_path, two, COLUMNS | {"id": "name"})


def test_a_row_of_the_future_without_a_known_value_names_the_cell(tmp_path):
    with pytest.raises(
        UserError, match=r"my.csv, line 23 \(2024-01-31\), column 'size': found no value in a row"
    ):
        panel_of(tmp_path, pd.concat([ROWS, AHEAD.assign(size=[1.0, np.nan, 2.0])]))


def test_rows_cut_off_by_data_end_have_no_future(tmp_path):
    table = pd.concat([ROWS, AHEAD])
    assert future_of(panel_of(tmp_path, table, end="2024-01-26")) is not None
    assert future_of(panel_of(tmp_path, table, end="2024-01-25")) is None


def test_rows_of_a_built_table_cut_off_by_data_end_are_the_future(tmp_path):
    """They come before those that the table had; where no values are needed, dates follow the calendar."""
    write_panel(tmp_path, panel_of(tmp_path, pd.concat([ROWS, AHEAD])))
    panel = built_panel(tmp_path, start="2024-01-03", end="2024-01-25")
    assert (len(panel.frame), panel.frame.index[-1]) == (17, pd.Timestamp("2024-01-25"))
    future = extend_panel(panel, 2).frame.iloc[-2:]
    assert future.index.strftime("%Y-%m-%d").tolist() == ["2024-01-26", "2024-01-30"]
    assert future["size"].tolist() == [9.5, 7.5]
    whole = built_panel(tmp_path, start="2024-01-03", end="2024-01-26")
    assert extend_panel(whole, 1).frame["size"].iloc[-1] == 7.5

    write_panel(tmp_path, panel_of(tmp_path, pd.concat([ROWS, AHEAD]), OF_DATES))
    panel = built_panel(tmp_path, end="2024-01-24")
    assert extend_panel(panel, 1).frame.index[-1] == pd.Timestamp("2024-01-25")


def test_only_series_that_end_earlier_have_another_future(tmp_path):
    late = rows_of(pd.bdate_range("2024-01-01", periods=18), seed=1)  # to Wednesday 2024-01-24
    of_y = AHEAD.assign(day=["2024-01-25", "2024-01-29", "2024-01-31"])
    parts = {"x": pd.concat([ROWS, AHEAD]), "y": pd.concat([late, of_y])}
    table = pd.concat([part.assign(name=name) for name, part in parts.items()])
    for columns, of_x in ((COLUMNS, ["01-25", "01-26", "01-30"]), (OF_DATES, ["01-25", "01-26", "01-29"])):
        write_panel(tmp_path, panel_of(tmp_path, table, columns | {"id": "name"}))
        panel = built_panel(tmp_path, end="2024-01-24")
        longer = extend_panel(panel, 3).frame
        tails = {name: part.index[-3:].strftime("%m-%d").tolist() for name, part in longer.groupby("name")}
        assert tails == {"x": of_x, "y": ["01-25", "01-29", "01-31"]}


def test_daily_rows_ahead_are_no_weeks(tmp_path):
    panel = panel_of(tmp_path, pd.concat([ROWS, AHEAD]), frequency="weekly")
    assert future_of(panel) is None
    assert any("left out, as steps are weekly" in message for message in panel.messages)


def test_file_and_frame_are_read_alike(tmp_path):
    polars = pytest.importorskip("polars")
    panel = panel_of(tmp_path, ROWS)
    AHEAD.assign(memo="ignored").to_csv(tmp_path / "next.csv", index=False)
    indexed = AHEAD.assign(day=pd.to_datetime(AHEAD["day"])).set_index("day")
    expected = steps_ahead(with_future(panel, read_future(tmp_path / "next.csv", panel, "day")), 2)
    assert expected.index.strftime("%Y-%m-%d").tolist() == ["2024-01-30", "2024-01-31"]
    for frame in (
        AHEAD,
        indexed,
        indexed.rename_axis(None),
        AHEAD.astype({"mood": object}),
        indexed.set_axis(indexed.index.to_period("D")),
        indexed.tz_localize("America/New_York"),
        polars.from_pandas(AHEAD),
    ):
        pd.testing.assert_frame_equal(
            steps_ahead(with_future(panel, read_future(frame, panel, "day")), 2), expected
        )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            AHEAD.drop(columns="mood"),
            "line 1: found no column 'mood' among day, size; rows of the future have",
        ),
        (AHEAD.rename(columns={"day": "date"}), "found no column 'day'"),
        (AHEAD.assign(size=[1, None, 2]), "line 3, column 'size': found an empty cell"),
        (AHEAD.assign(mood=["a", None, "b"]), "line 3, column 'mood': found '', expected a category"),
        (AHEAD.assign(size="many"), "line 2, column 'size': found the text 'many'"),
        (AHEAD.assign(day="01/02/2024"), "line 2, column 'day': found '01/02/2024', expected a date as"),
        (AHEAD.iloc[:1], "rows of the future: found 1, expected 2"),
        (
            AHEAD.assign(day=["2024-01-26", "2024-01-29", "2024-01-30"]),
            "found 2024-01-26, expected dates after",
        ),
        (AHEAD.iloc[::-1], "found dates out of order or twice"),
        (AHEAD.iloc[[0, 0, 1]], "found dates out of order or twice"),
    ],
)
def test_rows_of_the_future_that_cannot_be(tmp_path, table, words):
    run = run_of(tmp_path, ROWS)
    table.to_csv(tmp_path / "next.csv", index=False)
    with pytest.raises(UserError, match=words):
        extend_panel(predict.load_rows(run, None, None, tmp_path / "next.csv"), 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"day": pd.date_range("2024-01-30 09:30", periods=3)}, "found 2024-01-30 09:30:00"),
        ({"size": [1, "2", 3]}, r"future, row 1 \(2024-01-31\), column 'size': found the text '2'"),
        ({"size": [1, None, 3]}, r"row 1 \(2024-01-31\), column 'size': found an empty cell"),
        ({"mood": [None, "a", "b"]}, r"row 0 .*column 'mood': found (None|nan), expected a category"),
        ({"day": [None, "2024-01-31", "2024-02-01"]}, "column 'day': found (None|nan), expected a date"),
    ],
)
def test_a_frame_of_the_future_is_checked_as_one_to_train_on(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        read_future(AHEAD.assign(**change), panel_of(tmp_path, ROWS), "day")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.csv: cannot be read"):
        predict.load_rows(run_of(tmp_path, ROWS), None, None, tmp_path / "nowhere.csv")


def test_the_file_comes_before_the_table_s_own_rows(tmp_path):
    run = run_of(tmp_path, pd.concat([ROWS, AHEAD]))
    other = predict.load_rows(run, None, None, AHEAD.assign(size=[1.0, 2.0, 3.0]))
    assert extend_panel(other, 2).frame["size"].iloc[-2:].tolist() == [1.0, 2.0]
    own = predict.load_rows(run, None, None)
    assert extend_panel(own, 2).frame["size"].iloc[-2:].tolist() == [7.5, 8.5]


def test_a_look_back_takes_the_known_columns_of_the_rows_that_came(tmp_path):
    run = run_of(tmp_path, pd.concat([ROWS, AHEAD]))
    panel = predict.load_rows(run, None, datetime.date(2024, 1, 10))
    assert len(panel.frame) == 8
    future = extend_panel(panel, 2).frame.iloc[-2:]
    assert future.index.strftime("%Y-%m-%d").tolist() == ["2024-01-11", "2024-01-12"]
    assert future["size"].tolist() == [4.0, 4.5]
    assert future["mood"].tolist() == ["a", "b"]
    last = predict.load_rows(run, None, datetime.date(2024, 1, 27))
    assert extend_panel(last, 2).frame["size"].iloc[-2:].tolist() == [7.5, 8.5]


def test_dates_alone_may_be_given(tmp_path):
    panel = panel_of(tmp_path, ROWS, OF_DATES)
    assert extend_panel(panel, 1).frame.index[-1] == pd.Timestamp("2024-01-29")
    known = with_future(panel, read_future(AHEAD, panel, "day"))
    future = extend_panel(known, 2).frame.iloc[-2:]
    assert future.index.strftime("%Y-%m-%d").tolist() == ["2024-01-30", "2024-01-31"]
    assert future["day_of_week"].tolist() == [1, 2]
    dates = extend_panel(known, 5).frame.index[-5:]  # the next weekdays after those that are given
    assert dates.strftime("%m-%d").tolist() == ["01-30", "01-31", "02-01", "02-02", "02-05"]


def test_each_series_has_its_own_future(tmp_path):
    columns = COLUMNS | {"id": "name"}
    late = rows_of(pd.bdate_range("2024-01-01", periods=18), seed=1)  # to Wednesday 2024-01-24
    table = pd.concat([ROWS.assign(name="x"), late.assign(name="y")])
    panel = panel_of(tmp_path, table, columns)
    of_y = AHEAD.assign(day=["2024-01-25", "2024-01-26", "2024-01-29"], size=[1.0, 2.0, 3.0], name="y")
    ahead = pd.concat([of_y, AHEAD.assign(name="x"), AHEAD.assign(name="z")])
    for with_ahead in (
        with_future(panel, read_future(ahead, panel, "day")),
        panel_of(tmp_path, pd.concat([table, ahead[ahead["name"] != "z"]]), columns),
    ):
        longer = extend_panel(with_ahead, 2).frame
        tails = {name: part.iloc[-2:] for name, part in longer.groupby("name")}
        assert tails["x"]["size"].tolist() == [7.5, 8.5]
        assert tails["y"]["size"].tolist() == [1.0, 2.0]
        assert tails["y"].index.strftime("%m-%d").tolist() == ["01-25", "01-26"]
    both = ahead.assign(day=pd.to_datetime(ahead["day"])).set_index(["name", "day"])
    assert read_future(both, panel, "day").equals(read_future(ahead, panel, "day"))
    alone = with_future(panel, read_future(of_y, panel, "day"))
    with pytest.raises(UserError, match=r"rows of the future of the series 'x': found 0, expected 2"):
        extend_panel(alone, 2)
    with pytest.raises(UserError, match="found no column 'name'"):
        read_future(AHEAD, panel, "day")


def test_rows_that_are_selected_keep_the_future(tmp_path):
    panel = panel_of(tmp_path, pd.concat([ROWS, AHEAD]))
    assert future_of(select_rows(panel, np.arange(10, 20))).equals(future_of(panel))
