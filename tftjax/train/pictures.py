"""Pictures of an evaluated run, beside its tables: evaluation/{fan_chart,calibration,monitor}.png."""

from tftjax.evaluate.evaluation import Evaluated
from tftjax.evaluate.verdict import hardest
from tftjax.storage import runs
from tftjax.storage.directories import RunDirectory
from tftjax.train.monitor import read_history


def draw(run: runs.Run, evaluated: Evaluated) -> None:
    """Draws the first step's forecasts of the test rows, and the course of training, if any.

    The fan is that of the first series; calibration is over all series, of the model, the unconditional
    baseline and the one that was best on validation: more lines cannot be told apart.

    Raises:
      UserError: a picture cannot be written.
    """
    from tftjax.plots import forecasts, training  # matplotlib takes half a second to import

    folder, name, test = RunDirectory(run.directory).evaluation, run.config.name, evaluated.test
    first = test.series == test.series[0]
    forecasts.draw_fan_chart(
        folder.fan_chart,
        test.dates[first],
        test.target[first, 0],
        test.forecast[first, 0],
        test.quantiles,
        f"{name}: last year of test" + (f", series {test.series[0]}" if test.series[0] else ""),
    )
    compared = ("model", "unconditional", hardest(evaluated.metrics["val"]["baselines"]))
    shares = {
        name if other == "model" else other: evaluated.shares[other]
        for other in compared
        if other in evaluated.shares
    }
    forecasts.draw_calibration(
        folder.calibration, shares, test.quantiles, len(test.target), f"{name}: calibration on test"
    )
    training.draw(folder.monitor, read_history(run.directory), run.best_epoch, name)
