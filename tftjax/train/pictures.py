"""Pictures of an evaluated run, beside its tables: evaluation/{fan_chart,calibration,monitor}.png."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Pictures(NamedTuple):
    """What the pictures of a run are drawn from; it can be sent to another process.

    Attributes:
      directory: the run's directory.
      name: the run's name, for titles.
      test: the test windows.
      shares: see `Evaluated`.
      best: name of the baseline that was best on validation.
      records: the epochs' lines of metrics.jsonl; none of what no training made.
      best_epoch: the epoch whose parameters are kept.
    """

    directory: Path
    name: str
    test: Predictions
    shares: dict[str, Float[ndarray, " Q"]]
    best: str | None
    records: list[dict[str, Any]]
    best_epoch: int


def pictures_of(run: runs.Run, evaluated: Evaluated) -> Pictures:
    """What the pictures of an evaluated run are drawn from."""
    best, records = hardest(evaluated.metrics["val"]["baselines"]), read_history(run.directory)
    parts = run.config.name, evaluated.test, evaluated.shares, best, records, run.best_epoch
    return Pictures(run.directory, *parts)


def draw(pictures: Pictures) -> None:
    """Draws the first step's forecasts of the test rows, and the course of training, if any.

    The fan is that of the first series.

    Raises:
      UserError: a picture cannot be written.
    """
    from tftjax.plots import theme, training  # matplotlib takes half a second to import

    folder, name, test = RunDirectory(pictures.directory).evaluation, pictures.name, pictures.test
    theme.save(folder.fan_chart, fan(name, test, test.series[0]))
    theme.save(folder.calibration, calibration(name, test, pictures.shares, pictures.best))
    if pictures.records:
        theme.save(folder.monitor, training.course_drawing(pictures.records, pictures.best_epoch, name))


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
