"""A search with pruning beside random search of the same time: `python bench/tune.py`.

Embedded data, a small network, a space of six floats. Each repetition, from a seed of its own, first searches
with pruning, then trains as many random trials to their end as take as many epochs, in the same compiled
program. Prints a line a repetition on standard error and a summary on standard output; the ratios are of
things run one after the other on the same machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.weight_decay": {"low": 1e-6, "high": 1.0, "log": True},
    "train.max_grad_norm": {"low": 0.01, "high": 10.0, "log": True},
    "model.dropout_rate": {"low": 0.0, "high": 0.6},
    "loss.std_weight": {"low": 0.01, "high": 10.0, "log": True},
    "loss.crossing_weight": {"low": 0.0, "high": 1.0},
}
SETTINGS = (
    "model.hidden_size=8",
    "model.encoder_length=10",
    "train.batch_size=256",
    "train.optimizer=adamw",
    "train.checkpoint_every=1000",
    "train.patience=1000",
)


def measure(search, folder: Path, trials: int, panel) -> dict[str, float]:
    """Runs a search: its best loss, its epochs over all trials and seeds, its seconds."""
    import pandas as pd

    from tftjax.sweep.tune.run import tune

    started = time.perf_counter()
    tune(search, folder, trials=trials, panel=panel, quiet=True)
    seconds = time.perf_counter() - started
    table = pd.read_csv(folder / "trials.csv")
    best = float(table.loc[table["state"] == "complete", "pinball"].min())
    return {"best": best, "epochs": int(table["epochs"].sum()), "seconds": seconds, "trials": trials}


def main() -> None:
    """Compares both searches, repetition by repetition."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pruner", default="median")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--full", action="store_true", help="train as many trials to their end, too")
    arguments = parser.parse_args()

    from tftjax import runtime

    runtime.configure()
    from tftjax.config.loading import load
    from tftjax.data.loading import load_panel
    from tftjax.sweep.tune.folder import Search

    epochs, rows = arguments.epochs, []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(arguments.repetitions + 1):
            settings = [*SETTINGS, f"train.max_epochs={epochs}", f"train.seed={42 + 100 * number}"]
            config = load(ROOT / "configs/control.json", settings)
            panel, folder = load_panel(config.data), Path(temporary)
            pruned = Search(config, SPACE, arguments.seeds, arguments.sampler, arguments.pruner)
            if number == 0:  # fills the compilation cache
                measure(pruned, folder / "first", 1, panel)
                continue
            ours = measure(pruned, folder / f"{number}-pruned", arguments.trials, panel)
            same_time = max(1, round(ours["epochs"] / epochs))
            random = pruned._replace(sampler="random", pruner="none")
            other = measure(random, folder / f"{number}-random", same_time, panel)
            row = {
                "share_of_epochs": ours["epochs"] / (epochs * arguments.trials),
                "best": ours["best"] * 1e3,
                "best_of_random": other["best"] * 1e3,
                "random_trials": same_time,
                "seconds": ours["seconds"],
                "seconds_of_random": other["seconds"],
            }
            if arguments.full:
                full = measure(random, folder / f"{number}-full", arguments.trials, panel)
                row |= {"seconds_of_full": full["seconds"], "best_of_full": full["best"] * 1e3}
            rows.append(row)
            print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr, flush=True)
    wins = sum(row["best"] < row["best_of_random"] for row in rows)
    summary = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    print(json.dumps({"wins": wins, "of": len(rows), "medians": summary} | vars(arguments)))


if __name__ == "__main__":
    main()
