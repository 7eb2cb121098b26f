"""Evaluate a run: `python -m tftjax.evaluate runs/NAME`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax import runtime
from tftjax.cli import command_parser, exit_code
from tftjax.evaluate.evaluation import evaluate
from tftjax.evaluate.verdict import summary
from tftjax.storage import runs
from tftjax.train import pictures


def main(argv: Sequence[str] | None = None) -> int:
    """Writes metrics, predictions, baselines and plots into the `evaluation` folder of a run's directory."""
    parser = command_parser("evaluate", main.__doc__, "runs/balanced_01")
    parser.add_argument("run", type=Path, help="run directory, such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        run = runs.open_run(arguments.run)
        evaluated = evaluate(run)
        pictures.draw(run, evaluated)
        print(summary(evaluated.metrics))

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
