"""Progress of a run or a sweep in training: a live table on a terminal, plain lines elsewhere.

A view turns a `Round` of the loop into lines and into a table; a display puts one of them on the screen.
"""

import statistics
import sys
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tftjax.storage.runs import Ended
from tftjax.train.loop import Round
from tftjax.train.losses import PENALTIES

COLUMNS = (
    "epoch",
    "loss",
    "pinball",
    "mean pen.",
    "std pen.",
    "other pen.",
    "val loss",
    "best",
    "sigma",
    "positive",
    "windows/s",
)
OTHER_PENALTIES = [f"{name}_penalty" for name in PENALTIES if name not in ("mean", "std")]
VISIBLE_EPOCHS = 12


def epoch_cells(record: dict) -> tuple[str, ...]:
    """Formats a line of metrics.jsonl for a person: losses in 1e-3, sigma in basis points."""
    val, sigma, positive = (record.get(f"val/{name}") for name in ("loss", "sigma", "share_positive"))
    others = sum(record[name] for name in OTHER_PENALTIES)
    return (
        str(record["epoch"]),
        f"{record['loss'] * 1e3:.4f}",
        f"{record['quantile_loss'] * 1e3:.4f}",
        f"{record['mean_penalty'] * 1e3:.5f}",
        f"{record['std_penalty'] * 1e3:.5f}",
        f"{others * 1e3:.5f}",
        "-" if val is None else f"{val * 1e3:.4f}",  # of a final fit: nothing validates
        "*" if record["improved"] and val is not None else "",
        "-" if sigma is None else f"{sigma * 1e4:.1f} bp",
        "-" if positive is None else f"{positive:.0%}",
        f"{record['windows_per_s']:,.0f}",
    )


def seconds_left(round_: Round) -> float:
    """Seconds that the epochs left take at most, at the last round's speed."""
    return round_.epochs_left * round_.seconds / max(1, len(round_.records))


@runtime_checkable
class View(Protocol):
    """Texts and table of training; `warnings` has those that the round before did not have."""

    def lines(self, round_: Round) -> list[str]: ...

    def warnings(self, round_: Round) -> list[str]: ...

    def last_lines(self) -> list[str]: ...

    def table(self, round_: Round | None) -> Table: ...


class RunView:
    """A run: a line an epoch, or a table of the last epochs and a bar.

    Args:
      name: the run's name.
      max_epochs: the bar's length.
      finished: number of epochs that were trained before.
    """

    def __init__(self, name: str, max_epochs: int, finished: int = 0):
        self.name, self.max_epochs = name, max_epochs
        self.rows: list[tuple[str, ...]] = []
        self.known: dict[str, str] = {}
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("at most"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self.task = self.bar.add_task("compiling", total=max_epochs, completed=finished)

    def lines(self, round_: Round) -> list[str]:
        """One line on the epoch."""
        if not round_.records:
            return []
        (record,) = round_.records.values()
        epoch, loss, pinball, mean, std, others, val, best, sigma, positive, rate = epoch_cells(record)
        return [
            f"epoch {epoch}/{self.max_epochs}  loss {loss} = pinball {pinball} + mean {mean} + std {std} "
            f"+ others {others}  val {val}{best}  sigma {sigma}  positive {positive}  "
            f"{rate} windows/s  at most {seconds_left(round_):.0f} s left"
        ]

    def warnings(self, round_: Round) -> list[str]:
        """The epoch's warnings, but for those that the epoch before had too."""
        new = []
        for record in round_.records.values():
            names = [name for name in record["warnings"] if name not in self.known]
            new += [f"epoch {record['epoch']}: {record['warnings'][name]}" for name in names]
            self.known = record["warnings"]
        return new

    def last_lines(self) -> list[str]:
        """Nothing: the evaluation follows."""
        return []

    def table(self, round_: Round | None) -> Table:
        """The last epochs, and a bar."""
        for record in round_.records.values() if round_ else ():
            self.rows = [*self.rows, epoch_cells(record)][-VISIBLE_EPOCHS:]
            self.bar.update(self.task, completed=record["epoch"], description="training")
        epochs = Table(title=f"{self.name} (losses in 1e-3; sigma, positive: of validation)")
        for column in COLUMNS:
            epochs.add_column(column, justify="right")
        for row in self.rows:
            epochs.add_row(*row)
        layout = Table.grid()
        layout.add_row(epochs)
        layout.add_row(self.bar)
        return layout


class SweepView:
    """A sweep: a line a round and one a config at the end, or a table of the configs.

    Args:
      groups: the config of each member, by the member's name.
      ended: how members ended, by name; read at every round.
    """

    def __init__(self, groups: Mapping[str, str], ended: Mapping[str, Ended], num_programs: int):
        self.groups, self.ended, self.num_programs = groups, ended, num_programs
        self.program = 0
        self.best: dict[str, float] = {}

    def losses(self, config: str) -> list[float]:
        """The lowest validation loss so far of each member of a config."""
        return [loss for name, loss in self.best.items() if self.groups[name] == config]

    def lines(self, round_: Round) -> list[str]:
        """The sweep in one line; live members include those that wait for their program."""
        records = round_.records.values()
        for name, record in round_.records.items():
            self.best[name] = min(self.best.get(name, record["val/loss"]), record["val/loss"])
        over = [self.ended[name].status for name in self.groups if name in self.ended]
        diverged = over.count("diverged")
        windows = sum(record["windows_per_s"] * record["seconds"] for record in records)
        return [
            f"program {self.program}/{self.num_programs}  "
            f"epoch {max((record['epoch'] for record in records), default=0)}  "
            f"{len(self.groups) - len(over)} live, {len(over) - diverged} stopped, {diverged} diverged, "
            f"{sum(bool(record['warnings']) for record in records)} with warnings  "
            f"{windows / round_.seconds:,.0f} windows/s  at most {seconds_left(round_):.0f} s left"
        ]

    def warnings(self, round_: Round) -> list[str]:
        """Nothing: they are counted, and stand in each member's metrics.jsonl."""
        return []

    def last_lines(self) -> list[str]:
        """A line a config."""
        configs = dict.fromkeys(self.groups.values()) if self.best else ()
        return [
            f"{config}: best validation loss {_mean(self.losses(config))} (1e-3, mean of "
            f"{len(self.losses(config))} runs)"
            for config in configs
        ]

    def table(self, round_: Round | None) -> Table:
        """The configs under the sweep's line."""
        title = self.lines(round_)[0] if round_ else "compiling"
        table = Table(title=title, title_justify="left")
        table.add_column("config")
        table.add_column("best validation loss, 1e-3, mean over runs", justify="right")
        table.add_column("runs", justify="right")
        for config in dict.fromkeys(self.groups.values()):
            table.add_row(config, _mean(self.losses(config)), str(len(self.losses(config))))
        return table


def _mean(losses: list[float]) -> str:
    """The mean of losses, in 1e-3."""
    return f"{statistics.mean(losses) * 1e3:.4f}" if losses else "-"


class PlainDisplay:
    """Lines on standard output: for logs and pipes."""

    def __init__(self, view: View):
        self.view = view

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *_) -> None:
        for line in self.view.last_lines():
            print(line)
        sys.stdout.flush()

    def update(self, round_: Round) -> None:
        """Shows a round."""
        warnings = [f"warning: {warning}" for warning in self.view.warnings(round_)]
        for line in [*self.view.lines(round_), *warnings]:
            print(line, flush=True)


class LiveDisplay:
    """A table, redrawn in place; warnings stay above it."""

    def __init__(self, view: View):
        self.view = view
        self.live = Live(view.table(None), console=Console(), refresh_per_second=4)

    def __enter__(self) -> "LiveDisplay":
        self.live.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self.live.__exit__(*exception)

    def update(self, round_: Round) -> None:
        """Shows a round."""
        for warning in self.view.warnings(round_):
            self.live.console.print(f"warning: {warning}", markup=False, highlight=False)
        self.live.update(self.view.table(round_))


class NoDisplay:
    """Shows nothing."""

    def __init__(self, view: View):
        pass

    def __enter__(self) -> "NoDisplay":
        return self

    def __exit__(self, *_) -> None:
        pass

    def update(self, round_: Round) -> None:
        """Ignores a round."""


Display = PlainDisplay | LiveDisplay | NoDisplay


def display(view: View, quiet: bool) -> Display:
    """The display for this process: none, live on a terminal, lines elsewhere."""
    if quiet:
        return NoDisplay(view)
    return LiveDisplay(view) if sys.stdout.isatty() else PlainDisplay(view)
