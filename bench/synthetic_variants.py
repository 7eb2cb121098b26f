"""Attention variants on made-up data with a known answer: `python bench/synthetic_variants.py TASK`.

staleness: two monthly columns; one tells of the next return only until it has half its usual age, the other
always. The variant `variable_selection` should learn a penalty on the age of the first and none for the
other.

regime: a return follows a signal with one sign in calm times and the other in stormy ones, told by a
threshold on an observed column that the baseline sees as well. Gates by regime should forecast better. The
signal is the mean of ten rows; in regime_last_row it is that of the last row, which need not be attended to.

Seeds are members of one program. Prints a table on standard error, and one line of JSON on standard output.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from seeds import seeds_of, train_seeds

from tftjax import runtime
from tftjax.config.loading import Config
from tftjax.data.panel import Panel, make_panel
from tftjax.data.prepared import Data, cardinalities, prepare
from tftjax.evaluate.metrics import pinball
from tftjax.interpret.weights import attention_summary, collect, learned
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model, to_tree
from tftjax.storage import runs

ROWS = 3000
UNIT = 0.01  # of returns
MONTH = 21  # rows
CONFIG = {
    "model": {"hidden_size": 8, "num_heads": 2, "encoder_length": 10, "dropout_rate": 0.05},
    "train": {"batch_size": 64, "learning_rate": 0.003, "max_grad_norm": 1.0},
}
STALENESS = {"mode": "variable_selection", "decay": "linear", "weight": 0.5, "gradient_scale": 10.0}
REGIME = {"by": "thresholds", "column": "stress", "thresholds": [0.0], "gradient_scale": 30.0}


def autoregressive(rng: np.random.Generator, count: int, persistence: float) -> np.ndarray:
    """Normal values of variance 1 with that correlation between neighbours."""
    values = rng.standard_normal(count)
    for row in range(1, count):
        values[row] = persistence * values[row - 1] + np.sqrt(1 - persistence**2) * values[row]
    return values


def monthly(rng: np.random.Generator, first: int, persistence: float) -> tuple[np.ndarray, np.ndarray]:
    """A value a month, and the rows since its release."""
    age, number = (np.arange(ROWS) + first) % MONTH, (np.arange(ROWS) + first) // MONTH
    return autoregressive(rng, number[-1] + 1, persistence)[number], age


def staleness_panel(seed: int) -> Panel:
    """Returns that follow `fading` while it is fresh, and `lasting` at any age."""
    rng = np.random.default_rng(seed)
    fading, fading_age = monthly(rng, 0, 0.0)
    lasting, lasting_age = monthly(rng, 10, 0.9)
    known = 0.7 * fading * (fading_age <= MONTH // 4) + 0.7 * lasting
    returns = UNIT * (0.5 * rng.standard_normal(ROWS) + np.append(0, known[:-1]))
    index = pd.bdate_range("2000-01-03", periods=ROWS, name="date")
    columns = {"y": returns, "fading": fading, "lasting": lasting}
    ages = pd.DataFrame({"fading": fading_age, "lasting": lasting_age}, index=index, dtype=float)
    frame = pd.DataFrame(columns, index=index)
    return make_panel(frame, target="y", observed=tuple(columns), staleness=ages)


def regime_panel(momentum: int, seed: int) -> Panel:
    """Returns that follow the mean of the last signals where `stress` is below 0, its opposite elsewhere."""
    rng = np.random.default_rng(seed)
    stress, signal = autoregressive(rng, ROWS, 0.95), rng.standard_normal(ROWS)
    followed = np.convolve(signal, np.ones(momentum))[:ROWS] / np.sqrt(momentum)
    known = np.where(stress > 0, -1.0, 1.0) * followed
    returns = UNIT * (0.5 * rng.standard_normal(ROWS) + 0.7 * np.append(0, known[:-1]))
    index = pd.bdate_range("2000-01-03", periods=ROWS, name="date")
    columns = {"y": returns, "signal": signal, "stress": stress}
    return make_panel(pd.DataFrame(columns, index=index), target="y", observed=tuple(columns))


def train(panel: Panel, raw: dict, epochs: int, seeds: int) -> list[dict]:
    """Trains seeds side by side; for each the test pinball at its best epoch and the learned numbers."""
    configs = seeds_of(raw, seeds)
    data = prepare(panel, configs[0])
    states, layout = train_seeds(configs, data, epochs)
    return [_outcome(config, data, state, layout) for config, state in zip(configs, states, strict=True)]


def _outcome(config: Config, data: Data, state, layout) -> dict:
    model = build_model(config, *cardinalities(data.panel, data.encoding))
    parameters = to_tree(state.best_params, layout)
    starts = data.starts["test"]
    forecast = forecast_rows(model, parameters, data.series, starts)
    rows = starts[:, None] + config.model.encoder_length
    target = data.panel.frame[data.panel.target].to_numpy()[rows]
    # The variant's parameters in the end, not at the best epoch, which may be an early one.
    last = to_tree(state.params, layout)
    numbers = learned(config, data.panel.observed, data.encoding.usual_ages, last)
    best = runs.Run(Path(), config, data, parameters, int(state.best_epoch))
    return {
        **attention_summary(best, collect(best, starts).attention),
        "pinball": pinball(forecast, target, config.model.quantiles),
        "best_epoch": int(state.best_epoch),
        "learned": {row["of"]: row["value"] for row in numbers},
    }


def compare(panel: Panel, variants: dict[str, dict], epochs: int, seeds: int) -> dict[str, list[dict]]:
    """Trains the baseline and the variants on the same panel, and prints their outcomes."""
    outcomes = {}
    for name, attention in variants.items():
        raw = CONFIG | {"model": CONFIG["model"] | {"attention": attention}}
        outcomes[name] = train(panel, raw, epochs, seeds)
        pairs = zip(outcomes[name], outcomes["baseline"], strict=True)
        scores = [1e3 * outcome["pinball"] for outcome in outcomes[name]]
        differences = [1e3 * (outcome["pinball"] - baseline["pinball"]) for outcome, baseline in pairs]
        line = f"{name:28} pinball {statistics.mean(scores):.4f}e-3"
        line += f" [{min(scores):.4f}, {max(scores):.4f}]"
        line += f"  minus baseline {statistics.mean(differences):+.4f}"
        line += f" [{min(differences):+.4f}, {max(differences):+.4f}]"
        recency = statistics.mean(outcome["recency_correlation"] for outcome in outcomes[name])
        own_step = statistics.mean(outcome["own_step"] for outcome in outcomes[name])
        line += f"  attention: recency {recency:+.2f}, own step {100 * own_step:.0f} %"
        print(line, file=sys.stderr)
        for learned_name in outcomes[name][0]["learned"]:
            values = ", ".join(f"{outcome['learned'][learned_name]:.3f}" for outcome in outcomes[name])
            print(f"    {learned_name}: {values}", file=sys.stderr, flush=True)
    return outcomes


GATES = {
    "baseline": {},
    "thresholds": {"regime": REGIME},
    "thresholds, renormalised": {"regime": REGIME | {"renormalise": True}},
    "router": {"regime": {"by": "router", "gradient_scale": 30.0, "balance_weight": 0.1}},
}
TASKS: dict[str, tuple[Callable[[int], Panel], dict[str, dict]]] = {
    "staleness": (
        staleness_panel,
        {
            "baseline": {},
            "variable_selection": {"staleness": STALENESS},
            "attention": {"staleness": STALENESS | {"mode": "attention", "scale": 10.0}},
        },
    ),
    "regime": (partial(regime_panel, 10), GATES),
    "regime_last_row": (partial(regime_panel, 1), GATES),
}


def main() -> None:
    """Runs one of the tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--data-seed", type=int, default=1, help="another draw of the series")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    runtime.configure()
    make, variants = TASKS[arguments.task]
    print(json.dumps(compare(make(arguments.data_seed), variants, arguments.epochs, arguments.seeds)))


if __name__ == "__main__":
    main()
