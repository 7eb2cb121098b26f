"""The report of a run: its verdict, its forecasts beside the baselines', its training, its provenance."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tftjax.config.loading import Config, changed_keys
from tftjax.config.section import show
from tftjax.data.panel import ROLES, Panel, read_panel
from tftjax.data.splits import Splits, make_blocks
from tftjax.data.volatility import stormy_days
from tftjax.evaluate import tables
from tftjax.evaluate.files import Evaluation, daily_pinball, period
from tftjax.evaluate.formatting import share
from tftjax.evaluate.significance import Difference
from tftjax.evaluate.verdict import hardest, verdict_of
from tftjax.interpret.tables import read_interpretation
from tftjax.plots import forecasts as figures
from tftjax.plots import interpretation, training
from tftjax.report.page import Chapter, Code, Details, Facts, Items, Page, Pair, Part, Text
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory
from tftjax.train.monitor import read_history, warnings_of

# Of three lines one can tell apart, the first is the floor, and the second what the design measures by.
SKILL_AGAINST = ("unconditional", "vix_scaled")


def run_page(found: Evaluation, others: Mapping[str, tuple[float, Difference]]) -> Page:
    """The page of a run.

    Args:
      found: its evaluation.
      others: runs of the same call, as `tables.against_runs` shows them.
    Raises:
      UserError: the run's config, data or checkpoints cannot be read.
    """
    directory = found.directory
    config, panel = runs.read_config(directory), read_panel(directory)
    records = read_history(directory)
    chapters = [
        Chapter("baselines", "Against the baselines", _baselines(found, others)),
        Chapter("forecast", "Forecast", _forecast(found)),
        Chapter("skill", "Skill over time", _skill(found, panel)),
        Chapter("regimes", "Calm and stormy", _regimes(found)),
        Chapter("quality", "Quality modes", _quality(found)),
        Chapter("trading", "What it would have earned", [tables.earnings(found.metrics["test"]["trading"])]),
    ]
    saved = checkpoint.restore_latest(RunDirectory(directory).checkpoints)
    best_epoch = None if saved is None else int(saved.arrays["state"]["best_epoch"])
    chapters += [
        Chapter("training", "Training", _training(records, best_epoch)),
        Chapter("variables", "Variables", _variables(directory)),
        Chapter("provenance", "Where it comes from", provenance(config, panel, saved)),
    ]
    return Page(
        config.name,
        f"Run, test rows {period(found.predictions['test'])}",
        verdict_of(found.metrics["test"]),
        chapters,
    )


def _baselines(found: Evaluation, others: Mapping[str, tuple[float, Difference]]) -> list[Part]:
    test, validation = (found.metrics[split] for split in ("test", "val"))
    parts: list[Part] = []
    losses = {name: values["pinball"] for name, values in test["baselines"].items()}
    picture = figures.differences_picture(test["tests"]["diebold_mariano"], losses)
    parts += [picture] if picture is not None else []
    parts.append(tables.against_baselines(test, "Test rows"))
    said = tables.left_out(found.notes)
    parts += [Items(said)] if said else []
    parts += [tables.against_runs(others)] if others else []
    parts += [tables.by_series(found.by_series)] if found.by_series is not None else []
    which = f"Validation rows, {period(found.predictions['val'])}"
    parts.append(Details("The same for validation", [tables.against_baselines(validation, which)]))
    parts.append(Details("What the baselines are", [Facts("", tables.described())]))
    return parts


def _forecast(found: Evaluation) -> list[Part]:
    test, metrics = found.predictions["test"], found.metrics["test"]
    first = test.series == test.series[0]
    named = f", series {test.series[0]}" if test.series[0] else ""
    steps = ", first step" if test.target.shape[1] > 1 else ""
    fan = figures.fan_picture(
        test.dates[first], test.target[first, 0], test.forecast[first, 0], test.quantiles, named + steps
    )
    count = tables.independent(test)
    best = hardest(found.metrics["val"]["baselines"])
    shown = dict.fromkeys(name for name in ("unconditional", best) if name)
    histograms = {"model": metrics["pit_histogram"]} | {
        name: metrics["baselines"][name]["pit_histogram"] for name in shown if name in metrics["baselines"]
    }
    calibration = figures.calibration_picture(histograms, test.quantiles, count)
    parts: list[Part] = [
        fan,
        Pair([calibration, figures.pit_picture(metrics["pit_histogram"], test.quantiles, count)]),
    ]
    table = tables.tails(metrics["tests"])
    return parts + ([table] if table is not None else [])


def _skill(found: Evaluation, panel: Panel) -> list[Part]:
    if not found.baselines:
        return [Text("Not drawn: of several series the evaluation keeps no forecasts of the baselines.")]
    losses = daily_pinball(found)
    wanted = dict.fromkeys((*SKILL_AGAINST, hardest(found.metrics["val"]["baselines"])))
    names = [name for name in wanted if name in losses]
    stormy = stormy_days(panel, losses.index, panel.frame.index < found.predictions["val"].dates[0])
    picture = figures.rolling_skill_picture(losses, names, stormy)
    if picture is None:
        return [Text(f"Not drawn: {len(losses)} test days are too few.")]
    note = (
        "Shaded: days before which the moving volatility of the returns was above what it was in two thirds"
        f" of the rows before validation ({share(np.mean(stormy), 0)} of the test days)."
    )
    return [picture, Text(note)]


def _regimes(found: Evaluation) -> list[Part]:
    regimes = found.metrics["test"]["regimes"]
    return [tables.by_regime(division, parts) for division, parts in regimes.items()]


def _quality(found: Evaluation) -> list[Part]:
    test = found.quality[found.quality["split"] == "test"]
    if not len(test):
        return [Text("No quality modes: the test rows are fewer than a window (evaluation.quality_window).")]
    series = test["series"].iloc[0] if "series" in test else None
    picture = figures.quality_picture(test if series is None else test[test["series"] == series])
    parts: list[Part] = [picture] if picture is not None else []
    parts += [Text(f"The timeline is that of series {series}.")] if series is not None else []
    return [*parts, tables.modes(found.metrics["test"])]


def _training(records: list[dict], best_epoch: int | None) -> list[Part]:
    if not records:
        return [Text("Not drawn: the run has no metrics.jsonl.")]
    said = [
        f"{name}, in {len(seen)} of {len(records)} epochs, first in {seen[0][0]}, last in {seen[-1][0]}:"
        f" {seen[-1][1]}."
        for name, seen in warnings_of(records).items()
    ]
    picture = training.course_picture(records, best_epoch)
    return [picture, Items(said) if said else Text("No epoch had a warning of collapse.")]


def _variables(directory: Path) -> list[Part]:
    found = read_interpretation(directory)
    parts: list[Part] = []
    if "importance" in found and len(found["importance"]):
        parts.append(interpretation.importance_picture(found["importance"]))
    if "attention_by_lag" in found and len(found["attention_by_lag"]):
        parts.append(interpretation.attention_picture(found["attention_by_lag"]))
    if not parts:
        said = "What the model looks at has not been worked out. Do it, and make this page again:"
        parts = [Text(said), Code(f"python -m tftjax.interpret {directory}")]
    return parts


def provenance(config: Config, panel: Panel, saved: checkpoint.Checkpoint | None) -> list[Part]:
    """Which config, data and software a run was made with."""
    changed = [
        [tables.Cell(key), tables.Cell(show(value)), tables.Cell(show(default))]
        for key, default, value in changed_keys(Config(), config)
        if key not in ("name", "notes")
    ]
    parts: list[Part] = [Text(config.notes)] if config.notes else []
    parts.append(Facts("Data", _data_facts(config, panel)))
    if panel.messages:
        parts.append(Details("How the data was aligned", [Items(panel.messages)]))
    if changed:
        head = ("setting", "here", "default")
        parts.append(tables.Table("Settings that are not the defaults", head, changed))
    whole = json.dumps(config.model_dump(mode="json"), indent=2)
    parts.append(Details("The whole config", [Code(whole)]))
    if saved is not None:
        facts = [("best epoch", str(int(saved.arrays["state"]["best_epoch"])))]
        facts.append(("config fingerprint", saved.metadata["config_fingerprint"]))
        facts += [(name, version) for name, version in saved.metadata["versions"].items()]
        parts.append(Facts("Training", facts))
    return parts


def _data_facts(config: Config, panel: Panel) -> list[tuple[str, str]]:
    known = ("dataset", "feature_set", "frequency", "alignment", "vintage")
    facts = [(name.replace("_", " "), str(panel.about[name])) for name in known if panel.about.get(name)]
    index = panel.frame.index
    facts.append(("rows", f"{len(index):,}, {index.min().date()} to {index.max().date()}"))
    kept, blocks = make_blocks(
        panel, config.data, config.model.encoder_length, config.model.prediction_length
    )
    for split in Splits._fields:
        rows = np.concatenate([np.asarray(getattr(block.splits, split), int) for block in blocks])
        if len(rows):
            days = kept.frame.index[rows]
            facts.append((f"{split} rows", f"{len(rows):,}, {days.min().date()} to {days.max().date()}"))
    if panel.id_column is not None:
        facts.append(("series", f"{len(blocks)}, by {panel.id_column}"))
    facts.append(("target", panel.target))
    facts += [
        (role.replace("_", " "), ", ".join(getattr(panel, role))) for role in ROLES if getattr(panel, role)
    ]
    return [*facts, ("data fingerprint", panel.fingerprint)]
