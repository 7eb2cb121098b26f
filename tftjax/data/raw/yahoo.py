"""The S&P 500 from Yahoo, further back than FRED's ten years: fetched once, kept as a CSV file."""

import datetime
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tftjax.errors import UserError
from tftjax.files import replace_text

TICKER = "^GSPC"
FIRST_DAY = "1957-03-04"  # from here on the index has 500 members; Yahoo goes on with its predecessor
EXCHANGE_TIME = "America/New_York"


def download_sp500(
    folder: Path, today: datetime.date | None = None, say: Callable[[str], None] = print
) -> None:
    """Fetches the index's daily closes into `SP500.csv`, in FRED's format, unless the folder has that file.

    A day without a close keeps its line, with an empty cell. Today's line is left out: before the exchange
    closes it holds the last price.

    Args:
      folder: made if it is missing; a file in it is never replaced.
      today: None takes the exchange's.

    Raises:
      UserError: the package yfinance is missing or fails, or no close came.
    """
    path = folder / "SP500.csv"
    if path.exists():
        say(f"SP500: {path} was there and stays")
        return
    closes = _closes()
    before = str(today or pd.Timestamp.now(EXCHANGE_TIME).date())
    lines = {day: close for day, close in closes.items() if day < before}
    if all(math.isnan(close) for close in lines.values()):
        raise UserError(
            f"SP500: Yahoo gave no close of {TICKER}. What yfinance says stands above; often the network or a"
            " limit of requests is the cause. Try again later, or put a SP500.csv of your own into the"
            " folder."
        )
    cells = (f"{day},{'' if math.isnan(close) else format(close, '.2f')}" for day, close in lines.items())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}).") from error
    replace_text(path, "\n".join(["observation_date,SP500", *cells]) + "\n")
    say(f"SP500: {len(lines)} closes of {TICKER} fetched from Yahoo, {min(lines)} to {max(lines)}")


def _closes() -> dict[str, float]:
    """The closes by day, YYYY-MM-DD, ascending; empty if Yahoo gave none: yfinance logs why."""
    try:
        import yfinance
    except ImportError as error:
        raise UserError(
            f"--sp500 yfinance: the package yfinance cannot be imported ({error}). Install it:"
            " pip install -e '.[collect]'."
        ) from error
    try:
        # Not adjusted: an index has no dividends or splits. One ticker's columns have plain names.
        table = yfinance.Ticker(TICKER).history(start=FIRST_DAY, auto_adjust=False, actions=False)
        if table.empty:
            return {}
        # The index holds midnights of the exchange's time zone: their dates in that zone are the days.
        return dict(zip(table.index.strftime("%Y-%m-%d"), map(float, table["Close"]), strict=True))
    except Exception as error:  # of yfinance, of its HTTP client, or of its reading of an odd answer
        raise UserError(
            f"SP500: yfinance failed ({type(error).__name__}: {error}). Try again later, update yfinance, or"
            " put a SP500.csv of your own into the folder."
        ) from error
