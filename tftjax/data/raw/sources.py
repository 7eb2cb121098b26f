"""The sources of raw series, by name. To add one: a file in this folder and a line of SOURCES."""

import os
from collections.abc import Callable
from pathlib import Path

from tftjax.data.loading import find_dataset
from tftjax.data.raw.fred_api import download
from tftjax.data.raw.yahoo import download_sp500
from tftjax.errors import UserError


def _fred_csv(names: tuple[str, ...], folder: Path, base_url: str) -> None:
    """Nothing to fetch; refuses a mistyped folder, so that no other source makes it."""
    find_dataset(str(folder), "--raw")


def _fred_api(names: tuple[str, ...], folder: Path, base_url: str) -> None:
    key = os.environ.get("FRED_API_KEY", "")
    if not key:
        raise UserError(
            "FRED_API_KEY is not set. Get a key at https://fred.stlouisfed.org/docs/api/api_key.html and"
            " set it, or download the CSV files by hand and use --source fred-csv."
        )
    download(names, folder, key, base_url)


# Each adds to a folder of raw files what it lacks: names of series, the folder, the address of a web service.
SOURCES: dict[str, Callable[[tuple[str, ...], Path, str], None]] = {
    "embedded": lambda names, folder, base_url: None,  # the files come with the software
    "fred-csv": _fred_csv,
    "fred-api": _fred_api,
    "yfinance": lambda names, folder, base_url: download_sp500(folder),  # of the S&P 500 alone
}
