"""The report of a walk-forward: each config's verdict over all folds, where it gains, fold by fold."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tftjax.config.loading import settings
from tftjax.data.panel import Panel, read_panel
from tftjax.evaluate import tables
from tftjax.evaluate.formatting import interval, number, p_text, relative, share
from tftjax.evaluate.significance import ALPHA
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import Verdict, count_beaten, headline, percent_of, quality_text, verdict
from tftjax.plots import page_forecasts as figures
from tftjax.plots.page_walkforward import skill_by_fold
from tftjax.report.page import Facts, Fold, Items, Page, Part, Section, Text
from tftjax.report.run import provenance
from tftjax.storage import checkpoint
from tftjax.storage.directories import SweepDirectory
from tftjax.sweep.plan import varied_settings
from tftjax.walkforward.files import Walk, skills, stormy_days
from tftjax.walkforward.summary import QUARTERS, TAIL, asked

PARTS = ("all", "calm", "stormy", "centre", "tails", *QUARTERS)
CALIBRATED = 4  # configs in the picture of calibration: with two baselines, all that can be told apart


def walk_page(walk: Walk) -> Page:
    """The page of a walk-forward.

    Raises:
      UserError: the first member's config, data or checkpoints cannot be read.
    """
    first = next(member for member in walk.members if member.name not in walk.lost)
    panel = read_panel(SweepDirectory(walk.folder).member(first.name).path)
    folds = walk.folds.index.unique("fold")
    days = walk.losses.index
    sections = [
        Section("together", "All test days together", _together(walk)),
        Section("skill", "Fold by fold", _by_fold(walk, panel)),
        Section("parts", "Where the difference comes from", _parts(walk, panel)),
        Section("configs", "Config by config", _configs(walk)),
        Section("provenance", "Where it comes from", _provenance(walk, first.name, panel)),
    ]
    count = len({member.group for member in walk.members})
    subtitle = (
        f"Walk-forward of {count} {'config' if count == 1 else 'configs'}, {len(folds)} folds, test days"
        f" {days[0].date()} to {days[-1].date()} ({len(days):,} days)"
    )
    return Page(walk.folder.resolve().name, subtitle, verdict_of(walk), sections)


def verdict_of(walk: Walk) -> Verdict:
    """On each config's forecast over the test days of all folds; none is chosen by them."""
    metrics = walk.metrics
    marks = {name: headline(values)[0] for name, values in metrics.items()}
    total = len(next(iter(metrics.values()))["tests"]["diebold_mariano"])
    good = [name for name, mark in marks.items() if mark == "good"]
    if len(metrics) == 1:
        mark, said = headline(next(iter(metrics.values())))
    elif "open" in marks.values():
        mark, said = "open", headline(next(iter(metrics.values())))[1]
    elif good:
        mark = "good" if len(good) == len(metrics) else "open"
        said = f"{len(good)} of {len(metrics)} configs have earned their keep: all {total} baselines beaten"
    else:
        most = max(count_beaten(values) for values in metrics.values())
        mark = "bad"
        said = (
            f"None of {len(metrics)} configs has earned its keep: at most {most} of {total} baselines beaten"
        )
    points = [f"{name} {verdict(values)}." for name, values in metrics.items()]
    points += [_against_hardest(walk)]
    if len(metrics) > 1:
        points.append(
            "No config was chosen by a test row, and all are here; the best of several is better by chance"
            " too."
        )
    points += [f"Diverged, and left out: {', '.join(walk.lost)}."] if walk.lost else []
    line = "Every fold trains anew on its own years; its baselines are estimated on the same train rows."
    return Verdict(mark, said, line, points)


def _against_hardest(walk: Walk) -> str:
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    said = f"The best baseline, {walk.hardest}, has a pinball loss of {number(loss, 1e3, 4)}e-3"
    found = {name: percent_of(_test(values, walk.hardest), loss) for name, values in walk.metrics.items()}
    return "; ".join([said, *(f"{name} {text}" for name, text in found.items() if text)]) + "."


def _test(metrics: Mapping[str, Any], baseline: str) -> Mapping[str, Any]:
    return metrics["tests"]["diebold_mariano"][baseline]


def _together(walk: Walk) -> list[Part]:
    tests = {name: _test(values, walk.hardest) for name, values in walk.metrics.items()}
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    title = f"Each config minus {walk.hardest}, the best baseline"
    picture = figures.differences(tests, dict.fromkeys(tests, loss), title)
    parts: list[Part] = [picture] if picture is not None else []
    baselines = next(iter(walk.metrics.values()))["baselines"]
    everyone = {**walk.metrics, **baselines}
    order = "Configs in the order of the command, then baselines"
    difference = f"minus {walk.hardest}"
    parts.append(
        tables.compared("Configs and baselines", everyone, list(walk.metrics), tests, difference, order)
    )
    parts.append(_differences(walk, list(baselines)))
    parts += [Items([f"{name} is left out, {why}." for name, why in walk.left_out.items()])]
    parts.append(Fold("Seeds one by one", [_seeds(walk)]))
    parts.append(Fold("What the baselines are", [Facts("", tables.described())]))
    return [part for part in parts if part != Items([])]


def _differences(walk: Walk, baselines: Sequence[str]) -> Table:
    rows = [
        [Cell(name), *(_percent(_test(values, b), values["baselines"][b]["pinball"]) for b in baselines)]
        for name, values in walk.metrics.items()
    ]
    note = (
        "In percent of the baseline's pinball loss [95 % interval], and p of Diebold and Mariano's test over"
        " all test days. Below zero the config is better."
    )
    return Table("Each config minus each baseline, %", ("", *baselines), rows, note)


def _percent(test: Mapping[str, Any], loss: float) -> Cell:
    """A difference in percent of a loss, its interval and p; green where significantly below zero."""
    found = {name: relative(test[name], loss) for name in ("difference", "low", "high")}
    bounds = interval(found["low"], found["high"], 100, 2, "+")
    tested = test["p"] is not None and not pd.isna(test["p"])
    mark = ("good" if test["difference"] < 0 else "bad") if tested and test["p"] < ALPHA else ""
    p = p_text(test["p"]) if tested else ""
    return Cell(f"{number(found['difference'], 100, 2, '+')} {bounds} {p}".strip(), mark)


def _seeds(walk: Walk) -> Table:
    own = walk.pooled[walk.pooled["kind"] != "baseline"]
    losses = own["pinball"]
    theirs = walk.pooled.loc[walk.hardest, "pinball"]
    rows = []
    for name, row in own.iterrows():
        best = "best" if row["pinball"] == losses.min() else ""
        rows.append(
            [
                Cell(str(name), "model" if row["kind"] == "ensemble" else ""),
                Cell(number(row["pinball"], 1e3, 4), best),
                Cell(number(relative(row["pinball"] - theirs, theirs), 100, 2, "+")),
                Cell(number(row["sigma"], 1e4, 1)),
                Cell(share(row.get("directional_accuracy"))),
                Cell(number(row.get("correlation"), 1, 3)),
            ]
        )
    head = ("", "pinball, 1e-3", f"minus {walk.hardest}, %", "sigma, bp", "direction right", "correlation")
    return Table("", head, rows, "An ensemble is the mean of its seeds' quantiles, level by level.")


def _by_fold(walk: Walk, panel: Panel) -> list[Part]:
    found = skills(walk)
    spans = walk.folds.xs(walk.hardest, level="forecast")
    parts: list[Part] = []
    stormy = None
    if panel.id_column is None:
        name, stormy = stormy_days(panel, walk.losses.index)
        parts = [Text(f"Shaded: days before which {name} was above its median over these test days.")]
    parts.insert(0, skill_by_fold(walk.losses, walk.hardest, found, spans, stormy))
    rows = [
        [
            Cell(fold),
            *(Cell(str(row[name])) for name in ("train_from", "val_from", "test_from", "test_to")),
            Cell(f"{row['test_windows']:,}"),
            Cell(number(row["pinball"], 1e3, 4)),
            *(Cell(number(skill[fold], 1, 2, "+")) for skill in found.values()),
        ]
        for fold, row in spans.iterrows()
    ]
    head = ("fold", "train from", "validation from", "test from", "to", "windows", f"{walk.hardest}, 1e-3")
    note = f"By how many percent the pinball loss is below that of {walk.hardest}; above zero is better."
    skill = Table("Pinball skill, %", (*head, *found), rows, note)
    return [*parts, Fold("Fold by fold in numbers", [skill, _directions(walk, spans)])]


def _directions(walk: Walk, spans: pd.DataFrame) -> Table:
    rows = []
    for fold, row in spans.iterrows():
        own = [walk.folds.loc[(fold, name)].get("directional_accuracy") for name in walk.metrics]
        base = row.get("directional_base_rate")
        rows.append([Cell(fold), Cell(share(base)), *(Cell(share(value)) for value in own)])
    note = "The base rate is the share of the more frequent sign in the fold, known in hindsight only."
    return Table("Direction right", ("fold", "base rate", *walk.metrics), rows, note)


def _parts(walk: Walk, panel: Panel) -> list[Part]:
    baselines = list(next(iter(walk.metrics.values()))["baselines"])
    volatility = "The volatility" if panel.id_column is not None else stormy_days(panel, walk.losses.index)[0]
    parts: list[Part] = [
        Text(
            f"Stormy: {volatility} the day before was above its median over these days. Tails: levels up to"
            f" {TAIL:g} and from {1 - TAIL:g} on. Each part is what it adds to the difference, in percent of"
            " the baseline's whole pinball loss: the quarters sum to all, and so do calm and stormy, centre"
            " and tails. Below zero the config is better."
        )
    ]
    for number_of, name in enumerate(walk.metrics):
        rows = walk.gains.loc[(name, walk.hardest)]
        tests = {part: _defined(rows.loc[part]) for part in ("all", *QUARTERS) if part in rows.index}
        losses = dict.fromkeys(tests, rows.loc["all", "baseline_pinball"])
        title = f"{name} minus {walk.hardest}, by part"
        picture = figures.differences(tests, losses, title, f"parts-{number_of}")
        parts += [picture] if picture is not None else []
    head = ("", *PARTS)
    for baseline in asked(baselines, walk.hardest):
        table = []
        for name in walk.metrics:
            rows = walk.gains.loc[(name, baseline)]
            loss = rows.loc["all", "baseline_pinball"]
            cells = [_percent(_defined(rows.loc[p]), loss) if p in rows.index else Cell("-") for p in PARTS]
            table.append([Cell(name), *cells])
        parts.append(Fold(f"In numbers, against {baseline}", [Table("", head, table)]))
    return parts


def _defined(row: pd.Series) -> dict[str, float | None]:
    """A test of gains.csv, in which an empty cell is what is undefined."""
    return {name: None if pd.isna(row[name]) else row[name] for name in ("difference", "low", "high", "p")}


def _configs(walk: Walk) -> list[Part]:
    quantiles = [float(name) for name in _levels(walk)]
    shown = dict(itertools.islice(walk.metrics.items(), CALIBRATED))
    baselines = next(iter(walk.metrics.values()))["baselines"]
    shown |= {name: baselines[name] for name in ("unconditional", walk.hardest) if name in baselines}
    histograms = {name: values["pit_histogram"] for name, values in shown.items()}
    parts: list[Part] = [figures.calibration(histograms, quantiles, 0)]
    for name, values in walk.metrics.items():
        own: list[Part] = [Text(f"Quality: {quality_text(values)}."), tables.against_baselines(values, "")]
        outer = tables.tails(values["tests"])
        own += [outer] if outer is not None else []
        own += [tables.modes(values), tables.earnings(values["trading"])]
        parts.append(Fold(f"{name} beside the baselines", own))
    return parts


def _levels(walk: Walk) -> list[str]:
    return list(next(iter(walk.metrics.values()))["pinball_by_quantile"])


def _provenance(walk: Walk, first: str, panel: Panel) -> list[Part]:
    """What varies between configs, and of the first member everything else."""
    by_config = {
        member.group: member for member in reversed(walk.members) if member.fold == walk.members[0].fold
    }
    keys = varied_settings(list(by_config.values()))
    parts: list[Part] = []
    if keys:
        values = {name: settings(by_config[name].config) for name in reversed(by_config)}
        rows = [[Cell(name), *(Cell(json.dumps(own[key])) for key in keys)] for name, own in values.items()]
        parts.append(Table("Settings that vary", ("", *keys), rows))
    directory = SweepDirectory(walk.folder).member(first)
    saved = checkpoint.restore_latest(directory.checkpoints, lambda message: None)
    parts.append(
        Text(f"What follows is that of the member {first}; other folds have other years, other seeds others.")
    )
    return parts + provenance(directory.read(), panel, saved)
