"""The report of a walk-forward: each config's verdict over all folds, where it gains, fold by fold."""

import itertools
import json

from tftjax.config.loading import settings
from tftjax.data.panel import Panel, read_panel
from tftjax.evaluate import tables
from tftjax.evaluate.formatting import LOSS, counted
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import Verdict, count_beaten, headline, percent_of, quality_text, verdict
from tftjax.plots import forecasts as figures
from tftjax.plots.walkforward import gain_picture
from tftjax.report.page import Chapter, Details, Facts, Items, Page, Part, Text
from tftjax.report.run import provenance
from tftjax.storage import checkpoint
from tftjax.storage.directories import SweepDirectory
from tftjax.sweep.plan import varied_settings
from tftjax.sweep.results import diverged_text
from tftjax.walkforward import summary
from tftjax.walkforward.files import Walk, stormy_days
from tftjax.walkforward.pool import QUARTERS, volatility_name

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
    chapters = [
        Chapter("together", "All test days together", _together(walk)),
        Chapter("skill", "Fold by fold", _by_fold(walk, panel)),
        Chapter("parts", "Where the gain comes from", _parts(walk, panel)),
        Chapter("configs", "Config by config", _configs(walk)),
        Chapter("provenance", "Where it comes from", _provenance(walk, first.name, panel)),
    ]
    configs = counted(len({member.group for member in walk.members}), "config")
    subtitle = (
        f"Walk-forward of {configs}, {len(folds)} folds, test days"
        f" {days[0].date()} to {days[-1].date()} ({len(days):,} days)"
    )
    return Page(walk.folder.resolve().name, subtitle, verdict_of(walk), chapters)


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
    points += diverged_text(walk.lost)
    line = "Every fold trains anew on its own years; its baselines are estimated on the same train rows."
    return Verdict(mark, said, line, points)


def _against_hardest(walk: Walk) -> str:
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    said = f"The best baseline, {walk.hardest}, has a pinball loss of {LOSS.number(loss)}e-3"
    found = {name: percent_of(test, loss) for name, test in summary.hardest_tests(walk).items()}
    return "; ".join([said, *(f"{name} {text}" for name, text in found.items() if text)]) + "."


def _together(walk: Walk) -> list[Part]:
    tests = summary.hardest_tests(walk)
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    title = f"Each config minus {walk.hardest}, the best baseline"
    picture = figures.differences_picture(tests, dict.fromkeys(tests, loss), title)
    parts: list[Part] = [picture] if picture is not None else []
    together = summary.together(walk)._replace(title="Configs and baselines")
    parts += [together, summary.gains(walk)]
    left_out = summary.left_out(walk)
    parts += [Items(left_out)] if left_out else []
    parts.append(folded(summary.seeds(walk)))
    parts.append(Details("What the baselines are", [Facts("", tables.described())]))
    return parts


def folded(table: Table) -> Details:
    """A table that the reader unfolds, under its title."""
    return Details(table.title, [table._replace(title="")])


def _by_fold(walk: Walk, panel: Panel) -> list[Part]:
    parts: list[Part] = []
    stormy = None
    if panel.id_column is None:
        stormy, name = stormy_days(panel, walk.losses.index), volatility_name(panel)
        parts = [Text(f"Shaded: days before which {name} was above its median over these test days.")]
    parts.insert(0, gain_picture(summary.gain_data(walk, stormy)))
    return [*parts, Details("Fold by fold in numbers", [summary.skill(walk), summary.directions(walk)])]


def _parts(walk: Walk, panel: Panel) -> list[Part]:
    signs = "The pictures show differences: below zero the config is better, and a gain is above zero."
    parts: list[Part] = [Text(f"{summary.parts_text(volatility_name(panel))} {signs}")]
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    for number_of, name in enumerate(walk.metrics):
        tests = summary.part_tests(walk, name, walk.hardest)
        tests = {part: tests[part] for part in ("all", *QUARTERS) if part in tests}
        losses = dict.fromkeys(tests, loss)
        title = f"{name} minus {walk.hardest}, by part"
        picture = figures.differences_picture(tests, losses, title, f"parts-{number_of}")
        parts += [picture] if picture is not None else []
    return [*parts, *map(folded, summary.gains_by_part(walk).values())]


def _configs(walk: Walk) -> list[Part]:
    quantiles = [float(name) for name in _levels(walk)]
    shown = dict(itertools.islice(walk.metrics.items(), CALIBRATED))
    baselines = next(iter(walk.metrics.values()))["baselines"]
    shown |= {name: baselines[name] for name in ("unconditional", walk.hardest) if name in baselines}
    histograms = {name: values["pit_histogram"] for name, values in shown.items()}
    parts: list[Part] = [figures.calibration_picture(histograms, quantiles, 0)]
    for name, values in walk.metrics.items():
        own: list[Part] = [Text(f"Quality: {quality_text(values)}."), tables.against_baselines(values, "")]
        outer = tables.tails(values["tests"])
        own += [outer] if outer is not None else []
        own += [tables.modes(values), tables.earnings(values["trading"])]
        parts.append(Details(f"{name} beside the baselines", own))
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
    saved = checkpoint.restore_latest(directory.checkpoints)
    parts.append(
        Text(f"What follows is that of the member {first}; other folds have other years, other seeds others.")
    )
    return parts + provenance(directory.read(), panel, saved)
