"""One page that says whether a forecast has earned its keep: `python -m tftjax.report RUN_OR_SWEEP...`.

It writes `report.html` into the directory of each run or sweep: a file that needs no other, with no script
and no address outside of it. Like `evaluation/`, it is derived from the run: it is replaced without asking,
and the same run gives the same bytes. Runs given together are also tested against each other, and must have
forecast the same returns.
"""

import argparse
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
    """Writes the reports of runs and sweeps; returns their paths.

    Raises:
      UserError: what is neither a run nor a sweep, a run without predictions, or runs that do not compare.
    """
    from tftjax.report_page import render  # with matplotlib, which takes half a second to import
    from tftjax.report_run import run_page

    evaluations = {directory: read_evaluation(directory) for directory in directories}
    pages = {
        directory: run_page(found, against(directory, evaluations)) for directory, found in evaluations.items()
    }
    written = []
    for directory, page in pages.items():
        files.replace_text(directory / NAME, render(page))
        written.append(directory / NAME)
    return written


def against(
    directory: Path, evaluations: Mapping[Path, Evaluation]
) -> dict[str, tuple[float, Difference]]:
    """The other runs beside one: pinball loss, and this run minus it, on the test days."""
    own = evaluations[directory]
    if own.metrics["test"]["tests"]["days"] < MIN_DAYS:
        return {}
    return {
        str(other): (found.metrics["test"]["pinball"], compare(other, directory, "pinball", "test"))
        for other, found in evaluations.items()
        if other != directory
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Writes report.html into the directory of each run or sweep."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.report", description=main.__doc__)
    parser.add_argument("directory", type=Path, nargs="+", help="run or sweep, such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: [print(path) for path in report(arguments.directory)])


if __name__ == "__main__":
    sys.exit(main())
