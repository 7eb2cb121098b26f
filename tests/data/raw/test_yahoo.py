"""The index from Yahoo, against a stand-in that answers as yfinance 1.7 does."""

import datetime
import sys
import types

import numpy as np
import pandas as pd
import pytest
from tiny import contents

from tftjax.data.__main__ import main
from tftjax.data.raw.fred_csv import read_fred_csv
from tftjax.data.raw.yahoo import download_sp500
from tftjax.errors import UserError

TODAY = datetime.date(2018, 1, 8)


def table(closes, first="2018-01-02"):
    """What `Ticker.history` gives: midnights of New York, plain column names; float32 in disguise."""
    index = pd.bdate_range(first, periods=len(closes), tz="America/New_York", name="Date", unit="s")
    values = np.array(closes, np.float32).astype(np.float64)
    names = ["Open", "High", "Low", "Close", "Adj Close", "Volume"]
    return pd.DataFrame({name: values + (name == "Open") for name in names}, index=index)


EMPTY = pd.DataFrame({"Open": [], "Close": []}, index=pd.Index([], dtype=object, name="Date"))


@pytest.fixture
def yahoo(monkeypatch):
    """The stand-in: set `answer` to a table or an exception; `asked` holds the requests."""
    module = types.ModuleType("yfinance")
    module.asked, module.answer = [], table([2695.81, 2713.06, 2723.99, 2743.15, 2747.71])

    class Ticker:
        def __init__(self, name):
            self.name = name

        def history(self, **arguments):
            module.asked.append((self.name, arguments))
            if isinstance(module.answer, Exception):
                raise module.answer
            return module.answer

    module.Ticker = Ticker
    monkeypatch.setitem(sys.modules, "yfinance", module)
    return module


def fetch(folder, today=TODAY):
    download_sp500(folder, today, say=lambda _: None)


def test_closes_by_hand(yahoo, tmp_path):
    fetch(tmp_path / "raw")
    # Without Monday 2018-01-08, which is today; in cents, not in what is left of 32 bits.
    assert (tmp_path / "raw" / "SP500.csv").read_text() == (
        "observation_date,SP500\n2018-01-02,2695.81\n2018-01-03,2713.06\n2018-01-04,2723.99\n2018-01-05,2743.15\n"
    )
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["SP500.csv"]
    (name, arguments) = yahoo.asked[0]
    assert name == "^GSPC"
    assert arguments == {"start": "1957-03-04", "auto_adjust": False, "actions": False}


def test_today_is_new_york_s(yahoo, tmp_path):
    today = pd.Timestamp.now("America/New_York").date()
    yahoo.answer = pd.DataFrame(
        {"Close": [1.0, 2.0]},
        index=pd.DatetimeIndex([today - datetime.timedelta(days=1), today], tz="America/New_York"),
    )
    fetch(tmp_path, today=None)
    lines = (tmp_path / "SP500.csv").read_text().splitlines()
    assert lines[1:] == [f"{today - datetime.timedelta(days=1)},1.00"]


def test_a_day_without_a_close_is_an_empty_cell(yahoo, tmp_path):
    yahoo.answer = table([2695.81, np.nan, 2723.99])
    fetch(tmp_path)
    series, _, messages = read_fred_csv(tmp_path / "SP500.csv", "SP500")
    assert series.dates.astype(str).tolist() == ["2018-01-02", "2018-01-04"]
    assert series.values.tolist() == [2695.81, 2723.99]
    assert "1 dates without a value (first 2018-01-03)" in messages[0]


def test_a_file_that_is_there_is_never_replaced(yahoo, tmp_path):
    (tmp_path / "SP500.csv").write_text("mine")
    fetch(tmp_path)
    assert (tmp_path / "SP500.csv").read_text() == "mine"
    assert yahoo.asked == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (EMPTY, r"Yahoo gave no close of \^GSPC"),
        (table([np.nan, np.nan]), r"Yahoo gave no close of \^GSPC"),
        (table([1.0], first=str(TODAY)), r"Yahoo gave no close of \^GSPC"),
        (ConnectionError("no route"), r"yfinance failed \(ConnectionError: no route\)"),
        (table([1.0]).drop(columns="Close"), r"yfinance failed \(KeyError: 'Close'\)"),
        # As `yfinance.download` names columns.
        (pd.concat({"^GSPC": table([1.0])}, axis=1).swaplevel(axis=1), r"yfinance failed \(ValueError"),
    ],
)
def test_no_closes_no_file(yahoo, tmp_path, answer, words):
    yahoo.answer = answer
    with pytest.raises(UserError, match=words):
        fetch(tmp_path / "raw")
    assert contents(tmp_path) == {}


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(UserError, match=r"yfinance cannot be imported .*pip install -e '.\[collect\]'"):
        fetch(tmp_path)


def test_the_folder_may_not_be_a_file(yahoo, tmp_path):
    (tmp_path / "raw").write_text("mine")
    with pytest.raises(UserError, match="raw: cannot be made"):
        fetch(tmp_path / "raw")


def build(raw, *more):
    arguments = ["build", "--feature-set", "market_only", "--raw", str(raw), "--sp500", "yfinance"]
    return main([*arguments, "--out", str(raw.parent / "panel"), *more])


def test_build_from_a_folder_without_the_index(yahoo, tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "VIXCLS.csv").write_text("observation_date,VIXCLS\n2018-01-02,9.77\n2018-01-03,9.15\n")
    assert build(raw) == 0
    assert "SP500: 5 closes of ^GSPC fetched from Yahoo, 2018-01-02 to 2018-01-08" in capsys.readouterr().out
    lines = (tmp_path / "panel" / "panel.csv").read_text().splitlines()
    assert lines[1].startswith("2018-01-03,0.006")
    assert build(raw, "--overwrite") == 0
    assert f"SP500: {raw / 'SP500.csv'} was there and stays" in capsys.readouterr().out
    assert len(yahoo.asked) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "is neither a folder nor a file"),  # no folder is made of a mistyped name
        (("--source", "embedded"), "found with --source embedded, expected fred-api or fred-csv"),
        (("--source", "fred-api"), "FRED_API_KEY is not set"),
        (("--feature-set", "market"), "Did you mean 'market_only'"),
    ],
)
def test_requests_that_are_refused_fetch_nothing(yahoo, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.delenv("FRED_API_KEY", raising=False)
    assert build(tmp_path / "raw", *more) == 2
    assert words in capsys.readouterr().err
    assert yahoo.asked == []
    assert contents(tmp_path) == {}
