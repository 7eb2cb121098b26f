"""The rows of a data set as they are today, beside those that a run keeps."""

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.newest import newest_rows

DAYS = pd.bdate_range("2001-01-01", periods=41, name="date")
TABLE = pd.DataFrame(np.random.default_rng(5).normal(0, 0.01, (41, 2)), DAYS, ["ret", "flow"])
COLUMNS = {"target": "ret", "observed": ["flow"]}


@pytest.fixture
def grown(tmp_path, caplog):
    """A function of today's table that gives the returns of `newest_rows`, whether kept, and the log."""
    path = tmp_path / "t.csv"

    def read(today, trained=TABLE.iloc[:37], **settings):
        data = {"dataset": str(path), "columns": COLUMNS} | settings
        config = from_dict({"data": data}, "here").data
        trained.to_csv(path)
        kept = load_panel(config)
        path.unlink() if today is None else today.to_csv(path)
        rows, words = newest_rows(kept, config)
        assert words == ("the rows that the run keeps" if rows is kept else str(path))
        return rows.frame["ret"], rows is kept, caplog.text

    return read


def test_new_rows_are_read(grown):
    returns, kept, text = grown(TABLE)
    assert (returns.index[-1], kept, text) == (DAYS[-1], False, "")
    np.testing.assert_array_equal(returns, TABLE["ret"])


def test_the_newest_rows_alone_will_do_and_the_end_holds(grown):
    returns, kept, text = grown(TABLE.iloc[30:], end="2001-02-22")  # row 38
    assert (returns.index[0], returns.index[-1], kept, text) == (DAYS[30], DAYS[38], False, "")


def test_a_few_revised_values_are_said(grown):
    revised = TABLE.copy()
    revised.iloc[3, 1] = 0.5
    returns, kept, text = grown(revised)
    assert (returns.index[-1], kept) == (DAYS[-1], False)
    assert "other values than the run's rows of the same dates: flow in 2.7% of them" in text  # 1 of 37
    assert not grown(TABLE * (1 + 1e-9))[1]  # rounding


@pytest.mark.parametrize(
    ("today", "words"),
    [
        (None, "is neither a folder nor a file"),
        (TABLE.iloc[:36], "ends on 2001-02-19, the run's rows on 2001-02-20"),
        (TABLE.iloc[37:], "100% of the values of 'ret' are not those of the run's"),
        (TABLE.iloc[::-1].set_axis(DAYS), "of the values of 'ret' are not those of the run's rows"),
        (100 * TABLE, "100% of the values of 'ret'"),
        (TABLE.drop(columns="flow"), "'flow'"),
    ],
)
def test_what_is_gone_or_other_data_is_not_used(grown, today, words):
    returns, kept, text = grown(today)
    assert (returns.index[-1], kept) == (DAYS[36], True)
    assert "the rows that the run keeps are used, to 2001-02-20" in text
    assert words in text


def test_series_are_told_apart(grown):
    """The second has the first one's values, in the other order."""
    names = {"a": 1, "b": -1}
    parts = [TABLE.assign(id=name, ret=TABLE["ret"].to_numpy()[::step]) for name, step in names.items()]
    kept = pd.concat([part.iloc[:37] for part in parts])
    columns = {"columns": COLUMNS | {"id": "id"}}
    assert not grown(pd.concat(parts), kept, **columns)[1]
    assert grown(pd.concat([part.assign(id=2) for part in parts[:1]]), kept, **columns)[1]  # another series
    swapped = [part.assign(id=name) for part, name in zip(parts, "ba", strict=True)]
    assert grown(pd.concat(swapped), kept, **columns)[1]
