import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftjax.config.data import DataConfig, SplitDates
from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.splits import Splits, make_blocks, single_block, starts_of, window_starts
from tftjax.errors import UserError
from tftjax.walkforward.plan import folds


def cut(num_rows, fractions, encoder_length, prediction_length, purge=None):
    index = pd.bdate_range("2001-01-01", periods=num_rows)
    return single_block(
        index, DataConfig(split=fractions, purge=purge), encoder_length, prediction_length
    ).splits


def test_split_by_hand():
    assert cut(23, (0.7, 0.15, 0.15), 5, 2) == Splits(range(0, 16), range(16, 19), range(19, 23))


def test_fractions_are_not_hurt_by_rounding():
    # As floats 0.7 + 0.2 is 0.8999999999999999.
    assert cut(100, (0.7, 0.2, 0.1), 5, 2) == Splits(range(0, 70), range(70, 90), range(90, 100))
    assert cut(100, (0.7, 0.15, 0.15), 5, 2) == Splits(range(0, 70), range(70, 85), range(85, 100))


def test_window_starts_by_hand():
    np.testing.assert_array_equal(window_starts(range(0, 11), range(17), 5, 3), [0, 1, 2, 3])
    # First target row 11, last start 17 - 5 - 3 = 9.
    starts = window_starts(range(11, 17), range(17), 5, 3)
    np.testing.assert_array_equal(starts, [6, 7, 8, 9])
    assert starts.dtype == np.int32


def test_starts_never_lie_outside_the_rows():
    # Rows that begin before the first possible target row, and rows that promise more than there are.
    np.testing.assert_array_equal(window_starts(range(2, 9), range(9), 5, 3), [0, 1])
    np.testing.assert_array_equal(window_starts(range(0, 99), range(9), 5, 3), [0, 1])


@given(
    num_rows=st.integers(40, 211),
    encoder_length=st.integers(1, 13),
    prediction_length=st.integers(1, 5),
    train=st.floats(0.5, 0.7),
)
def test_no_target_row_is_shared_between_splits(num_rows, encoder_length, prediction_length, train):
    fractions = (train, (1 - train) / 2, (1 - train) / 2)
    splits = cut(num_rows, fractions, encoder_length, prediction_length)
    assert [*splits.train, *splits.val, *splits.test] == list(range(num_rows))
    seen = np.zeros(num_rows, dtype=int)
    for rows in splits:
        starts = window_starts(rows, range(num_rows), encoder_length, prediction_length)
        assert starts.min() >= 0
        targets = starts[:, None] + encoder_length + np.arange(prediction_length)[None, :]
        assert set(targets.ravel().tolist()) <= set(rows)  # in no other split, so in no later one
        np.add.at(seen, targets.ravel(), 1)
        # A later split's first row is a target: its encoder reaches back into the split before.
        assert targets.min() == max(rows.start, encoder_length)
        assert targets.max() == rows.stop - 1
    assert seen.max() <= prediction_length
    assert (seen[:encoder_length] == 0).all()
    assert (seen[encoder_length:] >= 1).all()


def test_fewer_rows_than_one_window():
    with pytest.raises(
        UserError, match=r"found 7 train rows of 11 rows.*at least 8.*6 encoder rows and 2 target"
    ):
        cut(11, (0.7, 0.15, 0.15), 6, 2)
    with pytest.raises(UserError, match=r"found 3 val rows of 23 rows.*at least 4"):
        cut(23, (0.7, 0.15, 0.15), 5, 4)
    with pytest.raises(UserError, match=r"found 0 train rows of 0 rows"):
        cut(0, (0.7, 0.15, 0.15), 5, 4)


def test_exactly_one_window_in_each_split():
    splits = cut(10, (0.8, 0.1, 0.1), 7, 1)
    assert [window_starts(rows, range(10), 7, 1).tolist() for rows in splits] == [[0], [1], [2]]


def test_rows_without_a_window_have_no_start():
    assert window_starts(range(3, 6), range(17), 2, 4).shape == (0,)


def test_a_window_lies_within_its_series():
    # Rows 10 to 20 are one series of several: its first start is 10, its last 21 - 5 - 3.
    np.testing.assert_array_equal(window_starts(range(10, 21), range(10, 21), 5, 3), [10, 11, 12, 13])


def test_purged_fractions_by_hand():
    assert cut(23, (0.7, 0.15, 0.15), 5, 1, purge=2) == Splits(range(0, 14), range(16, 17), range(19, 23))


def day(text):
    return datetime.date.fromisoformat(text)


def test_dates_by_hand():
    index = pd.bdate_range("2018-01-01", "2018-02-28")  # 2018-01-08 is row 5, 2018-02-01 row 23
    dates = SplitDates(train=day("2018-01-06"), val=day("2018-02-01"), test=day("2018-02-12"))
    config = DataConfig(split_dates=dates)
    assert single_block(index, config, 3, 2).splits == Splits(range(5, 21), range(23, 28), range(30, 43))
    assert single_block(index, config.model_copy(update={"purge": 0}), 3, 2).splits == Splits(
        range(5, 23), range(23, 30), range(30, 43)
    )
    ending = SplitDates(val=day("2018-02-01"), test=day("2018-02-12"), end=day("2018-02-20"))
    assert single_block(index, DataConfig(split_dates=ending), 3, 1).splits == Splits(
        range(0, 22), range(23, 29), range(30, 36)
    )


def test_dates_without_rows_are_refused():
    index = pd.bdate_range("2018-01-01", "2018-02-28")
    dates = SplitDates(val=day("2018-02-01"), test=day("2019-01-01"))
    with pytest.raises(UserError, match=r"data\.split: found 0 test rows of 43 rows"):
        single_block(index, DataConfig(split_dates=dates), 3, 2)
    with pytest.raises(UserError, match=r"data\.split_dates\.end: .*dates in the order train, val"):
        from_dict({"data": {"split_dates": {"val": "2018-02-01", "test": "2018-01-01"}}}, "test")


def test_rolling_and_expanding_folds_by_hand():
    rolling = folds(2006, 2008, train_years=10, val_years=2)
    assert [(fold.train.year, fold.val.year, fold.test.year, fold.end.year) for fold in rolling] == [
        (1994, 2004, 2006, 2007),
        (1995, 2005, 2007, 2008),
        (1996, 2006, 2008, 2009),
    ]
    expanding = folds(2006, 2011, train_years=10, test_years=2, stride_months=36, expanding=True)
    assert [(fold.train.year, fold.val.year, fold.test.year, fold.end.year) for fold in expanding] == [
        (1995, 2005, 2006, 2008),
        (1995, 2008, 2009, 2011),
    ]
    assert {fold.test.month for fold in rolling} == {fold.test.day for fold in rolling} == {1}
    with pytest.raises(UserError, match="folds: found train 0"):
        folds(2006, 2008, train_years=0)
    with pytest.raises(UserError, match="from 2008 to 2006"):
        folds(2008, 2006, train_years=3)


@given(
    encoder_length=st.integers(1, 29),
    prediction_length=st.integers(1, 23),
    years=st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2)),
    expanding=st.booleans(),
)
def test_no_stretch_of_training_targets_overlaps_a_later_window_s(
    encoder_length, prediction_length, years, expanding
):
    """With the purge of P rows, the targets of one split end more than P rows before the next one's."""
    index = pd.bdate_range("1998-05-01", "2009-12-31")
    train_years, val_years, test_years = years
    lengths = dict(train_years=train_years, val_years=val_years, test_years=test_years)
    for dates in folds(2005, 2007, expanding=expanding, **lengths):
        splits = single_block(index, DataConfig(split_dates=dates), encoder_length, prediction_length).splits
        targets = [
            window_starts(rows, range(len(index)), encoder_length, prediction_length)[:, None]
            + encoder_length
            + np.arange(prediction_length)[None, :]
            for rows in splits
        ]
        for earlier, later in ((0, 1), (1, 2)):
            assert targets[later].min() - targets[earlier].max() > prediction_length
        first, last = index[targets[2].min()].date(), index[targets[2].max()].date()
        assert dates.test <= first <= last < dates.end
        assert index[targets[0].min()].date() >= dates.train


def test_blocks_of_validation_by_hand():
    # 40 rows: 20 train, 10 validate, 10 test. Of 2 blocks of 5 rows the last ends at row 30, the other at 20.
    index = pd.bdate_range("2018-01-01", periods=40)
    panel = make_panel(pd.DataFrame({"y": np.arange(40.0)}, index), target="y", observed=("y",))
    config = DataConfig(split=(0.5, 0.25, 0.25), val_blocks=2, purge=1)
    _, (block,) = make_blocks(panel, config, 3, 1)
    assert block.splits == Splits(range(0, 24), range(25, 29), range(30, 40))
    assert block.held_out == (range(15, 19),)
    # Rows 14 and 19 are as near to what validates as those before and after a split.
    assert block.stretches("train") == (range(0, 14), range(20, 24))
    assert starts_of([block], "train", 3, 1).tolist() == [*range(0, 11), *range(17, 21)]
    assert starts_of([block], "val", 3, 1).tolist() == [*range(12, 16), *range(22, 26)]
    assert starts_of([block], "test", 3, 1).tolist() == [*range(27, 37)]


def test_blocks_of_validation_by_dates_and_in_short_series():
    days = pd.bdate_range("2018-01-01", periods=40)
    dates = SplitDates(train=days[2].date(), val=days[20].date(), test=days[26].date())
    config = DataConfig(split_dates=dates, val_blocks=3)
    frame = pd.concat(
        [
            pd.DataFrame({"y": np.arange(float(len(index))), "id": name}, index)
            for name, index in (("long", days), ("short", days[13:]))
        ]
    )
    panel = make_panel(frame, target="y", observed=("y",), static_categorical=("id",), id_column="id")
    _, (long, short) = make_blocks(panel, config, 2, 1)
    assert long.splits == Splits(range(2, 23), range(24, 25), range(26, 40))
    assert long.held_out == (range(12, 13), range(18, 19))
    # The short one begins inside of the first block, which it has no part in.
    assert short.splits == Splits(range(40, 50), range(51, 52), range(53, 67))
    assert short.held_out == (range(40, 40), range(45, 46))
    assert short.stretches("train") == (range(40, 39), range(41, 44), range(47, 50))
    with pytest.raises(UserError, match=r"data\.val_blocks: found 5, expected at most 4.* of 24 before"):
        make_blocks(panel, config.model_copy(update={"val_blocks": 5}), 2, 1)


def test_no_train_target_is_near_a_validation_target():
    index = pd.bdate_range("2010-01-01", periods=331)
    panel = make_panel(pd.DataFrame({"y": np.arange(331.0)}, index), target="y", observed=("y",))
    steps, encoder_length = 3, 7
    config = DataConfig(val_blocks=4, purge=steps)
    _, blocks = make_blocks(panel, config, encoder_length, steps)
    targets = {
        split: starts_of(blocks, split, encoder_length, steps)[:, None] + encoder_length + np.arange(steps)
        for split in Splits._fields
    }
    apart = np.abs(targets["train"].reshape(-1, 1) - targets["val"].reshape(1, -1))
    assert apart.min() == steps + 1
    assert len(np.unique(targets["val"])) == 4 * (49 // 4 - steps)  # 49 rows validate, 12 in each block
    assert targets["val"].max() < targets["test"].min() - steps


def test_validation_rows_can_be_train_rows():
    index = pd.bdate_range("2018-01-01", periods=23)
    config = DataConfig(split=(0.7, 0.15, 0.15), train_on_val=True, val_blocks=3)
    assert single_block(index, config, 5, 2).splits == Splits(range(0, 19), range(16, 19), range(19, 23))
    purged = config.model_copy(update={"purge": 2})
    assert single_block(index, purged, 5, 1).splits == Splits(range(0, 17), range(16, 17), range(19, 23))
