"""The report of a sweep: which config came first on validation, and whether its forecasts earn their keep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tftjax.data.panel import read_panel
from tftjax.errors import UserError
from tftjax.evaluate import tables
from tftjax.evaluate.files import Evaluation, check_comparable, period, read_evaluation
from tftjax.evaluate.formatting import SHOWN, Number, Shown, interval, number
from tftjax.evaluate.metrics import flatten
from tftjax.evaluate.scoring import SPLITS
from tftjax.evaluate.significance import bootstrap
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import Verdict, count_beaten, headline, verdict
from tftjax.plots import page_sweeps as figures
from tftjax.plots.sweeps import response_curves
from tftjax.report.page import Code, Fold, Items, Page, Part, Section, Text
from tftjax.report.run import provenance
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory, SweepDirectory
from tftjax.sweep.results import ranking, reference_config

Found = Mapping[str, Evaluation]
REMEDY = "the command that began the sweep, with --resume."


def read_results(folder: Path) -> pd.DataFrame:
    """Reads results.csv of a sweep.

    Raises:
      UserError: it has not been written, or every member diverged.
    """
    path = SweepDirectory(folder).results
    if not path.is_file():
        raise UserError(f"{path}: missing. Finish it: {REMEDY}")
    try:
        results = pd.read_csv(path).copy()  # in one piece, which pandas is quicker with
        lost = results["status"].eq("diverged").all()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Make it anew: {REMEDY}") from error
    if lost:
        raise UserError(f"{folder}: every member diverged: there is nothing to report.")
    return results


def read_members(folder: Path, results: pd.DataFrame) -> dict[str, Evaluation]:
    """The evaluations of the members that did not diverge, by name.

    Raises:
      UserError: one cannot be read.
    """
    names = results.loc[results["status"] != "diverged", "member"]
    return {name: read_evaluation(SweepDirectory(folder).member(name).path) for name in names}


def read_ensembles(folder: Path, configs: Sequence[str]) -> dict[str, Evaluation]:
    """The evaluations of the seeds of a config as one forecast, of those that there are.

    Raises:
      UserError: one cannot be read.
    """
    found = {config: SweepDirectory(folder).ensemble(config) for config in configs}
    return {
        config: read_evaluation(directory.path, REMEDY)
        for config, directory in found.items()
        if directory.evaluation.metrics.is_file()
    }


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
    pictures: list[Part] = [figures.metrics_by_config(results, configs)]
    curves = response_curves(results)
    pictures += [figures.response(curves)] if curves else []
    sections = [
        Section("configs", "Configs, ranked on validation", _configs(results, configs, first, ensembles)),
        Section("pictures", "In pictures", pictures),
        Section("members", "Verdicts by config", _by_config(folder, results, members, ensembles)),
        Section("provenance", "Where it comes from", _provenance(results, first)),
    ]
    days = period(first.predictions["test"])
    subtitle = f"Sweep of {len(configs)} configs, {len(results)} members, test rows {days}"
    return Page(folder.resolve().name, subtitle, _verdict(results, members, ensembles), sections)


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
    for split, title in (("val", "validation"), ("test", "test")):
        mean = bootstrap(results.loc[results["config"] == best, f"{split}/pinball"].dropna().to_numpy())
        others = next(iter(_own(results, members, best).values())).metrics[split]["baselines"]
        bounds = interval(mean.low, mean.high, 1e3, 4)
        text = f"Pinball loss on {title}, mean over seeds: {number(mean.mean, 1e3, 4)}e-3 {bounds}".strip()
        if others:
            name = min(others, key=lambda other: others[other]["pinball"])
            text += f"; the best baseline, {name}, {number(others[name]['pinball'], 1e3, 4)}e-3"
        points.append(f"{text}.")
    lost = results.loc[results["status"] == "diverged", "member"].tolist()
    points += [f"Diverged, and left out: {', '.join(lost)}."] if lost else []
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


def _configs(
    results: pd.DataFrame, configs: Sequence[str], first: Evaluation, ensembles: Found
) -> list[Part]:
    present = [item for item in SHOWN if f"val/{item.metric}" in results]
    head = ("", *(item.title for item in present))
    parts: list[Part] = []
    for split, heading in (("val", "Validation"), ("test", "Test")):
        rows: list[list[Cell]] = []
        for config in configs:
            own = Cell(f"{config}, {_seeds(results, config)}", "model")
            rows.append([own, *_means(results, config, split, present)])
            if config in ensembles:
                rows.append(_values(f"{config}, ensemble", ensembles[config].metrics[split], present))
        baselines = first.metrics[split]["baselines"]
        rows += [_values(name, values, present) for name, values in baselines.items()]
        if split == "val":
            lowest = min(rows, key=lambda row: float(row[1].text.partition(" ")[0]))
            lowest[1] = lowest[1]._replace(mark="best")
        parts.append(Table(f"{heading}: mean over seeds [95 % interval]", head, rows, _NOTES[split]))
    reference = reference_config(results)
    others = [config for config in configs if config != reference]
    if others:
        rows = [
            [Cell(config), *(_difference(results, config, reference, split, s) for split, s in _DIFFERENCES)]
            for config in others
        ]
        head = ("", *(f"{s.title}, {split}" for split, s in _DIFFERENCES))
        note = "Seed by seed, with the interval over seeds. The more configs, the more exclude 0 by chance."
        parts.append(Table(f"Minus {reference} [95 % interval]", head, rows, note))
    return parts


_DIFFERENCES = [(split, shown) for shown in SHOWN[:2] for split in SPLITS]
_NOTES = {
    "val": "Configs in the order of their mean pinball loss, under each its ensemble, baselines below; the"
    " lowest is bold and underlined. Bootstrap intervals over seeds are too narrow with few seeds, at five by"
    " about a third.",
    "test": "In the order of validation: test rows rank nothing.",
}


def _seeds(results: pd.DataFrame, config: str) -> str:
    count = int(results.loc[results["config"] == config, "val/pinball"].notna().sum())
    return "1 seed" if count == 1 else f"{count} seeds"


def _text(value: Number | None, shown: Shown) -> str:
    return number(value, shown.factor, shown.digits)


def _means(results: pd.DataFrame, config: str, split: str, present: Sequence[Shown]) -> list[Cell]:
    cells = []
    for shown in present:
        values = results.loc[results["config"] == config, f"{split}/{shown.metric}"].dropna().to_numpy()
        mean = bootstrap(values) if len(values) else bootstrap(np.array([np.nan]))
        bounds = interval(mean.low, mean.high, shown.factor, shown.digits)
        cells.append(Cell(f"{_text(mean.mean, shown)} {bounds}".strip()))
    return cells


def _values(name: str, metrics: Mapping[str, Any], present: Sequence[Shown]) -> list[Cell]:
    flat = flatten(metrics)
    return [Cell(name), *(Cell(_text(flat.get(shown.metric), shown)) for shown in present)]


def _difference(results: pd.DataFrame, config: str, reference: str, split: str, shown: Shown) -> Cell:
    name = f"{split}/{shown.metric}"
    own, other = (results[results["config"] == c].set_index("seed")[name] for c in (config, reference))
    pairs = (own - other).dropna().to_numpy()
    if not len(pairs):
        return Cell("-")
    found = bootstrap(pairs)
    bounds = interval(found.low, found.high, shown.factor, shown.digits, "+")
    return Cell(f"{number(found.mean, shown.factor, shown.digits, '+')} {bounds}".strip())


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
            parts.append(Fold(f"The ensemble of {config} beside the baselines", [found]))
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
    losses = [Cell(number(metrics[split]["pinball"], 1e3, 4)) for split in SPLITS]
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
    saved = checkpoint.restore_latest(RunDirectory(directory).checkpoints, lambda message: None)
    parts.append(Text(f"What follows is that of the member {directory.name}."))
    return parts + provenance(runs.read_config(directory), read_panel(directory), saved)
