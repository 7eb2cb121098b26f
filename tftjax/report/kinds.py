"""Pages that say whether a forecast has earned its keep: `python -m tftjax.report DIRECTORY...`.

`report.html` in the directory of each run, sweep or walk-forward has no address outside of it: it asks for
nothing. It is derived from the files beside it: it is replaced without asking, and the same files give the
same bytes; a folder's must have been written here. Runs and sweeps given together must have forecast the
same returns; runs are also tested against each other. Runs come before sweeps, whose pages link to them. A
walk-forward's page has its own forecasts alone. A folder of all these gets an index of their verdicts.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from tftjax import files
from tftjax.errors import UserError
from tftjax.evaluate.compare import compare
from tftjax.evaluate.files import Evaluation, check_comparable, read_evaluation
from tftjax.evaluate.scoring import SPLITS
from tftjax.evaluate.significance import MIN_DAYS, Difference
from tftjax.storage.directories import RunDirectory, SweepDirectory, TrainingDirectory, no_folder

OURS = b"Written by python -m tftjax.report"  # in the footer of every page


def report(directories: Sequence[Path]) -> list[Path]:
    """Writes the reports of runs, sweeps and walk-forwards, and of folders of these; returns their paths.

    Raises:
      UserError: a directory is none of these or not finished, it has no predictions, forecasts do not
        compare, a page cannot be written, or a folder has a report.html from elsewhere.
    """
    # With matplotlib: half a second to import.
    from tftjax.report.index import index_page
    from tftjax.report.page import Page, render
    from tftjax.report.run import run_page
    from tftjax.report.sweep import sweep_page
    from tftjax.report.walkforward import walk_page
    from tftjax.sweep.results import read_evaluations, read_results
    from tftjax.walkforward.files import read_walk

    kinds = {directory: kind_of(directory) for directory in dict.fromkeys(directories)}
    for folder, kind in kinds.items():
        if kind == "folder":
            _check_ours(TrainingDirectory(folder).report)
    sweeps = {folder: read_results(folder) for folder, kind in kinds.items() if kind == "sweep"}
    walks = {folder: read_walk(folder) for folder, kind in kinds.items() if kind == "walk-forward"}
    members = {folder: read_evaluations(folder, results) for folder, results in sweeps.items()}
    runs = {run: read_evaluation(run) for run, kind in kinds.items() if kind == "run"}
    check_all(runs | {folder: next(iter(evaluations.values())) for folder, evaluations in members.items()})
    written = []

    def write(directory: Path, page: Page) -> None:
        written.append(TrainingDirectory(directory).report)
        files.replace_text(written[-1], render(page))

    for run, evaluation in runs.items():
        write(run, run_page(evaluation, against(run, runs)))
    for folder, results in sweeps.items():
        write(folder, sweep_page(folder, results, members[folder]))
    for folder, walk in walks.items():
        write(folder, walk_page(walk))
    for folder, kind in kinds.items():
        if kind == "folder":
            write(folder, index_page(folder, {part: _kind_or_error(part) for part in parts_of(folder)}))
    return written


def _kind_or_error(part: Path) -> str | UserError:
    """The kind of a part of a folder, or why it has none: one that is damaged is no reason for no index."""
    try:
        return kind_of(part)
    except UserError as error:
        return error


def _check_ours(page: Path) -> None:
    """Refuses to replace a page in a user's own folder that is not from here."""
    if page.is_file() and OURS not in page.read_bytes():
        raise UserError(
            f"{page}: found a file that tftjax report has not written, expected none or an earlier"
            " index. Move it away or rename it, then make the index again."
        )


def parts_of(folder: Path) -> list[Path]:
    """The runs, sweeps and walk-forwards that lie in a folder, by name."""
    return sorted(
        path
        for path in folder.glob("*")
        if RunDirectory(path).identity.is_file() or SweepDirectory(path).identity.is_file()
    )


def kind_of(directory: Path) -> str:
    """The kind of a directory: "run", "sweep", "walk-forward", or "folder" of these.

    Raises:
      UserError: none of these, or its sweep.json is damaged.
    """
    run, sweep = RunDirectory(directory), SweepDirectory(directory)
    if sweep.plan.is_file():
        return "walk-forward" if any(member.get("fold") for member in sweep.read()) else "sweep"
    if not run.config.is_file():
        if parts_of(directory):
            return "folder"
        if not directory.is_dir():
            raise UserError(
                no_folder(directory, "run, sweep or walk-forward", f"{run.made_by}, {sweep.made_by}")
            )
        raise UserError(
            f"{directory}: neither a run (it has no {run.config.name}) nor a sweep or walk-forward (it has no"
            f" {sweep.plan.name}) nor a folder of these. Give a directory that {run.made_by},"
            f" {sweep.made_by} made."
        )
    return "run"


def check_all(evaluations: Mapping[Path, Evaluation]) -> None:
    """Refuses forecasts of different returns; see `check_comparable`."""
    for (first, a), (other, b) in itertools.pairwise(evaluations.items()):
        for split in SPLITS:
            names = (f"{first}, {split} rows,", f"{other}")
            check_comparable(a.predictions[split], b.predictions[split], names)


def against(run: Path, evaluations: Mapping[Path, Evaluation]) -> dict[str, tuple[float, Difference]]:
    """By name of each other run, its pinball loss and this run minus it, on the test days; none with too few.

    Raises:
      UserError: they forecast different quantiles.
    """
    if evaluations[run].metrics["test"]["tests"]["days"] < MIN_DAYS:
        return {}
    return {
        other.name: (evaluation.metrics["test"]["pinball"], compare(other, run, "pinball", "test"))
        for other, evaluation in evaluations.items()
        if other != run
    }
