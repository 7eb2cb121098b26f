"""The report of a run: its verdict, its forecasts beside the baselines', its training, its provenance."""

import itertools
import json
from collections.abc import Mapping

import numpy as np

from tftjax.config.loading import Config, changed_keys
from tftjax.config.section import show
from tftjax.data.panel import ROLES, Panel, read_panel
from tftjax.data.splits import Splits, make_blocks
from tftjax.data.volatility import stormy_days
from tftjax.evaluate import tables
from tftjax.evaluate.files import Evaluation, daily_pinball, period
from tftjax.evaluate.formatting import Unit, noun_of, share, unit_of
from tftjax.evaluate.significance import Difference
from tftjax.evaluate.verdict import hardest, intervals_in_words, tails_in_words, verdict_of
from tftjax.interpret.tables import read_interpretation
from tftjax.plots import forecasts as figures
from tftjax.plots import interpretation, training
from tftjax.plots.theme import Picture
from tftjax.report.page import MAX_CHARTS, Chapter, Code, Details, Facts, Items, Page, Pair, Part, Text
from tftjax.report.upcoming import next_forecast
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory
from tftjax.train.monitor import read_history, warnings_of
from tftjax.train.pictures import fan_data

# Baselines in the picture of skill beside the best: the floor, and the one that the design measures by.
SKILL_AGAINST = ("unconditional", "vix_scaled")
FULL_FANS = 20  # series whose fan is of a year
MIN_ROWS = 63  # of a fan: three months of trading days
WORTH = "How often the bands held"
NO_FORECASTS = "of several series the evaluation keeps no forecasts of the baselines"


def run_page(evaluation: Evaluation, others: Mapping[str, tuple[float, Difference]]) -> Page:
    """The page of a run.

    Args:
      others: runs of the same call, for `tables.against_runs`.
    Raises:
      UserError: the run's config, data or checkpoints cannot be read.
    """
    run, test = RunDirectory(evaluation.directory), evaluation.metrics["test"]
    config, panel = run.read(), read_panel(run.path)
    saved = checkpoint.restore_latest(run.checkpoints)
    chapters = [
        Chapter("baselines", "Against the baselines", _baselines(evaluation, others)),
        Chapter("calibration", "Calibration", _calibration(evaluation)),
        Chapter("skill", "Skill over time", _skill(evaluation, panel)),
        Chapter(
            "regimes", "Calm and stormy", [*itertools.starmap(tables.by_regime, test["regimes"].items())]
        ),
        Chapter("quality", "Quality modes", _quality(evaluation)),
        Chapter("trading", "Trading", [tables.earnings(test["trading"])]),
        Chapter("training", "Training", _training(read_history(run.path), saved)),
        Chapter("variables", "Variables", _variables(run)),
        Chapter("provenance", "Provenance", provenance(config, panel, saved)),
    ]
    subtitle = f"Forecasts of {panel.target}, judged on {period(evaluation.predictions['test'])}"
    noun = noun_of(panel.about)
    answers = [worth(evaluation, noun), next_forecast(lambda: [runs.open_run(run.path)])]
    fan = fan_of(evaluation, unit_of(config.data))
    return Page(config.name, subtitle, verdict_of(test, noun), answers, fan, chapters)


def worth(evaluation: Evaluation, noun: str) -> Chapter:
    """What the intervals of the test rows were worth, in words; for `noun` see `intervals_in_words`."""
    metrics, target = evaluation.metrics["test"], evaluation.predictions["test"].target
    held = intervals_in_words(metrics, target.size, noun) or "It forecasts no interval."
    texts = held, tails_in_words(metrics, noun)
    return Chapter("worth", WORTH, [Text(text) for text in texts if text])


def fan_of(evaluation: Evaluation, unit: Unit) -> Picture:
    """The fan of the test rows, of the first step and of any series."""
    test = evaluation.predictions["test"]
    names = list(dict.fromkeys(test.series))
    # Of many series a shorter time: a page is to stay small.
    rows = max(MIN_ROWS, min(figures.ROWS_SHOWN, figures.ROWS_SHOWN * FULL_FANS // len(names)))
    charts = {str(name): fan_data(test, name, unit, rows) for name in names[:MAX_CHARTS]}
    fan = figures.fan_picture(charts, ", first step" if test.target.shape[1] > 1 else "")
    if len(names) <= MAX_CHARTS:
        return fan
    return fan._replace(caption=f"{fan.caption} The first {MAX_CHARTS} of {len(names):,} series are here.")


def _baselines(evaluation: Evaluation, others: Mapping[str, tuple[float, Difference]]) -> list[Part]:
    test, by_series = evaluation.metrics["test"], evaluation.by_series
    losses = {name: values["pinball"] for name, values in tables.beside(test).items()}
    tests = tables.shown(test["tests"]["diebold_mariano"], test.get("foreign", {}))
    validation = f"Validation rows, {period(evaluation.predictions['val'])}"
    return [
        figures.differences_picture(tests, losses),
        tables.against_baselines(test, "Test rows"),
        Items(tables.left_out(evaluation.notes)),
        tables.combination(test) if evaluation.baselines else Text(f"No combination: {NO_FORECASTS}."),
        tables.against_runs(others) if others else None,
        tables.by_series(by_series, test.get("foreign", {})) if by_series is not None else None,
        Details("The same for validation", [tables.against_baselines(evaluation.metrics["val"], validation)]),
        Details("The baselines", [Facts("", tables.described())]),
    ]


def _calibration(evaluation: Evaluation) -> list[Part]:
    test, metrics = evaluation.predictions["test"], evaluation.metrics["test"]
    count = tables.independent(test)
    histograms = {"model": metrics["pit_histogram"]} | {
        name: metrics["baselines"][name]["pit_histogram"]
        for name in ("unconditional", hardest(evaluation.metrics["val"]["baselines"]))
        if name in metrics["baselines"]
    }
    calibration = figures.calibration_picture(histograms, test.quantiles, count)
    pit = figures.pit_picture(metrics["pit_histogram"], test.quantiles, count)
    return [Pair([calibration, pit]), tables.tails(metrics["tests"])]


def _skill(evaluation: Evaluation, panel: Panel) -> list[Part]:
    if not evaluation.baselines:
        return [Text(f"Not drawn: {NO_FORECASTS}.")]
    losses = daily_pinball(evaluation)
    baselines = dict.fromkeys((*SKILL_AGAINST, hardest(evaluation.metrics["val"]["baselines"])))
    names = [name for name in baselines if name in losses]
    stormy = stormy_days(panel, losses.index, panel.frame.index < evaluation.predictions["val"].dates[0])
    picture = figures.rolling_skill_picture(losses, names, stormy)
    if picture is None:
        return [Text(f"Not drawn: {len(losses)} test dates are too few.")]
    note = (
        "Shaded: dates before which the moving volatility of the returns was above its value in two thirds"
        f" of the rows before validation ({share(np.mean(stormy), 0)} of the test dates)."
    )
    return [picture, Text(note)]


def _quality(evaluation: Evaluation) -> list[Part]:
    test = evaluation.quality[evaluation.quality["split"] == "test"]
    if not len(test):
        return [Text("No quality modes: the test rows are fewer than a window (evaluation.quality_window).")]
    modes = tables.modes(evaluation.metrics["test"])
    if "series" not in test:
        return [figures.quality_picture(test), modes]
    series = test["series"].iloc[0]
    picture = figures.quality_picture(test[test["series"] == series])
    return [picture, Text(f"The timeline is that of series {series}."), modes]


def _training(records: list[dict], saved: checkpoint.Checkpoint | None) -> list[Part]:
    if not records:
        return [Text("Not drawn: the run has no metrics.jsonl.")]
    sentences = [
        f"{name}, in {len(seen)} of {len(records)} epochs, first in {seen[0][0]}, last in {seen[-1][0]}:"
        f" {seen[-1][1]}."
        for name, seen in warnings_of(records).items()
    ]
    picture = training.course_picture(records, None if saved is None else _best_epoch(saved))
    return [picture, Items(sentences) if sentences else Text("No epoch had a warning of collapse.")]


def _best_epoch(saved: checkpoint.Checkpoint) -> int:
    return int(saved.arrays["state"]["best_epoch"])


def _variables(run: RunDirectory) -> list[Part]:
    frames = {name: frame for name, frame in read_interpretation(run.path).items() if len(frame)}
    parts: list[Part] = []
    if "importance" in frames:
        parts.append(interpretation.importance_picture(frames["importance"]))
    if "attention_by_lag" in frames:
        parts.append(interpretation.attention_picture(frames["attention_by_lag"]))
    text = "The run has no interpretation. Make it, and this page again:"
    return parts or [Text(text), Code(f"tftjax interpret {run.path}")]


def provenance(config: Config, panel: Panel, saved: checkpoint.Checkpoint | None) -> list[Part]:
    """The config, the data and the software that a run was made with."""
    changed = [
        [tables.Cell(key), tables.Cell(show(value)), tables.Cell(show(default))]
        for key, default, value in changed_keys(Config(), config)
        if key not in ("name", "notes")
    ]
    head = ("setting", "here", "default")
    parts: list[Part] = [
        Text(config.notes) if config.notes else None,
        Facts("Data", _data_facts(config, panel)),
        Details("Alignment of the data", [Items(panel.messages)]) if panel.messages else None,
        tables.Table("Settings that are not the defaults", head, changed) if changed else None,
        Details("The whole config", [Code(json.dumps(config.model_dump(mode="json"), indent=2))]),
    ]
    if saved is not None:
        facts = [
            ("best epoch", str(_best_epoch(saved))),
            ("config fingerprint", saved.metadata["config_fingerprint"]),
            *saved.metadata["versions"].items(),
        ]
        parts.append(Facts("Training", facts))
    return parts


def member_provenance(run: RunDirectory, panel: Panel, remark: str = "") -> list[Part]:
    """The provenance of one member, named with a remark."""
    text = Text(f"The config, data and training below are those of the member {run.path.name}{remark}.")
    return [text, *provenance(run.read(), panel, checkpoint.restore_latest(run.checkpoints))]


def _data_facts(config: Config, panel: Panel) -> list[tuple[str, str]]:
    names = ("dataset", "feature_set", "frequency", "calendar", "alignment", "vintage")
    facts = [(name.replace("_", " "), str(panel.about[name])) for name in names if panel.about.get(name)]
    kept, blocks = make_blocks(panel, config.data, config.model.fewest_rows, config.model.prediction_length)
    days = {"rows": panel.frame.index}
    for split in Splits._fields:
        parts = [part for block in blocks for part in block.stretches(split)]
        rows = np.concatenate([np.asarray(part, int) for part in parts])
        days[f"{split} rows"] = kept.frame.index[rows]
    facts += [
        (name, f"{len(index):,}, {index.min().date()} to {index.max().date()}")
        for name, index in days.items()
        if len(index)
    ]
    if panel.id_column is not None:
        facts.append(("series", f"{len(blocks)}, by {panel.id_column}"))
    facts.append(("target", panel.target))
    facts += [
        (role.replace("_", " "), ", ".join(getattr(panel, role))) for role in ROLES if getattr(panel, role)
    ]
    return [*facts, ("data fingerprint", panel.fingerprint)]
