"""A walk-forward's results for reading: summary.md."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from tftjax.evaluate.formatting import SHOWN, Shown, line, p_text
from tftjax.evaluate.metrics import flatten
from tftjax.evaluate.significance import MIN_DAYS
from tftjax.evaluate.verdict import verdict
from tftjax.sweep.results import number
from tftjax.walkforward.pool import Pool, Pooled, baselines_of, headlines

EXCESS = Shown("directional_excess", "minus base rate, points", 100, 1)
TAIL = 0.1  # levels up to it, and from 1 minus it on, are the tails
QUARTERS = ("calm centre", "calm tails", "stormy centre", "stormy tails")


def reference(forecasts: Sequence[Pooled], metrics: Mapping[str, dict]) -> Pooled:
    """The baseline of the lowest pinball loss over all folds: the hardest one to beat."""
    return min(baselines_of(forecasts).values(), key=lambda pooled: metrics[pooled.name]["pinball"])


def markdown(
    pool: Pool,
    forecasts: Sequence[Pooled],
    metrics: Mapping[str, dict],
    gains: pd.DataFrame,
    folds: pd.DataFrame,
) -> str:
    """The summary for reading."""
    shown, best = headlines(forecasts), reference(forecasts, metrics)
    first, last = (f"{pool.dates[place].date()}" for place in (pool.dates.argmin(), pool.dates.argmax()))
    days = len(pool.dates.unique())
    lines = [
        f"# Walk-forward: {len(pool.folds)} folds, {days} test days from {first} to {last}",
        "",
        "Every fold trains anew on its own years, and baselines are estimated on the same train rows. The "
        "order is that of the command, and nothing was chosen by a test row. An ensemble is the mean of its "
        "seeds' quantiles, level by level.",
        "",
        *(f"- **{pooled.name}** {verdict(metrics[pooled.name])}" for pooled in shown),
        "",
        "## All test days together",
        "",
        *_pooled_lines(forecasts, metrics),
        "",
        "## Gain over each baseline",
        "",
        "Percent of the baseline's pinball loss, and p of Diebold and Mariano's test. Above 0 is better than "
        "the baseline.",
        "",
        *_gain_lines(shown, list(baselines_of(forecasts)), gains),
        "",
        "## Where the gain comes from",
        "",
        f"Stormy: {pool.volatility_name} the day before above its median over these days. Tails: levels up "
        f"to {TAIL:g} and from {1 - TAIL:g} on. What each part adds to the gain, in percent of the "
        "baseline's whole pinball loss (p): the parts sum to the gain.",
        "",
        *_part_lines(shown, asked(baselines_of(forecasts), best.name), gains),
        "",
        "## Folds",
        "",
        f"Gain over {best.name}, the best baseline over all folds, in percent of its pinball loss there.",
        "",
        *_fold_lines(pool, shown, best, folds, "pinball"),
        "",
        "Direction right, %; the base rate is the share of the more frequent sign, known in hindsight only.",
        "",
        *_fold_lines(pool, shown, best, folds, "directional_accuracy"),
    ]
    if days < MIN_DAYS:
        lines.insert(2, f"{days} days are too few for a test, which takes {MIN_DAYS}: no p is given.\n")
    return "\n".join(lines) + "\n"


def _header(names: Sequence[str]) -> list[str]:
    return [line("", names), "|---" * (len(names) + 1) + "|"]


def _pooled_lines(forecasts: Sequence[Pooled], metrics: Mapping[str, dict]) -> Iterator[str]:
    """Means over seeds ± their standard error, ensembles, baselines."""
    flat = {name: flatten(values) for name, values in metrics.items()}
    shown = [s for s in (*SHOWN, EXCESS) if any(s.metric in values for values in flat.values())]
    yield from _header([s.title for s in shown])
    for headline in headlines(forecasts):
        names = [p.name for p in forecasts if p.kind == "seed" and p.config == headline.config]
        if len(names) > 1:
            cells = [_mean_cell([flat[name].get(s.metric) for name in names], s) for s in shown]
            yield line(f"{headline.config}, mean of {len(names)} seeds", cells)
        yield line(headline.name, [number(flat[headline.name].get(s.metric), s) for s in shown])
    for name in baselines_of(forecasts):
        yield line(f"{name} (baseline)", [number(flat[name].get(s.metric), s) for s in shown])


def _mean_cell(values: Sequence[float | None], shown: Shown) -> str:
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return "-"
    error = float(np.std(there, ddof=1)) / math.sqrt(len(there))
    return f"{number(float(np.mean(there)), shown)} ± {number(error, shown)}"


def _gain_cell(row: pd.Series, whole: float) -> str:
    p = "" if pd.isna(row["p"]) else f" ({p_text(row['p'])})"
    return f"{-100 * row['difference'] / whole:+.2f}{p}"


def _gain_lines(shown: Sequence[Pooled], baselines: Sequence[str], gains: pd.DataFrame) -> Iterator[str]:
    yield from _header(baselines)
    rows = gains[gains["part"] == "all"].set_index(["forecast", "baseline"])
    for pooled in shown:
        own = [rows.loc[(pooled.name, name)] for name in baselines]
        yield line(pooled.name, [_gain_cell(row, row["baseline_pinball"]) for row in own])


def asked(known: Collection[str], hardest: str) -> list[str]:
    """The baselines by which a gain is taken apart: the hardest, and the two that a model must beat."""
    return list(dict.fromkeys(n for n in (hardest, "vix_scaled", "gjr_garch") if n in known))


def _part_lines(shown: Sequence[Pooled], baselines: Sequence[str], gains: pd.DataFrame) -> Iterator[str]:
    there = [part for part in ("all", *QUARTERS) if part in set(gains["part"])]
    rows = gains.set_index(["forecast", "baseline", "part"])
    yield from _header(["over", *there])
    for pooled in shown:
        for name in baselines:
            whole = rows.loc[(pooled.name, name, "all")]["baseline_pinball"]
            cells = [_gain_cell(rows.loc[(pooled.name, name, part)], whole) for part in there]
            yield line(pooled.name, [name, *cells])


def _fold_lines(
    pool: Pool, shown: Sequence[Pooled], best: Pooled, folds: pd.DataFrame, metric: str
) -> Iterator[str]:
    """A row a fold: what does not depend on the forecast, then a column a forecast."""
    rows = folds.set_index(["fold", "forecast"])
    is_loss = metric == "pinball"
    beside = f"{best.name}, 1e-3" if is_loss else "base rate"
    yield from _header(["test windows", beside, *(pooled.name for pooled in shown)])
    for fold in pool.folds:
        known = rows.loc[(fold.name, best.name)]
        values = [rows.loc[(fold.name, pooled.name)].get(metric) for pooled in shown]
        if is_loss:
            cells = [f"{1e3 * known[metric]:.4f}"]
            cells += [f"{100 * (1 - value / known[metric]):+.2f}" for value in values]
        else:
            cells = [_percent(known.get("directional_base_rate")), *map(_percent, values)]
        yield line(fold.name, [str(fold.facts["test_windows"]), *cells])


def _percent(share: float | None) -> str:
    return "-" if share is None or pd.isna(share) else f"{100 * share:.1f}"
