"""The report of a walk-forward: each config's verdict over all folds, and its gains by part and by fold."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from tftjax.config.loading import settings
from tftjax.data.panel import Panel, read_panel
from tftjax.evaluate import tables
from tftjax.evaluate.formatting import LOSS, Metrics, counted, noun_of
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import (
    Verdict,
    combination_line,
    conformal_line,
    count_baselines,
    count_beaten,
    headline,
    in_words,
    intervals_in_words,
    percent_of,
    quality_text,
    verdict,
)
from tftjax.plots import forecasts as figures
from tftjax.plots.walkforward import gain_picture
from tftjax.report.page import Chapter, Details, Facts, Items, Page, Part, Text
from tftjax.report.run import WORTH, member_provenance
from tftjax.report.upcoming import next_forecast
from tftjax.storage.directories import RunDirectory, SweepDirectory
from tftjax.sweep.ensembles import open_runs
from tftjax.sweep.plan import varied_settings
from tftjax.sweep.results import diverged_text
from tftjax.walkforward import summary
from tftjax.walkforward.files import Walk, stormy_days
from tftjax.walkforward.pool import QUARTERS, volatility_name

CALIBRATED = 4  # configs in the picture of calibration and in words: more could not be told apart


def walk_page(walk: Walk) -> Page:
    """The page of a walk-forward.

    Raises:
      UserError: the first member's config, data or checkpoints cannot be read.
    """
    first = next(member for member in walk.members if member.name not in walk.lost)
    run = SweepDirectory(walk.folder).member(first.name)
    panel, days = read_panel(run.path), walk.losses.index
    chapters = [
        Chapter("together", "All test dates together", _together(walk)),
        Chapter("skill", "Fold by fold", _by_fold(walk, panel)),
        Chapter("parts", "Parts of the gain", _parts(walk, panel)),
        Chapter("configs", "Config by config", _configs(walk)),
        Chapter("provenance", "Provenance", _provenance(walk, run, panel)),
    ]
    configs = counted(len({member.group for member in walk.members}), "config")
    subtitle = (
        f"Walk-forward of {configs}, {len({member.fold for member in walk.members})} folds, test rows"
        f" {days[0].date()} to {days[-1].date()} ({counted(len(days), 'date')})"
    )
    skill, *rest = chapters[1].parts
    chapters[1] = chapters[1]._replace(parts=rest)
    noun = noun_of(panel.about)
    answers = [_worth(walk, noun), next_forecast(lambda: open_runs(walk.folder, first.group))]
    if len(walk.metrics) > 1:
        answers[1] = answers[1]._replace(title=f"{answers[1].title}, by {first.group}")
    return Page(walk.folder.resolve().name, subtitle, verdict_of(walk, noun), answers, skill, chapters)


def _worth(walk: Walk, noun: str) -> Chapter:
    windows = walk.folds["test_windows"].groupby("fold").first().sum()
    count = int(windows) * walk.members[0].config.model.prediction_length
    texts = {name: intervals_in_words(values, count, noun) for name, values in walk.metrics.items()}
    lines = [f"{name}: {text}" if len(texts) > 1 else text for name, text in texts.items() if text]
    return Chapter("worth", WORTH, [*map(Text, lines)])


def verdict_of(walk: Walk, noun: str = "day") -> Verdict:
    """The verdict on each config's forecast over the test days of all folds; none is chosen by them.

    For `noun` see `in_words`.
    """
    metrics, first = walk.metrics, _first(walk)
    marks = [headline(values)[0] for values in metrics.values()]
    total, good = count_baselines(first), marks.count("good")
    if len(metrics) == 1:
        mark, sentence = headline(first)
    elif "open" in marks:
        mark, sentence = "open", headline(first)[1]
    elif good:
        mark = "good" if good == len(metrics) else "open"
        sentence = f"{good} of {len(metrics)} configs have earned their keep: all {total} baselines beaten"
    else:
        most = max(count_beaten(values) for values in metrics.values())
        mark, sentence = "bad", f"None of {len(metrics)} configs has earned its keep"
        sentence += f": at most {most} of {total} baselines beaten"
    points = [f"{name} {verdict(values)}." for name, values in metrics.items()]
    points += [_against_hardest(walk)]
    lines = combination_line, conformal_line
    points += [
        f"{name}. {line(values)}" for name, values in metrics.items() for line in lines if line(values)
    ]
    if len(metrics) > 1:
        points.append(
            "No config was chosen by a test row, and all are here; the best of several is better by chance"
            " too."
        )
    points += diverged_text(walk.lost)
    line = "Every fold trains anew on its own years; its baselines are estimated on the same train rows."
    texts = {name: in_words(values, noun) for name, values in itertools.islice(metrics.items(), CALIBRATED)}
    plain = " ".join(f"{name}: {text}" if len(metrics) > 1 else text for name, text in texts.items())
    return Verdict(mark, sentence, line, points, plain)


def _first(walk: Walk) -> Metrics:
    return next(iter(walk.metrics.values()))


def _against_hardest(walk: Walk) -> str:
    loss = walk.pooled.loc[walk.hardest, "pinball"]
    differences = {name: percent_of(test, loss) for name, test in summary.hardest_tests(walk).items()}
    parts = [f"The best baseline, {walk.hardest}, has a pinball loss of {LOSS.number(loss)}e-3"]
    return "; ".join(parts + [f"{name} {text}" for name, text in differences.items() if text]) + "."


def _differences(walk: Walk, tests: Mapping[str, Any], title: str, name: str = "differences") -> Part:
    """The picture of differences from the hardest baseline; nothing without intervals."""
    losses = dict.fromkeys(tests, walk.pooled.loc[walk.hardest, "pinball"])
    return figures.differences_picture(tests, losses, title, name)


def _together(walk: Walk) -> list[Part]:
    title = f"Each config minus {walk.hardest}, the best baseline"
    return [
        _differences(walk, summary.hardest_tests(walk), title),
        summary.together(walk)._replace(title="Configs and baselines"),
        summary.all_at_once(walk),
        *(
            table._replace(title=f"{name}. {table.title}")
            for name, values in walk.metrics.items()
            if (table := tables.combination(values))
        ),
        summary.gains(walk),
        Items(summary.left_out(walk)),
        _folded(summary.seeds(walk)),
        Details("The baselines", [Facts("", tables.described())]),
    ]


def _folded(table: Table) -> Details:
    """A table that the reader unfolds, under its title."""
    return Details(table.title, [table._replace(title="")])


def _by_fold(walk: Walk, panel: Panel) -> list[Part]:
    stormy = text = None
    if panel.id_column is None:
        stormy, name = stormy_days(walk, panel), volatility_name(panel, walk.members)
        text = Text(f"Shaded: dates before which {name} was in its upper third over these test dates.")
    numbers = Details("Fold by fold in numbers", [summary.skill(walk), summary.directions(walk)])
    return [gain_picture(summary.gain_data(walk, stormy)), text, numbers]


def _parts(walk: Walk, panel: Panel) -> list[Part]:
    signs = "The pictures show differences: below zero the config is better, and a gain is above zero."
    parts: list[Part] = [Text(f"{summary.parts_text(volatility_name(panel, walk.members))} {signs}")]
    for place, name in enumerate(walk.metrics):
        tests = summary.part_tests(walk, name, walk.hardest)
        tests = {part: tests[part] for part in ("all", *QUARTERS) if part in tests}
        title = f"{name} minus {walk.hardest}, by part"
        parts.append(_differences(walk, tests, title, f"parts-{place}"))
    return [*parts, *map(_folded, summary.gains_by_part(walk).values())]


def _configs(walk: Walk) -> list[Part]:
    first = _first(walk)
    baselines = {
        name: first["baselines"][name]
        for name in ("unconditional", walk.hardest)
        if name in first["baselines"]
    }
    everyone = dict(itertools.islice(walk.metrics.items(), CALIBRATED)) | baselines
    histograms = {name: values["pit_histogram"] for name, values in everyone.items()}
    parts: list[Part] = [
        figures.calibration_picture(histograms, [*map(float, first["pinball_by_quantile"])], 0)
    ]
    for name, values in walk.metrics.items():
        details = [
            Text(f"Quality: {quality_text(values)}."),
            tables.against_baselines(values, ""),
            tables.tails(values["tests"]),
            tables.modes(values),
            tables.earnings(values["trading"]),
        ]
        parts.append(Details(f"{name} beside the baselines", details))
    return parts


def _provenance(walk: Walk, run: RunDirectory, panel: Panel) -> list[Part]:
    """Settings that vary between configs, and everything else of one member."""
    members = [member for member in walk.members if member.fold == walk.members[0].fold]
    by_config = {member.group: member for member in reversed(members)}
    keys = varied_settings(list(by_config.values()))
    values = {name: settings(by_config[name].config) for name in reversed(by_config)}
    rows = [[Cell(name), *(Cell(json.dumps(row[key])) for key in keys)] for name, row in values.items()]
    return [
        Table("Settings that vary", ("", *keys), rows) if keys else None,
        *member_provenance(run, panel, "; other folds have other years, other seeds others"),
    ]
