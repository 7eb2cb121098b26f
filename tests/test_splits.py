import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftjax.config import UserError
from tftjax.data.splits import Splits, split_rows, window_starts


def test_split_by_hand():
    assert split_rows(23, (0.7, 0.15, 0.15), 5, 2) == Splits(range(0, 16), range(16, 19), range(19, 23))


def test_fractions_are_not_hurt_by_rounding():
    # As floats 0.7 + 0.2 is 0.8999999999999999.
    assert split_rows(100, (0.7, 0.2, 0.1), 5, 2) == Splits(range(0, 70), range(70, 90), range(90, 100))
    assert split_rows(100, (0.7, 0.15, 0.15), 5, 2) == Splits(range(0, 70), range(70, 85), range(85, 100))


def test_window_starts_by_hand():
    np.testing.assert_array_equal(window_starts(range(0, 11), 17, 5, 3), [0, 1, 2, 3])
    # First target row 11, last start 17 - 5 - 3 = 9.
    starts = window_starts(range(11, 17), 17, 5, 3)
    np.testing.assert_array_equal(starts, [6, 7, 8, 9])
    assert starts.dtype == np.int32


def test_starts_never_lie_outside_the_rows():
    # Rows that begin before the first possible target row, and rows that promise more than there are.
    np.testing.assert_array_equal(window_starts(range(2, 9), 9, 5, 3), [0, 1])
    np.testing.assert_array_equal(window_starts(range(0, 99), 9, 5, 3), [0, 1])


@given(
    num_rows=st.integers(40, 211),
    encoder_length=st.integers(1, 13),
    prediction_length=st.integers(1, 5),
    train=st.floats(0.5, 0.7),
)
def test_no_target_row_is_shared_between_splits(num_rows, encoder_length, prediction_length, train):
    fractions = (train, (1 - train) / 2, (1 - train) / 2)
    splits = split_rows(num_rows, fractions, encoder_length, prediction_length)
    assert [*splits.train, *splits.val, *splits.test] == list(range(num_rows))
    seen = np.zeros(num_rows, dtype=int)
    for rows in splits:
        starts = window_starts(rows, num_rows, encoder_length, prediction_length)
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
        split_rows(11, (0.7, 0.15, 0.15), 6, 2)
    with pytest.raises(UserError, match=r"found 3 val rows of 23 rows.*at least 4"):
        split_rows(23, (0.7, 0.15, 0.15), 5, 4)
    with pytest.raises(UserError, match=r"found 0 train rows of 0 rows"):
        split_rows(0, (0.7, 0.15, 0.15), 5, 4)


def test_exactly_one_window_in_each_split():
    splits = split_rows(10, (0.8, 0.1, 0.1), 7, 1)
    assert [window_starts(rows, 10, 7, 1).tolist() for rows in splits] == [[0], [1], [2]]


def test_rows_without_a_window_are_refused():
    with pytest.raises(UserError, match=r"rows 3 to 5 of 17: found no window of 2 encoder rows and 4 target"):
        window_starts(range(3, 6), 17, 2, 4)
