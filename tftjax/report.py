"""One page that says whether a forecast has earned its keep: `python -m tftjax.report RUN_OR_SWEEP...`.

It writes `report.html` into the directory of each run or sweep: a file that needs no other, with no script
and no address outside of it. Like `evaluation/`, it is derived from what lies beside it: it is replaced
without asking, and the same files give the same bytes. Runs and sweeps given together must have forecast the
same returns; runs are also tested against each other. Runs come before sweeps, whose pages link to them.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tftjax import files
from tftjax.compare import check_comparable, compare
from tftjax.config import UserError
from tftjax.config_errors import exit_code
from tftjax.report_data import Evaluation, read_evaluation
from tftjax.significance import MIN_DAYS, Difference

NAME = "report.html"


def report(directories: Sequence[Path]) -> list[Path]:
    """Writes the reports of runs and sweeps.

    Returns:
      Their paths.
    Raises:
      UserError: what is neither a run nor a sweep, one without predictions, those that do not compare, or
        pages that cannot be written.
    """
    from tftjax import report_page, report_run, report_sweep  # with matplotlib: half a second to import

    directories = list(dict.fromkeys(directories))
    sweeps = {folder: report_sweep.read_results(folder) for folder in directories if is_sweep(folder)}
    members = {folder: report_sweep.read_members(folder, results) for folder, results in sweeps.items()}
    found = {run: read_evaluation(run) for run in directories if run not in sweeps}
    check_all(found | {folder: next(iter(own.values())) for folder, own in members.items()})
    written = []
    for run, evaluation in found.items():
        page = report_run.run_page(evaluation, against(run, found))
        files.replace_text(run / NAME, report_page.render(page))
        written.append(run / NAME)
    for folder, results in sweeps.items():
        page = report_sweep.sweep_page(folder, results, members[folder], NAME)
        files.replace_text(folder / NAME, report_page.render(page))
        written.append(folder / NAME)
    return written


def is_sweep(directory: Path) -> bool:
    """Whether a directory is a sweep's, and not a run's.

    Raises:
      UserError: it is neither.
    """
    if (directory / "sweep.json").is_file():
        return True
    if not (directory / "config.json").is_file():
        raise UserError(
            f"{directory}: neither a run (it has no config.json) nor a sweep (it has no sweep.json). Give a"
            " directory that tftjax.train or tftjax.sweep made."
        )
    return False


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


def main(argv: Sequence[str] | None = None) -> int:
    """Writes report.html into the directory of each run or sweep."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.report", description=main.__doc__)
    parser.add_argument("directory", type=Path, nargs="+", help="run or sweep, such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: [print(path) for path in report(arguments.directory)])


if __name__ == "__main__":
    sys.exit(main())
