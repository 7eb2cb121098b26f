"""Pictures of an evaluated run, beside its tables: evaluation/{fan_chart,calibration,monitor}.png."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from numpy import ndarray

from tftjax.evaluate.evaluation import Evaluated
from tftjax.evaluate.files import Predictions
from tftjax.evaluate.verdict import hardest
from tftjax.storage import runs
from tftjax.storage.directories import RunDirectory
from tftjax.train.monitor import read_history

if TYPE_CHECKING:
    from tftjax.plots.theme import Drawing


def draw(run: runs.Run, evaluated: Evaluated) -> None:
    """Draws the first step's forecasts of the test rows, and the course of training, if any.

    The fan is that of the first series.

    Raises:
      UserError: a picture cannot be written.
    """
    from tftjax.plots import theme, training  # matplotlib takes half a second to import

    folder, name, test = RunDirectory(run.directory).evaluation, run.config.name, evaluated.test
    theme.save(folder.fan_chart, fan(name, test, test.series[0]))
    best = hardest(evaluated.metrics["val"]["baselines"])
    theme.save(folder.calibration, calibration(name, test, evaluated.shares, best))
    records = read_history(run.directory)
    if records:
        theme.save(folder.monitor, training.course_drawing(records, run.best_epoch, name))


def fan(name: str, test: Predictions, series: str) -> "Drawing":
    """The fan chart of one series' test rows.

    Args:
      name: the run's name, for the title.
    """
    from tftjax.plots import forecasts

    rows = test.series == series
    return forecasts.fan_drawing(
        test.dates[rows],
        test.target[rows, 0],
        test.forecast[rows, 0],
        test.quantiles,
        f"{name}: last year of test" + (f", series {series}" if series else ""),
    )


def calibration(
    name: str, test: Predictions, shares: dict[str, Float[ndarray, " Q"]], best: str | None
) -> "Drawing":
    """Calibration over all series of the model, the unconditional baseline and the best one.

    More lines could not be told apart.

    Args:
      name: the run's name, for the title.
      shares: see `Evaluated`.
      best: name of the baseline that was best on validation.
    """
    from tftjax.plots import forecasts

    titles = {"model": name, "unconditional": "unconditional", best: best}
    shown = {title: shares[other] for other, title in titles.items() if other in shares}
    return forecasts.calibration_drawing(
        shown, test.quantiles, len(test.target), f"{name}: calibration on test"
    )
