"""Tables of what a run selects and attends to in all its windows.

RUN/interpretation/:
importance.csv            a row a split, kind of input and variable: selection weight, mean and percentiles
                          over windows, and the mean in each regime
importance_over_time.csv  a row a window: the selection weight of each variable
attention_by_lag.csv      a row a split, horizon and step: attention, mean and percentiles over windows (the
                          persistent temporal patterns of section 7.2, Lim et al. 2021), and each head's mean
attention_over_time.csv   a row a window and horizon: attention to each step
heads_over_time.csv       a row a window, horizon and head: mean lag and entropy of its attention
regime_shift.csv          a row a window: distance of its attention from the series' mean pattern (sec. 7.3)
variants.csv              the learned weights of staleness and the gates of regimes, where there are any
summary.json              by split: attention and recency, windows by regime, the largest error of a sum
and a picture of each. Dates are those of the first step that is forecast; step 0 is the last encoder row.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax import files
from tftjax.data.splits import Splits
from tftjax.errors import UserError
from tftjax.evaluate.scoring import Division, divisions
from tftjax.interpret.weights import Weights, attention_summary, collect, lags_of, learned, regime_shift
from tftjax.storage import runs
from tftjax.storage.directories import InterpretationDirectory, RunDirectory, make

PERCENTILES = (10, 50, 90)
KINDS = ("static", "encoder", "decoder")


def interpret(run: runs.Run) -> dict[str, dict]:
    """Writes tables and pictures of a run's weights under `interpretation/`; returns summary.json.

    Raises:
      UserError: a final fit, weights that do not sum to 1, or files that cannot be written.
    """
    runs.check_judged(run.directory)
    directory = RunDirectory(run.directory).interpretation
    make(directory.path)
    starts = {split: run.data.starts[split] for split in Splits._fields if len(run.data.starts[split])}
    weights = {split: collect(run, rows) for split, rows in starts.items()}
    named = {split: _divisions(run, starts[split], values) for split, values in weights.items()}
    windows = pd.concat([_windows(run, split, rows) for split, rows in starts.items()], ignore_index=True)
    shift = windows.assign(distance=_shift(windows, weights))
    tables = {
        "importance": _importance(run, weights, named),
        "importance_over_time": windows.join(_importance_over_time(run, weights)),
        "attention_by_lag": _attention_by_lag(run, weights),
        "attention_over_time": _attention_over_time(run, windows, weights),
        "heads_over_time": _heads_over_time(run, windows, weights),
        "regime_shift": shift,
    }
    variants = learned(run.config, run.data.panel.observed, run.data.encoding.usual_ages, run.parameters)
    if variants:
        tables["variants"] = pd.DataFrame(variants)
    summary = {
        split: {
            "windows": len(starts[split]),
            **attention_summary(run, collected.attention),
            "largest_error_of_a_sum": collected.largest_error,
            "regimes": {d.name: _counts(d) for d in named[split]},
        }
        for split, collected in weights.items()
    }
    for name, table in tables.items():
        write = partial(table.to_csv, index=False, float_format="%.6g")
        files.replace_file(directory.table(name), write)
    files.write_json(directory.summary, summary)
    _draw(run, directory, tables)
    return summary


def _windows(run: runs.Run, split: str, starts: np.ndarray) -> pd.DataFrame:
    """The date of each window's first forecast, its split, and its series if there are several."""
    frame, id_column = run.data.panel.frame, run.data.panel.id_column
    rows = starts + run.config.model.encoder_length
    table = pd.DataFrame({"date": frame.index[rows].strftime("%Y-%m-%d"), "split": split})
    return table if id_column is None else table.assign(series=frame[id_column].to_numpy()[rows])


def _divisions(run: runs.Run, starts: np.ndarray, weights: Weights) -> list[Division]:
    """The divisions of `evaluate/scoring.py`, and by the most probable regime of a router."""
    divided = divisions(run, starts + run.config.model.encoder_length - 1)
    if run.config.model.attention.regime.by == "router":
        labels = tuple(f"regime {number + 1}" for number in range(weights.regime.shape[1]))
        divided.append(Division("router", labels, weights.regime.argmax(axis=1)))
    return divided


def _counts(division: Division) -> dict[str, int]:
    counts = np.bincount(division.regime, minlength=len(division.labels))
    return dict(zip(division.labels, counts.tolist(), strict=True))


def variable_names(run: runs.Run) -> dict[str, tuple[str, ...]]:
    """The variables of each kind, in the order of their weights."""
    panel = run.data.panel
    known = panel.known_real + panel.known_categorical
    static = panel.static_real + panel.static_categorical
    return {
        "static": static,
        "encoder": panel.observed + panel.observed_categorical + known,
        "decoder": known,
    }


def _importance(run: runs.Run, weights: dict[str, Weights], named: dict[str, list[Division]]) -> pd.DataFrame:
    rows = []
    for split, collected in weights.items():
        for kind in KINDS:
            selection = getattr(collected, kind)
            for number, name in enumerate(variable_names(run)[kind] if selection is not None else ()):
                values = selection[:, number]
                row = {"split": split, "kind": kind, "variable": name, "mean": values.mean()}
                row |= {f"p{p}": value for p, value in zip(PERCENTILES, _percentiles(values), strict=True)}
                for division in named[split]:
                    for regime, label in enumerate(division.labels):
                        chosen = values[division.regime == regime]
                        row[f"{division.name}: {label}"] = chosen.mean() if len(chosen) else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


def _percentiles(values: np.ndarray) -> np.ndarray:
    return np.percentile(values, PERCENTILES, axis=0)


def _importance_over_time(run: runs.Run, weights: dict[str, Weights]) -> pd.DataFrame:
    columns = {}
    for kind in KINDS:
        parts = [getattr(collected, kind) for collected in weights.values()]
        if parts[0] is not None:
            values = np.concatenate(parts)
            columns |= {f"{kind}: {name}": values[:, i] for i, name in enumerate(variable_names(run)[kind])}
    return pd.DataFrame(columns)


def _steps(run: runs.Run) -> np.ndarray:
    """The number of each step: 0 for the last encoder row, 1 for the first step forecast."""
    config = run.config.model
    return np.arange(config.encoder_length + config.prediction_length) - config.encoder_length + 1


def _attention_by_lag(run: runs.Run, weights: dict[str, Weights]) -> pd.DataFrame:
    steps = _steps(run)
    lags = lags_of(run.config.model.encoder_length, run.config.model.prediction_length)
    parts = []
    for split, collected in weights.items():
        for p in range(run.config.model.prediction_length):
            columns = {"split": split, "horizon": p + 1, "step": steps, "lag": lags[p]}
            columns["mean"] = collected.attention[:, p].mean(axis=0)
            percentiles = _percentiles(collected.attention[:, p])
            columns |= {f"p{q}": values for q, values in zip(PERCENTILES, percentiles, strict=True)}
            columns |= {f"head {h + 1}": head[p] for h, head in enumerate(collected.head_attention)}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts)


def _attention_over_time(run: runs.Run, windows: pd.DataFrame, weights: dict[str, Weights]) -> pd.DataFrame:
    attention = np.concatenate([collected.attention for collected in weights.values()])
    values = attention.reshape(-1, attention.shape[-1])
    return _by_horizon(run, windows).join(pd.DataFrame(values, columns=[str(step) for step in _steps(run)]))


def _by_horizon(run: runs.Run, windows: pd.DataFrame) -> pd.DataFrame:
    """Each window's row once a horizon."""
    count = run.config.model.prediction_length
    repeated = windows.loc[windows.index.repeat(count)].reset_index(drop=True)
    return repeated.assign(horizon=np.tile(np.arange(1, count + 1), len(windows)))


def _heads_over_time(run: runs.Run, windows: pd.DataFrame, weights: dict[str, Weights]) -> pd.DataFrame:
    lags, entropies = (
        np.concatenate([getattr(collected, name) for collected in weights.values()]).swapaxes(1, 2)
        for name in ("head_lags", "head_entropies")
    )
    num_heads = run.config.model.num_heads
    table = _by_horizon(run, windows)
    table = table.loc[table.index.repeat(num_heads)].reset_index(drop=True)
    heads = np.tile(np.arange(1, num_heads + 1), len(table) // num_heads)
    return table.assign(head=heads, mean_lag=lags.ravel(), entropy=entropies.ravel())


def _shift(windows: pd.DataFrame, weights: dict[str, Weights]) -> Float[np.ndarray, " W"]:
    attention = np.concatenate([collected.attention for collected in weights.values()])
    result = np.zeros(len(windows))
    series = windows["series"] if "series" in windows else pd.Series("", index=windows.index)
    for rows in series.groupby(series, sort=False).indices.values():
        result[rows] = regime_shift(attention[rows])
    return result


def _draw(run: runs.Run, directory: InterpretationDirectory, tables: dict[str, pd.DataFrame]) -> None:
    from tftjax.plots import interpretation

    interpretation.draw(directory.path, run.config.name, tables)


def table_of(summaries: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A table for the terminal: the attention of each run and split, and its recency."""
    width = max(12, *(len(name) for name in summaries)) + 8
    lines = [f"{'':{width}}{'recency corr':>14}{'mean lag':>10}{'own step':>10}{'steps':>8}{'windows':>9}"]
    for name, summary in summaries.items():
        for split, numbers in summary.items():
            correlation = numbers.get("recency_correlation")
            correlation_text = "-" if correlation is None else f"{correlation:+.3f}"
            lines.append(
                f"{name + ' ' + split:{width}}{correlation_text:>14}{numbers['mean_lag']:10.2f}"
                f"{100 * numbers['own_step']:8.1f} %{numbers['effective_steps']:8.1f}{numbers['windows']:9}"
            )
    return "\n".join(
        [
            *lines,
            "recency corr: of the attention with the steps' order; near 1 it looks at how recent a step is, "
            "whatever the step holds. own step: share of the step forecast; steps: exp(entropy)",
        ]
    )


# Tables that are read, and the columns that are needed, as `files.read_csv` takes them.
READ = {
    "importance": {"texts": ("split", "kind", "variable"), "numbers": ("mean", "p10", "p90")},
    "attention_by_lag": {"texts": ("split",), "numbers": ("horizon", "step", "mean", "p10", "p90")},
}


def read_interpretation(directory: Path) -> dict[str, pd.DataFrame]:
    """Reads a run's tables for the report, test rows only; those that have not been made are left out.

    Raises:
      UserError: a table is damaged.
    """
    tables = {}
    for name in READ:
        if RunDirectory(directory).interpretation.table(name).is_file():
            table, columns = read_table(directory, name), READ[name]
            tables[name] = table.loc[table["split"] == "test", [*columns["texts"], *columns["numbers"]]]
    return tables


def read_table(directory: Path, name: str) -> pd.DataFrame:
    """Reads one of the tables in READ.

    Raises:
      UserError: it is missing or damaged.
    """
    path = RunDirectory(directory).interpretation.table(name)
    remedy = f"Make it anew: tftjax interpret {directory}"
    table = files.read_csv(path, remedy, **READ[name])
    if table["mean"].isna().any() or not table.get("horizon", pd.Series([1])).eq(1).any():
        raise UserError(f"{path}: damaged: found no mean, or no row of the first horizon. {remedy}")
    return table
