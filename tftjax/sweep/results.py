"""Results of a sweep: a table of members, a summary by config, pictures.

results.csv   a row a member: settings that vary, and all metrics of validation and test
ensembles.csv a row a config of several seeds: all metrics of their ensemble
summary.csv   a row a config, split and metric: mean, standard error, paired difference from the reference
summary.md    the config to use, and the same for reading, with all forecasts compared at once; ranked on
              validation pinball, test never ranks
metrics.png   the metrics by config; response.png the penalties' weights against sigma and pinball
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tftjax import files
from tftjax.config.loading import known_keys, settings
from tftjax.errors import UserError, both
from tftjax.evaluate.files import (
    Evaluation,
    check_comparable,
    daily_losses,
    read_baselines,
    read_evaluation,
    read_metrics,
    read_predictions,
)
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.metrics import MetricColumn, columns, flatten
from tftjax.evaluate.scoring import SPLIT_NAMES, SPLITS
from tftjax.evaluate.significance import mean_interval
from tftjax.evaluate.tables import COVERAGE_NOTE, Cell, Summary, Table, at_once, best_of, metric_cells
from tftjax.storage.directories import ForecastDirectory, SweepDirectory
from tftjax.storage.runs import Ended, check_judged
from tftjax.sweep.choice import choice, judged_by, judged_metrics
from tftjax.sweep.ensembles import title
from tftjax.sweep.plan import Member, varied_settings

REMEDY = f"the command that began the sweep, with {both('--resume')}."
Metrics = Mapping[str, Mapping[str, Any]]  # contents of metrics.json, by split


def results_table(
    members: Sequence[Member], ended: Mapping[str, Ended], metrics: Mapping[str, dict]
) -> pd.DataFrame:
    """A row a member, in the order of the plan.

    Args:
      metrics: contents of each member's metrics.json, by its name; a diverged member has none.
    """
    keys = varied_settings(members)
    rows = []
    for member in members:
        outcome, values = ended[member.name], settings(member.config)
        row = {"member": member.name, "config": member.group, "seed": member.config.train.seed}
        row |= {"status": outcome.status, "epochs": outcome.epoch, "best_epoch": outcome.best_epoch}
        for key in keys:
            row[key] = values[key] if isinstance(values[key], int | float | str) else json.dumps(values[key])
        rows.append(row | flatten(metrics.get(member.name, {})))
    return pd.DataFrame(rows)


def reference_config(results: pd.DataFrame) -> str:
    """The config that others are compared with: control, or else the first."""
    configs = list(dict.fromkeys(results["config"]))
    return "control" if "control" in configs else configs[0]


def ranking(results: pd.DataFrame) -> list[str]:
    """Configs by mean validation pinball, the best first; those without a trained seed are left out."""
    return list(results.groupby("config", sort=False)["val/pinball"].mean().dropna().sort_values().index)


def diverged(results: pd.DataFrame) -> list[str]:
    """Names of the members that diverged, which are left out of all means."""
    return results.loc[results["status"] == "diverged", "member"].tolist()


def diverged_text(names: Sequence[str]) -> list[str]:
    """A sentence that names the members that diverged; none without any.

    >>> diverged_text(["control-s1"])
    ['Diverged, and left out: control-s1.']
    """
    return [f"Diverged, and left out: {', '.join(names)}."] if names else []


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """A row a config, split and metric, configs as ranked; units as in metrics.json.

    The difference from the reference is the mean over the seeds that both have, seed by seed, with its 95 %
    t interval over these seeds.
    """
    reference = results[results["config"] == reference_config(results)].set_index("seed")
    rows = []
    for config in ranking(results):
        members = results[results["config"] == config].set_index("seed")
        for split in SPLITS:
            for column in columns(results, f"{split}/"):
                name = f"{split}/{column.metric}"
                values = members[name].dropna()
                error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
                row = {"config": config, "split": split, "metric": column.metric, "seeds": len(values)}
                row |= {"mean": values.mean(), "standard_error": error}
                pairs = (members[name] - reference[name]).dropna()
                if config != reference_config(results) and len(pairs):
                    difference = mean_interval(pairs.to_numpy())
                    row |= {"pairs": len(pairs), "difference": difference.mean}
                    row |= {"difference_low": difference.low, "difference_high": difference.high}
                rows.append(row)
    names = ["config", "split", "metric", "seeds", "mean", "standard_error", "pairs", "difference"]
    names += ["difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=names).astype({"pairs": "Int64"})


def means_table(
    summary: pd.DataFrame,
    metric_columns: Sequence[MetricColumn],
    split: str,
    baselines: Mapping[str, Any],
    averaged: Mapping[str, Metrics],
) -> Table:
    """Means over seeds of each config in one split, under each its ensemble, then the baselines.

    Args:
      summary: what `summarise` returns.
      baselines: metrics of the baselines in the split, by name.
      averaged: metrics of the ensembles, by config and split.
    """
    rows = []  # heading, values, standard errors
    for config, metrics in _by_config(summary, split):
        seeds = int(metrics["seeds"].max())
        heading = Cell(f"{config}, {counted(seeds, 'seed')}", "model")
        rows.append((heading, metrics["mean"].to_dict(), metrics["standard_error"].to_dict()))
        if config in averaged:
            rows.append((Cell(title(config, seeds)), flatten(averaged[config][split]), {}))
    rows += [(Cell(f"{name} (baseline)"), flatten(values), {}) for name, values in baselines.items()]
    ranks = split == "val"
    best = best_of([values for _, values, _ in rows], metric_columns) if ranks else {}
    cells = [
        [heading, *metric_cells(values, metric_columns, best, errors)] for heading, values, errors in rows
    ]
    note = (
        "Configs in the order of their mean pinball loss, under each its ensemble, baselines below; the best"
        " of a column is marked."
        if ranks
        else "In the order of validation: test rows rank nothing."
    )
    head = ("mean ± standard error", *(column.title for column in metric_columns))
    return Table(SPLIT_NAMES[split], head, cells, f"{note} {COVERAGE_NOTE}")


def _by_config(summary: pd.DataFrame, split: str) -> Iterable[tuple[str, pd.DataFrame]]:
    """The rows of each config in a split, by metric."""
    return summary[summary["split"] == split].set_index("metric").groupby("config", sort=False)


def differences_table(
    summary: pd.DataFrame, metric_columns: Sequence[MetricColumn], split: str, reference: str
) -> Table | None:
    """Each config minus the reference in one split, of what `summarise` returns; None of a single config."""
    rows = []
    for config, metrics in _by_config(summary, split):
        if config != reference:
            estimates = metrics[["difference", "difference_low", "difference_high"]]
            cells = [Cell(c.format.estimate(*estimates.loc[c.metric], "+")) for c in metric_columns]
            rows.append([Cell(config), *cells])
    head = ("", *(column.title for column in metric_columns))
    note = (
        "Seed by seed, with 95 % t intervals over seeds. The more configs, the more of them exclude 0 by"
        " chance."
    )
    return Table(f"{SPLIT_NAMES[split]}, minus {reference} [95 %]", head, rows, note) if rows else None


def all_at_once(folder: Path, judges: Mapping[str, str | None], split: str) -> Table | None:
    """Configs and baselines of one split compared all at once.

    None with too few dates, and where configs forecast other rows or levels (`--mixed-data`).

    Args:
      judges: what `judged_by` returns.
    Raises:
      UserError: a forecast cannot be read.
    """
    sweep = SweepDirectory(folder)
    paths = {
        c: (sweep.ensemble(c) if name is None else sweep.member(name)).path for c, name in judges.items()
    }
    remedies = {config: REMEDY if name is None else None for config, name in judges.items()}
    forecasts = {c: read_predictions(path, split, remedies[c]) for c, path in paths.items()}
    first, reference = next(iter(forecasts.items()))
    try:
        for config, other in forecasts.items():
            check_comparable(reference, other, (first, config))
    except UserError:
        return None
    if any(other.quantiles != reference.quantiles for other in forecasts.values()):
        return None
    note = "Of each config its ensemble, or else its first seed."
    if ForecastDirectory(paths[first]).evaluation.baselines.is_file():
        baselines = read_baselines(paths[first], split, reference, remedies[first])
        forecasts |= {f"{n} (baseline)": reference._replace(forecast=f) for n, f in baselines.items()}
    else:
        note += " Of several series no baseline's forecasts are kept: these are the configs alone."
    losses = {name: daily_losses(forecast, "pinball", name) for name, forecast in forecasts.items()}
    return at_once(f"{SPLIT_NAMES[split]}, all at once", pd.DataFrame(losses), list(paths), note)


def tables(
    results: pd.DataFrame,
    first: Metrics,
    averaged: Mapping[str, Metrics],
    together: Mapping[str, Table | None],
) -> list[Table]:
    """The tables of a sweep, for its summary and its page.

    Args:
      first: metrics of any member: all have the same baselines.
      averaged: metrics of the ensembles, by config and split.
      together: what `all_at_once` returns, by split.
    """
    summary, reference = summarise(results), reference_config(results)
    parts: list[Table | None] = []
    for split in SPLITS:
        metric_columns = columns(results, f"{split}/")
        parts.append(means_table(summary, metric_columns, split, first[split]["baselines"], averaged))
        parts.append(differences_table(summary, metric_columns, split, reference))
        parts.append(together[split])
    return [table for table in parts if table is not None]


def settings_table(results: pd.DataFrame) -> Table | None:
    """The settings in which configs differ, as a grid or a sample set them; None if they differ in none."""
    known = set(known_keys())
    keys = [name for name in results if name in known]
    rows = [
        [Cell(row["config"]), *(Cell(_setting(row[key])) for key in keys)]
        for _, row in results.drop_duplicates("config").iterrows()
    ]
    return Table("Settings that vary", ("", *keys), rows) if keys else None


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def last_best(results: pd.DataFrame) -> list[str]:
    """A sentence on the members whose best epoch is the last of all; none without any."""
    trained = [Ended(*row) for row in results[["status", "epochs", "best_epoch"]].itertuples(index=False)]
    count = sum(outcome.may_go_on for outcome in trained)
    text = f"In {count} of {counted(len(trained), 'member')} the best epoch is the last of train.max_epochs:"
    return [f"{text} validation was still falling, and more epochs may be better."] if count else []


def make_summary(
    sentence: str,
    results: pd.DataFrame,
    first: Metrics,
    averaged: Mapping[str, Metrics],
    together: Mapping[str, Table | None],
) -> Summary:
    """Makes the summary for reading.

    Args:
      sentence: what `choice` says; it leads.
      results, first, averaged, together: as of `tables`.
    """
    parts: list[str | Table] = [
        sentence,
        "Configs are ranked by mean validation pinball; test rows rank nothing. ± is the standard error over"
        f" seeds. Differences are from {reference_config(results)}.",
    ]
    if averaged:
        parts.append("An ensemble is the mean of the seeds' quantiles, level by level: one forecast.")
    parts += [*diverged_text(diverged(results)), *last_best(results)]
    settings_that_vary = settings_table(results)
    parts += [settings_that_vary] if settings_that_vary else []
    return Summary("Results of the sweep", [*parts, *tables(results, first, averaged, together)])


def terminal(summary: Summary, reference: str) -> str:
    """The summary without its differences from the reference, and with its first sentence at the end too."""
    sentence, *parts = summary.parts
    kept = [part for part in parts if not (isinstance(part, Table) and f"minus {reference}" in part.title)]
    return summary._replace(parts=[*kept, sentence]).terminal()


def write_results(
    folder: Path, members: Sequence[Member], ended: Mapping[str, Ended], averaged: Mapping[str, Metrics]
) -> tuple[pd.DataFrame, str | None]:
    """Writes the tables of a sweep whose members have all ended and are evaluated.

    Args:
      averaged: metrics of the ensembles, by config and split.
    Returns:
      The table of members, and the summary for the terminal, None if every member diverged.
    Raises:
      UserError: a member's evaluation is damaged, or the files cannot be written.
    """
    sweep, metrics = SweepDirectory(folder), {}
    for member in members:
        if ended[member.name].status != "diverged":
            run = sweep.member(member.name)
            remedy = f"tftjax evaluate {run.path}"
            metrics[member.name] = read_metrics(run.evaluation.metrics, SPLITS, remedy)
    results = results_table(members, ended, metrics)
    files.replace_text(sweep.results, results.to_csv(index=False))
    if not metrics:
        return results, None
    if averaged:
        rows = [{"config": config} | flatten(values) for config, values in averaged.items()]
        files.replace_text(sweep.ensembles_table, pd.DataFrame(rows).to_csv(index=False))
    files.replace_text(sweep.summary_table, summarise(results).to_csv(index=False))
    judged = judged_metrics(results, metrics, averaged)
    sentence = choice(results, judged, lambda name: read_predictions(sweep.member(name).path, "val"))
    judges = judged_by(results, metrics, averaged)
    together = {split: all_at_once(folder, judges, split) for split in SPLITS}
    summary = make_summary(sentence, results, next(iter(metrics.values())), averaged, together)
    files.replace_text(sweep.summary, summary.markdown())
    return results, terminal(summary, reference_config(results))


def read_results(folder: Path) -> pd.DataFrame:
    """Reads results.csv of a sweep.

    Raises:
      UserError: it has not been written, every member diverged, or it is a final fit.
    """
    path = SweepDirectory(folder).results
    check_judged(folder)
    if not path.is_file():
        raise UserError(f"{path}: missing. Finish it: {REMEDY}")
    remedy = f"Make it anew: {REMEDY}"
    results = files.read_csv(
        path,
        remedy,
        texts=["member", "config", "status"],
        numbers=["seed", "epochs", "best_epoch"],
        is_number=lambda name: "/" in name or name.startswith("loss."),
    )
    if results["status"].eq("diverged").all():
        raise UserError(f"{folder}: every member diverged: there is nothing to report.")
    trained = results[results["status"] != "diverged"]
    lacking = [name for split in SPLITS if (name := f"{split}/pinball") not in results]
    if lacking:
        raise UserError(f"{path}: cannot be read (no column {', '.join(lacking)}). {remedy}")
    if results["member"].duplicated().any() or trained["val/pinball"].isna().any():
        raise UserError(
            f"{path}: damaged: found a member twice, or one that was trained without val/pinball. {remedy}"
        )
    return results.copy()  # in one piece, which pandas is quicker with


def read_evaluations(folder: Path, results: pd.DataFrame) -> dict[str, Evaluation]:
    """Reads the evaluations of the members that did not diverge, by name.

    Raises:
      UserError: one cannot be read.
    """
    names = results.loc[results["status"] != "diverged", "member"]
    return {name: read_evaluation(SweepDirectory(folder).member(name).path) for name in names}


def read_ensembles(folder: Path, configs: Sequence[str]) -> dict[str, Evaluation]:
    """Reads the evaluations of the configs' ensembles, by config; one that has none is left out.

    Raises:
      UserError: one cannot be read.
    """
    directories = {config: SweepDirectory(folder).ensemble(config) for config in configs}
    return {
        config: read_evaluation(directory.path, REMEDY)
        for config, directory in directories.items()
        if directory.evaluation.metrics.is_file()
    }
