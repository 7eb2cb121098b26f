"""The final fit of an ensemble: that of each of its seeds, in a sweep's directory of their own."""

from collections.abc import Sequence
from pathlib import Path

from tftjax.data.panel import Panel
from tftjax.errors import UserError
from tftjax.evaluate.verdict import read_verdict
from tftjax.files import write_json
from tftjax.storage import runs
from tftjax.storage.directories import ForecastDirectory, SweepDirectory, sweep_of
from tftjax.storage.runs import Ended
from tftjax.sweep.members import claim, write_ended
from tftjax.sweep.plan import Member
from tftjax.train.run import refit


def refit_seeds(
    seeds: Sequence[runs.Run],
    source: Path,
    directory: Path,
    *,
    panel: Panel | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> list[runs.Run]:
    """Trains every seed of an ensemble anew on all rows; see `train.run.refit`.

    Args:
      seeds: the ensemble's runs.
      source: its directory, with its evaluation.
      directory: that of the final fit.
      panel, resume, overwrite, quiet: see `refit`.

    Raises:
      UserError: see `refit`.
    """
    runs.check_judged(source)
    sweep, group = SweepDirectory(directory), source.name
    if directory.resolve() == source.resolve().parents[1] or sweep_of(directory) is not None:
        raise UserError(
            f"{directory}: the seeds' own sweep, or inside of one. Give a final fit a directory of its own."
        )
    verdict = read_verdict(ForecastDirectory(source).evaluation.metrics, "the training, with resume=True.")
    members = [Member(run.config.name, group, run.config) for run in seeds]
    with claim(directory, members, resume=resume, overwrite=overwrite):
        finals = [
            refit(
                run, sweep.member(run.config.name).path, panel=panel, resume=True, quiet=quiet, within=sweep
            )
            for run in seeds
        ]
        ended = {}
        for run in finals:
            epochs = run.config.train.last_epoch
            ended[run.config.name] = Ended("finished", epochs, epochs)
        write_ended(directory, "", ended)
        record = runs.read_final(finals[0].directory)
        path = runs.path_to_source(source, directory)
        write_json(sweep.final, record._replace(source=path, verdict=verdict)._asdict())
    return finals
