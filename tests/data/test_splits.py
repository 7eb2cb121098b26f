import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftjax.config.data import DataConfig, SplitDates
from tftjax.config.loading import from_dict
from tftjax.data.splits import Splits, make_splits, window_starts
from tftjax.errors import UserError
from tftjax.walkforward.plan import folds


def cut(num_rows, fractions, encoder_length, prediction_length, purge=None):
    index = pd.bdate_range("2001-01-01", periods=num_rows)
    return make_splits(index, DataConfig(split=fractions, purge=purge), encoder_length, prediction_length)


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
    assert make_splits(index, config, 3, 2) == Splits(range(5, 21), range(23, 28), range(30, 43))
    assert make_splits(index, config.model_copy(update={"purge": 0}), 3, 2) == Splits(
        range(5, 23), range(23, 30), range(30, 43)
    )
    ending = SplitDates(val=day("2018-02-01"), test=day("2018-02-12"), end=day("2018-02-20"))
    assert make_splits(index, DataConfig(split_dates=ending), 3, 1) == Splits(
        range(0, 22), range(23, 29), range(30, 36)
    )


def test_dates_without_rows_are_refused():
    index = pd.bdate_range("2018-01-01", "2018-02-28")
    dates = SplitDates(val=day("2018-02-01"), test=day("2019-01-01"))
    with pytest.raises(UserError, match=r"data\.split: found 0 test rows of 43 rows"):
        make_splits(index, DataConfig(split_dates=dates), 3, 2)
    with pytest.raises(UserError, match=r"data\.split_dates\.end: .*dates in the order train, val"):
        from_dict({"data": {"split_dates": {"val": "2018-02-01", "test": "2018-01-01"}}}, "test")


def test_rolling_and_expanding_folds_by_hand():
    rolling = folds(2006, 2008, train_years=10, val_years=2)
    assert [(fold.train.year, fold.val.year, fold.test.year, fold.end.year) for fold in rolling] == [
        (1994, 2004, 2006, 2007),
        (1995, 2005, 2007, 2008),
        (1996, 2006, 2008, 2009),
    ]
    expanding = folds(2006, 2011, train_years=10, test_years=2, step_years=3, expanding=True)
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
        splits = make_splits(index, DataConfig(split_dates=dates), encoder_length, prediction_length)
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
