"""The report of a sweep: which config came first on validation, and whether its forecasts earn their keep."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tftjax.data.panel import read_panel
from tftjax.errors import UserError
from tftjax.evaluate import tables
from tftjax.evaluate.files import Evaluation, check_comparable, period
from tftjax.evaluate.formatting import LOSS
from tftjax.evaluate.scoring import SPLIT_NAMES, SPLITS
from tftjax.evaluate.significance import mean_interval
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import Verdict, count_beaten, hardest, headline, verdict
from tftjax.plots import sweeps as figures
from tftjax.report.page import Chapter, Code, Details, Items, Page, Part, Text
from tftjax.report.run import provenance
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory, SweepDirectory
from tftjax.sweep import results as sweep_results
from tftjax.sweep.results import diverged, diverged_text, ranking, read_ensembles

Found = Mapping[str, Evaluation]


def sweep_page(folder: Path, results: pd.DataFrame, members: Found) -> Page:
    """The page of a sweep.

    Args:
      results: results.csv.
      members: evaluations of the members, by name.
    Raises:
      UserError: a member's files cannot be read.
    """
    configs = ranking(results)
    ensembles = read_ensembles(folder, configs)
    first = members[results.loc[results["member"].isin(list(members)), "member"].iloc[0]]
    pictures: list[Part] = [figures.metrics_picture(results, configs)]
    curves = figures.response_curves(results)
    pictures += [figures.response_picture(curves)] if curves else []
    averaged = {config: evaluation.metrics for config, evaluation in ensembles.items()}
    compared = sweep_results.tables(results, first.metrics, averaged)
    chapters = [
        Chapter("configs", "Configs, ranked on validation", compared),
        Chapter("pictures", "In pictures", pictures),
        Chapter("members", "Verdicts by config", _by_config(folder, results, members, ensembles)),
        Chapter("provenance", "Where it comes from", _provenance(results, first)),
    ]
    days = period(first.predictions["test"])
    subtitle = f"Sweep of {len(configs)} configs, {len(results)} members, test rows {days}"
    return Page(folder.resolve().name, subtitle, _verdict(results, members, ensembles), chapters)


def _verdict(results: pd.DataFrame, members: Found, ensembles: Found) -> Verdict:
    """On the config that came first on validation: its ensemble if there is one, or else its seeds."""
    best = ranking(results)[0]
    own = _own(results, members, best)
    metrics = [found.metrics["test"] for found in own.values()]
    judged = [ensembles[best].metrics["test"]] if best in ensembles else metrics
    who = f"the ensemble of {best}" if best in ensembles else best
    marks = {headline(values)[0] for values in judged}
    mark = marks.pop() if len(marks) == 1 else "bad"
    counts = ", ".join(str(count_beaten(values)) for values in judged)
    beats = "its seeds beat" if len(judged) > 1 else "it beats"
    total = len(judged[0]["tests"]["diebold_mariano"])
    said = {
        "good": f"Has earned its keep: {who}, first on validation, beats all {total} baselines",
        "bad": f"Has not earned its keep: {who}, first on validation; {beats} {counts} of {total} baselines",
        "open": f"No verdict on {best}, first on validation: {headline(judged[0])[1].lower()}",
    }
    line = f"Test rows, {who}: {verdict(judged[0])}." if best in ensembles else "On the test rows, by seed:"
    seeds = [f"{name}: {verdict(found.metrics['test'])}." for name, found in own.items()]
    return Verdict(mark, said[mark], line, [*seeds, *_points(results, members, best)])


def _points(results: pd.DataFrame, members: Found, best: str) -> list[str]:
    points = []
    for split, title in SPLIT_NAMES.items():
        mean = mean_interval(results.loc[results["config"] == best, f"{split}/pinball"].dropna().to_numpy())
        others = next(iter(_own(results, members, best).values())).metrics[split]["baselines"]
        text = f"Pinball loss on {title.lower()} rows, 1e-3, mean over seeds [95 % t interval]:"
        text += f" {LOSS.estimate(*mean)}"
        name = hardest(others)
        text += f"; the best baseline, {name}, {LOSS.number(others[name]['pinball'])}" if name else ""
        points.append(f"{text}.")
    points += diverged_text(diverged(results))
    problem = _differ(members)
    return [*points, problem] if problem else points


def _differ(members: Found) -> str:
    """In what the members' test rows differ, if they do: `--mixed-data` allows it."""
    (first, reference), *others = members.items()
    for name, found in others:
        try:
            check_comparable(reference.predictions["test"], found.predictions["test"], (first, name))
        except UserError as error:
            return f"Configs are not to be compared: {error}"
    return ""


def _own(results: pd.DataFrame, members: Found, config: str) -> dict[str, Evaluation]:
    names = results.loc[results["config"] == config, "member"]
    return {name: members[name] for name in names if name in members}


def _by_config(folder: Path, results: pd.DataFrame, members: Found, ensembles: Found) -> list[Part]:
    parts: list[Part] = []
    for config in ranking(results):
        rows = []
        for _, row in results[results["config"] == config].iterrows():
            rows.append(_member_row(folder, row, members.get(row["member"])))
        if config in ensembles:
            rows.append(_line(Cell("ensemble"), "", ensembles[config].metrics))
        head = ("member", "ended", "pinball, 1e-3, validation", "test", "test rows: DM test of each baseline")
        parts.append(Table(config, head, rows))
        if config in ensembles:
            found = tables.against_baselines(ensembles[config].metrics["test"], "Ensemble, test rows")
            parts.append(Details(f"The ensemble of {config} beside the baselines", [found]))
    linked = any(SweepDirectory(folder).member(name).report.is_file() for name in members)
    if not linked:
        parts.append(
            Text("Members that have a page of their own are linked. To make them, and this page again:")
        )
        parts.append(Code(f"python -m tftjax.report {SweepDirectory(folder).members}/* {folder}"))
    return parts


def _member_row(folder: Path, row: pd.Series, found: Evaluation | None) -> list[Cell]:
    name = row["member"]
    ended = f"{row['status']}, epoch {row['epochs']}, best {row['best_epoch']}"
    page = SweepDirectory(folder).member(name).report
    heading = Cell(name, "", page.relative_to(folder).as_posix() if page.is_file() else "")
    return _line(heading, ended, found.metrics if found is not None else None)


def _line(heading: Cell, ended: str, metrics: Mapping[str, Any] | None) -> list[Cell]:
    if metrics is None:
        return [heading, Cell(ended), Cell("-"), Cell("-"), Cell("no forecast")]
    losses = [Cell(LOSS.number(metrics[split]["pinball"])) for split in SPLITS]
    return [heading, Cell(ended), *losses, Cell(verdict(metrics["test"]), "prose")]


def _provenance(results: pd.DataFrame, first: Evaluation) -> list[Part]:
    """What varies, and of the first member everything else."""
    keys = [name for name in results if "." in name and "/" not in name]
    parts: list[Part] = []
    if keys:
        table = results.drop_duplicates("config")
        rows = [[Cell(row["config"]), *(Cell(str(row[key])) for key in keys)] for _, row in table.iterrows()]
        parts.append(Table("Settings that vary", ("", *keys), rows))
    said = tables.left_out(first.notes)
    parts += [Items(said)] if said else []
    directory = first.directory
    saved = checkpoint.restore_latest(RunDirectory(directory).checkpoints)
    parts.append(Text(f"What follows is that of the member {directory.name}."))
    return parts + provenance(runs.read_config(directory), read_panel(directory), saved)
