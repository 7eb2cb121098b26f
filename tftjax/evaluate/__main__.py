"""Evaluate a run: `python -m tftjax.evaluate runs/NAME`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax import runtime
from tftjax.cli import exit_code
from tftjax.evaluate.evaluation import evaluate
from tftjax.evaluate.verdict import summary
from tftjax.storage import runs
from tftjax.train import pictures


def main(argv: Sequence[str] | None = None) -> int:
    """Writes metrics, predictions, baselines and plots into the `evaluation` folder of a run's directory."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.evaluate", description=main.__doc__)
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
