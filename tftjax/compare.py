"""Regression gate: `python -m tftjax.compare RUN_A RUN_B` fails if B is significantly worse than A.

Exit code 0: not significantly worse, 1: significantly worse, 2: bad input, or too few days to tell.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.baseline_scores import SPLITS
from tftjax.cli import exit_code
from tftjax.config.section import nearest
from tftjax.errors import UserError
from tftjax.metrics import median, pinball_losses
from tftjax.scoring import by_day, p_text
from tftjax.significance import ALPHA, MIN_DAYS, Difference, diebold_mariano

Forecast = Float[np.ndarray, "N P Q"]
Target = Float[np.ndarray, "N P"]

# (forecast, target, quantiles) -> loss of each window and step [N P]; lower is better. Besides these,
# "pinball/LEVEL" is the pinball loss of one quantile.
LOSSES: dict[str, Callable[[Forecast, Target, Sequence[float]], Target]] = {
    "pinball": lambda forecast, target, quantiles: pinball_losses(forecast, target, quantiles).mean(axis=-1),
    "absolute_error": lambda forecast, target, quantiles: np.abs(target - median(forecast, quantiles)),
    "squared_error": lambda forecast, target, quantiles: np.square(target - median(forecast, quantiles)),
}


class Predictions(NamedTuple):
    """A split of predictions.csv: a row a window (and series), first target days ascending in each series."""

    dates: pd.DatetimeIndex  # [N], of the first step
    series: np.ndarray  # [N]
    forecast: Forecast
    target: Target
    quantiles: tuple[float, ...]


def read_predictions(run: Path, split: str) -> Predictions:
    """Reads what `evaluate` wrote of a split.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = run / "evaluation" / "predictions.csv"
    if not path.is_file():
        raise UserError(f"{path}: missing. Make it: python -m tftjax.evaluate {run}")
    try:
        table = pd.read_csv(path, parse_dates=["date"], dtype={"series": str})
        table = table[table["split"] == split]
        levels = [name for name in table if name not in ("date", "split", "series", "step", "actual")]
        quantiles = tuple(map(float, levels))
        steps = int(table["step"].max()) if "step" in table else 1
        target = table["actual"].to_numpy(np.float64).reshape(-1, steps)
        forecast = table[levels].to_numpy(np.float64).reshape(*target.shape, len(levels))
        if not (np.isfinite(target).all() and np.isfinite(forecast).all()):
            raise ValueError("a cell holds no finite number")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). Make it anew: python -m tftjax.evaluate {run}"
        ) from error
    first = table.iloc[::steps]
    series = first["series"].to_numpy() if "series" in first else np.full(len(first), "")
    return Predictions(pd.DatetimeIndex(first["date"]), series, forecast, target, quantiles)


def check_comparable(a: Predictions, b: Predictions, names: tuple[str, str]) -> None:
    """Refuses forecasts of different returns.

    Raises:
      UserError: names the first difference.
    """

    def refuse(what: str) -> None:
        raise UserError(
            f"{names[0]} and {names[1]} do not compare: {what}. Compare runs on the same data and splits."
        )

    steps_a, steps_b = a.target.shape[1], b.target.shape[1]
    if steps_a != steps_b:
        refuse(f"found windows of {steps_a} and {steps_b} steps")
    for one, other, which in ((a, b, "first"), (b, a, "second")):
        lacking = sorted(set(one.series) - set(other.series))
        if lacking:
            refuse(f"only the {which} has the series {', '.join(lacking[:5])}")
        days = one.dates.difference(other.dates)
        if len(days):
            refuse(f"only the {which} forecasts {len(days)} days, such as {days[0].date()}")
    if not (a.dates.equals(b.dates) and np.array_equal(a.series, b.series)):
        refuse("some series have other days in one than in the other")
    different = ~np.isclose(a.target, b.target, rtol=1e-6, atol=1e-12)
    if different.any():
        row, step = np.argwhere(different)[0]
        refuse(
            f"the actual returns differ in {different.sum()} of {different.size} places, first in the window"
            f" of {a.dates[row].date()}, {a.target[row, step]:g} and {b.target[row, step]:g}"
        )


def daily_losses(predictions: Predictions, metric: str, where: str) -> Float[np.ndarray, " T"]:
    """The loss of each day, over all steps and series.

    Raises:
      UserError: an unknown metric, or a quantile that was not forecast.
    """
    forecast, quantiles = predictions.forecast, predictions.quantiles
    name, slash, level = metric.partition("/")
    names = [f"{q:g}" for q in quantiles]
    if slash and name == "pinball" and level in names:
        place = names.index(level)
        losses = pinball_losses(forecast, predictions.target, quantiles)[..., place]
    elif metric in LOSSES:
        losses = LOSSES[metric](forecast, predictions.target, quantiles)
    else:
        known = (*LOSSES, *(f"pinball/{level}" for level in names))
        raise UserError(f"--metric {metric}: unknown for {where}. {nearest(metric, known)}")
    _, day = np.unique(predictions.dates, return_inverse=True)
    return by_day(losses.mean(axis=1), day)


def compare(run_a: Path, run_b: Path, metric: str, split: str) -> Difference:
    """Tests whether two runs differ in a metric, day by day on the same days.

    Returns:
      The difference, B minus A: above 0, B is worse.
    Raises:
      UserError: a run without predictions, runs that do not compare, or an unknown metric.
    """
    a, b = (read_predictions(run, split) for run in (run_a, run_b))
    check_comparable(a, b, (str(run_a), str(run_b)))
    if metric == "pinball" and a.quantiles != b.quantiles:
        raise UserError(
            f"{run_a} and {run_b} do not compare in pinball: they forecast the quantiles {a.quantiles} and"
            f" {b.quantiles}. Compare one that both have: --metric pinball/0.5."
        )
    days = a.dates.nunique()
    if days < MIN_DAYS:
        raise UserError(f"{split}: found {days} days, expected at least {MIN_DAYS}: too few for a test.")
    losses_a, losses_b = (
        daily_losses(predictions, metric, str(run)) for predictions, run in ((a, run_a), (b, run_b))
    )
    return diebold_mariano(losses_b - losses_a, a.target.shape[1])


def is_worse(found: Difference, alpha: float) -> bool:
    """Whether B is worse at that level, by the one-sided test: the question has one side."""
    return found.p is not None and found.difference > 0 and found.p / 2 < alpha


def main(argv: Sequence[str] | None = None) -> int:
    """Exits with 1 if RUN_B is significantly worse than RUN_A, else with 0; with 2 if that cannot be said."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.compare", description=main.__doc__)
    parser.add_argument("run_a", type=Path, help="run directory, the reference")
    parser.add_argument("run_b", type=Path, help="run directory that must not be worse")
    parser.add_argument(
        "--metric", default="pinball", help=f"{', '.join(LOSSES)} or pinball/LEVEL; default: pinball"
    )
    parser.add_argument("--alpha", type=_share, default=ALPHA, help=f"level of the test; default: {ALPHA:g}")
    parser.add_argument("--split", choices=SPLITS, default="test", help="rows compared; default: test")
    arguments = parser.parse_args(argv)
    worse = False

    def command() -> None:
        nonlocal worse
        found = compare(arguments.run_a, arguments.run_b, arguments.metric, arguments.split)
        worse = is_worse(found, arguments.alpha)
        print(f"{arguments.metric} on {arguments.split}, B minus A: {report(found)}")
        print(f"B is {'' if worse else 'not '}significantly worse than A (alpha {arguments.alpha:g})")

    return exit_code(command) or int(worse)


def report(found: Difference) -> str:
    """A difference for reading."""
    if found.p is None:
        return "no difference on any day"
    one_sided = found.p / 2 if found.difference > 0 else 1 - found.p / 2
    return (
        f"{found.difference:+.4g}, 95 % interval [{found.low:+.4g}, {found.high:+.4g}]; that B is worse:"
        f" one-sided {p_text(one_sided)}"
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a number between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
