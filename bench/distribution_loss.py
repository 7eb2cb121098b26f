"""Effect of penalties on the forecasts' mean and spread: `python bench/distribution_loss.py --runs DIR`.

Trains the nine configs, whose penalties are in return units, and penalties in standardized units of several
weights, on the mean, the spread or both; every config with the same seeds, as one sweep. Prints Markdown
tables: each config's metrics of both splits, and its difference from `control`, seed by seed, with Student's
95 % interval over seeds; and the cost of a basis point of sigma. docs/study-distribution-loss.md describes
them.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from peers import NINE, ROOT

from tftjax.evaluate.scoring import SPLITS
from tftjax.evaluate.significance import mean_interval
from tftjax.storage.directories import SweepDirectory

WEIGHTS = (0.003, 0.01, 0.03, 0.1, 0.3)
KINDS = {"mean": (1, 0), "std": (0, 1), "both": (1, 1)}
COLUMNS = {  # by column of results.csv (`main` adds the last): title, factor, format
    "pinball": ("pinball, 1e-3", 1e3, ".4f"),
    "sigma": ("sigma, bp", 1e4, ".1f"),
    "share_positive": ("positive, %", 100, ".1f"),
    "directional_accuracy": ("direction right, %", 100, ".1f"),
    "quality/HEALTHY": ("healthy, %", 100, ".1f"),
    "above_chance": ("healthy minus chance, points", 100, ".1f"),
}


def standardized(kind: str, weight: float) -> str:
    """The name of a config whose penalties are in units of target_std."""
    return f"standardized_{kind}_{weight:g}"


def write_configs(folder: Path) -> list[Path]:
    """Writes the configs in standardized scale, which differ from control in the loss alone."""
    control = json.loads((ROOT / "configs" / "control.json").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, (on_mean, on_std) in KINDS.items():
        for weight in WEIGHTS:
            name = standardized(kind, weight)
            loss = {"scale": "standardized", "mean_weight": on_mean * weight, "std_weight": on_std * weight}
            notes = f"Penalty in standardized units on {kind}, weight {weight:g}."
            content = control | {"name": name, "notes": notes, "loss": control["loss"] | loss}
            paths.append(folder / f"{name}.json")
            paths[-1].write_text(json.dumps(content, indent=2), encoding="utf-8")
    return paths


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean and half of its 95 % interval, by Student's t."""
    mean, _, high = mean_interval(values)
    return mean, high - mean


def differences(results: pd.DataFrame, config: str, metric: str, split: str) -> np.ndarray:
    """A config's metric minus control's, a number a seed."""
    by_seed = results.pivot(index="seed", columns="config", values=f"{split}/{metric}")
    return (by_seed[config] - by_seed["control"]).dropna().to_numpy()


def table(results: pd.DataFrame, configs: list[str], baselines: dict[str, dict], split: str) -> str:
    """A row a config: mean over seeds, and, in brackets, the difference from control."""
    lines = [f"| {split} | " + " | ".join(title for title, _, _ in COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    for config in configs:
        cells = []
        for metric, (_, factor, spec) in COLUMNS.items():
            values = factor * results.loc[results["config"] == config, f"{split}/{metric}"]
            if config == "control":
                mean, half = interval(values.to_numpy())
                cells.append(f"{mean:{spec}} ± {half:{spec}}")
            else:
                mean, half = interval(factor * differences(results, config, metric, split))
                mark = " *" if abs(mean) > half else ""
                cells.append(f"{values.mean():{spec}} ({mean:+{spec}} ± {half:{spec}}{mark})")
        lines.append(f"| {config} | " + " | ".join(cells) + " |")
    for name, metrics in baselines.items():
        cells = [
            format(factor * metrics[metric], spec) if metrics.get(metric) is not None else "-"
            for metric, (_, factor, spec) in COLUMNS.items()
        ]
        lines.append(f"| {name} (baseline) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def costs(results: pd.DataFrame, configs: list[str]) -> str:
    """A row a config, for each split: change of sigma, of pinball, and pinball paid for a basis point."""
    lines = ["| minus control |", "|---|"]
    for split in SPLITS:
        lines[0] += f" {split}: sigma, bp | pinball, % | % for a bp |"
        lines[1] += "---|---|---|"
    for config in configs:
        line = f"| {config} |"
        for split in SPLITS:
            sigma = 1e4 * differences(results, config, "sigma", split)
            base = results.loc[results["config"] == "control", f"{split}/pinball"].mean()
            pinball = 100 * differences(results, config, "pinball", split) / base
            cells = ["{:+.2f} ± {:.2f}".format(*interval(values)) for values in (sigma, pinball)]
            change, half = interval(sigma)
            cost = f"{pinball.mean() / change:+.3f}" if abs(change) > half else "-"
            line += f" {cells[0]} | {cells[1]} | {cost} |"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Trains, unless the sweep has ended, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder for the configs and the sweep")
    parser.add_argument("--dataset", default="embedded", help="embedded, or the folder of a built panel")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--on", metavar="CLUSTER", help="a Ray cluster, as for tftjax sweep")
    arguments = parser.parse_args()
    sweep = SweepDirectory(arguments.runs / "sweep")
    if not sweep.results.exists():
        paths = [ROOT / "configs" / f"{name}.json" for name in NINE]
        command = [sys.executable, "-m", "tftjax.sweep", *map(str, paths)]
        command += [*map(str, write_configs(arguments.runs / "configs")), "--seeds", str(arguments.seeds)]
        command += ["--runs", str(arguments.runs), "--resume"]
        for setting in (f"data.dataset={arguments.dataset}", *arguments.set):
            command += ["--set", setting]
        command += ["--on", arguments.on] if arguments.on else []
        subprocess.run(command, check=True)
    results = pd.read_csv(sweep.results)
    above = {  # the share of random forecasts of the same spread
        f"{split}/above_chance": results[f"{split}/quality/HEALTHY"]
        - results[f"{split}/quality_random/HEALTHY"]
        for split in SPLITS
    }
    results = pd.concat([results, pd.DataFrame(above)], axis=1)
    first = sweep.member(results["member"].iloc[0])
    metrics = json.loads(first.evaluation.metrics.read_text(encoding="utf-8"))
    print(f"epochs: {results['epochs'].describe()[['min', '50%', 'max']].to_dict()}\n")
    others = [standardized(kind, weight) for kind in KINDS for weight in WEIGHTS]
    for split in SPLITS:
        print(table(results, list(NINE), metrics[split]["baselines"], split), end="\n\n")
        print(table(results, ["control", *others], {}, split), end="\n\n")
    print(costs(results, others))


if __name__ == "__main__":
    main()
