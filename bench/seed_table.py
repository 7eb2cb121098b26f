"""Tables forecast quality over seeds: `python bench/seed_table.py runs/control-s* runs/balanced_01-s*`.

Runs are grouped by name up to `-s`. Prints a Markdown table of test metrics: mean, and half the width of the
95 % interval of the mean over seeds (Student's t); the baseline has no seed.
"""

import json
import statistics
import sys
from pathlib import Path

from tftjax.storage.directories import RunDirectory

# 97.5 % quantile of Student's t by degrees of freedom (any table, such as NIST/SEMATECH 1.3.6.7.2).
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
COLUMNS = {
    "pinball, 1e-3": (lambda m: m["pinball"] * 1e3, ".4f"),
    "80 % interval covers": (lambda m: m["coverage"]["80"] * 100, ".1f"),
    "sigma, bp": (lambda m: m["sigma"] * 1e4, ".1f"),
    "positive, %": (lambda m: m["share_positive"] * 100, ".1f"),
    "direction right, %": (lambda m: m["directional_accuracy"] * 100, ".1f"),
}


def cell(values: list[float], spec: str) -> str:
    """Formats a mean with its interval, or the one value."""
    if len(values) == 1:
        return format(values[0], spec)
    if len(values) - 1 not in T:
        raise SystemExit(
            f"found {len(values)} seeds of one config, the table of Student's t ends at {max(T) + 1}"
        )
    half = T[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):{spec}} ± {half:{spec}}"


def main() -> None:
    """Reads evaluation/metrics.json of every run given and prints the table."""
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
