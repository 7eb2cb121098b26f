"""Pictures of an evaluated run, beside its tables: evaluation/{fan_chart,calibration,monitor}.png."""

from pathlib import Path
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from tftjax.evaluate.evaluation import Evaluated
from tftjax.evaluate.files import Predictions
from tftjax.evaluate.formatting import Unit, unit_of
from tftjax.evaluate.verdict import hardest
from tftjax.storage import runs
from tftjax.storage.directories import RunDirectory
from tftjax.train.monitor import read_history


def draw(run: runs.Run, evaluated: Evaluated) -> None:
    """Writes the `drawings` of an evaluated run.

    Raises:
      UserError: a picture cannot be written.
    """
    from tftjax.plots import theme  # matplotlib takes half a second to import

    theme.save_each(drawings(run, evaluated))


def drawings(run: runs.Run, evaluated: Evaluated) -> list[tuple[Path, Any]]:
    """The first step's forecasts of the test rows, and the course of training: `theme.Drawing`s by file.

    The fan is that of the first series. They can be sent to another process, which needs no jax to draw them.
    """
    from tftjax.plots import training

    folder, name, test = RunDirectory(run.directory).evaluation, run.config.name, evaluated.test
    best, records = hardest(evaluated.metrics["val"]["baselines"]), read_history(run.directory)
    result = [
        (folder.fan_chart, fan(name, test, test.series[0], unit_of(run.config.data))),
        (folder.calibration, calibration(name, test, evaluated.shares, best)),
    ]
    if records:
        result.append((folder.monitor, training.course_drawing(records, run.best_epoch, name)))
    return result


def fan(name: str, test: Predictions, series: str, unit: Unit) -> Any:
    """The fan chart of one series' test rows.

    Args:
      name: the run's name, for the title.
    """
    from tftjax.plots import forecasts

    title = f"{name}: last year of test" + (f", series {series}" if series else "")
    return forecasts.fan_drawing(fan_data(test, series, unit), title)


def fan_data(test: Predictions, series: str, unit: Unit, rows: int | None = None) -> Any:
    """The fan of one series' test rows, as `plots.chart.Chart`; of the last year, or of a number of rows."""
    from tftjax.plots import forecasts

    own = test.series == series
    arrays = test.dates[own], test.target[own, 0], test.forecast[own, 0]
    return forecasts.fan_data(*arrays, test.quantiles, unit, rows or forecasts.ROWS_SHOWN)


def calibration(
    name: str, test: Predictions, shares: dict[str, Float[ndarray, " Q"]], best: str | None
) -> Any:
    """Calibration over all series of the model, the unconditional baseline and the best one.

    More lines could not be told apart.

    Args:
      name: the run's name, for the title.
      shares: see `Evaluated`.
      best: name of the baseline that was best on validation.
    """
    from tftjax.plots import forecasts

    shown = calibrated(name, shares, best)
    return forecasts.calibration_drawing(
        shown, test.quantiles, len(test.target), f"{name}: calibration on test"
    )


def calibrated(
    name: str, shares: dict[str, Float[ndarray, " Q"]], best: str | None
) -> dict[str, Float[ndarray, " Q"]]:
    """The shares of `calibration`'s lines, by their titles."""
    titles = {"model": name, "unconditional": "unconditional", best: best}
    return {title: shares[other] for other, title in titles.items() if other in shares}
