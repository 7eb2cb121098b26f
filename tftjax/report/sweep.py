"""The report of a sweep: the config that came first on validation, and whether it earns its keep."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tftjax.data.panel import read_panel
from tftjax.errors import UserError
from tftjax.evaluate import tables
from tftjax.evaluate.files import Evaluation, check_comparable, period
from tftjax.evaluate.formatting import LOSS, Metrics, counted, noun_of, unit_of
from tftjax.evaluate.scoring import SPLIT_NAMES, SPLITS
from tftjax.evaluate.significance import mean_interval
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import (
    Verdict,
    count_baselines,
    count_beaten,
    hardest,
    headline,
    in_words,
    verdict,
)
from tftjax.plots import sweeps as figures
from tftjax.report.page import Chapter, Code, Details, Items, Page, Part, Text
from tftjax.report.run import fan_of, member_provenance, worth
from tftjax.report.upcoming import next_forecast
from tftjax.storage.directories import RunDirectory, SweepDirectory
from tftjax.sweep import results as sweep_results
from tftjax.sweep.choice import choice, judged_by, judged_metrics
from tftjax.sweep.ensembles import open_runs
from tftjax.sweep.results import diverged, diverged_text, ranking, read_ensembles

Evaluations = Mapping[str, Evaluation]  # by name of a member or of a config


def sweep_page(folder: Path, results: pd.DataFrame, members: Evaluations) -> Page:
    """The page of a sweep.

    Args:
      results: results.csv.
      members: evaluations by name of a member.
    Raises:
      UserError: a member's files cannot be read.
    """
    configs = ranking(results)
    ensembles = read_ensembles(folder, configs)
    first = members[next(name for name in results["member"] if name in members)]
    curves = figures.response_curves(results)
    response = figures.response_picture(curves) if curves else None
    averaged = {config: evaluation.metrics for config, evaluation in ensembles.items()}
    judges = judged_by(results, members, ensembles)
    together = {split: sweep_results.all_at_once(folder, judges, split) for split in SPLITS}
    compared = sweep_results.tables(results, first.metrics, averaged, together)
    chapters = [
        Chapter("configs", "Configs, ranked on validation", compared),
        Chapter("pictures", "Pictures", [figures.metrics_picture(results, configs), response]),
        Chapter("members", "Verdicts by config", _by_config(folder, results, members, ensembles)),
        Chapter("provenance", "Provenance", _provenance(results, first)),
    ]
    days = period(first.predictions["test"])
    subtitle = f"Sweep of {len(configs)} configs, {len(results)} members, test rows {days}"
    best = judged_evaluation(results, members, ensembles)
    noun = noun_of(read_panel(first.directory).about)
    answers = [worth(best, noun), next_forecast(lambda: open_runs(folder, configs[0]))]
    fan = fan_of(best, unit_of(RunDirectory(first.directory).read().data))
    fan = fan._replace(title=f"{fan.title}, {configs[0]}")
    judgement = verdict_of(results, members, ensembles, noun)
    return Page(folder.resolve().name, subtitle, judgement, answers, fan, chapters)


def judged_evaluation(results: pd.DataFrame, members: Evaluations, ensembles: Evaluations) -> Evaluation:
    """The evaluation of the config that came first on validation: of its ensemble, or its first seed."""
    best = ranking(results)[0]
    names = results.loc[results["config"] == best, "member"]
    return ensembles.get(best) or next(members[name] for name in names if name in members)


def verdict_of(
    results: pd.DataFrame, members: Evaluations, ensembles: Evaluations, noun: str = "day"
) -> Verdict:
    """The verdict on the config that came first on validation: on its ensemble, or else on its seeds.

    For `noun` see `in_words`.
    """
    best = ranking(results)[0]
    names = results.loc[results["config"] == best, "member"]
    seeds = {name: members[name].metrics for name in names if name in members}
    judged = [metrics["test"] for metrics in seeds.values()]
    who, line = best, "On the test rows, by seed:"
    if best in ensembles:
        judged, who = [ensembles[best].metrics["test"]], f"the ensemble of {best}"
        line = f"Test rows, {who}: {verdict(judged[0])}."
    marks = {headline(metrics)[0] for metrics in judged}
    mark = marks.pop() if len(marks) == 1 else "bad"
    counts = ", ".join(str(count_beaten(metrics)) for metrics in judged)
    beats = "its seeds beat" if len(judged) > 1 else "it beats"
    total = count_baselines(judged[0])
    headlines = {
        "good": f"Has earned its keep: {who}, first on validation, beats all {total} baselines",
        "bad": f"Has not earned its keep: {who}, first on validation; {beats} {counts} of {total} baselines",
        "open": f"No verdict on {best}, first on validation: {headline(judged[0])[1].lower()}",
    }
    contents = ({name: one.metrics for name, one in part.items()} for part in (members, ensembles))
    sentence = choice(
        results, judged_metrics(results, *contents), lambda name: members[name].predictions["val"]
    )
    points = [sentence, *(f"{name}: {verdict(metrics['test'])}." for name, metrics in seeds.items())]
    points += _losses(results, best, next(iter(seeds.values())))
    points += [*diverged_text(diverged(results)), *_differences(members)]
    plain = in_words(judged_evaluation(results, members, ensembles).metrics["test"], noun)
    return Verdict(mark, headlines[mark], line, points, plain)


def _losses(results: pd.DataFrame, best: str, metrics: Metrics) -> list[str]:
    sentences = []
    for split, title in SPLIT_NAMES.items():
        losses = results.loc[results["config"] == best, f"{split}/pinball"].dropna().to_numpy()
        mean = mean_interval(losses)
        text = f"Pinball loss on {title.lower()} rows, 1e-3, mean over {counted(len(losses), 'seed')}"
        text += f"{'' if mean.low is None else ' [95 % t interval]'}:"
        text += f" {LOSS.estimate(*mean)}"
        baselines = metrics[split]["baselines"]
        name = hardest(baselines)
        text += f"; the best baseline, {name}, {LOSS.number(baselines[name]['pinball'])}" if name else ""
        sentences.append(f"{text}.")
    return sentences


def _differences(members: Evaluations) -> list[str]:
    """The first difference between the members' test rows, which `--mixed-data` allows."""
    (first, reference), *others = members.items()
    for name, evaluation in others:
        try:
            check_comparable(reference.predictions["test"], evaluation.predictions["test"], (first, name))
        except UserError as error:
            return [f"Configs are not to be compared: {error}"]
    return []


def _by_config(
    folder: Path, results: pd.DataFrame, members: Evaluations, ensembles: Evaluations
) -> list[Part]:
    sweep, parts = SweepDirectory(folder), []
    for config in ranking(results):
        rows = []
        for _, row in results[results["config"] == config].iterrows():
            page, evaluation = sweep.member(row["member"]).report, members.get(row["member"])
            heading = Cell(row["member"], "", page.relative_to(folder).as_posix() if page.is_file() else "")
            ended = f"{row['status']}, epoch {row['epochs']}, best {row['best_epoch']}"
            rows.append(_row(heading, ended, None if evaluation is None else evaluation.metrics))
        if config in ensembles:
            rows.append(_row(Cell("ensemble"), "", ensembles[config].metrics))
        head = ("member", "ended", "pinball, 1e-3, validation", "test", "test rows: DM test of each baseline")
        parts.append(Table(config, head, rows))
        if config in ensembles:
            table = tables.against_baselines(ensembles[config].metrics["test"], "Ensemble, test rows")
            parts.append(Details(f"The ensemble of {config} beside the baselines", [table]))
    if not any(sweep.member(name).report.is_file() for name in members):
        parts.append(
            Text("Members that have a page of their own are linked. To make them, and this page again:")
        )
        parts.append(Code(f"tftjax report {sweep.members}/* {folder}"))
    return parts


def _row(heading: Cell, ended: str, metrics: Metrics | None) -> list[Cell]:
    if metrics is None:
        return [heading, Cell(ended), Cell("-"), Cell("-"), Cell("no forecast")]
    losses = [Cell(LOSS.number(metrics[split]["pinball"])) for split in SPLITS]
    return [heading, Cell(ended), *losses, Cell(verdict(metrics["test"]), "prose")]


def _provenance(results: pd.DataFrame, first: Evaluation) -> list[Part]:
    """Settings that vary, and everything else of the first member."""
    return [
        sweep_results.settings_table(results),
        Items(tables.left_out(first.notes)),
        *member_provenance(RunDirectory(first.directory), read_panel(first.directory)),
    ]
