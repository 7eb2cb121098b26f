"""Forecast the next steps after the last row of the data: `python -m tftjax.predict runs/NAME`.

Of a sweep, `--config NAME` gives the forecast of that config's ensemble; of a walk-forward, in its newest
fold.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, iso_date, rerun

if __name__ == "__main__":  # before the imports that take a second
    rerun("predict")

from tftjax import files, runtime
from tftjax.data.tables.transforms import in_return_unit, to_levels
from tftjax.errors import UserError
from tftjax.evaluate.formatting import counted
from tftjax.predict.conformal import METHODS
from tftjax.predict.forecasts import forecast_seeds, shown_as
from tftjax.predict.log import add_to_log, author_of
from tftjax.predict.paths import sample_paths
from tftjax.predict.rows import add_vintages, load_rows, vintage_frames
from tftjax.predict.series import forecastable
from tftjax.storage.forecast_log import read
from tftjax.sweep.ensembles import open_runs

log = logging.getLogger(__name__)

# Why a log cannot hold what a flag asks for.
NO_LOG = {
    "quantiles": "a log holds what the run forecasts, not other --quantiles",
    "conformal": "a log holds what the run forecasts, not its --conformal calibration",
    "paths": "a log holds quantiles, not --paths",
    "levels": "a log holds what the run forecasts, not --levels of it",
}


def _levels(text: str) -> list[float]:
    """The type of --quantiles."""
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected levels as 0.01,0.5,0.99") from None


def _add_what_is_made(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that ask for something else than the run's own quantiles; see NO_LOG."""
    parser.add_argument(
        "--quantiles",
        type=_levels,
        metavar="LEVELS",
        help="other levels than the run's, as 0.01,0.5,0.99: between and beyond its own",
    )
    parser.add_argument(
        "--conformal",
        choices=METHODS,
        default="none",
        help="calibrate the quantiles by the run's validation rows (split), or from there on by each outcome"
        " up to the last row (adaptive); default: as they are",
    )
    parser.add_argument(
        "--paths",
        type=int,
        metavar="N",
        help="sample paths over the steps in place of quantiles, as CSV: each step has the forecast's"
        " quantiles, and the steps go together as in the train rows",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of --paths: the same paths every time; default: 0"
    )
    parser.add_argument(
        "--levels",
        action="store_true",
        help="prices or levels in place of their changes: undoes data.target_transform; for a single step, or"
        " --paths",
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "predict",
        """
        Forecasts the steps after the last row of the data: their expected dates and their quantiles,
        printed or written as CSV. Of a sweep, --config NAME takes the mean of that config's seeds; of a
        walk-forward, those of its newest fold.
        """,
        "runs/balanced_01",
        "runs/balanced_01 --data newest.csv --out tomorrow.csv",
    )
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/balanced_01, or of a sweep")
    parser.add_argument("--config", metavar="NAME", help="of a sweep: the config whose seeds are averaged")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="folder of raw series, or a CSV or Parquet file; default: the run's data set, read anew",
    )
    parser.add_argument(
        "--as-of",
        type=iso_date,
        metavar="DATE",
        help="use rows up to this date only (YYYY-MM-DD)",
    )
    _add_what_is_made(parser)
    parser.add_argument(
        "--future",
        type=Path,
        metavar="FILE",
        help="CSV or Parquet file of the next steps: dates, and the known columns that no date gives",
    )
    add_vintages(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a CSV here instead of printing")
    parser.add_argument(
        "--append",
        type=Path,
        metavar="LOG",
        help="also add the forecasts to this CSV, to be scored later (tftjax score); made if missing",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints or writes the quantiles of the next steps."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    for flag, unset in (("quantiles", None), ("conformal", "none"), ("paths", None), ("levels", False)):
        if arguments.append and getattr(arguments, flag) != unset:
            parser.error(f"--append: {NO_LOG[flag]}")
    if arguments.seed is not None and arguments.paths is None:
        parser.error("--seed: draws --paths, of which there are none")
    if arguments.paths is not None and arguments.quantiles:
        parser.error("--paths: takes the place of --quantiles")

    def command() -> None:
        runtime.configure()
        seeds = open_runs(arguments.run, arguments.config)
        vintages = vintage_frames(arguments.vintages)
        panel = load_rows(seeds[0], arguments.data, arguments.as_of, arguments.future, vintages)
        rows = forecastable(seeds[0], panel)
        if arguments.out is not None and arguments.out.exists():
            raise UserError(f"{arguments.out} exists. Choose another file, or remove it.")
        if arguments.append is not None and arguments.append.exists():
            read(arguments.append, author_of(seeds))  # refuses another run's before the forecast is made
        settings, how = seeds[0].config.data, {"conformal": arguments.conformal}
        if arguments.paths is not None:
            how |= {"levels": arguments.levels, "seed": arguments.seed or 0}
            table = sample_paths(seeds, rows, arguments.paths, **how)
            log.info(f"{counted(arguments.paths, 'path')} drawn with --seed {how['seed']}")
        else:
            table = forecast_seeds(seeds, rows, quantiles=arguments.quantiles, **how)
            table = to_levels(table, rows) if arguments.levels else table
        table = in_return_unit(table, settings)
        if arguments.append is not None:
            add_to_log(arguments.append, seeds, rows, table)
        if arguments.out is None and arguments.paths is not None:
            print(table.to_csv(), end="")
        elif arguments.out is None:
            day = panel.frame.index.max().date()
            print(f"Forecast from data to {day}, {shown_as(settings, arguments.levels)}:")
            print(table.to_string(float_format=("{:.6g}" if arguments.levels else "{:+.5f}").format))
        else:
            files.replace_text(arguments.out, table.to_csv())

    return exit_code(command)
