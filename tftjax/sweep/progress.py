"""What a person sees while a sweep trains: a live table on a terminal, plain lines elsewhere."""

import statistics
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tftjax.sweep.plan import Member
from tftjax.train import progress


class Status(NamedTuple):
    """A sweep after a call of one of its programs.

    Attributes:
      program, num_programs: which of them, from 1.
      epoch: of the member that is furthest.
      live, stopped, diverged: members of the whole sweep; stopped ones have done all their epochs or stopped
        early, live ones include those that wait for their program.
      warned: members whose last epoch has warnings in metrics.jsonl, of this program.
      windows_per_s: training windows of all members together.
      seconds_left: at most, if every member does all its epochs; of this program.
      best: by group, the lowest validation loss so far of each of its members.
    """

    program: int
    num_programs: int
    epoch: int
    live: int
    stopped: int
    diverged: int
    warned: int
    windows_per_s: float
    seconds_left: float
    best: dict[str, list[float]]


def headline(status: Status) -> str:
    """The sweep in one line."""
    return (
        f"program {status.program}/{status.num_programs}  epoch {status.epoch}  {status.live} live, "
        f"{status.stopped} stopped, {status.diverged} diverged, {status.warned} with warnings  "
        f"{status.windows_per_s:,.0f} windows/s  at most {status.seconds_left:.0f} s left"
    )


def best_cell(losses: Sequence[float]) -> str:
    """Mean over runs, seeds and folds of a config, of the best validation losses, in 1e-3."""
    return f"{statistics.mean(losses) * 1e3:.4f}" if losses else "-"


class PlainProgress:
    """A line an epoch, and a line a config at the end: for logs and pipes."""

    def __init__(self, members: Sequence[Member]):
        self.groups = list(dict.fromkeys(member.group for member in members))
        self.status: Status | None = None

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_) -> None:
        for group in self.groups if self.status else ():
            losses = self.status.best.get(group, [])
            print(f"{group}: best validation loss {best_cell(losses)} (1e-3, mean of {len(losses)} runs)")
        sys.stdout.flush()

    def update(self, status: Status) -> None:
        """Shows an epoch."""
        self.status = status
        print(headline(status), flush=True)


class LiveProgress:
    """A table of the configs, redrawn in place."""

    def __init__(self, members: Sequence[Member]):
        self.groups = list(dict.fromkeys(member.group for member in members))
        self.live = Live(self._draw(None), console=Console(), refresh_per_second=4)

    def _draw(self, status: Status | None) -> Table:
        table = Table(title=headline(status) if status else "compiling", title_justify="left")
        table.add_column("config")
        table.add_column("best validation loss, 1e-3, mean over runs", justify="right")
        table.add_column("runs", justify="right")
        for group in self.groups:
            losses = status.best.get(group, []) if status else []
            table.add_row(group, best_cell(losses), str(len(losses)))
        return table

    def __enter__(self) -> "LiveProgress":
        self.live.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self.live.__exit__(*exception)

    def update(self, status: Status) -> None:
        """Shows an epoch."""
        self.live.update(self._draw(status))


def choose(quiet: bool) -> type:
    """The display for this process: none, live on a terminal, lines elsewhere."""
    return progress.choose(quiet, LiveProgress, PlainProgress)
