"""The log of forecasts: nothing is lost, whoever appends."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pandas as pd
import pytest

from tftjax import files
from tftjax.errors import UserError
from tftjax.storage import forecast_log

AUTHOR = forecast_log.Author("tiny", "0" * 12, ("0.1", "0.9"), several=False)
DAYS = pd.bdate_range("2001-01-01", periods=11)


def append(path, row):
    """Logs the forecast of a day from the one before."""
    table = pd.DataFrame({"0.1": [-1.0], "0.9": [float(row)]}, index=DAYS[[row + 1]])
    return forecast_log.append(path, AUTHOR, table, {"": DAYS[row]})


def test_appending_at_once_loses_nothing(tmp_path):
    path, barrier = tmp_path / "log.csv", Barrier(8)

    def worker(first):
        barrier.wait()
        return sum(append(path, (first + row) % 10) for row in range(10))

    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(worker, range(8)))
    logged = forecast_log.read(path, AUTHOR)
    assert added == len(logged) == 10  # each once, whoever came first
    assert sorted(logged["0.9"]) == list(range(10))


def test_a_log_that_stays_in_use_is_named(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    assert append(path, 0) == 1
    before = path.read_text()
    monkeypatch.setattr(forecast_log, "PATIENCE", 0.01)
    with (
        files.lock(tmp_path / "log.csv.lock", 0.0, "taken"),
        pytest.raises(UserError, match="another process has been writing it for"),
    ):
        append(path, 1)
    assert path.read_text() == before
    assert append(path, 1) == 1


def test_a_link_to_a_log_stays_one(tmp_path):
    (tmp_path / "log.csv").symlink_to(tmp_path / "kept.csv")
    for row in range(2):
        append(tmp_path / "log.csv", row)
    assert (tmp_path / "log.csv").is_symlink()
    assert len(forecast_log.read(tmp_path / "kept.csv", AUTHOR)) == 2
