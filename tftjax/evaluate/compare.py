"""Regression gate: `tftjax compare RUN_A RUN_B` fails if B is significantly worse than A.

Exit code 0: not significantly worse, 1: significantly worse, 2: bad input, or too few dates to tell.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, rerun

if __name__ == "__main__":  # before the imports that take a second
    rerun("compare")

import numpy as np
import pandas as pd
from jaxtyping import Bool

from tftjax.errors import UserError
from tftjax.evaluate.files import LOSSES, Predictions, check_comparable, daily_losses, read_predictions
from tftjax.evaluate.formatting import LOSS, SQUARED_LOSS, counted, p_text
from tftjax.evaluate.scoring import SPLITS
from tftjax.evaluate.significance import ALPHA, MIN_DAYS, Difference, diebold_mariano

log = logging.getLogger(__name__)


def compare(run_a: Path, run_b: Path, metric: str, split: str, common: bool = False) -> Difference:
    """Tests whether two runs differ in a metric, day by day on the same days.

    Args:
      common: whether to leave out the forecasts that only one of them has; their numbers are logged.
    Returns:
      The difference, B minus A: above 0, B is worse.
    Raises:
      UserError: a run without predictions, runs that do not compare, or an unknown metric.
    """
    a, b = (read_predictions(run, split) for run in (run_a, run_b))
    keys_a, keys_b = (pd.MultiIndex.from_arrays([part.dates, part.series]) for part in (a, b))
    if common:
        kept = keys_a.isin(keys_b), keys_b.isin(keys_a)
        for run, part, both in zip((run_a, run_b), (a, b), kept, strict=True):
            days = pd.Index(part.dates[~both]).nunique()
            words = (
                f"left out {(~both).sum():,} of {counted(len(both), 'forecast')}, of {counted(days, 'date')}"
            )
            log.warning(f"{run}: {words}")
        a, b = (_rows(part, both) for part, both in zip((a, b), kept, strict=True))
    try:
        check_comparable(a, b, (str(run_a), str(run_b)))
    except UserError as error:
        if common or keys_a.equals(keys_b) or not len(keys_a.intersection(keys_b)):
            raise
        raise UserError(f"{error} Or compare the forecasts that both have: --common.") from error
    if metric == "pinball" and a.quantiles != b.quantiles:
        raise UserError(
            f"{run_a} and {run_b} do not compare in pinball: they forecast the quantiles {a.quantiles} and"
            f" {b.quantiles}. Compare one that both have: --metric pinball/0.5."
        )
    days = a.dates.nunique()
    if days < MIN_DAYS:
        raise UserError(f"{split}: found {days} dates, expected at least {MIN_DAYS}: too few for a test.")
    losses_a, losses_b = (
        daily_losses(predictions, metric, str(run)) for predictions, run in ((a, run_a), (b, run_b))
    )
    return diebold_mariano(losses_b - losses_a, a.target.shape[1])


def _rows(predictions: Predictions, mask: Bool[np.ndarray, " N"]) -> Predictions:
    """Some of the windows."""
    dates, series, forecast, target, quantiles = predictions
    return Predictions(dates[mask], series[mask], forecast[mask], target[mask], quantiles)


def is_worse(tested: Difference, alpha: float) -> bool:
    """Whether B is worse at that level, by the one-sided test: the question has one side."""
    return tested.p is not None and tested.difference > 0 and tested.p / 2 < alpha


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "compare",
        """
        Asks whether run B is worse than run A, by Diebold and Mariano's test of their losses on the same
        dates. A gate for scripts: exit code 1 if B is significantly worse than A, 0 if not, 2 for bad input
        or too few dates to tell.
        """,
        "runs/control runs/balanced_01",
        "runs/control runs/balanced_01 --metric pinball/0.02 --split val",
    )
    parser.add_argument("run_a", type=Path, help="run directory, the reference")
    parser.add_argument("run_b", type=Path, help="run directory that must not be worse")
    parser.add_argument(
        "--metric", default="pinball", help=f"{', '.join(LOSSES)} or pinball/LEVEL; default: pinball"
    )
    parser.add_argument("--alpha", type=_share, default=ALPHA, help=f"level of the test; default: {ALPHA:g}")
    parser.add_argument("--split", choices=SPLITS, default="test", help="rows compared; default: test")
    parser.add_argument(
        "--common",
        action="store_true",
        help="compare on the dates that both have forecast; others are left out",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exits with 1 if RUN_B is significantly worse than RUN_A, else with 0; with 2 if that cannot be said."""
    arguments = make_parser().parse_args(argv)
    worse = False

    def command() -> None:
        nonlocal worse
        runs = arguments.run_a, arguments.run_b
        tested = compare(*runs, arguments.metric, arguments.split, arguments.common)
        worse = is_worse(tested, arguments.alpha)
        print(f"{arguments.metric} on {arguments.split}, B minus A{report(tested, arguments.metric)}")
        print(f"B is {'' if worse else 'not '}significantly worse than A (alpha {arguments.alpha:g})")

    return exit_code(command) or int(worse)


def report(tested: Difference, metric: str) -> str:
    """A difference for reading, after the words for what it is."""
    if tested.p is None:
        return ": no difference on any date"
    one_sided = tested.p / 2 if tested.difference > 0 else 1 - tested.p / 2
    unit, number = ("1e-6", SQUARED_LOSS) if metric == "squared_error" else ("1e-3", LOSS)
    estimate = number.estimate(tested.difference, tested.low, tested.high, "+")
    return f", {unit} [95 %]: {estimate}; that B is worse: one-sided {p_text(one_sided)}"


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a number between 0 and 1")
    return value
