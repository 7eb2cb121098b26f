"""The console command `tftjax`, and what every command shares: flags, messages, exit codes.

`tftjax train CONFIG` is `python -m tftjax.train CONFIG`.
"""

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from tftjax.errors import UserError

# Purpose of each command; its door is `tftjax/COMMAND.py` or `tftjax/COMMAND/__main__.py`.
COMMANDS = {
    "demo": "train on the embedded data and show what comes out",
    "init": "look at a table and write the config to train on it",
    "train": "train and evaluate a run",
    "sweep": "train many configs and seeds side by side",
    "walkforward": "train for every test year, and judge all years together",
    "evaluate": "judge a run's forecasts beside baselines",
    "compare": "ask whether one run is worse than another",
    "predict": "forecast the next steps",
    "interpret": "show what a run selects and attends to",
    "report": "write a page on runs, sweeps and walk-forwards",
    "data": "build, describe and validate data sets",
    "config": "list the keys of a config, or print its JSON schema",
}
# Message of a command that trains after Ctrl-C.
STOPPED = (
    "\nstopped; the same command with --resume (in place of --overwrite) goes on from the last finished epoch"
)


@contextlib.contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Prints what the package logs, as it is: other libraries give the root logger handlers of their own."""
    logger, handler = logging.getLogger("tftjax"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def exit_code(command: Callable[[], object], stopped: str | None = None) -> int:
    """Runs a command: 0 if it ends well, 2 after an error that the user can mend, 130 after Ctrl-C.

    Args:
      stopped: message after Ctrl-C.
    """
    try:
        with _messages_on_stderr():
            command()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if stopped:
            print(stopped, file=sys.stderr)
        return 130
    return 0


def command_parser(command: str, description: str | None, example: str) -> argparse.ArgumentParser:
    """The parser of a command, named as the command was started: `tftjax train` or `python -m tftjax.train`.

    Args:
      description: what the command does, in words.
      example: arguments of an example, which ends the help.
    """
    started = "tftjax " if Path(sys.argv[0]).stem == "tftjax" else "python -m tftjax."
    return argparse.ArgumentParser(
        prog=started + command, description=description, epilog=f"example: tftjax {command} {example}"
    )


def add_training_flags(parser: argparse.ArgumentParser, kind: str, default_name: str) -> None:
    """Adds the flags that train, sweep and walkforward share.

    Args:
      kind: the command's product, such as "run".
      default_name: the default of --name, in words.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting in place of the config's, such as train.max_epochs=5 or data.start=2001-01-02; the"
        " value is read as JSON, or else as text; repeat it for several. All keys, with defaults and"
        " meaning: tftjax config keys",
    )
    parser.add_argument("--name", help=f"name of the {kind}; default: {default_name}")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs; default: runs")
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true", help=f"go on where the {kind} stopped")
    exclusive.add_argument("--overwrite", action="store_true", help=f"replace the {kind} of this name")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


def training_flags(arguments: argparse.Namespace) -> dict[str, bool]:
    """The flags of `add_training_flags` that `train` and `sweep` take, by name."""
    return {name: getattr(arguments, name) for name in ("resume", "overwrite", "quiet")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `tftjax COMMAND ARGUMENTS`; without arguments it prints the help."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could follow
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv)
    is_file = (Path(__file__).parent / f"{arguments.command}.py").is_file()
    door = importlib.import_module(f"tftjax.{arguments.command}{'' if is_file else '.__main__'}")
    return door.main(arguments.arguments)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {words}" for name, words in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="tftjax",
        description="A Temporal Fusion Transformer that forecasts the distribution of returns.",
        epilog=f"commands:\n{listed}\n\n`tftjax COMMAND --help` says what a command does, with an example.\n"
        "`tftjax config keys` lists the settings.\n\nexample: tftjax demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tftjax {metadata.version('tftjax')}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the command's own")
    return parser
