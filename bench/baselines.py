"""Baselines refitted every year on all years before: `python bench/baselines.py panels/core_proposal`.

Next-day forecasts of a built panel of one series, at the default levels, in blocks of years. Prints a
Markdown table: the gain over GJR-GARCH in percent of its mean pinball loss, p of Diebold and Mariano's test,
the years ahead, and seconds a fit.

    python bench/baselines.py panels/core_proposal --blocks 2006-2015 2016-2025 --only log_scale gjr_vix
"""

import argparse
import time
from pathlib import Path

import numpy as np

from tftjax.config.model import ModelConfig
from tftjax.data.panel import read_panel
from tftjax.data.volatility import volatility_column
from tftjax.evaluate.baselines import BASELINES, Task, Unavailable
from tftjax.evaluate.formatting import p_text
from tftjax.evaluate.metrics import pinball_losses
from tftjax.evaluate.significance import diebold_mariano

REFERENCE = "gjr_garch"


def losses_by_year(panel, name: str, years: range) -> tuple[dict[int, np.ndarray], list[float]]:
    """The baseline's pinball loss of each day, by year, and the seconds of each year's fit and forecast."""
    frame, levels = panel.frame, ModelConfig().quantiles
    returns = frame[panel.target].to_numpy(np.float64)
    observed = {column: frame[column].to_numpy(np.float64) for column in panel.observed[1:]}
    losses, seconds = {}, []
    for year in years:
        rows = np.flatnonzero(frame.index.year == year)[:, None]
        train = range(int(rows[0, 0]))
        task = Task(returns, observed, train, rows, levels, frame.index, volatility_column(panel, None))
        start = time.perf_counter()
        forecast = BASELINES[name](task)
        seconds.append(time.perf_counter() - start)
        losses[year] = pinball_losses(forecast, returns[rows], levels).mean(axis=(1, 2))
    return losses, seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("panel", type=Path)
    parser.add_argument("--blocks", nargs="+", default=["2006-2015", "2016-2025"])
    parser.add_argument("--only", nargs="+", default=list(BASELINES), choices=BASELINES)
    arguments = parser.parse_args()
    panel = read_panel(arguments.panel)
    blocks = [range(int(text[:4]), int(text[-4:]) + 1) for text in arguments.blocks]
    years = range(min(map(min, blocks)), max(map(max, blocks)) + 1)
    reference, _ = losses_by_year(panel, REFERENCE, years)
    print("| |", " | ".join(arguments.blocks), f"| years ahead of {len(years)} | seconds a fit |")
    print("|---" * (len(blocks) + 3) + "|")
    for name in arguments.only:
        try:
            losses, seconds = losses_by_year(panel, name, years)
        except Unavailable as error:
            print(f"| {name} | {error} |")
            continue
        cells = []
        for block in blocks:
            own, other = (
                np.concatenate([by_year[year] for year in block]) for by_year in (losses, reference)
            )
            test = diebold_mariano(own - other)
            p = "" if test.p is None else f", {p_text(test.p)}"
            cells.append(f"{-100 * test.difference / other.mean():+.2f} %{p}")
        ahead = sum(losses[year].mean() < reference[year].mean() for year in years)
        print(f"| {name} |", " | ".join(cells), f"| {ahead} | {np.median(seconds):.2f} |")


if __name__ == "__main__":
    main()
