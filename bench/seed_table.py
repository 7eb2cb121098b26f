"""Table of forecast quality over seeds: `python bench/seed_table.py runs/control-s* runs/balanced_01-s*`.

Runs are grouped by name up to `-s`. Prints a Markdown table of test metrics: mean, and half the width of the
95 % interval of the mean over seeds (Student's t); a baseline has no seed.
"""

import json
import sys
from pathlib import Path

import numpy as np

from tftjax.evaluate.significance import mean_interval
from tftjax.storage.directories import RunDirectory

COLUMNS = {
    "pinball, 1e-3": (lambda m: m["pinball"] * 1e3, ".4f"),
    "80 % interval covers": (lambda m: m["coverage"]["80"] * 100, ".1f"),
    "sigma, bp": (lambda m: m["sigma"] * 1e4, ".1f"),
    "positive, %": (lambda m: m["share_positive"] * 100, ".1f"),
    "direction right, %": (lambda m: m["directional_accuracy"] * 100, ".1f"),
}


def cell(values: list[float], spec: str) -> str:
    """Formats a mean with its interval, or a single value."""
    mean, _, high = mean_interval(np.array(values))
    return f"{mean:{spec}}" + (f" ± {high - mean:{spec}}" if high is not None else "")


def main() -> None:
    """Reads evaluation/metrics.json of the given runs and prints the table."""
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    groups: dict[str, list[dict]] = {}
    for run in map(Path, sys.argv[1:]):
        test = json.loads(RunDirectory(run).evaluation.metrics.read_text())["test"]
        groups.setdefault(run.name.rpartition("-s")[0] or run.name, []).append(test)
    baselines = next(iter(groups.values()))[0]["baselines"]
    rows = {f"{name}, {len(runs)} seeds": runs for name, runs in groups.items()}
    rows |= {f"{name} (baseline)": [metrics] for name, metrics in baselines.items()}
    print("| test rows |", " | ".join(COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, runs in rows.items():
        cells = [cell([value(m) for m in runs], spec) for value, spec in COLUMNS.values()]
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
