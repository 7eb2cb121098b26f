"""Build, describe and check data sets: `python -m tftjax.data build|describe|validate|list|folds`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from tftjax.cli import command_parser, exit_code, iso_date, rerun

if __name__ == "__main__":  # before the imports that take a second
    rerun("data")

from tftjax import files
from tftjax.config import loading as configs
from tftjax.config.data import DataConfig
from tftjax.config.loading import Config
from tftjax.data.alignment import RULE_WORDS
from tftjax.data.calendar import SPACINGS
from tftjax.data.checks import findings
from tftjax.data.description import describe
from tftjax.data.feature_sets import CALENDAR, FEATURE_SETS, SECTIONS, SERIES
from tftjax.data.loading import feature_set_of, load_panel
from tftjax.data.panel import PANEL_FILES, ROLES_FILE, name_of, split_series, write_panel
from tftjax.data.raw.fred_api import BASE_URL
from tftjax.data.raw.sources import SOURCES
from tftjax.data.series.reading import UNITS
from tftjax.data.series.revisions import in_words, revisions_of
from tftjax.data.series.transforms import STEPS
from tftjax.errors import UserError
from tftjax.walkforward.plan import folds


def build(arguments: argparse.Namespace) -> None:
    """Makes a panel of raw series and writes it to a folder."""
    lags = dict(_lag(text) for text in arguments.lag)
    raw = {"dataset": "embedded" if arguments.source == "embedded" else arguments.raw, "lags": lags}
    if raw["dataset"] is None:
        raise UserError(
            f"--source {arguments.source}: --raw DIR is missing. Name the folder of the CSV files."
        )
    if arguments.source == "embedded" and arguments.sp500 == "yfinance":
        raise UserError("--sp500 yfinance: found with --source embedded, expected fred-api or fred-csv.")
    for name in ("feature_set", "frequency", "calendar", "alignment", "vintage", "missing", "max_gap"):
        raw[name] = getattr(arguments, name)
    raw |= {name: str(getattr(arguments, name)) for name in ("start", "end") if getattr(arguments, name)}
    if arguments.series is not None:
        series = configs.load(arguments.series).data.series
        if not series:
            raise UserError(f"--series {arguments.series}: found no data.series in it, expected some.")
        raw["series"] = {name: section.model_dump(mode="json") for name, section in series.items()}
    data = configs.from_dict({"data": raw}, "command line").data
    in_the_way = arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir()))
    replaces = arguments.overwrite and _holds_only_a_panel(arguments.out)
    if in_the_way and not replaces:
        raise UserError(
            f"{arguments.out} exists. Choose another --out, or replace a built panel with --overwrite."
        )
    _fetch(data, arguments)
    panel = load_panel(data)
    try:
        if replaces:
            for name in PANEL_FILES:
                (arguments.out / name).unlink(missing_ok=True)
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{arguments.out}: cannot be written ({error.strerror}).") from error
    about = {"source": arguments.source, **panel.about}
    write_panel(arguments.out, dataclasses.replace(panel, about=about))
    for message in panel.messages:
        print(message)
    first, last = panel.frame.index[0].date(), panel.frame.index[-1].date()
    print(f"{arguments.out}: {len(panel.frame)} rows, {first} to {last}, {len(panel.frame.columns)} columns")


def _fetch(data: DataConfig, arguments: argparse.Namespace) -> None:
    """Adds to the raw folder what it lacks, from the sources that were named."""
    names, folder = feature_set_of(data).series_names(), Path(arguments.raw or "")
    from_yahoo = ("SP500",) if arguments.sp500 == "yfinance" else ()
    from_source = tuple(name for name in names if name not in from_yahoo)
    SOURCES[arguments.source](from_source, folder, arguments.base_url)
    if from_yahoo:
        SOURCES["yfinance"](from_yahoo, folder, arguments.base_url)


def _holds_only_a_panel(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return ROLES_FILE in names and names <= set(PANEL_FILES)


def _lag(text: str) -> tuple[str, int]:
    name, equals, days = text.partition("=")
    if not equals or not (days.isascii() and days.isdigit()):
        raise UserError(f"--lag {text!r}: expected SERIES=DAYS, such as CPIAUCSL=45.")
    return name, int(days)


def show_list(arguments: argparse.Namespace) -> None:
    """Prints the feature sets with their columns, units, sources and transforms, and what own series take."""
    for name, feature_set in FEATURE_SETS.items():
        print(name)
        for column in feature_set.columns:
            made = SECTIONS[name].get(column.name)
            steps = f"{made.value} {', '.join(made.transform)}" if made else "the date"
            print(f"  {column.name:27}{column.role:18}{column.unit:19}{steps}".rstrip())
    print("\nraw series, and when a value is seen where the data has no release dates")
    for name, info in SERIES.items():
        rule = f"{RULE_WORDS[info.release]}; alignment fixed: {info.lag_days} days after its date"
        print(f"  {name:11}{info.frequency:9}{info.unit:22}{rule}")
    print("\nsteps of data.series.NAME.transform")
    for step, words in STEPS.items():
        print(f"  {step:23}{words}")
    print("\nunits of data.series.NAME.unit")
    for name, unit in UNITS.items():
        print(f"  {name:23}{unit.words}")
    print("\nrules of data.series.NAME.release_rule")
    for rule, words in {**RULE_WORDS, "days:N": "visible N days after its date"}.items():
        print(f"  {rule:33}{words}")
    print(f"\nmade by name: {', '.join(CALENDAR)}, days_to_NAME, lag_N; see data.columns and data.calendar")


def show_folds(arguments: argparse.Namespace) -> None:
    """Prints walk-forward folds by calendar years, a line of JSON each for `data.split_dates`."""
    for fold in folds(
        arguments.first_test,
        arguments.last_test,
        train_years=arguments.train_years,
        val_years=arguments.val_years,
        test_years=arguments.test_years,
        stride_months=arguments.step_years and 12 * arguments.step_years,
        expanding=arguments.expanding,
    ):
        print(fold.model_dump_json())


def _data_config(text: str) -> Config:
    """The config of a file that ends in .json, or of a data set under the default settings."""
    if text.endswith(".json"):
        return configs.load(text)
    return configs.from_dict({"data": {"dataset": text}}, "command line")


def show_description(arguments: argparse.Namespace) -> None:
    """Prints what a data set holds, and draws it."""
    config = _data_config(arguments.data).data
    panel, revised = load_panel(config), revisions_of(config)
    print("\n".join([describe(panel), *in_words(revised)]))
    if arguments.plot is not None and arguments.plot == arguments.revisions:
        raise UserError(f"--plot, --revisions: found {arguments.plot} for both. Give two files.")
    for path in filter(None, (arguments.plot, arguments.revisions)):
        files.check_picture(path)
    if arguments.plot is not None:
        from tftjax.plots import panel as figures  # half a second to import: only where it is needed
        from tftjax.plots.theme import save

        first = split_series(panel)[0]
        names = first.observed + first.known_real
        save(arguments.plot, figures.columns_drawing(first.frame, names, name_of(first)))
        print(f"drawn: {arguments.plot}")
    if arguments.revisions is not None:
        if not revised:
            raise UserError(
                f"--revisions: found no value of {arguments.data} that was published twice, expected a series"
                " with release dates and revisions. Name its column of release dates (release in"
                " data.series), or give a folder whose files have a release_date."
            )
        from tftjax.plots.revisions import revisions_drawing
        from tftjax.plots.theme import save

        save(arguments.revisions, revisions_drawing(revised))
        print(f"drawn: {arguments.revisions}")


def validate(arguments: argparse.Namespace) -> None:
    """Makes every check that training makes on its data; prints all findings."""
    problems = findings(_data_config(arguments.data))
    if problems:
        raise UserError("\n".join([f"{len(problems)} finding(s):", *problems]))
    print(f"{arguments.data}: nothing found against training on it")


def _add_build(commands: Any) -> None:
    """Adds the command `build` to the subparsers."""
    command = commands.add_parser("build", help="make a panel of raw series", description=build.__doc__)
    sources = [name for name in SOURCES if name != "yfinance"]  # which --sp500 names
    command.add_argument("--source", choices=sources, default="fred-csv")
    command.add_argument("--raw", help="folder of raw files, SERIES.csv each; fred-api adds what it lacks")
    command.add_argument(
        "--sp500",
        choices=["fred", "yfinance"],
        default="fred",
        help="yfinance: Yahoo's longer history, if --raw has no SP500.csv",
    )
    command.add_argument("--base-url", default=BASE_URL, help="address of the web service, for fred-api")
    command.add_argument("--feature-set", required=True, help="a name that `list` shows")
    settings = DataConfig.model_fields
    command.add_argument("--frequency", choices=list(SPACINGS), default="daily", help="see data.frequency")
    command.add_argument("--calendar", metavar="NAME", help="see data.calendar")
    for name in ("alignment", "vintage", "missing"):
        choices, default = get_args(settings[name].annotation), settings[name].default
        command.add_argument(f"--{name}", choices=choices, default=default, help=f"see data.{name}")
    default = settings["max_gap"].default
    command.add_argument("--max-gap", type=int, default=default, metavar="DAYS", help="see data.max_gap")
    command.add_argument("--lag", action="append", default=[], metavar="SERIES=DAYS", help="see data.lags")
    command.add_argument(
        "--series", metavar="CONFIG", help="take the series of one's own (data.series) of a config"
    )
    command.add_argument("--start", type=iso_date, help="first row, YYYY-MM-DD")
    command.add_argument("--end", type=iso_date, help="last row, YYYY-MM-DD")
    command.add_argument("--out", type=Path, required=True, help="folder for the panel")
    command.add_argument("--overwrite", action="store_true", help="replace a built panel in --out")
    command.set_defaults(run=build)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    top = command_parser(
        "data",
        """
        Builds, describes and checks data sets. `list` shows the feature sets and raw series that are known,
        `build` makes a panel of raw series, `describe` says what a data set holds, `validate` makes every
        check that training makes, and `folds` prints walk-forward folds for data.split_dates.
        """,
        "validate my.json",
        "describe embedded --plot embedded.png",
        "build --raw FOLDER --feature-set core_proposal --out panels/own",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands)
    data_help = (
        "a config (.json) that names the data (of a table of your own: tftjax init my.csv), 'embedded',"
        " 'synthetic', a folder of raw series, or a built panel"
    )
    command = commands.add_parser(
        "describe", help="what a data set holds", description=show_description.__doc__
    )
    command.add_argument("data", help=data_help)
    command.add_argument("--plot", type=Path, help="draw the columns into this PNG")
    command.add_argument(
        "--revisions", type=Path, help="draw the first release of each value against the latest into this PNG"
    )
    command.set_defaults(run=show_description)
    command = commands.add_parser(
        "validate", help="every check that training makes", description=validate.__doc__
    )
    command.add_argument("data", help=data_help)
    command.set_defaults(run=validate)
    command = commands.add_parser(
        "list", help="feature sets, series, release rules", description=show_list.__doc__
    )
    command.set_defaults(run=show_list)
    command = commands.add_parser("folds", help="walk-forward folds", description=show_folds.__doc__)
    for name in ("first-test", "last-test", "train-years"):
        command.add_argument(f"--{name}", type=int, required=True, metavar="N")
    command.add_argument("--val-years", type=int, default=1, metavar="N")
    command.add_argument("--test-years", type=int, default=1, metavar="N")
    command.add_argument("--step-years", type=int, metavar="N", help="default: the test years")
    command.add_argument("--expanding", action="store_true", help="all folds begin where the first does")
    command.set_defaults(run=show_folds)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the commands; exit code 2 for an error that the user can mend."""
    arguments = make_parser().parse_args(argv)
    return exit_code(lambda: arguments.run(arguments))
