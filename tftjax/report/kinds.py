"""One page that says whether a forecast has earned its keep: `python -m tftjax.report DIRECTORY...`.

It writes `report.html` into the directory of each run, sweep or walk-forward: a file that needs no other,
with no script and no address outside of it. Like `evaluation/`, it is derived from what lies beside it: it is
replaced without asking, and the same files give the same bytes. Runs and sweeps given together must have
forecast the same returns; runs are also tested against each other. Runs come before sweeps, whose pages link
to them. A walk-forward's page has its own forecasts alone, whatever is given beside it.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from tftjax import files
from tftjax.compare import compare
from tftjax.errors import UserError
from tftjax.evaluate.files import Evaluation, check_comparable, read_evaluation
from tftjax.evaluate.significance import MIN_DAYS, Difference
from tftjax.storage.directories import RunDirectory, SweepDirectory


def report(directories: Sequence[Path]) -> list[Path]:
    """Writes the reports of runs, sweeps and walk-forwards.

    Returns:
      Their paths.
    Raises:
      UserError: what is none of these or not finished, one without predictions, those that do not compare,
        or pages that cannot be written.
    """
    # With matplotlib: half a second to import.
    from tftjax.report.page import render
    from tftjax.report.run import run_page
    from tftjax.report.sweep import sweep_page
    from tftjax.report.walkforward import walk_page
    from tftjax.sweep.results import read_evaluations, read_results
    from tftjax.walkforward.files import read_walk

    kinds = {directory: kind_of(directory) for directory in dict.fromkeys(directories)}
    sweeps = {folder: read_results(folder) for folder, kind in kinds.items() if kind == "sweep"}
    walks = [read_walk(folder) for folder, kind in kinds.items() if kind == "walk-forward"]
    members = {folder: read_evaluations(folder, results) for folder, results in sweeps.items()}
    found = {run: read_evaluation(run) for run, kind in kinds.items() if kind == "run"}
    check_all(found | {folder: next(iter(own.values())) for folder, own in members.items()})
    written = []
    for run, evaluation in found.items():
        written.append(RunDirectory(run).report)
        files.replace_text(written[-1], render(run_page(evaluation, against(run, found))))
    for folder, results in sweeps.items():
        written.append(SweepDirectory(folder).report)
        files.replace_text(written[-1], render(sweep_page(folder, results, members[folder])))
    for walk in walks:
        written.append(SweepDirectory(walk.folder).report)
        files.replace_text(written[-1], render(walk_page(walk)))
    return written


def kind_of(directory: Path) -> str:
    """What made a directory: "run", "sweep" or "walk-forward".

    Raises:
      UserError: none of these, or its sweep.json is damaged.
    """
    run, sweep = RunDirectory(directory), SweepDirectory(directory)
    if sweep.plan.is_file():
        return "walk-forward" if any(member.get("fold") for member in sweep.read()) else "sweep"
    if not run.config.is_file():
        raise UserError(
            f"{directory}: neither a run (it has no {run.config.name}) nor a sweep or walk-forward (it has no"
            f" {sweep.plan.name}). Give a directory that {run.made_by}, {sweep.made_by} made."
        )
    return "run"


def check_all(found: Mapping[Path, Evaluation]) -> None:
    """Refuses forecasts of different returns in one call.

    Raises:
      UserError: names the first difference.
    """
    for (first, a), (other, b) in itertools.pairwise(found.items()):
        for split in ("val", "test"):
            names = (f"{first}, {split} rows,", f"{other}")
            check_comparable(a.predictions[split], b.predictions[split], names)


def against(run: Path, found: Mapping[Path, Evaluation]) -> dict[str, tuple[float, Difference]]:
    """The other runs beside one: pinball loss, and this run minus it, on the test days; none with too few.

    Raises:
      UserError: they forecast different quantiles.
    """
    if found[run].metrics["test"]["tests"]["days"] < MIN_DAYS:
        return {}
    return {
        other.name: (evaluation.metrics["test"]["pinball"], compare(other, run, "pinball", "test"))
        for other, evaluation in found.items()
        if other != run
    }
