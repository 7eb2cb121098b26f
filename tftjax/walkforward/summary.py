"""The tables of a walk-forward, for its summary.md, the terminal and its page."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from tftjax.evaluate.formatting import GAIN, LOSS, PERCENT, Format, counted, is_defined, relative
from tftjax.evaluate.metrics import columns
from tftjax.evaluate.significance import MIN_DAYS
from tftjax.evaluate.tables import Cell, Summary, Table, at_once, best_of, compared, gain_cell, metric_cells
from tftjax.evaluate.verdict import combination_line, conformal_line, headline, verdict
from tftjax.sweep.members import sources
from tftjax.sweep.results import diverged_text
from tftjax.walkforward.files import Walk, skills
from tftjax.walkforward.pool import GAIN_PARTS, TAIL

Tested = Mapping[str, float | None]  # a test of Diebold and Mariano
ASKED = ("vix_scaled", "gjr_garch")  # the baselines that a model must beat, beside the hardest


def make_summary(walk: Walk, volatility: str) -> Summary:
    """The summary for reading.

    Args:
      volatility: name of the volatility that divides the days into calm and stormy ones.
    """
    days = walk.losses.index
    parts: list[str | Table] = [
        "Every fold trains anew on its own years, and baselines are estimated on the same train rows. The "
        "order is that of the command, and nothing was chosen by a test row. An ensemble is the mean of its "
        "seeds' quantiles, level by level."
    ]
    if sources(walk.folder, walk.members):
        parts.append("From the second fold on, a member starts from its best parameters of the fold before.")
    if len(days) < MIN_DAYS:
        parts.append(f"{len(days)} dates are too few for a test, which takes {MIN_DAYS}: no p is given.")
    parts += [*diverged_text(walk.lost), *left_out(walk)]
    parts += [f"- {name}: {verdict(values)}" for name, values in walk.metrics.items()]
    set_of_best = all_at_once(walk)
    parts += [
        f"- {name}. {line}"
        for name, values in walk.metrics.items()
        for line in (combination_line(values), conformal_line(values))
        if line
    ]
    parts += [together(walk), *([set_of_best] if set_of_best else []), seeds(walk), gains(walk)]
    parts += [parts_text(volatility)]
    parts += [*gains_by_part(walk).values(), skill(walk), directions(walk)]
    parts += [f"{name}. {headline(values)[1]}." for name, values in walk.metrics.items()]  # last on a screen
    folds = counted(len({member.fold for member in walk.members}), "fold")
    span = f"{counted(len(days), 'test date')} from {days[0].date()} to {days[-1].date()}"
    return Summary(f"Walk-forward: {folds}, {span}", parts)


def left_out(walk: Walk) -> list[str]:
    """The baselines without a forecast in every fold, and why."""
    return [f"{name} is left out, {why}." for name, why in walk.left_out.items()]


def hardest_tests(walk: Walk) -> dict[str, Tested]:
    """Diebold and Mariano's test of each config against the hardest baseline."""
    return {name: values["tests"]["diebold_mariano"][walk.hardest] for name, values in walk.metrics.items()}


def together(walk: Walk) -> Table:
    """Each config's forecast and the baselines over all test days."""
    return compared(
        "All test dates together",
        {**walk.metrics, **next(iter(walk.metrics.values()))["baselines"]},
        list(walk.metrics),
        hardest_tests(walk),
        f"minus {walk.hardest}",
        "Configs in the order of the command, then baselines",
    )


def all_at_once(walk: Walk) -> Table | None:
    """Configs and baselines over all test days, compared all at once; None with too few days."""
    note = "Of each config its ensemble, or its only seed."
    return at_once("All at once", walk.losses, list(walk.metrics), note)


def seeds(walk: Walk) -> Table:
    """The ensemble of each config, the mean of its seeds that have every fold, and these one by one."""
    forecasts = walk.pooled[walk.pooled["kind"] != "baseline"]
    pinball, *others = columns(walk.pooled)
    best = best_of(forecasts.to_dict("records"), [pinball])
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    rows = []

    def add(heading: Cell, values: Mapping[str, Any], errors: Mapping[str, float], marked: dict) -> None:
        cells = metric_cells(values, [pinball, *others], marked, errors)
        minus = Cell(GAIN.number(relative(values["pinball"] - loss, loss), "+"))
        rows.append([heading, cells[0], minus, *cells[1:]])

    for config, group in forecasts.groupby("config", sort=False):
        trained = group.loc[group["kind"] == "seed", [c.metric for c in (pinball, *others)]]
        if len(trained) > 1:
            errors = trained.sem(skipna=False)
            heading = Cell(f"{config}, mean of {len(trained)} seeds", "model")
            add(heading, trained.mean(skipna=False).to_dict(), errors.to_dict(), {})
        for name, row in group.iterrows():
            add(Cell(str(name), "model" if row["kind"] == "ensemble" else ""), row.to_dict(), {}, best)
    head = ("", pinball.title, f"minus {walk.hardest}, %", *(column.title for column in others))
    note = (
        "± is the standard error over seeds. An ensemble is the mean of its seeds' quantiles, level by level."
    )
    return Table("Seeds one by one", head, rows, note)


def part_tests(walk: Walk, forecast: str, baseline: str) -> dict[str, Tested]:
    """By part of the days and levels, the test of its contribution to the difference from a baseline."""
    rows = walk.gains.loc[(forecast, baseline), ["difference", "low", "high", "p"]]
    return {
        part: {key: float(value) if is_defined(value) else None for key, value in row.items()}
        for part, row in rows.iterrows()
    }


def gains(walk: Walk) -> Table:
    """Each config's gain over each baseline, over all test days."""
    rows = []
    for baseline in walk.pooled.index[walk.pooled["kind"] == "baseline"]:
        loss = walk.pooled.loc[baseline, "pinball"]
        tests = [part_tests(walk, name, baseline)["all"] for name in walk.metrics]
        rows.append([Cell(baseline), *(gain_cell(test, loss) for test in tests)])
    note = (
        "In percent of the baseline's pinball loss [95 % interval], and p of Diebold and Mariano's test over"
        " all test dates. Above zero is better than the baseline."
    )
    return Table("Gain over each baseline", ("over", *walk.metrics), rows, note)


def parts_text(volatility: str) -> str:
    """The meaning of the parts into which gains are divided."""
    return (
        f"Stormy: {volatility} on the row before was in its series' upper third over these dates."
        f" Tails: levels up to {TAIL:g} and from {1 - TAIL:g} on. Each part is its contribution to"
        " the gain, in percent of the baseline's whole pinball loss: the quarters sum to all, and so do calm"
        " and stormy, and centre and tails."
    )


def gains_by_part(walk: Walk) -> dict[str, Table]:
    """The parts of each config's gain over the hardest baseline and over those of ASKED, by baseline."""
    tables = {}
    for baseline in dict.fromkeys((walk.hardest, *(name for name in ASKED if name in walk.pooled.index))):
        by_config = [part_tests(walk, name, baseline) for name in walk.metrics]
        loss = walk.pooled.loc[baseline, "pinball"]
        rows = [
            [Cell(part), *(gain_cell(tests[part], loss) for tests in by_config)]
            for part in GAIN_PARTS
            if all(part in tests for tests in by_config)
        ]
        tables[baseline] = Table(f"Parts of the gain over {baseline}", ("", *walk.metrics), rows)
    return tables


def spans(walk: Walk) -> pd.DataFrame:
    """By fold its dates, numbers of windows, and the metrics of the hardest baseline."""
    return walk.folds.xs(walk.hardest, level="forecast")


def gain_data(walk: Walk, stormy: Bool[np.ndarray, " T"] | None):
    """The `plots.walkforward.Gains` of the picture of the folds, with the test days to shade."""
    from tftjax.plots.walkforward import Gains  # with matplotlib: half a second to import

    return Gains(walk.hardest, walk.losses, skills(walk), spans(walk), stormy)


def skill(walk: Walk) -> Table:
    """Each config's gain over the hardest baseline, fold by fold."""
    by_config = skills(walk)
    rows = [
        [
            Cell(fold),
            *(Cell(str(row[name].date())) for name in ("train_from", "val_from", "test_from", "test_to")),
            Cell(f"{row['test_windows']:,}"),
            Cell(LOSS.number(row["pinball"])),
            *(Cell(Format().number(gain[fold], "+")) for gain in by_config.values()),
        ]
        for fold, row in spans(walk).iterrows()
    ]
    head = ("fold", "train from", "validation from", "test from", "to", "windows", f"{walk.hardest}, 1e-3")
    note = (
        f"By how many percent the pinball loss is below that of {walk.hardest}, the best baseline over all"
        " folds; above zero is better."
    )
    return Table("Pinball skill by fold, %", (*head, *by_config), rows, note)


def directions(walk: Walk) -> Table:
    """The share of days whose direction each config has right, fold by fold, beside the base rate."""
    rows = []
    for fold, row in spans(walk).iterrows():
        accuracies = [walk.folds.loc[(fold, name)].get("directional_accuracy") for name in walk.metrics]
        values = (row.get("directional_base_rate"), *accuracies)
        rows.append([Cell(fold), *(Cell(PERCENT.number(value)) for value in values)])
    note = "The base rate is the share of the more frequent sign in the fold, known in hindsight only."
    return Table("Direction right by fold, %", ("fold", "base rate", *walk.metrics), rows, note)
