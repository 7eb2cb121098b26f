"""Write the embedded data set in data/ from the series that the packages skfolio and arch carry.

Run by hand, only to make the files anew:  pip install skfolio arch && python scripts/make_embedded_data.py
"""

import sys
from pathlib import Path

import pandas as pd

LAST = "2018-12-31"
FOLDER = Path(__file__).resolve().parent.parent / "data"


def load_series() -> dict[str, pd.Series]:
    """The raw series by FRED name; exits with the missing package's name."""
    try:
        from arch.data import core_cpi, default, wti
        from skfolio.datasets import load_sp500_index
    except ModuleNotFoundError as error:
        sys.exit(f"make_embedded_data: the package {error.name!r} is missing: pip install skfolio arch")
    yields = default.load()
    return {
        "SP500": load_sp500_index()["SP500"].loc["1990":LAST],
        "AAA": yields["AAA"].loc["1989":LAST],
        "BAA": yields["BAA"].loc["1989":LAST],
        "CPILFESL": core_cpi.load()["CPILFESL"].loc["1988":LAST],  # a year more, for year-over-year changes
        "DCOILWTICO": wti.load()["DCOILWTICO"].loc["1989":LAST],
    }


def main() -> None:
    """Write one file a series, in the format of a FRED download."""
    for name, series in load_series().items():
        table = series.astype("float64").rename(name).rename_axis("observation_date")
        table.to_csv(
            FOLDER / f"{name}.csv", date_format="%Y-%m-%d", float_format="%.10g", lineterminator="\n"
        )
        print(f"{name}: {len(table)} rows, {table.index[0].date()} to {table.index[-1].date()}")


if __name__ == "__main__":
    main()
