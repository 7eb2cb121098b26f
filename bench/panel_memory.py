"""Peak memory and time of a panel of many series: `python bench/panel_memory.py [SERIES] [ROWS]`.

Writes a table of made-up returns (default 500 series of 9,000 rows), trains two epochs on it and evaluates,
by the commands that a user would run, each a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

CONFIG = {
    "data": {
        "dataset": "table.csv",
        "columns": {
            "id": "name",
            "target": "ret",
            "observed": ["volume", "spread"],
            "known_categorical": ["day_of_week", "month"],
        },
    },
    "train": {"max_epochs": 2, "batch_size": 512, "learning_rate": 0.002},
}


def write_table(path: Path, num_series: int, num_rows: int) -> None:
    """Writes the table series by series, so that this process stays small."""
    rng = np.random.default_rng(0)
    days = pd.bdate_range("1990-01-01", periods=num_rows, name="date").strftime("%Y-%m-%d")
    for number in range(num_series):
        returns = rng.standard_t(4, num_rows) * 0.007
        frame = pd.DataFrame({"name": f"S{number:03}", "ret": returns}, index=days)
        frame["volume"], frame["spread"] = rng.normal(size=num_rows), rng.uniform(1, 9, num_rows)
        frame.round(5).to_csv(path, mode="a", header=number == 0)


def measure(*command: str, folder: Path) -> None:
    """Runs `python -m tftjax.COMMAND` and prints its time and its peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - started
    print(f"{command[0]}: {seconds:.0f} s, peak memory {usage.ru_maxrss / 1024:,.0f} MB", flush=True)


def main() -> None:
    """Makes the table, trains, evaluates."""
    num_series, num_rows = [*map(int, sys.argv[1:]), *(500, 9000)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "table.csv", num_series, num_rows)
        megabytes = (folder / "table.csv").stat().st_size / 1e6
        print(f"{num_series} series x {num_rows} rows, {megabytes:,.0f} MB as CSV", flush=True)
        (folder / "many.json").write_text(json.dumps(CONFIG))
        measure("tftjax.train", "many.json", folder=folder)
        measure("tftjax.evaluate", "runs/many", folder=folder)


if __name__ == "__main__":
    main()
