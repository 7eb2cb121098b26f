"""Evaluate a run: `python -m tftjax.evaluate runs/NAME`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, importing


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "evaluate",
        """
        Judges a run on its validation and test rows: metrics beside baselines that need no network, tests of
        significance, a quality mode over time, and pictures, in runs/NAME/evaluation. A training does this at
        its end; do it again after a change of evaluation settings or of this software.

        With --forecasts, forecasts of other libraries are judged on the same days. A table of them, CSV or
        Parquet, has the columns date (that is forecast), series and step if there are several, and one a
        quantile, named by its level; returns in the unit of the run's data. It covers the validation and test
        rows, or the test rows alone. Without the flag the evaluation is made without them again.
        """,
        "runs/balanced_01",
        "runs/balanced_01 --forecasts chronos.csv",
    )
    parser.add_argument("run", type=Path, help="run directory, such as runs/balanced_01")
    parser.add_argument(
        "--forecasts",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="forecasts of another library, named as the file; give it once for each",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes metrics, predictions, baselines and plots into the `evaluation` folder of a run's directory."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.evaluate.evaluation import evaluate
            from tftjax.evaluate.foreign import by_stem, read_foreign
            from tftjax.evaluate.verdict import summary
            from tftjax.storage import runs
            from tftjax.train import pictures

        runtime.configure()
        run = runs.open_run(arguments.run)
        foreign = read_foreign(run, by_stem(arguments.forecasts))
        evaluated = evaluate(run, foreign=foreign)
        pictures.draw(run, evaluated)
        print(summary(evaluated.metrics))

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
