"""The index of a folder: every run, sweep and walk-forward in it, with its verdict and a link to its page."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tftjax.errors import UserError
from tftjax.evaluate.files import read_evaluation
from tftjax.evaluate.formatting import GAIN, Metrics, relative, share
from tftjax.evaluate.tables import Cell, Table
from tftjax.evaluate.verdict import Verdict, count_baselines, count_beaten, hardest, shown_band, verdict_of
from tftjax.report import sweep, walkforward
from tftjax.report.page import Chapter, Code, Page, Part, Text
from tftjax.storage.directories import TrainingDirectory
from tftjax.storage.runs import read_final
from tftjax.sweep.results import ranking, read_ensembles, read_evaluations, read_results
from tftjax.walkforward.files import read_walk

SYMBOLS = {"good": "yes", "bad": "no", "open": "open"}  # has it earned its keep?


class Judged(NamedTuple):
    """A verdict, and the metrics of the test rows that it is on."""

    verdict: Verdict
    metrics: Metrics


def index_page(folder: Path, kinds: Mapping[Path, str | UserError]) -> Page:
    """The page of a folder.

    Args:
      kinds: kind of each directory in it, as `kinds.kind_of` tells, or why it has none.
    """
    rows, without = [], []
    for path, kind in kinds.items():
        page, found = TrainingDirectory(path).report, _judged(path, kind)
        if isinstance(found, Judged) and not page.is_file():
            without.append(path)
        link = quote(page.relative_to(folder).as_posix()) if page.is_file() else ""
        named = Cell(path.name, "", link), Cell("-" if isinstance(kind, UserError) else kind)
        rows.append([*named, *_cells(found)])
    rows.sort(key=lambda row: -1.0 if row[2].order is None else row[2].order, reverse=True)
    head = (
        "name",
        "kind",
        "baselines beaten",
        "earned its keep",
        "minus the best baseline, %",
        "band held, %",
    )
    note = (
        "Sorted by the share of baselines that are beaten on the test rows; of a sweep, by the config that"
        " came first on validation; of a walk-forward, by its first config. Pinball loss minus the best"
        " baseline's: below zero the model is better. Band: the 80 % interval, or the nearest to it."
    )
    table = Table("", (*head, "verdict"), rows, note)
    parts: list[Part] = [table]
    if without:
        text = "Without a page, and so without a link: make each, and then this index again."
        lines = [f"tftjax report {shlex.quote(str(path))}" for path in (*without, folder)]
        parts += [Text(text), Code("\n".join(lines))]
    subtitle = f"Runs, sweeps and walk-forwards: {len(rows)}"
    return Page(
        folder.resolve().name, subtitle, None, [], None, [Chapter("all", "All in this folder", parts)]
    )


def _judged(path: Path, kind: str | UserError) -> Judged | str:
    """The judgement of a directory, or why it has none."""
    try:
        if isinstance(kind, UserError):
            raise kind
        if kind == "run" and (final := read_final(path)) is not None:
            return f"Final fit to {final.trained_until}. The run that chose its epochs: {final.verdict}."
        return JUDGED[kind](path)
    except UserError as error:
        return f"Not to be judged: {error}"


def _cells(found: Judged | str) -> list[Cell]:
    """Of a directory, what follows its name and kind."""
    if isinstance(found, str):
        return [*[Cell("-")] * 4, Cell(found, "prose")]
    (mark, headline, *_), metrics = found
    total, best = count_baselines(metrics), hardest(metrics["baselines"])
    beaten, difference = count_beaten(metrics), None
    if best is not None:
        loss = metrics["baselines"][best]["pinball"]
        difference = relative(metrics["pinball"] - loss, loss)
    band = shown_band(metrics["coverage"])
    held = "-" if band is None else f"{share(metrics['coverage'][band])} of {band} %"
    earned = Cell(SYMBOLS[mark], mark if mark != "open" else "")
    # What is open stands below every share.
    beats = Cell(f"{beaten} of {total}", "", "", beaten / total if total and mark != "open" else -1.0)
    return [beats, earned, Cell(GAIN.number(difference, "+")), Cell(held), Cell(f"{headline}.", "prose")]


def _run(path: Path) -> Judged:
    metrics = read_evaluation(path).metrics["test"]
    return Judged(verdict_of(metrics), metrics)


def _sweep(path: Path) -> Judged:
    results = read_results(path)
    members, ensembles = read_evaluations(path, results), read_ensembles(path, ranking(results))
    judged = sweep.judged_evaluation(results, members, ensembles).metrics["test"]
    return Judged(sweep.verdict_of(results, members, ensembles), judged)


def _walk(path: Path) -> Judged:
    walk = read_walk(path)
    return Judged(walkforward.verdict_of(walk), next(iter(walk.metrics.values())))


JUDGED: dict[str, Callable[[Path], Judged]] = {"run": _run, "sweep": _sweep, "walk-forward": _walk}
