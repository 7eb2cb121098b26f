"""Write the synthetic data set in data/synthetic: simulated series with the names and units of data/.

Run by hand, only to make the files anew:  python scripts/make_synthetic_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).resolve().parent.parent / "data" / "synthetic"
FIRST, LAST, SEED = "1993-01-01", "2018-12-31", 20
# The index: GJR-GARCH(1,1) with Student's t, so that the best forecast is known.
MEAN, DAILY_STD, ALPHA, GAMMA, BETA, DEGREES = 3e-4, 0.011, 0.02, 0.14, 0.89, 7


def index_returns(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns as decimals; the next day's variance rises more after a fall than after a rise."""
    persistence = ALPHA + GAMMA / 2 + BETA
    variance, returns = DAILY_STD**2, np.empty(count)
    shocks = rng.standard_t(DEGREES, count) * np.sqrt((DEGREES - 2) / DEGREES)
    for day in range(count):
        shock = np.sqrt(variance) * shocks[day]
        returns[day] = MEAN + shock
        news = (ALPHA + GAMMA * (shock < 0)) * shock**2
        variance = DAILY_STD**2 * (1 - persistence) + news + BETA * variance
    return returns


def moving_back(rng: np.random.Generator, count: int, mean: float, std: float, decay: float) -> np.ndarray:
    """An autoregression of order one around a mean; it knows nothing of the index."""
    values, steps = np.empty(count), rng.standard_normal(count) * std * np.sqrt(1 - decay**2)
    last = 0.0
    for row in range(count):
        last = decay * last + steps[row]
        values[row] = mean + last
    return values


def make_series() -> dict[str, pd.Series]:
    """The raw series by the name of the FRED series that each stands in for."""
    rng = np.random.default_rng(SEED)
    days = pd.bdate_range(FIRST, LAST)
    months = pd.date_range("1991-01-01", LAST, freq="MS")  # two years more, for changes over a year
    oil_days = pd.bdate_range("1992-01-01", LAST)  # a year more, for changes over 21 days
    price = 400 * np.cumprod(1 + index_returns(rng, len(days)))
    oil = np.exp(moving_back(rng, len(oil_days), np.log(50), 0.4, 0.998))
    aaa = moving_back(rng, len(months), 5.5, 1.0, 0.98)
    spread = np.exp(moving_back(rng, len(months), np.log(0.95), 0.3, 0.95))
    inflation = moving_back(rng, len(months), 2.1, 0.5, 0.97)
    core_prices = 140 * np.cumprod(1 + inflation / 1200)
    return {
        "SP500": pd.Series(price, days).round(2),
        "DCOILWTICO": pd.Series(oil, oil_days).round(2),
        "AAA": pd.Series(aaa, months).round(2),
        "BAA": pd.Series(aaa + spread, months).round(2),
        "CPILFESL": pd.Series(core_prices, months).round(1),
    }


def main(folder: Path = FOLDER) -> None:
    """Write one file a series, in the format of a FRED download."""
    for name, series in make_series().items():
        table = series.rename(name).rename_axis("observation_date")
        table.to_csv(folder / f"{name}.csv", date_format="%Y-%m-%d", lineterminator="\n")
        print(f"{name}: {len(table)} rows, {table.index[0].date()} to {table.index[-1].date()}")


if __name__ == "__main__":
    main()
