"""What a sweep found: a table of members, a summary by config, pictures.

results.csv   a row a member: settings that vary, and all metrics of validation and test
ensembles.csv a row a config of several seeds: all metrics of their ensemble
summary.csv   a row a config, split and metric: mean, standard error, paired difference from the reference
summary.md    the same for reading, configs ranked on validation pinball; test never ranks
metrics.png   the metrics by config; response.png the penalties' weights against sigma and pinball
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tftjax import files
from tftjax.config.loading import settings
from tftjax.evaluate.formatting import SHOWN, Shown, line
from tftjax.evaluate.metrics import flatten
from tftjax.evaluate.scoring import SPLITS
from tftjax.evaluate.significance import bootstrap
from tftjax.storage.directories import SweepDirectory
from tftjax.sweep.ensembles import title
from tftjax.sweep.members import Ended
from tftjax.sweep.plan import Member, varied_settings


def results_table(
    members: Sequence[Member], ended: Mapping[str, Ended], metrics: Mapping[str, dict]
) -> pd.DataFrame:
    """A row a member, in the order of the plan.

    Args:
      metrics: by name of a member, what `evaluate` returned; a diverged member has none.
    """
    keys = varied_settings(members)
    rows = []
    for member in members:
        how, own = ended[member.name], settings(member.config)
        row = {"member": member.name, "config": member.group, "seed": member.config.train.seed}
        row |= {"status": how.status, "epochs": how.epoch, "best_epoch": how.best_epoch}
        for key in keys:
            row[key] = own[key] if isinstance(own[key], int | float | str) else json.dumps(own[key])
        rows.append(row | flatten(metrics.get(member.name, {})))
    return pd.DataFrame(rows)


def reference_config(results: pd.DataFrame) -> str:
    """The config that others are compared with: control, or else the first."""
    configs = list(dict.fromkeys(results["config"]))
    return "control" if "control" in configs else configs[0]


def ranking(results: pd.DataFrame) -> list[str]:
    """Configs by mean validation pinball, the best first; those without a trained seed are left out."""
    return list(results.groupby("config", sort=False)["val/pinball"].mean().dropna().sort_values().index)


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """A row a config, split and metric, configs as ranked; units as in metrics.json.

    The difference from the reference is the mean over the seeds that both have, seed by seed.
    """
    reference = results[results["config"] == reference_config(results)].set_index("seed")
    rows = []
    for config in ranking(results):
        own = results[results["config"] == config].set_index("seed")
        for split in SPLITS:
            for shown in SHOWN:
                name = f"{split}/{shown.metric}"
                if name not in results:  # quantiles without an 80 % interval
                    continue
                values = own[name].dropna()
                error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
                row = {"config": config, "split": split, "metric": shown.metric, "seeds": len(values)}
                row |= {"mean": values.mean(), "standard_error": error}
                pairs = (own[name] - reference[name]).dropna()
                if config != reference_config(results) and len(pairs):
                    difference = bootstrap(pairs.to_numpy())
                    row |= {"pairs": len(pairs), "difference": difference.mean}
                    row |= {"difference_low": difference.low, "difference_high": difference.high}
                rows.append(row)
    columns = ["config", "split", "metric", "seeds", "mean", "standard_error", "pairs", "difference"]
    table = pd.DataFrame(rows, columns=[*columns, "difference_low", "difference_high"])
    return table.astype({"pairs": "Int64"})


def markdown(
    results: pd.DataFrame,
    summary: pd.DataFrame,
    baselines: Mapping[str, Mapping[str, dict]],
    averaged: Mapping[str, Mapping[str, dict]],
) -> str:
    """The summary for reading: by split a table of means and one of differences.

    Args:
      averaged: by config and split, the metrics of its ensemble.
      baselines: by split and name, their metrics.
    """
    reference = reference_config(results)
    lost = results[results["val/pinball"].isna()]["member"].tolist()
    lines = [
        "# What the sweep found",
        "",
        "Configs are ranked by mean validation pinball; test rows rank nothing. ± is the standard error over "
        f"seeds. Differences are from `{reference}`, seed by seed, with 95 % bootstrap intervals over seeds, "
        "which are too narrow with few seeds (at five, by about a third): an interval that just excludes 0 "
        "shows little. The more configs, the more of them exclude 0 by chance.",
    ]
    if averaged:
        lines += ["", "An ensemble is the mean of the seeds' quantiles, level by level: one forecast."]
    if lost:
        lines += ["", f"Diverged, and left out: {', '.join(lost)}."]
    for split in SPLITS:
        present = [s for s in SHOWN if f"{split}/{s.metric}" in results]
        header = [f"| {{}} | {' | '.join(s.title for s in present)} |", "|---" * (len(present) + 1) + "|"]
        own = summary[summary["split"] == split]
        means = []
        for config, rows in own.groupby("config", sort=False):
            count = int(rows["seeds"].max())
            means.append(line(f"{config}, {_seeds(count)}", [_mean_cell(rows, s) for s in present]))
            if config in averaged:
                values = flatten(averaged[config][split])
                cells = [number(values.get(shown.metric), shown) for shown in present]
                means.append(line(title(config, count), cells))
        means += [
            line(f"{name} (baseline)", [number(flatten(values).get(s.metric), s) for s in present])
            for name, values in baselines[split].items()
        ]
        differences = [
            line(config, [_difference_cell(rows, s) for s in present])
            for config, rows in own.groupby("config", sort=False)
            if config != reference
        ]
        heading = {"val": "Validation", "test": "Test"}[split]
        lines += ["", f"## {heading}", "", header[0].format("mean ± standard error"), header[1], *means]
        if differences:
            lines += ["", header[0].format(f"minus {reference} [95 %]"), header[1], *differences]
    return "\n".join(lines) + "\n"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def number(value: int | float | None, shown: Shown, sign: str = "") -> str:
    """A value as people read it; "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value * shown.factor:{sign}.{shown.digits}f}"


def _row(rows: pd.DataFrame, shown: Shown) -> pd.Series:
    return rows[rows["metric"] == shown.metric].iloc[0]


def _mean_cell(rows: pd.DataFrame, shown: Shown) -> str:
    row = _row(rows, shown)
    error = number(row["standard_error"], shown)
    return number(row["mean"], shown) + ("" if error == "-" else f" ± {error}")


def _difference_cell(rows: pd.DataFrame, shown: Shown) -> str:
    row = _row(rows, shown)
    low, high = (number(row[f"difference_{bound}"], shown, "+") for bound in ("low", "high"))
    return number(row["difference"], shown, "+") + ("" if low == "-" else f" [{low}, {high}]")


def write_results(
    folder: Path,
    members: Sequence[Member],
    ended: Mapping[str, Ended],
    averaged: Mapping[str, Mapping[str, dict]],
) -> tuple[pd.DataFrame, str | None]:
    """Writes the tables of a sweep whose members have all ended and are evaluated.

    Args:
      averaged: by config and split, the metrics of its ensemble.
    Returns:
      The table of members, and the summary as Markdown, None if every member diverged.
    Raises:
      UserError: a member's evaluation is damaged, or the files cannot be written.
    """
    sweep, metrics = SweepDirectory(folder), {}
    for member in members:
        if ended[member.name].status != "diverged":
            run = sweep.member(member.name)
            remedy = f"Make it anew: python -m tftjax.evaluate {run.path}"
            metrics[member.name] = files.read_json(run.evaluation.metrics, remedy)
    results = results_table(members, ended, metrics)
    files.replace_text(sweep.results, results.to_csv(index=False))
    if not metrics:
        return results, None
    if averaged:
        rows = [{"config": config} | flatten(values) for config, values in averaged.items()]
        files.replace_text(sweep.ensembles_table, pd.DataFrame(rows).to_csv(index=False))
    summary = summarise(results)
    first = next(iter(metrics.values()))
    text = markdown(results, summary, {split: first[split]["baselines"] for split in SPLITS}, averaged)
    files.replace_text(sweep.summary_table, summary.to_csv(index=False))
    files.replace_text(sweep.summary, text)
    return results, text
