# PYTHON_ARGCOMPLETE_OK
"""The console command `tftjax`, and what every command shares: its parser, flags, messages, exit codes.

`tftjax train CONFIG` is `python -m tftjax.train CONFIG`.
"""

import argparse
import contextlib
import datetime
import gc
import importlib
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tftjax.errors import UserError
from tftjax.plots import drop_absent_backend

# Purpose of each command; its door is the module or package of its name, or the place in PLACES.
COMMANDS = {
    "demo": "train on simulated returns and show what comes out",
    "init": "look at a table and write the config to train on it",
    "train": "train and evaluate a run",
    "sweep": "train many configs and seeds side by side",
    "tune": "search for the best settings of a config",
    "walkforward": "train for every test year, and judge all years together",
    "evaluate": "judge a run's forecasts beside baselines",
    "compare": "ask whether one run is worse than another",
    "predict": "forecast the next steps",
    "export": "write a run as files that need no tftjax",
    "score": "score logged forecasts against what came",
    "interpret": "show what a run selects and attends to",
    "report": "write a page on runs, sweeps and walk-forwards",
    "data": "build, describe and validate data sets",
    "config": "list the settings of a config, or print its JSON schema",
}
PLACES = {
    "compare": "evaluate.compare",
    "export": "predict.export",
    "score": "predict.score",
    "tune": "sweep.tune",
}
DESCRIPTION = """
A Temporal Fusion Transformer that forecasts the distribution of returns. A config, a JSON file, says what is
trained on which data; a training makes a folder, runs/NAME, that the other commands read.
"""
WIDTH = 79  # of help
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
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(level)


class _Output:
    """Standard output that outlives its reader: what `| head` does not take is dropped, and work goes on."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def exit_code(command: Callable[[], object], stopped: str | None = None) -> int:
    """Runs a command: 0 if it ends well, 2 after an error that the user can mend, 130 after Ctrl-C.

    Args:
      stopped: message after Ctrl-C.
    """
    drop_absent_backend()
    gc.set_threshold(20_000)  # of 700: a traced model is many objects and little garbage
    if sys.stdout is None or sys.stderr is None:  # closed by who started the process
        nowhere = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    out = _Output(sys.stdout)
    try:
        with _messages_on_stderr(), contextlib.redirect_stdout(out):
            command()
            out.flush()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if stopped:
            print(stopped, file=sys.stderr)
        return 130
    return 0


def paragraphs(text: str) -> str:
    """Paragraphs in lines for a terminal, whatever the line breaks of their source.

    >>> print(paragraphs("One\\n  line."))
    One line.
    """
    return "\n\n".join(
        textwrap.fill(" ".join(text.split()), WIDTH, break_on_hyphens=False)
        for text in text.strip().split("\n\n")
    )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help whose lines do not break at hyphens: NAME-final and --max-gap stay whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def command_parser(command: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """The parser of a command, still without flags.

    Args:
      description: what the command does, in paragraphs.
      examples: command lines, each without its `tftjax COMMAND`.
    """
    module = door_of(command)
    as_module = Path(sys.argv[0]).with_suffix("").as_posix().endswith(f"/{module.replace('.', '/')}")
    program = f"python -m {module.removesuffix('.__main__')}" if as_module else f"tftjax {command}"
    shown = "\n".join(f"  {program} {example}".rstrip() for example in examples)
    return argparse.ArgumentParser(
        prog=program,
        description=paragraphs(description),
        epilog=f"example{'s' if len(examples) > 1 else ''}:\n{shown}",
        formatter_class=_Help,
    )


def iso_date(text: str) -> datetime.date:
    """The type of a flag that takes a date.

    Raises:
      ArgumentTypeError: another form, or no day.
    """
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a date as YYYY-MM-DD") from None


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
        help="use VALUE for a setting, whatever the config says, as in --set train.max_epochs=5; VALUE is"
        " JSON or a word; give it once for each setting; `tftjax config keys` lists the settings with their"
        " defaults",
    )
    parser.add_argument("--name", help=f"name of the {kind}, and of its folder; default: {default_name}")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs; default: runs"
    )
    parser.add_argument(
        "--track",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAMES",
        help="send settings, the metrics of every epoch and pictures to these too, divided by commas:"
        " tensorboard (extra `tensorboard`), mlflow",
    )
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true", help=f"go on where the {kind} stopped")
    exclusive.add_argument("--overwrite", action="store_true", help=f"replace the {kind} of this name")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


def add_sharing_flags(parser: argparse.ArgumentParser, kind: str) -> None:
    """Adds the flags of sweep and walkforward that say where members are trained.

    Args:
      kind: the command's product, such as "sweep".
    """
    group = parser.add_argument_group(
        "several machines",
        "a cluster of Ray (extra `cluster`), or jobs that know nothing of each other",
    )
    group.add_argument(
        "--on",
        metavar="CLUSTER",
        help="train on a cluster of Ray: 'ray' starts one on this machine, which no other can reach;"
        " 'ray://HOST:PORT' joins the one with its client server there; 'auto' joins the one that this"
        " machine is part of, or that RAY_ADDRESS names. Only this process writes files: the other machines"
        " need no folder and no data. Default: train in this process",
    )
    group.add_argument(
        "--actors",
        type=_at_least(1),
        metavar="N",
        help="processes on the cluster; default: all there is room for",
    )
    group.add_argument(
        "--actor-cpus", type=_at_least(1), default=1, metavar="N", help="cores of an actor; default: 1"
    )
    group.add_argument(
        "--actor-gpus",
        type=_at_least(0),
        metavar="N",
        help="GPUs of an actor, 0 to train on cores; default: 1 if the cluster has any",
    )
    group.add_argument(
        "--part",
        metavar="I/N",
        help="train every N-th member, from the I-th on, and no other: for an array of jobs, each with an I"
        " of its own from 1 to N. They may all work in one folder at once, or each in its own (--runs). A"
        " part that was stopped goes on by the same command",
    )
    group.add_argument(
        "--conclude",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help=f"gather the parts of a {kind} from its folder or folders into the first of them, and summarise;"
        " instead of configs, which the folders know",
    )


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least {least}")
        return int(text)

    return number


def check_sharing(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    required: Sequence[str],
    concluding: Sequence[str] = (),
) -> None:
    """Ends the process, as argparse does, if flags clash with --conclude or --part, or some are missing.

    Args:
      required: names of arguments that only --conclude does without.
      concluding: names of others that go with it.
    """
    given = [name for name, value in vars(arguments).items() if value != parser.get_default(name)]
    flags = {name: f"--{name.replace('_', '-')}" for name in vars(arguments)} | {"config": "config"}
    if arguments.conclude is not None:
        own = ("conclude", "quiet", *concluding)
        idle = [flags[name] for name in given if name not in own and vars(arguments)[name]]
        if idle:
            parser.error(f"--conclude takes all from its folders: leave {', '.join(idle)} out")
        return
    missing = [flags[name] for name in required if not vars(arguments)[name]]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if arguments.part is not None and arguments.overwrite:
        parser.error("--part with --overwrite would remove what other parts have trained: leave it out")
    idle = [flags[name] for name in given if name.startswith("actor")]
    if arguments.on is None and idle:
        parser.error(f"{', '.join(idle)}: of a cluster, so only with --on")


def training_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags of `add_training_flags` that `train` and `sweep` take, by name."""
    return {name: getattr(arguments, name) for name in ("resume", "overwrite", "quiet", "track")}


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Looks for garbage neither during imports nor, later, in what they made: that takes 0.2 s."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def door_of(command: str) -> str:
    """The full name of the module that `door` imports."""
    place = PLACES.get(command, command)
    is_file = (Path(__file__).parent / f"{place.replace('.', '/')}.py").is_file()
    return f"tftjax.{place}{'' if is_file else '.__main__'}"


def door(command: str) -> ModuleType:
    """Imports the module that has a command's `make_parser` and `main`."""
    with importing():
        return importlib.import_module(door_of(command))


def rerun(command: str) -> NoReturn:
    """Runs a command that `python -m` has started, in its module under its own name, and ends the process.

    A module that takes a second to import calls this first, so that Ctrl-C in that second is no traceback.
    """
    sys.exit(main([command, *sys.argv[1:]]))


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks how its line may go on, with commands or a command's flags, and ends."""
    try:
        import argcomplete
    except ImportError:  # the shell asks for all programs, as another one has installed it
        return
    words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    if len(words) > 2 and words[1] in COMMANDS:
        os.environ["_ARGCOMPLETE"] = "2"  # the words from the second on are those of the command's parser
        parser = door(words[1]).make_parser()
    argcomplete.autocomplete(parser)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {words}" for name, words in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="tftjax",
        description=paragraphs(DESCRIPTION),
        epilog=f"commands:\n{listed}\n\n"
        "`tftjax COMMAND --help` says what a command does, and lists its flags.\n"
        "First steps: tftjax demo, or with a table of your own: tftjax init my.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tftjax {metadata.version('tftjax')}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the command's own")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `tftjax COMMAND ARGUMENTS`; without arguments it prints the help."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
        return 0
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser.print_help()
        return 0
    if argv[0] not in COMMANDS and not argv[0].startswith("-"):
        from tftjax.config.section import nearest

        parser.error(f"found {argv[0]!r}, expected a command. {nearest(argv[0], list(COMMANDS))}")
    arguments = parser.parse_args(argv)
    try:
        run = door(arguments.command).main
    except KeyboardInterrupt:  # while it is imported
        return 130
    return run(arguments.arguments)
